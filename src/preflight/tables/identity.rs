//! How a changed row is found: what the publisher sends of the old one, and what it is looked up by here.

use super::facts::Table;
use super::{Both, Checked, Line, Node, Scene, Severity, counted, listed, pasteable, shown};
use crate::subscription::quote::identifier;
use crate::subscription::unit::bytes;
use crate::watch::{KeylessTable, loss_of};

/// From this size on, reading a whole table for each row is told, in bytes.
const LARGE: i64 = 10 << 20;

pub(super) fn of_publisher(scene: &Scene, name: &'static str) -> Checked {
    let (mut lines, mut number) = (Vec::new(), 0);
    for table in &scene.there.tables {
        let changes = changes(scene, table);
        if changes.is_empty() {
            continue;
        }
        number += 1;
        lines.extend(without_identity(scene, name, table, &changes));
        if table.replica_identity == "f" {
            lines.push(full(scene, name, table));
        }
    }
    Checked {
        lines,
        fine: format!(
            "{} whose UPDATE or DELETE is published: with a replica identity.",
            counted(number, "table")
        ),
    }
}

/// What is published of a table beside INSERT.
fn changes(scene: &Scene, table: &Table) -> Vec<&'static str> {
    let published = scene.published(table);
    let mut changes = Vec::new();
    if published.iter().any(|one| one.updates) {
        changes.push("UPDATE");
    }
    if published.iter().any(|one| one.deletes) {
        changes.push("DELETE");
    }
    changes
}

fn without_identity(
    scene: &Scene,
    name: &'static str,
    table: &Table,
    changes: &[&str],
) -> Option<Line> {
    let verb = if changes.len() == 1 { "fails" } else { "fail" };
    let changes = changes.join(" and ");
    if table.is_partitioned() {
        return partitions_without_identity(name, table, &changes, verb);
    }
    if table.identity().is_some() {
        return None;
    }
    let finding = if scene.is_native() {
        format!(
            "{} has neither primary key nor replica identity there: {changes} {verb} on the publisher, for those who write to it.",
            shown(&table.name)
        )
    } else {
        format!(
            "{} has no primary key there: {changes} cannot be replicated.",
            shown(&table.name)
        )
    };
    let mut indexes = table.indexes.iter();
    let usable = indexes.find(|one| one.can_be_identity() && !one.is_primary);
    let line = Line::new(Severity::Error, name, finding).on(&shown(&table.name));
    Some(match (table.primary_key(), usable) {
        (Some(_), _) => {
            let sql = format!("ALTER TABLE {} REPLICA IDENTITY DEFAULT;", table.name);
            pasteable(line, Node::Publisher, &sql, &[&table.name])
        }
        (None, Some(index)) => {
            let sql = format!(
                "ALTER TABLE {} REPLICA IDENTITY USING INDEX {};",
                table.name,
                identifier(&index.name)
            );
            pasteable(line, Node::Publisher, &sql, &[&table.name, &index.name])
        }
        (None, None) if scene.is_native() => {
            let sql = format!(
                "-- better: ALTER TABLE {table} ADD PRIMARY KEY (...);\n\
                 ALTER TABLE {table} REPLICA IDENTITY FULL;",
                table = table.name
            );
            pasteable(line, Node::Publisher, &sql, &[&table.name])
        }
        (None, None) => {
            let sql = format!("-- ALTER TABLE {} ADD PRIMARY KEY (...);", table.name);
            pasteable(line, Node::Publisher, &sql, &[&table.name])
        }
    })
}

/// What is sent as a change of the table needs the identity of the table, and is written with that of the partition.
fn partitions_without_identity(
    name: &'static str,
    table: &Table,
    changes: &str,
    verb: &str,
) -> Option<Line> {
    let of_table = table.identity().is_none().then_some(&table.name);
    let without: Vec<&str> = of_table
        .into_iter()
        .chain(&table.leaves_without_identity)
        .map(String::as_str)
        .collect();
    if without.is_empty() {
        return None;
    }
    let finding = format!(
        "{} {} neither primary key nor replica identity there: {changes} {verb} on the publisher, or here.",
        listed(&without),
        if without.len() == 1 { "has" } else { "have" },
    );
    let statements = without
        .iter()
        .map(|one| format!("ALTER TABLE {one} REPLICA IDENTITY FULL;"));
    let statements: Vec<String> = statements.collect();
    let sql = format!(
        "-- better: ALTER TABLE {} ADD PRIMARY KEY (...);\n{}",
        table.name,
        statements.join("\n")
    );
    let line = Line::new(Severity::Error, name, finding).on(&shown(&table.name));
    Some(pasteable(line, Node::Publisher, &sql, &without))
}

fn full(scene: &Scene, name: &'static str, table: &Table) -> Line {
    let (severity, finding) = if scene.is_native() {
        (
            Severity::Info,
            format!(
                "{} has REPLICA IDENTITY FULL there: each UPDATE and DELETE writes and sends the whole old row.",
                shown(&table.name)
            ),
        )
    } else {
        (
            Severity::Error,
            format!(
                "{} has REPLICA IDENTITY FULL there, which pglogical does not support: UPDATE and DELETE cannot be replicated.",
                shown(&table.name)
            ),
        )
    };
    let line = Line::new(severity, name, finding).on(&shown(&table.name));
    let sql = match (table.primary_key(), scene.is_native()) {
        (Some(_), _) => format!("ALTER TABLE {} REPLICA IDENTITY DEFAULT;", table.name),
        (None, true) => return line,
        (None, false) => format!(
            "-- ALTER TABLE {table} ADD PRIMARY KEY (...);\nALTER TABLE {table} REPLICA IDENTITY DEFAULT;",
            table = table.name
        ),
    };
    pasteable(line, Node::Publisher, &sql, &[&table.name])
}

pub(super) fn silent_loss(scene: &Scene, name: &'static str) -> Checked {
    let (mut lines, mut number) = (Vec::new(), 0);
    for both in scene.both() {
        if !is_searched(scene, both) || both.there.replica_identity != "f" {
            continue;
        }
        number += 1;
        let sent = scene.sent(both.there).into_iter();
        let sent = sent.map(|one| one.name.clone()).collect();
        let found = loss_of(&keyless(both), sent, key_there(both.there));
        if let Some((finding, remedy)) = found {
            let line = Line::new(Severity::Error, name, finding).on(&shown(&both.here.name));
            lines.push(line.remedy(Node::Subscriber, &remedy));
        }
    }
    Checked {
        lines,
        fine: match number {
            0 => "No table whose rows are searched by all of their columns.".to_owned(),
            _ => format!(
                "{} searched by all columns, and all columns are sent.",
                counted(number, "table")
            ),
        },
    }
}

/// UPDATE and DELETE come for it, and there is no index to find a row by. pglogical needs one.
fn is_searched(scene: &Scene, both: Both) -> bool {
    scene.is_native() && !has_key(both) && !changes(scene, both.there).is_empty()
}

/// Of a partitioned table, it is that of the partition that counts.
fn has_key(both: Both) -> bool {
    if both.here.is_partitioned() {
        both.here.leaves_without_key.is_empty()
    } else {
        both.here.key().is_some()
    }
}

fn key_there(table: &Table) -> Vec<String> {
    table
        .primary_key()
        .map_or(Vec::new(), |key| key.columns.clone())
}

fn keyless(both: Both) -> KeylessTable {
    let columns = both.here.columns.iter().filter(|one| !one.is_generated());
    let indexes = both.here.indexes.iter();
    let indexes = indexes.filter(|one| one.can_be_identity() && !both.here.is_partitioned());
    KeylessTable {
        subscriber: 0,
        schema_name: both.here.schema_name.clone(),
        table_name: both.here.table_name.clone(),
        name: both.here.name.clone(),
        columns: columns.map(|one| one.name.clone()).collect(),
        indexes: indexes
            .map(|one| (one.name.clone(), one.columns.clone()))
            .collect(),
    }
}

/// What a row is looked up by here.
pub(super) fn index(scene: &Scene, name: &'static str) -> Checked {
    let (mut lines, mut number) = (Vec::new(), 0);
    for both in scene.both() {
        if changes(scene, both.there).is_empty() {
            continue;
        }
        let found = lookup(scene, name, both);
        number += usize::from(found.is_none() && has_key(both));
        lines.extend(found);
    }
    Checked {
        lines,
        fine: format!(
            "{} whose changed rows are found by an index here.",
            counted(number, "table")
        ),
    }
}

fn lookup(scene: &Scene, name: &'static str, both: Both) -> Option<Line> {
    let identity = both.there.identity().unwrap_or_default();
    let is_full = both.there.replica_identity == "f";
    let table = shown(&both.here.name);
    if both.here.is_partitioned() && has_key(both) {
        return None;
    }
    let Some(key) = both.here.key() else {
        return keyless_here(scene, name, both, is_full);
    };
    let is_sent = |column: &&String| {
        let there = both.there.column(column);
        let is_sent = there.is_some_and(|there| scene.is_sent(both.there, there));
        is_sent && (is_full || identity.contains(&column.as_str()))
    };
    let unknown: Vec<&String> = key.columns.iter().filter(|one| !is_sent(one)).collect();
    if unknown.is_empty() || identity.is_empty() {
        return None;
    }
    let finding = format!(
        "Rows of {table} are looked up by {} here ({}), of which the publisher does not send {} of the old row: UPDATE and DELETE fail.",
        shown(&key.name),
        listed(&key.columns),
        listed(&unknown),
    );
    let columns: Vec<String> = identity.iter().map(|one| identifier(one)).collect();
    let line = Line::new(Severity::Error, name, finding).on(&table);
    let matching = both.here.indexes.iter().find(|one| {
        one.can_be_identity()
            && one
                .columns
                .iter()
                .all(|column| identity.contains(&column.as_str()))
            && one.name != key.name
    });
    let sql = match matching {
        Some(index) => format!(
            "ALTER TABLE {} REPLICA IDENTITY USING INDEX {};",
            both.here.name,
            identifier(&index.name)
        ),
        None => {
            let index = format!("{}_identity", both.here.table_name);
            let nullable = identity.iter().filter(|one| {
                let here = both.here.column(one);
                here.is_some_and(|here| !here.is_not_null)
            });
            let nullable: String = nullable
                .map(|one| {
                    let column = identifier(one);
                    format!(
                        "ALTER TABLE {} ALTER COLUMN {column} SET NOT NULL;\n",
                        both.here.name
                    )
                })
                .collect();
            format!(
                "{nullable}CREATE UNIQUE INDEX {index} ON {table} ({});\nALTER TABLE {table} REPLICA IDENTITY USING INDEX {index};",
                columns.join(", "),
                index = identifier(&index),
                table = both.here.name,
            )
        }
    };
    let mut names: Vec<&str> = identity.clone();
    names.push(&both.here.name);
    names.extend(matching.map(|one| one.name.as_str()));
    Some(pasteable(line, Node::Subscriber, &sql, &names))
}

fn keyless_here(scene: &Scene, name: &'static str, both: Both, is_full: bool) -> Option<Line> {
    let table = shown(&both.here.name);
    let searched_there = both.there.identity().unwrap_or_default();
    if searched_there.is_empty() && !is_full {
        // That UPDATE and DELETE fail there is said already.
        return None;
    }
    let which = match both.here.leaves_without_key.as_slice() {
        [] => table.clone(),
        leaves => listed(leaves),
    };
    let key = key_there(both.there);
    let is_here = |column: &String| both.here.column(column).is_some();
    let (severity, finding) = if is_full && scene.is_native() {
        if both.there.bytes < LARGE {
            return None;
        }
        (
            Severity::Warning,
            format!(
                "{which} has neither primary key nor replica identity index here, and the publisher's has REPLICA IDENTITY FULL: \
                 for each changed row the whole table is read ({} there).",
                bytes(both.there.bytes)
            ),
        )
    } else {
        (
            Severity::Error,
            format!(
                "{which} has neither primary key nor replica identity index here: UPDATE and DELETE fail."
            ),
        )
    };
    let line = Line::new(severity, name, finding).on(&table);
    let columns: Vec<String> = if key.is_empty() && !is_full {
        searched_there.iter().map(|&one| one.to_owned()).collect()
    } else {
        key
    };
    if columns.is_empty() || !columns.iter().all(is_here) {
        let sql = format!("-- ALTER TABLE {} ADD PRIMARY KEY (...);", both.here.name);
        return Some(pasteable(line, Node::Subscriber, &sql, &[&both.here.name]));
    }
    let quoted: Vec<String> = columns.iter().map(|one| identifier(one)).collect();
    // A deferrable one is there, and of no use.
    let mut indexes = both.here.indexes.iter();
    let deferrable = indexes.find(|one| one.is_primary);
    let instead = deferrable.map_or(String::new(), |one| {
        format!("DROP CONSTRAINT {}, ", identifier(&one.name))
    });
    let sql = format!(
        "ALTER TABLE {} {instead}ADD PRIMARY KEY ({});",
        both.here.name,
        quoted.join(", ")
    );
    let mut names: Vec<&str> = columns.iter().map(String::as_str).collect();
    names.push(&both.here.name);
    Some(pasteable(line, Node::Subscriber, &sql, &names))
}
