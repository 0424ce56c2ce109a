//! The report of the section: targets first, then how time grows with the tables, then what was compared.

use super::Results;
use super::stand::{FEW, STATES, SUBSCRIPTIONS, Stage, Stand};
use super::subject::Subject;
use crate::environment::Environment;
use crate::report::{mark, row, verdict, with_range};

/// Time of ours against that of the plain query.
const TARGET: f64 = 3.0;

pub(super) fn render(
    stand: &Stand,
    stages: [Stage; 4],
    results: &Results,
    environment: &Environment,
) -> String {
    format!(
        "{}\n{}\n{}\n{}",
        targets(stages[2], results),
        growth(stages, results),
        queries(stand),
        notes(stages[2], results, environment)
    )
}

fn targets(stage: Stage, results: &Results) -> String {
    let header = [
        "",
        "milliseconds",
        "plain query, milliseconds",
        "÷ plain",
        "to reach",
        "",
    ];
    let mut table = vec![
        row(&header.map(str::to_owned)),
        "|---|---|---|---|---|---|".to_owned(),
    ];
    let mut missed = 0;
    let targets = Subject::ALL.iter().filter(|one| one.has_target()).count();
    for subject in Subject::ALL {
        let ratio = results.spread(stage, subject, |run| run.ours / run.plain);
        let is_reached = ratio.median <= TARGET;
        let (target, reached) = if subject.has_target() {
            missed += usize::from(!is_reached);
            (format!("≤ {TARGET}"), mark(is_reached))
        } else {
            (String::new(), String::new())
        };
        table.push(row(&[
            subject.name().to_owned(),
            with_range(results.spread(stage, subject, |run| run.ours * 1e3), 2),
            with_range(results.spread(stage, subject, |run| run.plain * 1e3), 2),
            with_range(ratio, 2),
            target,
            reached,
        ]));
    }
    format!(
        "{} in one subscription, {SUBSCRIPTIONS} subscriptions in all. Median of {} rounds (least – greatest), \
         each ratio within one round.\n\n{}\n\n{}\n",
        stage.name(),
        rounds(results),
        table.join("\n"),
        verdict(missed, targets)
    )
}

/// Milliseconds, and microseconds for each table, of the median round.
fn growth(stages: [Stage; 4], results: &Results) -> String {
    let mut header = vec!["milliseconds (microseconds per table)".to_owned()];
    header.extend(stages.map(Stage::name));
    header.push("÷ plain".to_owned());
    let mut table = vec![row(&header), "|---|---|---|---|---|---|".to_owned()];
    for subject in Subject::ALL {
        let mut cells = vec![subject.name().to_owned()];
        cells.extend(stages.map(|stage| {
            let milliseconds = results.spread(stage, subject, |run| run.ours * 1e3).median;
            format!(
                "{milliseconds:.2} ({:.1})",
                milliseconds * 1e3 / f64::from(stage.tables)
            )
        }));
        let ratios = stages.map(|stage| {
            let ratio = results.spread(stage, subject, |run| run.ours / run.plain);
            format!("{:.2}", ratio.median)
        });
        cells.push(ratios.join(", "));
        table.push(row(&cells));
    }
    table.join("\n") + "\n"
}

/// The plain queries themselves: whether they are fair is for the reader to say.
fn queries(stand: &Stand) -> String {
    let one = |subject: Subject| subject.plain(stand.major()).join(";\n");
    format!(
        "The plain query of repl_subscriptions:\n\n```sql\n{}\n```\n\nof repl_tables:\n\n```sql\n{}\n```\n\n\
         the codes only, without the names, workers and copies that repl_tables shows:\n\n```sql\n{}\n```\n\n\
         of repl_workers:\n\n```sql\n{}\n```\n\n\
         of repl_status() those of repl_subscriptions and of the codes, the latter with `r.srsubstate <> 'r'`; of \
         repl_snapshot() that of repl_workers as well: the times are added. repl_sync_states is compared with a table of the same \
         rows.\n",
        one(Subject::Subscriptions),
        one(Subject::Tables),
        one(Subject::TableCodes),
        one(Subject::Workers),
    )
}

fn notes(stage: Stage, results: &Results, environment: &Environment) -> String {
    let rows: Vec<String> = Subject::ALL
        .iter()
        .map(|&subject| {
            let (ours, plain) = results.rows[&(stage, subject)];
            let plain = if ours == plain {
                String::new()
            } else {
                format!(" (plain {plain})")
            };
            format!("{} {ours}{plain}", subject.name())
        })
        .collect();
    let mut lines = vec![
        format!(
            "- The server is publisher and subscriber at once, replwarden preloaded and asking the publisher. {} subscriptions \
             of {FEW} tables stream, the large one is disabled, {} of its tables are in other states than ready.",
            SUBSCRIPTIONS - 1,
            STATES.len()
        ),
        "- Milliseconds are the client's, until it has all rows; one session, each of ours right after or right before its \
         plain query."
            .to_owned(),
        format!("- Rows with {}: {}.", stage.name(), rows.join(", ")),
    ];
    lines.extend(environment.lines().map(|line| format!("- {line}")));
    lines.join("\n") + "\n"
}

fn rounds(results: &Results) -> usize {
    results.runs.values().map(Vec::len).min().unwrap_or(0)
}
