-- How large the tables are that are published, as one JSON document: the heap with its TOAST table. $1: publications.
with recursive published as (
    select c.oid, c.relkind, c.reltoastrelid
      from pg_publication_tables p
      join pg_namespace n on n.nspname = p.schemaname
      join pg_class c on c.relnamespace = n.oid and c.relname = p.tablename
     where p.pubname = any($1::text[])
