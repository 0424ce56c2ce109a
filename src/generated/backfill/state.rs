//! The tables in which backfills are kept, and what of them does not depend on who asks.

use crate::error::Error;
use crate::pg::own_tables::OwnTables;
use crate::pg::{lock, spi};
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::spi::{SpiHeapTupleData, SpiResult};

/// Where the extension keeps its backfills in this database.
pub(crate) struct State {
    tables: OwnTables,
    /// `_repl_backfills`, whose OID also is the class of the workers' locks.
    pub(super) backfills: pg_sys::Oid,
    /// `_repl_backfill_ranges`, likewise.
    pub(super) ranges: pg_sys::Oid,
}

/// Makes the ranges of a backfill: of each table or partition with rows, one, or several if several workers are to share
/// them.
const PLAN: &str = "
with tree as (
    select p.relid::oid as oid from pg_partition_tree($2) p where p.isleaf
    union
    select $2 where not exists (select from pg_partition_tree($2))
), leaf as (
    select c.oid, c.relfilenode, pg_relation_size(c.oid) / current_setting('block_size')::bigint as blocks
      from tree join pg_class c on c.oid = tree.oid and c.relkind = 'r'
), part as (
    select leaf.*, case when $3 = 1 then 1 else greatest(least(blocks / 64, $3 * 4), 1) end as parts
      from leaf where blocks > 0
)
insert into {schema}._repl_backfill_ranges (backfill, relation, filenode, first_block, next_block, end_block)
select $1, oid, relfilenode, blocks * n / parts, blocks * n / parts, blocks * (n + 1) / parts
  from part, generate_series(0, parts - 1) n
 order by oid, n";

const COUNT_BLOCKS: &str = "
update {schema}._repl_backfills b
   set blocks_total = (select coalesce(sum(r.end_block - r.first_block), 0)::bigint
                         from {schema}._repl_backfill_ranges r
                        where r.backfill = b.id and not r.locked)
 where id = $1
returning blocks_total";

impl State {
    /// Error `NotInstalled` where the extension is not there (any more).
    pub(crate) fn find() -> Result<Self, Error> {
        let names = ["_repl_backfills", "_repl_backfill_ranges"];
        let (tables, [backfills, ranges]) = OwnTables::find(names)?;
        Ok(Self {
            tables,
            backfills,
            ranges,
        })
    }

    pub(super) fn origin(&self) -> &str {
        &self.tables.origin
    }

    /// [`OwnTables::query`]
    pub(super) fn query<T>(
        &self,
        sql: &str,
        arguments: &[DatumWithOid],
        row: impl Fn(&SpiHeapTupleData) -> SpiResult<T>,
    ) -> Result<Vec<T>, Error> {
        self.tables.query(sql, arguments, row)
    }

    /// [`OwnTables::run`]
    pub(super) fn run(&self, sql: &str, arguments: &[DatumWithOid]) -> Result<usize, Error> {
        self.tables.run(sql, arguments)
    }

    /// Makes a backfill's ranges for its relation, or anew for one table or partition of it. Gives the number of blocks of
    /// the backfill.
    pub(super) fn plan(&self, id: i64, relation: pg_sys::Oid, workers: i32) -> Result<i64, Error> {
        self.run(PLAN, &[id.into(), relation.into(), workers.into()])?;
        let blocks = self.query(COUNT_BLOCKS, &[id.into()], |row| {
            spi::required::<i64>(row, 1)
        })?;
        Ok(blocks.into_iter().sum())
    }

    /// The class of the locks by which workers show themselves: with object 0, those of the database.
    pub(crate) fn lock_class(&self) -> pg_sys::Oid {
        self.backfills
    }

    /// Keeps others from planning the same until the transaction ends.
    pub(super) fn lock_planning(&self, object: u32) {
        lock::hold_until_transaction_ends(self.backfills, object, u16::MAX);
    }
}

/// Identifiers of ours as part of a lock's tag; that two may share one after four billion only makes them wait for each
/// other.
pub(super) fn lock_number(id: i64) -> u32 {
    (id & i64::from(u32::MAX)) as u32
}
