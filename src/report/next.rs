//! What to do next: SQL that can be pasted as it stands, with comments that say what it is for.

use super::facts::Report;
use super::format::name;
use super::subscription::label;
use super::table::enumerated;
use super::{SHOWN, foreign_key, wrap};
use crate::subscription::quote::literal;

/// One thing to do, and for what.
struct Step {
    what_for: Vec<String>,
    when: &'static str,
    sql: String,
}

/// Nothing where no remedy is known.
pub(crate) fn steps(report: &Report) -> Vec<String> {
    let steps = collect(report);
    if steps.is_empty() {
        return Vec::new();
    }
    let mut lines = vec!["Next:".to_owned()];
    for step in steps.iter().take(SHOWN) {
        let what_for = format!("-- {}{}:", enumerated(&step.what_for), step.when);
        lines.extend(wrap::sql(2, &what_for));
        lines.extend(wrap::sql(2, &step.sql));
    }
    if steps.len() > SHOWN {
        let query = "SELECT subscription, remedy FROM repl_subscriptions WHERE remedy IS NOT NULL";
        lines.push(format!("  -- ... and {} more:", steps.len() - SHOWN));
        lines.extend(wrap::sql(2, &format!("{query};")));
    }
    lines
}

fn collect(report: &Report) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    // What helps several is said once.
    let mut add =
        |what_for: String, when, sql: String| match steps.iter_mut().find(|step| step.sql == sql) {
            Some(step) => {
                if !step.what_for.contains(&what_for) {
                    step.what_for.push(what_for);
                }
            }
            None => steps.push(Step {
                what_for: vec![what_for],
                when,
                sql,
            }),
        };
    for one in &report.subscriptions {
        for remedy in one.remedy.iter().chain(&one.precautions) {
            let what_for = label(report, &one.provider, &one.subscription);
            add(what_for, "", remedy.trim().to_owned());
        }
    }
    for (what_for, remedy) in foreign_key::remedies(report) {
        add(what_for, "", remedy);
    }
    for column in report.columns.iter().filter(|one| one.state == "failing") {
        add(
            name(&column.relation),
            ", when its expression no longer fails",
            format!("SELECT repl_backfill({});", literal(&column.relation)),
        );
    }
    steps
}
