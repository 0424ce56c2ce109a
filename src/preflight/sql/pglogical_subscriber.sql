-- What pglogical is like here, as one JSON document.
select pg_catalog.json_build_object(
    'node', (select n.node_name from pglogical.local_node l join pglogical.node n on n.node_id = l.node_id),
    -- May hold a password.
    'dsn', (select i.if_dsn from pglogical.local_node l join pglogical.node_interface i on i.if_id = l.node_local_interface))::text
