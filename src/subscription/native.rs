//! PostgreSQL's own logical replication.

use super::provider::Provider;
use super::quote::identifier;
use crate::pg::version;
use std::ffi::CStr;
use std::sync::LazyLock;

pub(super) struct Native;

static SUBSCRIPTIONS: LazyLock<String> = LazyLock::new(|| {
    version::SUBSCRIPTION_COLUMNS.iter().fold(
        include_str!("sql/native_subscriptions.sql").to_owned(),
        |sql, (name, expression)| sql.replace(name, expression),
    )
});

impl Provider for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn subscriptions(&self) -> &'static str {
        &SUBSCRIPTIONS
    }

    fn keeps_tables_in_catalog(&self) -> bool {
        true
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
                           left join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename),
              'described', (select coalesce(json_agg(json_build_array(t.schemaname, t.tablename,
                                       -- Up to 17 generated columns are not sent, though the view has them.
                                       (select coalesce(json_agg(a.attname), '[]') from pg_attribute a
                                         where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                                           and (t.columns is null or t.columns ? a.attname)
                                           and (t.knows_generated or coalesce(to_jsonb(a) ->> 'attgenerated', '') = '')),
                                       (select coalesce(json_agg(a.attname order by k.place), '[]')
                                          from pg_index i
                                         cross join lateral unnest(i.indkey::int2[]) with ordinality as k (attnum, place)
                                          join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
                                         where i.indrelid = c.oid and i.indisprimary
                                           and k.place <= coalesce((to_jsonb(i) ->> 'indnkeyatts')::int, i.indnatts)),
                                       t.publications)), '[]')
                              from (select p.schemaname, p.tablename, json_agg(p.pubname) as publications,
                                           (array_agg(to_jsonb(p) -> 'attnames'))[1] as columns,
                                           bool_or(to_jsonb(u) ? 'pubgencols') as knows_generated
                                      from pg_publication_tables p
                                      join pg_publication u on u.pubname = p.pubname and (u.pubupdate or u.pubdelete)
                                     where $3 <> '[]' and p.pubname = any($1::text[])
                                       -- An array: joined, the view would be made again for each of them.
                                       and json_build_array(p.schemaname, p.tablename)::text = any(array(
                                               select json_build_array(n.nspname, c.relname)::text
                                                 from json_array_elements($3::json) e
                                                 join pg_namespace n on n.nspname = e ->> 0
                                                 join pg_class c on c.relnamespace = n.oid and c.relname = e ->> 1 and c.relreplident = 'f'))
                                     group by p.schemaname, p.tablename) t
                              join pg_namespace n on n.nspname = t.schemaname
                              join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename))"
    }

    fn enable(&self, subscription: &str) -> String {
        format!("ALTER SUBSCRIPTION {} ENABLE;", identifier(subscription))
    }

    fn disable(&self, subscription: &str) -> String {
        format!("ALTER SUBSCRIPTION {} DISABLE;", identifier(subscription))
    }

    fn switches(&self) -> &'static str {
        "select s.oid, s.subname::pg_catalog.text, s.subenabled from pg_catalog.pg_subscription s
          where s.subdbid = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())
          order by s.subname"
    }

    fn restarts_when_altered(&self) -> bool {
        false
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
