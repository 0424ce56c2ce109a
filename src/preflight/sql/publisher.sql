-- What a publisher (10 and later) tells of itself, as one JSON document. $1: publications.
select json_build_object(
    'version', current_setting('server_version_num')::int,
    'server_version', split_part(current_setting('server_version'), ' ', 1),
    'user', r.rolname,
    'is_superuser', r.rolsuper,
    'may_replicate', r.rolreplication or exists (
        select from pg_roles m where m.rolname = 'rds_replication' and pg_has_role(r.oid, m.oid, 'MEMBER')),
    'reads_settings', pg_has_role(r.oid, (select oid from pg_roles where rolname = 'pg_read_all_settings'), 'USAGE'),
    'reads_stats', pg_has_role(r.oid, (select oid from pg_roles where rolname = 'pg_read_all_stats'), 'USAGE'),
    'is_in_recovery', pg_is_in_recovery(),
    'started_at', (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint,
    'database', (select json_build_object('name', d.datname, 'encoding', pg_encoding_to_char(d.encoding), 'row', to_jsonb(d))
                   from pg_database d where d.datname = current_database()),
    'settings', (select json_object_agg(s.name, json_build_object('value', s.setting, 'reset', s.reset_val, 'unit', s.unit))
                   from pg_settings s
                  where s.name in ('wal_level', 'max_replication_slots', 'max_wal_senders', 'max_wal_size',
                                   'max_slot_wal_keep_size', 'wal_sender_timeout', 'idle_replication_slot_timeout',
                                   'logical_decoding_work_mem', 'output_plugin_libraries', 'shared_preload_libraries',
                                   'statement_timeout', 'transaction_timeout', 'pglogical.conflict_resolution',
                                   'rds.logical_replication', 'cloudsql.logical_decoding', 'azure.extensions')),
    'walsenders', (select count(*) from pg_stat_replication),
    'slots', (select coalesce(json_agg(json_build_object(
                  'name', s.slot_name,
                  'is_temporary', s.temporary,
                  'retained', case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
                                   else pg_current_wal_lsn() end - s.restart_lsn,
                  'row', to_jsonb(s))), '[]')
                from pg_replication_slots s),
    -- Of others it is seen that they write, and not since when.
    'transactions', (select json_build_object(
                         'count', count(*),
                         'hidden', count(*) filter (where a.xact_start is null),
                         'pid', (array_agg(a.pid order by a.xact_start))[1],
                         'seconds', max(extract(epoch from clock_timestamp() - a.xact_start)))
                       from pg_stat_activity a where a.backend_xid is not null),
    'prepared', (select coalesce(json_agg(json_build_object(
                     'gid', p.gid, 'database', p.database,
                     'seconds', extract(epoch from clock_timestamp() - p.prepared))), '[]')
                   from pg_prepared_xacts p),
    'publications', (select coalesce(json_agg(p.pubname), '[]') from pg_publication p where p.pubname = any($1::text[])),
    'extensions', (select coalesce(json_agg(json_build_object('name', e.extname, 'version', e.extversion,
                       'is_used', e.oid = any (array(
                           select d.refobjid
                             from pg_depend d
                             join pg_type t on t.oid = d.objid
                            cross join lateral unnest(array[t.oid, t.typarray]) as u (oid)
                             join pg_attribute a on a.atttypid = u.oid and a.attnum > 0 and not a.attisdropped
                             join pg_class c on c.oid = a.attrelid and c.relkind in ('r', 'p') and c.relpersistence = 'p'
                            where d.classid = 'pg_type'::regclass and d.refclassid = 'pg_extension'::regclass and d.deptype = 'e'
                              and not exists (select from pg_depend o where o.classid = 'pg_class'::regclass
                                                 and o.objid = c.oid and o.deptype = 'e'))))), '[]')
                     from pg_extension e),
    'uses_pglogical', (select has_schema_privilege(n.oid, 'USAGE') from pg_namespace n where n.nspname = 'pglogical'))
  from pg_roles r where r.rolname = current_user
