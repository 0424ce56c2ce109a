//! The compiled rules of the tables that this backend writes to.
//!
//! An apply worker builds the executor's state anew for every row, so what is worth keeping is kept here: one
//! `CompiledTable` for each relation and role (a role, because the right to execute a function is checked when
//! an expression is compiled).

use super::rule::OnError;
use super::{failure, meaning, observe_session};
use crate::error::Error;
use crate::pg::compiled::{ColumnPlan, CompiledTable, NullOnError, Traits};
use crate::pg::expression::{self, Expression};
use crate::pg::relation::Relation;
use crate::pg::trigger::{self, StoredRule};
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CString;
use std::mem::ManuallyDrop;

/// Not dropped when the process ends: the server's memory is going away then by itself.
type Entry = ManuallyDrop<Box<CompiledTable>>;
/// Relation and role.
type Key = (pg_sys::Oid, pg_sys::Oid);

thread_local! {
    static TABLES: RefCell<HashMap<Key, Entry>> = RefCell::new(HashMap::new());
    /// Out of date, but perhaps still being evaluated further up the stack; freed when the transaction ends.
    static RETIRED: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
    static LAST_USED: Cell<(Key, *const CompiledTable)> =
        const { Cell::new(((pg_sys::InvalidOid, pg_sys::InvalidOid), std::ptr::null())) };
}

/// What was used last, if it is the one for this relation and role; the caller asks whether it is usable still. The
/// pointer is good until the transaction ends.
#[inline]
pub(super) fn last_used(key: Key) -> Option<*const CompiledTable> {
    let (last_key, table) = LAST_USED.get();
    (last_key == key && !table.is_null()).then_some(table)
}

/// The compiled rules of a relation for a role, from the cache or made now. `neighbour` is the function that
/// the server called; the rules are the triggers of its sister `_repl_rule`. The pointer is good until the
/// transaction ends.
pub(super) fn cached(
    relation: &Relation,
    role: pg_sys::Oid,
    neighbour: pg_sys::Oid,
) -> Result<*const CompiledTable, Error> {
    let key = (relation.oid(), role);
    let found = TABLES.with_borrow(|tables| {
        tables
            .get(&key)
            .filter(|table| table.is_usable())
            .map(|table| &raw const ***table)
    });
    let table = match found {
        Some(table) => table,
        None => {
            let compiled = ManuallyDrop::new(Box::new(compile(relation, neighbour)?));
            let table = &raw const **compiled;
            let stale = TABLES.with_borrow_mut(|tables| tables.insert(key, compiled));
            RETIRED.with_borrow_mut(|retired| retired.extend(stale));
            table
        }
    };
    LAST_USED.set((key, table));
    Ok(table)
}

/// The rules of a relation as they are now, for one use.
pub(super) fn compile(relation: &Relation, neighbour: pg_sys::Oid) -> Result<CompiledTable, Error> {
    observe_session();
    let rule_function = trigger::function_beside(neighbour, c"_repl_rule");
    let generate_function = trigger::function_beside(neighbour, c"_repl_generate");
    let plans = trigger::stored_rules(relation, rule_function)
        .iter()
        .map(|rule| plan(relation, rule))
        .collect::<Result<Vec<_>, _>>()?;
    let traits = Traits {
        checks_domain: plans.iter().any(|plan| plan.expression.checks_domain()),
        calls_user_function: plans
            .iter()
            .any(|plan| meaning::names_user_object(&plan.expression.to_tree())),
        fires_last: trigger::fires_last(relation, generate_function),
    };
    CompiledTable::compile(plans, traits).map_err(|(column, refusal)| Error::NotPrepared {
        table: relation.qualified_name(),
        column,
        refusal,
    })
}

fn plan(relation: &Relation, rule: &StoredRule) -> Result<ColumnPlan, Error> {
    let column = relation.column(rule.attnum).ok_or(Error::DamagedRule)?;
    let stored = Expression::from_stored(&rule.tree).ok_or(Error::DamagedRule)?;
    let Some(expression) = stored.assigned_to(column.type_oid, column.modifier) else {
        return Err(Error::TypeMismatch {
            relation: relation.qualified_name(),
            column: column.name,
            column_type: expression::type_name(column.type_oid, column.modifier),
            expression_type: expression::type_name(stored.type_oid(), -1),
        });
    };
    let description = format!(
        "column \"{}\" of table \"{}\", derived by replwarden",
        column.name,
        relation.qualified_name()
    );
    Ok(ColumnPlan {
        trigger: rule.trigger,
        attnum: rule.attnum,
        column,
        expression,
        description: CString::new(description).unwrap_or_default(),
        null_on_error: (rule.on_error == OnError::NULL).then_some(NullOnError {
            survivable: failure::is_the_rows_fault,
            survived: failure::record,
        }),
    })
}

pub(super) fn relation_changed(relation: Option<pg_sys::Oid>) {
    for_each(|(oid, _), table| {
        if relation.is_none_or(|changed| changed == oid) {
            table.mark_unusable();
        }
    });
}

/// The constraints of a domain are compiled into the state of an expression, and nothing that the server's plan
/// cache watches changes with them.
pub(super) fn domain_changed() {
    for_each(|_, table| {
        if table.traits().checks_domain {
            table.mark_unusable();
        }
    });
}

/// The plan cache does not watch a function whose call was folded into a constant when it was planned.
pub(super) fn function_changed() {
    for_each(|_, table| {
        if table.traits().calls_user_function {
            table.mark_unusable();
        }
    });
}

pub(super) fn evaluation_aborted(level: i32) {
    for_each(|_, table| table.evaluation_aborted(level));
}

pub(super) fn transaction_ended() {
    evaluation_aborted(1);
    let mut stale = RETIRED.take();
    TABLES.with_borrow_mut(|tables| {
        stale.extend(
            tables
                .extract_if(|_, table| !table.is_usable())
                .map(|(_, table)| table),
        );
    });
    if !stale.is_empty() {
        LAST_USED.set(((pg_sys::InvalidOid, pg_sys::InvalidOid), std::ptr::null()));
    }
    stale
        .into_iter()
        .map(ManuallyDrop::into_inner)
        .for_each(drop);
}

fn for_each(act: impl Fn(Key, &CompiledTable)) {
    TABLES.with_borrow(|tables| tables.iter().for_each(|(key, table)| act(*key, table)));
}
