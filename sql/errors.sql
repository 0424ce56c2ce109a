-- Operators are resolved as this runs, and an exact match of a schema in which others may create comes before a cast.
set local search_path = pg_catalog, pg_temp;

create table @extschema@._repl_errors (
    ring bigint not null,
    ticket bigint not null,
    last_at timestamptz not null,
    error jsonb not null,
    primary key (ring, ticket)
);
create trigger ignore_replicated before insert or update or delete on @extschema@._repl_errors
    for each row execute function @extschema@._repl_ignore_replicated();
alter table @extschema@._repl_errors enable replica trigger ignore_replicated;
create index _repl_errors_last_at on @extschema@._repl_errors (last_at);
comment on table @extschema@._repl_errors is
    'internal: errors of replicating processes, as the worker of this database has found them in shared memory';
comment on column @extschema@._repl_errors.ring is 'the shared memory in which it was: when that was made, in microseconds since 2000';
comment on column @extschema@._repl_errors.ticket is 'its number there';
comment on column @extschema@._repl_errors.last_at is 'when it came last, as far as it is written';
comment on column @extschema@._repl_errors.error is 'what repl_errors shows of it';

create function @extschema@._repl_errors_in_memory()
    returns text
    language c volatile security definer
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'repl_errors_in_memory_wrapper';
comment on function @extschema@._repl_errors_in_memory() is
    'internal: errors of replicating processes that are in shared memory, without passwords, as JSON';

create view @extschema@.repl_errors as
    with memory as materialized (
        select (m.error ->> 'ring')::bigint as ring, (m.error ->> 'ticket')::bigint as ticket,
               pg_catalog.to_timestamp((m.error ->> 'last_at')::float8) as last_at, m.error
          from pg_catalog.jsonb_array_elements(@extschema@._repl_errors_in_memory()::jsonb) as m (error)
    )
    select greatest(w.last_at, m.last_at) as occurred_at,
           greatest((w.error ->> 'occurrences')::bigint, (m.error ->> 'occurrences')::bigint) as occurrences,
           e.error ->> 'provider' as provider,
           (e.error ->> 'subscription')::name as subscription,
           e.error ->> 'kind' as worker_kind,
           e.error ->> 'relation_name' as relation_name,
           coalesce((m.error ->> 'pid')::int, (w.error ->> 'pid')::int) as pid,
           e.error ->> 'sqlstate' as sqlstate,
           e.error ->> 'message' as message,
           e.error ->> 'detail' as detail,
           e.error ->> 'hint' as hint,
           e.error ->> 'context' as context,
           '0/0'::pg_lsn + (e.error ->> 'finish_lsn')::bigint as finish_lsn,
           pg_catalog.to_timestamp((e.error ->> 'first_at')::float8) as first_occurred_at,
           e.error ->> 'severity' as severity
      from @extschema@._repl_errors w
      full join memory m on m.ring = w.ring and m.ticket = w.ticket
     -- What is written was freed of passwords when it was new.
     cross join lateral (select coalesce(w.error, m.error) as error) e;
comment on view @extschema@.repl_errors is
    'errors of the processes that replicate into this database, with how often each has come since the server started; only where replwarden is preloaded. Those that are older than replwarden.event_retention are removed';
comment on column @extschema@.repl_errors.occurred_at is 'when it came last';
comment on column @extschema@.repl_errors.occurrences is 'how often it has come, from the same kind of process with the same texts';
comment on column @extschema@.repl_errors.provider is 'native or pglogical';
comment on column @extschema@.repl_errors.subscription is 'whom the process worked for; NULL for one that serves all subscriptions';
comment on column @extschema@.repl_errors.worker_kind is 'as in repl_workers';
comment on column @extschema@.repl_errors.relation_name is 'the table here that it was about, as far as the error tells';
comment on column @extschema@.repl_errors.pid is 'the process that had it last';
comment on column @extschema@.repl_errors.sqlstate is 'error code';
comment on column @extschema@.repl_errors.message is 'as the server log has it, without any password';
comment on column @extschema@.repl_errors.detail is 'likewise';
comment on column @extschema@.repl_errors.hint is 'likewise';
comment on column @extschema@.repl_errors.context is 'likewise: which change was being applied';
comment on column @extschema@.repl_errors.finish_lsn is
    'where the transaction that failed ends on the publisher: what ALTER SUBSCRIPTION ... SKIP takes; NULL if the error does not tell';
comment on column @extschema@.repl_errors.first_occurred_at is 'when it came first';
comment on column @extschema@.repl_errors.severity is 'WARNING, ERROR, FATAL or PANIC';

revoke all on function @extschema@._repl_errors_in_memory() from public;
grant execute on function @extschema@._repl_errors_in_memory() to pg_monitor;
grant select on @extschema@.repl_errors to pg_monitor;
