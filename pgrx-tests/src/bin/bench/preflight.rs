//! The section `preflight`: how long `repl_preflight()` looks at a thousand tables on both sides, against what a person would
//! compare, the schemas that pg_dump writes of both.

use std::process::Stdio;
use std::time::Instant;

use replwarden_tests::{Cluster, Pair, Provider, Publication};

use crate::environment::Environment;
use crate::report::{mark, row, verdict, with_range};
use crate::results::Spread;
use crate::stand::server_with_extension;

const TABLES: u32 = 1_000;
/// A tenth, to see what does not depend on the tables.
const FEW: u32 = 100;

const ROUNDS: u32 = 7;

/// Seconds.
const MOST: f64 = 2.0;

/// Of one round, in seconds.
struct Run {
    few: f64,
    before: f64,
    existing: f64,
    dumps: f64,
}

/// Measures, and returns the report.
pub(crate) fn run(load: f64) -> Result<String, String> {
    let server = server_with_extension()?;
    eprintln!(
        "starting a publisher and a subscriber with {TABLES} tables, {}",
        server.version()
    );
    let pair = Pair::builder(Provider::Native)
        .subscriber_setting("shared_preload_libraries", "replwarden")
        .start();
    pair.on_subscriber("create extension replwarden");
    for first in (1..=TABLES).step_by(FEW as usize) {
        let last = first + FEW - 1;
        pair.on_both(&format!(
            "do $$ begin for n in {first}..{last} loop execute format(
                 'create table t%s (id bigserial primary key, name text not null, at timestamptz unique)', n);
             end loop; end $$"
        ));
        if first == 1 {
            let tables: Vec<String> = (1..=FEW).map(|number| format!("t{number}")).collect();
            pair.on_publisher(&format!(
                "create publication few for table {}",
                tables.join(", ")
            ));
        }
    }
    pair.publish(
        &(1..=TABLES).fold(Publication::default(), |publication, number| {
            publication.table(&format!("t{number}"))
        }),
    );
    pair.subscribe_without_copy();
    pair.wait_copied();

    let runs: Vec<Run> = (0..=ROUNDS).map(|_| measure(&pair)).collect();
    // In the first, both servers fill their caches.
    let runs = &runs[1..];
    let environment = Environment::look(pair.subscriber(), Some(pair.publisher()), load)?;
    Ok(render(runs, &environment))
}

fn measure(pair: &Pair) -> Run {
    let conninfo = pair.publisher().conninfo(pair.database());
    let ask = |call: &str| {
        let mut session = pair.subscriber().connect(pair.database());
        let started = Instant::now();
        let rows = session
            .simple_query(&format!("select * from {call}"))
            .unwrap_or_else(|error| panic!("{call}: {error}"));
        assert!(!rows.is_empty(), "{call}");
        started.elapsed().as_secs_f64()
    };
    let run = Run {
        few: ask(&format!("repl_preflight('{conninfo}', '{{few}}')")),
        before: ask(&format!("repl_preflight('{conninfo}', '{{pub}}')")),
        existing: ask("repl_preflight('sub')"),
        dumps: dump(pair.publisher(), pair.database()) + dump(pair.subscriber(), pair.database()),
    };
    eprintln!(
        "  {FEW} tables {:.2} s, {TABLES} tables {:.2} s, as a subscription {:.2} s, two pg_dump -s {:.2} s",
        run.few, run.before, run.existing, run.dumps
    );
    run
}

fn dump(cluster: &Cluster, database: &str) -> f64 {
    let started = Instant::now();
    let status = cluster
        .server()
        .command("pg_dump")
        .args(["--schema-only", "-d", &cluster.conninfo(database)])
        .stdout(Stdio::null())
        .status();
    assert!(status.is_ok_and(|status| status.success()), "pg_dump");
    started.elapsed().as_secs_f64()
}

fn render(runs: &[Run], environment: &Environment) -> String {
    let spread = |value: fn(&Run) -> f64| Spread::of(runs.iter().map(value).collect());
    let mut missed = 0;
    let mut target = |what: &str, value: fn(&Run) -> f64| {
        let seconds = spread(value);
        let is_reached = seconds.median < MOST;
        missed += usize::from(!is_reached);
        row(&[
            what.to_owned(),
            with_range(seconds, 2),
            format!("< {MOST}"),
            mark(is_reached),
        ])
    };
    let mut lines = vec![
        row(&["seconds", "measured", "to reach", ""].map(str::to_owned)),
        "|---|---|---|---|".to_owned(),
        target(
            &format!("{TABLES} tables, before there is a subscription"),
            |run| run.before,
        ),
        target(&format!("{TABLES} tables of a subscription"), |run| {
            run.existing
        }),
    ];
    let verdict = verdict(missed, 2);
    for (what, value) in [
        (
            format!("{FEW} tables, before there is a subscription"),
            (|run: &Run| run.few) as fn(&Run) -> f64,
        ),
        ("pg_dump --schema-only of both sides".to_owned(), |run| {
            run.dumps
        }),
    ] {
        lines.push(row(&[
            what,
            with_range(spread(value), 2),
            String::new(),
            String::new(),
        ]));
    }
    let ratio = with_range(spread(|run| run.before / run.dumps), 2);
    let notes: Vec<String> = environment
        .lines()
        .map(|line| format!("- {line}"))
        .collect();
    format!(
        "Median of {ROUNDS} rounds (least – greatest). repl_preflight() of {TABLES} tables ÷ pg_dump --schema-only of both sides, which a person would compare: {ratio}.\n\n{}\n\n{verdict}\n\n{}\n",
        lines.join("\n"),
        notes.join("\n")
    )
}
