-- What is here of what is published. $1: {tables, types, sequences}, each an array of [schema, name]; $2: OID of the
-- subscription, or 0; $3: who asks, and will own a subscription that there is not yet.
with recursive asked as (
    select x.kind, x.name ->> 0 as schema_name, x.name ->> 1 as object_name
      from (select k.key as kind, json_array_elements(k.value) as name from json_each($1::json) k) x
), chosen (oid) as (
    select c.oid
      from asked a
      join pg_namespace n on n.nspname = a.schema_name
      join pg_class c on c.relnamespace = n.oid and c.relname = a.object_name
     where a.kind = 'tables'
), state (oid, state) as (
    {states}
), {described_tables},
replicating as (
    {role}
), ours as (
    select d.objid as oid
      from pg_depend d
      join pg_extension e on e.oid = d.refobjid and e.extname in ('replwarden', 'pglogical')
     where d.classid = 'pg_proc'::regclass and d.refclassid = 'pg_extension'::regclass and d.deptype = 'e'
), rules as (
    select coalesce(json_agg(json_build_array(t.tgrelid::bigint, a.attname)), '[]') as rules
      from pg_trigger t
      join chosen on chosen.oid = t.tgrelid
      join pg_proc p on p.oid = t.tgfoid and p.proname = '_repl_rule' and p.oid in (select oid from ours)
      join pg_attribute a on a.attrelid = t.tgrelid and a.attnum = t.tgattr[0]
), triggers as (
    select coalesce(json_agg(json_build_object('oid', t.tgrelid::bigint, 'name', t.tgname, 'is_always', t.tgenabled = 'A')
                             order by t.tgname), '[]') as triggers
      from pg_trigger t
      join chosen on chosen.oid = t.tgrelid
     where t.tgenabled in ('A', 'R') and not t.tgisinternal and t.tgfoid not in (select oid from ours)
), keys as (
    select coalesce(json_agg(json_build_object(
               'name', k.conname,
               'table', k.conrelid::bigint,
               'table_name', quote_ident(tn.nspname) || '.' || quote_ident(t.relname),
               'other', k.confrelid::bigint,
               'other_name', quote_ident(rn.nspname) || '.' || quote_ident(r.relname))
           order by tn.nspname, t.relname, k.conname), '[]') as keys
      from pg_constraint k
      join pg_class t on t.oid = k.conrelid
      join pg_namespace tn on tn.oid = t.relnamespace
      join pg_class r on r.oid = k.confrelid
      join pg_namespace rn on rn.oid = r.relnamespace
     where k.contype = 'f' and k.conparentid = 0
       and (k.conrelid in (select oid from chosen) or k.confrelid in (select oid from chosen))
), stored as (
    -- A table that somebody has locked is not looked at, which would wait for it.
    select coalesce(json_agg(distinct s.oid::bigint), '[]') as tables
      from (select oid, oid as storage from chosen union all select oid, below from descendant) s
      join pg_class c on c.oid = s.storage and c.relkind = 'r'
     where case when s.storage not in (select relation from locked) then pg_relation_size(c.oid) > 0 end
), held as (
    select coalesce(json_agg(distinct s.oid::bigint), '[]') as tables
      from (select oid, oid as part from chosen union all select oid, below from descendant) s
     where s.part in (select relation from locked)
), access as (
    select coalesce(json_agg(json_build_object(
               'oid', c.oid::bigint,
               'role', e.rolname,
               'is_row_secured', x.is_row_secured,
               'lacks', x.lacks)
           order by n.nspname, c.relname), '[]') as access
      from chosen
      join pg_class c on c.oid = chosen.oid and c.relkind in ('r', 'p')
      join pg_namespace n on n.oid = c.relnamespace
     cross join replicating p
     -- From 16 on, changes are applied with the rights of the table's owner unless the subscription says otherwise.
      join pg_roles e on e.oid = case when p.runs_as_owner then p.oid else c.relowner end
     cross join lateral (
         select c.relrowsecurity and not (e.rolsuper or e.rolbypassrls)
                and (c.relforcerowsecurity or not pg_has_role(e.oid, c.relowner, 'usage')) as is_row_secured,
                array(select r from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) as r
                       where not has_table_privilege(e.oid, c.oid, r)) as lacks) x
     where x.is_row_secured or x.lacks <> '{}'
)
select json_build_object(
    'tables', (select tables from described),
    'types', (select types from described_types),
    'asked_types', (select coalesce(json_agg(json_build_object(
                               'schema_name', n.nspname, 'type_name', t.typname, 'name', t.typname,
                               'labels', (select coalesce(json_agg(e.enumlabel order by e.enumsortorder), '[]') from pg_enum e
                                           where e.enumtypid = t.oid))), '[]')
                      from asked a
                      join pg_namespace n on n.nspname = a.schema_name
                      join pg_type t on t.typnamespace = n.oid and t.typname = a.object_name
                     where a.kind = 'types'),
    'sequences', (select coalesce(json_agg(json_build_array(n.nspname, c.relname)), '[]')
                    from asked a
                    join pg_namespace n on n.nspname = a.schema_name
                    join pg_class c on c.relnamespace = n.oid and c.relname = a.object_name and c.relkind = 'S'
                   where a.kind = 'sequences'),
    'schemas', (select json_agg(nspname) from pg_namespace),
    'states', (select coalesce(json_agg(json_build_array(s.oid::bigint, s.state)), '[]') from state s),
    'no_longer_published', (select coalesce(json_agg(quote_ident(n.nspname) || '.' || quote_ident(c.relname) order by n.nspname, c.relname), '[]')
                              from state s
                              join pg_class c on c.oid = s.oid
                              join pg_namespace n on n.oid = c.relnamespace
                             where s.oid not in (select oid from chosen)),
    'is_binary', (select bool_or(is_binary) from replicating),
    'rules', (select rules from rules),
    'triggers', (select triggers from triggers),
    'keys', (select keys from keys),
    'stored', (select tables from stored),
    'locked', (select tables from held),
    'access', (select access from access),
    'uses_spi', coalesce(current_setting('pglogical.use_spi', true), 'off') = 'on',
    'database', current_database(),
    'port', current_setting('port'),
    -- Not for every eye.
    'sockets', coalesce(case when pg_has_role($3::oid, 'pg_read_all_settings', 'usage')
                             then current_setting('unix_socket_directories') end, ''),
    'version', current_setting('server_version_num')::int)::text
