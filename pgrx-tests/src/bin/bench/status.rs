//! The section `status`: how long the views and the report of the status take to answer, against the queries of the
//! catalogs that read the same rows, as a subscription grows to ten thousand tables.

mod report;
pub(crate) mod stand;
mod subject;

use std::collections::BTreeMap;
use std::time::Instant;

use postgres::{Client, SimpleQueryMessage};

use crate::arguments::Arguments;
use crate::environment::Environment;
use crate::results::Spread;
use crate::stand::reason;
use stand::{Stage, Stand};
use subject::Subject;

/// Rounds that are not counted: in the first the session fills its caches.
const WARM_UP: u32 = 3;

/// In seconds, both of the same round.
struct Run {
    ours: f64,
    plain: f64,
}

/// One value a round.
#[derive(Default)]
struct Results {
    runs: BTreeMap<(Stage, Subject), Vec<Run>>,
    /// How many rows each returns, ours and the plain one.
    rows: BTreeMap<(Stage, Subject), (usize, usize)>,
}

impl Results {
    fn spread(&self, stage: Stage, subject: Subject, value: impl Fn(&Run) -> f64) -> Spread {
        Spread::of(self.runs[&(stage, subject)].iter().map(value).collect())
    }
}

/// Measures all rounds and returns the report.
pub(crate) fn run(arguments: &Arguments, load: f64) -> Result<String, String> {
    let largest = arguments.status_tables;
    let mut stand = Stand::build(largest)?;
    let mut results = Results::default();
    let mut stages = [largest / 100, largest / 10, largest, largest].map(|tables| Stage {
        tables,
        is_copied: true,
    });
    stages[3].is_copied = false;
    for stage in stages {
        stand.advance(stage);
        let mut session = stand.session()?;
        session
            .batch_execute(subject::PREPARATION)
            .map_err(reason)?;
        for round in 0..WARM_UP + arguments.status_rounds {
            measure(&mut session, &stand, round, &mut results)?;
        }
        for subject in Subject::ALL {
            show(&results, stage, subject);
        }
    }
    let environment = Environment::look(stand.cluster(), None, load)?;
    Ok(report::render(&stand, stages, &results, &environment))
}

/// One round: each of ours and its plain query, one right after the other.
fn measure(
    session: &mut Client,
    stand: &Stand,
    round: u32,
    results: &mut Results,
) -> Result<(), String> {
    for subject in Subject::ALL {
        let ours = [subject.statement().to_owned()];
        let plain = subject.plain(stand.major());
        // Neither always finds what the other has left in the processor's caches.
        let (ours, plain) = if round.is_multiple_of(2) {
            let ours = time(session, &ours)?;
            (ours, time(session, &plain)?)
        } else {
            let plain = time(session, &plain)?;
            (time(session, &ours)?, plain)
        };
        let key = (stand.stage(), subject);
        if subject.returns_the_same_rows() && ours.1 != plain.1 {
            return Err(format!(
                "{} returns {} rows, and the query that it is measured against {}",
                subject.name(),
                ours.1,
                plain.1
            ));
        }
        if round >= WARM_UP {
            results.rows.insert(key, (ours.1, plain.1));
            results.runs.entry(key).or_default().push(Run {
                ours: ours.0,
                plain: plain.0,
            });
        }
    }
    Ok(())
}

/// Seconds until the client has all rows of the statements, and how many they are.
fn time(session: &mut Client, statements: &[String]) -> Result<(f64, usize), String> {
    let (mut seconds, mut rows) = (0.0, 0);
    for statement in statements {
        let started = Instant::now();
        let answer = session.simple_query(statement).map_err(reason)?;
        seconds += started.elapsed().as_secs_f64();
        rows += answer
            .iter()
            .filter(|message| matches!(message, SimpleQueryMessage::Row(_)))
            .count();
    }
    Ok((seconds, rows))
}

fn show(results: &Results, stage: Stage, subject: Subject) {
    let milliseconds = |value: fn(&Run) -> f64| {
        let spread = results.spread(stage, subject, value);
        spread.median * 1e3
    };
    let (ours, plain) = (milliseconds(|run| run.ours), milliseconds(|run| run.plain));
    eprintln!(
        "  {:<24} {:<21} {ours:8.2} ms, plain {plain:8.2} ms",
        stage.name(),
        subject.name()
    );
}
