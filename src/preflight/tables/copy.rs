//! What the copy of the rows that are there meets, and who may write what comes.

use super::facts::Table;
use super::{Checked, Line, Node, Scene, Severity, counted, listed, pasteable, shown};
use crate::subscription::quote::identifier;
use crate::subscription::unit::scaled;

/// So many tables are looked into for a row; of others, a file that is not empty tells enough.
const LOOKED_INTO: usize = 200;

pub(super) fn rights_here(scene: &Scene, name: &'static str) -> Checked {
    let mut lines = Vec::new();
    // pglogical applies changes as a superuser.
    let access = scene.here.access.iter().filter(|_| scene.is_native());
    for one in access.filter(|one| !one.lacks.is_empty()) {
        let Some(table) = scene.here.tables.iter().find(|table| table.oid == one.oid) else {
            continue;
        };
        let finding = format!(
            "Changes of {} are applied with the rights of {}, who lacks {}.",
            shown(&table.name),
            shown(&one.role),
            one.lacks.join(", ")
        );
        let sql = format!(
            "GRANT {} ON {} TO {};",
            one.lacks.join(", "),
            table.name,
            identifier(&one.role)
        );
        let line = Line::new(Severity::Error, name, finding).on(&shown(&table.name));
        lines.push(pasteable(
            line,
            Node::Subscriber,
            &sql,
            &[&table.name, &one.role],
        ));
    }
    Checked {
        lines,
        fine: format!(
            "Changes may be applied to {}.",
            counted(scene.both().count(), "table")
        ),
    }
}

/// Policies that stop what is applied here, or hide from the copy what is there.
pub(super) fn row_security(scene: &Scene, name: &'static str) -> Checked {
    let mut lines = Vec::new();
    let access = scene.here.access.iter().filter(|_| scene.is_native());
    for one in access.filter(|one| one.is_row_secured) {
        let Some(table) = scene.here.tables.iter().find(|table| table.oid == one.oid) else {
            continue;
        };
        let finding = format!(
            "{} has row security here, and {}, with whose rights changes are applied, does not bypass it: the first change stops \
             the replication.",
            shown(&table.name),
            shown(&one.role)
        );
        let sql = format!("ALTER ROLE {} BYPASSRLS;", identifier(&one.role));
        let line = Line::new(Severity::Error, name, finding).on(&shown(&table.name));
        lines.push(pasteable(line, Node::Subscriber, &sql, &[&one.role]));
    }
    for one in scene.there.rights.iter().filter(|one| one.row_security) {
        let mut tables = scene.there.tables.iter();
        let Some(table) = tables.find(|table| table.oid == one.oid) else {
            continue;
        };
        if scene
            .here(table)
            .is_some_and(|here| !scene.is_copy_ahead(here))
        {
            continue;
        }
        let finding = format!(
            "{} has row security there, and {} does not bypass it: the copy leaves out rows that its policies hide.",
            shown(&table.name),
            shown(&scene.there.user)
        );
        let sql = format!("ALTER ROLE {} BYPASSRLS;", identifier(&scene.there.user));
        let line = Line::new(Severity::Error, name, finding).on(&shown(&table.name));
        lines.push(pasteable(line, Node::Publisher, &sql, &[&scene.there.user]));
    }
    Checked {
        lines,
        fine: "Row security hides nothing from the copy and stops nothing that is applied."
            .to_owned(),
    }
}

pub(super) fn rights_there(scene: &Scene, name: &'static str) -> Checked {
    let user = &scene.there.user;
    let mut lines = Vec::new();
    for one in &scene.there.rights {
        let Some(table) = scene.there.tables.iter().find(|table| table.oid == one.oid) else {
            continue;
        };
        let readable = one.readable_columns.as_deref().unwrap_or_default();
        let sent = scene.sent(table);
        let may_read = one.may_read
            || !sent.is_empty() && sent.iter().all(|column| readable.contains(&column.name));
        if may_read && one.may_use_schema {
            continue;
        }
        let mut statements = Vec::new();
        let mut lacks = Vec::new();
        if !one.may_use_schema {
            lacks.push(format!("USAGE on schema {}", table.schema_name));
            statements.push(format!(
                "GRANT USAGE ON SCHEMA {} TO {};",
                identifier(&table.schema_name),
                identifier(user)
            ));
        }
        if !may_read {
            lacks.push(format!("SELECT on {}", table.name));
            statements.push(format!(
                "GRANT SELECT ON {} TO {};",
                table.name,
                identifier(user)
            ));
        }
        let finding = format!(
            "{} lacks {} there: the copy fails.",
            shown(user),
            listed(&lacks)
        );
        let severity = match scene.here(table) {
            Some(here) if !scene.is_copy_ahead(here) => Severity::Info,
            _ => Severity::Error,
        };
        let line = Line::new(severity, name, finding).on(&shown(&table.name));
        let names = [table.name.as_str(), user];
        lines.push(pasteable(
            line,
            Node::Publisher,
            &statements.join("\n"),
            &names,
        ));
    }
    Checked {
        lines,
        fine: format!(
            "{} may read {} there.",
            shown(user),
            counted(scene.there.tables.len(), "table")
        ),
    }
}

fn stored<'a>(scene: &'a Scene) -> impl Iterator<Item = &'a Table> {
    let tables = scene.both().map(|both| both.here);
    tables.filter(|here| {
        let facts = &scene.here;
        let is_seen = !facts.locked.contains(&here.oid);
        scene.is_copy_ahead(here) && is_seen && facts.stored.contains(&here.oid)
    })
}

/// Tables of which one row tells whether there are any. A partition is looked into itself.
pub(super) fn to_look_into<'a>(scene: &'a Scene) -> Vec<&'a Table> {
    stored(scene).take(LOOKED_INTO).collect()
}

pub(super) fn target_rows(scene: &Scene, name: &'static str) -> Checked {
    let mut lines = Vec::new();
    let ahead = scene
        .both()
        .filter(|both| scene.is_copy_ahead(both.here))
        .count();
    for (place, table) in stored(scene).enumerate() {
        if place < LOOKED_INTO && !scene.filled.contains(&table.oid) {
            continue;
        }
        let is_begun = scene.states.contains_key(&table.oid);
        let rows = if table.rows >= 1.0 {
            format!(
                "about {} rows",
                scaled(table.rows, 1000.0, &["", "thousand", "million", "billion"]).trim_end()
            )
        } else {
            "rows".to_owned()
        };
        let is_unique = table.indexes.iter().any(|one| one.is_unique);
        let finding = format!(
            "{} has {rows} here, and its copy is to come: {}.",
            shown(&table.name),
            if is_unique {
                "a row that is there too is a duplicate key, and the copy fails"
            } else {
                "rows that are there too are here twice then"
            }
        );
        let severity = if is_begun {
            Severity::Error
        } else {
            Severity::Warning
        };
        let sql = format!("-- if nobody needs these rows: TRUNCATE {};", table.name);
        let line = Line::new(severity, name, finding).on(&shown(&table.name));
        lines.push(pasteable(line, Node::Subscriber, &sql, &[&table.name]));
    }
    let locked = scene.both().map(|both| both.here);
    let locked =
        locked.filter(|here| scene.is_copy_ahead(here) && scene.here.locked.contains(&here.oid));
    lines.extend(locked.map(|table| {
        let table = shown(&table.name);
        let why = format!(
            "whether {table} has rows here, for a session has it locked, or a partition of it."
        );
        Line::not_checked(name, &why).on(&table)
    }));
    Checked {
        lines,
        fine: match ahead {
            0 => "No copy is to come.".to_owned(),
            _ => format!("{} that will be copied: empty.", counted(ahead, "table")),
        },
    }
}

pub(super) fn secondary_indexes(scene: &Scene, name: &'static str) -> Checked {
    let (mut indexes, mut tables) = (0, 0);
    for both in scene.both().filter(|both| scene.is_copy_ahead(both.here)) {
        let number = both
            .here
            .indexes
            .iter()
            .filter(|one| !one.is_unique && !one.is_exclusion)
            .count();
        indexes += number;
        tables += usize::from(number > 0);
    }
    let lines = (indexes > 0).then(|| {
        let finding = format!(
            "{} of {} will be filled row by row during the copy, which is faster without: they can be made after it.",
            counted(indexes, "index").replace("indexs", "indexes"),
            counted(tables, "table"),
        );
        Line::new(Severity::Info, name, finding)
    });
    Checked {
        lines: lines.into_iter().collect(),
        fine: "No copy fills an index that could be made after it.".to_owned(),
    }
}
