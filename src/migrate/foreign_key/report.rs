//! Keys that somebody should bring back.

use crate::error::Error;
use crate::pg::spi;
use serde::Deserialize;

/// A key that is detached or not valid, at which nobody is at work.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Forgotten {
    /// With its schema, quoted where need be.
    pub(crate) relation: String,
    pub(crate) name: String,
    pub(crate) referenced: Option<String>,
    pub(crate) is_back: bool,
    pub(crate) problem: Option<String>,
    /// OIDs of the subscriptions that one of both tables belongs to.
    pub(crate) native: Vec<u32>,
    pub(crate) pglogical: Vec<u32>,
}

/// Takes no transaction id.
pub(crate) fn forgotten() -> Result<Vec<Forgotten>, Error> {
    let (schema, _) = spi::extension()?;
    let sql = FORGOTTEN.replace("{schema}", &pgrx::spi::quote_identifier(schema));
    spi::document(&sql, &[])
}

const FORGOTTEN: &str = "
select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
           'relation', v.relation::text, 'name', v.constraint_name, 'referenced', v.referenced::text,
           'is_back', v.state = 'not valid', 'problem', v.problem,
           'native', (select coalesce(pg_catalog.json_agg(distinct s.srsubid::bigint), '[]') from pg_catalog.pg_subscription_rel s
                       where s.srrelid in (
                           select f.relid
                             from pg_catalog.unnest(array[v.relation, v.referenced]) o
                            cross join lateral (select o as relid
                                                union select t.relid from pg_catalog.pg_partition_tree(o) t
                                                union select t.relid from pg_catalog.pg_partition_ancestors(o) t) f)),
           'pglogical', (select coalesce(pg_catalog.json_agg(distinct s.id), '[]') from {schema}._repl_pglogical_tables() s
                          where s.relation in (v.relation, v.referenced)))
       order by v.relation::text, v.constraint_name), '[]')::text
  from {schema}.repl_detached_foreign_keys v
 where v.state in ('detached', 'not valid') and v.relation is not null";
