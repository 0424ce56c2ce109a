-- CTEs that describe the relations chosen (oid), in the same words on either side; for servers from 10 on. What came later is
-- read through to_jsonb. Everything is joined once and grouped: there may be thousands of tables.
locked as (
    select l.relation from pg_locks l
     where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock'
       and l.database = (select oid from pg_database where datname = current_database())
), attribute as (
    select a.attrelid, a.attnum, a.attname, a.atttypid,
           -- Arrays, in the order of the fields of Column and Index: they are many.
           json_build_array(
               a.attname, format_type(a.atttypid, a.atttypmod), tn.nspname, t.typname, a.atttypmod, a.attnotnull, a.atthasdef,
               a.attidentity, d.generated, d.expression, d.reads_columns,
               case when a.attcollation <> t.typcollation then quote_ident(cn.nspname) || '.' || quote_ident(co.collname) end
           ) as facts
      from chosen
      join pg_attribute a on a.attrelid = chosen.oid and a.attnum > 0 and not a.attisdropped
      join pg_type t on t.oid = a.atttypid
      join pg_namespace tn on tn.oid = t.typnamespace
      left join pg_collation co on co.oid = a.attcollation
      left join pg_namespace cn on cn.oid = co.collnamespace
      left join (select x.adrelid, x.adnum, x.generated,
                        -- It locks the table (17+), and would wait for whoever has.
                        case when x.adrelid not in (select relation from locked) then pg_get_expr(x.adbin, x.adrelid) end as expression,
                        position('{VAR ' in x.adbin::text) > 0 as reads_columns
                   from (select e.adrelid, e.adnum, e.adbin,
                                case when g.atthasdef then to_jsonb(g) ->> 'attgenerated' end as generated
                           from chosen
                           join pg_attrdef e on e.adrelid = chosen.oid
                           join pg_attribute g on g.attrelid = e.adrelid and g.attnum = e.adnum) x
                  where x.generated <> '') d on d.adrelid = a.attrelid and d.adnum = a.attnum
), columns_of as (
    select attrelid, json_agg(facts order by attnum) as columns from attribute group by attrelid
), key_column as (
    select k.indexrelid, json_agg(a.attname order by k.place) as columns, bool_and(a.attnotnull) as is_not_null
      from (select i.indrelid, i.indexrelid, coalesce((to_jsonb(i) ->> 'indnkeyatts')::int, i.indnatts) as number,
                   unnest(i.indkey::int2[]) as attnum, generate_subscripts(i.indkey, 1) as place
              from chosen
              join pg_index i on i.indrelid = chosen.oid) k
      join pg_attribute a on a.attrelid = k.indrelid and a.attnum = k.attnum
     where k.place < k.number
     group by k.indexrelid
), indexes_of as (
    select i.indrelid,
           json_agg(json_build_array(
               x.relname, i.indisprimary, i.indisreplident, i.indisunique, i.indisexclusion, i.indimmediate, i.indisvalid,
               coalesce(k.columns, '[]'), coalesce(k.is_not_null, false),
               coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::bool, false),
               case when i.indexprs is not null and l.relation is null then pg_get_expr(i.indexprs, i.indrelid) end,
               case when i.indpred is not null and l.relation is null then pg_get_expr(i.indpred, i.indrelid) end)
               order by x.relname) as indexes
      from chosen
      join pg_index i on i.indrelid = chosen.oid
      join pg_class x on x.oid = i.indexrelid
      left join key_column k on k.indexrelid = i.indexrelid
      left join (select distinct relation from locked) l on l.relation = i.indrelid
     group by i.indrelid
), ancestor (oid, above) as (
    select i.inhrelid, i.inhparent
      from chosen
      join pg_class c on c.oid = chosen.oid and c.relispartition
      join pg_inherits i on i.inhrelid = c.oid
    union all
    select a.oid, i.inhparent
      from ancestor a
      join pg_class c on c.oid = a.above and c.relispartition
      join pg_inherits i on i.inhrelid = c.oid
), root_of as (
    select a.oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname) as name
      from ancestor a
      join pg_class c on c.oid = a.above and not c.relispartition
      join pg_namespace n on n.oid = c.relnamespace
), descendant (oid, below) as (
    select i.inhparent, i.inhrelid
      from chosen
      join pg_class c on c.oid = chosen.oid and c.relkind = 'p'
      join pg_inherits i on i.inhparent = c.oid
    union all
    select d.oid, i.inhrelid from descendant d join pg_inherits i on i.inhparent = d.below
), keyed as (
    select i.indrelid, bool_or(i.indisprimary) as has_primary, bool_or(i.indisreplident) as has_identity
      from pg_index i
     where i.indisvalid and i.indimmediate and (i.indisprimary or i.indisreplident)
     group by i.indrelid
), leaves_of as (
    select d.oid,
           json_agg(quote_ident(n.nspname) || '.' || quote_ident(c.relname) order by n.nspname, c.relname)
               filter (where k.indrelid is null) as without_key,
           json_agg(quote_ident(n.nspname) || '.' || quote_ident(c.relname) order by n.nspname, c.relname)
               filter (where case c.relreplident when 'd' then coalesce(not k.has_primary, true) when 'i' then coalesce(not k.has_identity, true)
                                                 else c.relreplident = 'n' end) as without_identity
      from descendant d
      join pg_class c on c.oid = d.below and c.relkind = 'r'
      join pg_namespace n on n.oid = c.relnamespace
      left join keyed k on k.indrelid = c.oid
     group by d.oid
), used_type (oid) as (
    select a.atttypid from attribute a
    union
    select x.oid
      from used_type u
      join pg_type t on t.oid = u.oid
     cross join lateral (values (t.typelem), (t.typbasetype)) as x (oid)
     where x.oid <> 0
), described as (
    select coalesce(json_agg(json_build_object(
               'oid', c.oid::bigint,
               'schema_name', n.nspname,
               'table_name', c.relname,
               'name', quote_ident(n.nspname) || '.' || quote_ident(c.relname),
               'owner', c.relowner::bigint,
               'kind', c.relkind,
               'replica_identity', c.relreplident,
               'root', r.name,
               'extension', e.extname,
               'is_inherited', not c.relispartition and h.oid is not null,
               'rows', c.reltuples,
               'bytes', c.relpages::bigint * current_setting('block_size')::bigint,
               'columns', coalesce(k.columns, '[]'),
               'indexes', coalesce(i.indexes, '[]'),
               'leaves_without_key', coalesce(l.without_key, '[]'),
               'leaves_without_identity', coalesce(l.without_identity, '[]'))
           order by n.nspname, c.relname), '[]') as tables
      from chosen
      join pg_class c on c.oid = chosen.oid
      join pg_namespace n on n.oid = c.relnamespace
      left join columns_of k on k.attrelid = c.oid
      left join indexes_of i on i.indrelid = c.oid
      left join leaves_of l on l.oid = c.oid
      left join root_of r on r.oid = c.oid
      left join (select d.objid, x.extname from pg_depend d join pg_extension x on x.oid = d.refobjid
                  where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_extension'::regclass and d.deptype = 'e') e
             on e.objid = c.oid
      left join (select inhrelid as oid from pg_inherits union select inhparent from pg_inherits) h on h.oid = c.oid
), described_types as (
    select coalesce(json_agg(json_build_object(
               'schema_name', n.nspname,
               'type_name', t.typname,
               'name', quote_ident(n.nspname) || '.' || quote_ident(t.typname),
               'extension', x.extname,
               'labels', coalesce(e.labels, '[]'),
               'definition', case
                   when t.typtype = 'd' then 'DOMAIN ' || quote_ident(n.nspname) || '.' || quote_ident(t.typname) || ' AS '
                        || format_type(t.typbasetype, t.typtypmod)
                        || case when t.typnotnull then ' NOT NULL' else '' end || coalesce(q.checks, '')
                   when t.typtype = 'e' then 'TYPE ' || quote_ident(n.nspname) || '.' || quote_ident(t.typname) || ' AS ENUM ('
                        || coalesce(e.listed, '') || ')'
                   when t.typtype = 'c' then 'TYPE ' || quote_ident(n.nspname) || '.' || quote_ident(t.typname) || ' AS ('
                        || coalesce(m.listed, '') || ')' end)
           order by t.typtype = 'd', t.typtype <> 'e', n.nspname, t.typname), '[]') as types
      from (select distinct oid from used_type) u
      join pg_type t on t.oid = u.oid and t.typelem = 0
      join pg_namespace n on n.oid = t.typnamespace and n.nspname not in ('pg_catalog', 'information_schema')
      left join pg_depend d on d.classid = 'pg_type'::regclass and d.objid = t.oid and d.deptype = 'e'
      left join pg_extension x on x.oid = d.refobjid
      left join (select enumtypid, json_agg(enumlabel order by enumsortorder) as labels,
                        string_agg(quote_literal(enumlabel), ', ' order by enumsortorder) as listed
                   from pg_enum group by enumtypid) e on e.enumtypid = t.oid
      left join (select contypid, string_agg(' CONSTRAINT ' || quote_ident(conname) || ' ' || pg_get_constraintdef(oid), '' order by conname)
                            as checks
                   from pg_constraint where contypid <> 0 and contype = 'c' group by contypid) q on q.contypid = t.oid
      left join (select f.oid, string_agg(quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod), ', ' order by a.attnum) as listed
                   from pg_class f join pg_attribute a on a.attrelid = f.oid and a.attnum > 0 and not a.attisdropped
                  where f.relkind = 'c' group by f.oid) m on m.oid = t.typrelid
)
