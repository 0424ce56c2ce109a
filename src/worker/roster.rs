//! What the launcher knows of the databases, and whom it decides to start: no server in here.

use crate::pg::shared::Message;
use pgrx::pg_sys::Oid;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A worker that ends without having been told to is started again after this time, then after twice as long, and so on.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// Whoever has lived so long is not counted as having failed.
const LONG_LIFE: Duration = Duration::from_secs(60);

/// What is known of a database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Knowledge {
    /// Nothing yet: somebody has to look.
    Unknown,
    /// It has no extension.
    Absent,
    /// It has the extension.
    Present,
}

/// What a worker was started for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// To look whether the extension is there.
    Probe,
    /// To stay.
    Resident,
}

struct Entry<Handle> {
    knowledge: Knowledge,
    running: Option<(Role, Handle, Instant)>,
    not_before: Instant,
    delay: Duration,
}

/// The databases of the server. `Handle` is what tells whether a worker is alive.
pub(super) struct Roster<Handle> {
    entries: HashMap<Oid, Entry<Handle>>,
}

impl<Handle> Roster<Handle> {
    pub(super) fn new() -> Self {
        Self {
            entries: HashMap::new(),
        }
    }

    /// Takes up the databases that there are now.
    pub(super) fn update(&mut self, present: &[Oid], now: Instant) {
        self.entries.retain(|oid, _| present.contains(oid));
        for oid in present {
            self.entries.entry(*oid).or_insert(Entry {
                knowledge: Knowledge::Unknown,
                running: None,
                not_before: now,
                delay: FIRST_DELAY,
            });
        }
    }

    pub(super) fn hear(&mut self, message: Message, now: Instant) {
        let (oid, knowledge) = match message {
            Message::Created(oid) | Message::Present(oid) => (oid, Knowledge::Present),
            Message::Absent(oid) => (oid, Knowledge::Absent),
        };
        if let Some(entry) = self.entries.get_mut(&oid) {
            entry.knowledge = knowledge;
            if matches!(message, Message::Created(_)) {
                entry.not_before = now;
            }
        }
    }

    /// Messages were lost: who has no extension may have one by now.
    pub(super) fn doubt(&mut self) {
        for entry in self.entries.values_mut() {
            if entry.knowledge == Knowledge::Absent {
                entry.knowledge = Knowledge::Unknown;
            }
        }
    }

    /// Notes whose worker has ended.
    pub(super) fn bury(&mut self, is_alive: impl Fn(&Handle) -> bool, now: Instant) {
        for entry in self.entries.values_mut() {
            let Some((role, _, started)) =
                entry.running.take_if(|(_, handle, _)| !is_alive(handle))
            else {
                continue;
            };
            let is_expected = entry.knowledge == Knowledge::Absent
                || role == Role::Probe && entry.knowledge == Knowledge::Present;
            if is_expected || now - started >= LONG_LIFE {
                entry.delay = FIRST_DELAY;
                entry.not_before = now;
            } else {
                entry.not_before = now + entry.delay;
                entry.delay = (entry.delay * 2).min(LONGEST_DELAY);
            }
        }
    }

    /// Whom to start next, so that no more than `most` stay; besides those, one may look at a time.
    pub(super) fn next(&self, most: usize, now: Instant) -> Option<(Oid, Role)> {
        let running = |wanted| {
            let entries = self.entries.values();
            entries
                .filter(|entry| matches!(&entry.running, Some((role, ..)) if *role == wanted))
                .count()
        };
        let mut idle: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.running.is_none() && entry.not_before <= now)
            .collect();
        idle.sort_by_key(|(oid, _)| oid.to_u32());
        let with = |knowledge| {
            let mut idle = idle.iter();
            idle.find(|(_, entry)| entry.knowledge == knowledge)
                .map(|(oid, _)| **oid)
        };
        if running(Role::Resident) < most
            && let Some(oid) = with(Knowledge::Present)
        {
            return Some((oid, Role::Resident));
        }
        if running(Role::Probe) == 0
            && let Some(oid) = with(Knowledge::Unknown)
        {
            return Some((oid, Role::Probe));
        }
        None
    }

    pub(super) fn started(&mut self, oid: Oid, role: Role, handle: Handle, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&oid) {
            entry.running = Some((role, handle, now));
        }
    }

    /// It could not be started.
    pub(super) fn not_started(&mut self, oid: Oid, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&oid) {
            entry.not_before = now + LONGEST_DELAY / 6;
        }
    }

    /// Databases that have the extension and no worker.
    pub(super) fn waiting(&self) -> usize {
        let entries = self.entries.values();
        entries
            .filter(|entry| entry.knowledge == Knowledge::Present && entry.running.is_none())
            .count()
    }

    /// Databases that have a worker.
    pub(super) fn residents(&self) -> usize {
        let entries = self.entries.values();
        entries
            .filter(|entry| matches!(entry.running, Some((Role::Resident, ..))))
            .count()
    }

    /// When something may have to be started next.
    pub(super) fn next_time(&self) -> Option<Instant> {
        let entries = self.entries.values();
        entries
            .filter(|entry| entry.running.is_none() && entry.knowledge != Knowledge::Absent)
            .map(|entry| entry.not_before)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oid(number: u32) -> Oid {
        Oid::from(number)
    }

    /// Databases 1 to `number`, of which nothing is known.
    fn roster(number: u32, now: Instant) -> Roster<bool> {
        let mut roster = Roster::new();
        let all: Vec<Oid> = (1..=number).map(oid).collect();
        roster.update(&all, now);
        roster
    }

    #[test]
    fn unknown_databases_are_looked_at_one_by_one() {
        let now = Instant::now();
        let mut roster = roster(2, now);
        assert_eq!(roster.next(8, now), Some((oid(1), Role::Probe)));
        roster.started(oid(1), Role::Probe, true, now);
        assert_eq!(roster.next(8, now), None);
        roster.hear(Message::Absent(oid(1)), now);
        roster.bury(|_| false, now);
        assert_eq!(roster.next(8, now), Some((oid(2), Role::Probe)));
    }

    #[test]
    fn found_ones_get_a_worker_up_to_the_limit() {
        let now = Instant::now();
        let mut roster = roster(3, now);
        for number in 1..=3 {
            roster.hear(Message::Present(oid(number)), now);
        }
        assert_eq!(roster.next(2, now), Some((oid(1), Role::Resident)));
        roster.started(oid(1), Role::Resident, true, now);
        roster.started(oid(2), Role::Resident, true, now);
        assert_eq!(roster.next(2, now), None);
        assert_eq!(roster.waiting(), 1);
        roster.update(&[oid(2), oid(3)], now);
        assert_eq!(roster.next(2, now), Some((oid(3), Role::Resident)));
    }

    #[test]
    fn worker_that_dies_comes_back_later_and_later() {
        let now = Instant::now();
        let mut roster = roster(1, now);
        roster.hear(Message::Present(oid(1)), now);
        for delay in [1, 2, 4] {
            roster.started(oid(1), Role::Resident, true, now);
            roster.bury(|_| false, now);
            let almost = now + Duration::from_secs(delay) - Duration::from_millis(1);
            assert_eq!(roster.next(2, almost), None);
            let then = now + Duration::from_secs(delay);
            assert_eq!(roster.next(2, then), Some((oid(1), Role::Resident)));
        }
        roster.started(oid(1), Role::Resident, true, now);
        let later = now + LONG_LIFE;
        roster.bury(|_| false, later);
        assert_eq!(roster.next(2, later), Some((oid(1), Role::Resident)));
    }

    #[test]
    fn created_extension_is_served_at_once_and_dropped_one_no_more() {
        let now = Instant::now();
        let mut roster = roster(1, now);
        roster.hear(Message::Absent(oid(1)), now);
        assert_eq!(roster.next(2, now), None);
        assert_eq!(roster.next_time(), None);
        roster.hear(Message::Created(oid(1)), now);
        assert_eq!(roster.next(2, now), Some((oid(1), Role::Resident)));
        roster.started(oid(1), Role::Resident, true, now);
        roster.hear(Message::Absent(oid(1)), now);
        roster.bury(|_| false, now);
        assert_eq!(roster.next(2, now), None);
        roster.doubt();
        assert_eq!(roster.next(2, now), Some((oid(1), Role::Probe)));
    }
}
