-- $1: what the worker has laid out about tables.
select 'pglogical' as provider, s.sub_name::text as subscription, s.sub_id::bigint as id, c.oid as relation,
       l.sync_nspname::text as schema_name, l.sync_relname::text as table_name, l.sync_status::text as code,
       case when c.oid is null then 'missing' when nobody.copies then 'copy interrupted' end as state,
       case when c.oid is null then
                'pglogical knows of it, and there is no such table here. Create it, or take it out of the replication set.'
            when nobody.copies then
                'The copy of the existing rows failed or was ended. It begins again by itself as long as the subscription is enabled.'
       end as description,
       l.sync_statuslsn as lsn, w.pid, true as is_subscribed
  from pglogical.local_sync_status l
  join pglogical.subscription s on s.sub_id = l.sync_subid
  left join pg_catalog.pg_namespace n on n.nspname = l.sync_nspname
  left join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = l.sync_relname
  left join (select p.relid, a.application_name, a.pid
               from pg_catalog.pg_stat_get_activity(null) a
               join pg_catalog.pg_stat_progress_copy p on p.pid = a.pid
              where a.application_name like '%\_copy'
                and a.usesysid in (select r.oid from pg_catalog.pg_authid r where r.rolsuper)) w
         on w.relid = c.oid and w.application_name = {copy_name}
  -- A copy that waits for a lock shows no progress yet, but has its processes.
  left join lateral (
      select not exists (
                 select from pg_catalog.pg_stat_get_activity(null) a
                  where a.datid = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())
                    and (a.application_name = {copy_name} or a.backend_type like 'pglogical sync %:' || s.sub_id)) as copies) nobody
         on l.sync_status::text = 'd' and w.pid is null
 where l.sync_relname is not null
union all
-- Without a row of their own: part of the initial copy of the subscription, or streamed without ever having been copied.
select 'pglogical', s.sub_name::text, s.sub_id::bigint, c.oid, t.schema_name, t.table_name,
       case when c.oid is null then null when w.pid is not null then 'd' when own.code is null then '' end,
       case when c.oid is null then 'missing' when w.pid is null and own.code is not null then 'in initial copy' end,
       case when c.oid is null then 'The publisher publishes it, and there is no such table here. Create it.'
            when w.pid is null and own.code is not null then
                'Part of the initial copy of the subscription: one transaction, of which pglogical does not say which tables are done.'
       end,
       null, w.pid, false
  from pg_catalog.jsonb_to_recordset($1::jsonb -> 'absent') as t (provider text, id bigint, schema_name text, table_name text)
  join pglogical.subscription s on s.sub_id = t.id::oid
  left join pg_catalog.pg_namespace n on n.nspname = t.schema_name
  left join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.table_name
  left join lateral (
      select l.sync_status::text as code from pglogical.local_sync_status l
       where l.sync_subid = s.sub_id and l.sync_relname is null and l.sync_status::text in ('i', 's', 'd', 'c')) own on true
  left join (select p.relid, a.application_name, a.pid
               from pg_catalog.pg_stat_get_activity(null) a
               join pg_catalog.pg_stat_progress_copy p on p.pid = a.pid
              where a.application_name like '%\_copy'
                and a.usesysid in (select r.oid from pg_catalog.pg_authid r where r.rolsuper)) w
         on w.relid = c.oid and w.application_name = {copy_name}
 where t.provider = 'pglogical'
   and not exists (select from pglogical.local_sync_status l
                    where l.sync_subid = s.sub_id and l.sync_nspname = t.schema_name and l.sync_relname = t.table_name)
