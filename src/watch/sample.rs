//! The facts of one moment, read in one transaction.

use crate::error::Error;
use crate::pg::{catalog_change, spi};
use crate::subscription::provider::{self, Subscription};
use crate::subscription::tables;
use pgrx::datum::DatumWithOid;
use serde::Deserialize;
use std::collections::{HashMap, HashSet};

/// What is read each time.
#[derive(Default)]
pub(super) struct Sample {
    pub(super) subscriptions: Vec<Subscription>,
    /// Tables of subscriptions that are not ready.
    pub(super) unready: Vec<UnreadyTable>,
    /// What providers had said of changes when their tables were counted and all were ready.
    settled: HashMap<&'static str, u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct UnreadyTable {
    pub(super) provider: String,
    pub(super) id: u32,
    pub(super) schema_name: String,
    pub(super) table_name: String,
    /// The table here.
    pub(super) relation: Option<u32>,
    /// It has still to be copied, wholly or in part.
    pub(super) is_to_copy: bool,
    /// Whoever copies it at this moment.
    pub(super) pid: Option<i32>,
    pub(super) rows_copied: Option<f64>,
    pub(super) bytes_copied: Option<f64>,
}

/// Tables that are not ready, and those of which pglogical tells nothing while it copies a new subscription.
const UNREADY: &str = "
    select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
               'provider', b.provider, 'id', b.id, 'schema_name', b.schema_name, 'table_name', b.table_name, 'relation', b.relation::bigint,
               'is_to_copy', coalesce(b.code in ('i', 'd'), false), 'pid', p.pid,
               'rows_copied', p.tuples_processed, 'bytes_copied', p.bytes_processed)), '[]')::text
      from ({tables}) b
      left join pg_catalog.pg_stat_progress_copy p on p.pid = b.pid and p.relid = b.relation
     where b.code is distinct from 'r' and (b.is_subscribed or b.provider = 'pglogical')";

/// The tables that a subscription knows.
const SUBSCRIBED: &str = "
    select coalesce(pg_catalog.json_agg(pg_catalog.json_build_array(b.provider, b.id, b.schema_name, b.table_name)), '[]')::text
      from ({tables}) b
     where b.is_subscribed";

/// Tables that a process changes, and in which an UPDATE or DELETE has to read all rows to find one: without primary key and
/// replica identity, and before 16 whatever other indexes they have (`FindUsableIndexForReplicaIdentityFull`). `$1`: its id.
const WITHOUT_IDENTITY: &str = "
    select coalesce(pg_catalog.json_agg(pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)), '[]')::text
      from pg_catalog.pg_locks l
      join pg_catalog.pg_class c on c.oid = l.relation and c.relkind = 'r'
      join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname not in ('pg_catalog', 'pg_toast')
     where l.pid = $1 and l.locktype = 'relation' and l.mode = 'RowExclusiveLock' and l.granted
       and l.database = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())
       and not exists (
           select from pg_catalog.pg_index i
             join pg_catalog.pg_class x on x.oid = i.indexrelid
             join pg_catalog.pg_am a on a.oid = x.relam
            where i.indrelid = c.oid and i.indisvalid
              and (i.indisprimary or i.indisreplident
                   or pg_catalog.current_setting('server_version_num')::int >= 160000
                      and a.amname in ('btree', 'hash') and i.indpred is null and i.indkey[0] <> 0))";

impl Sample {
    /// `before`: the sample before this one. As long as all tables are ready and nothing changes, they are not counted
    /// again.
    pub(super) fn take(before: &Self) -> Result<Self, Error> {
        let mut changes = HashMap::new();
        let mut subscriptions = provider::subscriptions_counting(|provider| {
            let now = provider
                .keeps_tables_in_catalog()
                .then(catalog_change::subscribed_tables);
            let is_settled =
                now.is_some_and(|now| before.settled.get(provider.name()) == Some(&now));
            changes.insert(provider.name(), (now, is_settled));
            !is_settled
        })?;
        for one in &mut subscriptions {
            let is_settled = changes
                .get(one.provider.as_str())
                .is_some_and(|(_, settled)| *settled);
            let mut known = before.subscriptions.iter();
            if is_settled
                && let Some(known) =
                    known.find(|other| other.id == one.id && other.provider == one.provider)
            {
                (one.tables_total, one.tables_ready) = (known.tables_total, known.tables_ready);
            }
        }
        let has_unready = |provider: &str| {
            let mut copying = subscriptions.iter().filter(|one| one.is_copying());
            copying.any(|one| one.provider == provider)
        };
        let settled = changes
            .into_iter()
            .filter(|(provider, _)| !has_unready(provider))
            .filter_map(|(provider, (now, _))| Some((provider, now?)))
            .collect();
        let unready = if subscriptions.iter().any(Subscription::is_copying) {
            read(UNREADY)?
        } else {
            Vec::new()
        };
        Ok(Self {
            subscriptions,
            unready,
            settled,
        })
    }

    pub(super) fn unready_of(
        &self,
        subscription: &Subscription,
    ) -> impl Iterator<Item = &UnreadyTable> {
        let (provider, id) = (subscription.provider.clone(), subscription.id);
        let unready = self.unready.iter();
        unready.filter(move |table| table.id == id && table.provider == provider)
    }
}

/// The tables that the subscriptions know: provider, OID of the subscription, schema, name.
pub(super) fn subscribed() -> Result<HashSet<(String, u32, String, String)>, Error> {
    read(SUBSCRIBED)
}

/// With schema, quoted ([`WITHOUT_IDENTITY`]).
pub(super) fn tables_without_identity(pid: i32) -> Result<Vec<String>, Error> {
    spi::document(WITHOUT_IDENTITY, &[DatumWithOid::from(pid)])
}

fn read<T: serde::de::DeserializeOwned>(query: &str) -> Result<T, Error> {
    let sql = query.replace("{tables}", &tables::base()?);
    let none: [DatumWithOid; 0] = [];
    spi::document(&sql, &none)
}
