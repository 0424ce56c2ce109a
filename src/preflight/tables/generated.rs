//! What becomes of generated columns, on this pair of versions and with this provider.

use super::facts::{Column, Published};
use super::{
    Both, Checked, Line, Node, Scene, Severity, counted, is_plain, listed, pasteable, shown,
};
use crate::subscription::provider::Subscription;
use crate::subscription::quote::{identifier, literal};
use crate::watch::{RENAME, Suspect, Told, crashers_among};
use std::collections::{HashMap, HashSet};

pub(super) fn columns(scene: &Scene, name: &'static str) -> Checked {
    let mut lines = Vec::new();
    let (mut computed, mut ruled) = (0, 0);
    // A rule of a partitioned table is one of all of its partitions.
    let mut without = HashSet::new();
    for both in scene.both() {
        for here in &both.here.columns {
            let there = both.there.column(&here.name);
            let is_sent = there.is_some_and(|there| scene.is_sent(both.there, there));
            match (here.is_generated(), there) {
                (true, _) if is_sent => {
                    lines.extend(generated_and_sent(scene, name, both, here, there));
                }
                (true, _) => {
                    computed += 1;
                    lines.extend(
                        there.and_then(|there| computed_otherwise(name, both, there, here)),
                    );
                }
                (false, Some(there)) if there.is_generated() && !is_sent => {
                    let table = both.here.root.as_deref().unwrap_or(&both.here.name);
                    if scene.has_rule(both.here, &here.name) {
                        ruled += 1;
                    } else if without.insert((table, here.name.as_str())) {
                        lines.push(without_rule(scene, name, both, there));
                    }
                }
                (false, _) => {}
            }
        }
        if !scene.is_native() {
            lines.extend(copied(scene, name, both));
        }
    }
    if !scene.is_native() {
        lines.extend(crashing(scene, name));
    }
    let fine = match (computed, ruled) {
        (0, 0) => "No generated column needs anything.".to_owned(),
        _ => format!(
            "{} computed here, {} by rules of replwarden.",
            counted(computed, "generated column"),
            ruled
        ),
    };
    Checked { lines, fine }
}

/// The apply worker takes no value for a column that is generated here.
fn generated_and_sent(
    scene: &Scene,
    name: &'static str,
    both: Both,
    here: &Column,
    there: Option<&Column>,
) -> Option<Line> {
    // pglogical stores what comes; only its copy fails.
    if !scene.is_native() && !scene.is_copy_ahead(both.here) {
        return None;
    }
    let what = if there.is_some_and(Column::is_generated) {
        "is published as generated, and generated here, too"
    } else {
        "is a plain column there and generated here"
    };
    let finding = format!(
        "{} of {} {what}: {}.",
        shown(&here.name),
        shown(&both.here.name),
        if scene.is_native() {
            "the replication of the table fails, for the value that comes cannot be stored"
        } else {
            "the copy of the table fails"
        }
    );
    let column = identifier(&here.name);
    let is_computed = there.is_some_and(Column::is_generated);
    let sql = if !scene.is_native() && is_computed && !here.is_virtual() {
        // It comes no longer once the publisher's list is mended, as that has to be.
        let adopt = scene.function("repl_adopt_generated");
        format!("SELECT {adopt}({});", literal(&both.here.name))
    } else if here.is_virtual() {
        format!(
            "-- it is virtual, and cannot become a plain column as it is:\n\
             ALTER TABLE {table} DROP COLUMN {column}, ADD COLUMN {column} {}; -- without what depends on it",
            here.r#type,
            table = both.here.name,
        )
    } else {
        format!(
            "ALTER TABLE {} ALTER COLUMN {column} DROP EXPRESSION;",
            both.here.name
        )
    };
    let published = scene.published(both.there).first();
    let publication = published.map_or("", |one| one.publication.as_str());
    let sql = if scene.is_native() && is_computed {
        let publication = identifier(publication);
        format!(
            "{sql}\n-- or on the publisher: ALTER PUBLICATION {publication} SET (publish_generated_columns = none);"
        )
    } else {
        sql
    };
    let line = Line::new(Severity::Error, name, finding).on(&shown(&both.here.name));
    let names = [
        here.name.as_str(),
        &both.here.name,
        &here.r#type,
        publication,
    ];
    Some(pasteable(line, Node::Subscriber, &sql, &names))
}

/// Both sides compute it, and not to the same.
fn computed_otherwise(
    name: &'static str,
    both: Both,
    there: &Column,
    here: &Column,
) -> Option<Line> {
    if !there.is_generated() {
        return None;
    }
    let (of_there, of_here) = match (&there.expression, &here.expression) {
        (Some(of_there), Some(of_here)) => (of_there, of_here),
        (of_there, _) => {
            let table = shown(&both.here.name);
            let why = format!(
                "whether {} of {table} is computed to the same on both sides, for a session has the table locked {}.",
                shown(&here.name),
                if of_there.is_none() { "there" } else { "here" }
            );
            return Some(Line::not_checked(name, &why).on(&table));
        }
    };
    if of_there == of_here {
        return None;
    }
    let finding = format!(
        "{} of {} is computed as {} there and as {} here.",
        shown(&here.name),
        shown(&both.here.name),
        shown(of_there),
        shown(of_here)
    );
    Some(Line::new(Severity::Info, name, finding).on(&shown(&both.here.name)))
}

/// The publisher computes a column, and does not send it.
fn without_rule(scene: &Scene, name: &'static str, both: Both, there: &Column) -> Line {
    // A rule is set on the partitioned table.
    let table = both.here.root.as_deref().unwrap_or(&both.here.name);
    let finding = format!(
        "{} of {} is generated there, and not sent; here it is a plain column without a rule, and stays empty.",
        shown(&there.name),
        shown(table),
    );
    let Some(expression) = &there.expression else {
        let finding = format!(
            "{finding} Its expression could not be read, for a session has the table locked there."
        );
        let line = Line::new(Severity::Error, name, finding).on(&shown(table));
        let sql = format!(
            "-- the rule is named here when this session has let go of it:\n\
             SELECT pid, usename, query FROM pg_stat_activity WHERE pid IN (SELECT pid FROM pg_locks WHERE relation = {}::regclass);",
            literal(&both.there.name)
        );
        return pasteable(line, Node::Publisher, &sql, &[&both.there.name]);
    };
    let mut sql = format!(
        "SELECT {}({}, {}, {});",
        scene.function("repl_set_expression"),
        literal(table),
        literal(&there.name),
        literal(expression)
    );
    if both.here.key().is_none() && !both.here.is_partitioned() {
        sql.insert_str(
            0,
            &format!(
                "-- it needs a primary key first: ALTER TABLE {table} ADD PRIMARY KEY (...);\n"
            ),
        );
    }
    let line = Line::new(Severity::Error, name, finding).on(&shown(table));
    // A line break in a constant of the expression is one in SQL, which harms nobody.
    let expression = expression.replace(['\n', '\t'], " ");
    let names = [table, &there.name, &expression];
    pasteable(line, Node::Subscriber, &sql, &names)
}

/// The copy of pglogical takes all columns that are in the list, and a generated one cannot be copied.
fn copied(scene: &Scene, name: &'static str, both: Both) -> Option<Line> {
    if !scene.is_copy_ahead(both.here) {
        return None;
    }
    let generated: Vec<&str> = scene
        .sent(both.there)
        .iter()
        .filter(|one| one.is_generated())
        .map(|one| one.name.as_str())
        .collect();
    if generated.is_empty() {
        return None;
    }
    let verb = if generated.len() == 1 { "is" } else { "are" };
    let finding = format!(
        "{} of {} {verb} generated there and in the replication set: its copy fails with \"Generated columns cannot be used in COPY\".",
        listed(&generated),
        shown(&both.there.name),
    );
    let line = Line::new(Severity::Error, name, finding).on(&shown(&both.there.name));
    let sets = scene.published(both.there);
    let statements: Vec<String> = sets
        .iter()
        .map(|set| add_without(scene, both, set))
        .collect();
    let mut names: Vec<&str> = both
        .there
        .columns
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    names.push(&both.there.name);
    names.extend(sets.iter().map(|set| set.publication.as_str()));
    Some(pasteable(
        line,
        Node::Publisher,
        &statements.join("\n"),
        &names,
    ))
}

/// Puts a table into a replication set again, without its generated columns.
fn add_without(scene: &Scene, both: Both, set: &Published) -> String {
    let columns = both.there.columns.iter();
    let columns: Vec<String> = columns
        .filter(|one| !one.is_generated() && scene.is_sent(both.there, one))
        .map(|one| literal(&one.name))
        .collect();
    let (name, table) = (literal(&set.publication), literal(&both.there.name));
    let filter = set.row_filter.as_ref();
    let filter = filter.map_or(String::new(), |filter| {
        format!(", row_filter := {}", literal(filter))
    });
    format!(
        "SELECT pglogical.replication_set_remove_table(set_name := {name}, relation := {table});\n\
         SELECT pglogical.replication_set_add_table(set_name := {name}, relation := {table}, columns := ARRAY[{}]{filter});",
        columns.join(", ")
    )
}

/// Tables whose rows end pglogical's apply worker, as the watch knows them.
fn crashing(scene: &Scene, name: &'static str) -> Vec<Line> {
    if scene.here.uses_spi {
        return Vec::new();
    }
    let subscription = scene
        .plan
        .subscription
        .clone()
        .unwrap_or_else(|| Subscription {
            provider: scene.plan.provider.to_owned(),
            ..Subscription::default()
        });
    let mut suspects = Vec::new();
    let mut sent = HashMap::new();
    for both in scene.both() {
        let table = both.here;
        let generated = table
            .columns
            .iter()
            .filter(|one| one.is_generated() && one.reads_columns == Some(true));
        let columns: Vec<String> = generated.clone().map(|one| one.name.clone()).collect();
        if columns.is_empty() && !table.is_partitioned() {
            continue;
        }
        let names = scene
            .sent(both.there)
            .into_iter()
            .map(|one| one.name.clone());
        sent.insert(table.pair(), names.collect());
        suspects.push(Suspect {
            schema_name: table.schema_name.clone(),
            table_name: table.table_name.clone(),
            name: table.name.clone(),
            root: table.root.clone(),
            is_partitioned: table.is_partitioned(),
            is_virtual: generated.clone().any(Column::is_virtual),
            columns: if table.is_partitioned() {
                Vec::new()
            } else {
                columns
            },
            is_inherited: table.is_inherited,
            has_key: table.key().is_some(),
            subscribers: vec![subscription.id],
        });
    }
    let told = Told::of_columns(sent);
    let found = crashers_among(&suspects, &subscription, told, &scene.schema);
    found
        .into_iter()
        .map(|hazard| {
            let object = hazard.object.unwrap_or_default();
            let line = Line::new(Severity::Error, name, hazard.finding).on(&shown(&object));
            let remedy = hazard.remedy.filter(|_| is_plain(&object));
            line.remedy(Node::Subscriber, remedy.as_deref().unwrap_or(RENAME))
        })
        .collect()
}
