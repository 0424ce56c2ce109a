-- On a table as long as pglogical copies it again.
create function @extschema@._repl_guard_copy()
    returns trigger
    language c
    as 'MODULE_PATHNAME', 'repl_guard_copy';
comment on function @extschema@._repl_guard_copy() is
    'internal: leaves out what pglogical''s apply worker must not apply while the table is being copied, and empties the table before a copy';

create function @extschema@.repl_resync_table(relation regclass)
    returns void
    language c volatile
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'repl_resync_table_wrapper';
comment on function @extschema@.repl_resync_table(regclass) is
    'empties a replicated table and has it copied again when the transaction commits; foreign keys that refer to it are detached, and come back by themselves when it is ready; for a superuser, or the owner of the table who owns the subscription, too, or, with pglogical, may execute alter_subscription_resynchronize_table()';
