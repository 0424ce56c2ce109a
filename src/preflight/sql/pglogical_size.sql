-- As native_size.sql. $1: replication sets.
with recursive published as (
    select c.oid, c.relkind, c.reltoastrelid
      from pglogical.replication_set r
      join pglogical.local_node l on l.node_id = r.set_nodeid
      join pglogical.replication_set_table t on t.set_id = r.set_id
      join pg_class c on c.oid = t.set_reloid
     where r.set_name = any($1::text[])
