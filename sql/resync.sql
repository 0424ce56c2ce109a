create function @extschema@.repl_resync_table(relation regclass)
    returns void
    language c volatile
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'repl_resync_table_wrapper';
comment on function @extschema@.repl_resync_table(regclass) is
    'empties a natively replicated table and has it copied again when the transaction commits (of pglogical it is refused, because a row could be left that the publisher does not have any more); foreign keys that refer to it are detached, and come back by themselves when it is ready; for a superuser, or the owner of the table who owns the subscription, too';
