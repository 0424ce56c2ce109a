//! What this server has to be like.

use super::super::Plan;
use super::super::line::{Line, Node, Severity};
use super::advice::From;
use super::facts::Here;
use super::one;
use crate::subscription::quote::identifier;

/// From here on update_origin_differs and the like are found (with track_commit_timestamp).
const CONFLICTS_BY_ORIGIN: i32 = 180_000;

pub(super) fn recovery(_: &Plan, here: &Here) -> Vec<Line> {
    const NAME: &str = "subscriber_recovery";
    one(if here.is_in_recovery {
        Line::new(
            Severity::Error,
            NAME,
            "This server is a standby, on which nothing can be applied.".to_owned(),
        )
        .remedy(
            Node::Subscriber,
            "-- subscribe on its primary, or promote it: SELECT pg_promote();",
        )
    } else {
        Line::ok(NAME, "This server is no standby.".to_owned())
    })
}

/// With another library in the list, where it has to stay.
fn preloading(here: &Here, library: &str) -> String {
    let before = here.settings.text("shared_preload_libraries");
    let libraries: Vec<String> = before
        .unwrap_or_default()
        .split(',')
        .map(|one| one.trim().trim_matches('"').to_owned())
        .filter(|one| !one.is_empty() && one != library)
        .chain([library.to_owned()])
        .map(|one| format!("'{}'", one.replace('\'', "''")))
        .collect();
    libraries.join(", ")
}

fn preloads(here: &Here, library: &str) -> bool {
    let libraries = here.settings.text("shared_preload_libraries");
    libraries
        .unwrap_or_default()
        .split(',')
        .any(|one| one.trim().trim_matches('"') == library)
}

pub(super) fn replwarden_preload(_: &Plan, here: &Here) -> Vec<Line> {
    const NAME: &str = "replwarden_preload";
    one(if preloads(here, "replwarden") {
        Line::ok(
            NAME,
            "replwarden is preloaded: it watches, captures errors and breaks crash loops."
                .to_owned(),
        )
    } else {
        Line::new(
            Severity::Info,
            NAME,
            "replwarden is not preloaded: nobody watches the subscriptions, captures errors or breaks a crash loop."
                .to_owned(),
        )
        .set_here(
            "shared_preload_libraries",
            &preloading(here, "replwarden"),
            From::Restart,
        )
    })
}

/// The extension and its library; its node is a matter of both sides.
pub(super) fn pglogical(plan: &Plan, here: &Here) -> Vec<Line> {
    if plan.is_native() {
        return Vec::new();
    }
    let extension = match here.extensions.get("pglogical") {
        Some(version) => Line::ok(
            "pglogical_extension",
            format!("pglogical {version} is installed in this database."),
        ),
        None => Line::new(
            Severity::Error,
            "pglogical_extension",
            "pglogical is not installed in this database.".to_owned(),
        )
        .remedy(Node::Subscriber, "CREATE EXTENSION pglogical;"),
    };
    let preload = if preloads(here, "pglogical") {
        Line::ok(
            "pglogical_preload",
            "pglogical is preloaded on this server.".to_owned(),
        )
    } else {
        Line::new(
            Severity::Error,
            "pglogical_preload",
            "pglogical is not preloaded on this server: it has no workers.".to_owned(),
        )
        .set_here(
            "shared_preload_libraries",
            &preloading(here, "pglogical"),
            From::Restart,
        )
    };
    // One cannot be created without the other.
    vec![preload.on("subscriber"), extension.on("subscriber")]
}

/// Of the transactions that are applied. What is lost in a crash is sent again.
pub(super) fn synchronous_commit(plan: &Plan, here: &Here) -> Vec<Line> {
    const NAME: &str = "synchronous_commit";
    let value = match (&here.subscription, plan.is_native()) {
        (Some(row), true) => row.get("subsynccommit").and_then(|one| one.as_str()),
        (_, false) => here.settings.text("pglogical.synchronous_commit"),
        _ => Some("off"),
    };
    let value = value.unwrap_or("off");
    if value == "off" || value == "local" && !plan.is_native() {
        return one(Line::ok(
            NAME,
            "Applied transactions do not wait for the disk or for a standby (synchronous_commit of the subscription is off)."
                .to_owned(),
        ));
    }
    let line = Line::new(
        Severity::Info,
        NAME,
        format!(
            "Each applied transaction waits for the disk, or for a standby (synchronous_commit = {value}); nothing is lost without it, as the publisher sends it again."
        ),
    );
    one(match &plan.subscription {
        Some(one) if plan.is_native() => line.naming(
            Node::Subscriber,
            &[&one.subscription],
            &format!(
                "ALTER SUBSCRIPTION {} SET (synchronous_commit = 'off');",
                identifier(&one.subscription)
            ),
        ),
        _ => line.set_here("pglogical.synchronous_commit", "off", From::Restart),
    })
}

/// Without it the server cannot tell, when there is a conflict, when and by whom the row here was changed.
pub(super) fn track_commit_timestamp(plan: &Plan, here: &Here) -> Vec<Line> {
    const NAME: &str = "track_commit_timestamp";
    one(if here.settings.text(NAME) == Some("on") {
        Line::ok(NAME, "track_commit_timestamp is on.".to_owned())
    } else if !plan.is_native() {
        Line::ok(
            NAME,
            "track_commit_timestamp is off: pglogical.conflict_resolution can be apply_remote or error."
                .to_owned(),
        )
    } else if here.version < CONFLICTS_BY_ORIGIN {
        Line::ok(
            NAME,
            "track_commit_timestamp is off; native replication uses it from PostgreSQL 18 on."
                .to_owned(),
        )
    } else {
        Line::new(
            Severity::Info,
            NAME,
            "track_commit_timestamp is off: a conflict with a row that somebody else has changed here is not noticed."
                .to_owned(),
        )
        .set_here(NAME, "on", From::Restart)
    })
}
