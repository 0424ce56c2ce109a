-- pg_subscription and pg_stat_subscription as JSON where a column is not in every version.
with mine as materialized (
    select s.*, pg_catalog.to_jsonb(s) as facts
      from pg_catalog.pg_subscription s
     where s.subdbid = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())
), worker as materialized (
    select w.subid, w.pid, w.relid, w.received_lsn, w.latest_end_lsn, w.last_msg_receipt_time,
           w.relid is null and pg_catalog.to_jsonb(w) ->> 'leader_pid' is null as applies,
           case when a.wait_event_type = 'Lock' then pg_catalog.pg_blocking_pids(w.pid) end as blocked_by,
           case when a.wait_event_type = 'Lock' then
               (select min(l.waitstart) from pg_catalog.pg_locks l where l.pid = w.pid and not l.granted)
           end as blocked_since
      from pg_catalog.pg_stat_get_subscription(null) w
      join pg_catalog.pg_stat_get_activity(null) a on a.pid = w.pid
), synchronizing as (
    select w.subid, pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
               'pid', w.pid, 'blocked_by', w.blocked_by, 'blocked_since', extract(epoch from w.blocked_since))) as workers
      from worker w
     where w.relid is not null
     group by w.subid
), counted as (
    select r.srsubid, count(*) as total,
           count(*) filter (where r.srsubstate = 'r') as ready,
           count(*) filter (where r.srsubstate = 'i') as waiting,
           count(*) filter (where r.srsubstate = 'd'
                                  and r.srrelid <> all (array(select w.relid from worker w where w.relid is not null))) as interrupted
      from pg_catalog.pg_subscription_rel r
     group by r.srsubid
), pool as materialized (
    select count(*) filter (where a.backend_type = 'logical replication launcher') as launchers,
           count(*) filter (where a.backend_type like 'logical replication %worker') as workers,
           -- Whose places will be free again.
           (select count(*) from pg_catalog.pg_stat_get_subscription(null) y where y.relid is not null) as passing
      from pg_catalog.pg_stat_get_activity(null) a
)
select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
           'provider', 'native',
           'id', s.oid::bigint,
           'subscription', s.subname,
           'enabled', s.subenabled,
           'conninfo', coalesce(s.subconninfo, ''),
           'must_use_password', coalesce((s.facts ->> 'subpasswordrequired')::bool, false)
                                and not coalesce(o.rolsuper, false),
           'disable_on_error', coalesce((s.facts ->> 'subdisableonerr')::bool, false),
           'pools', pg_catalog.json_build_array(pg_catalog.current_setting('max_logical_replication_workers')::int,
                                                pg_catalog.current_setting('max_worker_processes')::int),
           'slot_name', s.subslotname,
           'publications', s.subpublications,
           'origin', progress.local_id::bigint,
           'applied_lsn', progress.remote_lsn - '0/0',
           'handled_lsn', w.latest_end_lsn - '0/0',
           'received_lsn', w.received_lsn - '0/0',
           'last_message_at', case when w.received_lsn is not null then extract(epoch from w.last_msg_receipt_time) end,
           'apply_errors', (errors.counts ->> 'apply_error_count')::bigint,
           'sync_errors', coalesce(errors.counts ->> 'sync_error_count', errors.counts ->> 'sync_table_error_count')::bigint,
           'worker', case when w.pid is not null then pg_catalog.json_build_object(
               'pid', w.pid, 'blocked_by', w.blocked_by, 'blocked_since', extract(epoch from w.blocked_since)) end,
           -- The times are those of the worker's start until a message comes (ApplyWorkerMain).
           'has_heard', case when w.pid is not null then w.received_lsn is not null end,
           'tables_total', coalesce(counted.total, 0),
           'tables_ready', coalesce(counted.ready, 0),
           'tables_waiting', coalesce(counted.waiting, 0),
           'tables_interrupted', coalesce(counted.interrupted, 0),
           'sync_workers', coalesce(synchronizing.workers, '[]'),
           'sync_workers_limit', pg_catalog.current_setting('max_sync_workers_per_subscription')::int,
           'hindrance', case
               when w.pid is not null then null
               when pg_catalog.pg_is_in_recovery() then 'standby'
               when pool.workers - pool.passing >= pg_catalog.current_setting('max_logical_replication_workers')::int
                   then 'worker_pool_exhausted'
               when pool.launchers = 0 then 'launcher_missing' end))
       , '[]')::text
  from mine s
  cross join pool
  left join pg_catalog.pg_authid o on o.oid = s.subowner
  left join worker w on w.subid = s.oid and w.applies
  left join pg_catalog.pg_show_replication_origin_status() as progress (local_id, external_id, remote_lsn, local_lsn)
         on progress.external_id = 'pg_' || s.oid
  left join counted on counted.srsubid = s.oid
  left join synchronizing on synchronizing.subid = s.oid
  cross join lateral (select {errors} as counts) errors
