-- In braces what is not in every version. This is read at each look, so what is computed for each subscription is kept small.
-- $1: whether to count their tables.
with activity as materialized (
    select a.pid, a.backend_type, a.backend_start, a.backend_xid, a.xact_start, a.wait_event_type, a.wait_event
      from pg_catalog.pg_stat_get_activity(null) a
), worker as materialized (
    select w.subid, w.pid, w.relid, w.received_lsn, w.latest_end_lsn, w.last_msg_receipt_time,
           w.relid is null and {leader_pid} is null as applies,
           a.backend_start as started_at,
           a.wait_event_type || '/' || a.wait_event as wait_event,
           case when a.backend_xid is not null then a.xact_start end as writing_since,
           case when a.wait_event_type = 'Lock' then pg_catalog.pg_blocking_pids(w.pid) end as blocked_by,
           case when a.wait_event_type = 'Lock' then
               (select min(l.waitstart) from pg_catalog.pg_locks l where l.pid = w.pid and not l.granted)
           end as blocked_since
      from pg_catalog.pg_stat_get_subscription(null) w
      join activity a on a.pid = w.pid
), described as materialized (
    select w.*, pg_catalog.json_build_object(
               'pid', w.pid, 'started_at', extract(epoch from w.started_at), 'wait_event', w.wait_event,
               'writing_since', extract(epoch from w.writing_since),
               'blocked_by', w.blocked_by, 'blocked_since', extract(epoch from w.blocked_since),
               'relation', w.relid::bigint,
               'copies', exists (select from pg_catalog.pg_stat_progress_copy p where p.pid = w.pid)) as description
      from worker w
), helping as (
    select w.subid,
           pg_catalog.json_agg(w.description) filter (where w.relid is not null) as synchronizing,
           pg_catalog.json_agg(w.description) filter (where w.relid is null) as applying
      from described w
     where not w.applies
     group by w.subid
), begun as (
    select b.srsubid, pg_catalog.json_agg(pg_catalog.json_build_object(
               'relation', b.srrelid::bigint, 'schema_name', n.nspname, 'table_name', c.relname)) as tables
      from (select r.srsubid, r.srrelid, row_number() over (partition by r.srsubid) as place
              from pg_catalog.pg_subscription_rel r
             where $1 and r.srsubstate in ('d', 'f')) b
      join pg_catalog.pg_class c on c.oid = b.srrelid
      join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where b.place <= 100
     group by b.srsubid
), counted as (
    select r.srsubid, count(*) as total,
           count(*) filter (where r.srsubstate = 'r') as ready,
           count(*) filter (where r.srsubstate = 'i') as waiting,
           count(*) filter (where r.srsubstate = 'd'
                                  and r.srrelid <> all (array(select w.relid from worker w where w.relid is not null))) as interrupted
      from pg_catalog.pg_subscription_rel r
     where $1
     group by r.srsubid
), pool as materialized (
    select count(*) filter (where a.backend_type = 'logical replication launcher') as launchers,
           count(*) filter (where a.backend_type like 'logical replication %worker') as workers,
           -- Whose places will be free again.
           (select count(*) from worker y where y.relid is not null) as passing,
           pg_catalog.current_setting('max_logical_replication_workers')::int as size,
           pg_catalog.json_build_array(pg_catalog.current_setting('max_logical_replication_workers')::int,
                                       pg_catalog.current_setting('max_worker_processes')::int) as pools,
           pg_catalog.json_build_array(
               case when pg_catalog.current_setting('max_active_replication_origins', true) is null
                    then 'max_replication_slots' else 'max_active_replication_origins' end,
               coalesce(pg_catalog.current_setting('max_active_replication_origins', true),
                        pg_catalog.current_setting('max_replication_slots'))::int) as origin_limit,
           pg_catalog.current_setting('max_sync_workers_per_subscription')::int as sync_workers_limit
      from activity a
)
select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
           'provider', 'native',
           'id', s.oid::bigint,
           'subscription', s.subname,
           'enabled', s.subenabled,
           'conninfo', coalesce(s.subconninfo, ''),
           'must_use_password', {password_required}
                                and not coalesce(o.rolsuper, false),
           'disable_on_error', {disable_on_error},
           'pools', pool.pools,
           'origin_limit', pool.origin_limit,
           'owner', o.rolname,
           'read_only_settings', coalesce((
               select pg_catalog.json_agg(pg_catalog.json_build_array(d.datname, r.rolname))
                 from pg_catalog.pg_db_role_setting x
                 left join pg_catalog.pg_database d on d.oid = x.setdatabase
                 left join pg_catalog.pg_roles r on r.oid = x.setrole
                where x.setdatabase in (0, s.subdbid) and x.setrole in (0, s.subowner)
                  and exists (select from unnest(x.setconfig) as c (setting)
                               where c.setting like 'default\_transaction\_read\_only=%')), '[]'),
           'slot_name', s.subslotname,
           'publications', s.subpublications,
           'origin', progress.local_id::bigint,
           'applied_lsn', progress.remote_lsn - '0/0',
           'handled_lsn', w.latest_end_lsn - '0/0',
           'received_lsn', w.received_lsn - '0/0',
           'last_message_at', case when w.received_lsn is not null then extract(epoch from w.last_msg_receipt_time) end,
           'apply_errors', errors.apply_error_count,
           'sync_errors', errors.sync_error_count,
           'worker', w.description,
           'parallel_workers', coalesce(helping.applying, '[]'),
           'workers_running', pool.workers,
           'two_phase_pending', {two_phase_state} = 'p',
           -- The times are those of the worker's start until a message comes (ApplyWorkerMain).
           'has_heard', case when w.pid is not null then w.received_lsn is not null end,
           'tables_total', coalesce(counted.total, 0),
           'tables_ready', coalesce(counted.ready, 0),
           'tables_waiting', coalesce(counted.waiting, 0),
           'tables_interrupted', coalesce(counted.interrupted, 0),
           'tables_begun', coalesce(begun.tables, '[]'),
           'sync_workers', coalesce(helping.synchronizing, '[]'),
           'sync_workers_limit', pool.sync_workers_limit,
           'hindrance', case
               when w.pid is not null then null
               when pg_catalog.pg_is_in_recovery() then 'standby'
               when pool.workers - pool.passing >= pool.size
                   then 'worker_pool_exhausted'
               when pool.launchers = 0 then 'launcher_missing' end))
       , '[]')::text
  from pg_catalog.pg_subscription s
  cross join pool
  left join pg_catalog.pg_authid o on o.oid = s.subowner
  left join described w on w.subid = s.oid and w.applies
  left join pg_catalog.pg_show_replication_origin_status() as progress (local_id, external_id, remote_lsn, local_lsn)
         on progress.external_id = 'pg_' || s.oid
  left join counted on counted.srsubid = s.oid
  left join helping on helping.subid = s.oid
  left join begun on begun.srsubid = s.oid
  left join lateral {errors} errors on true
 where s.subdbid = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())
