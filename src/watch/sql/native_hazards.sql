-- Subscribed tables in which the server has no index to find a row by: neither a replica identity index nor a primary key
-- that is not deferrable (RelationGetIndexList of relcache.c). Of a partitioned table each partition needs one.
with keyless as materialized (
    select r.srsubid, r.srrelid
      from pg_catalog.pg_subscription_rel r
     where r.srsubid in (select s.oid from pg_catalog.pg_subscription s
                          where s.subdbid = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database()))
       and not exists (select from pg_catalog.pg_index i
                        where i.indrelid = r.srrelid and i.indisvalid and i.indimmediate and (i.indisprimary or i.indisreplident))
)
select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
           'subscriber', t.srsubid::bigint,
           'schema_name', n.nspname,
           'table_name', c.relname,
           'name', pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname),
           -- A search compares all columns but these (tuples_equal of execReplication.c).
           'columns', array(select a.attname from pg_catalog.pg_attribute a
                             where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
                             order by a.attnum),
           -- What the replica identity could be.
           'indexes', (select coalesce(pg_catalog.json_agg(pg_catalog.json_build_array(x.relname, key.columns) order by x.relname), '[]')
                         from pg_catalog.pg_index i
                         join pg_catalog.pg_class x on x.oid = i.indexrelid
                        cross join lateral (
                            select pg_catalog.json_agg(a.attname order by k.place) as columns, pg_catalog.bool_and(a.attnotnull) as is_not_null
                              from unnest(i.indkey::int2[]) with ordinality k (attnum, place)
                              join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
                             where k.place <= i.indnkeyatts) key
                        where i.indrelid = c.oid and c.relkind = 'r' and i.indisunique and i.indisvalid and i.indimmediate
                          and i.indpred is null and i.indexprs is null and key.is_not_null))
       order by n.nspname, c.relname, t.srsubid), '[]')::text
  from (select * from keyless limit 1000) t
  join pg_catalog.pg_class c on c.oid = t.srrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where c.relkind = 'r'
    or c.relkind = 'p' and exists (
           with recursive tree (oid, relkind) as (
               select c.oid, c.relkind
               union all
               select p.oid, p.relkind
                 from tree t
                 join pg_catalog.pg_inherits i on i.inhparent = t.oid
                 join pg_catalog.pg_class p on p.oid = i.inhrelid)
           select from tree t
            where t.relkind = 'r'
              and not exists (select from pg_catalog.pg_index i
                               where i.indrelid = t.oid and i.indisvalid and i.indimmediate
                                 and (i.indisprimary or i.indisreplident)))
