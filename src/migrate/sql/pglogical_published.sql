    select distinct c.oid as relation, c.relnamespace
      from pglogical.replication_set r
      join pglogical.local_node l on l.node_id = r.set_nodeid
      join pglogical.replication_set_table t on t.set_id = r.set_id
      join pg_class c on c.oid = t.set_reloid
     where r.set_name::text in (select value from json_array_elements_text($1::json))
