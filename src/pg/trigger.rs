//! Triggers as the relation cache holds them.

use super::relation::Relation;
use pgrx::pg_sys;
use std::ffi::{CStr, CString};

/// A rule as it is stored: a disabled trigger whose WHEN holds the expression, whose `UPDATE OF` names the
/// column and whose argument says what to do on error.
pub(crate) struct StoredRule {
    pub(crate) trigger: pg_sys::Oid,
    pub(crate) attnum: i16,
    pub(crate) on_error: String,
    /// `pg_trigger.tgqual`, a node tree as text.
    pub(crate) tree: CString,
}

/// The rules of a relation: its triggers that call the function `rule_function`.
pub(crate) fn stored_rules(relation: &Relation, rule_function: pg_sys::Oid) -> Vec<StoredRule> {
    // SAFETY: the relation is open. Everything is copied before anything is called that could process an
    // invalidation message and so free the trigger descriptor.
    unsafe {
        let descriptor = (*relation.as_ptr()).trigdesc;
        if descriptor.is_null() {
            return Vec::new();
        }
        let triggers =
            std::slice::from_raw_parts((*descriptor).triggers, (*descriptor).numtriggers as usize);
        triggers
            .iter()
            .filter(|trigger| {
                trigger.tgfoid == rule_function
                    && trigger.tgnattr == 1
                    && trigger.tgnargs == 1
                    && !trigger.tgqual.is_null()
            })
            .map(|trigger| StoredRule {
                trigger: trigger.tgoid,
                attnum: *trigger.tgattr,
                on_error: CStr::from_ptr(*trigger.tgargs)
                    .to_string_lossy()
                    .into_owned(),
                tree: CStr::from_ptr(trigger.tgqual).to_owned(),
            })
            .collect()
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

/// Makes a trigger fall with a column, as a default falls with its column: `DEPENDENCY_AUTO` of `pg_depend`.
pub(crate) fn depend_automatically(trigger: pg_sys::Oid, relation: pg_sys::Oid, attnum: i16) {
    let trigger = pg_sys::ObjectAddress {
        classId: pg_sys::TriggerRelationId,
        objectId: trigger,
        objectSubId: 0,
    };
    let column = pg_sys::ObjectAddress {
        classId: pg_sys::RelationRelationId,
        objectId: relation,
        objectSubId: i32::from(attnum),
    };
    // SAFETY: two addresses of objects that the caller has just read from the catalogs.
    unsafe {
        pg_sys::recordDependencyOn(&trigger, &column, pg_sys::DependencyType::DEPENDENCY_AUTO);
    }
}
