//! What both servers say of the published tables: one question to each.

use super::super::Plan;
use crate::error::Error;
use crate::pg::{session, spi};
use crate::subscription::publisher::{Inquiry, Unheard};
use pgrx::pg_sys;
use serde::Deserialize;
use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::sync::LazyLock;

const DESCRIBED: &str = include_str!("../sql/described_tables.sql");

static NATIVE: LazyLock<CString> =
    LazyLock::new(|| question(include_str!("../sql/native_published_tables.sql")));
static PGLOGICAL: LazyLock<CString> =
    LazyLock::new(|| question(include_str!("../sql/pglogical_published_tables.sql")));

fn question(published: &str) -> CString {
    let text = published.replace("{described_tables}", DESCRIBED).replace(
        "{publisher}",
        include_str!("../sql/publisher_of_tables.sql"),
    );
    CString::new(text).unwrap_or_default()
}

/// A plan that reads the catalogs for each table anew would not end with thousands of them, and compiling one takes longer than
/// running it; up to 10 the server does not know `jit`.
const SETTINGS_THERE: &CStr = c"select set_config(name, 'off', false) from pg_settings where name in ('jit', 'enable_nestloop')
     order by name";
const SETTINGS_HERE: [(&CStr, &CStr); 4] = [
    session::SAFE_SEARCH_PATH,
    (c"jit", c"off"),
    (c"enable_nestloop", c"off"),
    (c"max_parallel_workers_per_gather", c"0"),
];

/// Comes as an array of these.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Column {
    pub(super) name: String,
    /// As `format_type` writes it.
    pub(super) r#type: String,
    pub(super) type_schema: String,
    pub(super) type_name: String,
    pub(super) typmod: i32,
    pub(super) is_not_null: bool,
    /// A default, or an expression.
    pub(super) has_default: bool,
    pub(super) identity: String,
    /// `s`: stored, `v`: virtual; `None` or empty: a plain column.
    pub(super) generated: Option<String>,
    pub(super) expression: Option<String>,
    /// Of a generated column: its expression is not the same for all rows.
    pub(super) reads_columns: Option<bool>,
    /// Where it is not that of the type.
    pub(super) collation: Option<String>,
}

impl Column {
    pub(super) fn is_generated(&self) -> bool {
        self.generated.as_ref().is_some_and(|kind| !kind.is_empty())
    }

    pub(super) fn is_virtual(&self) -> bool {
        self.generated.as_deref() == Some("v")
    }
}

/// Comes as an array of these.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Index {
    pub(super) name: String,
    pub(super) is_primary: bool,
    /// Chosen as the replica identity.
    pub(super) is_identity: bool,
    pub(super) is_unique: bool,
    pub(super) is_exclusion: bool,
    /// Not deferrable.
    pub(super) is_immediate: bool,
    pub(super) is_valid: bool,
    /// Of its key, without expressions.
    pub(super) columns: Vec<String>,
    /// None of them can be NULL.
    pub(super) is_not_null: bool,
    /// 15+
    pub(super) nulls_are_equal: bool,
    pub(super) expressions: Option<String>,
    pub(super) predicate: Option<String>,
}

impl Index {
    /// What REPLICA IDENTITY USING INDEX takes.
    pub(super) fn can_be_identity(&self) -> bool {
        self.is_unique
            && self.is_valid
            && self.is_immediate
            && self.is_not_null
            && self.predicate.is_none()
            && self.expressions.is_none()
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Table {
    pub(super) oid: u32,
    pub(super) schema_name: String,
    pub(super) table_name: String,
    /// Both, quoted where need be.
    pub(super) name: String,
    pub(super) owner: u32,
    /// `pg_class.relkind`
    pub(super) kind: String,
    /// `pg_class.relreplident`
    pub(super) replica_identity: String,
    /// Of a partition: the table that it is a part of, at the top.
    pub(super) root: Option<String>,
    /// Whose table it is.
    pub(super) extension: Option<String>,
    /// It has parents or children without being a partition.
    pub(super) is_inherited: bool,
    /// As the last ANALYZE estimated them; negative: there was none (14+).
    pub(super) rows: f64,
    /// Likewise, without indexes and TOAST.
    pub(super) bytes: i64,
    pub(super) columns: Vec<Column>,
    pub(super) indexes: Vec<Index>,
    /// Partitions in which there is no index to find a row by.
    pub(super) leaves_without_key: Vec<String>,
    /// Partitions whose UPDATE and DELETE cannot be published.
    pub(super) leaves_without_identity: Vec<String>,
}

impl Table {
    pub(super) fn pair(&self) -> (String, String) {
        (self.schema_name.clone(), self.table_name.clone())
    }

    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|one| one.name == name)
    }

    pub(super) fn is_partitioned(&self) -> bool {
        self.kind == "p"
    }

    pub(super) fn primary_key(&self) -> Option<&Index> {
        let mut indexes = self.indexes.iter();
        indexes.find(|one| one.is_primary && one.is_valid && one.is_immediate)
    }

    /// The index that apply finds rows by (`GetRelationIdentityOrPK` of `execReplication.c`).
    pub(super) fn key(&self) -> Option<&Index> {
        let mut indexes = self.indexes.iter();
        indexes
            .find(|one| one.is_identity && one.is_valid && one.is_immediate)
            .or_else(|| self.primary_key())
    }

    /// The columns that a publisher sends of an old row; `None`: nothing, and so UPDATE and DELETE fail there.
    pub(super) fn identity(&self) -> Option<Vec<&str>> {
        match self.replica_identity.as_str() {
            "f" => Some(self.columns.iter().map(|one| one.name.as_str()).collect()),
            "i" => {
                let mut indexes = self.indexes.iter();
                let index = indexes.find(|one| one.is_identity && one.is_valid)?;
                Some(index.columns.iter().map(String::as_str).collect())
            }
            "d" => Some(
                self.primary_key()?
                    .columns
                    .iter()
                    .map(String::as_str)
                    .collect(),
            ),
            _ => None,
        }
    }
}

/// A table in a publication, or in a replication set.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Published {
    pub(super) oid: u32,
    pub(super) publication: String,
    /// Those that are published; `None`: all.
    pub(super) columns: Option<Vec<String>>,
    pub(super) row_filter: Option<String>,
    pub(super) updates: bool,
    pub(super) deletes: bool,
    pub(super) truncates: bool,
    pub(super) via_root: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Type {
    pub(super) schema_name: String,
    pub(super) type_name: String,
    pub(super) name: String,
    pub(super) extension: Option<String>,
    pub(super) labels: Vec<String>,
    /// What follows CREATE, where one statement makes it.
    pub(super) definition: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Sequence {
    pub(super) schema_name: String,
    pub(super) sequence_name: String,
    pub(super) name: String,
    /// By the column: it is made with the table.
    pub(super) is_owned: bool,
    pub(super) table: u32,
    pub(super) column: String,
    pub(super) column_type: String,
    pub(super) is_identity: bool,
    pub(super) may_read: bool,
    /// `None`: it has given none, or must not be read.
    pub(super) last_value: Option<i64>,
    pub(super) increment: i64,
    /// The last that it can give.
    pub(super) most: i64,
    pub(super) cycles: bool,
}

/// In the schemas of published tables, and not published.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Other {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) persistence: String,
}

/// What keeps the role of the connection from copying a table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Right {
    pub(super) oid: u32,
    pub(super) may_use_schema: bool,
    pub(super) may_read: bool,
    pub(super) readable_columns: Option<Vec<String>>,
    /// Policies hide rows from it.
    pub(super) row_security: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct There {
    pub(super) user: String,
    pub(super) published: Vec<Published>,
    pub(super) tables: Vec<Table>,
    pub(super) types: Vec<Type>,
    pub(super) sequences: Vec<Sequence>,
    /// Schema and name of those that no column uses.
    pub(super) unused_sequences: Vec<(String, String)>,
    pub(super) others: Vec<Other>,
    pub(super) rights: Vec<Right>,
    pub(super) large_objects: i64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Trigger {
    pub(super) oid: u32,
    pub(super) name: String,
    pub(super) is_always: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct ForeignKey {
    pub(super) name: String,
    pub(super) table: u32,
    pub(super) table_name: String,
    /// The table that it refers to.
    pub(super) other: u32,
    pub(super) other_name: String,
}

/// What keeps changes from being applied to a table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Access {
    pub(super) oid: u32,
    /// With whose rights they are applied.
    pub(super) role: String,
    pub(super) is_row_secured: bool,
    pub(super) lacks: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Here {
    pub(super) tables: Vec<Table>,
    pub(super) types: Vec<Type>,
    /// Those of the publisher's types that are here.
    pub(super) asked_types: Vec<Type>,
    pub(super) sequences: HashSet<(String, String)>,
    pub(super) schemas: HashSet<String>,
    /// Codes of the tables of the subscription.
    pub(super) states: Vec<(u32, String)>,
    pub(super) no_longer_published: Vec<String>,
    /// Values come in a form that only the same type reads.
    pub(super) is_binary: Option<bool>,
    /// Columns that have a rule.
    pub(super) rules: HashSet<(u32, String)>,
    pub(super) triggers: Vec<Trigger>,
    pub(super) keys: Vec<ForeignKey>,
    /// Tables that have something on disk, as far as nobody has them locked.
    pub(super) stored: HashSet<u32>,
    /// Tables that somebody has locked, or a partition of them.
    pub(super) locked: HashSet<u32>,
    pub(super) access: Vec<Access>,
    /// pglogical writes through SQL.
    pub(super) uses_spi: bool,
    pub(super) database: String,
    pub(super) port: String,
    pub(super) sockets: String,
    /// `server_version_num`
    pub(super) version: i32,
}

pub(super) fn ask(plan: &Plan, publisher: &mut Inquiry) -> Result<There, Unheard> {
    let question = match plan.provider {
        "pglogical" => &PGLOGICAL,
        _ => &NATIVE,
    };
    publisher.answer(SETTINGS_THERE, &[])?;
    let publications = serde_json::to_string(&plan.publications).unwrap_or_default();
    publisher.ask(question, &[publications])
}

const NO_STATES: &str = "select null::oid, null::text where $2::oid is null";
const NATIVE_STATES: &str =
    "select r.srrelid, r.srsubstate::text from pg_subscription_rel r where r.srsubid = $2::oid";
const PGLOGICAL_STATES: &str = "select c.oid, l.sync_status::text
      from pglogical.local_sync_status l
      join pg_namespace n on n.nspname = l.sync_nspname
      join pg_class c on c.relnamespace = n.oid and c.relname = l.sync_relname
     where l.sync_subid = $2::oid";
/// Whoever makes a subscription will own it.
const ROLE_TO_BE: &str = "select $3::oid as oid, current_setting('server_version_num')::int < 160000 as runs_as_owner, false as is_binary";
const NATIVE_ROLE: &str = "select s.subowner as oid, s.subbinary as is_binary,
           coalesce((to_jsonb(s) ->> 'subrunasowner')::bool, current_setting('server_version_num')::int < 160000) as runs_as_owner
      from pg_subscription s
     where s.oid = $2::oid";
/// pglogical applies changes as a superuser, and sends values as they are in memory.
const PGLOGICAL_ROLE: &str = "select r.oid, true as is_binary, true as runs_as_owner from pg_roles r where r.rolsuper limit 1";

/// The rights of the caller are not asked for: they are those of the subscription.
pub(super) fn look(plan: &Plan, there: &There) -> Result<Here, Error> {
    let (states, role) = match (plan.provider, &plan.subscription) {
        ("pglogical", Some(_)) => (PGLOGICAL_STATES, PGLOGICAL_ROLE),
        ("pglogical", None) => (NO_STATES, PGLOGICAL_ROLE),
        (_, Some(_)) => (NATIVE_STATES, NATIVE_ROLE),
        (_, None) => (NO_STATES, ROLE_TO_BE),
    };
    let query = include_str!("../sql/tables_here.sql")
        .replace("{described_tables}", DESCRIBED)
        .replace("{states}", states)
        .replace("{role}", role);
    let used = there.sequences.iter();
    let sequences = used.map(|one| (&one.schema_name, &one.sequence_name));
    let unused = there.unused_sequences.iter();
    let sequences = sequences.chain(unused.map(|(schema, name)| (schema, name)));
    let asked = serde_json::json!({
        "tables": there.tables.iter().map(Table::pair).collect::<Vec<_>>(),
        "types": there.types.iter().map(|one| (&one.schema_name, &one.type_name)).collect::<Vec<_>>(),
        "sequences": sequences.collect::<Vec<_>>(),
    });
    let subscription = plan.subscription.as_ref().map_or(0, |one| one.id);
    let arguments = [
        asked.to_string().into(),
        i64::from(subscription).into(),
        session::current_role().into(),
    ];
    as_owner(|| spi::document(&query, &arguments))
}

/// Which of these tables have rows, as far as one row tells. By OID and name.
pub(super) fn with_rows(tables: &[&Table]) -> Result<HashSet<u32>, Error> {
    if tables.is_empty() {
        return Ok(HashSet::new());
    }
    let parts = tables.iter().map(|one| {
        let query = format!(
            "select {}::bigint where exists (select from {})",
            one.oid, one.name
        );
        (one.owner, query)
    });
    let found = session::with_settings(&SETTINGS_HERE, || {
        spi::read_as_owners(parts, |row| spi::required::<i64>(row, 1))
    })?;
    Ok(found
        .into_iter()
        .filter_map(|one| u32::try_from(one).ok())
        .collect())
}

fn as_owner<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let (_, owner): (String, pg_sys::Oid) = spi::extension()?;
    session::as_role(owner, || session::with_settings(&SETTINGS_HERE, work))
}
