-- Tables whose rows pglogical's apply worker does not survive. It evaluates the expression of a generated column that the
-- publisher does not send without a row to read from (fill_missing_defaults of pglogical_apply_heap.c), which only one that
-- reads no column outlives; and it writes into a partitioned table as if it had storage. Writing through SQL, it does neither.
-- Expressions are looked through as text: no other default can read a column, and a constant in one is a list of numbers.
with reading as materialized (
    select d.adrelid, d.adnum from pg_catalog.pg_attrdef d where pg_catalog.position(d.adbin::text, '{VAR ') > 0
), suspect as materialized (
    select d.adrelid as oid, false as is_partitioned,
           pg_catalog.json_agg(a.attname order by a.attnum) as columns,
           pg_catalog.bool_or(a.attgenerated <> 's') as is_virtual
      from reading d
      -- The planner expects them to be many, and would read all columns of the database.
      cross join lateral (select a.attname, a.attnum, a.attgenerated from pg_catalog.pg_attribute a
                           where a.attrelid = d.adrelid and a.attnum = d.adnum and a.attgenerated <> '' offset 0) a
     group by d.adrelid
    union all
    select p.partrelid, true, '[]', false from pg_catalog.pg_partitioned_table p
)
select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
           'schema_name', n.nspname,
           'table_name', c.relname,
           'name', pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname),
           'root', (select pg_catalog.quote_ident(rn.nspname) || '.' || pg_catalog.quote_ident(r.relname)
                      from pg_catalog.pg_class r
                      join pg_catalog.pg_namespace rn on rn.oid = r.relnamespace
                     where c.relispartition and r.oid = pg_catalog.pg_partition_root(c.oid)),
           'is_partitioned', t.is_partitioned,
           'columns', t.columns,
           'is_virtual', t.is_virtual,
           'is_inherited', not c.relispartition
                           and (exists (select from pg_catalog.pg_inherits i where i.inhrelid = t.oid)
                                or exists (select from pg_catalog.pg_inherits i where i.inhparent = t.oid)),
           'has_key', exists (select from pg_catalog.pg_index i
                               where i.indrelid = t.oid and i.indisvalid and i.indimmediate
                                 and (i.indisprimary or i.indisreplident)),
           'subscribers', array(
               select s.sub_id::bigint from pglogical.subscription s
                where exists (select from pglogical.local_sync_status l
                               where l.sync_subid = s.sub_id and l.sync_nspname = n.nspname and l.sync_relname = c.relname)))
       order by n.nspname, c.relname), '[]')::text
  from suspect t
  join pg_catalog.pg_class c on c.oid = t.oid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where coalesce(pg_catalog.current_setting('pglogical.use_spi', true), 'off') <> 'on'
