-- Operators are resolved as this runs, and an exact match of a schema in which others may create comes before a cast.
set local search_path = pg_catalog, pg_temp;

create function @extschema@.repl_set_expression(relation regclass, column_name name, expression text,
                                    on_error text default 'fail', backfill boolean default true)
    returns bigint
    language c volatile
    as 'MODULE_PATHNAME', 'repl_set_expression_wrapper';
comment on function @extschema@.repl_set_expression(regclass, name, text, text, boolean) is
    'derives a plain column from the other columns of its row, for replicated and for local rows; on_error: fail or null; backfill: have existing rows brought up, too, which repl_backfills shows; returns its id';

create function @extschema@.repl_drop_expression(relation regclass, column_name name)
    returns void
    language c volatile
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'repl_drop_expression_wrapper';
comment on function @extschema@.repl_drop_expression(regclass, name) is
    'ends the derivation of a column; its values stay';

create function @extschema@.repl_adopt_generated(relation regclass, column_name name default null)
    returns setof name
    language c volatile rows 5
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'repl_adopt_generated_wrapper';
comment on function @extschema@.repl_adopt_generated(regclass, name) is
    'turns a stored generated column, or all of the table, into plain columns with rules of the same expressions';

create function @extschema@.repl_verify(relation regclass, sample int default 10)
    returns table (column_name name, rows_checked bigint, rows_wrong bigint, sample_keys jsonb)
    language c volatile
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'repl_verify_wrapper';
comment on function @extschema@.repl_verify(regclass, int) is
    'reads every row and compares each derived column with what its rule says; sample: how many keys of wrong rows to show';

create function @extschema@._repl_generate()
    returns trigger
    language c
    as 'MODULE_PATHNAME', 'repl_generate';
comment on function @extschema@._repl_generate() is
    'internal: computes the derived columns of a row, for the trigger zzz_replwarden';

create function @extschema@._repl_rule()
    returns trigger
    language c
    as 'MODULE_PATHNAME', 'repl_rule';
comment on function @extschema@._repl_rule() is
    'internal: marks a disabled trigger that stores the rule of a derived column';

create function @extschema@._repl_wrong_columns(record)
    returns smallint[]
    language c volatile strict
    as 'MODULE_PATHNAME', 'repl_wrong_columns';
comment on function @extschema@._repl_wrong_columns(record) is
    'internal: numbers of the derived columns of a row that are not as their rules say; NULL if all are';

create function @extschema@._repl_rule_expression(oid)
    returns text
    language c stable strict
    as 'MODULE_PATHNAME', 'repl_rule_expression_wrapper';
comment on function @extschema@._repl_rule_expression(oid) is
    'internal: the expression of the rule that this trigger stores';

-- Unlogged: it must not be published where this subscriber publishes all tables itself.
create unlogged table @extschema@._repl_failures (
    trigger oid not null,
    rows bigint not null,
    last_error text not null,
    last_error_at timestamptz not null
);
comment on table @extschema@._repl_failures is
    'internal: rows whose derived column became NULL because the expression failed, by the trigger of the rule';

create function @extschema@._repl_failure_counts()
    returns table (trigger oid, rows bigint, last_error text, last_error_at timestamptz)
    language c stable rows 10
    as 'MODULE_PATHNAME', 'repl_failure_counts_wrapper';
comment on function @extschema@._repl_failure_counts() is
    'internal: _repl_failures by rule, errors only for those who may see them';

create function @extschema@._repl_on_create_trigger()
    returns event_trigger
    language c
    as 'MODULE_PATHNAME', 'repl_on_create_trigger_wrapper';
comment on function @extschema@._repl_on_create_trigger() is
    'internal: lets a rule fall with its column';

create function @extschema@._repl_on_drop()
    returns event_trigger
    language c
    as 'MODULE_PATHNAME', 'repl_on_drop_wrapper';
comment on function @extschema@._repl_on_drop() is
    'internal: removes the trigger of a table whose last rule is gone';

create event trigger replwarden_create_trigger on ddl_command_end
    when tag in ('CREATE TRIGGER')
    execute function @extschema@._repl_on_create_trigger();
comment on event trigger replwarden_create_trigger is
    'a rule that a restore brings falls with its column, as one that repl_set_expression() sets';
alter event trigger replwarden_create_trigger enable always;

create event trigger replwarden_drop on sql_drop
    execute function @extschema@._repl_on_drop();
comment on event trigger replwarden_drop is
    'a table whose last rule is dropped, in whatever way, keeps no trigger of replwarden';
alter event trigger replwarden_drop enable always;
