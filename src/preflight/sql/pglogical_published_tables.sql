-- What replication sets replicate. $1: their names, a JSON array.
with recursive published as (
    select t.set_reloid::oid as oid, r.set_name as publication, to_jsonb(t.set_att_list) as columns,
           case when t.set_row_filter is not null then pg_get_expr(t.set_row_filter, t.set_reloid) end as row_filter,
           r.replicate_update, r.replicate_delete, r.replicate_truncate
      from pglogical.replication_set r
      join pglogical.local_node l on l.node_id = r.set_nodeid
      join pglogical.replication_set_table t on t.set_id = r.set_id
     where r.set_name = any (array(select json_array_elements_text($1::json)))
), published_rows as (
    select coalesce(json_agg(json_build_object(
               'oid', p.oid::bigint,
               'publication', p.publication,
               'columns', p.columns,
               'row_filter', p.row_filter,
               'updates', p.replicate_update,
               'deletes', p.replicate_delete,
               'truncates', p.replicate_truncate)
           order by p.publication), '[]') as rows
      from published p
), chosen (oid) as (
    select distinct oid from published
), {described_tables}, {publisher}
