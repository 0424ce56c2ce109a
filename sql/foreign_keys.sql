-- Operators are resolved as this runs, and an exact match of a schema in which others may create comes before a cast.
set local search_path = pg_catalog, pg_temp;

create table @extschema@._repl_foreign_keys (
    id bigint generated always as identity primary key,
    relation regclass not null,
    relation_name text not null,
    constraint_name name not null,
    referenced regclass not null,
    referenced_name text not null,
    definition text not null,
    comment text,
    -- It was, and is to be again.
    validated boolean not null,
    -- For a query that finds rows which break it; NULL where none can be written.
    columns name[] not null,
    referenced_columns name[] not null,
    -- Theirs, by which they are known under other names, where the origin is this database.
    column_numbers smallint[] not null,
    referenced_column_numbers smallint[] not null,
    operators text[],
    match_full boolean not null,
    detached_at timestamptz not null default clock_timestamp(),
    -- System identifier and database: elsewhere nobody is at work on it, and it is the user's to say when it is time.
    origin text not null,
    -- What a worker is to do. restore: add it, when the table that it awaits is ready, and validate it. validate: it is there.
    task text check (task in ('restore', 'validate')),
    -- The table that is copied again.
    awaits regclass,
    -- The constraint, when it is back and not valid yet, where the origin is this database.
    constraint_id oid,
    problem text,
    rows_wrong bigint,
    sample_keys jsonb,
    unique (relation, constraint_name)
);
comment on table @extschema@._repl_foreign_keys is
    'internal: foreign keys that are detached, or not valid yet, shown by repl_detached_foreign_keys';
comment on sequence @extschema@._repl_foreign_keys_id_seq is 'internal: ids of foreign keys';

-- A dump takes them along: the constraints themselves are not in it.
select pg_catalog.pg_extension_config_dump('@extschema@._repl_foreign_keys', '');
select pg_catalog.pg_extension_config_dump('@extschema@._repl_foreign_keys_id_seq', '');

create trigger ignore_replicated before insert or update or delete on @extschema@._repl_foreign_keys
    for each row execute function @extschema@._repl_ignore_replicated();
alter table @extschema@._repl_foreign_keys enable replica trigger ignore_replicated;

create view @extschema@.repl_detached_foreign_keys as
    select t.relation, coalesce(k.name, f.constraint_name) as constraint_name, f.definition, f.detached_at,
           case when w.task = 'validate' then 'validating'
                when k.is_back then 'not valid'
                when w.task = 'restore' then 'waiting'
                else 'detached' end as state,
           case when w.task = 'restore' then f.awaits end as awaits,
           case when may_see then f.problem when f.problem is not null then '<insufficient privilege>' end as problem,
           f.rows_wrong,
           case when may_see then f.sample_keys end as sample_keys,
           r.referenced
      from @extschema@._repl_foreign_keys f
     -- What another database has begun, nobody goes on with here.
     cross join lateral (
           select f.origin = (select s.system_identifier from pg_catalog.pg_control_system() s) || '/'
                      || (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()) as is_here) h
     cross join lateral (select case when h.is_here then f.task end as task) w
     cross join lateral (
           select case when exists (select from pg_catalog.pg_class c where c.oid = f.relation) then f.relation
                       else pg_catalog.to_regclass(f.relation_name)::regclass end as relation) t
     cross join lateral (
           select case when exists (select from pg_catalog.pg_class c where c.oid = f.referenced) then f.referenced
                       else pg_catalog.to_regclass(f.referenced_name)::regclass end as referenced) r
     cross join lateral (
           select coalesce(bool_or(c.contype = 'f'), false) as is_back,
                  coalesce(bool_or(c.contype = 'f' and c.convalidated), false) as is_valid,
                  -- It may have got another name since it is back.
                  (pg_catalog.array_agg(c.conname) filter (where c.oid = f.constraint_id))[1] as name
             from pg_catalog.pg_constraint c
            where c.conrelid = t.relation and (c.conname = f.constraint_name or h.is_here and c.oid = f.constraint_id)) k
     cross join lateral (
           select coalesce((select pg_catalog.pg_has_role(c.relowner, 'usage')
                              from pg_catalog.pg_class c where c.oid = t.relation), false)
                  or pg_catalog.pg_has_role('pg_monitor', 'usage') as may_see) s
     where not k.is_valid;
comment on view @extschema@.repl_detached_foreign_keys is
    'foreign keys that repl_detach_foreign_keys() or repl_resync_table() has taken away, until they are back and valid';
comment on column @extschema@.repl_detached_foreign_keys.relation is 'the table that has the key; NULL if there is no such table any more';
comment on column @extschema@.repl_detached_foreign_keys.constraint_name is 'its name';
comment on column @extschema@.repl_detached_foreign_keys.definition is 'as it was';
comment on column @extschema@.repl_detached_foreign_keys.detached_at is 'when it was taken away';
comment on column @extschema@.repl_detached_foreign_keys.state is
    'detached: until somebody calls repl_restore_foreign_keys(). waiting: comes back by itself when the table in awaits is copied. validating: holds for new rows, and existing ones are being looked at. not valid: holds for new rows; problem says why not for all';
comment on column @extschema@.repl_detached_foreign_keys.awaits is 'the table that is being copied again';
comment on column @extschema@.repl_detached_foreign_keys.problem is
    'why it is not back, or not valid; for the table''s owner and pg_monitor';
comment on column @extschema@.repl_detached_foreign_keys.rows_wrong is 'rows that refer to nothing, when they were last counted';
comment on column @extschema@.repl_detached_foreign_keys.sample_keys is
    'keys of the first ten of them, with what they refer to; for the table''s owner and pg_monitor';
comment on column @extschema@.repl_detached_foreign_keys.referenced is 'the table that it refers to';
grant select on @extschema@.repl_detached_foreign_keys to public;

create function @extschema@.repl_detach_foreign_keys(relation regclass default null)
    returns setof text
    language c volatile
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'repl_detach_foreign_keys_wrapper';
comment on function @extschema@.repl_detach_foreign_keys(regclass) is
    'takes away the foreign keys of a table and those that refer to it, or, for NULL, those of all tables that a subscription replicates, and keeps their definitions; returns what it did; for owners of the tables that have the keys';

create function @extschema@.repl_restore_foreign_keys(relation regclass default null, validate boolean default true)
    returns setof text
    language c volatile
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'repl_restore_foreign_keys_wrapper';
comment on function @extschema@.repl_restore_foreign_keys(regclass, boolean) is
    'brings detached foreign keys back, of a table or for NULL all, NOT VALID; validate: has a background worker validate them then, which keeps nobody from writing; returns what it did; for owners of the tables that have the keys';

create function @extschema@._repl_before_drop()
    returns event_trigger
    language c
    as 'MODULE_PATHNAME', 'repl_before_drop_wrapper';
comment on function @extschema@._repl_before_drop() is
    'internal: brings detached foreign keys back before the extension that knows them is dropped';

create event trigger replwarden_before_drop on ddl_command_start
    when tag in ('DROP EXTENSION', 'DROP SCHEMA', 'DROP OWNED')
    execute function @extschema@._repl_before_drop();
comment on event trigger replwarden_before_drop is
    'detached foreign keys come back before replwarden is dropped';
alter event trigger replwarden_before_drop enable always;
