//! Triggers as the relation cache holds them.

use super::relation::Relation;
use pgrx::pg_sys;
use std::ffi::{CStr, CString};

/// `CastRelationId` and `Anum_pg_cast_oid` of `catalog/pg_cast.h`, which pgrx does not bind; they are the same in
/// every version.
const CAST_RELATION_ID: pg_sys::Oid = pg_sys::Oid::from_u32(2605);
const ANUM_PG_CAST_OID: pg_sys::AttrNumber = 1;

/// A rule as it is stored: a disabled trigger whose WHEN holds the expression, whose `UPDATE OF` names the
/// column and whose argument says what to do on error.
pub(crate) struct StoredRule {
    pub(crate) trigger: pg_sys::Oid,
    pub(crate) attnum: i16,
    pub(crate) on_error: String,
    /// `pg_trigger.tgqual`, a node tree as text.
    pub(crate) tree: CString,
}

/// A BEFORE trigger that is being fired.
pub(crate) struct Fired {
    pub(crate) table: pg_sys::Oid,
    /// FOR EACH ROW.
    pub(crate) is_row: bool,
    /// What it returns if nothing is to be changed; null for a statement.
    pub(crate) tuple: pg_sys::HeapTuple,
}

impl Fired {
    /// `None` for any other call.
    ///
    /// # Safety
    /// `call` comes from the server.
    pub(crate) unsafe fn from_call(call: pg_sys::FunctionCallInfo) -> Option<Self> {
        // SAFETY: context is NULL or a node; its tag is checked before it is taken for a TriggerData, which has an open relation.
        unsafe {
            let context = (*call).context;
            if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
                return None;
            }
            let data = &*context.cast::<pg_sys::TriggerData>();
            if data.tg_event & pg_sys::TRIGGER_EVENT_TIMINGMASK != pg_sys::TRIGGER_EVENT_BEFORE {
                return None;
            }
            let is_row = data.tg_event & pg_sys::TRIGGER_EVENT_ROW != 0;
            let is_update =
                data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_UPDATE;
            Some(Self {
                table: (*data.tg_relation).rd_id,
                is_row,
                tuple: match (is_row, is_update) {
                    (false, _) => std::ptr::null_mut(),
                    (true, false) => data.tg_trigtuple,
                    (true, true) => data.tg_newtuple,
                },
            })
        }
    }
}

/// The rules of a relation: its triggers that call the function `rule_function`.
pub(crate) fn stored_rules(relation: &Relation, rule_function: pg_sys::Oid) -> Vec<StoredRule> {
    triggers(relation)
        .iter()
        .filter(|trigger| {
            trigger.tgfoid == rule_function
                && trigger.tgnattr == 1
                && trigger.tgnargs == 1
                && !trigger.tgqual.is_null()
        })
        .map(|trigger| {
            // SAFETY: counted and not NULL, as the filter has seen.
            unsafe {
                StoredRule {
                    trigger: trigger.tgoid,
                    attnum: *trigger.tgattr,
                    on_error: CStr::from_ptr(*trigger.tgargs)
                        .to_string_lossy()
                        .into_owned(),
                    tree: CStr::from_ptr(trigger.tgqual).to_owned(),
                }
            }
        })
        .collect()
}

/// No BEFORE trigger FOR EACH ROW comes after the one that calls the function `generate`.
pub(crate) fn fires_last(relation: &Relation, generate: pg_sys::Oid) -> bool {
    let before_row = (pg_sys::TRIGGER_TYPE_ROW | pg_sys::TRIGGER_TYPE_BEFORE) as i16;
    let writes = (pg_sys::TRIGGER_TYPE_INSERT | pg_sys::TRIGGER_TYPE_UPDATE) as i16;
    triggers(relation)
        .iter()
        .rev()
        .find(|trigger| trigger.tgtype & before_row == before_row && trigger.tgtype & writes != 0)
        .is_some_and(|trigger| trigger.tgfoid == generate)
}

/// The triggers of a relation, in the order in which they fire.
fn triggers(relation: &Relation) -> &[pg_sys::Trigger] {
    // SAFETY: the relation is open. The callers copy what they need before anything is called that could process
    // an invalidation message and so free the trigger descriptor.
    unsafe {
        let descriptor = (*relation.as_ptr()).trigdesc;
        if descriptor.is_null() {
            return &[];
        }
        std::slice::from_raw_parts((*descriptor).triggers, (*descriptor).numtriggers as usize)
    }
}

/// The function of this name without arguments in the schema of `neighbour`.
pub(crate) fn function_beside(neighbour: pg_sys::Oid, name: &CStr) -> pg_sys::Oid {
    // SAFETY: a look-up in the cache of pg_proc by its unique key; buildoidvector copies nothing for no
    // arguments.
    unsafe {
        pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as i32,
            pg_sys::Anum_pg_proc_oid as pg_sys::AttrNumber,
            pg_sys::Datum::from(name.as_ptr()),
            pg_sys::Datum::from(pg_sys::buildoidvector(std::ptr::null(), 0)),
            pg_sys::Datum::from(pg_sys::get_func_namespace(neighbour)),
            pg_sys::Datum::null(),
        )
    }
}

/// Makes a trigger fall with a column, as a default falls with its column.
pub(crate) fn fall_with_column(trigger: pg_sys::Oid, relation: pg_sys::Oid, attnum: i16) {
    let column = pg_sys::ObjectAddress {
        classId: pg_sys::RelationRelationId,
        objectId: relation,
        objectSubId: i32::from(attnum),
    };
    record_dependency(trigger, &column, pg_sys::DependencyType::DEPENDENCY_AUTO);
}

/// Refuses to let the cast between two types go while a trigger needs it. Nothing to do where there is none, or
/// one of the server's own.
pub(crate) fn keep_cast(trigger: pg_sys::Oid, from: pg_sys::Oid, to: pg_sys::Oid) {
    // SAFETY: a look-up in the cache of pg_cast by its unique key.
    let cast = unsafe {
        pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::CASTSOURCETARGET as i32,
            ANUM_PG_CAST_OID,
            pg_sys::Datum::from(pg_sys::getBaseType(from)),
            pg_sys::Datum::from(pg_sys::getBaseType(to)),
            pg_sys::Datum::null(),
            pg_sys::Datum::null(),
        )
    };
    if cast.to_u32() >= pg_sys::FirstNormalObjectId {
        let cast = pg_sys::ObjectAddress {
            classId: CAST_RELATION_ID,
            objectId: cast,
            objectSubId: 0,
        };
        record_dependency(trigger, &cast, pg_sys::DependencyType::DEPENDENCY_NORMAL);
    }
}

fn record_dependency(
    trigger: pg_sys::Oid,
    referenced: &pg_sys::ObjectAddress,
    kind: pg_sys::DependencyType::Type,
) {
    let trigger = pg_sys::ObjectAddress {
        classId: pg_sys::TriggerRelationId,
        objectId: trigger,
        objectSubId: 0,
    };
    // SAFETY: two addresses of objects that the callers have just read from the catalogs.
    unsafe { pg_sys::recordDependencyOn(&raw const trigger, referenced, kind) };
}
