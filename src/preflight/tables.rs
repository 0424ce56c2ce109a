//! What is published, and whether it fits what is here.

mod column;
mod column_type;
mod constraint;
mod copy;
mod facts;
mod generated;
mod identity;
mod missing;
mod published;
mod sequence;
#[cfg(test)]
mod tests;

use super::Plan;
use super::line::{Line, Node, Severity};
use crate::error::Error;
use crate::pg::spi;
use crate::subscription::hazard::Hazard;
use crate::subscription::publisher::Inquiry;
use crate::subscription::quote::identifier;
use crate::watch::sequences_behind;
use facts::{Column, Here, Published, Table, There};
use std::collections::{HashMap, HashSet};

/// So many lines of a check are given. The rest comes up when these are mended.
const NAMED: usize = 20;

/// What a check looks at.
struct Scene<'a> {
    plan: &'a Plan,
    /// The publisher's `server_version_num`
    version: i32,
    there: There,
    here: Here,
    /// Of this extension.
    schema: String,
    /// Tables here whose copy is to come, and that have rows.
    filled: HashSet<u32>,
    /// Sequences that are behind their columns.
    behind: Vec<Hazard>,
    by_oid: HashMap<u32, Vec<Published>>,
    /// Place in `here.tables`, by schema and name.
    by_name: HashMap<(String, String), usize>,
    states: HashMap<u32, String>,
    rules: HashSet<(u32, String)>,
}

/// What a check has found: nothing but `fine`, if there are no lines.
struct Checked {
    lines: Vec<Line>,
    fine: String,
}

/// A table of the publisher, and what is under its name here.
#[derive(Clone, Copy)]
struct Both<'a> {
    there: &'a Table,
    here: &'a Table,
}

type Check = (&'static str, fn(&Scene, &'static str) -> Checked);

/// In the order in which they have to be dealt with.
const CHECKS: [Check; 30] = [
    ("published_tables", published::tables),
    ("schemas", missing::schemas),
    ("types", missing::types),
    ("tables", missing::tables),
    ("columns", column::columns),
    ("column_types", column::types),
    ("not_null", column::not_null),
    ("collations", column::collations),
    ("generated_columns", generated::columns),
    ("replica_identity", identity::of_publisher),
    ("silent_loss", identity::silent_loss),
    ("identity_index", identity::index),
    ("unique_constraints", constraint::unique),
    ("triggers", constraint::triggers),
    ("foreign_keys", constraint::foreign_keys),
    ("inbound_foreign_keys", constraint::inbound_foreign_keys),
    ("table_rights", copy::rights_here),
    ("row_security", copy::row_security),
    ("copy_rights", copy::rights_there),
    ("target_rows", copy::target_rows),
    ("secondary_indexes", copy::secondary_indexes),
    ("unpublished_tables", published::others),
    ("not_replicated", published::unreplicated),
    ("large_objects", published::large_objects),
    ("row_filters", published::row_filters),
    ("column_lists", published::column_lists),
    ("partitions", published::partitions),
    ("sequences", sequence::missing),
    ("sequence_limits", sequence::limits),
    ("sequences_behind", sequence::behind),
];

/// `version`: the publisher's `server_version_num`.
pub(super) fn lines(
    plan: &Plan,
    publisher: &mut Inquiry,
    version: i32,
) -> Result<Vec<Line>, Error> {
    let there = match facts::ask(plan, publisher) {
        Ok(there) => there,
        Err(unheard) => {
            let why = format!(
                "the publisher does not tell what it publishes: {}.",
                unheard.message.trim_end_matches('.')
            );
            return Ok(vec![Line::not_checked("published_tables", &why)]);
        }
    };
    let here = facts::look(plan, &there)?;
    let (schema, _) = spi::extension()?;
    let mut scene = Scene::new(plan, version, there, here, schema);
    scene.filled = facts::with_rows(&copy::to_look_into(&scene))?;
    if let Some(subscription) = &plan.subscription {
        scene.behind = sequences_behind(subscription)?;
    }
    Ok(run(&scene))
}

fn run(scene: &Scene) -> Vec<Line> {
    let checks = CHECKS.iter();
    checks
        .flat_map(|(name, check)| {
            let checked = check(scene, name);
            if checked.lines.is_empty() {
                vec![Line::ok(name, checked.fine)]
            } else {
                fold(checked.lines)
            }
        })
        .collect()
}

/// The worst of them, as many as can be read.
fn fold(mut lines: Vec<Line>) -> Vec<Line> {
    lines.sort_by_key(|line| line.severity);
    if lines.len() <= NAMED + 1 {
        return lines;
    }
    let left_out = lines.split_off(NAMED);
    let (severity, check_name) = (left_out[0].severity, left_out[0].check_name);
    lines.push(Line::new(
        severity,
        check_name,
        format!(
            "{} more of this kind; they are named when those that are named are mended.",
            left_out.len()
        ),
    ));
    lines
}

impl<'a> Scene<'a> {
    fn new(plan: &'a Plan, version: i32, there: There, here: Here, schema: String) -> Self {
        let mut by_oid: HashMap<u32, Vec<Published>> = HashMap::new();
        for one in &there.published {
            by_oid.entry(one.oid).or_default().push(one.clone());
        }
        let by_name = here.tables.iter().enumerate();
        let by_name = by_name
            .map(|(place, table)| (table.pair(), place))
            .collect();
        Self {
            plan,
            version,
            schema,
            filled: HashSet::new(),
            behind: Vec::new(),
            by_oid,
            by_name,
            states: here.states.iter().cloned().collect(),
            rules: here.rules.iter().cloned().collect(),
            there,
            here,
        }
    }

    fn is_native(&self) -> bool {
        self.plan.provider == "native"
    }

    fn here(&self, table: &Table) -> Option<&Table> {
        let place = self.by_name.get(&table.pair())?;
        self.here.tables.get(*place)
    }

    /// Tables that are on both sides and can be written to.
    fn both(&self) -> impl Iterator<Item = Both<'_>> {
        self.there.tables.iter().filter_map(|there| {
            let here = self.here(there)?;
            ["r", "p"]
                .contains(&here.kind.as_str())
                .then_some(Both { there, here })
        })
    }

    fn published(&self, table: &Table) -> &[Published] {
        self.by_oid.get(&table.oid).map_or(&[], Vec::as_slice)
    }

    /// Whether the publisher sends a column that it has.
    fn is_sent(&self, table: &Table, column: &Column) -> bool {
        let is_listed = self.published(table).iter().any(|one| {
            let columns = one.columns.as_ref();
            columns.is_none_or(|columns| columns.contains(&column.name))
        });
        // Up to 17 generated columns are never sent, though the view may have them; pglogical sends what it is told to.
        let is_kept = self.is_native() && column.is_generated() && self.version < 180_000;
        is_listed && !is_kept
    }

    fn sent<'t>(&self, table: &'t Table) -> Vec<&'t Column> {
        let columns = table.columns.iter();
        columns.filter(|one| self.is_sent(table, one)).collect()
    }

    /// The rows that are there now will be copied.
    fn is_copy_ahead(&self, here: &Table) -> bool {
        match (&self.plan.subscription, self.states.get(&here.oid)) {
            (None, _) => true,
            (Some(_), Some(state)) => ["i", "d"].contains(&state.as_str()),
            // REFRESH PUBLICATION will have it copied.
            (Some(_), None) => self.is_native(),
        }
    }

    fn has_rule(&self, table: &Table, column: &str) -> bool {
        self.rules.contains(&(table.oid, column.to_owned()))
    }

    /// Of this extension, to be called from anywhere.
    fn function(&self, name: &str) -> String {
        if self.schema == "public" {
            name.to_owned()
        } else {
            format!("{}.{name}", identifier(&self.schema))
        }
    }
}

/// SQL in which every name can be pasted, or a word on why there is none.
fn pasteable(line: Line, node: Node, sql: &str, names: &[&str]) -> Line {
    if names.iter().all(|name| is_plain(name)) {
        line.remedy(node, sql)
    } else {
        line.remedy(node, crate::watch::RENAME)
    }
}

/// Names with control characters could become something else in a comment or on a terminal.
fn is_plain(name: &str) -> bool {
    !name.contains(char::is_control)
}

/// For a sentence.
fn shown(name: &str) -> String {
    name.chars()
        .map(|one| if one.is_control() { '?' } else { one })
        .collect()
}

/// As in a sentence: `a`, `a and b`, `a, b and 3 more`.
fn listed<S: AsRef<str>>(names: &[S]) -> String {
    let names: Vec<String> = names.iter().map(|one| one.as_ref().to_owned()).collect();
    crate::watch::listed(&names)
}

/// `1 table`, `2 tables`
fn counted(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
