-- Operators are resolved as this runs, and an exact match of a schema in which others may create comes before a cast.
set local search_path = pg_catalog, pg_temp;

create function @extschema@._repl_sync_states()
    returns table (provider text, code text, state text, description text, resumable boolean)
    language c immutable parallel safe rows 16
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'repl_sync_states_wrapper';
comment on function @extschema@._repl_sync_states() is
    'internal: the rows of repl_sync_states';

create view @extschema@.repl_sync_states as
    select provider, code, state, description, resumable
      from @extschema@._repl_sync_states();
comment on view @extschema@.repl_sync_states is
    'every state of a table''s synchronization, native and pglogical, in words';
comment on column @extschema@.repl_sync_states.provider is 'native or pglogical';
comment on column @extschema@.repl_sync_states.code is
    'as pg_subscription_rel.srsubstate or pglogical.local_sync_status.sync_status shows it; empty for pglogical''s ''\0''';
comment on column @extschema@.repl_sync_states.state is 'the code in a word or two';
comment on column @extschema@.repl_sync_states.description is 'what goes on in this state';
comment on column @extschema@.repl_sync_states.resumable is
    'whether a synchronization that stops in this state goes on, or starts again, by itself; for pglogical that of the whole subscription';
grant select on @extschema@.repl_sync_states to public;
