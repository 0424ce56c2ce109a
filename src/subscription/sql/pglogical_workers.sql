-- pglogical names its processes by numbers: 'pglogical apply <database>:<subscription>',
-- 'pglogical sync <table> <database>:<subscription>', 'pglogical manager <database>', 'pglogical supervisor'.
with process as materialized (
    select a.*, pg_catalog.regexp_match(a.backend_type, '^pglogical (\w+)(?: (.*))?$') as words
      from pg_catalog.pg_stat_get_activity(null) a
     where a.backend_type like 'pglogical %'
        or a.application_name like '%\_copy' and a.usesysid in (select r.oid from pg_catalog.pg_authid r where r.rolsuper)
)
select 'pglogical' as provider, s.sub_name::text as subscription, p.words[1] as kind, null::oid as relation, p.pid
  from process p
  left join pglogical.subscription s on p.words[2] like '%:' || s.sub_id
 where p.words is not null and (p.words[1] = 'supervisor' or p.datid = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database()))
union all
select 'pglogical', s.sub_name::text, 'copy', c.relid, p.pid
  from process p
  join pglogical.subscription s on p.application_name = {copy_name}
  left join pg_catalog.pg_stat_progress_copy c on c.pid = p.pid
 where p.datid = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())
