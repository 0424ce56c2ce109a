-- Operators are resolved as this runs, and an exact match of a schema in which others may create comes before a cast.
set local search_path = pg_catalog, pg_temp;

-- Why a rule does not do its work everywhere; NULL when it does.
create function @extschema@._repl_rule_problem(rule oid)
    returns text
    language sql stable
begin atomic
    with recursive rule as (
        select t.oid, t.tgrelid from pg_catalog.pg_trigger t where t.oid = rule
    ), tree as (
        select p.relid::oid as oid, p.isleaf from rule r, pg_catalog.pg_partition_tree(r.tgrelid) p
        union
        select r.tgrelid, true from rule r
         where not exists (select from pg_catalog.pg_partition_tree(r.tgrelid))
    ), copy as (
        select r.oid, r.tgrelid from rule r
        union all
        select t.oid, t.tgrelid from copy c join pg_catalog.pg_trigger t on t.tgparentid = c.oid
    ), trigger_state as (
        select tree.oid as relation, g.tgenabled as generate,
               c.tgname as rule_name, c.tgenabled as rule_enabled
          from tree
          left join pg_catalog.pg_trigger g on g.tgrelid = tree.oid and g.tgname = 'zzz_replwarden'
          left join copy on copy.tgrelid = tree.oid
          left join pg_catalog.pg_trigger c on c.oid = copy.oid
    ), problem (rank, text) as (
        select 1, pg_catalog.format(
                   'trigger zzz_replwarden or that of the rule is missing on %s: set the rule again',
                   s.relation::regclass)
          from trigger_state s where s.generate is null or s.rule_name is null
        union all
        select 2, pg_catalog.format(
                   'its triggers on %s were enabled or disabled: ALTER TABLE %s ENABLE ALWAYS TRIGGER zzz_replwarden, DISABLE TRIGGER %I',
                   s.relation::regclass, s.relation::regclass, s.rule_name)
          from trigger_state s where s.generate <> 'A' or s.rule_enabled <> 'D'
        union all
        select 3, pg_catalog.format(
                   'the owner of %s may not execute a function of its expression: GRANT EXECUTE ON FUNCTION %s TO %I',
                   c.oid::regclass, d.refobjid::regprocedure, pg_catalog.pg_get_userbyid(c.relowner))
          from rule r
          join pg_catalog.pg_class c on c.oid = r.tgrelid
          join pg_catalog.pg_depend d on d.classid = 'pg_trigger'::regclass and d.objid = r.oid
               and d.refclassid = 'pg_proc'::regclass
         where not pg_catalog.has_function_privilege(c.relowner, d.refobjid, 'execute')
        union all
        select 4, pg_catalog.format(
                   '%s has no primary key or replica identity index, so that replication may miss rows: ALTER TABLE %s ADD PRIMARY KEY (...)',
                   tree.oid::regclass, tree.oid::regclass)
          from tree
         where tree.isleaf
           and not exists (select from pg_catalog.pg_index i
                            where i.indrelid = tree.oid and i.indisvalid and i.indimmediate
                              and (i.indisprimary or i.indisreplident))
        union all
        select 5, pg_catalog.format(
                   'trigger %I on %s fires after the columns are derived: ALTER TRIGGER %I ON %s RENAME TO %I',
                   t.tgname, t.tgrelid::regclass, t.tgname, t.tgrelid::regclass, 'a_' || t.tgname)
          from tree join pg_catalog.pg_trigger t on t.tgrelid = tree.oid
         where not t.tgisinternal and t.tgname > 'zzz_replwarden'::name collate "C"
           and t.tgtype & 3 = 3 and t.tgtype & 20 <> 0
    )
    select problem.text from problem order by problem.rank, problem.text limit 1;
end;
comment on function @extschema@._repl_rule_problem(oid) is
    'internal: why a rule does not do its work everywhere';

create view @extschema@.repl_generated_columns as
    select t.tgrelid::regclass as relation,
           a.attname as column_name,
           @extschema@._repl_rule_expression(t.oid) as expression,
           -- pg_trigger keeps arguments as bytes, each ended by a zero.
           pg_catalog.split_part(pg_catalog.encode(t.tgargs, 'escape'), '\000', 1) as on_error,
           case when problem.text is not null then 'broken'
                when b.state in ('queued', 'running') then 'backfilling'
                when f.rows > 0 or b.state = 'failed' then 'failing'
                else 'live' end as state,
           coalesce(f.rows, 0) as rows_failed,
           coalesce(problem.text,
                    case when b.state = 'failed' then pg_catalog.format('backfill %s failed: %s', b.id, b.error) end,
                    f.last_error) as last_error,
           coalesce(case when b.state = 'failed' then b.finished_at end, f.last_error_at) as last_error_at
      from pg_catalog.pg_trigger t
      join pg_catalog.pg_attribute a on a.attrelid = t.tgrelid and a.attnum = t.tgattr[0]
      left join @extschema@._repl_failure_counts() f on f.trigger = t.oid
      left join lateral (
          select l.id, l.state, l.error, l.finished_at from @extschema@.repl_backfills l
           where l.relation = t.tgrelid order by l.id desc limit 1) b on true
      cross join lateral (select @extschema@._repl_rule_problem(t.oid) as text offset 0) problem
     where t.tgfoid = '@extschema@._repl_rule'::regproc and t.tgparentid = 0;
comment on view @extschema@.repl_generated_columns is
    'derived columns: their rules, and whether they work';
comment on column @extschema@.repl_generated_columns.relation is 'the table, or the partitioned table for all of its partitions';
comment on column @extschema@.repl_generated_columns.column_name is 'the plain column that is derived';
comment on column @extschema@.repl_generated_columns.expression is 'what it is derived from';
comment on column @extschema@.repl_generated_columns.on_error is
    'fail: an error of the expression is the statement''s error; null: the column becomes NULL and the row is counted';
comment on column @extschema@.repl_generated_columns.state is
    'live; backfilling: a backfill of the table is queued or running; failing: rows became NULL because the expression failed, or the last backfill failed; broken: see last_error';
comment on column @extschema@.repl_generated_columns.rows_failed is
    'rows that became NULL since the rule was set, a backfill was asked for, or the server crashed, whichever came last';
comment on column @extschema@.repl_generated_columns.last_error is
    'what is broken and how to mend it, or why the last backfill failed, or the error of the last such row; errors only for the table''s owner and pg_monitor';
comment on column @extschema@.repl_generated_columns.last_error_at is 'when that backfill failed, or the last such row was written';
grant select on @extschema@.repl_generated_columns to public;
