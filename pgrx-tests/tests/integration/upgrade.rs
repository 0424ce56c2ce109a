//! An installation of an earlier version that is updated is the same as a new one.

use crate::database::Database;

/// All that belongs to the extension, as far as SQL can tell: definitions, comments, rights, what a dump takes along.
const CATALOG: &str = r#"
    with member as (
        select d.classid, d.objid from pg_depend d
         where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e'
           and d.refobjid = (select oid from pg_extension where extname = 'replwarden')
    ), relation as (
        select c.* from member m join pg_class c on m.classid = 'pg_class'::regclass and c.oid = m.objid
    )
    select 'member ' || pg_describe_object(classid, objid, 0) || ' comment '
           || coalesce(obj_description(objid, (select relname from pg_class where oid = classid)), '-')
      from member
    union all
    select 'function ' || pg_get_functiondef(p.oid) || coalesce(p.proacl::text, '-')
      from member m join pg_proc p on m.classid = 'pg_proc'::regclass and p.oid = m.objid
    union all
    select 'relation ' || r.oid::regclass::text || ' ' || r.relkind::text || r.relpersistence::text || ' '
           || coalesce(r.reloptions::text, '-') || ' ' || coalesce(r.relacl::text, '-') || ' '
           || case when r.relkind = 'v' then pg_get_viewdef(r.oid) else '' end
      from relation r
    union all
    select 'column ' || a.attrelid::regclass::text || ' ' || a.attnum::text || ' ' || a.attname || ' '
           || format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull::text || ' ' || a.attidentity::text || ' '
           || coalesce(pg_get_expr(d.adbin, d.adrelid), '-') || ' ' || coalesce(col_description(a.attrelid, a.attnum), '-')
      from relation r join pg_attribute a on a.attrelid = r.oid and a.attnum > 0
      left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    union all
    select 'constraint ' || c.conrelid::regclass::text || ' ' || c.conname || ' ' || pg_get_constraintdef(c.oid)
      from relation r join pg_constraint c on c.conrelid = r.oid
    union all
    select 'index ' || pg_get_indexdef(i.indexrelid) from relation r join pg_index i on i.indrelid = r.oid
    union all
    select 'trigger ' || pg_get_triggerdef(t.oid) || ' ' || t.tgenabled::text from relation r join pg_trigger t on t.tgrelid = r.oid
    union all
    select 'event trigger ' || e.evtname || ' ' || e.evtevent || ' ' || e.evtenabled::text || ' '
           || coalesce(e.evttags::text, '-') || ' ' || e.evtfoid::regproc::text
      from member m join pg_event_trigger e on m.classid = 'pg_event_trigger'::regclass and e.oid = m.objid
    union all
    select 'dumped ' || c.oid::regclass::text || ' ' || e.condition
      from pg_extension x, unnest(x.extconfig, x.extcondition) e (relation, condition) join pg_class c on c.oid = e.relation
     where x.extname = 'replwarden'
    union all
    select 'extension ' || extversion || ' ' || extrelocatable::text from pg_extension where extname = 'replwarden'
    order by 1"#;

/// Versions whose install script the server has.
const VERSIONS: &str = "
    select version from pg_available_extension_versions where name = 'replwarden' order by 1";
const DEFAULT: &str =
    "select default_version from pg_available_extensions where name = 'replwarden'";

#[test]
fn every_version_becomes_the_newest() {
    let fresh = Database::new();
    let expected = fresh.lines(CATALOG);
    for kind in [
        "function",
        "relation",
        "column",
        "constraint",
        "index",
        "trigger",
        "event trigger",
        "dumped",
        "extension",
    ] {
        assert!(expected.iter().any(|line| line.starts_with(kind)), "{kind}");
    }
    let versions = fresh.lines(VERSIONS);
    let newest = fresh.lines(DEFAULT).remove(0);
    assert!(versions.contains(&newest), "{versions:?}");
    for version in versions {
        let database = Database::without_extension();
        database.run(&format!(
            "grant all on schema public to public;
             create extension replwarden version '{version}';
             create table item (id int primary key, a int, b int);
             insert into item values (1, 10, 0);
             select repl_set_expression('item', 'b', 'a * 2')"
        ));
        database.run("alter extension replwarden update");
        database.backfilled();
        // What was set before goes on.
        database.run("insert into item values (2, 20)");
        assert_eq!(
            database.lines("select b from item order by id"),
            ["20", "40"],
            "{version}"
        );
        database.run("select repl_drop_expression('item', 'b'); drop table item");
        let found = database.lines(CATALOG);
        let missing: Vec<&String> = expected
            .iter()
            .filter(|line| !found.contains(line))
            .collect();
        let more: Vec<&String> = found
            .iter()
            .filter(|line| !expected.contains(line))
            .collect();
        assert!(
            missing.is_empty() && more.is_empty(),
            "{version}: missing {missing:#?}, more {more:#?}"
        );
        assert_eq!(found.len(), expected.len(), "{version}");
    }
}

#[test]
fn there_is_a_way_from_every_version() {
    let database = Database::without_extension();
    let stranded = database.lines(
        "select v.version from pg_available_extension_versions v
           join pg_available_extensions e on e.name = v.name
           left join pg_extension_update_paths('replwarden') p on p.source = v.version and p.target = e.default_version
          where v.name = 'replwarden' and v.version <> e.default_version and p.path is null",
    );
    assert!(stranded.is_empty(), "{stranded:?}");
}
