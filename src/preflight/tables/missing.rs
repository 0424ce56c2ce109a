//! What is there and not here at all.

use super::facts::{Table, Type};
use super::{Checked, Line, Node, Scene, Severity, counted, is_plain, listed, pasteable, shown};
use crate::subscription::conninfo::Conninfo;
use crate::subscription::quote::identifier;
use std::collections::BTreeSet;

pub(super) fn schemas(scene: &Scene, name: &'static str) -> Checked {
    let wanted: BTreeSet<&str> = scene
        .there
        .tables
        .iter()
        // Those of an extension come with it.
        .filter(|one| one.extension.is_none())
        .map(|one| one.schema_name.as_str())
        .collect();
    let missing = wanted
        .iter()
        .filter(|one| !scene.here.schemas.contains(**one));
    let lines = missing.map(|schema| {
        let finding = format!("Schema {} is not here.", shown(schema));
        let sql = format!("CREATE SCHEMA {};", identifier(schema));
        let line = Line::new(Severity::Error, name, finding).on(&shown(schema));
        pasteable(line, Node::Subscriber, &sql, &[schema])
    });
    Checked {
        lines: lines.collect(),
        fine: format!(
            "{} of published tables: here.",
            counted(wanted.len(), "schema")
        ),
    }
}

pub(super) fn types(scene: &Scene, name: &'static str) -> Checked {
    let mut lines = Vec::new();
    for there in &scene.there.types {
        let is_it = |one: &&Type| {
            (&one.schema_name, &one.type_name) == (&there.schema_name, &there.type_name)
        };
        match scene.here.asked_types.iter().find(is_it) {
            None => lines.extend(missing_type(scene, name, there)),
            Some(here) => lines.extend(missing_labels(name, there, here)),
        }
    }
    Checked {
        lines,
        fine: format!(
            "{} of published columns from extensions or of your own: here.",
            counted(scene.there.types.len(), "type")
        ),
    }
}

/// A type that every column of which is here, with another type that may do, is no trouble of its own.
fn missing_type(scene: &Scene, name: &'static str, there: &Type) -> Option<Line> {
    let uses = |table: &Table| {
        table.columns.iter().any(|column| {
            let element = column.type_name.strip_prefix('_');
            let is_it = column.type_name == there.type_name || element == Some(&there.type_name);
            is_it
                && column.type_schema == there.schema_name
                && scene.is_sent(table, column)
                && scene
                    .here(table)
                    .and_then(|here| here.column(&column.name))
                    .is_none()
        })
    };
    let users: Vec<&str> = scene
        .there
        .tables
        .iter()
        .filter(|table| uses(table))
        .map(|table| table.name.as_str())
        .collect();
    if users.is_empty() {
        return None;
    }
    let finding = match &there.extension {
        Some(extension) => format!(
            "Type {} of extension {} is not here; {} cannot be made without it.",
            shown(&there.name),
            shown(extension),
            listed(&users),
        ),
        None => format!(
            "Type {} is not here; {} cannot be made without it.",
            shown(&there.name),
            listed(&users)
        ),
    };
    let line = Line::new(Severity::Error, name, finding).on(&shown(&there.name));
    Some(match (&there.extension, &there.definition) {
        (Some(extension), _) => {
            let sql = format!(
                "CREATE EXTENSION IF NOT EXISTS {} SCHEMA {};",
                identifier(extension),
                identifier(&there.schema_name)
            );
            pasteable(
                line,
                Node::Subscriber,
                &sql,
                &[extension, &there.schema_name],
            )
        }
        (None, Some(definition)) => pasteable(
            line,
            Node::Subscriber,
            &format!("CREATE {definition};"),
            &[definition],
        ),
        (None, None) => {
            let sql = shell(
                scene,
                &[],
                &format!("--schema={}", pattern(&there.schema_name)),
            );
            pasteable(line, Node::Subscriber, &sql, &[&sql[3..]])
        }
    })
}

fn missing_labels(name: &'static str, there: &Type, here: &Type) -> Option<Line> {
    let missing = there.labels.iter().filter(|one| !here.labels.contains(one));
    let missing: Vec<&String> = missing.collect();
    if missing.is_empty() {
        return None;
    }
    let finding = format!(
        "Type {} lacks {} of the publisher's: {}. A row with one of these stops the replication.",
        shown(&there.name),
        counted(missing.len(), "label"),
        listed(&missing),
    );
    let statements: Vec<String> = missing
        .iter()
        .map(|label| {
            let label = crate::subscription::quote::literal(label);
            format!("ALTER TYPE {} ADD VALUE {label};", there.name)
        })
        .collect();
    let mut names: Vec<&str> = missing.iter().map(|one| one.as_str()).collect();
    names.push(&there.name);
    let line = Line::new(Severity::Error, name, finding).on(&shown(&there.name));
    Some(pasteable(
        line,
        Node::Subscriber,
        &statements.join("\n"),
        &names,
    ))
}

pub(super) fn tables(scene: &Scene, name: &'static str) -> Checked {
    let mut lines = Vec::new();
    let mut missing = Vec::new();
    for there in &scene.there.tables {
        match scene.here(there).map(|here| (here, here.kind.as_str())) {
            None if there.extension.is_some() => lines.push(of_extension(name, there)),
            None => missing.push(there),
            Some((_, "r" | "p")) => {}
            Some((here, kind)) => lines.push(other_kind(scene, name, here, kind)),
        }
    }
    let sequences: Vec<String> = scene
        .there
        .sequences
        .iter()
        .filter(|one| !one.is_owned && missing.iter().any(|table| table.oid == one.table))
        .filter(|one| {
            let pair = (one.schema_name.clone(), one.sequence_name.clone());
            !scene.here.sequences.contains(&pair)
        })
        .map(|one| table_pattern(&one.schema_name, &one.sequence_name))
        .collect();
    if !missing.is_empty() {
        lines.extend(missing_tables(scene, name, &missing, sequences));
    }
    Checked {
        lines,
        fine: format!(
            "{} published: here.",
            counted(scene.there.tables.len(), "table")
        ),
    }
}

fn of_extension(name: &'static str, there: &Table) -> Line {
    let extension = there.extension.as_deref().unwrap_or_default();
    let finding = format!(
        "{} of extension {} is published and not here.",
        shown(&there.name),
        shown(extension)
    );
    let sql = format!("CREATE EXTENSION IF NOT EXISTS {};", identifier(extension));
    let line = Line::new(Severity::Error, name, finding).on(&shown(&there.name));
    pasteable(line, Node::Subscriber, &sql, &[extension])
}

/// One line for all that can be brought over by one, and one for each of the others.
fn missing_tables(
    scene: &Scene,
    name: &'static str,
    missing: &[&Table],
    mut patterns: Vec<String>,
) -> Vec<Line> {
    let (plain, odd): (Vec<&Table>, Vec<&Table>) =
        missing.iter().partition(|table| is_plain(&table.name));
    patterns.splice(
        0..0,
        plain
            .iter()
            .map(|table| table_pattern(&table.schema_name, &table.table_name)),
    );
    let mut lines = Vec::new();
    if let Some(first) = plain.first() {
        let names: Vec<&str> = plain.iter().map(|table| table.name.as_str()).collect();
        let finding = match names.as_slice() {
            [one] => format!("{one} is published and not here."),
            _ => format!(
                "{} are published and not here: {}.",
                counted(names.len(), "table"),
                listed(&names)
            ),
        };
        let mut line = Line::new(Severity::Error, name, finding);
        if names.len() == 1 {
            line = line.on(&first.name);
        }
        lines.push(line.remedy(Node::Subscriber, &shell(scene, &patterns, "")));
    }
    lines.extend(odd.iter().map(|table| {
        let finding = format!("{} is published and not here.", shown(&table.name));
        let line = Line::new(Severity::Error, name, finding).on(&shown(&table.name));
        pasteable(line, Node::Publisher, "", &[&table.name])
    }));
    lines
}

fn other_kind(scene: &Scene, name: &'static str, here: &Table, kind: &str) -> Line {
    let what = match kind {
        "v" => "a view",
        "m" => "a materialized view",
        "f" => "a foreign table",
        "S" => "a sequence",
        "i" | "I" => "an index",
        _ => "no table",
    };
    let finding = format!(
        "{} is {what} here, and rows can be replicated into tables only.",
        shown(&here.name)
    );
    let object = if kind == "m" {
        "MATERIALIZED VIEW"
    } else if kind == "f" {
        "FOREIGN TABLE"
    } else {
        "VIEW"
    };
    let sql = if ["v", "m", "f"].contains(&kind) {
        format!(
            "ALTER {object} {} RENAME TO {};\n{}",
            here.name,
            identifier(&format!("{}_old", here.table_name)),
            shell(
                scene,
                &[table_pattern(&here.schema_name, &here.table_name)],
                ""
            )
        )
    } else {
        "-- rename what has the name of the table, and make the table".to_owned()
    };
    let line = Line::new(Severity::Error, name, finding).on(&shown(&here.name));
    pasteable(line, Node::Subscriber, &sql, &[&here.name])
}

/// A comment with the line for a shell of this server that brings the definitions of these relations over.
pub(super) fn shell(scene: &Scene, patterns: &[String], other: &str) -> String {
    let publisher = Conninfo::parse(&scene.plan.conninfo).shown();
    let socket = scene
        .here
        .sockets
        .split(',')
        .next()
        .unwrap_or_default()
        .trim();
    let host = if socket.is_empty() {
        "127.0.0.1"
    } else {
        socket
    };
    let here = format!(
        "host={} port={} dbname={}",
        keyword(host),
        scene.here.port,
        keyword(&scene.here.database)
    );
    let mut what: Vec<String> = patterns.iter().map(|one| format!("-t {one}")).collect();
    if !other.is_empty() {
        what.push(other.to_owned());
    }
    format!(
        "-- in a shell: pg_dump --schema-only --no-publications {} -d {} | psql -d {}",
        what.join(" "),
        quoted(&publisher),
        quoted(&here)
    )
}

/// A value of a connection string.
fn keyword(text: &str) -> String {
    let is_plain =
        !text.is_empty() && !text.contains(|one: char| one.is_whitespace() || "'\\=".contains(one));
    if is_plain {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
    }
}

/// In quotes, a pattern of pg_dump is a name.
fn table_pattern(schema: &str, table: &str) -> String {
    quoted(&format!("{}.{}", identifier(schema), identifier(table)))
}

fn pattern(name: &str) -> String {
    quoted(&identifier(name))
}

/// For a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_for_the_shell_and_for_pg_dump() {
        assert_eq!(table_pattern("it's", "a\"b*"), r#"'"it'\''s"."a""b*"'"#);
    }
}
