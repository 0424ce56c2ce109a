//! Events of workers that were ended by a signal, and of a crash loop that was broken.

use super::breaker::Guilty;
use super::event::{Event, Part};
use crate::subscription::captured::Crash;
use serde_json::{Value, json};

/// Whom a crashed worker worked for.
pub(super) struct Subject<'a> {
    pub(super) provider: &'a str,
    pub(super) id: u32,
    /// `None`: it is gone.
    pub(super) subscription: Option<String>,
}

/// A worker has died, and the server has restarted for it.
pub(super) fn crashed(subject: &Subject, crash: &Crash) -> Event {
    let finding = format!(
        "Its worker, process {}, was ended by signal {}, which has restarted the server.",
        crash.pid,
        signal_name(crash.signal)
    );
    event(
        subject,
        "worker_crashed",
        "warning",
        crash.at,
        None,
        json!({
            "finding": finding,
            "evidence": { "pid": crash.pid, "signal": crash.signal, "signal_name": signal_name(crash.signal) },
        }),
    )
}

/// The subscription was disabled because its workers died again and again. `remedy`: what to do about it.
pub(super) fn broken(subject: &Subject, guilty: &Guilty, now: f64, remedy: &str) -> Event {
    let (first, last) = (guilty.crashes.first(), guilty.crashes.last());
    let signal = last.map_or(0, |crash| crash.signal);
    let finding = format!(
        "Its workers have crashed the server {} times by signal {}, so it was disabled.",
        guilty.crashes.len(),
        signal_name(signal)
    );
    let evidence = json!({
        "crashes": guilty.crashes.len(),
        "signal": signal,
        "signal_name": signal_name(signal),
        "pids": guilty.crashes.iter().map(|crash| crash.pid).collect::<Vec<_>>(),
        "first_at": first.map(|crash| crash.at),
        "last_at": last.map(|crash| crash.at),
    });
    let detail = json!({"finding": finding, "evidence": evidence, "remedy": remedy});
    let cause = Some("crash_loop".to_owned());
    event(subject, "crash_loop_broken", "critical", now, cause, detail)
}

fn event(
    subject: &Subject,
    word: &str,
    severity: &str,
    at: f64,
    cause: Option<String>,
    detail: Value,
) -> Event {
    Event {
        occurred_at: at,
        provider: subject.provider.to_owned(),
        id: Some(subject.id),
        subscription: subject.subscription.clone(),
        severity: severity.to_owned(),
        event: word.to_owned(),
        cause,
        detail,
        since: None,
        part: Part::Whole,
    }
}

/// The signals that end a process which did not ask for them.
pub(super) fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGBUS => "SIGBUS",
        libc::SIGABRT => "SIGABRT",
        libc::SIGKILL => "SIGKILL",
        libc::SIGILL => "SIGILL",
        libc::SIGFPE => "SIGFPE",
        libc::SIGTRAP => "SIGTRAP",
        _ => return signal.to_string(),
    };
    format!("{signal} ({name})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::captured::Victim;

    const SUBJECT: Subject = Subject {
        provider: "pglogical",
        id: 7,
        subscription: None,
    };

    #[test]
    fn events_say_how_often_and_by_which_signal() {
        let crash = |at| Crash {
            at,
            uptime: at,
            pid: 5,
            signal: 11,
        };
        let guilty = Guilty {
            victim: Victim {
                database: 1,
                provider: "pglogical",
                id: 7,
            },
            crashes: vec![crash(1.0), crash(2.0), crash(3.0)],
        };
        let event = broken(&SUBJECT, &guilty, 4.0, "SELECT 1;");
        assert_eq!(
            (event.event.as_str(), event.severity.as_str()),
            ("crash_loop_broken", "critical")
        );
        assert_eq!(event.detail["evidence"]["crashes"], 3);
        assert_eq!(event.detail["evidence"]["signal"], 11);
        assert_eq!(event.detail["remedy"], "SELECT 1;");
        let event = crashed(&SUBJECT, &crash(1.0));
        assert_eq!(event.occurred_at, 1.0);
        assert!(
            event.detail["finding"]
                .as_str()
                .is_some_and(|finding| finding.contains("11 (SIGSEGV)"))
        );
    }
}
