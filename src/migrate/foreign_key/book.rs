//! The table in which detached foreign keys are kept.

use super::rename;
use crate::error::Error;
use crate::pg::own_tables::OwnTables;
use crate::pg::{session, spi};
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::spi::{SpiHeapTupleData, SpiResult};

/// Where the extension keeps them in this database.
pub(super) struct Book {
    tables: OwnTables,
    /// The table, whose OID also is the class of the worker's lock.
    pub(super) table: pg_sys::Oid,
}

/// What there is on the table under the name of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Absent,
    /// Another constraint has its name.
    Taken,
    NotValid,
    Valid,
}

/// A key that was detached, and what has become of it and of its tables. Names are quoted, tables' with their schemas.
pub(super) struct Entry {
    pub(super) id: i64,
    /// `None`: there is no such table any more.
    pub(super) relation: Option<pg_sys::Oid>,
    pub(super) relation_name: String,
    pub(super) name: String,
    pub(super) referenced: Option<pg_sys::Oid>,
    pub(super) referenced_name: String,
    /// As it has to be written now.
    pub(super) definition: String,
    pub(super) comment: Option<String>,
    pub(super) validated: bool,
    pub(super) task: Option<String>,
    pub(super) awaits: Option<String>,
    /// The table that it awaits is ready.
    pub(super) is_ready: bool,
    pub(super) is_owned: bool,
    pub(super) owner: Option<pg_sys::Oid>,
    pub(super) owner_name: String,
    pub(super) presence: Presence,
    pub(super) is_partitioned: bool,
    /// Of the table and its partitions, in bytes.
    pub(super) size: i64,
}

/// Whether the table that a key awaits is ready.
const IS_READY: &str = "f.awaits is null or not exists (
    select from pg_subscription_rel s where s.srrelid = f.awaits and s.srsubstate <> 'r')
and not exists (
    select from {schema}._repl_pglogical_tables() s
     where s.relation = f.awaits and s.is_subscribed and s.code not in ('r', 'y'))";

/// Whether there is something to do now. Waits for nobody who has locked a table. `$1`: the origin.
const HAS_WORK: &str = "
select exists (
    select from {schema}._repl_foreign_keys f
     where f.origin = $1 and f.task is not null and (f.task <> 'restore' or ({is_ready})))";

/// The constraint that has come back, by which it is known under another name.
const CONSTRAINT_ID: &str = "coalesce((
    select k.oid from pg_constraint k
     where k.conrelid = f.relation and k.conname = f.constraint_name and k.contype = 'f'), f.constraint_id)";

/// `$1`: the role whose rights count, `$2`: the origin, `$3`: one table or NULL, `$4`: one id or NULL.
const ENTRIES: &str = "
select f.id, c.oid, coalesce(c.oid::regclass::text, f.relation_name), quote_ident(f.constraint_name),
       r.oid, coalesce(r.oid::regclass::text, f.referenced_name), f.referenced_name, f.definition, f.comment, f.validated,
       case when f.origin = $2 then f.task end, case when f.origin = $2 and f.task = 'restore' then f.awaits::text end,
       case when f.origin = $2 and f.task = 'restore' then {is_ready} else true end,
       coalesce(pg_has_role($1, c.relowner, 'USAGE'), false), c.relowner, coalesce(pg_get_userbyid(c.relowner)::text, ''),
       coalesce((select case when k.contype <> 'f' or k.confrelid is distinct from r.oid then 'taken'
                             when k.convalidated then 'valid' else 'not valid' end
                   from pg_constraint k where k.conrelid = c.oid and k.conname = f.constraint_name), 'absent'),
       coalesce(c.relkind = 'p', false),
       coalesce((select sum(pg_relation_size(o))::bigint
                   from (select c.oid as o union select relid::oid from pg_partition_tree(c.oid)) t), 0)
  from {schema}._repl_foreign_keys f
  left join pg_class c on c.oid = coalesce((select x.oid from pg_class x where x.oid = f.relation), to_regclass(f.relation_name)::oid)
  left join pg_class r on r.oid = coalesce((select x.oid from pg_class x where x.oid = f.referenced), to_regclass(f.referenced_name)::oid)
 where ($4::bigint is null or f.id = $4)
   and ($3::oid is null
        or c.oid in (select $3 union select relid::oid from pg_partition_tree($3) union select relid::oid from pg_partition_ancestors($3))
        or r.oid in (select $3 union select relid::oid from pg_partition_tree($3) union select relid::oid from pg_partition_ancestors($3)))
 order by f.id";

fn entry(row: &SpiHeapTupleData) -> SpiResult<Entry> {
    let presence: String = spi::required(row, 17)?;
    let referenced_name: String = spi::required(row, 6)?;
    let definition: String = spi::required(row, 8)?;
    Ok(Entry {
        id: spi::required(row, 1)?,
        relation: row.get(2)?,
        relation_name: spi::required(row, 3)?,
        name: spi::required(row, 4)?,
        referenced: row.get(5)?,
        definition: rename::in_definition(
            &definition,
            &spi::required::<String>(row, 7)?,
            &referenced_name,
        ),
        referenced_name,
        comment: row.get(9)?,
        validated: spi::required(row, 10)?,
        task: row.get(11)?,
        awaits: row.get(12)?,
        is_ready: spi::required(row, 13)?,
        is_owned: spi::required(row, 14)?,
        owner: row.get(15)?,
        owner_name: spi::required(row, 16)?,
        presence: match presence.as_str() {
            "taken" => Presence::Taken,
            "valid" => Presence::Valid,
            "not valid" => Presence::NotValid,
            _ => Presence::Absent,
        },
        is_partitioned: spi::required(row, 18)?,
        size: spi::required(row, 19)?,
    })
}

fn with_fragments(sql: &str) -> String {
    sql.replace("{is_ready}", IS_READY)
        .replace("{constraint_id}", CONSTRAINT_ID)
}

impl Book {
    /// Error `NotInstalled` where the extension is not there.
    pub(super) fn find() -> Result<Self, Error> {
        let (tables, [table]) = OwnTables::find(["_repl_foreign_keys"])?;
        Ok(Self { tables, table })
    }

    /// Quoted.
    pub(super) fn schema(&self) -> &str {
        &self.tables.schema
    }

    /// In another one nobody is at work on what this one has begun.
    pub(super) fn origin(&self) -> &str {
        &self.tables.origin
    }

    /// [`OwnTables::query`], with the fragments of this file in braces.
    pub(super) fn query<T>(
        &self,
        sql: &str,
        arguments: &[DatumWithOid],
        row: impl Fn(&SpiHeapTupleData) -> SpiResult<T>,
    ) -> Result<Vec<T>, Error> {
        self.tables.query(&with_fragments(sql), arguments, row)
    }

    /// Whether there is something that could be done now. Takes no transaction id.
    pub(super) fn has_work(&self) -> Result<bool, Error> {
        let arguments = [self.origin().into()];
        let found = session::with_safe_search_path(|| {
            spi::read_kept(
                &self.tables.filled(&with_fragments(HAS_WORK)),
                &arguments,
                |row| spi::required::<bool>(row, 1),
            )
        })?;
        Ok(found == [true])
    }

    pub(super) fn run(&self, sql: &str, arguments: &[DatumWithOid]) -> Result<usize, Error> {
        Ok(self.query(sql, arguments, |_| Ok(()))?.len())
    }

    /// Those of a table, its partitions and what it is a partition of, and those that refer to them; `None`: all.
    pub(super) fn entries(&self, relation: Option<pg_sys::Oid>) -> Result<Vec<Entry>, Error> {
        self.read(relation, None)
    }

    /// One, as it is now.
    pub(super) fn entry(&self, id: i64) -> Result<Option<Entry>, Error> {
        Ok(self.read(None, Some(id))?.pop())
    }

    fn read(&self, relation: Option<pg_sys::Oid>, id: Option<i64>) -> Result<Vec<Entry>, Error> {
        rename::catch_up(self)?;
        let arguments = [
            session::current_role().into(),
            self.origin().into(),
            relation.into(),
            id.into(),
        ];
        self.query(ENTRIES, &arguments, entry)
    }

    /// It is back as it was.
    pub(super) fn forget(&self, entry: &Entry) -> Result<(), Error> {
        let delete = "delete from {schema}._repl_foreign_keys where id = $1";
        self.run(delete, &[entry.id.into()]).map(|_| ())
    }

    /// What a worker is to do with it; what was the matter with it is no more.
    pub(super) fn set_task(&self, entry: &Entry, task: Option<&str>) -> Result<(), Error> {
        let update = "
            update {schema}._repl_foreign_keys f
               set task = $2, origin = $3, problem = null, rows_wrong = null, sample_keys = null,
                   constraint_id = {constraint_id}
             where id = $1";
        let arguments = [entry.id.into(), task.into(), self.origin().into()];
        self.run(update, &arguments).map(|_| ())
    }

    /// Why it is not back, or not valid. Nobody tries again until somebody asks for it.
    pub(super) fn note(
        &self,
        entry: &Entry,
        problem: &str,
        orphans: Option<&super::orphan::Orphans>,
    ) -> Result<(), Error> {
        let update = "
            update {schema}._repl_foreign_keys f
               set task = null, problem = $2, rows_wrong = $3, sample_keys = $4::jsonb,
                   constraint_id = {constraint_id}
             where id = $1";
        let arguments = [
            entry.id.into(),
            problem.into(),
            orphans.map(|one| one.number).into(),
            orphans.map(|one| one.keys.as_str()).into(),
        ];
        self.run(update, &arguments).map(|_| ())
    }
}
