//! Whether the backfills of a database have the workers that they should have.

use super::settle;
use super::state::State;
use crate::error::Error;
use crate::pg::spi;

/// How many are there and how many could be of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Staffing {
    /// Backfills that are queued or running.
    pub(crate) unfinished: i64,
    /// Workers that could find something to do.
    pub(crate) useful: i64,
    pub(crate) at_work: i64,
}

impl Staffing {
    /// How many to start when there may be `most`.
    pub(crate) fn missing(&self, most: u16) -> u16 {
        let wanted = self.useful.min(i64::from(most));
        u16::try_from(wanted - self.at_work).unwrap_or(0)
    }
}

/// Workers show themselves by the lock on their place; that of the database's worker has the greatest number, which
/// pg_locks shows as -1.
const STAFFING: &str = "
select count(*), coalesce(sum(least(b.workers, r.open)), 0)::bigint,
       (select count(*) from pg_locks l
         where l.locktype = 'object' and l.granted and l.classid = $2 and l.objid = 0 and l.objsubid > 0
           and l.database = (select d.oid from pg_database d where d.datname = current_database()))
  from {schema}._repl_backfills b
  cross join lateral (select count(*) as open from {schema}._repl_backfill_ranges r
                       where r.backfill = b.id and r.next_block < r.end_block) r
 where b.state in ('queued', 'running') and b.origin = $1";

/// Inside a transaction of the database's worker. Also ends backfills that have nothing left to do.
pub(crate) fn staffing() -> Result<Staffing, Error> {
    if !is_anything_unfinished()? {
        return Ok(Staffing {
            unfinished: 0,
            useful: 0,
            at_work: 0,
        });
    }
    let state = State::find()?;
    for ended in settle::settle(&state)? {
        super::failing::report_end(&ended);
    }
    let arguments = [state.origin().into(), state.lock_class().into()];
    let found = state.query(STAFFING, &arguments, |row| {
        Ok(Staffing {
            unfinished: spi::required(row, 1)?,
            useful: spi::required(row, 2)?,
            at_work: spi::required(row, 3)?,
        })
    })?;
    found.into_iter().next().ok_or(Error::NotInstalled)
}

/// Most ticks end with this, without a transaction id, which a statement that may write would take.
fn is_anything_unfinished() -> Result<bool, Error> {
    let (schema, _) = spi::extension()?;
    let schema = pgrx::spi::quote_identifier(schema);
    spi::document(
        &format!(
            "select pg_catalog.to_json(exists (
                 select from {schema}._repl_backfills b where b.state in ('queued', 'running')))::text"
        ),
        &[],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_are_useful_and_allowed() {
        let staffing = Staffing {
            unfinished: 1,
            useful: 3,
            at_work: 1,
        };
        assert_eq!(staffing.missing(2), 1);
        assert_eq!(staffing.missing(8), 2);
        assert_eq!(staffing.missing(1), 0);
        assert_eq!(staffing.missing(0), 0);
    }
}
