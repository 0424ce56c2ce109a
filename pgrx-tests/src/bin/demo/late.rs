//! A rule that comes late: the rows are there already, and a worker brings them up.

use replwarden_tests::{DEFAULT_DEADLINE, Pair, wait_for_value};

use crate::check::thousands;
use crate::stage::{Node, heading, reason, say};
use crate::status;

const ROWS: usize = 500_000;

const TABLE: &str = "create table loan_archive (
    id bigint primary key,
    userid bigint not null,
    amount numeric(12,2),
    loan_id text)";

const RULE: &str =
    "select repl_set_expression('loan_archive', 'loan_id', $$userid::text || '#' || id::text$$)";

/// So slow that there is something to see.
const THROTTLE: &[(&str, &str)] = &[
    ("replwarden.backfill_batch_time", "20ms"),
    ("replwarden.backfill_delay", "30ms"),
];

const PROGRESS: &str =
    "select id, relation, state, percent, rows_per_second, eta from repl_backfills";

/// Percentages at which the reader sees how far it is, the end aside.
const LOOKS: &[f64] = &[15.0, 60.0];

/// The backfill as the demo itself looks at it.
#[derive(Debug)]
struct Backfill {
    state: String,
    percent: f64,
    error: Option<String>,
}

impl Backfill {
    fn is_under_way(&self) -> bool {
        matches!(self.state.as_str(), "queued" | "running")
    }
}

/// On the subscriber of a pair that has the extension.
pub(crate) fn tell(pair: &Pair) -> Result<(), String> {
    let mut subscriber = Node::new("subscriber", pair.subscriber(), pair.database());

    heading("A rule that comes late");
    say(&format!(
        "A table whose rows had come before anybody thought of a rule: {} of them, without a loan_id.",
        thousands(ROWS)
    ));
    subscriber.run(TABLE)?;
    subscriber.run(&format!(
        "insert into loan_archive (id, userid, amount)
    select n, 1000 + n % 7919, n * 0.25 from generate_series(1, {ROWS}) n"
    ))?;
    say(
        "A worker in the background brings such rows up, in short transactions. Here it is throttled, to be seen at work: \
         batches of 20 ms instead of 200, and 30 ms of rest after each.",
    );
    for (setting, value) in THROTTLE {
        subscriber.run(&format!("alter system set {setting} = '{value}'"))?;
    }
    subscriber.run("select pg_reload_conf()")?;
    say("The answer is the backfill's number, and comes at once.");
    subscriber.run(RULE)?;
    watch(&mut subscriber)?;

    say("Done. Every row, read and compared with what its rule says:");
    subscriber.run("select * from repl_verify('loan_archive')")?;
    check(&mut subscriber)?;
    for (setting, _) in THROTTLE {
        subscriber.run(&format!("alter system reset {setting}"))?;
    }
    subscriber.run("select pg_reload_conf()")
}

/// Shows the progress until the backfill is done.
fn watch(subscriber: &mut Node) -> Result<(), String> {
    for (number, &percent) in LOOKS.iter().enumerate() {
        let seen = wait_until_past(subscriber, percent)?;
        if !seen.is_under_way() {
            break;
        }
        if number == 0 {
            subscriber.run(PROGRESS)?;
            say(
                "Whoever writes does not have to wait for it: the rule holds for each new version of a row.",
            );
            subscriber.run(&format!(
                "update loan_archive set userid = 4711 where id = {ROWS} returning *"
            ))?;
        } else {
            status::show_under_way(subscriber)?;
        }
    }
    let end = wait_until_past(subscriber, f64::INFINITY)?;
    subscriber.run(PROGRESS)?;
    if end.state == "done" {
        Ok(())
    } else {
        Err(format!(
            "the backfill is {}: {}",
            end.state,
            end.error.as_deref().unwrap_or("no error is shown")
        ))
    }
}

/// Waits until that much is done, or the backfill has ended in whatever way. When it takes too long, what was seen last
/// is reported, its error included.
fn wait_until_past(subscriber: &mut Node, percent: f64) -> Result<Backfill, String> {
    let what = if percent.is_finite() {
        format!("{percent} % of loan_archive is backfilled")
    } else {
        "the backfill of loan_archive has ended".to_owned()
    };
    wait_for_value(
        &what,
        DEFAULT_DEADLINE,
        || look(subscriber),
        |seen| match seen {
            Ok(seen) => !seen.is_under_way() || seen.percent >= percent,
            Err(_) => true,
        },
    )
}

fn look(subscriber: &mut Node) -> Result<Backfill, String> {
    subscriber
        .session()
        .query_one(
            "select state::text, coalesce(percent, 0)::float8, error::text from repl_backfills
              where relation = 'loan_archive'::regclass order by id desc limit 1",
            &[],
        )
        .and_then(|row| {
            Ok(Backfill {
                state: row.try_get(0)?,
                percent: row.try_get(1)?,
                error: row.try_get(2)?,
            })
        })
        .map_err(|error| {
            format!(
                "no backfill of loan_archive is to be seen: {}",
                reason(&error)
            )
        })
}

/// Without the extension's help.
fn check(subscriber: &mut Node) -> Result<(), String> {
    let (rows, wrong): (i64, i64) = subscriber
        .session()
        .query_one(
            "select count(*), count(*) filter (where loan_id is distinct from userid::text || '#' || id::text)
               from loan_archive",
            &[],
        )
        .and_then(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .map_err(|error| reason(&error))?;
    if (usize::try_from(rows), wrong) == (Ok(ROWS), 0) {
        Ok(())
    } else {
        Err(format!(
            "loan_archive has {rows} rows where {ROWS} should be, {wrong} of them with a wrong loan_id"
        ))
    }
}
