//! Constraints and triggers here that the publisher's rows meet.

use super::facts::{ForeignKey, Index};
use super::{Both, Checked, Line, Node, Scene, Severity, counted, listed, pasteable, shown};
use crate::subscription::quote::identifier;
use std::collections::HashSet;

pub(super) fn unique(scene: &Scene, name: &'static str) -> Checked {
    let (mut lines, mut number) = (Vec::new(), 0);
    for both in scene.both() {
        for index in &both.here.indexes {
            if !index.is_unique && !index.is_exclusion {
                continue;
            }
            number += 1;
            if !index.is_immediate && !scene.is_native() {
                lines.push(deferrable(name, both, index));
            } else if !is_kept_there(both, index) {
                lines.push(stricter(name, both, index));
            }
        }
    }
    Checked {
        lines,
        fine: format!(
            "{} here: the publisher keeps each of them, too.",
            counted(number, "unique or exclusion constraint")
        ),
    }
}

/// A constraint of the publisher forbids all that this one forbids.
fn is_kept_there(both: Both, here: &Index) -> bool {
    both.there.indexes.iter().any(|there| {
        let is_same_kind = there.is_exclusion == here.is_exclusion && there.is_valid;
        let is_all_rows = there.predicate.is_none() || there.predicate == here.predicate;
        let is_subset = there.columns.iter().all(|one| here.columns.contains(one));
        let columns = if here.is_exclusion || here.expressions.is_some() {
            there.columns == here.columns && there.expressions == here.expressions
        } else {
            is_subset && there.expressions.is_none()
        };
        let nulls = !here.nulls_are_equal || there.nulls_are_equal || there.is_not_null;
        (there.is_unique || there.is_exclusion) && is_same_kind && is_all_rows && columns && nulls
    })
}

fn stricter(name: &'static str, both: Both, index: &Index) -> Line {
    let table = shown(&both.here.name);
    let what = if index.is_exclusion {
        "exclusion constraint"
    } else {
        "unique constraint or index"
    };
    let of = if index.columns.is_empty() {
        String::new()
    } else {
        format!(" ({})", listed(&index.columns))
    };
    let finding = format!(
        "The {what} {}{of} of {table} has no counterpart there: rows that are right there can stop the replication here.",
        shown(&index.name)
    );
    let schema = identifier(&both.here.schema_name);
    let sql = format!(
        "-- if it is not wanted: ALTER TABLE {} DROP CONSTRAINT {index}; or DROP INDEX {schema}.{index};",
        both.here.name,
        index = identifier(&index.name)
    );
    let line = Line::new(Severity::Warning, name, finding).on(&table);
    pasteable(
        line,
        Node::Subscriber,
        &sql,
        &[&both.here.name, &index.name],
    )
}

fn deferrable(name: &'static str, both: Both, index: &Index) -> Line {
    let table = shown(&both.here.name);
    let finding = format!(
        "{} of {table} is deferrable, which pglogical does not support: the first row that comes is an error.",
        shown(&index.name)
    );
    let kind = if index.is_primary {
        "PRIMARY KEY"
    } else {
        "UNIQUE"
    };
    let columns: Vec<String> = index.columns.iter().map(|one| identifier(one)).collect();
    let sql = format!(
        "ALTER TABLE {table} DROP CONSTRAINT {index}, ADD CONSTRAINT {index} {kind} ({});",
        columns.join(", "),
        table = both.here.name,
        index = identifier(&index.name),
    );
    let line = Line::new(Severity::Error, name, finding).on(&table);
    let mut names: Vec<&str> = index.columns.iter().map(String::as_str).collect();
    names.extend([both.here.name.as_str(), index.name.as_str()]);
    pasteable(line, Node::Subscriber, &sql, &names)
}

pub(super) fn triggers(scene: &Scene, name: &'static str) -> Checked {
    let mut lines = Vec::new();
    for trigger in &scene.here.triggers {
        let mut tables = scene.here.tables.iter();
        let Some(table) = tables.find(|table| table.oid == trigger.oid) else {
            continue;
        };
        let finding = format!(
            "Trigger {} of {} is {} here, and fires for replicated rows: if the publisher has fired it already, it does its work twice.",
            shown(&trigger.name),
            shown(&table.name),
            if trigger.is_always {
                "ENABLE ALWAYS"
            } else {
                "ENABLE REPLICA"
            },
        );
        let sql = format!(
            "ALTER TABLE {} ENABLE TRIGGER {};",
            table.name,
            identifier(&trigger.name)
        );
        let line = Line::new(Severity::Warning, name, finding).on(&shown(&table.name));
        lines.push(pasteable(
            line,
            Node::Subscriber,
            &sql,
            &[&table.name, &trigger.name],
        ));
    }
    Checked {
        lines,
        fine: format!(
            "No trigger of {} here fires for replicated rows, but those of replwarden and pglogical.",
            counted(scene.both().count(), "table")
        ),
    }
}

/// OIDs of the tables here that rows come for, with the partitioned tables above.
fn replicated(scene: &Scene) -> HashSet<u32> {
    scene.both().map(|both| both.here.oid).collect()
}

fn roots<'a>(scene: &'a Scene) -> HashSet<&'a str> {
    scene
        .both()
        .filter_map(|both| both.here.root.as_deref())
        .collect()
}

/// Keys whose other table is not published: nothing checks replicated rows against it.
pub(super) fn foreign_keys(scene: &Scene, name: &'static str) -> Checked {
    let (replicated, roots) = (replicated(scene), roots(scene));
    let outbound: Vec<&ForeignKey> = scene
        .here
        .keys
        .iter()
        .filter(|key| replicated.contains(&key.table))
        .collect();
    let lines = outbound
        .iter()
        .filter(|key| !replicated.contains(&key.other) && !roots.contains(key.other_name.as_str()))
        .map(|key| {
            let finding = format!(
                "{} of {} refers to {}, which is not published: replicated rows are not checked, and may refer to rows that never come.",
                shown(&key.name),
                shown(&key.table_name),
                shown(&key.other_name)
            );
            let sql = format!(
                "-- publish {}, or after the cut-over: ALTER TABLE {} DROP CONSTRAINT {};",
                key.other_name,
                key.table_name,
                identifier(&key.name)
            );
            let line = Line::new(Severity::Warning, name, finding).on(&shown(&key.table_name));
            let names = [key.other_name.as_str(), &key.table_name, &key.name];
            pasteable(line, Node::Subscriber, &sql, &names)
        });
    Checked {
        lines: lines.collect(),
        fine: format!(
            "{} of published tables: the tables that they refer to are published, too.",
            counted(outbound.len(), "foreign key")
        ),
    }
}

/// Keys that refer to published tables: no TRUNCATE of one of these alone.
pub(super) fn inbound_foreign_keys(scene: &Scene, name: &'static str) -> Checked {
    let replicated = replicated(scene);
    let mut lines = Vec::new();
    let inbound: Vec<&ForeignKey> = scene
        .here
        .keys
        .iter()
        .filter(|key| replicated.contains(&key.other) && key.table != key.other)
        .collect();
    let truncated: HashSet<&str> = scene
        .both()
        .filter(|both| scene.published(both.there).iter().any(|one| one.truncates))
        .map(|both| both.here.name.as_str())
        .collect();
    let roots = roots(scene);
    // A TRUNCATE there takes the tables that refer with it, which here are not among those that are truncated.
    for key in &inbound {
        let is_alone = !replicated.contains(&key.table) && !roots.contains(key.table_name.as_str());
        if is_alone && truncated.contains(key.other_name.as_str()) {
            let finding = format!(
                "{} of {}, which is not published, refers to {}: a TRUNCATE that is replicated fails here.",
                shown(&key.name),
                shown(&key.table_name),
                shown(&key.other_name)
            );
            let sql = format!(
                "SELECT {}({});",
                scene.function("repl_detach_foreign_keys"),
                crate::subscription::quote::literal(&key.other_name)
            );
            let line = Line::new(Severity::Warning, name, finding).on(&shown(&key.other_name));
            lines.push(pasteable(line, Node::Subscriber, &sql, &[&key.other_name]));
        }
    }
    if lines.is_empty() && !inbound.is_empty() {
        let tables: HashSet<&str> = inbound.iter().map(|key| key.other_name.as_str()).collect();
        let finding = format!(
            "{} to {} here: to copy one of these again takes a TRUNCATE, which they stop.",
            counted(inbound.len(), "foreign key"),
            counted(tables.len(), "published table"),
        );
        let remedy = format!(
            "-- before such a TRUNCATE: SELECT {}('...'); repl_resync_table() does so itself",
            scene.function("repl_detach_foreign_keys")
        );
        lines.push(Line::new(Severity::Info, name, finding).remedy(Node::Subscriber, &remedy));
    }
    Checked {
        lines,
        fine: "No foreign key refers to a published table here.".to_owned(),
    }
}
