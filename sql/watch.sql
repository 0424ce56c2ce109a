-- Operators are resolved as this runs, and an exact match of a schema in which others may create comes before a cast.
set local search_path = pg_catalog, pg_temp;

create table @extschema@._repl_events (
    id bigint generated always as identity primary key,
    occurred_at timestamptz not null,
    provider text not null,
    subscription_id bigint,
    subscription name,
    severity text not null check (severity in ('info', 'warning', 'critical')),
    event text not null,
    cause text,
    detail jsonb not null,
    -- What begins, goes on or ends with it.
    episode text,
    -- It goes on, and this is the last event of it.
    is_open boolean not null default false
);
comment on table @extschema@._repl_events is
    'internal: events, shown by repl_events';
comment on column @extschema@._repl_events.id is 'in the order in which they were written';
comment on column @extschema@._repl_events.occurred_at is 'when';
comment on column @extschema@._repl_events.provider is 'native or pglogical';
comment on column @extschema@._repl_events.subscription_id is 'OID of the subscription, or pglogical''s sub_id';
comment on column @extschema@._repl_events.subscription is 'its name at that time';
comment on column @extschema@._repl_events.severity is 'info, warning or critical';
comment on column @extschema@._repl_events.event is 'what has happened, in a word';
comment on column @extschema@._repl_events.cause is 'why, in a word';
comment on column @extschema@._repl_events.detail is 'what was found';
comment on column @extschema@._repl_events.episode is 'what begins, goes on or ends with it';
comment on column @extschema@._repl_events.is_open is 'whether that goes on; true for the last event of it only';
comment on sequence @extschema@._repl_events_id_seq is 'internal: ids of events';
create index on @extschema@._repl_events (occurred_at);
create index on @extschema@._repl_events (episode) where is_open;
create index on @extschema@._repl_events (provider, subscription_id, occurred_at)
    where event in ('crash_loop_broken', 'enabled', 'disabled_ended');

create trigger ignore_replicated before insert or update or delete on @extschema@._repl_events
    for each row execute function @extschema@._repl_ignore_replicated();
alter table @extschema@._repl_events enable replica trigger ignore_replicated;

create view @extschema@.repl_events as
    select e.id, e.occurred_at, e.subscription, e.severity, e.event, e.cause, e.detail
      from @extschema@._repl_events e;
comment on view @extschema@.repl_events is
    'what has happened to the subscriptions of this database; each is also a notification on the channel replwarden, and a line of the server log; kept for replwarden.event_retention';
comment on column @extschema@.repl_events.id is 'in the order in which they were written';
comment on column @extschema@.repl_events.occurred_at is
    'when it happened or began, which may be a little before it was certain';
comment on column @extschema@.repl_events.subscription is 'its name at that time; NULL where it concerns none, or all';
comment on column @extschema@.repl_events.severity is
    'info: nothing to do. warning: something will go wrong, or goes wrong and may mend itself. critical: replication stands still until somebody acts';
comment on column @extschema@.repl_events.event is
    'a state of repl_subscriptions when it begins, or when its cause is another: stalled, retrying, down, disabled, crash_loop, copying, catching_up; hazard: something that will go wrong. The same with _ended when it is over. enabled, disabled, worker_restarted: an act of somebody, named in detail';
comment on column @extschema@.repl_events.cause is 'as in repl_subscriptions and repl_diagnose()';
comment on column @extschema@.repl_events.detail is
    'provider; finding: what was found, in a sentence; evidence; remedy: SQL that mends it; since: when it began; seconds: how long it lasted, when it has ended; previous_cause, when it is another; object: where a hazard is; by: whose act it was';

create function @extschema@.repl_enable(subscription name)
    returns void
    language c volatile
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'repl_enable_wrapper';
comment on function @extschema@.repl_enable(name) is
    'switches a subscription on, native or of pglogical: with the rights of the caller, when the transaction commits';

create function @extschema@.repl_disable(subscription name)
    returns void
    language c volatile
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'repl_disable_wrapper';
comment on function @extschema@.repl_disable(name) is
    'switches a subscription off, native or of pglogical: with the rights of the caller, when the transaction commits';

create function @extschema@.repl_restart_worker(subscription name)
    returns boolean
    language c volatile
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'repl_restart_worker_wrapper';
comment on function @extschema@.repl_restart_worker(name) is
    'ends the apply worker of a subscription, so that another one is started, with the rights of the caller; of pglogical also where none runs because the last one has failed; false if there is nothing to restart: the server will start one by itself';

grant select on @extschema@.repl_events to pg_monitor;

create function @extschema@._repl_findings(subscription name)
    returns text
    language c volatile security definer
    set search_path = pg_catalog, pg_temp
    as 'MODULE_PATHNAME', 'repl_findings_wrapper';
comment on function @extschema@._repl_findings(name) is
    'internal: the rows of repl_diagnose() as JSON';

create function @extschema@.repl_diagnose(subscription name default null)
    returns table (subscription name, severity text, cause text, finding text, evidence jsonb, remedy text)
    language sql volatile rows 10
begin atomic
    select f.subscription, f.severity, f.cause, f.finding, f.evidence, f.remedy
      from pg_catalog.jsonb_to_recordset(@extschema@._repl_findings($1)::jsonb) as f (
               subscription name, severity text, cause text, finding text, evidence jsonb, remedy text);
end;
comment on function @extschema@.repl_diagnose(name) is
    'what is found to be wrong, or about to go wrong, with the subscriptions of this database or one of them, the worst first: cause in a word, finding in a sentence, the facts behind it, and SQL that mends it. Where no worker watches, it asks the publishers itself if a superuser calls it';

revoke all on function @extschema@._repl_findings(name), @extschema@.repl_diagnose(name) from public;
grant execute on function @extschema@._repl_findings(name), @extschema@.repl_diagnose(name) to pg_monitor;
