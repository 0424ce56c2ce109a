//! Derived columns: a plain column that is computed as a GENERATED one would be, for replicated rows too.
//!
//! A rule lives where the server looks after it: in a trigger of the table that is disabled and never fires.
//! Its WHEN holds the expression, its `UPDATE OF` names the column, its argument says what to do on error. So
//! the server itself follows renames, refuses to drop what the expression needs, copies the rule to partitions
//! and dumps it. One more trigger, `zzz_replwarden`, fires for every row and computes all rules of its table.

mod adopt;
pub(crate) mod backfill;
mod compile;
mod ddl_event;
mod dependency;
mod failure;
mod function_check;
mod meaning;
mod row_key;
mod rule;
pub(crate) mod table;
mod trigger;
mod verify;
mod view;

use crate::pg::session_events::{self, SessionObserver};
use pgrx::pg_sys;

/// The trigger that computes; its name sorts behind those of other triggers, for the server fires in that
/// order.
const GENERATE_TRIGGER: &str = "zzz_replwarden";
/// The function of `GENERATE_TRIGGER`.
const GENERATE_FUNCTION: &str = "_repl_generate";
/// The function of the triggers that store a rule.
const RULE_FUNCTION: &str = "_repl_rule";

struct GeneratedColumns;

impl SessionObserver for GeneratedColumns {
    fn relation_changed(&self, relation: Option<pg_sys::Oid>) {
        compile::relation_changed(relation);
    }

    fn domain_changed(&self) {
        compile::domain_changed();
    }

    fn function_changed(&self) {
        compile::function_changed();
    }

    fn before_commit(&self) {
        failure::write_pending();
    }

    fn transaction_ended(&self) {
        failure::discard_pending();
        compile::transaction_ended();
    }

    fn subtransaction_committed(
        &self,
        id: pg_sys::SubTransactionId,
        parent: pg_sys::SubTransactionId,
    ) {
        failure::subtransaction_committed(id, parent);
    }

    fn subtransaction_aborted(&self, id: pg_sys::SubTransactionId, level: i32) {
        failure::subtransaction_aborted(id);
        compile::evaluation_aborted(level);
    }
}

/// Has this backend hear of what makes a cached rule stale and of the ends of transactions.
fn observe_session() {
    session_events::observe(&GeneratedColumns);
}
