//! The report of the section: targets first, then the figures behind them, then how they were taken.

use super::Results;
use super::second_run::{SecondRun, TIMES};
use super::stand::Stand;
use super::watch::INTERVAL;
use super::way::{BATCH, Way};
use crate::environment::Environment;
use crate::report::{mark, row, verdict, with_range};
use crate::results::Spread;

/// Rows per second of a backfill against those of one UPDATE of the whole table.
const SPEED: &[(Way, f64)] = &[(Way::OneWorker, 0.9), (Way::TwoWorkers, 1.5)];

/// In seconds: no transaction of a backfill may be longer.
const LONGEST_TRANSACTION: f64 = 1.0;

/// A backfill that has nothing to do against the query.
const SECOND_RUN: f64 = 1.2;

pub(super) fn render(stand: &Stand, results: &Results, environment: &Environment) -> String {
    format!(
        "{}\n{}\n{}\n{}",
        targets(results),
        ways(stand, results),
        second_runs(results),
        notes(stand, environment)
    )
}

fn targets(results: &Results) -> String {
    let mut reached = Vec::new();
    let mut table = vec![
        row(&["", "measured", "to reach", ""].map(str::to_owned)),
        "|---|---|---|---|".to_owned(),
    ];
    let mut line = |name: String, measured: String, target: String, is_reached: bool| {
        reached.push(is_reached);
        table.push(row(&[name, measured, target, mark(is_reached)]));
    };
    for &(way, target) in SPEED {
        let ratio = results.speed_ratio(way, Way::OneUpdate);
        line(
            format!(
                "{}: rows per second ÷ {}",
                way.name(),
                Way::OneUpdate.name()
            ),
            with_range(ratio, 2),
            format!("≥ {target}"),
            ratio.median >= target,
        );
    }
    // Of all rounds: one that is too long is one too many.
    let longest = SPEED
        .iter()
        .map(|&(way, _)| results.spread(way, |run| run.longest_transaction).greatest)
        .fold(0.0, f64::max);
    line(
        "backfill: longest transaction, seconds".to_owned(),
        format!("{longest:.2}"),
        format!("≤ {LONGEST_TRANSACTION}"),
        longest <= LONGEST_TRANSACTION,
    );
    let ratio = second_run_spread(results, |second_run| second_run.backfill / second_run.scan);
    line(
        "backfill with nothing to do: time ÷ SELECT count(*)".to_owned(),
        with_range(ratio, 2),
        format!("≤ {SECOND_RUN}"),
        ratio.median <= SECOND_RUN,
    );
    let missed = reached.iter().filter(|&&reached| !reached).count();
    let rounds = match results.second_runs.len() {
        1 => "One round.".to_owned(),
        rounds => {
            format!("Median of {rounds} rounds (least – greatest), each ratio within one round.")
        }
    };
    format!(
        "{rounds}\n\n{}\n\n{}\n",
        table.join("\n"),
        verdict(missed, reached.len())
    )
}

fn ways(stand: &Stand, results: &Results) -> String {
    let rows = f64::from(stand.rows());
    let header = [
        "",
        "rows per second",
        "÷ one UPDATE",
        "seconds",
        "from started_at to finished_at",
        "longest transaction, seconds",
        "WAL, MB",
        "WAL, bytes per row",
    ];
    let mut table = vec![
        row(&header.map(str::to_owned)),
        "|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    for way in Way::ALL {
        let server = if way.workers().is_some() {
            // A backfill has them all.
            with_range(
                results.spread(way, |run| run.server_seconds.unwrap_or(f64::NAN)),
                2,
            )
        } else {
            "–".to_owned()
        };
        table.push(row(&[
            way.name().to_owned(),
            with_range(results.spread(way, |run| rows / run.seconds), 0),
            with_range(results.speed_ratio(way, Way::OneUpdate), 2),
            with_range(results.spread(way, |run| run.seconds), 2),
            server,
            with_range(results.spread(way, |run| run.longest_transaction), 3),
            with_range(results.spread(way, |run| run.wal_bytes / 1e6), 0),
            with_range(results.spread(way, |run| run.wal_bytes / rows), 0),
        ]));
    }
    table.join("\n") + "\n"
}

fn second_runs(results: &Results) -> String {
    [
        row(&["nothing to do", "seconds", "WAL, bytes"].map(str::to_owned)),
        "|---|---|---|".to_owned(),
        row(&[
            Way::OneWorker.name().to_owned(),
            with_range(
                second_run_spread(results, |second_run| second_run.backfill),
                2,
            ),
            with_range(
                second_run_spread(results, |second_run| second_run.wal_bytes),
                0,
            ),
        ]),
        row(&[
            "SELECT count(*) … WHERE loan_id IS DISTINCT FROM …".to_owned(),
            with_range(second_run_spread(results, |second_run| second_run.scan), 2),
            "–".to_owned(),
        ]),
    ]
    .join("\n")
        + "\n"
}

fn notes(stand: &Stand, environment: &Environment) -> String {
    let mut lines = vec![
        format!(
            "- Rows: {}, none with a loan_id before, every one checked after. Each way has a table made anew, vacuumed \
             and frozen, after a checkpoint; one UPDATE before all of it is not counted. --backfill-rows and --backfill-rounds measure more.",
            stand.rows()
        ),
        "- Seconds are the client's: from sending the statement to its answer, or until repl_backfills is seen to say \
         done."
            .to_owned(),
        format!(
            "- Longest transaction: of a backfill the greatest age of xact_start in pg_stat_activity, looked at every \
             {} ms, which takes some CPU time from the workers; of batches ({BATCH} keys, then COMMIT in PL/pgSQL) as \
             the procedure measures them; of an UPDATE its own duration.",
            INTERVAL.as_millis()
        ),
        format!(
            "- Nothing to do: on the table of the backfill with 1 worker, after VACUUM (FREEZE); median of {TIMES} of \
             each in turn, both warm, the query without parallel workers."
        ),
        format!("- Backfill: {}", stand.backfill_settings()),
    ];
    lines.extend(environment.lines().map(|line| format!("- {line}")));
    lines.join("\n") + "\n"
}

fn second_run_spread(results: &Results, value: impl Fn(&SecondRun) -> f64) -> Spread {
    Spread::of(results.second_runs.iter().map(value).collect())
}
