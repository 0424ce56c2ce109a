//! Going through the rows of a table or partition, for as long as a batch may take.

use crate::error::Error;
use crate::generated::RULE_FUNCTION;
use crate::pg::compiled::CompiledTable;
use crate::pg::relation::Relation;
use crate::pg::row_pass::{RowPass, RowPassMode, RowResult, StretchEnd, Tally};
use crate::pg::tid::Tid;
use crate::pg::{lock, session, spi};
use pgrx::pg_sys;
use pgrx::spi::quote_identifier;
use std::time::{Duration, Instant};

/// How a batch is to be done.
#[derive(Clone, Copy, Default)]
pub(super) struct Manner {
    /// End before this row, which is known to fail.
    pub(super) before: Option<Tid>,
    /// Row by row, so that it is known of which row an error is.
    pub(super) careful: bool,
}

/// The table or partition of a range.
pub(super) struct Leaf {
    pub(super) owner: pg_sys::Oid,
    pub(super) filenode: pg_sys::Oid,
    pub(super) name: String,
    pub(super) rule_function: pg_sys::Oid,
    /// A derived column.
    pub(super) column: String,
    /// An UPDATE does more than write the row: triggers that fire in a replica session, or generated columns.
    pub(super) needs_update: bool,
    /// Its access method if that is not `heap`.
    pub(super) other_method: Option<String>,
}

const LEAF: &str = "
select c.relowner, c.relfilenode, c.oid::regclass::text, t.tgfoid, a.attname::text,
       exists (select from pg_attribute g where g.attrelid = c.oid and g.attgenerated = 's' and not g.attisdropped)
       or exists (select from pg_trigger o join pg_proc op on op.oid = o.tgfoid
                   where o.tgrelid = c.oid and o.tgenabled in ('A', 'R') and o.tgtype & 16 <> 0
                     and op.proname not in ($2, '_repl_generate')),
       (select m.amname::text from pg_am m where m.oid = c.relam and m.amname <> 'heap')
  from pg_class c
  join pg_trigger t on t.tgrelid = c.oid
  join pg_proc p on p.oid = t.tgfoid and p.proname = $2
  join pg_attribute a on a.attrelid = c.oid and a.attnum = t.tgattr[0]
 where c.oid = $1 and c.relkind = 'r' and c.relpersistence <> 't'
 limit 1";

impl Leaf {
    /// `None` where there is nothing to do: it is gone, or has no rule any more.
    pub(super) fn find(oid: pg_sys::Oid) -> Result<Option<Self>, Error> {
        let found = spi::query_kept(LEAF, &[oid.into(), RULE_FUNCTION.into()], |row| {
            Ok(Self {
                owner: spi::required(row, 1)?,
                filenode: spi::required(row, 2)?,
                name: spi::required(row, 3)?,
                rule_function: spi::required(row, 4)?,
                column: spi::required(row, 5)?,
                needs_update: spi::required(row, 6)?,
                other_method: row.get(7)?,
            })
        })?;
        Ok(found.into_iter().next())
    }
}

/// So many rows that need an UPDATE are updated by one.
const UPDATE_ROWS: usize = 64;
/// Runs of blocks with locked rows, after a batch; more become one.
const MOST_RUNS: usize = 16;

/// Runs of blocks with rows that others have locked: first and behind the last.
#[derive(Default)]
pub(super) struct LeftBehind {
    locked: Vec<(u32, u32)>,
}

impl LeftBehind {
    fn leave(&mut self, block: u32) {
        match self.locked.last_mut() {
            Some((_, end)) if block <= *end => *end = (*end).max(block + 1),
            _ => self.locked.push((block, block + 1)),
        }
    }

    pub(super) fn runs(&self) -> Vec<(u32, u32)> {
        match (self.locked.first(), self.locked.last()) {
            (Some((first, _)), Some((_, end))) if self.locked.len() > MOST_RUNS => {
                vec![(*first, *end)]
            }
            _ => self.locked.clone(),
        }
    }
}

/// What a batch works on and how.
pub(super) struct Pass<'a> {
    pub(super) rules: CompiledTable,
    pub(super) leaf: &'a Leaf,
    pub(super) manner: Manner,
    /// When to stop.
    pub(super) until: Instant,
}

/// Why a scan has stopped.
enum Stop {
    /// There is no row left, or none before the one that fails.
    End,
    /// There are rows to update.
    Rows,
    /// Time is up, or somebody waits, behind this row.
    Yield(Tid),
}

impl Pass<'_> {
    /// Works from a place to another; gives the first place that is left, `None` if none is.
    pub(super) fn work(
        &self,
        relation: &Relation,
        from: Tid,
        to: Tid,
        counted_since: pg_sys::TransactionId,
        left: &mut LeftBehind,
        tally: &mut Tally,
    ) -> Result<Option<Tid>, Error> {
        let mode = if self.leaf.needs_update {
            RowPassMode::Look
        } else {
            RowPassMode::Update
        };
        if self.leaf.needs_update {
            // A security-restricted operation must not put constraint triggers off to the commit.
            spi::run("set constraints all immediate")?;
        }
        let mut pass = RowPass::begin(relation, from, to, mode, counted_since);
        let mut to_update = Vec::new();
        loop {
            let stop = session::as_role(self.leaf.owner, || {
                self.scan(&mut pass, left, &mut to_update, tally)
            });
            self.update(&mut to_update, left, tally)?;
            match stop {
                Stop::Rows => {}
                Stop::End => return Ok(self.manner.before),
                Stop::Yield(row) => return Ok(Some(row.next())),
            }
        }
    }

    /// Goes from row to row with the rights of the table's owner.
    fn scan(
        &self,
        pass: &mut RowPass,
        left: &mut LeftBehind,
        to_update: &mut Vec<Tid>,
        tally: &mut Tally,
    ) -> Stop {
        let most_to_update = if self.manner.careful { 1 } else { UPDATE_ROWS };
        let mut stretch = Stretch::default();
        loop {
            let end = pass.stretch(&self.rules, stretch.rows(), tally);
            let (StretchEnd::Row(result), Some(row)) = (end, tally.place) else {
                return Stop::End;
            };
            match result {
                RowResult::Locked => left.leave(row.block),
                RowResult::Wrong => to_update.push(row),
                RowResult::Right | RowResult::Changed | RowResult::Gone => {}
            }
            if stretch.ended() >= self.until || lock::is_waited_for() {
                return Stop::Yield(row);
            }
            if to_update.len() >= most_to_update {
                return Stop::Rows;
            }
        }
    }

    /// Updates rows that are wrong by SQL, but for those that others have locked.
    fn update(
        &self,
        rows: &mut Vec<Tid>,
        left: &mut LeftBehind,
        tally: &mut Tally,
    ) -> Result<(), Error> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return Ok(());
        };
        let places: Vec<String> = rows.iter().map(|row| format!("'{row}'")).collect();
        let update = format!(
            "with mine as materialized (
                 select r.ctid from only {table} r
                  where r.ctid = any (array[{places}]::tid[]) for no key update skip locked
             )
             , done as (
                 update only {table} t set {column} = t.{column} from mine where t.ctid = mine.ctid returning 1
             )
             select (select count(*) from mine), (select count(*) from done)",
            table = self.leaf.name,
            places = places.join(", "),
            column = quote_identifier(&self.leaf.column),
        );
        let counts = spi::query_as(self.leaf.owner, &update, |row| {
            Ok((spi::required::<i64>(row, 1)?, spi::required::<i64>(row, 2)?))
        })?;
        // A trigger of the user's may have kept a row as it is.
        let (mine, updated) = counts.into_iter().next().unwrap_or_default();
        tally.changed += updated;
        if usize::try_from(mine).is_ok_and(|mine| mine < rows.len()) {
            for block in first.block..=last.block {
                left.leave(block);
            }
        }
        rows.clear();
        Ok(())
    }
}

/// How many rows to do before looking at the clock and at who waits: so many that it costs little, so few that it is not
/// late.
struct Stretch {
    rows: u32,
    begun: Instant,
}

impl Default for Stretch {
    fn default() -> Self {
        Self {
            rows: 1,
            begun: Instant::now(),
        }
    }
}

impl Stretch {
    const SHORT: Duration = Duration::from_micros(200);
    const MOST: u32 = 256;

    fn rows(&self) -> u32 {
        self.rows
    }

    /// Gives the time.
    fn ended(&mut self) -> Instant {
        let now = Instant::now();
        self.rows = if now - self.begun < Self::SHORT {
            (self.rows * 2).min(Self::MOST)
        } else {
            (self.rows / 2).max(1)
        };
        self.begun = now;
        now
    }
}
