//! The errors that are in shared memory, as one who looks again and again knows them: what an error says is read once, and
//! later only how often it has come.

use super::CapturedError;
use crate::guc;
use crate::pg::databases;
use crate::pg::error_ring::{self, Contents, LoggedError, Tally};
use crate::subscription::conninfo::Conninfo;
use crate::subscription::provider::Subscription;
use std::cell::LazyCell;
use std::collections::{BTreeMap, HashMap, HashSet};

#[derive(Default)]
pub(crate) struct Memory {
    /// By ticket; `None`: not of a subscription of this database.
    known: BTreeMap<i64, Option<CapturedError>>,
    /// Others have their places now.
    left: Vec<CapturedError>,
    /// How often errors had come that have left their places last.
    displaced: Vec<Tally>,
    ring: i64,
    has_changed: bool,
    subscriptions: Vec<Named>,
}

/// A subscription, as far as an error is read with it.
#[derive(PartialEq)]
struct Named {
    provider: String,
    id: u32,
    subscription: String,
}

impl Memory {
    /// Reads what is new. In a transaction.
    pub(crate) fn look(&mut self, subscriptions: &[Subscription]) {
        self.know(subscriptions);
        // Before the errors: more of them may come meanwhile, but none leave unseen.
        let tickets = error_ring::count().tickets;
        let here = databases::current().to_u32();
        let contents = error_ring::read(here, |ticket| self.known.contains_key(&ticket));
        let ring = contents.ring;
        let conninfos = LazyCell::new(|| {
            let conninfos = subscriptions.iter();
            conninfos
                .map(|one| Conninfo::parse(&one.conninfo))
                .collect::<Vec<_>>()
        });
        let room = i64::try_from(guc::error_slots()).unwrap_or(i64::MAX);
        self.take(
            contents,
            tickets.saturating_sub(room.saturating_mul(2)),
            |logged| CapturedError::new(logged, ring, subscriptions, &conninfos),
            CapturedError::look_for_generated_column,
        );
    }

    /// Those of subscriptions that were not known are to be read again when others are.
    fn know(&mut self, subscriptions: &[Subscription]) {
        let named = |one: &Subscription| Named {
            provider: one.provider.clone(),
            id: one.id,
            subscription: one.subscription.clone(),
        };
        let named: Vec<Named> = subscriptions.iter().map(named).collect();
        if named != self.subscriptions {
            self.subscriptions = named;
            self.known.retain(|_, error| {
                error
                    .as_ref()
                    .is_some_and(|one| one.id.is_none() || one.subscription.is_some())
            });
        }
    }

    /// `overwritten`: the place of this ticket has been taken twice since. `renew` looks at what may be otherwise when an
    /// error comes again.
    fn take(
        &mut self,
        contents: Contents,
        overwritten: i64,
        convert: impl Fn(LoggedError) -> Option<CapturedError>,
        renew: impl Fn(&mut CapturedError),
    ) {
        self.ring = contents.ring;
        let here: HashSet<i64> = contents.known.iter().map(|tally| tally.ticket).collect();
        let displaced = contents.displaced.iter().map(|tally| (tally.ticket, tally));
        let displaced: HashMap<i64, &Tally> = displaced.collect();
        let is_gone = |ticket: &i64| {
            !here.contains(ticket) && (displaced.contains_key(ticket) || *ticket <= overwritten)
        };
        let gone = self.known.keys().copied().filter(is_gone);
        for ticket in gone.collect::<Vec<_>>() {
            let Some(Some(mut error)) = self.known.remove(&ticket) else {
                continue;
            };
            if let Some(tally) = displaced.get(&ticket) {
                error.count(tally);
            }
            self.left.push(error);
            self.has_changed = true;
        }
        for tally in &contents.known {
            if let Some(Some(error)) = self.known.get_mut(&tally.ticket) {
                let occurrences = error.occurrences;
                self.has_changed |= error.count(tally);
                if error.occurrences > occurrences {
                    renew(error);
                }
            }
        }
        for logged in contents.new {
            let ticket = logged.tally.ticket;
            let error = convert(logged);
            self.has_changed |= error.is_some();
            self.known.insert(ticket, error);
        }
        self.displaced = contents.displaced;
    }

    /// Those that are there, the oldest first.
    pub(crate) fn errors(&self) -> impl Iterator<Item = &CapturedError> {
        self.known.values().flatten()
    }

    /// Something is other than when this was asked last.
    pub(crate) fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// Those that have left since this was asked last, with all of their occurrences that are known.
    pub(crate) fn take_left(&mut self) -> Vec<CapturedError> {
        std::mem::take(&mut self.left)
    }

    /// An error that another one has read, with more occurrences than that one saw, if it has left since.
    pub(crate) fn last_of(&self, error: &CapturedError) -> Option<CapturedError> {
        let mut displaced = self.displaced.iter();
        let tally = displaced.find(|tally| (self.ring, tally.ticket) == error.key())?;
        let mut last = error.clone();
        last.count(tally);
        (last.occurrences > error.occurrences).then_some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const RING: i64 = 7;

    fn tally(ticket: i64, occurrences: i64) -> Tally {
        Tally {
            ticket,
            occurrences,
            last_at: occurrences * 1_000_000,
            pid: 1,
        }
    }

    fn new(ticket: i64) -> LoggedError {
        LoggedError {
            tally: tally(ticket, 1),
            ..LoggedError::default()
        }
    }

    /// A memory that counts what it costs.
    #[derive(Default)]
    struct Counted {
        memory: Memory,
        converted: Cell<u32>,
        renewed: Cell<u32>,
    }

    impl Counted {
        fn take(&mut self, known: &[Tally], new: Vec<LoggedError>, displaced: &[Tally]) -> bool {
            let contents = Contents {
                ring: RING,
                known: known.to_vec(),
                new,
                displaced: displaced.to_vec(),
            };
            let convert = |logged: LoggedError| {
                self.converted.set(self.converted.get() + 1);
                let mut error = CapturedError {
                    ring: RING,
                    ticket: logged.tally.ticket,
                    ..CapturedError::default()
                };
                error.count(&logged.tally);
                Some(error)
            };
            let renew = |_: &mut CapturedError| self.renewed.set(self.renewed.get() + 1);
            self.memory.take(contents, 0, convert, renew);
            self.memory.take_change()
        }

        fn occurrences(&self) -> Vec<(i64, i64)> {
            let errors = self.memory.errors();
            errors.map(|one| (one.ticket, one.occurrences)).collect()
        }
    }

    #[test]
    fn error_is_converted_once_however_often_it_is_seen() {
        let mut counted = Counted::default();
        assert!(counted.take(&[], vec![new(1), new(2)], &[]));
        for _ in 0..100 {
            assert!(!counted.take(&[tally(1, 1), tally(2, 1)], Vec::new(), &[]));
        }
        assert!(counted.take(&[tally(1, 5), tally(2, 1)], vec![new(3)], &[]));
        assert_eq!(counted.occurrences(), [(1, 5), (2, 1), (3, 1)]);
        assert_eq!((counted.converted.get(), counted.renewed.get()), (3, 1));
    }

    #[test]
    fn error_leaves_with_all_its_occurrences() {
        let mut counted = Counted::default();
        counted.take(&[], vec![new(1), new(2)], &[]);
        assert!(counted.take(&[tally(2, 1)], vec![new(17)], &[tally(1, 40)]));
        let left = counted.memory.take_left();
        let left: Vec<_> = left
            .iter()
            .map(|one| (one.ticket, one.occurrences))
            .collect();
        assert_eq!(left, [(1, 40)]);
        assert_eq!(counted.occurrences(), [(2, 1), (17, 1)]);
        assert!(!counted.take(&[tally(2, 1), tally(17, 1)], Vec::new(), &[tally(1, 40)]));
        assert!(counted.memory.take_left().is_empty());
    }

    #[test]
    fn error_that_is_being_overwritten_stays_until_its_end_is_known() {
        let mut counted = Counted::default();
        counted.take(&[], vec![new(1)], &[]);
        assert!(!counted.take(&[], Vec::new(), &[]));
        assert_eq!(counted.occurrences(), [(1, 1)]);
        counted.take(&[], vec![new(17)], &[tally(1, 3)]);
        let left = counted.memory.take_left();
        assert!(left.iter().all(|one| one.occurrences == 3));
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn of_one_whose_place_was_taken_twice_what_was_seen_is_kept() {
        let mut counted = Counted::default();
        counted.take(&[], vec![new(1)], &[]);
        let contents = Contents {
            ring: RING,
            displaced: vec![tally(17, 9)],
            ..Contents::default()
        };
        counted.memory.take(contents, 1, |_| None, |_| ());
        assert_eq!(counted.memory.take_left().len(), 1);
        assert!(counted.occurrences().is_empty());
    }

    #[test]
    fn what_another_worker_has_seen_is_completed() {
        let mut counted = Counted::default();
        counted.take(&[], Vec::new(), &[tally(1, 9)]);
        let error = |ring, occurrences| CapturedError {
            ring,
            ticket: 1,
            occurrences,
            ..CapturedError::default()
        };
        let last = |error| counted.memory.last_of(&error).map(|one| one.occurrences);
        assert_eq!(last(error(RING, 4)), Some(9));
        assert_eq!(last(error(RING, 9)), None);
        assert_eq!(last(error(RING - 1, 4)), None);
    }

    #[test]
    fn error_of_a_subscription_that_was_unknown_is_read_again() {
        let subscription = Subscription {
            subscription: "sub".to_owned(),
            ..Subscription::default()
        };
        let mut memory = Memory::default();
        let of = |id, subscription: Option<&str>| {
            Some(CapturedError {
                id,
                subscription: subscription.map(str::to_owned),
                ..CapturedError::default()
            })
        };
        memory.known.insert(1, None);
        memory.known.insert(2, of(Some(5), None));
        memory.known.insert(3, of(Some(5), Some("old")));
        memory.known.insert(4, of(None, None));
        memory.know(std::slice::from_ref(&subscription));
        let left: Vec<i64> = memory.known.keys().copied().collect();
        assert_eq!(left, [3, 4]);
        memory.known.insert(1, None);
        memory.know(&[subscription]);
        assert_eq!(memory.known.len(), 3);
    }
}
