//! The extension pglogical 2.4, where it is installed in the database.

use super::provider::Provider;
use super::quote::literal;
use std::ffi::CStr;
use std::sync::LazyLock;

pub(super) struct Pglogical;

/// The `application_name` of the session that receives a copy: the subscription's name and `_copy`. A name that is too long
/// for that is cut and has a part of its hash behind (`shorten_hash` of `pglogical_functions.c`).
const COPY_NAME: &str = "case when octet_length(s.sub_name::text) <= 58 then s.sub_name::text
     else \"left\"(s.sub_name::text, 50) || \"left\"(lpad(to_hex(hashtext(s.sub_name::text)), 8, '0'), 7) end || '_copy'";

static SUBSCRIPTIONS: LazyLock<String> = LazyLock::new(|| {
    include_str!("sql/pglogical_subscriptions.sql").replace("{copy_name}", COPY_NAME)
});
static WORKERS: LazyLock<String> =
    LazyLock::new(|| include_str!("sql/pglogical_workers.sql").replace("{copy_name}", COPY_NAME));

/// What `_repl_pglogical_tables()` returns. Where pglogical is not installed, a query that names its tables is an error.
pub(super) static TABLES: LazyLock<String> =
    LazyLock::new(|| include_str!("sql/pglogical_tables.sql").replace("{copy_name}", COPY_NAME));

impl Provider for Pglogical {
    fn name(&self) -> &'static str {
        "pglogical"
    }

    fn subscriptions(&self) -> &'static str {
        &SUBSCRIPTIONS
    }

    fn keeps_tables_in_catalog(&self) -> bool {
        false
    }

    fn tables(&self) -> &'static str {
        "_repl_pglogical_tables()"
    }

    fn workers(&self) -> &'static str {
        &WORKERS
    }

    fn catalog_question(&self) -> &'static CStr {
        c"with chosen as (
              select r.set_id, r.set_name from pglogical.replication_set r
                join pglogical.local_node l on l.node_id = r.set_nodeid
               where r.set_name = any($1::text[]))
          select json_build_object(
              'publications', (select coalesce(json_agg(set_name), '[]') from chosen),
              'tables', (select coalesce(json_agg(json_build_array(n.nspname, c.relname,
                                    case when $2::bool and c.relkind = 'r' then pg_relation_size(c.oid)
                                        + case when c.reltoastrelid <> 0 then pg_relation_size(c.reltoastrelid) else 0 end end,
                                    case when c.reltuples > 0 then c.reltuples end, t.publications)), '[]')
                           from (select t.set_reloid, json_agg(chosen.set_name) as publications
                                   from pglogical.replication_set_table t join chosen on chosen.set_id = t.set_id
                                  group by t.set_reloid) t
                           join pg_class c on c.oid = t.set_reloid
                           join pg_namespace n on n.oid = c.relnamespace),
              'described', (select coalesce(json_agg(json_build_array(n.nspname, c.relname,
                                       (select coalesce(json_agg(a.attname), '[]') from pg_attribute a
                                         where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                                           and (t.sends_all or t.columns ? a.attname)),
                                       '{}'::text[], t.publications)), '[]')
                              from (select t.set_reloid, json_agg(chosen.set_name) as publications,
                                           bool_or(coalesce(t.facts -> 'set_att_list', 'null') = 'null') as sends_all,
                                           (select jsonb_agg(x) from (select distinct jsonb_array_elements(l) from unnest(array_agg(t.facts -> 'set_att_list')) l
                                                                       where jsonb_typeof(l) = 'array') as x (x)) as columns
                                      from (select t.*, to_jsonb(t) as facts from pglogical.replication_set_table t) t
                                      join chosen on chosen.set_id = t.set_id
                                     group by t.set_reloid) t
                              join pg_class c on c.oid = t.set_reloid
                              join pg_namespace n on n.oid = c.relnamespace
                             where (n.nspname::text, c.relname::text) in (select e ->> 0, e ->> 1 from json_array_elements($3::json) e)))"
    }

    fn enable(&self, subscription: &str) -> String {
        format!(
            "SELECT pglogical.alter_subscription_enable({});",
            literal(subscription)
        )
    }

    fn disable(&self, subscription: &str) -> String {
        format!(
            "SELECT pglogical.alter_subscription_disable({});",
            literal(subscription)
        )
    }

    fn switches(&self) -> &'static str {
        "select s.sub_id, s.sub_name::pg_catalog.text, s.sub_enabled from pglogical.subscription s order by s.sub_name"
    }

    fn restarts_when_altered(&self) -> bool {
        // signal_worker_xact_callback() of pglogical_worker.c
        true
    }

    fn refresh(&self, subscription: &str) -> String {
        format!(
            "SELECT pglogical.alter_subscription_synchronize({});",
            literal(subscription)
        )
    }

    fn change_connection(&self) -> &'static str {
        "pglogical.alter_node_add_interface(...), then pglogical.alter_subscription_interface(...)"
    }

    fn start_over(&self, subscription: &str) -> String {
        format!(
            "SELECT pglogical.drop_subscription({}); -- then empty its tables and create it again",
            literal(subscription)
        )
    }
}
