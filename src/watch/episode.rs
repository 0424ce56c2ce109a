//! Makes events of what is seen at each look: an episode begins, its cause changes, it ends. A pure decision: what is seen
//! and the time go in, events come out. What lasts for a moment makes no event, and what comes and goes all night makes
//! fewer and fewer.

use super::event::{Event, Part, episode_name};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};

/// The state that stands for a hazard that is there.
pub(crate) const HAZARD: &str = "hazard";

/// In seconds: another state has to hold for so long before an episode is over.
const SETTLED: f64 = 10.0;
/// In seconds. Between two workers there may be none for a moment.
const BETWEEN_WORKERS: f64 = 1.0;
/// Episodes that have ended make the next ones harder to end, once there are more than so many. One of them is forgotten for
/// each so many seconds in which nothing changes.
const UNREMARKABLE: usize = 3;
const CALM: f64 = 1200.0;
/// Changes of the cause, but for the first one, are so far apart.
const BETWEEN_CAUSES: f64 = 60.0;
/// Each time it may double, so often at most.
const DOUBLINGS: usize = 5;
/// In seconds, and in intervals: for so long a new worker may not have heard from publishers what made a hazard of something.
const GRACE: (f64, f64) = (60.0, 20.0);
/// After so many intervals, and at least so many seconds, without a look, looks are not consecutive.
const GAP: (f64, f64) = (3.0, 10.0);

/// What a look has seen: the state of a subscription, or a hazard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Observation<'a> {
    pub(crate) provider: &'a str,
    /// OID of the subscription. `None`: a hazard that is not one of a subscription.
    pub(crate) id: Option<u32>,
    pub(crate) subscription: Option<&'a str>,
    /// [`HAZARD`] for a hazard.
    pub(crate) state: &'a str,
    pub(crate) cause: Option<&'a str>,
    /// Where a hazard is. With its cause it tells it from others of the subscription.
    pub(crate) object: Option<&'a str>,
    pub(crate) severity: &'a str,
    pub(crate) finding: &'a str,
    pub(crate) evidence: &'a Value,
    pub(crate) remedy: Option<&'a str>,
}

/// When a look took place; all of it in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// Since 1970.
    pub(crate) now: f64,
    /// `replwarden.watch_interval`
    pub(crate) interval: f64,
    /// `replwarden.stall_timeout`
    pub(crate) stall_timeout: f64,
}

/// An episode that went on when it was last written of.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct OpenEpisode {
    pub(crate) provider: String,
    pub(crate) id: Option<u32>,
    pub(crate) subscription: Option<String>,
    pub(crate) state: String,
    pub(crate) cause: Option<String>,
    pub(crate) object: Option<String>,
    pub(crate) since: f64,
}

/// A subscription, or a hazard: with its cause and object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    provider: String,
    id: Option<u32>,
    hazard: Option<(String, String)>,
}

/// What goes on.
#[derive(Debug, Default)]
pub(crate) struct Episodes {
    tracks: HashMap<Key, Track>,
    looked_at: Option<f64>,
    /// Until then hazards that an earlier worker has seen are not over.
    grace_until: Option<f64>,
}

impl Episodes {
    /// Goes on with what an earlier worker has seen begin.
    pub(crate) fn load(open: Vec<OpenEpisode>) -> Self {
        let tracks = open.into_iter().map(|one| {
            let key = Key::of_open(&one);
            let track = Track {
                subscription: one.subscription,
                open: Some(Open::new(one.state, one.cause, one.since)),
                is_inherited: true,
                ..Track::default()
            };
            (key, track)
        });
        Self {
            tracks: tracks.collect(),
            ..Self::default()
        }
    }

    /// Takes up what goes on by what sessions have written since (`repl_disable()`), perhaps without having been seen at any
    /// look. `open`: all that goes on, as the table has it.
    pub(crate) fn adopt(&mut self, open: Vec<OpenEpisode>, look: &Look) -> Vec<Event> {
        let mut events = Vec::new();
        for one in open {
            let key = Key::of_open(&one);
            let track = self.tracks.entry(key.clone()).or_default();
            match &track.open {
                None => {
                    track.subscription = one.subscription;
                    track.open = Some(Open::new(one.state, one.cause, one.since));
                }
                Some(known) if known.state == one.state => {}
                // It was over before anybody saw it.
                Some(_) if track.run.what != one.state && look.now - one.since > SETTLED => {
                    let mut passed = Track {
                        subscription: one.subscription,
                        open: Some(Open::new(one.state, one.cause, one.since)),
                        ..Track::default()
                    };
                    passed.end(
                        &key,
                        track.run.since.max(one.since),
                        Map::new(),
                        &mut events,
                    );
                }
                Some(_) => {}
            }
        }
        events
    }

    /// What a look means that has succeeded. `states`: one of each subscription that there is; one that is missing has been
    /// dropped. `hazards`: all that are known to be there; `None` as long as nobody has looked for any.
    pub(crate) fn observe(
        &mut self,
        states: &[Observation],
        hazards: Option<&[Observation]>,
        look: &Look,
    ) -> Vec<Event> {
        self.forget_after_gap(look);
        let grace = GRACE.0.max(GRACE.1 * look.interval);
        let is_new = look.now < *self.grace_until.get_or_insert(look.now + grace);
        let mut events = Vec::new();
        let seen = states.iter().chain(hazards.unwrap_or_default());
        let mut present = HashSet::new();
        for observation in seen {
            let key = Key::of(observation);
            let track = self.tracks.entry(key.clone()).or_default();
            track.subscription = observation.subscription.map(str::to_owned);
            track.is_inherited = false;
            track.see(&key, Some(observation), look, &mut events);
            present.insert(key);
        }
        let mut absent: Vec<_> = self
            .tracks
            .iter_mut()
            .filter(|(key, _)| !present.contains(key))
            .filter(|(key, track)| {
                key.hazard.is_none() || hazards.is_some() && !(track.is_inherited && is_new)
            })
            .collect();
        absent
            .sort_by(|(one, _), (other, _)| (one.id, &one.hazard).cmp(&(other.id, &other.hazard)));
        for (key, track) in absent {
            if key.hazard.is_some() {
                track.see(key, None, look, &mut events);
            } else {
                track.drop(key, look.now, &mut events);
            }
        }
        self.tracks
            .retain(|key, track| present.contains(key) || track.open.is_some() || track.ended > 0);
        events
    }

    /// Nobody has seen what was meanwhile.
    fn forget_after_gap(&mut self, look: &Look) {
        let longest = (look.interval * GAP.0).max(GAP.1);
        let passed = self.looked_at.replace(look.now).map(|last| look.now - last);
        if passed.is_some_and(|passed| !(0.0..=longest).contains(&passed)) {
            for track in self.tracks.values_mut() {
                track.forget_looks();
            }
        }
    }
}

impl Key {
    fn of(observation: &Observation) -> Self {
        let object = observation.object.unwrap_or_default();
        let cause = observation.cause.unwrap_or_default();
        Self {
            provider: observation.provider.to_owned(),
            id: observation.id,
            hazard: (observation.state == HAZARD).then(|| (cause.to_owned(), object.to_owned())),
        }
    }

    fn of_open(open: &OpenEpisode) -> Self {
        Self {
            provider: open.provider.clone(),
            id: open.id,
            hazard: (open.state == HAZARD).then(|| {
                let word = |text: &Option<String>| text.clone().unwrap_or_default();
                (word(&open.cause), word(&open.object))
            }),
        }
    }

    fn episode(&self, state: &str) -> String {
        let hazard = self.hazard.as_ref();
        let hazard = hazard.map(|(cause, object)| (cause.as_str(), object.as_str()));
        episode_name(&self.provider, self.id, state, hazard)
    }
}

/// Looks one after the other that have seen the same.
#[derive(Debug, Clone, Default, PartialEq)]
struct Run {
    what: String,
    /// The first of them.
    since: f64,
    looks: u32,
}

impl Run {
    fn see(&mut self, what: &str, now: f64) {
        if self.looks == 0 || self.what != what {
            *self = Self {
                what: what.to_owned(),
                since: now,
                looks: 0,
            };
        }
        self.looks += 1;
    }
}

#[derive(Debug, Default)]
struct Track {
    subscription: Option<String>,
    open: Option<Open>,
    /// An earlier worker has seen it, and this one has not yet.
    is_inherited: bool,
    /// Of the same state.
    run: Run,
    /// Episodes that have ended and are not forgotten, and when the last one was forgotten.
    ended: usize,
    calmed_at: f64,
}

/// An episode that goes on.
#[derive(Debug, Default)]
struct Open {
    state: String,
    cause: Option<String>,
    since: f64,
    /// Of any other state.
    away: Run,
    /// Of the same other cause.
    other_cause: Run,
    cause_changes: usize,
    cause_changed_at: f64,
}

impl Open {
    fn new(state: String, cause: Option<String>, since: f64) -> Self {
        Self {
            state,
            cause,
            since,
            ..Self::default()
        }
    }

    /// The cause that it had until now, if it has another one that is worth an event.
    fn changes_cause(&mut self, cause: Option<&str>, now: f64) -> Option<Option<String>> {
        // At this moment nothing is known.
        let cause = cause.filter(|cause| *cause != "unknown")?;
        if self.cause.as_deref() == Some(cause) {
            self.other_cause = Run::default();
            return None;
        }
        self.other_cause.see(cause, now);
        let pause = match self.cause_changes {
            0 => 0.0,
            changes => doubled(BETWEEN_CAUSES, changes - 1),
        };
        if self.other_cause.looks < 2 || now - self.cause_changed_at < pause {
            return None;
        }
        self.other_cause = Run::default();
        self.cause_changes += 1;
        self.cause_changed_at = now;
        Some(self.cause.replace(cause.to_owned()))
    }
}

impl Track {
    fn see(&mut self, key: &Key, seen: Option<&Observation>, look: &Look, events: &mut Vec<Event>) {
        let now = look.now;
        let state = seen.map_or("", |seen| seen.state);
        self.run.see(state, now);
        if now - self.run.since.max(self.calmed_at) >= CALM {
            self.ended = self.ended.saturating_sub(1);
            self.calmed_at = now;
        }
        let patience = self.patience();
        if let Some(open) = &mut self.open {
            if open.state == state {
                open.away = Run::default();
                if let Some(seen) = seen
                    && key.hazard.is_none()
                    && let Some(previous) = open.changes_cause(seen.cause, now)
                {
                    let mut detail = detail(seen);
                    detail.insert("previous_cause".to_owned(), json!(previous));
                    let part = Part::GoesOn(key.episode(state));
                    events.push(event(key, seen, now, open.since, detail, part));
                }
                return;
            }
            open.away.see("", now);
            let is_taken_over = is_problem(state) && self.run.looks >= looks_to_begin(state) && {
                self.ended <= UNREMARKABLE || now - self.run.since >= patience
            };
            let is_over = open.away.looks >= 2 && now - open.away.since >= patience;
            if !is_taken_over && !is_over {
                return;
            }
            let at = open.away.since;
            self.end(key, at, Map::new(), events);
        }
        let Some(seen) = seen else {
            return;
        };
        let least = match (state, seen.cause) {
            ("catching_up", _) => look.stall_timeout,
            // One worker has ended, and the next one has not begun yet.
            ("retrying", None | Some("unknown")) => BETWEEN_WORKERS,
            _ => 0.0,
        };
        let has_held = now - self.run.since >= least;
        if looks_to_begin(state) <= self.run.looks && has_held {
            let (since, cause) = (self.run.since, seen.cause.map(str::to_owned));
            self.open = Some(Open::new(state.to_owned(), cause, since));
            let part = Part::Begins(key.episode(state));
            events.push(event(key, seen, since, since, detail(seen), part));
        }
    }

    /// The subscription does not exist any more.
    fn drop(&mut self, key: &Key, now: f64, events: &mut Vec<Event>) {
        let detail = Map::from_iter([("dropped".to_owned(), json!(true))]);
        self.end(key, now, detail, events);
        self.ended = 0;
    }

    fn end(&mut self, key: &Key, at: f64, mut detail: Map<String, Value>, events: &mut Vec<Event>) {
        let Some(open) = self.open.take() else {
            return;
        };
        self.ended += 1;
        let seconds = ((at - open.since).max(0.0) * 10.0).round() / 10.0;
        detail.insert("state".to_owned(), json!(open.state));
        detail.insert("seconds".to_owned(), json!(seconds));
        if let Some((_, object)) = &key.hazard
            && !object.is_empty()
        {
            detail.insert("object".to_owned(), json!(object));
        }
        events.push(Event {
            occurred_at: at,
            provider: key.provider.clone(),
            id: key.id,
            subscription: self.subscription.clone(),
            severity: "info".to_owned(),
            event: format!("{}_ended", open.state),
            cause: open.cause,
            detail: Value::Object(detail),
            since: Some(open.since),
            part: Part::Ends(key.episode(&open.state)),
        });
    }

    /// For how long another state has to hold: the longer, the more often episodes have ended of late.
    fn patience(&self) -> f64 {
        doubled(SETTLED, self.ended.saturating_sub(UNREMARKABLE))
    }

    fn forget_looks(&mut self) {
        self.run = Run::default();
        if let Some(open) = &mut self.open {
            open.away = Run::default();
            open.other_cause = Run::default();
        }
    }
}

fn doubled(seconds: f64, times: usize) -> f64 {
    (0..times.min(DOUBLINGS)).fold(seconds, |seconds, _| seconds * 2.0)
}

fn is_problem(state: &str) -> bool {
    matches!(
        state,
        "stalled" | "retrying" | "down" | "disabled" | "crash_loop"
    )
}

/// Looks that have to see the state before it is an episode. A stall and a crash loop have lasted for some time when they
/// are first seen.
fn looks_to_begin(state: &str) -> u32 {
    match state {
        "stalled" | "crash_loop" => 1,
        "copying" | "catching_up" | HAZARD => 2,
        _ if is_problem(state) => 2,
        _ => u32::MAX,
    }
}

fn detail(seen: &Observation) -> Map<String, Value> {
    let mut detail = Map::new();
    let mut put = |name: &str, value: Value| detail.insert(name.to_owned(), value);
    put("state", json!(seen.state));
    if !seen.finding.is_empty() {
        put("finding", json!(seen.finding));
    }
    if !seen.evidence.is_null() {
        put("evidence", seen.evidence.clone());
    }
    for (name, value) in [("remedy", seen.remedy), ("object", seen.object)] {
        if let Some(value) = value {
            put(name, json!(value));
        }
    }
    detail
}

fn event(
    key: &Key,
    seen: &Observation,
    occurred_at: f64,
    since: f64,
    detail: Map<String, Value>,
    part: Part,
) -> Event {
    Event {
        occurred_at,
        provider: key.provider.clone(),
        id: key.id,
        subscription: seen.subscription.map(str::to_owned),
        severity: seen.severity.to_owned(),
        event: seen.state.to_owned(),
        cause: seen.cause.map(str::to_owned),
        detail: Value::Object(detail),
        since: Some(since),
        part,
    }
}

#[cfg(test)]
mod tests;
