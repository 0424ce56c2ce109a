//! Breaks crash loops. A worker that is ended by a signal takes the server down with it; the server comes up, starts the
//! worker again, and it dies of the same row. The only moment at which anything can be done is between two crashes, so this
//! runs in a worker that starts with the server, before the workers of replication have got to the row.

use super::crash_event::{self, Subject};
use super::event::Event;
use super::hazard;
use crate::error::Error;
use crate::guc;
use crate::pg::{replication_process, shared, spi};
use crate::subscription::captured::{self, Crash, Victim};
use crate::subscription::hazard::Hazard;
use crate::subscription::provider;
use crate::subscription::publisher::epoch;
use crate::subscription::quote::literal;

/// A subscription whose workers have crashed the server again and again.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Guilty {
    pub(crate) victim: Victim,
    /// Those of its workers within the window, the last one last.
    pub(crate) crashes: Vec<Crash>,
}

/// Called in each process that replicates, before its first commit: long before it gets to the row of which another has died.
/// It ends with an error while its subscription waits to be disabled, so that the breaker has the time that it needs.
pub(crate) fn hold_back() {
    if !guc::break_crash_loops() || shared::is_crash_settled() {
        return;
    }
    if let Some(guilty) = loop_at_hand()
        && replication_process::this().and_then(|process| Victim::of(&process))
            == Some(guilty.victim)
    {
        let crashes = guilty.crashes.len();
        Error::HeldBack { crashes }.raise();
    }
}

fn loop_at_hand() -> Option<Guilty> {
    let window = guc::crash_loop_window().as_secs_f64();
    guilty(
        &captured::crashes(),
        captured::uptime(),
        guc::crash_loop_threshold(),
        window,
    )
}

/// How often it is tried to disable a subscription after the same crash.
const ATTEMPTS: u32 = 3;

/// The subscription that has to be disabled before anything else is done in this process.
pub(crate) fn due() -> Option<Guilty> {
    if !guc::break_crash_loops() || shared::is_crash_settled() {
        return None;
    }
    let guilty = loop_at_hand()?;
    let last = guilty.crashes.last()?;
    if shared::attempts_after_crash(last.pid, last.at.to_bits()) > ATTEMPTS {
        // What cannot be disabled is not held back for ever.
        shared::settle_crash();
        return None;
    }
    Some(guilty)
}

/// The subscription whose worker was the last process to die, if it is the `threshold`th death within `window` seconds in which
/// the server was up: however long it takes to come up again. `deaths`: of all processes, the oldest first. `uptime`: of now.
fn guilty(
    deaths: &[(Option<Victim>, Crash)],
    uptime: f64,
    threshold: usize,
    window: f64,
) -> Option<Guilty> {
    // Whoever died after it is the reason why the server has restarted.
    let (Some(victim), last) = deaths.last()? else {
        return None;
    };
    let crashes: Vec<Crash> = deaths
        .iter()
        .filter(|(one, crash)| one.as_ref() == Some(victim) && last.uptime - crash.uptime <= window)
        .map(|(_, crash)| crash.clone())
        .collect();
    (crashes.len() >= threshold && uptime - last.uptime <= window).then_some(Guilty {
        victim: *victim,
        crashes,
    })
}

/// How much is said of it. What is said may be what fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Words {
    /// An event with the tables that crash its workers.
    All,
    /// An event.
    Few,
    None,
}

/// Disables the subscription and writes the event. In a transaction, in its database. `None`: it is gone, or disabled already.
pub(crate) fn disable(guilty: &Guilty, words: Words) -> Result<Option<Event>, Error> {
    spi::extension()?;
    let provider = provider::named(guilty.victim.provider);
    let mut switches = provider::switches(provider)?.into_iter();
    let found = switches.find(|one| one.id == guilty.victim.id && one.is_on);
    let Some(name) = found.map(|one| one.name) else {
        return Ok(None);
    };
    spi::run(&provider.disable(&name))?;
    let crashers = match words {
        Words::All if guilty.victim.provider == "pglogical" => crashers(guilty)?,
        _ => Vec::new(),
    };
    let remedy = remedy(&crashers, &name);
    let subject = Subject {
        provider: guilty.victim.provider,
        id: guilty.victim.id,
        subscription: Some(name),
    };
    let event = crash_event::broken(&subject, guilty, epoch(), &remedy);
    if words != Words::None {
        event.write()?;
    }
    Ok(Some(event))
}

fn crashers(guilty: &Guilty) -> Result<Vec<Hazard>, Error> {
    let subscriptions = provider::subscriptions()?;
    let mut subscriptions = subscriptions.iter();
    let subscription = subscriptions
        .find(|one| one.provider == guilty.victim.provider && one.id == guilty.victim.id);
    subscription.map_or_else(|| Ok(Vec::new()), hazard::crashers)
}

/// What mends the tables that crash its workers, then to switch it on.
fn remedy(crashers: &[Hazard], name: &str) -> String {
    let mut steps: Vec<String> = crashers
        .iter()
        .filter_map(|one| one.remedy.clone())
        .collect();
    if steps.is_empty() {
        steps.push(
            "-- the server log and a core dump say why the worker crashes; when that is mended:"
                .to_owned(),
        );
    }
    steps.push(format!("SELECT repl_enable({});", literal(name)));
    steps.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUB: Victim = Victim {
        database: 5,
        provider: "pglogical",
        id: 7,
    };
    const OTHER: Victim = Victim { id: 8, ..SUB };

    fn deaths(list: &[(Option<Victim>, f64)]) -> Vec<(Option<Victim>, Crash)> {
        // Each restart takes long.
        let crash = |at: f64| Crash {
            at: 1000.0 * at,
            uptime: at,
            pid: 1,
            signal: 11,
        };
        list.iter()
            .map(|(victim, at)| (*victim, crash(*at)))
            .collect()
    }

    fn found(list: &[(Option<Victim>, f64)], now: f64) -> Option<(u32, usize)> {
        guilty(&deaths(list), now, 3, 60.0).map(|guilty| (guilty.victim.id, guilty.crashes.len()))
    }

    #[test]
    fn crashes_of_one_subscription_in_a_short_time_are_a_loop() {
        let sub = Some(SUB);
        assert_eq!(found(&[(sub, 1.0), (sub, 2.0)], 3.0), None);
        assert_eq!(
            found(&[(sub, 1.0), (sub, 2.0), (sub, 3.0)], 3.0),
            Some((7, 3))
        );
        assert_eq!(found(&[(sub, 1.0), (sub, 40.0), (sub, 79.0)], 79.0), None);
    }

    #[test]
    fn others_are_not_to_blame() {
        let (sub, other) = (Some(SUB), Some(OTHER));
        assert_eq!(found(&[(None, 1.0), (None, 2.0), (None, 3.0)], 3.0), None);
        assert_eq!(found(&[(sub, 1.0), (other, 2.0), (sub, 3.0)], 3.0), None);
        let mixed = [
            (sub, 1.0),
            (other, 1.5),
            (sub, 2.0),
            (None, 2.5),
            (sub, 3.0),
        ];
        assert_eq!(found(&mixed, 3.0), Some((7, 3)));
        let elsewhere = Some(Victim { database: 6, ..SUB });
        assert_eq!(
            found(&[(sub, 1.0), (elsewhere, 2.0), (sub, 3.0)], 3.0),
            None
        );
    }

    #[test]
    fn loop_that_is_over_is_left_alone() {
        let sub = Some(SUB);
        let then_another = [(sub, 1.0), (sub, 2.0), (sub, 3.0), (None, 4.0)];
        assert_eq!(found(&then_another, 4.0), None);
        assert_eq!(found(&[(sub, 1.0), (sub, 2.0), (sub, 3.0)], 100.0), None);
    }
}
