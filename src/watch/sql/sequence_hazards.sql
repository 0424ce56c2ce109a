-- Sequences that give the values of a whole-number column of a replicated table, and how to ask for both. $1: the sequence
-- after which to go on, $2: how many to look at, $3: sequences that are looked at in any case. Only what an index of the
-- server's own order can tell in one step is asked for, and nothing that somebody has locked against readers.
with after as materialized (
    select q.seqrelid from pg_catalog.pg_sequence q where q.seqrelid > $1::oid order by q.seqrelid limit $2
), looked_at as materialized (
    select a.seqrelid from after a
    union
    select q.seqrelid from pg_catalog.pg_sequence q where q.seqrelid = any ($3)
), source as materialized (
    -- Of serial and identity columns.
    select s.seqrelid, d.refobjid as relation, d.refobjsubid::int2 as attnum
      from looked_at s
     cross join lateral (select d.refobjid, d.refobjsubid from pg_catalog.pg_depend d
                          where d.classid = 'pg_class'::regclass and d.objid = s.seqrelid and d.objsubid = 0
                            and d.refclassid = 'pg_class'::regclass and d.refobjsubid > 0 and d.deptype in ('a', 'i') offset 0) d
    union
    -- Of other defaults.
    select s.seqrelid, d.adrelid, d.adnum
      from looked_at s
     cross join lateral (select f.adrelid, f.adnum
                           from pg_catalog.pg_depend d
                           join pg_catalog.pg_attrdef f on f.oid = d.objid
                          where d.refclassid = 'pg_class'::regclass and d.refobjid = s.seqrelid
                            and d.classid = 'pg_attrdef'::regclass offset 0) d
), locked as materialized (
    select l.relation from pg_catalog.pg_locks l
     where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock'
       and l.database = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())
), probe as materialized (
    select s.seqrelid, c.oid, c.relkind, c.relname, c.relowner, n.nspname, a.attname, a.atttypid, tree.oids
      from source s
     cross join lateral (select c.oid, c.relkind, c.relname, c.relowner, c.relnamespace, c.relispartition from pg_catalog.pg_class c
                          where c.oid = s.relation and c.relkind in ('r', 'p') and c.relpersistence <> 't' offset 0) c
     cross join lateral (select n.nspname from pg_catalog.pg_namespace n where n.oid = c.relnamespace offset 0) n
     cross join lateral (select a.attname, a.atttypid, a.attidentity from pg_catalog.pg_attribute a
                          where a.attrelid = s.relation and a.attnum = s.attnum
                            and a.atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype) offset 0) a
     -- With its partitions. The functions for that lock what they find.
     cross join lateral (
         select array(with recursive tree (oid) as (
                          select c.oid
                          union all
                          select i.inhrelid from tree t join pg_catalog.pg_inherits i on i.inhparent = t.oid where c.relkind = 'p')
                      select t.oid from tree t) as oids offset 0) tree
     -- A partition has the default of its table.
     where not (c.relispartition and exists (select from source r
                                              where r.seqrelid = s.seqrelid and r.relation = pg_catalog.pg_partition_root(c.oid)))
       and exists (select from pg_catalog.pg_index i
                     join pg_catalog.pg_class x on x.oid = i.indexrelid
                     join pg_catalog.pg_am m on m.oid = x.relam and m.amname = 'btree'
                     join pg_catalog.pg_opclass o on o.oid = i.indclass[0] and o.opcdefault
                    where i.indrelid = s.relation and i.indisvalid and i.indkey[0] = s.attnum and i.indpred is null)
       and pg_catalog.cardinality(tree.oids) <= 200
       -- Just the next value, as nextval(regclass) gives it, or made an int4, int2 or numeric; of one that calculates with it,
       -- the column says nothing of the sequence.
       and (a.attidentity <> ''
            or not exists (select from pg_catalog.pg_attrdef f
                            where f.adrelid = s.relation and f.adnum = s.attnum
                              and f.adbin::text !~ '^\{FUNCEXPR :funcid (1574 |(480|714|1781) [^{]*:args \(\{FUNCEXPR :funcid 1574 )'))
       and not exists (select from locked l
                        where l.relation = s.seqrelid or l.relation = any (tree.oids)
                           or l.relation in (select i.indexrelid from pg_catalog.pg_index i where i.indrelid = any (tree.oids)))
     order by s.seqrelid = any ($3) desc, s.seqrelid
     limit 400
)
select pg_catalog.json_build_object(
    'last', (select coalesce(max(s.seqrelid::bigint), 0) from after s),
    'looked_at', (select count(*) from after),
    'probes', (
        select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
                   'sequence', p.seqrelid::bigint,
                   'sequence_name', pg_catalog.quote_ident(sn.nspname) || '.' || pg_catalog.quote_ident(s.relname),
                   'sequence_owner', s.relowner::bigint,
                   'increment', q.seqincrement,
                   'from', q.seqmin,
                   'to', q.seqmax,
                   'table_name', pg_catalog.quote_ident(p.nspname) || '.' || pg_catalog.quote_ident(p.relname),
                   'table_owner', p.relowner::bigint,
                   'column', pg_catalog.quote_ident(p.attname),
                   'is_partitioned', p.relkind = 'p',
                   'type', p.atttypid::regtype,
                   -- It may be a partition that is replicated.
                   'tables', (select pg_catalog.json_agg(pg_catalog.json_build_array(tn.nspname, t.relname))
                                from unnest(p.oids) as o (oid)
                                join pg_catalog.pg_class t on t.oid = o.oid
                                join pg_catalog.pg_namespace tn on tn.oid = t.relnamespace),
                   'subscribers', (select coalesce(pg_catalog.json_agg(pg_catalog.json_build_array(x.provider, x.id)), '[]')
                                     from ({subscribers}) x))
               order by p.seqrelid = any ($3) desc, p.seqrelid), '[]')
          from probe p
          join pg_catalog.pg_sequence q on q.seqrelid = p.seqrelid and not q.seqcycle
          join pg_catalog.pg_class s on s.oid = p.seqrelid
          join pg_catalog.pg_namespace sn on sn.oid = s.relnamespace))::text
