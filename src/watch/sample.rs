//! The facts of one moment, read in one transaction.

use crate::error::Error;
use crate::pg::spi;
use crate::subscription::provider::{self, Subscription};
use crate::subscription::tables;
use pgrx::datum::DatumWithOid;
use serde::Deserialize;
use std::collections::HashSet;

/// What is read each time.
#[derive(Default)]
pub(super) struct Sample {
    pub(super) subscriptions: Vec<Subscription>,
    /// Tables of subscriptions that are not ready.
    pub(super) unready: Vec<UnreadyTable>,
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

impl Sample {
    pub(super) fn take() -> Result<Self, Error> {
        let subscriptions = provider::subscriptions()?;
        let unready = if subscriptions.iter().any(Subscription::is_copying) {
            read(UNREADY)?
        } else {
            Vec::new()
        };
        Ok(Self {
            subscriptions,
            unready,
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

fn read<T: serde::de::DeserializeOwned>(query: &str) -> Result<T, Error> {
    let sql = query.replace("{tables}", &tables::base()?);
    let none: [DatumWithOid; 0] = [];
    spi::document(&sql, &none)
}
