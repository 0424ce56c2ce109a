//! Publishers that answer with anything: an error of the question, and nobody else's.

use std::fs;

use replwarden_tests::{DEFAULT_DEADLINE, Provider, wait_for_value, wait_until};

use crate::database::lines;
use crate::fake_publisher::{Answer, FakePublisher};
use crate::preflight_check::quoted;
use crate::status::{self, Status, read};

/// What is answered, and a part of what is said of it; none: what was answered can be read, whatever it says.
fn answers() -> Vec<(Answer, Option<&'static str>)> {
    let text = |text: &str| Answer::Text(text.as_bytes().to_vec());
    let facts = |lsn: &str, now: &str, slot: &str| {
        format!(
            "{{\"now\": {now}, \"lsn\": {lsn}, \"max_wal_size\": -1, \"max_slot_wal_keep_size\": 9223372036854775807,
               \"oldest_transaction_at\": {now}, \"slots\": [{slot}]}}"
        )
    };
    let catalog = r#"{"publications": ["p", "p", "\u001b[2J"], "tables": [
        {"schema_name": "public", "table_name": "item", "bytes": -9223372036854775808, "rows": -1e308, "publications": ["p"]},
        {"schema_name": "x\"; drop table item; --", "table_name": "\n\\", "bytes": 9223372036854775807, "rows": 1e308, "publications": ["p"]},
        {"schema_name": "", "table_name": "", "bytes": null, "rows": null, "publications": ["p"]}]}"#;
    let slot = |number: &str| {
        format!(
            "{{\"name\": \"fake\", \"restart_lsn\": {number}, \"confirmed_lsn\": {number}, \"replay_lsn\": {number},
               \"walsender\": {{\"pid\": -7, \"state\": \"\\u001b[2J\", \"wait_event\": null, \"sent_lsn\": {number}}},
               \"row\": {{\"active\": true, \"active_pid\": -7, \"wal_status\": \"odd\\u0007\", \"safe_wal_size\": {number}}}}}"
        )
    };
    let odd = |lsn: &str, now: &str| {
        let facts = facts(lsn, now, &slot(lsn));
        Answer::InTurn(vec![facts, catalog.to_owned()])
    };
    vec![
        (text("no JSON at all"), Some("cannot be read")),
        (text(""), Some("cannot be read")),
        (text("{}"), Some("cannot be read")),
        (
            text(r#"{"now": "soon", "lsn": [], "slots": {}}"#),
            Some("cannot be read"),
        ),
        (
            text(r#"{"now": 1e999, "lsn": 1, "slots": []}"#),
            Some("cannot be read"),
        ),
        (
            text(r#"{"now": 1, "lsn": 1, "slots": [], "more": "\u0000"}"#),
            Some("null character"),
        ),
        (text(&"[".repeat(1_000_000)), Some("cannot be read")),
        (
            Answer::Text(b"{\"now\": \"\xff\xfe\"}".to_vec()),
            Some("cannot be read"),
        ),
        (
            Answer::Text(b"{\"now\": 1, \0}".to_vec()),
            Some("cannot be read"),
        ),
        (Answer::Long(100_000_000), Some("cannot be read")),
        (Answer::Endless, Some("publisher")),
        (Answer::Notices, Some("publisher")),
        (Answer::Half, Some("closed the connection")),
        (Answer::TooLong, Some("")),
        (Answer::Silence, Some("did not answer")),
        (Answer::Babble, Some("")),
        (Answer::Copy(b'H'), Some("COPY")),
        (Answer::Copy(b'G'), Some("COPY")),
        (Answer::Copy(b'W'), Some("COPY")),
        (
            Answer::Error("bad \u{1b}[31m\r\n\tLOG:  planted \u{7}".to_owned()),
            Some("bad"),
        ),
        (Answer::Error("y".repeat(1_000_000)), Some("yyyy")),
        (
            Answer::Refusal("no \u{1b}[31m\nLOG:  planted".to_owned()),
            Some("no"),
        ),
        (odd("9223372036854775807", "1e308"), None),
        (odd("-1", "-1e308"), None),
        (odd("-9223372036854775808", "0"), None),
        (odd("0", "1e17"), None),
    ]
}

#[test]
fn each_is_an_error_of_that_probe_only() {
    let pair = status::streaming(
        status::builder(Provider::Native)
            .subscriber_setting("replwarden.probe_timeout", "3s")
            .start(),
    );
    let answers: Vec<_> = answers()
        .into_iter()
        .map(|(answer, said)| {
            let server = FakePublisher::start(answer.clone());
            (answer, said, server)
        })
        .collect();
    for (number, (_, _, server)) in answers.iter().enumerate() {
        pair.on_subscriber(&format!(
            "create subscription fake_{number} connection '{}' publication p with (connect = false, enabled = false, slot_name = 'fake')",
            server.conninfo()
        ));
    }
    let status = Status::of(&pair);
    for (number, (answer, said, _)) in answers.iter().enumerate() {
        let answer = format!("{answer:?}").chars().take(100).collect::<String>();
        status.wait_named(
            &format!("fake_{number}"),
            &format!("tells what was wrong with {answer}"),
            |row| match said {
                Some(part) => row
                    .get("last_error")
                    .is_some_and(|text| text.contains(part)),
                None => !row.is_null("asked_at") || !row.is_null("last_error"),
            },
        );
    }
    // The one that behaves is asked all the time.
    for _ in 0..3 {
        let before = status.subscription();
        status.wait_subscription("is asked again", |row| {
            row.get("asked_at") != before.get("asked_at") && row.is("state", "streaming")
        });
    }
    // Everything can be shown, and nothing of it holds a password or moves the cursor.
    for sql in [
        "select * from repl_subscriptions",
        "select * from repl_tables",
        "select * from repl_workers",
        "select * from repl_diagnose()",
        "select * from repl_events",
        "select * from repl_errors",
        "select repl_status()",
        "select repl_snapshot()",
    ] {
        let told = format!("{:?}", status.rows(sql));
        assert!(!told.contains("sesame"), "{sql}");
    }
    let log = pair.subscriber().log();
    assert!(!log.contains("sesame"));
    assert!(
        !log.contains("planted by a notice"),
        "the log is the publisher's"
    );
    for words in ["terminated by signal", "PANIC", "panicked"] {
        assert!(!log.contains(words), "{words}");
    }
    for line in log.lines() {
        assert!(!line.starts_with("LOG:  planted"), "{line}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }
    let pid: i32 = pair.subscriber().query_one_value(
        pair.database(),
        "select pid from pg_stat_activity where backend_type = 'replwarden worker' and datname = current_database()",
    );
    const MEGABYTES: u64 = 150;
    wait_for_value(
        "the worker has given back the memory that the answers took",
        DEFAULT_DEADLINE,
        || private_kilobytes(pid),
        |kilobytes| *kilobytes < MEGABYTES * 1024,
    );
}

/// Memory of a process that it shares with no other.
fn private_kilobytes(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number
        .and_then(|number| number.parse().ok())
        .expect("it has memory")
}

#[test]
fn preflight_has_rows_for_each() {
    let pair = status::with_item(
        status::builder(Provider::Native)
            .subscriber_setting("replwarden.probe_timeout", "2s")
            .start(),
    );
    let mut client = pair.subscriber().connect(pair.database());
    for (answer, _) in answers() {
        let server = FakePublisher::start(answer.clone());
        for provider in ["native", "pglogical"] {
            let rows = read(
                &mut client,
                &format!(
                    "select * from repl_preflight({}, '{{p}}', '{provider}')",
                    quoted(&server.conninfo())
                ),
            );
            let answer = format!("{answer:?}").chars().take(100).collect::<String>();
            assert!(!rows.is_empty(), "{answer}");
            assert!(
                rows.iter().any(|row| row.is("severity", "error")),
                "{answer}: {rows:#?}"
            );
            let told = format!("{rows:?}");
            assert!(!told.contains("sesame"), "{answer}");
        }
    }
    assert_eq!(lines(&mut client, "select 1"), ["1"]);
    let log = pair.subscriber().log();
    assert!(!log.contains("sesame") && !log.contains("planted by a notice"));
    wait_until("the session is well", DEFAULT_DEADLINE, || {
        lines(&mut client, "select count(*) from repl_subscriptions") == ["0"]
    });
}
