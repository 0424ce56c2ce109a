//! A slot that the publisher drops for being idle (`idle_replication_slot_timeout`), as it can from 18 on.

use replwarden_tests::{DEFAULT_DEADLINE, wait_until};

use crate::diagnose::{
    assert_found, assert_goes_on, builder, commented, evidence, streaming, wait_found,
};
use crate::preflight_check::{self, Preflight, row_of};
use crate::since::since;
use crate::status::Status;

const SETTING: &str = "idle_replication_slot_timeout";

#[test]
fn setting_that_ends_a_subscription_that_is_down() {
    if !since(18, SETTING) {
        return;
    }
    let pair = crate::status::with_item(builder().start());
    let preflight = Preflight::before(&pair);
    preflight.breaks(
        || pair.publisher().set(SETTING, "1h"),
        &[("warning", SETTING)],
    );
    pair.publisher().set(SETTING, "2d");
    let row = row_of(&preflight.rows(), SETTING);
    assert!(
        row.is("severity", "info") && row.text("finding").contains("2 d."),
        "{row:#?}"
    );
}

#[test]
fn slot_that_was_idle_for_too_long() {
    if !since(18, SETTING) {
        return;
    }
    let pair = streaming();
    let status = Status::of(&pair);
    pair.disable();
    pair.publisher().set(SETTING, "1s");
    let sql = "select invalidation_reason = 'idle_timeout' from pg_replication_slots where slot_name = 'sub'";
    wait_until("the slot is invalidated", DEFAULT_DEADLINE, || {
        // It looks at a checkpoint.
        pair.on_publisher("checkpoint");
        pair.publisher()
            .query_one_value::<Option<bool>>(pair.database(), sql)
            == Some(true)
    });
    let slot = row_of(&Preflight::of_subscription(&pair).rows(), "slot");
    assert!(
        slot.is("severity", "error") && slot.text("finding").contains("idle_timeout"),
        "{slot:#?}"
    );
    pair.enable();
    let row = wait_found(status, "retrying", "slot_invalidated");
    assert_found(&row, "critical", "deterministic", &["slot \"sub\""]);
    wait_until("the publisher says why", DEFAULT_DEADLINE, || {
        let row = wait_found(status, "retrying", "slot_invalidated");
        row.text("finding").contains("idle_timeout")
            && evidence(status, &row, "slot,invalidation_reason").as_deref() == Some("idle_timeout")
    });
    pair.publisher().set(SETTING, "0");
    preflight_check::paste(&pair, &slot);
    pair.on_publisher(&commented(&slot, "SELECT pg_drop_replication_slot"));
    pair.on_subscriber("truncate item");
    pair.subscribe();
    assert_goes_on(&pair);
}
