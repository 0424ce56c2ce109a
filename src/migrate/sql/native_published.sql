    select c.oid as relation, c.relnamespace
      from (select distinct p.schemaname, p.tablename from pg_publication_tables p
             where p.pubname in (select value from json_array_elements_text($1::json))) p
      join pg_namespace n on n.nspname = p.schemaname
      join pg_class c on c.relnamespace = n.oid and c.relname = p.tablename
