//! What pglogical needs on the publisher; and what either provider needs to be allowed to decode there.

use super::super::line::{Line, Node, Severity};
use super::advice::{From, shown};
use super::{Case, one};
use crate::subscription::conninfo::Conninfo;
use crate::subscription::quote::{identifier, literal};

/// The extension, its library and the right to use it.
pub(super) fn installed(case: &Case) -> Vec<Line> {
    if case.plan.is_native() {
        return Vec::new();
    }
    let there = case.there;
    let mut lines = Vec::new();
    // Its settings are there in each session if the server has preloaded it.
    let is_preloaded = there
        .settings
        .text("pglogical.conflict_resolution")
        .is_some();
    lines.push(
        match is_preloaded {
            true => Line::ok(
                "pglogical_preload",
                "pglogical is preloaded on the publisher.".to_owned(),
            ),
            false => preload(case),
        }
        .on("publisher"),
    );
    let version = there.extensions.iter().find(|one| one.name == "pglogical");
    let Some(extension) = version else {
        lines.push(
            Line::new(
                Severity::Error,
                "pglogical_extension",
                "pglogical is not installed in the publisher's database.".to_owned(),
            )
            .on("publisher")
            .remedy(Node::Publisher, "CREATE EXTENSION pglogical;"),
        );
        return lines;
    };
    let here = case.here.extensions.get("pglogical");
    let minor = |version: &str| {
        let mut parts = version.split('.');
        (
            parts.next().map(str::to_owned),
            parts.next().map(str::to_owned),
        )
    };
    lines.push(match here {
        Some(here) if minor(here) != minor(&extension.version) => Line::new(
            Severity::Info,
            "pglogical_extension",
            format!(
                "pglogical is {} on the publisher and {here} here; the same version on both sides is better.",
                shown(&extension.version)
            ),
        ),
        _ => Line::ok(
            "pglogical_extension",
            format!("pglogical {} is installed in the publisher's database.", shown(&extension.version)),
        ),
    }.on("publisher"));
    if !there.is_superuser {
        lines.push(
            Line::new(
                Severity::Info,
                "pglogical_role",
                format!(
                    "The publisher's role \"{}\" is no superuser, which pglogical asks for; managed servers have a role of their own instead (rds_superuser).",
                    shown(&there.user)
                ),
            )
            .on(&shown(&there.user)),
        );
    }
    if there.uses_pglogical == Some(false) {
        let line = Line::new(
            Severity::Error,
            "pglogical_rights",
            format!(
                "The publisher's role \"{}\" may not use the schema pglogical.",
                shown(&there.user)
            ),
        )
        .on(&shown(&there.user));
        let user = identifier(&there.user);
        let grants = format!(
            "GRANT USAGE ON SCHEMA pglogical TO {user};\nGRANT SELECT ON ALL TABLES IN SCHEMA pglogical TO {user};"
        );
        lines.push(line.naming(Node::Publisher, &[&there.user], &grants));
    }
    lines
}

fn preload(case: &Case) -> Line {
    let line = Line::new(
        Severity::Error,
        "pglogical_preload",
        "pglogical is not preloaded on the publisher.".to_owned(),
    );
    match case.there.settings.text("shared_preload_libraries") {
        Some(before) => {
            let libraries: Vec<String> = before
                .split(',')
                .map(|one| one.trim().trim_matches('"'))
                .filter(|one| !one.is_empty())
                .chain(["pglogical"])
                .map(literal)
                .collect();
            line.set_there(
                case.there,
                "shared_preload_libraries",
                &libraries.join(", "),
                From::Restart,
            )
        }
        None => line.remedy(
            Node::Publisher,
            "-- add pglogical to shared_preload_libraries, and restart the server",
        ),
    }
}

/// A list in which each element stands for itself: quotes around the whole would make one of it. Servers that do not have the
/// setting allow everything.
pub(super) fn output_plugin(case: &Case) -> Vec<Line> {
    const NAME: &str = "output_plugin_libraries";
    let needed = match case.plan.is_native() {
        true => "pgoutput",
        false => "pglogical_output",
    };
    let there = case.there;
    let Some(allowed) = there.settings.text(NAME) else {
        return one(if there.reads_settings || there.is_superuser {
            Line::ok(
                NAME,
                format!(
                    "PostgreSQL {} on the publisher allows any output plugin, and so {needed}.",
                    there.server_version
                ),
            )
        } else {
            Line::not_checked(
                NAME,
                &format!(
                    "whether the publisher allows the output plugin {needed}: \"{}\" is no member of pg_read_all_settings there.",
                    shown(&there.user)
                ),
            )
        });
    };
    let allowed: Vec<&str> = allowed
        .split(',')
        .map(|one| one.trim().trim_matches('"'))
        .filter(|one| !one.is_empty())
        .collect();
    if allowed.contains(&needed) {
        return one(Line::ok(
            NAME,
            format!("The publisher allows the output plugin {needed}."),
        ));
    }
    let line = Line::new(
        Severity::Error,
        NAME,
        format!(
            "The publisher does not allow the output plugin {needed}, only {}.",
            shown(&allowed.join(", "))
        ),
    );
    let list: Vec<String> = [needed]
        .into_iter()
        .chain(allowed.iter().copied())
        .map(|one| match is_simple(one) {
            true => one.to_owned(),
            false => identifier(one),
        })
        .collect();
    one(line.set_there(case.there, NAME, &list.join(", "), From::Reload))
}

/// It needs no quotes.
fn is_simple(name: &str) -> bool {
    name.bytes()
        .all(|one| one.is_ascii_lowercase() || one.is_ascii_digit() || one == b'_')
        && !name.starts_with(|first: char| first.is_ascii_digit())
}

/// A node on each side, with names of their own.
pub(super) fn nodes(case: &Case) -> Vec<Line> {
    const NAME: &str = "pglogical_node";
    if case.plan.is_native() {
        return Vec::new();
    }
    let there = match case.pglogical {
        Some(Ok(pglogical)) => Some(pglogical.node.as_deref()),
        _ => None,
    };
    let here = case.here.pglogical.as_ref();
    let here = here.map(|pglogical| pglogical.node.as_deref());
    let place = Conninfo::parse(&case.plan.conninfo).shown();
    let mut lines = Vec::new();
    lines.push(
        match there {
            Some(Some(node)) => Line::ok(
                NAME,
                format!("The publisher's node is \"{}\".", shown(node)),
            ),
            Some(None) => {
                let line = Line::new(
                    Severity::Error,
                    NAME,
                    "The publisher's database is no node of pglogical.".to_owned(),
                );
                let dsn = literal(&place);
                let create =
                    format!("SELECT pglogical.create_node(node_name := 'provider', dsn := {dsn});");
                line.naming(Node::Publisher, &[&place], &create)
            }
            None => Line::not_checked(NAME, "the publisher does not tell."),
        }
        .on("publisher"),
    );
    lines.push(match (here, there) {
        (Some(Some(here)), Some(Some(there))) if here == there => Line::new(
            Severity::Error,
            NAME,
            format!("Both nodes are named \"{}\": one of them has to be made again with another name.", shown(here)),
        )
        .remedy(
            Node::Subscriber,
            "-- SELECT pglogical.drop_node('<name>'); then pglogical.create_node(…) with another name",
        ),
        (Some(Some(here)), _) => {
            Line::ok(NAME, format!("The node of this database is \"{}\".", shown(here)))
        }
        (Some(None), _) => Line::new(
            Severity::Error,
            NAME,
            "This database is no node of pglogical.".to_owned(),
        )
        .remedy(
            Node::Subscriber,
            "-- with a way in which this server reaches itself:\n\
             -- SELECT pglogical.create_node(node_name := 'subscriber', dsn := 'host=… port=… dbname=… user=…');",
        ),
        (None, _) => Line::not_checked(NAME, "pglogical is not installed in this database."),
    }.on("subscriber"));
    lines
}
