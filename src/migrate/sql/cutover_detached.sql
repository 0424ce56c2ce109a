(select coalesce(pg_catalog.json_agg(pg_catalog.json_build_array(
                pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname),
                pg_catalog.quote_ident(d.constraint_name),
                coalesce(pg_catalog.to_jsonb(d) ->> 'state', 'detached'))
            order by n.nspname, c.relname, d.constraint_name), '[]')
       from {schema}.repl_detached_foreign_keys d
       join pg_catalog.pg_class c on c.oid = d.relation
       join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      -- Where one of both tables is gone, the key would be, too, if it were not detached.
      where d.referenced is not null)
