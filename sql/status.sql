-- Operators are resolved as this runs, and an exact match of a schema in which others may create comes before a cast.
set local search_path = pg_catalog, pg_temp;

create function @extschema@._repl_subscriptions()
    returns jsonb
    language c volatile security definer
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'repl_subscriptions_wrapper';
comment on function @extschema@._repl_subscriptions() is
    'internal: the rows of repl_subscriptions; LSNs are bytes since 0/0, times seconds since 1970';

create function @extschema@._repl_workers()
    returns table (provider text, subscription text, kind text, relation regclass, pid int, started_at timestamptz,
                   activity text, wait_event text, blocked_by int[])
    language c volatile security definer rows 10
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'repl_workers';
comment on function @extschema@._repl_workers() is
    'internal: the rows of repl_workers';

create function @extschema@._repl_installation()
    returns jsonb
    language c volatile security definer
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'repl_installation_wrapper';
comment on function @extschema@._repl_installation() is
    'internal: versions, and whether anybody watches';

create view @extschema@.repl_subscriptions as
    select s.provider, s.subscription, s.enabled, s.state, s.cause,
           pg_catalog.to_timestamp(s.since) as since,
           s.publisher, s.slot_name, s.publications, s.tables_total, s.tables_ready, s.worker_pid,
           '0/0'::pg_lsn + s.received_lsn as received_lsn,
           '0/0'::pg_lsn + s.applied_lsn as applied_lsn,
           '0/0'::pg_lsn + s.publisher_lsn as publisher_lsn,
           s.lag_bytes,
           pg_catalog.make_interval(secs => round(s.lag::numeric, 1)::float8) as lag,
           pg_catalog.to_timestamp(s.last_message_at) as last_message_at,
           s.apply_errors, s.sync_errors, s.last_error,
           pg_catalog.to_timestamp(s.last_error_at) as last_error_at,
           s.remedy, s.slot_active,
           '0/0'::pg_lsn + s.restart_lsn as restart_lsn,
           s.retained_bytes, s.wal_status, s.safe_wal_size, s.warning,
           round(s.copy_percent::numeric, 1) as copy_percent,
           round(s.copy_bytes_per_second::numeric) as copy_bytes_per_second,
           pg_catalog.make_interval(secs => ceil(s.copy_eta)) as copy_eta,
           pg_catalog.to_timestamp(s.asked_at) as asked_at
      from pg_catalog.jsonb_to_recordset(@extschema@._repl_subscriptions()) as s (
               provider text, subscription name, enabled boolean, state text, cause text, since float8, publisher text,
               slot_name name, publications text[], tables_total int, tables_ready int, worker_pid int,
               received_lsn bigint, applied_lsn bigint, publisher_lsn bigint, lag_bytes bigint, lag float8,
               last_message_at float8, apply_errors bigint, sync_errors bigint, last_error text, last_error_at float8,
               remedy text, slot_active boolean, restart_lsn bigint, retained_bytes bigint, wal_status text,
               safe_wal_size bigint, warning text, copy_percent float8, copy_bytes_per_second float8, copy_eta float8,
               asked_at float8);
comment on view @extschema@.repl_subscriptions is
    'the subscriptions of this database, native and of pglogical: what state each is in, how far it is behind its publisher, and what to do';
comment on column @extschema@.repl_subscriptions.provider is 'native or pglogical';
comment on column @extschema@.repl_subscriptions.subscription is 'its name';
comment on column @extschema@.repl_subscriptions.enabled is 'whether it is switched on';
comment on column @extschema@.repl_subscriptions.state is
    'disabled: switched off. crash_loop: its worker crashes again and again, and the server restarts each time. down: switched on, without apply worker, and the server will start none until somebody acts. retrying: no apply worker that has heard from the publisher at this moment, or one that fails each time on the same transaction; the server tries again by itself. copying: the apply worker runs, and some table''s initial synchronization is not finished. stalled: for replwarden.stall_timeout or longer it waits for a lock, or applies nothing though the publisher has more. catching_up: it applies, and is 10 s or more behind the publisher, waits for a lock, or is at a large transaction. streaming: it applies what comes';
comment on column @extschema@.repl_subscriptions.cause is
    'why it is in that state, as far as the facts say it; NULL where nothing is amiss. disabled, disabled_on_error, crash_loop (its worker crashes, and the server with it), worker_pool_exhausted, launcher_missing, standby, initialization_failed (pglogical), relaunch_backoff (pglogical), publisher_unreachable, authentication_failed, publisher_silent, publisher_overloaded, publisher_transaction (no fault), slot_missing, slot_invalidated, slot_in_use, slot_creation_wait, output_plugin_refused, origins_exhausted, publication_missing, table_missing, column_missing, generated_column_incompatible, duplicate_key, not_null_violation, check_violation, foreign_key_violation, invalid_data, trigger_error, replica_identity, permission_denied, row_security, read_only, lock_wait, deadlock, identity_full_without_index, large_transaction (no fault), wal_receiver_timeout, wal_sender_timeout, synchronous_commit, disk_full, disk_io, out_of_memory, statement_cancelled, apply_delay (no fault), catchup_hang (pglogical), sync_queued (tables wait for their turn, which is no fault), unknown';
comment on column @extschema@.repl_subscriptions.since is
    'when the state began; NULL if it began before the worker of this database did, or if none watches';
comment on column @extschema@.repl_subscriptions.publisher is 'where the connection string leads to; never a password';
comment on column @extschema@.repl_subscriptions.slot_name is 'the replication slot on the publisher';
comment on column @extschema@.repl_subscriptions.publications is 'publications, or replication sets of pglogical';
comment on column @extschema@.repl_subscriptions.tables_total is
    'tables that it knows; while pglogical copies a new subscription, those that the publisher publishes';
comment on column @extschema@.repl_subscriptions.tables_ready is 'those whose initial synchronization is finished';
comment on column @extschema@.repl_subscriptions.worker_pid is 'process of the apply worker';
comment on column @extschema@.repl_subscriptions.received_lsn is
    'how far WAL was received (pg_stat_subscription); NULL for pglogical, which does not tell';
comment on column @extschema@.repl_subscriptions.applied_lsn is
    'everything of the publisher up to here is applied';
comment on column @extschema@.repl_subscriptions.publisher_lsn is
    'how far the publisher''s WAL was at asked_at (pg_current_wal_lsn()); NULL while it does not answer or is not asked';
comment on column @extschema@.repl_subscriptions.lag_bytes is
    'publisher_lsn - applied_lsn in bytes, not below 0; NULL where either is not known';
comment on column @extschema@.repl_subscriptions.lag is
    'how long ago the publisher committed what is not applied yet, at most; 0 when all that it had at asked_at is applied; NULL if not known';
comment on column @extschema@.repl_subscriptions.last_message_at is
    'when the apply worker last heard from the publisher (pg_stat_subscription); NULL for pglogical';
comment on column @extschema@.repl_subscriptions.apply_errors is
    'errors that were counted while applying (pg_stat_subscription_stats, 15 and later); NULL for pglogical';
comment on column @extschema@.repl_subscriptions.sync_errors is
    'likewise while synchronizing tables';
comment on column @extschema@.repl_subscriptions.last_error is
    'the last error of its workers, or what last went wrong in asking the publisher, whichever came later; without any password. repl_errors has the errors whole';
comment on column @extschema@.repl_subscriptions.last_error_at is 'when';
comment on column @extschema@.repl_subscriptions.remedy is
    'SQL that mends the cause, to be pasted here, or on the publisher where a comment says so; NULL where nothing has to be done';
comment on column @extschema@.repl_subscriptions.slot_active is 'whether the publisher''s slot is in use';
comment on column @extschema@.repl_subscriptions.restart_lsn is 'the oldest WAL that the slot holds back on the publisher';
comment on column @extschema@.repl_subscriptions.retained_bytes is 'how much WAL that is';
comment on column @extschema@.repl_subscriptions.wal_status is
    'of the slot (pg_replication_slots, 13 and later): reserved, extended, unreserved or lost';
comment on column @extschema@.repl_subscriptions.safe_wal_size is
    'bytes that the publisher can write before the slot is in danger (max_slot_wal_keep_size); NULL without limit';
comment on column @extschema@.repl_subscriptions.warning is
    'what is going to be a problem: WAL retained on the publisher, tables published and not subscribed, publications that are missing';
comment on column @extschema@.repl_subscriptions.copy_percent is
    'how far the initial copy of all its tables is, by the sizes of the publisher''s tables; NULL if a size is not known';
comment on column @extschema@.repl_subscriptions.copy_bytes_per_second is 'likewise over the last 30 s';
comment on column @extschema@.repl_subscriptions.copy_eta is 'time left at that speed';
comment on column @extschema@.repl_subscriptions.asked_at is 'when the publisher was asked what is shown of it';

create view @extschema@.repl_workers as
    select w.provider, w.subscription::name as subscription, w.kind, w.relation, w.pid, w.started_at, w.activity,
           w.wait_event, w.blocked_by
      from @extschema@._repl_workers() w;
comment on view @extschema@.repl_workers is
    'the processes that replicate into this database, and those that start them';
comment on column @extschema@.repl_workers.provider is 'native or pglogical';
comment on column @extschema@.repl_workers.subscription is 'whom it works for; NULL for one that starts others';
comment on column @extschema@.repl_workers.kind is
    'native: launcher, apply, parallel apply, table synchronization; pglogical: supervisor, manager, apply, sync, copy (the session that receives the initial copy)';
comment on column @extschema@.repl_workers.relation is 'the table that it synchronizes';
comment on column @extschema@.repl_workers.pid is 'process';
comment on column @extschema@.repl_workers.started_at is 'when it was started';
comment on column @extschema@.repl_workers.activity is 'what it does at this moment';
comment on column @extschema@.repl_workers.wait_event is 'as type/event of pg_stat_activity; NULL when it does not wait';
comment on column @extschema@.repl_workers.blocked_by is 'processes that hold, or ask before it for, the lock that it waits for';

create function @extschema@.repl_status(subscription name default null)
    returns setof text
    language c volatile security definer
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'repl_status_wrapper';
comment on function @extschema@.repl_status(name) is
    'a report for people on the subscriptions of this database, or on one of them';

create function @extschema@.repl_snapshot()
    returns jsonb
    language sql volatile
begin atomic
    select pg_catalog.jsonb_build_object(
        'taken_at', pg_catalog.clock_timestamp(),
        'installation', i.facts || pg_catalog.jsonb_build_object(
            'sampled_at', pg_catalog.to_timestamp((i.facts ->> 'sampled_at')::float8)),
        'subscriptions', coalesce((select pg_catalog.jsonb_agg(pg_catalog.to_jsonb(s)) from @extschema@.repl_subscriptions s), '[]'),
        'tables', coalesce((
            select pg_catalog.jsonb_agg(pg_catalog.to_jsonb(t)) from @extschema@.repl_tables t
             where t.state_code is distinct from 'r'
               and not (t.provider = 'pglogical' and coalesce(t.state_code in ('y', ''), false))), '[]'),
        'workers', coalesce((select pg_catalog.jsonb_agg(pg_catalog.to_jsonb(w)) from @extschema@.repl_workers w), '[]'),
        'generated_columns', coalesce((select pg_catalog.jsonb_agg(pg_catalog.to_jsonb(c)) from @extschema@.repl_generated_columns c), '[]'),
        'backfills', coalesce((
            select pg_catalog.jsonb_agg(pg_catalog.to_jsonb(b)) from @extschema@.repl_backfills b
             where b.state in ('queued', 'running')), '[]'))
      from (select @extschema@._repl_installation() as facts) i;
end;
comment on function @extschema@.repl_snapshot() is
    'what repl_status() says, for programs: the rows of the views as JSON, of tables those that are not ready, of backfills those that are not finished';

-- They show what others run and where this server connects to.
revoke all on function @extschema@._repl_subscriptions(), @extschema@._repl_workers(), @extschema@._repl_installation(),
    @extschema@.repl_status(name), @extschema@.repl_snapshot() from public;
grant execute on function @extschema@._repl_subscriptions(), @extschema@._repl_workers(), @extschema@._repl_installation(),
    @extschema@.repl_status(name), @extschema@.repl_snapshot() to pg_monitor;
grant select on @extschema@.repl_subscriptions, @extschema@.repl_workers to pg_monitor;
