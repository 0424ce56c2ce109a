//! Whether both databases fit each other.

use super::super::line::{Line, Node, Severity};
use super::advice::{counted, listed, shown};
use super::{Case, one};
use crate::subscription::quote::identifier;
use crate::subscription::unit::bytes;

/// Of the file system that the data directory is on; tablespaces have their own.
pub(super) fn disk_space(case: &Case) -> Vec<Line> {
    const NAME: &str = "disk_space";
    let size = match case.size {
        Ok(size) => size,
        Err(why) => return one(Line::not_checked(NAME, &format!("{}.", shown(why)))),
    };
    let Some(free) = case.here.free_bytes else {
        return one(Line::not_checked(
            NAME,
            "the file system of the data directory does not tell how much it has left.",
        ));
    };
    let finding = format!(
        "Published: {}, {} and {} of indexes; the data directory here has {} left",
        counted(size.tables, "table"),
        bytes(size.bytes),
        bytes(size.index_bytes),
        bytes(free)
    );
    let whole = size.bytes.saturating_add(size.index_bytes);
    if !case.plan.copies() {
        return one(Line::ok(NAME, format!("{finding}.")));
    }
    let make_room = "-- make room on the file system of SHOW data_directory, or move large tables to another tablespace";
    one(if size.bytes > free {
        Line::new(
            Severity::Error,
            NAME,
            format!("{finding}: the copy does not fit."),
        )
        .remedy(Node::Subscriber, make_room)
    } else if whole.saturating_add(whole / 4) > free {
        Line::new(
            Severity::Warning,
            NAME,
            format!("{finding}: with indexes and WAL the copy may not fit."),
        )
        .remedy(Node::Subscriber, make_room)
    } else {
        Line::ok(NAME, format!("{finding}."))
    })
}

pub(super) fn encoding(case: &Case) -> Vec<Line> {
    const NAME: &str = "encoding";
    let (from, to) = (
        case.there.database.encoding.as_str(),
        case.here.database.encoding.as_str(),
    );
    let again = "-- CREATE DATABASE … ENCODING … TEMPLATE template0; with the encoding of the publisher, or UTF8";
    let unlike = |severity, what: &str| {
        let finding =
            format!("The encoding is {from} on the publisher and {to} in this database: {what}.");
        Line::new(severity, NAME, finding).remedy(Node::Subscriber, again)
    };
    one(if from == to {
        Line::ok(NAME, format!("Both databases have the encoding {to}."))
    } else if from == "SQL_ASCII" || to == "SQL_ASCII" {
        unlike(
            Severity::Warning,
            "texts are not converted, and what is no text here ends replication",
        )
    } else if !case.here.convertible.iter().any(|one| one == from) {
        unlike(Severity::Error, "there is no conversion between them")
    } else if to == "UTF8" {
        Line::ok(
            NAME,
            format!(
                "The encoding is {from} on the publisher, and UTF8 here, which has all its characters."
            ),
        )
    } else {
        unlike(
            Severity::Warning,
            &format!("a character that {to} does not have ends replication"),
        )
    })
}

pub(super) fn collation(case: &Case) -> Vec<Line> {
    const NAME: &str = "collation";
    let (there, here) = (case.there.database.locale(), case.here.database.locale());
    let said = |locale: &[String]| shown(&locale.join(", "));
    one(if there == here {
        Line::ok(
            NAME,
            format!("Both databases sort alike ({}).", said(&here)),
        )
    } else {
        Line::new(
            Severity::Info,
            NAME,
            format!(
                "The publisher's database sorts by {}, this one by {}: ORDER BY and comparisons of texts may differ.",
                said(&there),
                said(&here)
            ),
        )
    })
}

/// Those of which a table has a type are needed; others may be.
pub(super) fn extensions(case: &Case) -> Vec<Line> {
    const NAME: &str = "extensions";
    let is_of_provider = |name: &str| name.starts_with("pglogical");
    let there = &case.there.extensions;
    let missing: Vec<_> = there
        .iter()
        .filter(|one| !case.here.extensions.contains_key(&one.name) && !is_of_provider(&one.name))
        .collect();
    if missing.is_empty() {
        let names = there.iter().map(|one| one.name.as_str());
        return one(Line::ok(
            NAME,
            format!(
                "The extensions of the publisher's database are in this one, too: {}.",
                listed(names.filter(|name| !is_of_provider(name)))
            ),
        ));
    }
    missing
        .into_iter()
        .map(|one| {
            let name = listed([one.name.as_str()]);
            let (severity, what) = if one.is_used {
                (Severity::Warning, "tables there have columns of its types")
            } else {
                (Severity::Info, "no column there is of a type of it")
            };
            let is_available = case.here.available.contains(&one.name);
            let package = match is_available {
                true => "",
                false => " Its files are not on this server either.",
            };
            let line = Line::new(
                severity,
                NAME,
                format!(
                    "Extension {name} {} is in the publisher's database, not in this one; {what}.{package}",
                    shown(&one.version)
                ),
            )
            .on(&shown(&one.name));
            let create = format!("CREATE EXTENSION {} CASCADE;", identifier(&one.name));
            let create = match is_available {
                true => create,
                false => format!("-- install its package, then: {create}"),
            };
            line.naming(Node::Subscriber, &[&one.name], &create)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::facts::{Database, Here, Size, There};
    use super::super::testing::lines_of;
    use super::*;
    use crate::preflight::Plan;

    fn judged(
        check: fn(&Case) -> Vec<Line>,
        here: &Here,
        there: &There,
        size: &Result<Size, String>,
    ) -> Severity {
        let lines = lines_of(check, &Plan::default(), here, there, size);
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines[0].severity
    }

    #[test]
    fn copy_has_to_fit() {
        let size = Ok(Size {
            tables: 1,
            bytes: 100,
            index_bytes: 60,
        });
        for (free, severity) in [
            (Some(99), Severity::Error),
            (Some(199), Severity::Warning),
            (Some(200), Severity::Ok),
            (None, Severity::Info),
        ] {
            let here = Here {
                free_bytes: free,
                ..Here::default()
            };
            let found = judged(disk_space, &here, &There::default(), &size);
            assert_eq!(found, severity, "{free:?}");
        }
        let unknown = Err("permission denied".to_owned());
        let found = judged(disk_space, &Here::default(), &There::default(), &unknown);
        assert_eq!(found, Severity::Info);
    }

    #[test]
    fn encodings_have_to_be_convertible() {
        let database = |encoding: &str| Database {
            encoding: encoding.to_owned(),
            ..Database::default()
        };
        for (from, to, severity) in [
            ("UTF8", "UTF8", Severity::Ok),
            ("LATIN1", "UTF8", Severity::Ok),
            ("UTF8", "LATIN1", Severity::Warning),
            ("SQL_ASCII", "UTF8", Severity::Warning),
            ("MULE_INTERNAL", "UTF8", Severity::Error),
        ] {
            let here = Here {
                database: database(to),
                convertible: vec!["LATIN1".to_owned(), "UTF8".to_owned()],
                ..Here::default()
            };
            let there = There {
                database: database(from),
                ..There::default()
            };
            let found = judged(encoding, &here, &there, &Ok(Size::default()));
            assert_eq!(found, severity, "{from} to {to}");
        }
    }
}
