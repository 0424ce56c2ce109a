//! The worst night: loan_id is generated on the subscriber, too, and pglogical takes the server down again and again.

use replwarden_tests::{DEFAULT_DEADLINE, Pair, wait_for_value, wait_until};

use crate::check::{self, Comparison};
use crate::stage::{Node, heading, reason, say};
use crate::story::{PUBLISHER_TABLE, publish};

const COPIED: usize = 1_000;
const STREAMED: usize = 500;

/// More would be no success.
const MOST_CRASHES: i64 = 5;

/// In the order in which it happened; the worker writes what it finds after the last restart.
const EVENTS: &str = "select to_char(occurred_at, 'HH24:MI:SS.MS') as at, severity, event, detail #>> '{evidence,signal}' as signal
  from repl_events where event in ('worker_crashed', 'crash_loop_broken') order by occurred_at";

const FIGURES: &str = "select (select count(*) from repl_events where event = 'worker_crashed'),
       (detail #>> '{evidence,crashes}')::bigint,
       (extract(epoch from occurred_at) - (detail #>> '{evidence,first_at}')::float8)::float8,
       detail ->> 'remedy'
  from repl_events where event = 'crash_loop_broken'";

#[derive(Debug)]
struct Broken {
    told_crashes: i64,
    crashes: i64,
    /// From the first crash on.
    seconds: f64,
    remedy: String,
}

/// `pair`: one of pglogical in a database of its own.
pub(crate) fn tell(pair: &Pair) -> Result<Comparison, String> {
    let mut publisher = Node::new("publisher", pair.publisher(), pair.database());

    heading("A crash loop, broken and mended");
    say(&format!(
        "In a third database, {}, loan_id is generated on the subscriber, too. At the first row that it streams into such a \
         table, pglogical crashes, and the whole server with it; the server comes up, pglogical starts again, and there is \
         the same row. That goes on until somebody gets up.",
        pair.database()
    ));
    publisher.run(PUBLISHER_TABLE)?;
    publisher.run(&insert_sql(COPIED))?;
    publish(pair, &mut publisher)?;
    set_up(pair)?;

    say("One row would do:");
    publisher.run(&insert_sql(STREAMED))?;
    wait_disabled(pair);
    let crashes = pair
        .subscriber()
        .log()
        .matches("was terminated by signal")
        .count();

    let mut subscriber = Node::new("subscriber", pair.subscriber(), pair.database());
    let broken = wait_told(&mut subscriber)?;
    say("The server is up, and replwarden has disabled the subscription that was to blame.");
    subscriber.run(EVENTS)?;
    println!(
        "-- broken: after {} crashes, {:.1} s from the first one\n",
        broken.crashes, broken.seconds
    );
    judge(&broken, crashes)?;

    say("What it says in the morning:");
    subscriber.run("select repl_status()")?;
    say(
        "The remedy as it is in the event. The rows stay as they are; the column becomes a plain one with a rule.",
    );
    for statement in broken.remedy.lines() {
        subscriber.run(statement.trim_end_matches(';'))?;
    }
    pair.wait_caught_up();
    let compared = check::compare(pair, "crash loop", &mut publisher, &mut subscriber)?;
    subscriber
        .run("select relation, column_name, expression, state from repl_generated_columns")?;
    Ok(compared)
}

fn insert_sql(rows: usize) -> String {
    format!(
        "insert into loan_app (userid, amount)
    select 1000 + n % 7919, n * 0.25 from generate_series(1, {rows}) n"
    )
}

fn set_up(pair: &Pair) -> Result<(), String> {
    let mut subscriber = Node::new("subscriber", pair.subscriber(), pair.database());
    subscriber.run(PUBLISHER_TABLE)?;
    subscriber.run("create extension replwarden")?;
    subscriber.run(&pair.subscribe_sql(true))?;
    pair.wait_copied();
    // Not to be told: pglogical commits asynchronously, and the crash would undo the copy.
    pair.on_subscriber("checkpoint");
    Ok(())
}

/// The server goes down meanwhile.
fn wait_disabled(pair: &Pair) {
    wait_until("the subscription is disabled", DEFAULT_DEADLINE, || {
        let Ok(mut client) = pair.subscriber().try_connect(pair.database()) else {
            return false;
        };
        let enabled = client.query_one("select sub_enabled from pglogical.subscription", &[]);
        enabled.is_ok_and(|row| !row.get::<_, bool>(0))
    });
}

/// Waits until all that has happened is an event.
fn wait_told(subscriber: &mut Node) -> Result<Broken, String> {
    wait_for_value(
        "the events tell of the loop",
        DEFAULT_DEADLINE,
        || {
            let rows = subscriber.session().query(FIGURES, &[]);
            let rows = rows.map_err(|error| reason(&error))?;
            let [row] = rows.as_slice() else {
                return Ok(None);
            };
            let broken = Broken {
                told_crashes: row.get(0),
                crashes: row.get(1),
                seconds: row.get(2),
                remedy: row.get(3),
            };
            Ok((broken.told_crashes >= broken.crashes).then_some(broken))
        },
        |seen: &Result<Option<Broken>, String>| !matches!(seen, Ok(None)),
    )?
    .ok_or_else(|| "no event tells of the loop".to_owned())
}

fn judge(broken: &Broken, crashes: usize) -> Result<(), String> {
    if usize::try_from(broken.crashes) != Ok(crashes) || broken.told_crashes != broken.crashes {
        return Err(format!(
            "the server log has {crashes} crashes, the events have {} and count {}",
            broken.told_crashes, broken.crashes
        ));
    }
    if broken.crashes > MOST_CRASHES {
        return Err(format!(
            "the loop was broken after {} crashes, and {MOST_CRASHES} are allowed",
            broken.crashes
        ));
    }
    if broken.remedy.contains("repl_adopt_generated(") {
        Ok(())
    } else {
        Err(format!("this is no remedy: {}", broken.remedy))
    }
}
