), tree as (
    select oid, relkind, reltoastrelid from published
    union
    select c.oid, c.relkind, c.reltoastrelid
      from tree t
      join pg_inherits i on i.inhparent = t.oid
      join pg_class c on c.oid = i.inhrelid
     where t.relkind = 'p'
)
select json_build_object(
    'tables', count(*),
    'bytes', coalesce(sum(pg_relation_size(oid)
                          + case when reltoastrelid <> 0 then pg_relation_size(reltoastrelid) else 0 end), 0),
    'index_bytes', coalesce(sum(pg_indexes_size(oid)), 0))
  from tree where relkind = 'r'
