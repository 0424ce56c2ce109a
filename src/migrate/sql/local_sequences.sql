-- What there is here of sequences of the publisher. $1: a JSON array of their schemas, names, and the schemas, names and columns
-- of the tables that own them; $2: the role that is to set them.
with wanted as materialized (
    select w.place::int, w.names ->> 0 as schema_name, w.names ->> 1 as name,
           w.names ->> 2 as table_schema, w.names ->> 3 as table_name, w.names ->> 4 as column_name
      from pg_catalog.json_array_elements($1::json) with ordinality as w (names, place)
), named as materialized (
    select w.place, c.oid, c.relkind
      from wanted w
      join pg_catalog.pg_namespace n on n.nspname = w.schema_name
      join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = w.name
), found as materialized (
    select f.place, f.oid from named f where f.relkind = 'S'
    union all
    -- Under another name, as that of the same column.
    select w.place, min(d.objid::bigint)::oid
      from wanted w
      join pg_catalog.pg_namespace n on n.nspname = w.table_schema
      join pg_catalog.pg_class t on t.relnamespace = n.oid and t.relname = w.table_name
      join pg_catalog.pg_attribute a on a.attrelid = t.oid and a.attname = w.column_name and not a.attisdropped
      join pg_catalog.pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = t.oid and d.refobjsubid = a.attnum
                                 and d.classid = 'pg_class'::regclass and d.deptype in ('a', 'i')
      join pg_catalog.pg_sequence s on s.seqrelid = d.objid
     where not exists (select from named f where f.place = w.place and f.relkind = 'S')
     group by w.place
)
select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
           'place', f.place - 1,
           'id', f.oid::bigint,
           'schema', n.nspname,
           'name', c.relname,
           'owner', c.relowner::bigint,
           'shown', pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname),
           'range', pg_catalog.json_build_object(
               'increment', s.seqincrement, 'min', s.seqmin, 'max', s.seqmax, 'cycles', s.seqcycle),
           'may_set', pg_catalog.has_sequence_privilege($2::oid, f.oid, 'update'))
       order by f.place), '[]')::text
  from found f
  join pg_catalog.pg_sequence s on s.seqrelid = f.oid
  join pg_catalog.pg_class c on c.oid = f.oid and c.relpersistence <> 't'
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
