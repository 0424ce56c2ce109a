-- Of the tables p.oids.
select 'pglogical', s.sub_id::bigint
  from pglogical.subscription s
 where exists (select from pg_catalog.pg_class t
                 join pg_catalog.pg_namespace tn on tn.oid = t.relnamespace
                 join pglogical.local_sync_status l
                      on l.sync_subid = s.sub_id and l.sync_nspname = tn.nspname and l.sync_relname = t.relname
                where t.oid = any (p.oids))
