//! What a rule depends on beyond what the server records for its trigger.

use super::RULE_FUNCTION;
use crate::error::Error;
use crate::pg::expression::Expression;
use crate::pg::relation::{Lock, Relation};
use crate::pg::{session, spi, trigger};
use pgrx::pg_sys;
use std::ffi::CString;

const STORED: &str = "
select t.tgrelid, t.tgattr[0], t.tgqual::text,
       exists (select from pg_depend d
                where d.classid = 'pg_trigger'::regclass and d.objid = t.oid and d.deptype = 'a'
                  and d.refclassid = 'pg_class'::regclass and d.refobjid = t.tgrelid
                  and d.refobjsubid = t.tgattr[0])
  from pg_trigger t join pg_proc p on p.oid = t.tgfoid
 where t.oid = $1 and p.proname = $2 and t.tgqual is not null and t.tgattr[0] is not null";

/// Lets the rule that a trigger stores fall with its column (`CREATE TRIGGER … UPDATE OF column` by itself makes
/// a dependency that refuses to let the column go), and keeps the cast by which its value is assigned. Does
/// nothing for a trigger that has these dependencies.
pub(super) fn record(rule: pg_sys::Oid) -> Result<(), Error> {
    let stored = session::with_safe_search_path(|| {
        spi::query(STORED, &[rule.into(), RULE_FUNCTION.into()], |row| {
            Ok((
                spi::required(row, 1)?,
                spi::required(row, 2)?,
                spi::required::<String>(row, 3)?,
                spi::required::<bool>(row, 4)?,
            ))
        })
    })?;
    let Some((table, attnum, tree, false)) = stored.into_iter().next() else {
        return Ok(());
    };
    trigger::fall_with_column(rule, table, attnum);
    let relation = Relation::open(table, Lock::Read);
    let tree = CString::new(tree).unwrap_or_default();
    if let (Some(column), Some(expression)) =
        (relation.column(attnum), Expression::from_stored(&tree))
    {
        trigger::keep_cast(rule, expression.type_oid(), column.type_oid);
    }
    Ok(())
}
