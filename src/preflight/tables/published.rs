//! What is published, against what is there.

use super::facts::Table;
use super::{Both, Checked, Line, Node, Scene, Severity, counted, listed, pasteable, shown};
use crate::subscription::provider;
use crate::subscription::quote::{identifier, literal};
use std::collections::BTreeSet;

/// Whether there are tables, and whether an existing subscription knows them.
pub(super) fn tables(scene: &Scene, name: &'static str) -> Checked {
    let mut lines = Vec::new();
    if scene.there.tables.is_empty() {
        let finding = format!("{} no table.", publish(scene));
        lines.push(Line::new(Severity::Warning, name, finding));
    }
    if scene.plan.subscription.is_some() {
        lines.extend(not_subscribed(scene, name));
        lines.extend(no_longer_published(scene, name));
    }
    Checked {
        lines,
        fine: format!(
            "{} {}.",
            publish(scene),
            counted(scene.there.tables.len(), "table")
        ),
    }
}

fn publish(scene: &Scene) -> String {
    let names = &scene.plan.publications;
    let verb = if names.len() == 1 {
        "publishes"
    } else {
        "publish"
    };
    let what = match (scene.is_native(), names.len()) {
        (true, 1) => "Publication",
        (true, _) => "Publications",
        (false, 1) => "Replication set",
        (false, _) => "Replication sets",
    };
    format!("{what} {} {verb}", listed(names))
}

fn not_subscribed(scene: &Scene, name: &'static str) -> Option<Line> {
    let subscription = scene.plan.subscription.as_ref()?;
    let absent: Vec<&str> = scene
        .both()
        .filter(|both| !scene.states.contains_key(&both.here.oid))
        .map(|both| both.there.name.as_str())
        .collect();
    if absent.is_empty() {
        return None;
    }
    let (severity, what) = if scene.is_native() {
        (Severity::Warning, "nothing of them is replicated")
    } else if scene.states.is_empty() {
        // It was made without a copy.
        return None;
    } else {
        (
            Severity::Info,
            "their changes are replicated, and their rows were not copied",
        )
    };
    let finding = format!(
        "{} published that the subscription does not know: {}; {what}.",
        counted(absent.len(), "table"),
        listed(&absent)
    );
    let refresh = provider::named(scene.plan.provider).refresh(&subscription.subscription);
    let line = Line::new(severity, name, finding);
    let names = [subscription.subscription.as_str()];
    Some(pasteable(line, Node::Subscriber, &refresh, &names))
}

fn no_longer_published(scene: &Scene, name: &'static str) -> Option<Line> {
    let subscription = scene.plan.subscription.as_ref()?;
    let gone = &scene.here.no_longer_published;
    if gone.is_empty() || !scene.is_native() {
        return None;
    }
    let finding = format!(
        "{} of the subscription no longer published: {}.",
        counted(gone.len(), "table"),
        listed(gone)
    );
    let refresh = provider::named(scene.plan.provider).refresh(&subscription.subscription);
    let line = Line::new(Severity::Info, name, finding);
    let names = [subscription.subscription.as_str()];
    Some(pasteable(line, Node::Subscriber, &refresh, &names))
}

fn others_of<'a>(scene: &'a Scene, accept: impl Fn(&str, &str) -> bool) -> Vec<&'a str> {
    let others = scene.there.others.iter();
    others
        .filter(|one| accept(&one.kind, &one.persistence))
        .map(|one| one.name.as_str())
        .collect()
}

pub(super) fn others(scene: &Scene, name: &'static str) -> Checked {
    let tables = others_of(scene, |kind, persistence| {
        ["r", "p"].contains(&kind) && persistence == "p"
    });
    let lines = (!tables.is_empty()).then(|| {
        let finding = format!(
            "{} in the schemas of published tables not published: {}.",
            counted(tables.len(), "table"),
            listed(&tables)
        );
        let line = Line::new(Severity::Info, name, finding);
        match scene.plan.publications.first() {
            Some(first) => {
                let some: Vec<&str> = tables.iter().copied().take(super::NAMED).collect();
                let mut names = some.clone();
                names.push(first);
                let sql = if scene.is_native() {
                    format!(
                        "-- if they are to come over: ALTER PUBLICATION {} ADD TABLE {};",
                        identifier(first),
                        some.join(", ")
                    )
                } else {
                    let calls = some.iter().map(|table| {
                        format!(
                            "-- SELECT pglogical.replication_set_add_table({}, {});",
                            literal(first),
                            literal(table)
                        )
                    });
                    let calls: Vec<String> = calls.collect();
                    format!("-- if they are to come over:\n{}", calls.join("\n"))
                };
                pasteable(line, Node::Publisher, &sql, &names)
            }
            None => line,
        }
    });
    Checked {
        lines: lines.into_iter().collect(),
        fine: "Every table of the schemas of published tables is published.".to_owned(),
    }
}

/// What logical replication does not replicate, whatever is published.
pub(super) fn unreplicated(scene: &Scene, name: &'static str) -> Checked {
    let kinds: [(&str, Vec<&str>, Severity, &str); 3] = [
        (
            "unlogged table",
            others_of(scene, |kind, persistence| {
                ["r", "p"].contains(&kind) && persistence == "u"
            }),
            Severity::Warning,
            "-- if their rows are to come over: ALTER TABLE ... SET LOGGED; and publish them",
        ),
        (
            "foreign table",
            others_of(scene, |kind, _| kind == "f"),
            Severity::Info,
            "",
        ),
        (
            "materialized view",
            others_of(scene, |kind, _| kind == "m"),
            Severity::Info,
            "",
        ),
    ];
    let mut lines = Vec::new();
    for (what, names, severity, remedy) in kinds {
        if names.is_empty() {
            continue;
        }
        let finding = format!(
            "{} in the schemas of published tables: {}. Logical replication does not bring {} over.",
            counted(names.len(), what),
            listed(&names),
            if names.len() == 1 { "it" } else { "them" },
        );
        let line = Line::new(severity, name, finding);
        lines.push(if remedy.is_empty() {
            line
        } else {
            line.remedy(Node::Publisher, remedy)
        });
    }
    Checked {
        lines,
        fine: "No unlogged or foreign table and no materialized view in the schemas of published tables."
            .to_owned(),
    }
}

pub(super) fn large_objects(scene: &Scene, name: &'static str) -> Checked {
    let number = scene.there.large_objects;
    let lines = (number > 0).then(|| {
        let finding = format!(
            "{} in the publisher's database, which logical replication does not bring over.",
            counted(usize::try_from(number).unwrap_or_default(), "large object")
        );
        Line::new(Severity::Warning, name, finding).remedy(
            Node::Publisher,
            "-- bring them over while nobody writes, with pg_dump --large-objects (up to 15: --blobs), or lo_export and lo_import",
        )
    });
    Checked {
        lines: lines.into_iter().collect(),
        fine: "No large objects in the publisher's database.".to_owned(),
    }
}

pub(super) fn row_filters(scene: &Scene, name: &'static str) -> Checked {
    let mut lines = Vec::new();
    for table in &scene.there.tables {
        let published = scene.published(table);
        // What one publication sends without a filter is sent.
        if published.is_empty() || published.iter().any(|one| one.row_filter.is_none()) {
            continue;
        }
        let filters: BTreeSet<&str> = published
            .iter()
            .filter_map(|one| one.row_filter.as_deref())
            .collect();
        let filters: Vec<&str> = filters.into_iter().collect();
        let finding = format!(
            "Of {}, only rows are sent for which {}.",
            shown(&table.name),
            shown(&filters.join(" OR "))
        );
        lines.push(Line::new(Severity::Info, name, finding).on(&shown(&table.name)));
    }
    Checked {
        lines,
        fine: format!(
            "All rows of {} are sent.",
            counted(scene.there.tables.len(), "table")
        ),
    }
}

pub(super) fn column_lists(scene: &Scene, name: &'static str) -> Checked {
    let mut lines = Vec::new();
    for table in &scene.there.tables {
        lines.extend(different_lists(scene, name, table));
        let kept: Vec<&str> = table
            .columns
            .iter()
            .filter(|one| !one.is_generated() && !scene.is_sent(table, one))
            .map(|one| one.name.as_str())
            .collect();
        if kept.is_empty() {
            continue;
        }
        let finding = format!(
            "{} of {} {} not published.",
            listed(&kept),
            shown(&table.name),
            if kept.len() == 1 { "is" } else { "are" }
        );
        lines.push(Line::new(Severity::Info, name, finding).on(&shown(&table.name)));
    }
    Checked {
        lines,
        fine: format!(
            "All columns of {} are published, but for generated ones.",
            counted(scene.there.tables.len(), "table")
        ),
    }
}

/// A native subscription takes a table with one list of columns only.
fn different_lists(scene: &Scene, name: &'static str, table: &Table) -> Option<Line> {
    let published = scene.published(table);
    let mut lists = published.iter().map(|one| {
        let columns = one.columns.as_ref()?;
        Some(columns.iter().collect::<BTreeSet<_>>())
    });
    let first = lists.next()?;
    if !scene.is_native() || lists.all(|one| one == first) {
        return None;
    }
    let names: Vec<&str> = published
        .iter()
        .map(|one| one.publication.as_str())
        .collect();
    let finding = format!(
        "{} is published with different lists of columns by {}: a subscription cannot have both.",
        shown(&table.name),
        listed(&names)
    );
    let line = Line::new(Severity::Error, name, finding).on(&shown(&table.name));
    let last = names.last()?;
    let sql = format!(
        "ALTER PUBLICATION {} DROP TABLE {};",
        identifier(last),
        table.name
    );
    Some(pasteable(line, Node::Publisher, &sql, &[last, &table.name]))
}

/// Partitions that are published under their own names, which may not be the names of partitions here.
pub(super) fn partitions(scene: &Scene, name: &'static str) -> Checked {
    let mut lines = Vec::new();
    let mut roots: BTreeSet<&str> = BTreeSet::new();
    let (mut own, mut by_root) = (0, 0);
    for table in &scene.there.tables {
        if table.is_partitioned() {
            by_root += 1;
        }
        let Some(root) = &table.root else { continue };
        own += 1;
        if scene.here(table).is_none() {
            roots.insert(root);
        }
    }
    for root in roots {
        let missing: Vec<&Table> = scene
            .there
            .tables
            .iter()
            .filter(|one| one.root.as_deref() == Some(root) && scene.here(one).is_none())
            .collect();
        let names: Vec<&str> = missing.iter().map(|one| one.name.as_str()).collect();
        let finding = format!(
            "{} of {} published under {} own name and not here: {}.",
            counted(names.len(), "partition"),
            shown(root),
            if names.len() == 1 { "its" } else { "their" },
            listed(&names)
        );
        let mut line = Line::new(Severity::Info, name, finding).on(&shown(root));
        let publication = missing.first().and_then(|one| scene.published(one).first());
        if let Some(publication) =
            publication.filter(|_| scene.is_native() && scene.version >= 130_000)
        {
            let sql = format!(
                "-- if the partitions here are others: ALTER PUBLICATION {} SET (publish_via_partition_root = true);",
                identifier(&publication.publication)
            );
            line = pasteable(line, Node::Publisher, &sql, &[&publication.publication]);
        }
        lines.push(line);
    }
    lines.extend(
        scene
            .both()
            .filter_map(|both| plain_here(scene, name, both)),
    );
    Checked {
        lines,
        fine: match (own, by_root) {
            (0, 0) => "No partitioned table is published.".to_owned(),
            _ => format!(
                "{} published under their own names and here; {} published as one table.",
                counted(own, "partition"),
                counted(by_root, "partitioned table")
            ),
        },
    }
}

/// The changes of all partitions go into one plain table: that is what it is for, and what nobody should overlook.
fn plain_here(scene: &Scene, name: &'static str, both: Both) -> Option<Line> {
    let via_root = scene.published(both.there).iter().any(|one| one.via_root);
    if !both.there.is_partitioned() || !via_root || both.here.is_partitioned() {
        return None;
    }
    let finding = format!(
        "{} is partitioned there and a plain table here, which takes the rows of all partitions.",
        shown(&both.here.name)
    );
    Some(Line::new(Severity::Info, name, finding).on(&shown(&both.here.name)))
}
