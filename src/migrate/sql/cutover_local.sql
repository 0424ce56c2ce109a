-- What there is here of a subscription that is to be cut over. $1: its OID, $2: what the publisher publishes, a JSON array of
-- schemas and names; NULL if it does not tell. Names of tables are quoted where need be.
with recursive published as materialized (
    select p.names ->> 0 as schema_name, p.names ->> 1 as table_name
      from pg_catalog.json_array_elements($2::json) as p (names)
), subscribed as materialized (
{subscribed}
), tree (oid) as (
    select s.relation from subscribed s where s.relation is not null
    union
    select i.inhrelid from tree t join pg_catalog.pg_inherits i on i.inhparent = t.oid
), replicated as materialized (
    select c.oid, c.relkind, c.reltuples, c.relispartition, n.nspname, c.relname,
           pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) as name
      from tree t
      join pg_catalog.pg_class c on c.oid = t.oid and c.relkind in ('r', 'p')
      join pg_catalog.pg_namespace n on n.oid = c.relnamespace
), locked as materialized (
    -- Asking for the size of one would wait.
    select l.relation from pg_catalog.pg_locks l
     where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock' and l.granted
       and l.database = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())
), filled as materialized (
    select r.oid from replicated r
     where r.relkind = 'r' and r.oid not in (select l.relation from locked l) and pg_catalog.pg_relation_size(r.oid) > 0
)
select pg_catalog.json_build_object(
    'tables', (select count(*) from subscribed),
    'unready', (select coalesce(pg_catalog.json_agg(pg_catalog.json_build_array(
                           pg_catalog.quote_ident(s.schema_name) || '.' || pg_catalog.quote_ident(s.table_name), s.code)
                       order by s.schema_name, s.table_name), '[]')
                  from subscribed s where not s.is_ready),
    'absent', (select coalesce(pg_catalog.json_agg(
                          pg_catalog.quote_ident(p.schema_name) || '.' || pg_catalog.quote_ident(p.table_name)
                      order by p.schema_name, p.table_name), '[]')
                 from published p
                where not exists (select from subscribed s
                                   where (s.schema_name, s.table_name) = (p.schema_name, p.table_name))),
    -- They stand still.
    'unpublished', (select coalesce(pg_catalog.json_agg(
                               pg_catalog.quote_ident(s.schema_name) || '.' || pg_catalog.quote_ident(s.table_name)
                           order by s.schema_name, s.table_name), '[]')
                      from subscribed s
                     where $2 is not null
                       and not exists (select from published p
                                        where (s.schema_name, s.table_name) = (p.schema_name, p.table_name))),
    'rules', (select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
                         'relation', pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname),
                         'column', pg_catalog.quote_ident(g.column_name), 'state', g.state, 'error', g.last_error)
                     order by n.nspname, c.relname, g.column_name), '[]')
                from {schema}.repl_generated_columns g
                join pg_catalog.pg_class c on c.oid = g.relation
                join pg_catalog.pg_namespace n on n.oid = c.relnamespace),
    'backfills', (select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
                             'id', b.id, 'relation', b.name, 'state', b.state, 'percent', b.percent::float8)
                         order by b.name), '[]')
                    from (select distinct on (b.relation) b.id, b.state, b.percent,
                                 pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) as name
                            from {schema}.repl_backfills b
                            join pg_catalog.pg_class c on c.oid = b.relation
                            join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                           where b.relation in (select g.relation from {schema}.repl_generated_columns g)
                           order by b.relation, b.id desc) b
                   where b.state <> 'done'),
    'indexes', (select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
                           'name', pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname),
                           'is_partitioned', c.relkind = 'I')
                       order by n.nspname, c.relname), '[]')
                  from replicated r
                  join pg_catalog.pg_index i on i.indrelid = r.oid and not (i.indisvalid and i.indisready)
                  join pg_catalog.pg_class c on c.oid = i.indexrelid
                  join pg_catalog.pg_namespace n on n.oid = c.relnamespace),
    'keys', (select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
                        'schema', r.nspname, 'table', r.relname, 'name', k.conname,
                        'definition', pg_catalog.pg_get_constraintdef(k.oid), 'is_valid', k.convalidated)
                    order by r.nspname, r.relname, k.conname), '[]')
               from replicated r
               join pg_catalog.pg_constraint k on k.conrelid = r.oid and k.contype = 'f' and k.conparentid = 0),
    'detached', {detached},
    'here', (select coalesce(pg_catalog.json_agg(pg_catalog.json_build_array(r.nspname, r.relname)), '[]') from replicated r),
    'triggers', (select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
                            'schema', r.nspname, 'table', r.relname, 'name', t.tgname, 'enabled', t.tgenabled::text)
                        order by r.nspname, r.relname, t.tgname), '[]')
                   from replicated r
                   join pg_catalog.pg_trigger t on t.tgrelid = r.oid
                  where not t.tgisinternal and t.tgenabled in ('D', 'R')
                    -- Those of rules are disabled, for they only keep what the rule is.
                    and not exists (select from pg_catalog.pg_proc p where p.oid = t.tgfoid and p.proname = '_repl_rule')
                    and not exists (select from pg_catalog.pg_depend d
                                     where d.classid = 'pg_proc'::regclass and d.objid = t.tgfoid and d.deptype = 'e'
                                       and d.refobjid in (select e.oid from pg_catalog.pg_extension e
                                                           where e.extname in ('replwarden', 'pglogical')))),
    'unanalyzed', (select coalesce(pg_catalog.json_agg(r.name order by r.name), '[]')
                     from replicated r
                    where r.oid in (select f.oid from filled f)
                      and (r.reltuples < 0
                           or r.reltuples > 0 and not exists (select from pg_catalog.pg_statistic s where s.starelid = r.oid))
                       -- Autovacuum never looks at these.
                       or r.relkind = 'p' and not r.relispartition and r.reltuples < 0
                          and exists (select from pg_catalog.pg_partition_tree(r.oid) p
                                       where p.relid in (select f.oid from filled f))),
    'is_standby', pg_catalog.pg_is_in_recovery(),
    'database', pg_catalog.current_database(),
    'is_read_only', (select s.reset_val = 'on' from pg_catalog.pg_settings s where s.name = 'default_transaction_read_only'),
    'read_only_settings', (select coalesce(pg_catalog.json_agg(pg_catalog.json_build_array(d.datname, r.rolname)), '[]')
                             from pg_catalog.pg_db_role_setting x
                             left join pg_catalog.pg_database d on d.oid = x.setdatabase
                             left join pg_catalog.pg_roles r on r.oid = x.setrole
                            where (x.setdatabase = 0 or d.datname = pg_catalog.current_database())
                              and exists (select from unnest(x.setconfig) as c (setting)
                                           where c.setting in ('default_transaction_read_only=on',
                                                               'default_transaction_read_only=true',
                                                               'default_transaction_read_only=1',
                                                               'default_transaction_read_only=yes'))))::text
