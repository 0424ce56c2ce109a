//! Tables that are not ready: bars for those that are being copied, a list of the others.

use super::facts::{Report, Table};
use super::format::{
    bar, bytes, bytes_per_second, counted, duration, name, percent, rows, shorten,
};
use super::grid::{Column, align};
use super::subscription::{label, more};
use super::{SHOWN, wrap};
use crate::subscription::quote::literal;

/// Of a table in a list of several.
const LONGEST_NAME: usize = 42;

impl Table {
    /// A worker is at it and says how far it is.
    pub(crate) fn is_being_copied(&self) -> bool {
        self.worker_pid.is_some()
            && (self.percent.is_some() || self.rows_copied.is_some() || self.bytes_copied.is_some())
    }

    /// Somebody should look at it: it does not become ready by itself.
    pub(crate) fn is_in_trouble(&self) -> bool {
        // Of an attempt before, where one runs.
        self.last_error.is_some() && !self.is_being_copied()
            || matches!(
                self.state.as_str(),
                "copy interrupted" | "missing" | "not subscribed"
            )
    }
}

/// A line for each running copy.
pub(crate) fn bars(tables: &[&Table]) -> Vec<String> {
    const COLUMNS: [Column; 6] = [
        Column::Elastic,
        Column::Left,
        Column::Right,
        Column::Right,
        Column::Right,
        Column::Right,
    ];
    let cells: Vec<Vec<String>> = tables
        .iter()
        .map(|table| {
            vec![
                name(&table.name),
                table.percent.map(bar).unwrap_or_default(),
                table.percent.map(percent).unwrap_or_default(),
                amount(table),
                table
                    .bytes_per_second
                    .map(bytes_per_second)
                    .unwrap_or_default(),
                table
                    .eta
                    .map(|eta| format!("{} left", duration(eta)))
                    .unwrap_or_default(),
            ]
        })
        .collect();
    align(2, &COLUMNS, &cells)
}

/// What is there already. Rows say more than bytes.
fn amount(table: &Table) -> String {
    match (table.rows_copied, table.bytes_copied, table.bytes_total) {
        (Some(number), _, _) => rows(number),
        (None, Some(copied), Some(total)) => format!("{} of {}", bytes(copied), bytes(total)),
        (None, Some(copied), None) => bytes(copied),
        (None, None, _) => String::new(),
    }
}

/// Those that are not being copied: first a line for each that is in trouble, then the others by subscription and state.
/// `copies_shown` are in the report already.
pub(crate) fn not_ready(report: &Report, copies_shown: usize) -> Vec<String> {
    let total = usize::try_from(report.tables_not_ready).unwrap_or(0);
    let (mut in_trouble, mut waiting): (Vec<&Table>, Vec<&Table>) = report
        .tables
        .iter()
        .filter(|table| !table.is_being_copied())
        .partition(|table| table.is_in_trouble());
    if in_trouble.is_empty() && waiting.is_empty() && total <= copies_shown {
        return Vec::new();
    }
    in_trouble.truncate(SHOWN);
    waiting.truncate(SHOWN - in_trouble.len());

    let mut heading = format!("{} not ready", counted(report.tables_not_ready, "table"));
    if copies_shown > 0 {
        heading.push_str(&format!(", {copies_shown} of them above"));
    }
    let mut lines = vec![heading + ":"];
    for (table, line) in in_trouble.iter().zip(listed(report, &in_trouble)) {
        lines.push(line);
        if let Some(error) = &table.last_error {
            lines.extend(wrap::text("    ", 4, error));
        }
    }
    lines.extend(grouped(report, &waiting));
    let left_out = total.saturating_sub(copies_shown + in_trouble.len() + waiting.len());
    if left_out > 0 {
        lines.extend(more(2, left_out, &query(report)));
    }
    lines
}

fn listed(report: &Report, tables: &[&Table]) -> Vec<String> {
    let cells: Vec<Vec<String>> = tables
        .iter()
        .map(|table| vec![whose(report, table), name(&table.name), name(&table.state)])
        .collect();
    align(2, &[Column::Elastic, Column::Elastic, Column::Left], &cells)
}

/// "orders, initialize: public.a, public.b"
fn grouped(report: &Report, tables: &[&Table]) -> Vec<String> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for table in tables {
        let state = name(&table.state);
        let heading = match whose(report, table) {
            whose if whose.is_empty() => state,
            whose => format!("{whose}, {state}"),
        };
        let table = shorten(&name(&table.name), LONGEST_NAME);
        match groups.iter_mut().find(|(other, _)| *other == heading) {
            Some((_, names)) => names.push(table),
            None => groups.push((heading, vec![table])),
        }
    }
    groups
        .iter()
        .flat_map(|(heading, names)| {
            wrap::text("  ", 4, &format!("{heading}: {}", names.join(", ")))
        })
        .collect()
}

/// The subscription, where there are several.
fn whose(report: &Report, table: &Table) -> String {
    if report.subscriptions.len() > 1 {
        label(report, &table.provider, &table.subscription)
    } else {
        String::new()
    }
}

fn query(report: &Report) -> String {
    let condition = match &report.only {
        Some(only) => format!(" AND subscription = {}", literal(only)),
        None => String::new(),
    };
    format!("SELECT * FROM repl_tables WHERE state <> 'ready'{condition};")
}

/// A heading's worth of a long list: "a, b, c and 7 more".
pub(crate) fn enumerated(names: &[String]) -> String {
    const NAMED: usize = 3;
    const ROOM: usize = 66;
    let named: Vec<String> = names
        .iter()
        .take(NAMED)
        .map(|one| shorten(one, ROOM / names.len().clamp(1, NAMED)))
        .collect();
    let (last, others) = match named.split_last() {
        None => return String::new(),
        Some(parts) => parts,
    };
    if names.len() > NAMED {
        format!("{} and {} more", named.join(", "), names.len() - NAMED)
    } else if others.is_empty() {
        last.clone()
    } else {
        format!("{} and {last}", others.join(", "))
    }
}
