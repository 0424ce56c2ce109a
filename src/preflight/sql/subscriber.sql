-- What this server is like, as one JSON document. $1: OID of the subscription, or 0; $2: the role that owns it or will.
select json_build_object(
    'version', current_setting('server_version_num')::int,
    'server_version', split_part(current_setting('server_version'), ' ', 1),
    'is_in_recovery', pg_is_in_recovery(),
    'started_at', (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint,
    'convertible', (select coalesce(json_agg(pg_encoding_to_char(c.conforencoding)), '[]')
                      from pg_conversion c, pg_database d
                     where d.datname = current_database() and c.contoencoding = d.encoding and c.condefault),
    'database', (select json_build_object('name', d.datname, 'encoding', pg_encoding_to_char(d.encoding), 'row', to_jsonb(d))
                   from pg_database d where d.datname = current_database()),
    'settings', (select json_object_agg(s.name, json_build_object('value', s.setting, 'reset', s.reset_val, 'unit', s.unit))
                   from pg_settings s
                  where s.name in ('shared_preload_libraries', 'max_logical_replication_workers', 'max_replication_slots',
                                   'max_sync_workers_per_subscription', 'max_worker_processes', 'wal_receiver_timeout',
                                   'max_active_replication_origins', 'track_commit_timestamp', 'data_directory',
                                   'pglogical.synchronous_commit')),
    'background_workers', (select count(*) from pg_stat_get_activity(null) a
                            where a.backend_type not in ('client backend', 'autovacuum launcher', 'autovacuum worker',
                                      'checkpointer', 'background writer', 'walwriter', 'walsender', 'walreceiver', 'startup',
                                      'archiver', 'logger', 'stats collector', 'standalone backend', 'slotsync worker',
                                      'walsummarizer', 'io worker', 'io_worker')),
    'replication_workers', (select count(*) from pg_stat_get_activity(null) a
                             where a.backend_type like 'logical replication %worker'),
    -- Of all databases, this one left out.
    'other_subscriptions', (select count(*) from pg_subscription s where s.subenabled and s.oid::bigint <> $1),
    'origins', (select count(*) from pg_replication_origin),
    'extensions', (select json_object_agg(e.extname, e.extversion) from pg_extension e),
    'available', (select coalesce(json_agg(e.name), '[]') from pg_available_extensions() e),
    -- What holds for the owner's workers here: the first of role and database, role, database, and everybody.
    'owner_settings', (select coalesce(json_agg(json_build_object('name', o.name, 'value', o.value,
                                  'role', o.rolname, 'database', o.datname, 'is_own', o.is_own)), '[]')
                         from (select distinct on (x.name) x.*
                                 from (select split_part(c.setting, '=', 1) as name,
                                              substr(c.setting, strpos(c.setting, '=') + 1) as value,
                                              r.rolname, d.datname, true as is_own,
                                              case when r.oid is not null and d.oid is not null then 1
                                                   when r.oid is not null then 2
                                                   when d.oid is not null then 3 else 4 end as place
                                         from pg_db_role_setting s
                                         left join pg_roles r on r.oid = s.setrole
                                         left join pg_database d on d.oid = s.setdatabase
                                        cross join lateral unnest(s.setconfig) as c (setting)
                                        where (s.setrole = 0 or r.rolname = $2)
                                          and (s.setdatabase = 0 or d.datname = current_database())
                                       union all
                                       select g.name, case when g.source in ('default', 'configuration file', 'command line')
                                                           then g.setting || coalesce(g.unit, '') else g.boot_val || coalesce(g.unit, '') end,
                                              null, null, false, 5
                                         from pg_settings g) x
                                where x.name in ('default_transaction_read_only', 'lock_timeout', 'transaction_timeout')
                                order by x.name, x.place) o),
    'owner', (select json_build_object('name', o.rolname, 'is_superuser', o.rolsuper) from pg_roles o where o.rolname = $2),
    'subscription', (select to_jsonb(s) - 'subconninfo' from pg_subscription s where s.oid::bigint = $1),
    -- Whose tables the owner of the subscription cannot become.
    'unreachable_owners', (select coalesce(json_agg(distinct w.rolname), '[]')
                             from pg_subscription_rel y
                             join pg_class c on c.oid = y.srrelid
                             join pg_roles w on w.oid = c.relowner
                             join pg_roles o on o.rolname = $2
                            where y.srsubid::bigint = $1
                              and current_setting('server_version_num')::int >= 160000
                              and not case when current_setting('server_version_num')::int >= 160000
                                           then pg_has_role(o.oid, w.oid, 'SET') end))::text
