//! What the publisher has to be like.

use super::super::line::{Line, Node, Severity};
use super::advice::{From, listed, shown};
use super::{Case, one};
use crate::subscription::quote::{identifier, literal};

const OLDEST: i32 = 100_000;
const NEWEST: i32 = 180_000;
/// From here on a standby can be a publisher.
const DECODING_ON_STANDBY: i32 = 160_000;
/// From here on WAL becomes logical by itself as soon as there is a logical slot.
const LOGICAL_ON_DEMAND: i32 = 190_000;

pub(super) fn version(case: &Case) -> Vec<Line> {
    const NAME: &str = "publisher_version";
    let finding = format!(
        "PostgreSQL {} publishes, and {} subscribes.",
        case.there.server_version, case.here.server_version
    );
    let major = case.there.version / 10_000 * 10_000;
    one(if major < OLDEST {
        Line::new(
            Severity::Error,
            NAME,
            format!("{finding} Native publishers begin with 10."),
        )
        .remedy(Node::Publisher, "-- use pglogical, or upgrade it first")
    } else if major > NEWEST {
        Line::new(
            Severity::Info,
            NAME,
            format!("{finding} The publisher is newer than what this extension knows."),
        )
    } else {
        Line::ok(NAME, finding)
    })
}

pub(super) fn recovery(case: &Case) -> Vec<Line> {
    const NAME: &str = "publisher_recovery";
    one(match (case.there.is_in_recovery, case.there.version) {
        (false, _) => Line::ok(NAME, "The publisher is no standby.".to_owned()),
        (true, version) if version < DECODING_ON_STANDBY => Line::new(
            Severity::Error,
            NAME,
            format!(
                "The publisher is a standby, which cannot decode its WAL in PostgreSQL {} (16 and later can).",
                case.there.server_version
            ),
        )
        .remedy(
            Node::Subscriber,
            "-- name its primary in the connection string",
        ),
        (true, _) => Line::new(
            Severity::Info,
            NAME,
            "The publisher is a standby: publications are made on its primary, whose wal_level has to be logical, and a new slot waits for its primary's next running-xacts record."
                .to_owned(),
        )
        .remedy(
            Node::Publisher,
            "-- on its primary, while the slot is made: SELECT pg_log_standby_snapshot();",
        ),
    })
}

pub(super) fn wal_level(case: &Case) -> Vec<Line> {
    const NAME: &str = "wal_level";
    let there = case.there;
    one(match there.settings.text(NAME) {
        Some("logical") => Line::ok(NAME, "wal_level is logical on the publisher.".to_owned()),
        Some("replica") if there.version >= LOGICAL_ON_DEMAND => Line::ok(
            NAME,
            "wal_level is replica on the publisher, which becomes logical with its first slot."
                .to_owned(),
        ),
        Some(level) => Line::new(
            Severity::Error,
            NAME,
            format!("wal_level is {level} on the publisher, and has to be logical."),
        )
        .set_there(there, NAME, "logical", From::Restart),
        None => Line::not_checked(NAME, "the publisher does not show it."),
    })
}

/// Publications, or replication sets.
pub(super) fn publications(case: &Case) -> Vec<Line> {
    let plan = case.plan;
    let (name, what) = if plan.is_native() {
        ("publications", "publication")
    } else {
        ("replication_sets", "replication set")
    };
    if plan.publications.is_empty() {
        return one(Line::new(
            Severity::Error,
            name,
            format!("No {what} is named: nothing would be replicated."),
        )
        .remedy(
            Node::Subscriber,
            "-- name some: SELECT * FROM repl_preflight('…', '{…}');",
        ));
    }
    let there = match (plan.is_native(), case.pglogical) {
        (true, _) => &case.there.publications,
        (false, Some(Ok(pglogical))) => &pglogical.sets,
        (false, Some(Err(message))) => {
            return one(Line::not_checked(name, &format!("{}.", shown(message))));
        }
        (false, None) => {
            return one(Line::not_checked(
                name,
                "pglogical is not installed in the publisher's database, or its schema not open to the role.",
            ));
        }
    };
    let (known, missing): (Vec<&String>, Vec<&String>) = plan
        .publications
        .iter()
        .partition(|one| there.contains(one));
    let mut lines: Vec<Line> = missing
        .iter()
        .map(|one| {
            let line = Line::new(
                Severity::Error,
                name,
                format!("The publisher has no {what} {}.", listed([one.as_str()])),
            )
            .on(&shown(one));
            match plan.is_native() {
                true => line.naming(
                    Node::Publisher,
                    &[one],
                    &format!("-- CREATE PUBLICATION {} FOR TABLE …;", identifier(one)),
                ),
                false => line.naming(
                    Node::Publisher,
                    &[one],
                    &format!(
                        "SELECT pglogical.create_replication_set({});\n-- and its tables: pglogical.replication_set_add_table(…)",
                        literal(one)
                    ),
                ),
            }
        })
        .collect();
    if !known.is_empty() {
        let names = listed(known.iter().map(|one| one.as_str()));
        lines.push(Line::ok(
            name,
            format!("On the publisher there is: {what} {names}."),
        ));
    }
    lines
}

/// Whether it really may replicate was tried: that is `replication_connection`.
pub(super) fn role(case: &Case) -> Vec<Line> {
    const NAME: &str = "publisher_role";
    let there = case.there;
    let user = shown(&there.user);
    let hidden: Vec<&str> = [
        (there.reads_settings, "pg_read_all_settings"),
        (there.reads_stats, "pg_read_all_stats"),
    ]
    .into_iter()
    .filter(|(has, _)| !has && !there.is_superuser)
    .map(|(_, role)| role)
    .collect();
    let kind = match (there.is_superuser, there.may_replicate) {
        (true, _) => "a superuser",
        (false, true) => "no superuser, and may replicate",
        (false, false) => "no superuser, without REPLICATION",
    };
    if there.is_superuser || hidden.is_empty() {
        return one(Line::ok(
            NAME,
            format!("The publisher's role \"{user}\" is {kind}."),
        ));
    }
    let line = Line::new(
        Severity::Info,
        NAME,
        format!(
            "The publisher's role \"{user}\" is {kind}. Not checked: what it is not shown, as it is no member of {}.",
            hidden.join(" and ")
        ),
    );
    let line = line.on(&user);
    let grant = format!(
        "GRANT {} TO {};",
        hidden.join(", "),
        identifier(&there.user)
    );
    one(line.naming(Node::Publisher, &[&there.user], &grant))
}

#[cfg(test)]
mod tests {
    use super::super::facts::{Here, Settings, Size, There};
    use super::super::testing::lines_of;
    use super::*;
    use crate::preflight::Plan;

    fn line_of(check: fn(&Case) -> Vec<Line>, there: &There) -> Line {
        let size = Ok(Size::default());
        let mut lines = lines_of(check, &Plan::default(), &Here::default(), there, &size);
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines.remove(0)
    }

    #[test]
    fn managed_server_is_set_up_in_its_console() {
        let settings = Settings::default().set("wal_level", "replica", None);
        for (own, said) in [
            (
                "rds.logical_replication",
                "set rds.logical_replication = 1, and restart it",
            ),
            (
                "cloudsql.logical_decoding",
                "set cloudsql.logical_decoding = on",
            ),
            ("azure.extensions", "set wal_level = logical"),
            ("other", "ALTER SYSTEM SET wal_level = logical;"),
        ] {
            let there = There {
                version: 150_000,
                settings: settings.clone().set(own, "off", None),
                ..There::default()
            };
            let line = line_of(wal_level, &there);
            assert_eq!(line.severity, Severity::Error);
            let remedy = line.remedy.unwrap_or_default();
            assert!(remedy.contains(said), "{remedy}");
        }
    }

    #[test]
    fn what_a_version_can_is_known() {
        let there = |version, is_in_recovery, level: &str| There {
            version,
            is_in_recovery,
            settings: Settings::default().set("wal_level", level, None),
            ..There::default()
        };
        for (check, there, expected) in [
            (
                version as fn(&Case) -> Vec<Line>,
                there(90_624, false, "logical"),
                Severity::Error,
            ),
            (version, there(100_023, false, "logical"), Severity::Ok),
            (version, there(180_001, false, "logical"), Severity::Ok),
            (version, there(190_000, false, "logical"), Severity::Info),
            (recovery, there(150_020, true, "logical"), Severity::Error),
            (recovery, there(160_000, true, "logical"), Severity::Info),
            (wal_level, there(180_001, false, "replica"), Severity::Error),
            (wal_level, there(190_000, false, "replica"), Severity::Ok),
        ] {
            assert_eq!(line_of(check, &there).severity, expected, "{there:?}");
        }
    }
}
