with base as (
{workers}
)
select b.provider, b.subscription, b.kind, b.relation::regclass as relation, b.pid, a.backend_start as started_at,
       case when a.wait_event_type = 'Lock' then 'waiting for a lock'
            when p.pid is not null then pg_catalog.format('copying: %s rows so far', p.tuples_processed)
            -- Where main loops wait for something to come (LogicalApplyMain, LogicalLauncherMain; pglogical's are extensions).
            when a.wait_event_type in ('Activity', 'Extension') then 'waiting for changes'
            when a.wait_event is not null then pg_catalog.format('waiting: %s', a.wait_event)
            else 'working' end as activity,
       a.wait_event_type || '/' || a.wait_event as wait_event,
       case when a.wait_event_type = 'Lock' then pg_catalog.pg_blocking_pids(b.pid) end as blocked_by
  from base b
  join pg_catalog.pg_stat_get_activity(null) a on a.pid = b.pid
  left join pg_catalog.pg_stat_progress_copy p on p.pid = b.pid
