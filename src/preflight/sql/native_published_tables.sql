-- What publications publish. $1: their names, a JSON array.
with recursive published as (
    select c.oid, p.pubname as publication, p.facts -> 'attnames' as columns, p.facts ->> 'rowfilter' as row_filter,
           to_jsonb(u) as flags
      from (select v.schemaname, v.tablename, v.pubname, to_jsonb(v) as facts
              from pg_publication_tables v
             where v.pubname = any (array(select json_array_elements_text($1::json)))) p
      join pg_publication u on u.pubname = p.pubname
      join pg_namespace n on n.nspname = p.schemaname
      join pg_class c on c.relnamespace = n.oid and c.relname = p.tablename
), published_rows as (
    select coalesce(json_agg(json_build_object(
               'oid', p.oid::bigint,
               'publication', p.publication,
               'columns', p.columns,
               'row_filter', p.row_filter,
               'updates', (p.flags ->> 'pubupdate')::bool,
               'deletes', (p.flags ->> 'pubdelete')::bool,
               'truncates', coalesce((p.flags ->> 'pubtruncate')::bool, false),
               'via_root', coalesce((p.flags ->> 'pubviaroot')::bool, false))
           order by p.publication), '[]') as rows
      from published p
), chosen (oid) as (
    select distinct oid from published
), {described_tables}, {publisher}
