    select l.sync_nspname::text as schema_name, l.sync_relname::text as table_name, c.oid as relation,
           l.sync_status::text as code, l.sync_status::text in ('r', 'y') as is_ready
      from pglogical.local_sync_status l
      left join pg_catalog.pg_namespace n on n.nspname = l.sync_nspname
      left join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = l.sync_relname
     where l.sync_subid = $1::oid and l.sync_relname is not null
    union all
    -- Streamed without having been copied.
    select p.schema_name, p.table_name, c.oid, '', true
      from published p
      join pg_catalog.pg_namespace n on n.nspname = p.schema_name
      join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = p.table_name
     where not exists (select from pglogical.local_sync_status l
                        where l.sync_subid = $1::oid and l.sync_nspname = p.schema_name and l.sync_relname = p.table_name)
