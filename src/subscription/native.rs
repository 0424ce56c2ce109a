//! PostgreSQL's own logical replication.

use super::provider::Provider;
use super::quote::identifier;
use crate::pg::version;
use std::ffi::CStr;
use std::sync::LazyLock;

pub(super) struct Native;

static SUBSCRIPTIONS: LazyLock<String> = LazyLock::new(|| {
    include_str!("sql/native_subscriptions.sql").replace("{errors}", version::SUBSCRIPTION_ERRORS)
});

impl Provider for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn subscriptions(&self) -> &'static str {
        &SUBSCRIPTIONS
    }

    fn tables(&self) -> &'static str {
        "_repl_native_tables"
    }

    fn workers(&self) -> &'static str {
        include_str!("sql/native_workers.sql")
    }

    fn catalog_question(&self) -> &'static CStr {
        // A publisher may be as old as 10.
        c"select json_build_object(
              'publications', (select coalesce(json_agg(p.pubname), '[]') from pg_publication p
                                where p.pubname = any($1::text[])),
              'tables', (select coalesce(json_agg(json_build_array(t.schemaname, t.tablename,
                                    case when $2::bool and c.relkind = 'r' then pg_relation_size(c.oid)
                                        + case when c.reltoastrelid <> 0 then pg_relation_size(c.reltoastrelid) else 0 end end,
                                    case when c.reltuples > 0 then c.reltuples end, t.publications)), '[]')
                           from (select p.schemaname, p.tablename, json_agg(p.pubname) as publications
                                   from pg_publication_tables p where p.pubname = any($1::text[])
                                  group by p.schemaname, p.tablename) t
                           left join pg_namespace n on n.nspname = t.schemaname
                           left join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename))"
    }

    fn enable(&self, subscription: &str) -> String {
        format!("ALTER SUBSCRIPTION {} ENABLE;", identifier(subscription))
    }

    fn refresh(&self, subscription: &str) -> String {
        format!(
            "ALTER SUBSCRIPTION {} REFRESH PUBLICATION;",
            identifier(subscription)
        )
    }

    fn change_connection(&self) -> &'static str {
        "ALTER SUBSCRIPTION ... CONNECTION '...'"
    }

    fn start_over(&self, subscription: &str) -> String {
        let name = identifier(subscription);
        format!(
            "ALTER SUBSCRIPTION {name} DISABLE;\n\
             ALTER SUBSCRIPTION {name} SET (slot_name = NONE);\n\
             DROP SUBSCRIPTION {name}; -- then empty its tables and create it again"
        )
    }
}
