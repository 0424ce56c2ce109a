//! The table and the column of a rule: what they are, and why they may be refused.

use super::{GENERATE_FUNCTION, GENERATE_TRIGGER, RULE_FUNCTION};
use crate::error::Error;
use crate::pg::relation::{Lock, Relation};
use crate::pg::session;
use crate::pg::spi;
use pgrx::pg_sys;
use pgrx::spi::{SpiHeapTupleData, SpiResult};

/// A table, as a rule one whose owner the current role is.
pub(crate) struct OwnedTable {
    pub(crate) oid: pg_sys::Oid,
    pub(crate) owner: pg_sys::Oid,
    /// With its schema, quoted.
    pub(crate) name: String,
    /// Of this session alone.
    pub(crate) is_temporary: bool,
    pub(crate) partitioned: bool,
    is_owned: bool,
}

const TABLE: &str = "
select c.relowner,
       pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname),
       c.relkind::pg_catalog.text,
       pg_catalog.pg_has_role(c.relowner, 'USAGE'),
       c.relpersistence = 't'
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where c.oid = $1";

/// Parents before children, as the server locks them.
const PARTITIONS: &str = "
select p.relid::pg_catalog.oid from pg_catalog.pg_partition_tree($1) p
 where p.level > 0 order by p.level, p.relid::pg_catalog.oid";

/// Owner, name, kind, whether the current role has the rights of the owner, and whether the table is temporary.
type TableRow = (pg_sys::Oid, String, String, bool, bool);

fn table_row(row: &SpiHeapTupleData) -> SpiResult<TableRow> {
    Ok((
        spi::required(row, 1)?,
        spi::required(row, 2)?,
        spi::required(row, 3)?,
        spi::required(row, 4)?,
        spi::required(row, 5)?,
    ))
}

impl OwnedTable {
    /// Locks a table of the current role's, with its partitions, until the end of the transaction. Looked at
    /// before, for only the owner may lock it, and again after, for it may have changed while the lock was
    /// waited for.
    pub(crate) fn lock(oid: Option<pg_sys::Oid>, lock: Lock) -> Result<Self, Error> {
        let Self { oid, .. } = Self::find(oid)?;
        if !Relation::lock(oid, lock) {
            return Err(Error::UnknownTable { oid });
        }
        // The caller may be one whose search_path is that of his user.
        session::with_safe_search_path(|| {
            for partition in spi::query(PARTITIONS, &[oid.into()], |row| spi::required(row, 1))? {
                Relation::lock(partition, lock);
            }
            Self::from_row(oid, spi::query(TABLE, &[oid.into()], table_row)?)
        })
    }

    /// Without a lock, and without writing: on a standby, too.
    pub(crate) fn find(oid: Option<pg_sys::Oid>) -> Result<Self, Error> {
        let oid = oid.ok_or(Error::NullArgument("relation"))?;
        Self::from_row(oid, Self::read(oid)?)
    }

    /// Likewise, whoever its owner is.
    pub(crate) fn find_any(oid: pg_sys::Oid) -> Result<Self, Error> {
        Self::any_from_row(oid, Self::read(oid)?)
    }

    fn read(oid: pg_sys::Oid) -> Result<Vec<TableRow>, Error> {
        session::with_safe_search_path(|| spi::read(TABLE, &[oid.into()], table_row))
    }

    pub(crate) fn check_owner(&self) -> Result<(), Error> {
        if self.is_owned {
            Ok(())
        } else {
            Err(Error::NotTableOwner {
                table: self.name.clone(),
            })
        }
    }

    fn from_row(oid: pg_sys::Oid, found: Vec<TableRow>) -> Result<Self, Error> {
        let table = Self::any_from_row(oid, found)?;
        table.check_owner()?;
        Ok(table)
    }

    fn any_from_row(oid: pg_sys::Oid, found: Vec<TableRow>) -> Result<Self, Error> {
        let (owner, name, kind, owned, is_temporary) = found
            .into_iter()
            .next()
            .ok_or(Error::UnknownTable { oid })?;
        let table = Self {
            oid,
            owner,
            name,
            is_temporary,
            partitioned: kind == "p",
            is_owned: owned,
        };
        let kind = match kind.as_str() {
            "r" | "p" => return Ok(table),
            "v" => "a view",
            "m" => "a materialized view",
            "f" => "a foreign table",
            "S" => "a sequence",
            "i" | "I" => "an index",
            "c" => "a composite type",
            _ => "another kind of relation",
        };
        Err(Error::NotATable {
            relation: table.name,
            kind,
        })
    }

    /// For a FROM or an UPDATE: the rows that the rules of the table concern, which are not those of tables that
    /// inherit from it.
    pub(crate) fn with_partitions(&self) -> String {
        let only = if self.partitioned { "" } else { "only " };
        format!("{only}{}", self.name)
    }

    /// Replication finds the rows of the table, or of each of its partitions, by an index. Elsewhere a derived
    /// column would keep it from finding them at all: it compares every column that is not GENERATED, with NULL
    /// for what the publisher does not send (`FindReplTupleInLocalRel` of `replication/logical/worker.c`).
    pub(crate) fn check_identity_index(&self) -> Result<(), Error> {
        let keyless = spi::query(KEYLESS, &[self.oid.into()], |row| spi::required(row, 1))?;
        match keyless.into_iter().next() {
            None => Ok(()),
            Some(table) => Err(Error::NoIdentityIndex { table }),
        }
    }
}

/// Tables among this one and its partitions in which replication has no index to find a row by: neither a
/// replica identity index nor a primary key that is not deferrable (`RelationGetIndexList` of
/// `utils/cache/relcache.c`). A partitioned table counts as long as it has no partition.
const KEYLESS: &str = "
with tree as (
    select $1::oid as oid, true as is_leaf where not exists (select from pg_partition_tree($1) where isleaf)
    union select relid, true from pg_partition_tree($1) where isleaf
)
select oid::regclass::text from tree
 where not exists (select from pg_index i
                    where i.indrelid = tree.oid and i.indisvalid and i.indimmediate
                      and (i.indisprimary or i.indisreplident))
 limit 1";

/// What the catalogs say of a column that is to be derived, and of what stands around it.
pub(super) struct TargetColumn {
    pub(super) attnum: i16,
    pub(super) name: String,
    pub(super) not_null: bool,
    /// `pg_attribute.attgenerated`
    generated: String,
    identity: bool,
    in_identity_index: bool,
    in_partition_key: bool,
    /// A partitioned table above that has rules.
    governed_by: Option<String>,
    /// A partition below that has rules of its own.
    governed_partition: Option<String>,
    /// A BEFORE ROW trigger that would fire after ours.
    later_trigger: Option<String>,
    /// A trigger of our name that is not ours.
    foreign_trigger: bool,
    pub(super) generated_columns: Vec<i16>,
    /// Of all triggers of the table and its partitions.
    pub(super) trigger_names: Vec<String>,
    /// Each rule of the table.
    pub(super) rules: Vec<ExistingRule>,
}

pub(super) struct ExistingRule {
    pub(super) attnum: i16,
    pub(super) trigger_name: String,
}

/// The columns of a partition key are made dependent on their table (`StorePartitionKey` of `catalog/heap.c`).
const COLUMN: &str = "
with tree as (
    select $1::oid as oid
    union select relid from pg_partition_tree($1)
), family as (
    select oid from tree
    union select relid from pg_partition_ancestors($1)
), same_column as (
    select a.attrelid, a.attnum
      from pg_attribute a join family f on f.oid = a.attrelid
     where a.attname = $2::name
), rule_trigger as (
    select t.tgrelid, t.tgparentid
      from pg_trigger t join pg_proc p on p.oid = t.tgfoid
     where p.proname = $4 and t.tgrelid in (select oid from family)
)
select a.attnum,
       a.attname::text,
       a.attnotnull,
       a.attgenerated::text,
       a.attidentity <> '',
       exists (select from pg_index i join same_column s on s.attrelid = i.indrelid
                where (i.indisprimary or i.indisreplident) and s.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1])),
       exists (select from pg_partitioned_table p join same_column s on s.attrelid = p.partrelid
                 join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = p.partrelid
                      and d.objsubid = s.attnum and d.refclassid = 'pg_class'::regclass
                      and d.refobjid = p.partrelid and d.refobjsubid = 0 and d.deptype = 'i'),
       (select r.tgrelid::regclass::text from rule_trigger r
         where r.tgrelid not in (select oid from tree) limit 1),
       (select r.tgrelid::regclass::text from rule_trigger r
         where r.tgrelid <> $1 and r.tgparentid = 0 and r.tgrelid in (select oid from tree) limit 1),
       (select format('%I on %s', t.tgname, t.tgrelid::regclass)
          from pg_trigger t
         where t.tgrelid in (select oid from tree) and not t.tgisinternal
           and t.tgtype & 3 = 3 and t.tgtype & 20 <> 0
           and t.tgname > $3::name collate \"C\" limit 1),
       exists (select from pg_trigger t join pg_proc p on p.oid = t.tgfoid
                where t.tgrelid in (select oid from tree) and t.tgname = $3::name
                  and p.proname <> $5),
       array(select g.attnum from pg_attribute g
              where g.attrelid = a.attrelid and g.attgenerated <> '' and not g.attisdropped),
       array(select distinct t.tgname::text from pg_trigger t
              where t.tgrelid in (select oid from tree))
  from pg_attribute a
 where a.attrelid = $1 and a.attname = $2::name and not a.attisdropped";

const RULES: &str = "
select t.tgattr[0], t.tgname::text
  from pg_trigger t join pg_proc p on p.oid = t.tgfoid
 where t.tgrelid = $1 and p.proname = $2";

impl TargetColumn {
    pub(super) fn find(table: &OwnedTable, name: &str) -> Result<Self, Error> {
        let rules = rules_of(table.oid)?;
        let arguments = [
            table.oid.into(),
            name.into(),
            GENERATE_TRIGGER.into(),
            RULE_FUNCTION.into(),
            GENERATE_FUNCTION.into(),
        ];
        let column = spi::query(COLUMN, &arguments, |row| {
            Ok(Self {
                attnum: spi::required(row, 1)?,
                name: spi::required(row, 2)?,
                not_null: spi::required(row, 3)?,
                generated: spi::required(row, 4)?,
                identity: spi::required(row, 5)?,
                in_identity_index: spi::required(row, 6)?,
                in_partition_key: spi::required(row, 7)?,
                governed_by: row.get(8)?,
                governed_partition: row.get(9)?,
                later_trigger: row.get(10)?,
                foreign_trigger: spi::required(row, 11)?,
                generated_columns: spi::required(row, 12)?,
                trigger_names: spi::required(row, 13)?,
                rules: Vec::new(),
            })
        })?;
        let column = column
            .into_iter()
            .next()
            .ok_or_else(|| Error::UnknownColumn {
                table: table.name.clone(),
                column: name.to_owned(),
            })?;
        Ok(Self { rules, ..column })
    }

    /// Why no rule can stand on this column.
    pub(super) fn check(&self, table: &OwnedTable) -> Result<(), Error> {
        self.check_not_governed(table)?;
        let table = || table.name.clone();
        let column = || self.name.clone();
        if self.attnum < 0 {
            return Err(Error::SystemColumn {
                table: table(),
                column: column(),
            });
        }
        match self.generated.as_str() {
            "" => {}
            "v" => {
                return Err(Error::VirtualColumn {
                    table: table(),
                    column: column(),
                });
            }
            _ => {
                return Err(Error::AlreadyGenerated {
                    table: table(),
                    column: column(),
                });
            }
        }
        if self.identity {
            return Err(Error::IdentityColumn {
                table: table(),
                column: column(),
            });
        }
        if self.in_identity_index {
            return Err(Error::PartOfReplicaIdentity {
                table: table(),
                column: column(),
            });
        }
        if self.in_partition_key {
            return Err(Error::PartOfPartitionKey {
                table: table(),
                column: column(),
            });
        }
        if let Some(partition) = &self.governed_partition {
            return Err(Error::RuleOfPartition {
                table: table(),
                partition: partition.clone(),
            });
        }
        if self.foreign_trigger {
            return Err(Error::TriggerNameTaken { table: table() });
        }
        if let Some(trigger) = &self.later_trigger {
            return Err(Error::LaterTrigger {
                trigger: trigger.clone(),
            });
        }
        Ok(())
    }

    /// The rules of a partition come from the partitioned table that has them.
    pub(super) fn check_not_governed(&self, table: &OwnedTable) -> Result<(), Error> {
        match &self.governed_by {
            None => Ok(()),
            Some(ancestor) => Err(Error::RuleOfAncestor {
                table: table.name.clone(),
                ancestor: ancestor.clone(),
            }),
        }
    }

    /// The rule that this column has.
    pub(super) fn rule(&self) -> Option<&ExistingRule> {
        self.rules.iter().find(|rule| rule.attnum == self.attnum)
    }
}

fn rules_of(table: pg_sys::Oid) -> Result<Vec<ExistingRule>, Error> {
    spi::query(RULES, &[table.into(), RULE_FUNCTION.into()], |row| {
        Ok(ExistingRule {
            attnum: spi::required(row, 1)?,

            trigger_name: spi::required(row, 2)?,
        })
    })
}
