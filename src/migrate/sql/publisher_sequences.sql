-- The sequences of a publisher that belong with the tables it publishes: one JSON array. $1: publications or replication
-- sets, a JSON array. It may be as old as 10.
with recursive published as (
{published}
), published_sequence (sequence) as (
{published_sequences}
), family (relation) as (
    -- With partitions, and with what they are partitions of: the sequence of an identity column is that of the topmost.
    select p.relation from published p
    union
    select x.relation
      from family f
     cross join lateral (select i.inhrelid from pg_inherits i where i.inhparent = f.relation
                         union all
                         select i.inhparent from pg_inherits i where i.inhrelid = f.relation) x (relation)
), owned as (
    -- By a serial or identity column.
    select d.objid as sequence, d.refobjid as relation, d.refobjsubid as attnum
      from pg_depend d
      join pg_sequence s on s.seqrelid = d.objid
     where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
       and d.refobjsubid > 0 and d.deptype in ('a', 'i')
), used (sequence) as (
    select o.sequence from owned o where o.relation in (select f.relation from family f)
    union
    select d.refobjid
      from pg_attrdef a
      join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = a.oid and d.refclassid = 'pg_class'::regclass
      join pg_sequence s on s.seqrelid = d.refobjid
     where a.adrelid in (select f.relation from family f)
    union
    select p.sequence from published_sequence p
)
select coalesce(json_agg(json_build_object(
           'id', q.seqrelid::bigint,
           'schema', n.nspname,
           'name', c.relname,
           'type', format_type(q.seqtypid, null),
           'start', q.seqstart,
           'increment', q.seqincrement,
           'min', q.seqmin,
           'max', q.seqmax,
           'cache', q.seqcache,
           'cycles', q.seqcycle,
           'owner', case when o.sequence is not null then json_build_object(
               'schema', tn.nspname, 'table', t.relname, 'column', a.attname, 'identity', a.attidentity) end,
           -- Its table may be here, or not.
           'is_needed', u.sequence is not null or o.sequence is null,
           'may_read', rights.may_select and has_schema_privilege(n.oid, 'usage'),
           -- NULL if it has not given a value yet.
           'last_value', case when rights.may_select or has_sequence_privilege(q.seqrelid, 'usage')
                              then pg_sequence_last_value(q.seqrelid) end)
       order by n.nspname, c.relname), '[]')
  from pg_sequence q
  join pg_class c on c.oid = q.seqrelid and c.relpersistence <> 't'
  join pg_namespace n on n.oid = c.relnamespace
 cross join lateral (select has_sequence_privilege(q.seqrelid, 'select') as may_select) rights
  left join used u on u.sequence = q.seqrelid
  left join owned o on o.sequence = q.seqrelid
  left join pg_class t on t.oid = o.relation
  left join pg_namespace tn on tn.oid = t.relnamespace
  left join pg_attribute a on a.attrelid = o.relation and a.attnum = o.attnum
 where u.sequence is not null
    or c.relnamespace in (select p.relnamespace from published p)
       -- An extension looks after its own.
       and not exists (select from pg_depend d
                        where d.classid = 'pg_class'::regclass and d.objid = q.seqrelid and d.deptype = 'e')
