//! Foreign keys that are detached, or not valid yet.

use super::facts::{DetachedKey, Report};
use super::format::{counted, name};
use super::table::enumerated;
use super::{SHOWN, wrap};
use crate::subscription::quote::literal;

impl DetachedKey {
    /// It comes back by itself.
    pub(crate) fn is_under_way(&self) -> bool {
        matches!(self.state.as_str(), "waiting" | "validating")
    }

    /// Everything that it could wait for is copied, or it was tried.
    pub(crate) fn is_due(&self, report: &Report) -> bool {
        let has_copied = report
            .subscriptions
            .iter()
            .all(|one| one.tables_ready >= one.tables_total);
        !self.is_under_way() && (has_copied || self.problem.is_some())
    }

    /// SQL that brings it back.
    pub(crate) fn remedy(&self) -> String {
        format!(
            "SELECT repl_restore_foreign_keys({});",
            literal(&self.relation)
        )
    }
}

/// A line for each, and what is the matter with it.
pub(crate) fn lines(report: &Report) -> Vec<String> {
    let keys = &report.detached_keys;
    if keys.is_empty() {
        return Vec::new();
    }
    let number = i64::try_from(keys.len()).unwrap_or(i64::MAX);
    let verb = if number == 1 { "is" } else { "are" };
    let mut lines = vec![format!(
        "{} {verb} detached or not valid:",
        counted(number, "foreign key")
    )];
    for key in keys.iter().take(SHOWN) {
        let state = match key.awaits.as_deref() {
            Some(table) => format!("comes back when {} is copied", name(table)),
            None => key.state.clone(),
        };
        let text = format!("{}, {}: {state}", name(&key.relation), name(&key.name));
        lines.extend(wrap::text("  ", 4, &text));
        if let Some(problem) = &key.problem {
            lines.extend(wrap::text("    ", 4, &name(problem)));
        }
    }
    if keys.len() > SHOWN {
        let more = format!(
            "... and {} more: SELECT * FROM repl_detached_foreign_keys;",
            keys.len() - SHOWN
        );
        lines.extend(wrap::text("  ", 4, &more));
    }
    lines
}

/// What to do for those for which it is time: once for each table.
pub(crate) fn remedies(report: &Report) -> Vec<(String, String)> {
    let mut found: Vec<(String, Vec<String>, String)> = Vec::new();
    for key in report.detached_keys.iter().filter(|one| one.is_due(report)) {
        match found
            .iter_mut()
            .find(|(table, _, _)| *table == key.relation)
        {
            Some((_, names, _)) => names.push(name(&key.name)),
            None => found.push((key.relation.clone(), vec![name(&key.name)], key.remedy())),
        }
    }
    found
        .into_iter()
        .map(|(table, names, remedy)| {
            (
                format!("{} of {}", enumerated(&names), name(&table)),
                remedy,
            )
        })
        .collect()
}
