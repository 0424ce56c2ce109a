//! What there is to say of a subscription besides why it is in its state.

use super::Scene;
use super::standing;
use crate::subscription::captured::WorkerKind;
use crate::subscription::cause::{Cause, Severity};
use crate::subscription::finding::{Finding, error_facts, plain};
use crate::subscription::publisher::retention_warning;
use crate::subscription::quote::{identifier, literal};
use crate::subscription::unit::{bytes, duration};
use serde_json::json;

pub(super) fn findings(scene: &Scene) -> Vec<Finding> {
    let mut found: Vec<Finding> = [
        is_ahead(scene),
        not_answered(scene),
        retention(scene),
        has_missing_publication(scene).then(|| publication_missing(scene)),
        last_failure(scene),
        not_subscribed(scene),
        copy_failed(scene),
        apply_delay(scene),
        two_phase(scene),
    ]
    .into_iter()
    .flatten()
    .collect();
    found.sort_by_key(|one| std::cmp::Reverse(one.severity));
    found
}

/// The transaction over which the worker failed is still to come, while it is at it for longer than before.
fn last_failure(scene: &Scene) -> Option<Finding> {
    let is_enabled = scene.subscription.enabled;
    let standing = standing::of_data(scene).filter(|_| is_enabled)?;
    Some(scene.failing(&standing))
}

/// The worker is connected and may not have noticed yet; pglogical does not tell when it last heard anything.
fn not_answered(scene: &Scene) -> Option<Finding> {
    let known = scene.around.known.filter(|known| known.is_unreachable)?;
    if !scene.subscription.enabled || scene.subscription.is_apart() {
        return None;
    }
    let reason = known.error.as_deref().map(plain);
    let reason = reason.map_or(String::new(), |reason| format!(": {reason}"));
    Some(scene.finding(
        Severity::Warning,
        Cause::PublisherUnreachable,
        format!("The publisher does not answer replwarden{reason}. Whether the apply worker still hears from it is not known."),
    ))
}

/// The publisher is another server, or an older state of it.
fn is_ahead(scene: &Scene) -> Option<Finding> {
    scene.around.known.filter(|known| known.is_ahead)?;
    Some(scene.finding(
        Severity::Critical,
        Cause::SilentLoss,
        "What is applied here is beyond the end of the publisher's WAL: it is another server, or was restored from a backup. Changes up to that position are skipped without a word.",
    ))
}

fn retention(scene: &Scene) -> Option<Finding> {
    let publisher = scene.publisher()?;
    let slot = publisher.slot.as_ref()?;
    let retained = slot
        .restart_lsn
        .map(|restart| publisher.lsn.saturating_sub(restart).max(0));
    let text = retention_warning(
        &slot.row,
        retained,
        publisher.max_wal_size,
        publisher.max_slot_wal_keep_size,
    )?;
    let severity = if slot.row.is_invalidated() {
        Severity::Critical
    } else {
        Severity::Warning
    };
    Some(
        scene
            .finding(severity, Cause::WalRetention, text)
            .with(json!({
                "slot": slot.name, "retained_bytes": retained, "retained": retained.map(bytes),
                "wal_status": slot.row.wal_status, "safe_wal_size": slot.row.safe_wal_size,
            })),
    )
}

fn has_missing_publication(scene: &Scene) -> bool {
    let known = scene.around.known;
    known.is_some_and(|known| !known.publications_missing.is_empty())
}

/// Up to 17 the apply worker ends over it as soon as a change comes (`LoadPublications` of pgoutput.c); where it still runs,
/// nothing of it is replicated.
pub(super) fn publication_missing(scene: &Scene) -> Finding {
    let known = scene.around.known;
    let missing = known.map(|known| known.publications_missing.as_slice());
    let missing = missing.unwrap_or_default();
    let severity = if scene.subscription.enabled && scene.subscription.is_apart() {
        Severity::Critical
    } else {
        Severity::Warning
    };
    scene
        .finding(
            severity,
            Cause::PublicationMissing,
            format!(
                "The publisher does not have: {}.{}",
                plain(&missing.join(", ")),
                if scene.subscription.provider == "native" {
                    " From PostgreSQL 18 on it goes on without, and what is changed in its tables is never sent."
                } else {
                    ""
                }
            ),
        )
        .with(json!({"publications": missing}))
}

/// What pglogical has published and does not have here, it streams all the same.
fn not_subscribed(scene: &Scene) -> Option<Finding> {
    let number = scene.around.known?.tables_absent;
    if number == 0 || scene.subscription.provider == "pglogical" {
        return None;
    }
    let tables = match number {
        1 => "1 published table is not subscribed, and stays empty here".to_owned(),
        number => format!("{number} published tables are not subscribed, and stay empty here"),
    };
    Some(
        scene
            .finding(
                Severity::Warning,
                Cause::TablesNotSubscribed,
                format!("{tables}. SELECT * FROM repl_tables WHERE state IN ('not subscribed', 'missing') shows which; those that are missing have to be created first."),
            )
            .with(json!({"tables_absent": number})),
    )
}

/// In seconds: nobody can tell whether the table was copied again since, so it is not said for ever.
const COPY_FAILED: f64 = 86_400.0;

/// pglogical goes on as if the table were copied when COPY fails here (`copy_table_data` of pglogical_sync.c).
fn copy_failed(scene: &Scene) -> Option<Finding> {
    let subscription = scene.subscription;
    let mut errors = scene.around.errors.iter();
    let error = errors.find(|error| {
        error.kind == WorkerKind::Copy
            && error.id == Some(subscription.id)
            && scene.age(error) < COPY_FAILED
    })?;
    if subscription.is_copying() {
        return None;
    }
    let table = error.relation_name.as_deref().map(plain);
    let of = table
        .as_ref()
        .map_or_else(String::new, |table| format!(" of {table}"));
    let mut finding = scene
        .finding(
            Severity::Warning,
            Cause::CopyFailedSilently,
            format!(
                "The copy{of} failed {} ago ({}), and pglogical streams as if it had not: rows are missing here.",
                duration(scene.age(error)),
                plain(&error.message)
            ),
        )
        .with(error_facts(error));
    finding.remedy = error.relation.as_ref().map(|(schema, table)| {
        let is_plain = ![schema, table, &subscription.subscription]
            .iter()
            .any(|name| name.contains(char::is_control));
        if !is_plain {
            return "-- its name holds control characters: rename it before anything else".to_owned();
        }
        format!(
            "SELECT pglogical.alter_subscription_resynchronize_table({}, {}); -- after mending what the error says",
            literal(&subscription.subscription),
            literal(&format!("{}.{}", identifier(schema), identifier(table)))
        )
    });
    Some(finding)
}

pub(super) fn apply_delay(scene: &Scene) -> Option<Finding> {
    let delay = scene.subscription.apply_delay;
    (delay > 0.0).then(|| {
        scene
            .finding(
                Severity::Info,
                Cause::ApplyDelay,
                format!(
                    "Everything is applied {} late, as the subscription has it (apply_delay).",
                    duration(delay)
                ),
            )
            .with(json!({"apply_delay_seconds": delay}))
    })
}

fn two_phase(scene: &Scene) -> Option<Finding> {
    scene.subscription.two_phase_pending.then(|| {
        scene.finding(
            Severity::Info,
            Cause::TwoPhasePending,
            "Prepared transactions come when they commit: two_phase takes effect when all tables are ready.",
        )
    })
}
