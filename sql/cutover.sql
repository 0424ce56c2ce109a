-- Operators are resolved as this runs, and an exact match of a schema in which others may create comes before a cast.
set local search_path = pg_catalog, pg_temp;

create function @extschema@._repl_cutover_check(subscription name)
    returns text
    language c volatile
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'repl_cutover_check_wrapper';
comment on function @extschema@._repl_cutover_check(name) is
    'internal: the rows of repl_cutover_check() as JSON';

create function @extschema@.repl_cutover_check(subscription name)
    returns table (check_name text, ready boolean, finding text, remedy text)
    language sql volatile rows 14
begin atomic
    select r.check_name, r.ready, r.finding, r.remedy
      from pg_catalog.jsonb_to_recordset(@extschema@._repl_cutover_check($1)::jsonb) as r (
               check_name text, ready boolean, finding text, remedy text);
end;
comment on function @extschema@.repl_cutover_check(name) is
    'whether an application can move from the publisher of a subscription to this server: a row for each thing that has to be so, in the order in which one deals with them; what is not ready has a finding, and where SQL mends it a remedy. The last row, plan, is ready if all others are, and says what to do in which order. A check that cannot be made is not ready, and says why. Changes nothing; waits up to 2 s for what the publisher had when it was asked. For a superuser, or for whoever has the rights of the subscription''s owner and a password in the connection string';
