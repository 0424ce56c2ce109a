-- Operators are resolved as this runs, and an exact match of a schema in which others may create comes before a cast.
set local search_path = pg_catalog, pg_temp;

create function @extschema@._repl_known_tables()
    returns jsonb
    language c volatile security definer
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'repl_known_tables_wrapper';
comment on function @extschema@._repl_known_tables() is
    'internal: what the worker of this database knows of tables: {sizes, absent, rates}';

create function @extschema@._repl_pglogical_tables()
    returns table (provider text, subscription text, id bigint, relation oid, schema_name text, table_name text,
                   code text, state text, description text, lsn pg_lsn, pid int, is_subscribed boolean)
    language c volatile security definer rows 100
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'repl_pglogical_tables';
comment on function @extschema@._repl_pglogical_tables() is
    'internal: the tables of pglogical''s subscriptions, as _repl_native_tables; none where it is not installed';

create view @extschema@._repl_native_tables as
    select 'native' as provider, s.subname as subscription, s.oid::bigint as id, r.srrelid as relation,
           n.nspname as schema_name, c.relname as table_name, r.srsubstate::text as code,
           case when r.srsubstate = 'd' and w.pid is null then 'copy interrupted' end as state,
           case when r.srsubstate = 'd' and w.pid is null then
               'The copy of the existing rows failed or was ended. It begins again by itself as long as the subscription is enabled.'
           end as description,
           r.srsublsn as lsn, w.pid, true as is_subscribed
      from pg_catalog.pg_subscription s
      join pg_catalog.pg_subscription_rel r on r.srsubid = s.oid
      join pg_catalog.pg_class c on c.oid = r.srrelid
      join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      left join pg_catalog.pg_stat_get_subscription(null) w on w.subid = s.oid and w.relid = r.srrelid and w.pid is not null
     where s.subdbid = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())
    union all
    select 'native', s.subname, s.oid::bigint, c.oid, t.schema_name, t.table_name, null,
           case when c.oid is null then 'missing' else 'not subscribed' end,
           case when c.oid is null then
               'The publisher publishes it, and there is no such table here. Create it, then refresh the subscription.'
           else 'The publisher publishes it, and the subscription does not know of it. Refresh the subscription.' end,
           null, null, false
      from pg_catalog.jsonb_to_recordset(@extschema@._repl_known_tables() -> 'absent')
               as t (provider text, id bigint, schema_name name, table_name name)
      join pg_catalog.pg_subscription s on s.oid = t.id::oid
      left join pg_catalog.pg_namespace n on n.nspname = t.schema_name
      left join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.table_name
     where t.provider = 'native'
       and not exists (select from pg_catalog.pg_subscription_rel r where r.srsubid = s.oid and r.srrelid = c.oid);
comment on view @extschema@._repl_native_tables is
    'internal: the tables of native subscriptions, and those that their publishers publish besides';

-- What is known by name is looked up in JSON objects instead of being joined: the planner knows nothing of their sizes, and
-- would choose a loop over 10,000 rows for each of 10,000 tables some day.
create view @extschema@.repl_tables as
    with word as materialized (
        select pg_catalog.jsonb_object_agg(w.provider || ' ' || w.code, pg_catalog.jsonb_build_array(w.state, w.description)) as all,
               max(w.state) filter (where w.code = 'r') as ready,
               max(w.description) filter (where w.code = 'r') as ready_description
          from @extschema@._repl_sync_states() w
    ), known as materialized (
        select k.doc -> 'sizes' as sizes, k.doc -> 'rates' as rates from (select @extschema@._repl_known_tables() as doc offset 0) k
    ), failed as materialized (
        -- As repl_errors, by the OID of the subscription: it may have another name by now.
        select pg_catalog.jsonb_object_agg(e.key, e.message) as all
          from (select distinct on (e.key) e.key, e.message
                  from (select x.last_at, x.error ->> 'message' as message,
                               (x.error ->> 'provider') || ' ' || (x.error ->> 'id') || ' ' || (x.error ->> 'relation_name') as key
                          from (select w.last_at, w.error from @extschema@._repl_errors w
                                union all
                                select pg_catalog.to_timestamp((m.error ->> 'last_at')::float8), m.error
                                  from pg_catalog.jsonb_array_elements(@extschema@._repl_errors_in_memory()::jsonb) as m (error)) x
                         -- An administrator has ended the process.
                         where x.error ->> 'sqlstate' <> '57P01') e
                 where e.key is not null
                 order by e.key, e.last_at desc) e
    ), progress as materialized (
        select p.pid, p.relid, p.tuples_processed, p.bytes_processed,
               coalesce((select (k.rates ->> p.pid::text)::float8 from known k),
                        p.bytes_processed / nullif(extract(epoch from pg_catalog.clock_timestamp()
                            -- pglogical copies table after table in one transaction, a statement each.
                            - case when a.backend_type = 'client backend' then a.query_start else a.xact_start end), 0)) as speed
          from pg_catalog.pg_stat_progress_copy p
          join pg_catalog.pg_stat_get_activity(null) a on a.pid = p.pid
    )
    select t.provider, t.subscription, t.relation::regclass as relation,
           n.name as relation_name,
           t.code as state_code,
           case when t.state is not null then t.state
                when t.code = 'r' then word.ready
                else coalesce(word.all -> (t.provider || ' ' || t.code) ->> 0, t.code) end as state,
           case when t.description is not null then t.description
                when t.code = 'r' then word.ready_description
                else coalesce(word.all -> (t.provider || ' ' || t.code) ->> 1,
                              'A state that this version of replwarden does not know.') end as description,
           t.lsn, t.pid as worker_pid,
           p.tuples_processed as rows_copied,
           p.bytes_processed as bytes_copied,
           (z.size ->> 0)::bigint as bytes_total,
           round((100 * f.fraction)::numeric, 1) as percent,
           round(p.speed::numeric) as bytes_per_second,
           case when f.fraction > 0 and p.speed > 0 then
               pg_catalog.make_interval(secs => least(ceil(p.bytes_processed * (1 / f.fraction - 1) / p.speed), 315360000))
           end as eta,
           -- Looked for only where it is asked for.
           (select f.all from failed f) ->> (t.provider || ' ' || t.id || ' ' || n.name) as last_error
      from (select * from @extschema@._repl_native_tables
            union all
            select provider, subscription::name, id, relation, schema_name::name, table_name::name, code, state,
                   description, lsn, pid, is_subscribed
              from @extschema@._repl_pglogical_tables()) t
      cross join word
      cross join known
      left join progress p on p.pid = t.pid and p.relid = t.relation
     cross join lateral (select pg_catalog.quote_ident(t.schema_name) || '.' || pg_catalog.quote_ident(t.table_name) as name) n
      cross join lateral (
          select case when t.code = 'r' then null
                      else known.sizes -> (t.provider || ' ' || t.id || ' ' || t.relation) end as size) z
      -- The publisher's rows are an estimate, and its bytes are not those of the copy.
      cross join lateral (
          select case when p.pid is null then null
                      when (z.size ->> 1)::float8 > 0 then least(p.tuples_processed / (z.size ->> 1)::float8, 0.999)
                      when (z.size ->> 0)::float8 > 0 then least(p.bytes_processed / (z.size ->> 0)::float8, 0.999)
                 end as fraction) f;
comment on view @extschema@.repl_tables is
    'the tables of the subscriptions: how far the initial synchronization of each is';
comment on column @extschema@.repl_tables.provider is 'native or pglogical';
comment on column @extschema@.repl_tables.subscription is 'the subscription that it belongs to';
comment on column @extschema@.repl_tables.relation is 'the table; NULL if there is none of that name here';
comment on column @extschema@.repl_tables.relation_name is 'its name with its schema';
comment on column @extschema@.repl_tables.state_code is
    'pg_subscription_rel.srsubstate or pglogical.local_sync_status.sync_status; NULL for a table that the subscription does not know';
comment on column @extschema@.repl_tables.state is
    'what repl_sync_states says of the code, or the code itself if that is not known; besides: copy interrupted (code d, and nobody copies), missing (published or known to pglogical, and there is no such table here), not subscribed (published, and the subscription does not know of it), in initial copy (pglogical copies a new subscription, and does not say which tables are done)';
comment on column @extschema@.repl_tables.description is 'what that means';
comment on column @extschema@.repl_tables.lsn is 'the position at which it reached a state, where the provider records one';
comment on column @extschema@.repl_tables.worker_pid is 'process that synchronizes it';
comment on column @extschema@.repl_tables.rows_copied is 'rows that the running copy has brought (pg_stat_progress_copy)';
comment on column @extschema@.repl_tables.bytes_copied is 'bytes that it has brought, as they are sent';
comment on column @extschema@.repl_tables.bytes_total is
    'size of the publisher''s table while it is not ready (pg_relation_size, with TOAST); NULL if not known';
comment on column @extschema@.repl_tables.percent is
    'rows_copied of the rows that the publisher''s last ANALYZE estimated, or else bytes_copied of bytes_total: an estimate that stays below 100';
comment on column @extschema@.repl_tables.bytes_per_second is
    'speed of the running copy: over the last 30 s, or since it began where nobody watches';
comment on column @extschema@.repl_tables.eta is 'time left at that speed';
comment on column @extschema@.repl_tables.last_error is
    'the last error of a process of its subscription that was about it, be it mended by now or not; repl_errors says when that was. NULL: none is known, or replwarden is not preloaded';

-- They show what others run.
revoke all on function @extschema@._repl_known_tables(), @extschema@._repl_pglogical_tables() from public;
grant execute on function @extschema@._repl_known_tables(), @extschema@._repl_pglogical_tables() to pg_monitor;
grant select on @extschema@.repl_tables, @extschema@._repl_native_tables to pg_monitor;
