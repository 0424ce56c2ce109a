-- Operators are resolved as this runs, and an exact match of a schema in which others may create comes before a cast.
set local search_path = pg_catalog, pg_temp;

create function @extschema@.repl_backfill(relation regclass, workers int default 1)
    returns bigint
    language c volatile
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'repl_backfill_wrapper';
comment on function @extschema@.repl_backfill(regclass, int) is
    'has background workers bring up the rows whose derived columns are not as their rules say; returns the id to find in repl_backfills, NULL if the table is empty; workers: how many at once';

create function @extschema@.repl_cancel_backfill(id bigint)
    returns boolean
    language c volatile
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'repl_cancel_backfill_wrapper';
comment on function @extschema@.repl_cancel_backfill(bigint) is
    'ends a backfill, which keeps what it has done; false if it had ended already';

create function @extschema@._repl_ask_for_worker()
    returns void
    language c volatile
    as 'MODULE_PATHNAME', 'repl_ask_for_worker_wrapper';
comment on function @extschema@._repl_ask_for_worker() is
    'internal: has the launcher start the worker of this database';

create table @extschema@._repl_backfills (
    id bigint generated always as identity primary key,
    relation regclass not null,
    columns name[] not null,
    workers int not null,
    state text not null default 'queued'
        check (state in ('queued', 'running', 'done', 'cancelled', 'failed')),
    -- System identifier and database: elsewhere the positions mean nothing.
    origin text not null,
    -- Rows that it or a later one has written are counted already where they fail.
    first_transaction xid8 not null default pg_catalog.pg_current_xact_id(),
    queued_at timestamptz not null default clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz,
    blocks_total bigint not null default 0,
    -- Of ranges that are no longer kept.
    rows_scanned bigint not null default 0,
    rows_changed bigint not null default 0,
    error text
);
comment on table @extschema@._repl_backfills is
    'internal: backfills, shown by repl_backfills';
comment on sequence @extschema@._repl_backfills_id_seq is 'internal: ids of backfills';
create index on @extschema@._repl_backfills (relation);

create table @extschema@._repl_backfill_ranges (
    id bigint generated always as identity primary key,
    backfill bigint not null,
    -- The table or partition, and the file whose blocks are meant.
    relation oid not null,
    filenode oid not null,
    first_block bigint not null,
    next_block bigint not null,
    next_offset int not null default 1,
    end_block bigint not null,
    -- Left behind because others had rows locked.
    locked boolean not null default false,
    rows_scanned bigint not null default 0,
    rows_changed bigint not null default 0,
    rows_per_second double precision,
    blocks_per_second double precision,
    worked_at timestamptz
) with (fillfactor = 50);
comment on table @extschema@._repl_backfill_ranges is
    'internal: what is left to do of each backfill; finished where next_block = end_block';
comment on sequence @extschema@._repl_backfill_ranges_id_seq is 'internal: ids of ranges';
create index on @extschema@._repl_backfill_ranges (backfill);

-- A dump takes along what is not finished; in the restored database it begins again.
select pg_catalog.pg_extension_config_dump('@extschema@._repl_backfills', $$where state in ('queued', 'running')$$);
select pg_catalog.pg_extension_config_dump('@extschema@._repl_backfills_id_seq', '');

-- Where this subscriber's publication FOR ALL TABLES is subscribed to by a server that has the extension too, the rows of
-- these tables are not for that server.
create function @extschema@._repl_ignore_replicated()
    returns trigger
    language c
    as 'MODULE_PATHNAME', 'repl_ignore_replicated';
comment on function @extschema@._repl_ignore_replicated() is
    'internal: keeps replicated rows out of a table that is this server''s own affair';
create trigger ignore_replicated before insert or update or delete on @extschema@._repl_backfills
    for each row execute function @extschema@._repl_ignore_replicated();
alter table @extschema@._repl_backfills enable replica trigger ignore_replicated;
create trigger ignore_replicated before insert or update or delete on @extschema@._repl_backfill_ranges
    for each row execute function @extschema@._repl_ignore_replicated();
alter table @extschema@._repl_backfill_ranges enable replica trigger ignore_replicated;

-- Why a backfill that is queued or running does not get on; NULL when it does, or has only just been asked for.
create function @extschema@._repl_backfill_problem(backfill bigint)
    returns text
    language sql stable
begin atomic
    select case
        -- The primary's workers are not seen from here.
        when pg_catalog.pg_is_in_recovery() then null
        when pg_catalog.current_setting('replwarden.max_backfill_workers', true) = '0' then
            'paused: replwarden.max_backfill_workers is 0'
        when exists (select from pg_catalog.pg_locks l
                      where l.locktype = 'object' and l.granted
                        and l.database = (select d.oid from pg_catalog.pg_database d
                                           where d.datname = pg_catalog.current_database())
                        and l.classid = '@extschema@._repl_backfills'::regclass and l.objid = b.id::oid) then
            (select pg_catalog.format('rows in %s blocks are locked by other transactions; waiting for them',
                                      sum(r.end_block - r.next_block))
               from @extschema@._repl_backfill_ranges r
              where r.backfill = b.id and r.next_block < r.end_block
             having pg_catalog.bool_and(r.locked))
        -- One that is queued gets its worker in a moment.
        when b.state = 'running' or pg_catalog.clock_timestamp() - b.queued_at > interval '10 seconds' then
            pg_catalog.format('no worker is at it: SELECT repl_backfill(%L); the server log may say why', b.relation)
        end
      from @extschema@._repl_backfills b where b.id = _repl_backfill_problem.backfill;
end;
comment on function @extschema@._repl_backfill_problem(bigint) is
    'internal: why a backfill does not get on';

create view @extschema@.repl_backfills as
    select b.id, b.relation, b.columns, b.state,
           b.blocks_total,
           case when b.state = 'done' then b.blocks_total
                else greatest(b.blocks_total - coalesce(r.blocks_left, b.blocks_total), 0) end as blocks_done,
           b.rows_changed + coalesce(r.rows_changed, 0)::bigint as rows_changed,
           case when b.state = 'done' then 100.0
                when b.blocks_total > 0 then
                    round(100.0 * greatest(b.blocks_total - coalesce(r.blocks_left, b.blocks_total), 0) / b.blocks_total, 1)
           end as percent,
           case when b.state in ('queued', 'running') then round(r.rows_per_second::numeric)
                when b.finished_at > b.started_at then
                    round((b.rows_scanned + coalesce(r.rows_scanned, 0)) / extract(epoch from b.finished_at - b.started_at))
           end as rows_per_second,
           case when b.state in ('queued', 'running') and r.blocks_per_second > 0 then
               pg_catalog.make_interval(secs => ceil(r.blocks_left / r.blocks_per_second))
           end as eta,
           b.workers, b.started_at, b.finished_at,
           case when t.may_see or b.error is null then
                    coalesce(b.error, case when b.state in ('queued', 'running') then @extschema@._repl_backfill_problem(b.id) end)
                else '<insufficient privilege>' end as error
      from @extschema@._repl_backfills b
      cross join lateral (
          select coalesce((select pg_catalog.pg_has_role(c.relowner, 'usage')
                             from pg_catalog.pg_class c where c.oid = b.relation), false)
                 or pg_catalog.pg_has_role('pg_monitor', 'usage') as may_see) t
      left join lateral (
          select sum(r.end_block - r.next_block)::bigint as blocks_left,
                 sum(r.rows_scanned) as rows_scanned,
                 sum(r.rows_changed) as rows_changed,
                 sum(r.rows_per_second) filter (where r.is_current) as rows_per_second,
                 sum(r.blocks_per_second) filter (where r.is_current) as blocks_per_second
            from (select r.*,
                         r.next_block < r.end_block
                         and r.worked_at > pg_catalog.clock_timestamp() - interval '10 seconds' as is_current
                    from @extschema@._repl_backfill_ranges r where r.backfill = b.id) r) r on true;
comment on view @extschema@.repl_backfills is
    'backfills of derived columns: what runs, how far it is, how earlier ones ended';
comment on column @extschema@.repl_backfills.id is 'as repl_backfill() and repl_set_expression() have returned it';
comment on column @extschema@.repl_backfills.relation is 'the table, or the partitioned table with all of its partitions';
comment on column @extschema@.repl_backfills.columns is 'the derived columns that the table had when the backfill was asked for';
comment on column @extschema@.repl_backfills.state is 'queued, running, done, cancelled or failed';
comment on column @extschema@.repl_backfills.blocks_total is 'blocks of 8 kB (block_size) that the table had then';
comment on column @extschema@.repl_backfills.blocks_done is 'those whose rows are right';
comment on column @extschema@.repl_backfills.rows_changed is 'rows that were wrong and have a new version';
comment on column @extschema@.repl_backfills.percent is 'blocks_done of blocks_total';
comment on column @extschema@.repl_backfills.rows_per_second is
    'rows looked at each second: at present while it runs, on average when it has ended';
comment on column @extschema@.repl_backfills.eta is 'time left at the present speed';
comment on column @extschema@.repl_backfills.workers is 'at most so many workers at once; see replwarden.max_backfill_workers, too';
comment on column @extschema@.repl_backfills.started_at is 'when a worker began';
comment on column @extschema@.repl_backfills.finished_at is 'when it ended, whichever way';
comment on column @extschema@.repl_backfills.error is
    'why it failed or was cancelled, with the key of the row, or why it does not get on at present; for the table''s owner and pg_monitor';
grant select on @extschema@.repl_backfills to public;

select @extschema@._repl_ask_for_worker();
