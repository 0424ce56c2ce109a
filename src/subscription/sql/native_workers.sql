select 'native' as provider, s.subname::text as subscription,
       -- 17 says it itself.
       coalesce(w.facts ->> 'worker_type',
                case when w.facts ->> 'relid' is not null then 'table synchronization'
                     when w.facts ->> 'leader_pid' is not null then 'parallel apply'
                     else 'apply' end) as kind,
       w.relid as relation, w.pid
  from (select w.*, pg_catalog.to_jsonb(w) as facts from pg_catalog.pg_stat_get_subscription(null) w) w
  join pg_catalog.pg_subscription s on s.oid = w.subid
 where w.pid is not null
   and s.subdbid = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())
union all
select 'native', null, 'launcher', null, a.pid
  from pg_catalog.pg_stat_get_activity(null) a
 where a.backend_type = 'logical replication launcher'
