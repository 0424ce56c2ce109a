-- Operators are resolved as this runs, and an exact match of a schema in which others may create comes before a cast.
set local search_path = pg_catalog, pg_temp;

create function @extschema@._repl_sync_sequences(subscription name, headroom bigint)
    returns text
    language c volatile
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'repl_sync_sequences_wrapper';
comment on function @extschema@._repl_sync_sequences(name, bigint) is
    'internal: sets sequences and gives the rows of repl_sync_sequences() as JSON';

create function @extschema@.repl_sync_sequences(subscription name, headroom bigint default 0)
    returns table (sequence regclass, publisher_value bigint, old_value bigint, new_value bigint)
    language sql volatile rows 100
begin atomic
    select s.sequence, s.publisher_value, s.old_value, s.new_value
      from pg_catalog.jsonb_to_recordset(@extschema@._repl_sync_sequences($1, $2)::jsonb) as s (
               sequence regclass, publisher_value bigint, old_value bigint, new_value bigint);
end;
comment on function @extschema@.repl_sync_sequences(name, bigint) is
    'sets the sequences here that are behind those of the publisher: of serial and identity columns and defaults of the published tables, the others of their schemas, and those of pglogical''s replication sets. Never backwards, but for a sequence that begins again after its end (CYCLE), which goes where the publisher''s is. headroom: so many more values of each are skipped. A row for each that is here, with the last_value there, here before, and here now; what is missing (but for sequences of tables that are not published), cannot be read or does not fit is a WARNING. Like setval(), it is not undone by a rollback. For a superuser, or for whoever has the rights of the subscription''s owner, a password in the connection string, and UPDATE on the sequences';
