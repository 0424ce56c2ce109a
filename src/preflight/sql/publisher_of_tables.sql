sequence_use as (
    select u.sequence, u.relation, u.attnum, bool_or(u.is_owned) as is_owned
      from (select d.objid as sequence, d.refobjid as relation, d.refobjsubid as attnum, true as is_owned
              from chosen
              join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = chosen.oid and d.refobjsubid > 0
                   and d.classid = 'pg_class'::regclass and d.deptype in ('a', 'i')
            union all
            select d.refobjid, f.adrelid, f.adnum, false
              from chosen
              join pg_attrdef f on f.adrelid = chosen.oid
              join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = f.oid
                   and d.refclassid = 'pg_class'::regclass and d.refobjid <> f.adrelid) u
     group by u.sequence, u.relation, u.attnum
), sequences as (
    select coalesce(json_agg(json_build_object(
               'schema_name', n.nspname,
               'sequence_name', c.relname,
               'name', quote_ident(n.nspname) || '.' || quote_ident(c.relname),
               'is_owned', u.is_owned,
               'table', u.relation::bigint,
               'column', a.attname,
               'column_type', a.atttypid::regtype::text,
               'is_identity', a.attidentity <> '',
               'may_read', r.may_read,
               'last_value', case when r.may_read then pg_sequence_last_value(c.oid::regclass) end,
               'increment', q.seqincrement,
               'most', case when q.seqincrement > 0 then q.seqmax else q.seqmin end,
               'cycles', q.seqcycle)
           order by n.nspname, c.relname), '[]') as sequences
      from sequence_use u
      join pg_sequence q on q.seqrelid = u.sequence
      join pg_class c on c.oid = u.sequence
      join pg_namespace n on n.oid = c.relnamespace
      join pg_attribute a on a.attrelid = u.relation and a.attnum = u.attnum
     cross join lateral (select has_sequence_privilege(c.oid, 'select, usage') as may_read) r
), unused_sequences as (
    -- In the schemas of published tables; no column has or uses them.
    select coalesce(json_agg(json_build_array(n.nspname, c.relname) order by n.nspname, c.relname), '[]') as sequences
      from (select distinct x.relnamespace from chosen join pg_class x on x.oid = chosen.oid) s
      join pg_class c on c.relnamespace = s.relnamespace and c.relkind = 'S' and c.relpersistence <> 't'
      join pg_namespace n on n.oid = c.relnamespace
     where c.oid not in (select sequence from sequence_use)
       and c.oid not in (select d.objid from pg_depend d where d.classid = 'pg_class'::regclass and d.deptype in ('a', 'i', 'e'))
       and c.oid not in (select d.refobjid from pg_depend d
                          where d.classid = 'pg_attrdef'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjsubid = 0)
), others as (
    -- With a table, its partitions are published; and with its partitions, the table.
    select coalesce(json_agg(json_build_object(
               'name', quote_ident(n.nspname) || '.' || quote_ident(c.relname), 'kind', c.relkind, 'persistence', c.relpersistence)
           order by n.nspname, c.relname), '[]') as others
      from (select distinct x.relnamespace from chosen join pg_class x on x.oid = chosen.oid) s
      join pg_class c on c.relnamespace = s.relnamespace and c.relkind in ('r', 'p', 'f', 'm')
      join pg_namespace n on n.oid = c.relnamespace
     where c.oid not in (select oid from chosen union all select above from ancestor union all select below from descendant)
       and c.oid not in (select d.objid from pg_depend d where d.classid = 'pg_class'::regclass and d.deptype = 'e')
), rights as (
    select coalesce(json_agg(json_build_object(
               'oid', c.oid::bigint,
               'may_use_schema', r.may_use_schema,
               'may_read', r.may_read,
               'readable_columns', case when not r.may_read then
                   (select coalesce(json_agg(a.attname), '[]') from pg_attribute a
                     where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                       and has_column_privilege(c.oid, a.attnum, 'select')) end,
               'row_security', r.row_security)), '[]') as rights
      from chosen
      join pg_class c on c.oid = chosen.oid
     cross join lateral (select has_schema_privilege(c.relnamespace, 'usage') as may_use_schema,
                                has_table_privilege(c.oid, 'select') as may_read,
                                c.relrowsecurity and row_security_active(c.oid) as row_security) r
     where not (r.may_use_schema and r.may_read and not r.row_security)
)
select json_build_object(
    'user', current_user,
    'published', (select rows from published_rows),
    'tables', (select tables from described),
    'types', (select types from described_types),
    'sequences', (select sequences from sequences),
    'unused_sequences', (select sequences from unused_sequences),
    'others', (select others from others),
    'rights', (select rights from rights),
    'large_objects', (select count(*) from pg_largeobject_metadata))::text
