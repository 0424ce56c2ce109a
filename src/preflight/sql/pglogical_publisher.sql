-- What pglogical is like on the publisher, as one JSON document. $1: replication sets.
select json_build_object(
    'node', (select n.node_name from pglogical.local_node l join pglogical.node n on n.node_id = l.node_id),
    'sets', (select coalesce(json_agg(r.set_name), '[]')
               from pglogical.replication_set r join pglogical.local_node l on l.node_id = r.set_nodeid
              where r.set_name = any($1::text[])))
