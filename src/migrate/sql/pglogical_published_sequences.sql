    select s.set_seqoid::oid as sequence
      from pglogical.replication_set r
      join pglogical.local_node l on l.node_id = r.set_nodeid
      join pglogical.replication_set_seq s on s.set_id = r.set_id
     where r.set_name::text in (select value from json_array_elements_text($1::json))
