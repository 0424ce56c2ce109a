-- What a publisher is like before its subscriber takes over: one JSON document. $1: publications or replication sets, a JSON
-- array, $2: the slot. It may be as old as 10.
with recursive published as (
{published}
), tree (oid) as (
    select p.relation from published p
    union
    select i.inhrelid from tree t join pg_inherits i on i.inhparent = t.oid
), replicated as (
    select c.oid, n.nspname, c.relname
      from tree t join pg_class c on c.oid = t.oid join pg_namespace n on n.oid = c.relnamespace
), session as (
    select a.application_name, a.usename, a.backend_xid is not null as is_writing
      from pg_stat_activity a
     where a.datname = current_database() and a.pid <> pg_backend_pid()
       -- NULL: of others, and our role may not see it. A background worker may write, too.
       and (coalesce(a.backend_type, 'client backend') = 'client backend'
            or a.backend_xid is not null and a.backend_type <> 'autovacuum worker')
       -- What watches for the subscriber.
       and coalesce(a.application_name, '') <> 'replwarden'
       and a.usename is not null
       and not exists (select from pg_stat_replication r where r.pid = a.pid)
       and not exists (select from pg_replication_slots s where s.active_pid = a.pid)
)
select json_build_object(
    'lsn', case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end - '0/0',
    'database', current_database(),
    'slot', (select json_build_object(
                 'confirmed_lsn', s.confirmed_flush_lsn - '0/0',
                 'replay_lsn', (select max(r.replay_lsn - '0/0') from pg_stat_replication r where r.pid = s.active_pid))
               from pg_replication_slots s where s.slot_name = $2),
    'tables', (select coalesce(json_agg(json_build_array(n.nspname, c.relname)), '[]')
                 from published p
                 join pg_class c on c.oid = p.relation
                 join pg_namespace n on n.oid = c.relnamespace),
    'keys', (select coalesce(json_agg(json_build_object(
                        'schema', r.nspname, 'table', r.relname, 'name', k.conname,
                        'definition', pg_get_constraintdef(k.oid), 'is_valid', k.convalidated)
                    order by r.nspname, r.relname, k.conname), '[]')
               from replicated r
               join pg_constraint k on k.conrelid = r.oid and k.contype = 'f'
              where coalesce(to_jsonb(k) ->> 'conparentid', '0') = '0'),
    'triggers', (select coalesce(json_agg(json_build_array(r.nspname, r.relname, t.tgname)), '[]')
                   from replicated r
                   join pg_trigger t on t.tgrelid = r.oid
                  where not t.tgisinternal and t.tgenabled in ('O', 'A')),
    'is_read_only', (select s.reset_val = 'on' from pg_settings s where s.name = 'default_transaction_read_only'),
    'sees_all', pg_has_role('pg_read_all_stats', 'usage'),
    'prepared', (select count(*) from pg_prepared_xacts p where p.database = current_database()),
    'sessions', (select coalesce(json_agg(json_build_object(
                            'application', s.application_name, 'user', s.usename, 'number', s.number, 'writing', s.writing)
                        order by s.writing desc, s.number desc, s.application_name, s.usename), '[]')
                   from (select s.application_name, s.usename, count(*) as number,
                                count(*) filter (where s.is_writing) as writing
                           from session s group by s.application_name, s.usename) s))
