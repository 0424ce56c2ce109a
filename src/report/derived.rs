//! Derived columns, and the backfills that bring their rows up.

use super::facts::{Backfill, DerivedColumn, Report};
use super::format::{bar, counted, duration, name, percent, rows, shorten};
use super::grid::{Column, align};
use super::subscription::more;
use super::{SHOWN, WIDTH, wrap};

impl DerivedColumn {
    pub(crate) fn is_live(&self) -> bool {
        self.state == "live"
    }

    pub(crate) fn is_backfilling(&self) -> bool {
        self.state == "backfilling"
    }

    fn name(&self) -> String {
        format!("{}.{}", name(&self.relation), name(&self.column))
    }
}

/// How many there are in each state, and a line for each that is not as it should be.
pub(crate) fn columns(report: &Report) -> Vec<String> {
    if report.columns.is_empty() {
        return Vec::new();
    }
    let mut states: Vec<(&str, usize)> = Vec::new();
    for column in &report.columns {
        match states.iter_mut().find(|(state, _)| *state == column.state) {
            Some((_, number)) => *number += 1,
            None => states.push((&column.state, 1)),
        }
    }
    let states: Vec<String> = states
        .iter()
        .map(|(state, number)| format!("{number} {state}"))
        .collect();
    let mut lines = wrap::text("", 2, &format!("derived columns: {}", states.join(", ")));

    // Of one that is being brought up, the backfill says how far it is.
    let worth_a_line: Vec<&DerivedColumn> = report
        .columns
        .iter()
        .filter(|column| {
            let is_shown_below = column.is_backfilling()
                && column.last_error.is_none()
                && report
                    .backfills
                    .iter()
                    .any(|backfill| backfill.relation == column.relation);
            !column.is_live() && !is_shown_below
        })
        .collect();
    for column in worth_a_line.iter().take(SHOWN) {
        let mut head = format!("{}: {}", shorten(&column.name(), WIDTH / 2), column.state);
        if column.rows_failed > 0 {
            head.push_str(&format!(", {} NULL", counted(column.rows_failed, "row")));
        }
        if let Some(error) = &column.last_error {
            match column.last_error_at {
                Some(at) => {
                    head.push_str(&format!("; last error {} ago:", duration(report.now - at)));
                }
                None => head.push(':'),
            }
            lines.extend(wrap::text("  ", 4, &format!("{head} {error}")));
        } else {
            lines.extend(wrap::text("  ", 4, &head));
        }
    }
    if worth_a_line.len() > SHOWN {
        lines.extend(more(
            2,
            worth_a_line.len() - SHOWN,
            "SELECT * FROM repl_generated_columns WHERE state <> 'live';",
        ));
    }
    lines
}

/// A bar for each backfill that is not finished.
pub(crate) fn backfills(report: &Report) -> Vec<String> {
    const COLUMNS: [Column; 6] = [
        Column::Right,
        Column::Elastic,
        Column::Left,
        Column::Right,
        Column::Right,
        Column::Right,
    ];
    if report.backfills.is_empty() {
        return Vec::new();
    }
    let shown: Vec<&Backfill> = report.backfills.iter().take(SHOWN).collect();
    let cells: Vec<Vec<String>> = shown
        .iter()
        .map(|backfill| {
            let is_running = backfill.state == "running";
            let percents = backfill.percent.filter(|_| is_running);
            vec![
                backfill.id.to_string(),
                name(&backfill.relation),
                percents.map_or_else(|| name(&backfill.state), bar),
                percents.map(percent).unwrap_or_default(),
                backfill
                    .rows_per_second
                    .filter(|_| is_running)
                    .map(|rate| format!("{}/s", rows(rate as i64)))
                    .unwrap_or_default(),
                backfill
                    .eta
                    .map(|eta| format!("{} left", duration(eta)))
                    .unwrap_or_default(),
            ]
        })
        .collect();
    let mut lines = vec!["backfills:".to_owned()];
    for (backfill, line) in shown.iter().zip(align(2, &COLUMNS, &cells)) {
        lines.push(line);
        if let Some(error) = &backfill.error {
            lines.extend(wrap::text("    ", 4, error));
        }
    }
    if report.backfills.len() > SHOWN {
        lines.extend(more(
            2,
            report.backfills.len() - SHOWN,
            "SELECT * FROM repl_backfills WHERE state IN ('queued', 'running');",
        ));
    }
    lines
}
