-- Operators are resolved as this runs, and an exact match of a schema in which others may create comes before a cast.
set local search_path = pg_catalog, pg_temp;

create function @extschema@._repl_preflight(subscription name)
    returns text
    language c volatile
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'repl_preflight_of_subscription_wrapper';
comment on function @extschema@._repl_preflight(name) is
    'internal: the rows of repl_preflight() as JSON';

-- In UTF-8, whatever the encoding of the database is; publications: a JSON array.
create function @extschema@._repl_preflight(conninfo bytea, publications bytea, provider text)
    returns text
    language c volatile
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'repl_preflight_of_publications_wrapper';
comment on function @extschema@._repl_preflight(bytea, bytea, text) is
    'internal: the rows of repl_preflight() as JSON';

create function @extschema@.repl_preflight(subscription name)
    returns table (severity text, check_name text, object text, finding text, remedy text)
    language sql volatile rows 50
begin atomic
    select l.severity, l.check_name, l.object, l.finding, l.remedy
      from pg_catalog.jsonb_to_recordset(@extschema@._repl_preflight($1)::jsonb) as l (
               severity text, check_name text, object text, finding text, remedy text);
end;
comment on function @extschema@.repl_preflight(name) is
    'checks a subscription and both of its servers for what has gone wrong or will: severity error, warning, info or ok, the worst first; remedy: what to run, and on which server. For a superuser, or for whoever has the rights of the owner and a password in the connection string';

create function @extschema@.repl_preflight(conninfo text, publications text[], provider text default 'native')
    returns table (severity text, check_name text, object text, finding text, remedy text)
    language sql volatile rows 50
begin atomic
    select l.severity, l.check_name, l.object, l.finding, l.remedy
      from pg_catalog.jsonb_to_recordset(@extschema@._repl_preflight(
               pg_catalog.convert_to($1, 'UTF8'),
               pg_catalog.convert_to(
                   case when $2 is not null then
                       coalesce((select pg_catalog.json_agg(p) from pg_catalog.unnest($2) p), '[]')::text
                   end, 'UTF8'),
               $3)::jsonb) as l (
               severity text, check_name text, object text, finding text, remedy text);
end;
comment on function @extschema@.repl_preflight(text, text[], text) is
    'checks what a subscription will meet before it is made: conninfo as for CREATE SUBSCRIPTION, publications (or replication sets), provider: native or pglogical; rows as repl_preflight(name). For superusers, and for members of pg_create_subscription with a password in conninfo';
