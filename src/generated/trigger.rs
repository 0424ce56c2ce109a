//! What the server calls for each row.
#![allow(unsafe_code)]

use super::compile;
use crate::error::Error;
use crate::pg::compiled::CompiledTable;
use crate::pg::raw;
use crate::pg::relation::{Lock, Relation};
use crate::pg::session;
use crate::pg::trigger::Fired;
use pgrx::{IntoDatum, pg_guard, pg_sys};

/// `TRIGGER_FIRED_BY_UPDATE` and its siblings of `commands/trigger.h`.
const EVENT_OPERATION: u32 = pg_sys::TRIGGER_EVENT_OPMASK;

/// The row that a trigger may replace.
struct Row {
    relation: pg_sys::Relation,
    tuple: pg_sys::HeapTuple,
    slot: *mut pg_sys::TupleTableSlot,
}

impl Row {
    /// The new row of a BEFORE INSERT OR UPDATE trigger FOR EACH ROW; `None` for any other call.
    ///
    /// # Safety
    /// `call` comes from the server.
    #[inline]
    unsafe fn from_call(call: pg_sys::FunctionCallInfo) -> Option<Self> {
        // SAFETY: context is NULL or a node; its tag is checked before it is taken for a TriggerData.
        unsafe {
            let context = (*call).context;
            if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
                return None;
            }
            let data = &*context.cast::<pg_sys::TriggerData>();
            let timing = pg_sys::TRIGGER_EVENT_TIMINGMASK | pg_sys::TRIGGER_EVENT_ROW;
            if data.tg_event & timing != pg_sys::TRIGGER_EVENT_BEFORE | pg_sys::TRIGGER_EVENT_ROW {
                return None;
            }
            let (tuple, slot) = match data.tg_event & EVENT_OPERATION {
                pg_sys::TRIGGER_EVENT_INSERT => (data.tg_trigtuple, data.tg_trigslot),
                pg_sys::TRIGGER_EVENT_UPDATE => (data.tg_newtuple, data.tg_newslot),
                _ => return None,
            };
            Some(Self {
                relation: data.tg_relation,
                tuple,
                slot,
            })
        }
    }
}

/// `_repl_generate()`: computes every derived column of the row. A row that replication brings is written by the owner of the
/// subscription, a superuser up to 15 and with pglogical; the expression is that of the table's owner, and has no more than his
/// rights (as the server itself has it from 16 on, `SwitchToUntrustedUser`).
///
/// Not `#[pg_guard]`: expressions are evaluated without a guard (see `pg::raw`), and whatever may panic is
/// called through functions that have one.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn repl_generate(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: called by the server's trigger manager; nothing in this frame has a destructor. A table from
    // the cache is good until the transaction ends.
    unsafe {
        let Some(row) = Row::from_call(call) else {
            return protocol_violated();
        };
        let generate = (*(*call).flinfo).fn_oid;
        let owner = (*(*row.relation).rd_rel).relowner;
        let tuple = if session::fires_as_replica() && raw::GetUserId() != owner {
            let caller = raw::become_restricted(owner);
            let tuple = compute(&row, generate);
            raw::become_again(caller);
            tuple
        } else {
            compute(&row, generate)
        };
        pg_sys::Datum::from(tuple)
    }
}

/// # Safety
/// As for [`CompiledTable::compute`].
#[inline]
unsafe fn compute(row: &Row, generate: pg_sys::Oid) -> pg_sys::HeapTuple {
    // SAFETY: the caller's promise.
    unsafe {
        let key = ((*row.relation).rd_id, raw::GetUserId());
        let table = match compile::last_used(key) {
            Some(table) if (*table).is_usable() => table,
            _ => look_up(key.0, key.1, generate),
        };
        if (*table).is_evaluating() {
            compute_nested(row, generate)
        } else {
            (*table).compute(row.tuple, row.slot)
        }
    }
}

/// `_repl_rule()`: the function of the triggers that store a rule. They are disabled; where somebody enables
/// them (`ALTER TABLE … ENABLE TRIGGER ALL`), they leave the row as it is.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn repl_rule(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: called by the server's trigger manager.
    match unsafe { Row::from_call(call) } {
        Some(row) => pg_sys::Datum::from(row.tuple),
        // SAFETY: raises.
        None => unsafe { protocol_violated() },
    }
}

/// `_repl_ignore_replicated()`: skips a row that replication brings. For tables that are one server's own affair, in
/// triggers that fire only for such rows (ENABLE REPLICA), or for every row where somebody has enabled all triggers of the
/// table (`pg_restore --disable-triggers`).
#[unsafe(no_mangle)]
#[pg_guard]
unsafe extern "C-unwind" fn repl_ignore_replicated(
    call: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // SAFETY: called by the server's trigger manager, or, where it is not, refused: anybody can write a SELECT of it.
    let Some(fired) = (unsafe { Fired::from_call(call) }) else {
        Error::NotFiredAsBeforeTrigger.raise();
    };
    if session::fires_as_replica() {
        pg_sys::Datum::null()
    } else {
        pg_sys::Datum::from(fired.tuple)
    }
}

/// `_repl_wrong_columns(row record)`: numbers of the derived columns that are not as their
/// rules say; NULL for a row that is right.
#[unsafe(no_mangle)]
#[pg_guard]
unsafe extern "C-unwind" fn repl_wrong_columns(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the function is STRICT and takes a record, whose header names its type. The slot uses the
    // relation's descriptor and is dropped before the relation is closed.
    unsafe {
        let argument = (*call).args.as_slice(1)[0].value;
        let header =
            pg_sys::pg_detoast_datum(argument.cast_mut_ptr()).cast::<pg_sys::HeapTupleHeaderData>();
        let table = pg_sys::get_typ_typrelid((*header).t_choice.t_datum.datum_typeid);
        if table == pg_sys::InvalidOid {
            Error::NotARowOfATable.raise();
        }
        let relation = Relation::open(table, Lock::Read);
        let rules = compile::cached(&relation, raw::GetUserId(), (*(*call).flinfo).fn_oid)
            .unwrap_or_else(|error| error.raise());
        let mut tuple = pg_sys::HeapTupleData {
            // The length of a datum's header, HeapTupleHeaderGetDatumLength.
            t_len: (*header).t_choice.t_datum.datum_len_.cast_unsigned() >> 2,
            t_data: header,
            ..Default::default()
        };
        let descriptor = (*relation.as_ptr()).rd_att;
        let slot = pg_sys::MakeSingleTupleTableSlot(descriptor, &raw const pg_sys::TTSOpsHeapTuple);
        pg_sys::ExecStoreHeapTuple(&raw mut tuple, slot, false);
        let wrong = if (*rules).is_evaluating() {
            compile::compile(&relation, (*(*call).flinfo).fn_oid)
                .unwrap_or_else(|error| error.raise())
                .wrong_columns(slot)
        } else {
            (*rules).wrong_columns(slot)
        };
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        let columns = (!wrong.is_empty()).then_some(wrong).into_datum();
        (*call).isnull = columns.is_none();
        columns.unwrap_or(pg_sys::Datum::null())
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn look_up(
    relation: pg_sys::Oid,
    role: pg_sys::Oid,
    generate: pg_sys::Oid,
) -> *const CompiledTable {
    let relation = Relation::open(relation, Lock::Read);
    compile::cached(&relation, role, generate).unwrap_or_else(|error| error.raise())
}

/// A function in an expression writes to the expression's own table: that row gets a compilation of its own.
#[pg_guard]
unsafe extern "C-unwind" fn compute_nested(
    row: *const Row,
    generate: pg_sys::Oid,
) -> pg_sys::HeapTuple {
    // SAFETY: the row of the caller, which waits. Inside the guarded block nothing has a destructor.
    unsafe {
        let relation = Relation::open((*(*row).relation).rd_id, Lock::Read);
        let table = compile::compile(&relation, generate).unwrap_or_else(|error| error.raise());
        pg_sys::ffi::pg_guard_ffi_boundary(|| table.compute((*row).tuple, (*row).slot))
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn protocol_violated() -> pg_sys::Datum {
    Error::NotFiredAsRowTrigger.raise()
}

crate::pg::version_1!(
    pg_finfo_repl_generate,
    pg_finfo_repl_rule,
    pg_finfo_repl_ignore_replicated,
    pg_finfo_repl_wrong_columns
);
