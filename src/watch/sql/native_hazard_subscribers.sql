-- Of the tables p.oids.
select 'native' as provider, s.oid::bigint as id
  from pg_catalog.pg_subscription s
 where s.subdbid = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())
   and exists (select from pg_catalog.pg_subscription_rel r where r.srsubid = s.oid and r.srrelid = any (p.oids))
