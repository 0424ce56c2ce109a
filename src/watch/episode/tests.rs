use super::*;

const INTERVAL: f64 = 5.0;
const STALL_TIMEOUT: f64 = 60.0;

/// A worker and what it has written.
struct Watch {
    episodes: Episodes,
    now: f64,
    events: Vec<Event>,
}

/// Of the subscription "sub".
fn seen<'a>(state: &'a str, cause: Option<&'a str>) -> Observation<'a> {
    Observation {
        provider: "native",
        id: Some(7),
        subscription: Some("sub"),
        state,
        cause,
        object: None,
        severity: "critical",
        finding: "It is so.",
        evidence: &Value::Null,
        remedy: None,
    }
}

fn hazard<'a>(cause: &'a str, object: &'a str) -> Observation<'a> {
    Observation {
        object: Some(object),
        ..seen(HAZARD, Some(cause))
    }
}

impl Watch {
    fn new() -> Self {
        Self {
            episodes: Episodes::default(),
            now: 1000.0,
            events: Vec::new(),
        }
    }

    fn look(&mut self, states: &[Observation], hazards: Option<&[Observation]>) {
        let look = Look {
            now: self.now,
            interval: INTERVAL,
            stall_timeout: STALL_TIMEOUT,
        };
        let events = self.episodes.observe(states, hazards, &look);
        self.events.extend(events);
        self.now += INTERVAL;
    }

    fn sees(&mut self, state: &str, cause: Option<&str>, looks: usize) -> &mut Self {
        for _ in 0..looks {
            self.look(&[seen(state, cause)], None);
        }
        self
    }

    fn streams(&mut self, looks: usize) -> &mut Self {
        self.sees("streaming", None, looks)
    }

    fn sees_hazards(&mut self, hazards: Option<&[Observation]>, looks: usize) -> &mut Self {
        for _ in 0..looks {
            self.look(&[seen("streaming", None)], hazards);
        }
        self
    }

    /// As another worker goes on that knows what is in the table.
    fn restarts(&mut self) -> &mut Self {
        let mut open: HashMap<String, OpenEpisode> = HashMap::new();
        for event in &self.events {
            match &event.part {
                Part::Whole => {}
                Part::Begins(name) | Part::GoesOn(name) => {
                    let object = event.detail.get("object").and_then(Value::as_str);
                    let episode = OpenEpisode {
                        provider: event.provider.clone(),
                        id: event.id,
                        subscription: event.subscription.clone(),
                        state: event.event.clone(),
                        cause: event.cause.clone(),
                        object: object.map(str::to_owned),
                        since: event.since.unwrap_or(event.occurred_at),
                    };
                    open.insert(name.clone(), episode);
                }
                Part::Ends(name) => {
                    open.remove(name);
                }
            }
        }
        self.episodes = Episodes::load(open.into_values().collect());
        self
    }

    /// The events so far, in short: when, in seconds since the beginning, what, why.
    fn told(&self) -> Vec<String> {
        let events = self.events.iter();
        events
            .map(|event| {
                let mut text = format!("{} {}", event.occurred_at - 1000.0, event.event);
                if let Some(cause) = &event.cause {
                    text.push_str(&format!(" {cause}"));
                }
                if let Some(seconds) = event.detail.get("seconds") {
                    text.push_str(&format!(" after {seconds}"));
                }
                text
            })
            .collect()
    }
}

#[test]
fn idle_night_has_no_event() {
    let mut watch = Watch::new();
    watch.streams(12 * 3600 / INTERVAL as usize);
    assert!(watch.told().is_empty(), "{:?}", watch.told());
}

#[test]
fn moments_make_no_event() {
    let mut watch = Watch::new();
    for _ in 0..100 {
        watch.streams(3).sees("retrying", Some("unknown"), 1);
        watch.streams(3).sees("catching_up", None, 11);
        watch.streams(3).sees("copying", None, 1);
    }
    assert!(watch.told().is_empty(), "{:?}", watch.told());
}

#[test]
fn worker_that_died_is_told_within_two_intervals_and_dated_from_the_first_look() {
    let mut watch = Watch::new();
    watch.streams(2).sees("down", Some("launcher_missing"), 2);
    assert_eq!(watch.told(), ["10 down launcher_missing"]);
    assert_eq!(watch.events[0].severity, "critical");
    assert_eq!(
        watch.events[0].part,
        Part::Begins("native/7/down".to_owned())
    );
    watch.sees("down", Some("launcher_missing"), 100).streams(3);
    assert_eq!(
        watch.told()[1..],
        ["520 down_ended launcher_missing after 510.0"]
    );
    assert_eq!(watch.events[1].severity, "info");
    assert_eq!(watch.events[1].since, Some(1010.0));
    assert_eq!(watch.events[1].part, Part::Ends("native/7/down".to_owned()));
    watch.streams(1000);
    assert_eq!(watch.events.len(), 2);
}

#[test]
fn stall_is_told_at_the_first_look_that_sees_it() {
    let mut watch = Watch::new();
    watch.streams(1).sees("stalled", Some("lock_wait"), 1);
    assert_eq!(watch.told(), ["5 stalled lock_wait"]);
}

#[test]
fn episode_is_not_over_because_of_a_moment_without() {
    let mut watch = Watch::new();
    watch.sees("retrying", Some("duplicate_key"), 2);
    for _ in 0..1000 {
        watch.streams(2).sees("retrying", Some("duplicate_key"), 1);
    }
    assert_eq!(watch.told(), ["0 retrying duplicate_key"]);
    watch.sees("catching_up", None, 1).streams(2);
    let end = "15010 retrying_ended duplicate_key after 15010.0";
    assert_eq!(watch.told()[1..], [end]);
}

#[test]
fn what_comes_and_goes_all_night_makes_few_events() {
    let mut watch = Watch::new();
    for _ in 0..12 * 3600 / 30 {
        watch.sees("retrying", Some("duplicate_key"), 3).streams(3);
    }
    let number = watch.events.len();
    assert!((6..12).contains(&number), "{number}: {:?}", watch.told());
    let mut watch = Watch::new();
    for _ in 0..12 * 3600 / 20 {
        watch.sees("retrying", Some("duplicate_key"), 2);
        watch.sees("stalled", Some("lock_wait"), 2);
    }
    let number = watch.events.len();
    assert!((6..40).contains(&number), "{number}");
    let mut watch = Watch::new();
    for number in 0..12 * 3600 / 20 {
        let causes = ["duplicate_key", "lock_wait"];
        watch.sees("retrying", Some(causes[number % 2]), 4);
    }
    let number = watch.events.len();
    assert!((6..40).contains(&number), "{number}");
}

#[test]
fn another_problem_takes_over_at_once() {
    let mut watch = Watch::new();
    watch.sees("retrying", Some("duplicate_key"), 3);
    watch.sees("disabled", Some("disabled_on_error"), 2);
    assert_eq!(
        watch.told(),
        [
            "0 retrying duplicate_key",
            "15 retrying_ended duplicate_key after 15.0",
            "15 disabled disabled_on_error"
        ]
    );
}

#[test]
fn copying_waits_until_the_problem_is_over_for_sure() {
    let mut watch = Watch::new();
    watch.sees("stalled", Some("lock_wait"), 2);
    watch.sees("copying", None, 2);
    assert_eq!(watch.told(), ["0 stalled lock_wait"]);
    watch.sees("copying", None, 1);
    assert_eq!(
        watch.told()[1..],
        ["10 stalled_ended lock_wait after 10.0", "10 copying"]
    );
}

#[test]
fn catching_up_has_to_last() {
    let mut watch = Watch::new();
    watch.streams(1).sees("catching_up", None, 12);
    assert!(watch.told().is_empty());
    watch.sees("catching_up", None, 1);
    assert_eq!(watch.told(), ["5 catching_up"]);
}

#[test]
fn changed_cause_is_told_once_it_is_sure_and_seldom() {
    let mut watch = Watch::new();
    watch.sees("retrying", Some("unknown"), 2);
    watch.sees("retrying", Some("slot_missing"), 1);
    watch.sees("retrying", Some("unknown"), 1);
    watch.sees("retrying", Some("slot_missing"), 1);
    assert_eq!(
        watch.told(),
        ["0 retrying unknown", "20 retrying slot_missing"]
    );
    assert_eq!(watch.events[1].detail["previous_cause"], "unknown");
    assert_eq!(watch.events[1].since, Some(1000.0));
    let part = Part::GoesOn("native/7/retrying".to_owned());
    assert_eq!(watch.events[1].part, part);
    watch.sees("retrying", Some("unknown"), 20);
    watch.sees("retrying", None, 20);
    assert_eq!(watch.events.len(), 2);
    watch.sees("retrying", Some("slot_in_use"), 3);
    watch.sees("retrying", Some("slot_missing"), 22);
    assert_eq!(watch.events.len(), 3);
    watch.sees("retrying", Some("slot_missing"), 1);
    assert_eq!(
        watch.told()[2..],
        ["230 retrying slot_in_use", "350 retrying slot_missing"]
    );
}

#[test]
fn dropped_subscription_ends_its_episode() {
    let mut watch = Watch::new();
    watch.sees("down", Some("standby"), 2).look(&[], None);
    assert_eq!(
        watch.told(),
        ["0 down standby", "10 down_ended standby after 10.0"]
    );
    assert_eq!(watch.events[1].detail["dropped"], true);
    assert_eq!(watch.events[1].subscription.as_deref(), Some("sub"));
    assert!(watch.episodes.tracks.is_empty());
}

#[test]
fn renamed_subscription_goes_on() {
    let mut watch = Watch::new();
    watch.sees("down", Some("standby"), 2);
    let renamed = Observation {
        subscription: Some("new"),
        ..seen("streaming", None)
    };
    for _ in 0..3 {
        watch.look(&[renamed], None);
    }
    assert_eq!(watch.told().len(), 2);
    assert_eq!(watch.events[1].subscription.as_deref(), Some("new"));
}

#[test]
fn restart_of_the_worker_loses_and_repeats_nothing() {
    let mut watch = Watch::new();
    watch.sees("retrying", Some("unknown"), 2);
    watch.sees("retrying", Some("slot_missing"), 2);
    watch.restarts().sees("retrying", Some("slot_missing"), 5);
    assert_eq!(watch.events.len(), 2);
    watch.now += 3600.0;
    watch.restarts().sees("retrying", Some("slot_missing"), 5);
    assert_eq!(watch.events.len(), 2);
    watch.restarts().streams(2);
    assert_eq!(watch.events.len(), 2);
    watch.streams(1);
    let end = "3670 retrying_ended slot_missing after 3670.0";
    assert_eq!(watch.told()[2..], [end]);
    watch.restarts().streams(5);
    assert_eq!(watch.events.len(), 3);
    // It was dropped while nobody looked.
    watch.sees("disabled", Some("disabled"), 2);
    watch.restarts().look(&[], None);
    assert_eq!(watch.events.len(), 5);
}

#[test]
fn gap_ends_and_begins_nothing() {
    let mut watch = Watch::new();
    watch.streams(1).sees("retrying", Some("unknown"), 1);
    watch.now += 600.0;
    watch.sees("retrying", Some("unknown"), 1);
    assert!(watch.told().is_empty());
    watch.sees("retrying", Some("unknown"), 1);
    assert_eq!(watch.told(), ["610 retrying unknown"]);
    watch.streams(1);
    watch.now += 600.0;
    watch.streams(1);
    assert_eq!(watch.events.len(), 1);
    watch.streams(2);
    assert_eq!(
        watch.told()[1..],
        ["1225 retrying_ended unknown after 615.0"]
    );
    // The clock was put back.
    watch.now -= 7200.0;
    watch.sees("retrying", Some("unknown"), 2).streams(3);
    assert_eq!(watch.events.len(), 4, "{:?}", watch.told());
}

#[test]
fn hazards_are_told_at_once_and_once() {
    let mut watch = Watch::new();
    let (one, other) = (hazard("sequence_behind", ""), hazard("wal_retention", "x"));
    watch.sees_hazards(Some(&[one]), 1);
    watch.sees_hazards(Some(&[one, other]), 10);
    assert_eq!(
        watch.told(),
        ["0 hazard sequence_behind", "5 hazard wal_retention"]
    );
    // It is not known yet what there is.
    watch.restarts().sees_hazards(None, 10);
    assert_eq!(watch.events.len(), 2);
    // For some time the new worker may not have heard what makes it one.
    watch.sees_hazards(Some(&[other]), 9);
    assert_eq!(watch.events.len(), 2);
    watch.sees_hazards(Some(&[other]), 4);
    watch.sees_hazards(Some(&[]), 3);
    let told = watch.told();
    assert!(told[2].contains("hazard_ended sequence_behind"), "{told:?}");
    assert!(told[3].contains("hazard_ended wal_retention"), "{told:?}");
    assert_eq!(told.len(), 4, "{told:?}");
    assert_eq!(watch.events[3].detail["object"], "x");
    // The state of the subscription is another matter.
    watch.sees("stalled", Some("lock_wait"), 1);
    assert_eq!(watch.events.len(), 5);
}

#[test]
fn hazard_of_no_subscription_is_its_own() {
    let mut watch = Watch::new();
    let nobodys = Observation {
        id: None,
        subscription: None,
        ..hazard("foreign_key_detached", "public.t")
    };
    watch.sees_hazards(Some(&[nobodys]), 5);
    assert_eq!(watch.told(), ["0 hazard foreign_key_detached"]);
    assert_eq!(watch.events[0].subscription, None);
}

#[test]
fn subscriptions_are_apart_from_each_other() {
    let mut watch = Watch::new();
    let other = Observation {
        provider: "pglogical",
        subscription: Some("other"),
        ..seen("streaming", None)
    };
    for _ in 0..5 {
        watch.look(&[seen("down", Some("standby")), other], None);
    }
    assert_eq!(watch.told(), ["0 down standby"]);
    watch.look(&[other], None);
    assert_eq!(watch.events.len(), 2);
}
