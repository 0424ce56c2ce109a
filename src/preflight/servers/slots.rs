//! The replication slots of the publisher: that of the subscription, and others that hold back WAL.

use super::super::line::{Line, Node, Severity};
use super::advice::{counted, listed, shown};
use super::facts::Slot;
use super::{Case, one};
use crate::subscription::provider;
use crate::subscription::publisher::retention_warning;
use crate::subscription::quote::literal;
use crate::subscription::unit::bytes;

pub(super) fn own_slot(case: &Case) -> Vec<Line> {
    const NAME: &str = "slot";
    let Some(subscription) = &case.plan.subscription else {
        return Vec::new();
    };
    let start_over = |line: Line| {
        let name = subscription.subscription.as_str();
        let provider = provider::named(&subscription.provider);
        line.naming(Node::Subscriber, &[name], &provider.start_over(name))
    };
    let Some(name) = &subscription.slot_name else {
        return one(
            Line::new(
                Severity::Warning,
                NAME,
                "The subscription has no replication slot (slot_name = NONE), and cannot be enabled."
                    .to_owned(),
            )
            .remedy(
                Node::Subscriber,
                "-- ALTER SUBSCRIPTION … SET (slot_name = '…'); with a slot that has kept everything since, or create it again",
            ),
        );
    };
    let object = shown(name);
    let Some(slot) = case.there.slots.iter().find(|one| one.name == *name) else {
        let line = Line::new(
            Severity::Error,
            NAME,
            format!(
                "The publisher has no replication slot \"{object}\": what it had to keep is lost."
            ),
        );
        return one(start_over(line.on(&object)));
    };
    if slot.row.is_invalidated() {
        let reason = slot.row.invalidation_reason.as_deref();
        let line = Line::new(
            Severity::Error,
            NAME,
            format!(
                "Replication slot \"{object}\" is lost ({}): WAL that the subscription needs is gone.",
                reason
                    .or(slot.row.wal_status.as_deref())
                    .unwrap_or("invalidated")
            ),
        );
        let line = start_over(line.on(&object));
        let also = format!(
            "\n-- and on the publisher: SELECT pg_drop_replication_slot({});",
            literal(name)
        );
        return one(Line {
            remedy: line.remedy.map(|remedy| remedy + &also),
            ..line
        });
    }
    let settings = &case.there.settings;
    let retention = retention_warning(
        &slot.row,
        slot.retained,
        settings.bytes("max_wal_size"),
        settings.bytes("max_slot_wal_keep_size"),
    );
    if let Some(warning) = retention {
        return one(Line::new(Severity::Warning, NAME, warning)
            .on(&object)
            .remedy(
                Node::Subscriber,
                "-- let it catch up: repl_diagnose() says what holds it up",
            ));
    }
    let is_ours = subscription.worker.is_some() && subscription.has_heard != Some(false);
    let held = slot.retained.map_or(String::new(), |retained| {
        format!("; it holds back {} of WAL", bytes(retained))
    });
    one(match slot.row.active_pid.filter(|_| slot.row.active) {
        Some(pid) if !is_ours => {
            let line = Line::new(
                Severity::Warning,
                NAME,
                format!(
                    "Replication slot \"{object}\" is read by process {pid} of the publisher, which serves no worker of this subscription."
                ),
            )
            .on(&object);
            line.naming(
                Node::Publisher,
                &[name],
                &format!(
                    "-- unless another subscriber is meant to read it:\n\
                     SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = {};",
                    literal(name)
                ),
            )
        }
        Some(pid) => Line::ok(
            NAME,
            format!(
                "Replication slot \"{object}\" is read by process {pid} of the publisher{held}."
            ),
        ),
        None => Line::ok(
            NAME,
            format!("Replication slot \"{object}\" is there, and nobody reads it now{held}."),
        ),
    })
}

/// Not of this subscription nor of its copies.
fn is_other(case: &Case, slot: &Slot) -> bool {
    let Some(subscription) = &case.plan.subscription else {
        return true;
    };
    let copies = format!("pg_{}_sync_", subscription.id);
    subscription.slot_name.as_ref() != Some(&slot.name) && !slot.name.starts_with(&copies)
}

pub(super) fn other_slots(case: &Case) -> Vec<Line> {
    const NAME: &str = "other_slots";
    let settings = &case.there.settings;
    let others: Vec<&Slot> = case
        .there
        .slots
        .iter()
        .filter(|slot| is_other(case, slot) && !slot.is_temporary)
        .collect();
    let mut lines = Vec::new();
    let mut idle = Vec::new();
    for slot in others.iter().filter(|slot| !slot.row.active) {
        let drop = format!("SELECT pg_drop_replication_slot({});", literal(&slot.name));
        let object = shown(&slot.name);
        let warning = retention_warning(
            &slot.row,
            slot.retained,
            settings.bytes("max_wal_size"),
            settings.bytes("max_slot_wal_keep_size"),
        );
        let (finding, remedy) = if slot.row.is_invalidated() {
            (
                format!(
                    "Replication slot \"{object}\" of somebody else is lost: it only takes a place."
                ),
                drop,
            )
        } else if let Some(warning) = warning {
            (
                format!("Nobody reads replication slot \"{object}\". {warning}"),
                format!("-- if whoever it was made for is gone:\n-- {drop}"),
            )
        } else {
            idle.push(slot.name.as_str());
            continue;
        };
        let line = Line::new(Severity::Warning, NAME, finding).on(&object);
        lines.push(line.naming(Node::Publisher, &[&slot.name], &remedy));
    }
    if !idle.is_empty() {
        lines.push(Line::new(
            Severity::Info,
            NAME,
            format!(
                "Nobody reads {} of the publisher now, which hold back little WAL yet: {}.",
                counted(idle.len() as i64, "other replication slot"),
                listed(idle)
            ),
        ));
    } else if lines.is_empty() {
        lines.push(Line::ok(
            NAME,
            match others.len() {
                0 => "The publisher has no other replication slot.".to_owned(),
                number => format!(
                    "The publisher has {}, and each is being read.",
                    counted(number as i64, "other replication slot")
                ),
            },
        ));
    }
    lines
}
