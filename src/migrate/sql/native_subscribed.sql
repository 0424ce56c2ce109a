    select n.nspname::text as schema_name, c.relname::text as table_name, c.oid as relation, r.srsubstate::text as code,
           r.srsubstate = 'r' as is_ready
      from pg_catalog.pg_subscription_rel r
      join pg_catalog.pg_class c on c.oid = r.srrelid and c.relkind in ('r', 'p')
      join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where r.srsubid = $1::oid
