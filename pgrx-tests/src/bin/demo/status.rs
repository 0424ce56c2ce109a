//! The report that a person reads.

use replwarden_tests::{DEFAULT_DEADLINE, Pair, wait_for_value};

use crate::stage::{Node, heading, reason, say};

const REPORT: &str = "select repl_status()";

/// The report's last line, if nothing is amiss.
const WELL: &str = "All is well.";

/// At the end: the native subscription with its derived columns.
pub(crate) fn tell(pair: &Pair) -> Result<(), String> {
    let mut subscriber = Node::new("subscriber", pair.subscriber(), pair.database());

    heading("How is it all?");
    say(
        "A line for each subscription, and more only where there is something to say. The same as columns is in \
         repl_subscriptions, repl_tables and repl_workers, and as one JSON document in repl_snapshot().",
    );
    wait_known(&mut subscriber)?;
    let rows = subscriber.rows_of(REPORT)?;
    let last = rows.last().and_then(|row| row.first()?.as_deref());
    match last {
        Some(WELL) => Ok(()),
        _ => Err(format!(
            "the report ends with {last:?} where it should say {WELL:?}"
        )),
    }
}

/// While a backfill is running.
pub(crate) fn show_under_way(subscriber: &mut Node) -> Result<(), String> {
    say("The same in the report, which shows everything else at the same time:");
    subscriber.run(REPORT)
}

/// The worker of the database looks every few seconds, and the publisher has to have answered.
fn wait_known(subscriber: &mut Node) -> Result<(), String> {
    wait_for_value(
        "the publisher has answered replwarden, and the subscription streams",
        DEFAULT_DEADLINE,
        || {
            subscriber
                .session()
                .query_one(
                    "select state::text, asked_at is not null from repl_subscriptions",
                    &[],
                )
                .and_then(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
                .map_err(|error| reason(&error))
        },
        |seen: &Result<(String, bool), String>| match seen {
            Ok((state, is_known)) => state == "streaming" && *is_known,
            Err(_) => true,
        },
    )
    .map(drop)
}
