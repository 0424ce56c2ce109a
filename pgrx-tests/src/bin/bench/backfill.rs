//! The section `backfill`: giving `loan_id` to the rows that a table has already, by replwarden and by the UPDATEs that
//! people write; and a backfill that finds nothing to do, against the query that finds as much.

mod report;
mod second_run;
mod stand;
mod watch;
mod way;

use std::collections::BTreeMap;
use std::time::Instant;

use postgres::Client;

use crate::arguments::Arguments;
use crate::environment::Environment;
use crate::results::Spread;
use crate::stand::reason;
use second_run::SecondRun;
use stand::Stand;
use way::Way;

/// What one way took for all rows of the table.
struct Run {
    /// As the client sees it: from sending the statement to its answer, or until the backfill is seen to be done.
    seconds: f64,
    /// By `repl_backfills`, from `started_at` to `finished_at`; none where no backfill runs.
    server_seconds: Option<f64>,
    /// In seconds.
    longest_transaction: f64,
    wal_bytes: f64,
}

/// One value a round for each way.
#[derive(Default)]
struct Results {
    runs: BTreeMap<Way, Vec<Run>>,
    second_runs: Vec<SecondRun>,
}

impl Results {
    fn spread(&self, way: Way, value: impl Fn(&Run) -> f64) -> Spread {
        Spread::of(self.runs[&way].iter().map(value).collect())
    }

    /// Rows per second of one way against those of another. Both are of the same round.
    fn speed_ratio(&self, way: Way, other: Way) -> Spread {
        let pairs = self.runs[&way].iter().zip(&self.runs[&other]);
        Spread::of(
            pairs
                .map(|(run, other)| other.seconds / run.seconds)
                .collect(),
        )
    }
}

/// Measures all rounds and returns the report.
pub(crate) fn run(arguments: &Arguments, load: f64) -> Result<String, String> {
    let stand = Stand::build(arguments.backfill_rows)?;
    // The first to use the servers' memory and files pays for getting them from the kernel, so that is nobody's run.
    stand.prepare(Way::OneUpdate);
    show(&stand, "warm-up", &measure(&stand, Way::OneUpdate)?);
    let mut results = Results::default();
    for round in 0..arguments.backfill_rounds {
        let mut ways = Way::ALL.to_vec();
        if round % 2 == 1 {
            ways.reverse();
        }
        eprintln!("round {} of {}", round + 1, arguments.backfill_rounds);
        for way in ways {
            stand.prepare(way);
            let run = measure(&stand, way)?;
            stand.check()?;
            show(&stand, way.name(), &run);
            results.runs.entry(way).or_default().push(run);
            // A second backfill, so after a first one.
            if way == Way::OneWorker {
                let second_run = second_run::measure(&stand)?;
                eprintln!(
                    "  nothing to do            {:6.2} s wall, SELECT count(*) {:.2} s",
                    second_run.backfill, second_run.scan
                );
                results.second_runs.push(second_run);
            }
        }
    }
    let environment = Environment::look(stand.cluster(), None, load)?;
    Ok(report::render(&stand, &results, &environment))
}

fn measure(stand: &Stand, way: Way) -> Result<Run, String> {
    let mut session = stand.session()?;
    let before = wal_position(&mut session)?;
    let mut run = if let Some(workers) = way.workers() {
        let watched = watch::backfill(&mut session, workers)?;
        Run {
            seconds: watched.seconds,
            server_seconds: Some(watched.server_seconds),
            longest_transaction: watched.longest_transaction()?,
            wal_bytes: 0.0,
        }
    } else {
        session.batch_execute(&way.preparation()).map_err(reason)?;
        let started = Instant::now();
        let longest: Option<f64> = match way {
            Way::Batches => session
                .query_one(way::CALL_BATCHES, &[])
                .and_then(|row| row.try_get(0))
                .map_err(reason)?,
            _ => {
                session.batch_execute(&way.statement()).map_err(reason)?;
                None
            }
        };
        let seconds = started.elapsed().as_secs_f64();
        Run {
            seconds,
            server_seconds: None,
            // Where there is one statement, there is one transaction.
            longest_transaction: longest.unwrap_or(seconds),
            wal_bytes: 0.0,
        }
    };
    run.wal_bytes = wal_position(&mut session)? - before;
    Ok(run)
}

/// In bytes, which a double holds exactly up to 8 PB.
fn wal_position(session: &mut Client) -> Result<f64, String> {
    session
        .query_one(
            "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8",
            &[],
        )
        .and_then(|row| row.try_get(0))
        .map_err(reason)
}

fn show(stand: &Stand, name: &str, run: &Run) {
    eprintln!(
        "  {:<24} {:6.2} s wall, {:.0} rows/s, longest transaction {:.3} s, {:.0} MB of WAL",
        name,
        run.seconds,
        f64::from(stand.rows()) / run.seconds,
        run.longest_transaction,
        run.wal_bytes / 1e6
    );
}
