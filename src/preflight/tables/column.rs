//! The columns of tables that are on both sides.

use super::column_type::{Fit, fit};
use super::facts::{Column, Table};
use super::{Both, Checked, Line, Node, Scene, Severity, counted, listed, pasteable, shown};
use crate::subscription::quote::identifier;

pub(super) fn columns(scene: &Scene, name: &'static str) -> Checked {
    let mut lines = Vec::new();
    let mut number = 0;
    for both in scene.both() {
        let sent = scene.sent(both.there);
        number += sent.len();
        lines.extend(missing(scene, name, both, &sent));
        lines.extend(extra(scene, name, both, &sent));
    }
    Checked {
        lines,
        fine: format!("{} that are sent: here.", counted(number, "column")),
    }
}

fn missing(scene: &Scene, name: &'static str, both: Both, sent: &[&Column]) -> Option<Line> {
    let missing: Vec<&&Column> = sent
        .iter()
        .filter(|one| both.here.column(&one.name).is_none())
        // Of what pglogical cannot copy the check of generated columns speaks.
        .filter(|one| scene.is_native() || !one.is_generated() || !scene.is_copy_ahead(both.here))
        .collect();
    let first = missing.first()?;
    let names: Vec<&str> = missing.iter().map(|one| one.name.as_str()).collect();
    let verb = if names.len() == 1 { "is" } else { "are" };
    let mut finding = format!(
        "{} of {} {verb} published and not here: its copy fails, and so does every change of it.",
        listed(&names),
        shown(&both.here.name)
    );
    let renamed = unknown(both).find(|one| {
        one.type_name == first.type_name && one.typmod == first.typmod && !one.is_generated()
    });
    if let Some(renamed) = renamed {
        finding.push_str(&format!(
            " {} has the type of {}, and the publisher does not have it.",
            shown(&renamed.name),
            shown(&first.name)
        ));
    }
    let statements: Vec<String> = missing
        .iter()
        .map(|one| {
            let collation = one.collation.as_ref();
            let collation = collation.map_or(String::new(), |name| format!(" COLLATE {name}"));
            format!(
                "ALTER TABLE {} ADD COLUMN {} {}{collation};",
                both.here.name,
                identifier(&one.name),
                one.r#type
            )
        })
        .collect();
    let mut pasted = names.clone();
    pasted.extend([both.here.name.as_str(), first.r#type.as_str()]);
    let mut sql = statements.join("\n");
    if let Some(renamed) = renamed {
        pasted.push(&renamed.name);
        sql = format!(
            "-- if it was renamed: ALTER TABLE {} RENAME COLUMN {} TO {}; and otherwise:\n{sql}",
            both.here.name,
            identifier(&renamed.name),
            identifier(&first.name)
        );
    }
    let line = Line::new(Severity::Error, name, finding).on(&shown(&both.here.name));
    Some(pasteable(line, Node::Subscriber, &sql, &pasted))
}

/// Columns that the publisher does not have.
fn unknown<'a>(both: Both<'a>) -> impl Iterator<Item = &'a Column> {
    let columns = both.here.columns.iter();
    columns.filter(move |one| both.there.column(&one.name).is_none())
}

/// Columns that nothing comes for, and that must have a value.
fn extra(scene: &Scene, name: &'static str, both: Both, sent: &[&Column]) -> Option<Line> {
    let demanding: Vec<&str> = both
        .here
        .columns
        .iter()
        .filter(|one| {
            one.is_not_null && !one.has_default && one.identity.is_empty() && !one.is_generated()
        })
        .filter(|one| !sent.iter().any(|sent| sent.name == one.name))
        .filter(|one| !scene.has_rule(both.here, &one.name))
        // What is generated there is spoken of by the check of generated columns.
        .filter(|one| {
            !both
                .there
                .column(&one.name)
                .is_some_and(Column::is_generated)
        })
        .map(|one| one.name.as_str())
        .collect();
    if demanding.is_empty() {
        return None;
    }
    let verb = if demanding.len() == 1 { "is" } else { "are" };
    let finding = format!(
        "{} of {} {verb} NOT NULL without a default here, and the publisher does not send {}: each row that comes is an error.",
        listed(&demanding),
        shown(&both.here.name),
        if demanding.len() == 1 { "it" } else { "them" },
    );
    let line = Line::new(Severity::Error, name, finding).on(&shown(&both.here.name));
    Some(drop_not_null(line, both, &demanding))
}

fn drop_not_null(line: Line, both: Both, columns: &[&str]) -> Line {
    let statements: Vec<String> = columns
        .iter()
        .map(|one| {
            format!(
                "ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL;",
                both.here.name,
                identifier(one)
            )
        })
        .collect();
    let mut pasted = columns.to_vec();
    pasted.push(&both.here.name);
    pasteable(line, Node::Subscriber, &statements.join("\n"), &pasted)
}

/// Columns that are sent and here, with what they are here.
fn matched<'a>(scene: &'a Scene, both: Both<'a>) -> impl Iterator<Item = (&'a Column, &'a Column)> {
    let sent = scene.sent(both.there).into_iter();
    sent.filter_map(move |there| both.here.column(&there.name).map(|here| (there, here)))
}

pub(super) fn types(scene: &Scene, name: &'static str) -> Checked {
    let is_binary = scene.here.is_binary == Some(true);
    let (mut lines, mut number) = (Vec::new(), 0);
    for both in scene.both() {
        for (there, here) in matched(scene, both) {
            number += 1;
            // pglogical sends values of types that the server does not bring as text.
            let is_binary = is_binary && (scene.is_native() || there.type_schema == "pg_catalog");
            let fit = fit(there, here, is_binary);
            if fit != Fit::Same {
                lines.push(other_type(scene, name, both.here, (there, here), fit));
            }
        }
    }
    Checked {
        lines,
        fine: format!(
            "{} of the same types on both sides.",
            counted(number, "column")
        ),
    }
}

fn other_type(
    scene: &Scene,
    name: &'static str,
    table: &Table,
    (there, here): (&Column, &Column),
    fit: Fit,
) -> Line {
    let (severity, what) = match fit {
        Fit::Same | Fit::Wide => (Severity::Info, "every value fits"),
        Fit::Narrow => (
            Severity::Warning,
            "a value that does not fit stops the replication, or is rounded",
        ),
        Fit::Shifted => (
            Severity::Warning,
            "values are converted by the time zones of the sessions that send and store them",
        ),
        Fit::Foreign if !scene.is_native() => (
            Severity::Error,
            "pglogical sends values in the form of their own type, which another type misreads",
        ),
        Fit::Foreign if scene.here.is_binary == Some(true) => (
            Severity::Error,
            "the subscription has binary = true, and takes values of the same type only",
        ),
        Fit::Foreign => (Severity::Error, "values of the one are none of the other"),
    };
    let object = format!("{}.{}", table.name, here.name);
    let finding = format!(
        "{} is {} there and {} here: {what}.",
        shown(&object),
        shown(&there.r#type),
        shown(&here.r#type)
    );
    let line = Line::new(severity, name, finding).on(&shown(&object));
    if severity == Severity::Info {
        return line;
    }
    let column = identifier(&here.name);
    // There is a way over text between any two.
    let by = if fit == Fit::Foreign { "::text" } else { "" };
    let sql = format!(
        "ALTER TABLE {} ALTER COLUMN {column} TYPE {ty} USING {column}{by}::{ty}; -- writes the table anew",
        table.name,
        ty = there.r#type
    );
    pasteable(
        line,
        Node::Subscriber,
        &sql,
        &[&here.name, &table.name, &there.r#type],
    )
}

pub(super) fn not_null(scene: &Scene, name: &'static str) -> Checked {
    let (mut lines, mut number) = (Vec::new(), 0);
    for both in scene.both() {
        let stricter: Vec<&str> = matched(scene, both)
            .filter(|(there, here)| here.is_not_null && !there.is_not_null)
            .map(|(_, here)| here.name.as_str())
            .collect();
        number += matched(scene, both)
            .filter(|(_, here)| here.is_not_null)
            .count();
        if stricter.is_empty() {
            continue;
        }
        let verb = if stricter.len() == 1 { "is" } else { "are" };
        let finding = format!(
            "{} of {} {verb} NOT NULL here and not there: a row without a value stops the replication.",
            listed(&stricter),
            shown(&both.here.name)
        );
        let line = Line::new(Severity::Warning, name, finding).on(&shown(&both.here.name));
        lines.push(drop_not_null(line, both, &stricter));
    }
    Checked {
        lines,
        fine: format!(
            "{} that must have a value here must have one there.",
            counted(number, "column")
        ),
    }
}

pub(super) fn collations(scene: &Scene, name: &'static str) -> Checked {
    let (mut lines, mut number) = (Vec::new(), 0);
    for both in scene.both() {
        for (there, here) in matched(scene, both) {
            number += 1;
            if there.collation == here.collation {
                continue;
            }
            let object = format!("{}.{}", both.here.name, here.name);
            let word = |one: &Column| {
                let collation = one.collation.as_deref();
                collation.map_or("the database's own".to_owned(), shown)
            };
            let finding = format!(
                "The collation of {} is {} there and {} here: it is sorted and compared in another way.",
                shown(&object),
                word(there),
                word(here)
            );
            lines.push(Line::new(Severity::Info, name, finding).on(&shown(&object)));
        }
    }
    Checked {
        lines,
        fine: format!(
            "{} with the same collations on both sides.",
            counted(number, "column")
        ),
    }
}
