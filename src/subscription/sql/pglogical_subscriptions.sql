-- pglogical names its processes by numbers: 'pglogical apply <database>:<subscription>'.
-- $1: whether to count their tables.
with here as (
    select oid from pg_catalog.pg_database where datname = pg_catalog.current_database()
), process as materialized (
    select a.pid, a.backend_type, a.application_name,
           pg_catalog.json_build_object(
               'pid', a.pid, 'started_at', extract(epoch from a.backend_start),
               'wait_event', a.wait_event_type || '/' || a.wait_event,
               'writing_since', case when a.backend_xid is not null then extract(epoch from a.xact_start) end,
               'blocked_by', case when a.wait_event_type = 'Lock' then pg_catalog.pg_blocking_pids(a.pid) end,
               'blocked_since', case when a.wait_event_type = 'Lock' then
                   (select extract(epoch from min(l.waitstart)) from pg_catalog.pg_locks l where l.pid = a.pid and not l.granted)
               end,
               'copies', exists (select from pg_catalog.pg_stat_progress_copy p where p.pid = a.pid)) as description
      from pg_catalog.pg_stat_get_activity(null) a
     where a.datid = (select oid from here)
       -- The session of a copy sets session_replication_role, as only a superuser may.
       and (a.backend_type like 'pglogical %'
            or a.application_name like '%\_copy'
               and a.usesysid in (select r.oid from pg_catalog.pg_authid r where r.rolsuper))
), begun as (
    select b.sync_subid, pg_catalog.json_agg(pg_catalog.json_build_object(
               'schema_name', b.sync_nspname, 'table_name', b.sync_relname)) as tables
      from (select l.*, row_number() over (partition by l.sync_subid) as place
              from pglogical.local_sync_status l
             where $1 and l.sync_relname is not null and l.sync_status::text not in ('i', 'y', 'r')) b
     where b.place <= 100
     group by b.sync_subid
), counted as (
    select l.sync_subid, count(*) as total,
           count(*) filter (where l.sync_status::text in ('r', 'y')) as ready,
           count(*) filter (where l.sync_status::text = 'i') as waiting
      from pglogical.local_sync_status l
     where $1 and l.sync_relname is not null
     group by l.sync_subid
)
select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
           'provider', 'pglogical',
           'id', s.sub_id::bigint,
           'subscription', s.sub_name,
           'enabled', s.sub_enabled,
           'conninfo', coalesce(i.if_dsn, ''),
           'origin_limit', pg_catalog.json_build_array(
               case when pg_catalog.current_setting('max_active_replication_origins', true) is null
                    then 'max_replication_slots' else 'max_active_replication_origins' end,
               coalesce(pg_catalog.current_setting('max_active_replication_origins', true),
                        pg_catalog.current_setting('max_replication_slots'))::int),
           'pools', pg_catalog.json_build_array(pg_catalog.current_setting('max_logical_replication_workers')::int,
                                                pg_catalog.current_setting('max_worker_processes')::int),
           'slot_name', s.sub_slot_name,
           'publications', coalesce(s.sub_replication_sets, '{}'),
           'origin', progress.local_id::bigint,
           'applied_lsn', progress.remote_lsn - '0/0',
           'worker', w.description,
           'apply_delay', extract(epoch from s.sub_apply_delay),
           'tables_total', coalesce(counted.total, 0),
           'tables_ready', coalesce(counted.ready, 0),
           'tables_waiting', coalesce(counted.waiting, 0),
           'sync_workers', coalesce((
               select pg_catalog.json_agg(p.description)
                 from process p
                where p.backend_type like 'pglogical sync % ' || (select oid from here) || ':' || s.sub_id
                   or p.application_name = {copy_name}), '[]'),
           'tables_begun', coalesce(begun.tables, '[]'),
           'initial_code', own.code,
           'hindrance', case
               when w.pid is not null then null
               when pg_catalog.pg_is_in_recovery() then 'standby'
               -- What pglogical_sync_subscription() calls a nonrecoverable step.
               when own.code in ('s', 'd', 'c') then 'initialization_failed'
               when not exists (select from process p where p.backend_type like 'pglogical manager %')
                   then 'launcher_missing' end))
       , '[]')::text
  from pglogical.subscription s
  left join pglogical.node_interface i on i.if_id = s.sub_origin_if
  left join process w on w.backend_type = pg_catalog.format('pglogical apply %s:%s', (select oid from here), s.sub_id)
  left join pg_catalog.pg_show_replication_origin_status() as progress (local_id, external_id, remote_lsn, local_lsn)
         on progress.external_id = s.sub_slot_name::text
  left join counted on counted.sync_subid = s.sub_id
  left join begun on begun.sync_subid = s.sub_id
  left join lateral (
      select l.sync_status::text as code from pglogical.local_sync_status l
       where l.sync_subid = s.sub_id and l.sync_relname is null and l.sync_status::text <> 'r') own on true
