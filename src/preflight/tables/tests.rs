//! Decisions on pairs of versions that no test has at hand, and on names.

use super::facts::{Index, Published, Sequence};
use super::*;
use crate::subscription::provider::Subscription;

fn plan(provider: &'static str, subscription: Option<Subscription>) -> Plan {
    Plan {
        provider,
        conninfo: String::new(),
        must_use_password: false,
        publications: vec!["pub".to_owned()],
        subscription,
    }
}

fn plain(name: &str) -> Column {
    Column {
        name: name.to_owned(),
        r#type: "integer".to_owned(),
        type_schema: "pg_catalog".to_owned(),
        type_name: "int4".to_owned(),
        typmod: -1,
        ..Column::default()
    }
}

fn generated(name: &str, kind: &str) -> Column {
    Column {
        generated: Some(kind.to_owned()),
        expression: Some("(id * 2)".to_owned()),
        reads_columns: Some(true),
        has_default: true,
        ..plain(name)
    }
}

fn table(columns: &[Column]) -> Table {
    let key = Index {
        name: "t_pkey".to_owned(),
        is_primary: true,
        is_unique: true,
        is_immediate: true,
        is_valid: true,
        is_not_null: true,
        columns: vec!["id".to_owned()],
        ..Index::default()
    };
    Table {
        oid: 7,
        schema_name: "public".to_owned(),
        table_name: "t".to_owned(),
        name: "public.t".to_owned(),
        kind: "r".to_owned(),
        replica_identity: "d".to_owned(),
        columns: columns.to_vec(),
        indexes: vec![key],
        ..Table::default()
    }
}

/// What is found of a table that is on both sides, beside what is fine; `sent`: the columns of the publication.
fn found(
    plan: &Plan,
    version: i32,
    there: &Table,
    sent: Option<&[&str]>,
    here: &Table,
) -> Vec<Line> {
    let published = Published {
        oid: there.oid,
        publication: "pub".to_owned(),
        columns: sent.map(|names| names.iter().map(|&one| one.to_owned()).collect()),
        updates: true,
        deletes: true,
        ..Published::default()
    };
    let there = There {
        published: vec![published],
        tables: vec![there.clone()],
        ..There::default()
    };
    let here = Here {
        tables: vec![here.clone()],
        schemas: HashSet::from(["public".to_owned()]),
        ..Here::default()
    };
    let scene = Scene::new(plan, version, there, here, "public".to_owned());
    let mut lines = run(&scene);
    lines.retain(|line| line.severity != Severity::Ok);
    lines
}

fn remedy(line: &Line) -> &str {
    line.remedy.as_deref().unwrap_or_default()
}

#[test]
fn nothing_is_found_of_what_is_alike() {
    let table = table(&[plain("id"), plain("a")]);
    for provider in ["native", "pglogical"] {
        let plan = plan(provider, None);
        assert_eq!(found(&plan, 150_000, &table, None, &table), []);
    }
}

#[test]
fn publisher_of_18_sends_what_it_computes() {
    let plan = plan("native", None);
    let there = table(&[plain("id"), generated("g", "s")]);
    let here = there.clone();
    assert_eq!(found(&plan, 170_000, &there, Some(&["id", "g"]), &here), []);
    assert_eq!(found(&plan, 180_000, &there, Some(&["id"]), &here), []);
    let sent = found(&plan, 180_000, &there, Some(&["id", "g"]), &here);
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (sent[0].severity, sent[0].check_name),
        (Severity::Error, "generated_columns")
    );
    assert!(
        remedy(&sent[0]).contains("\nALTER TABLE public.t ALTER COLUMN \"g\" DROP EXPRESSION;")
    );
    assert!(remedy(&sent[0]).contains("publish_generated_columns = none"));
    // A plain column here just takes it.
    let here = table(&[plain("id"), plain("g")]);
    assert_eq!(found(&plan, 180_000, &there, Some(&["id", "g"]), &here), []);
}

#[test]
fn virtual_columns_are_computed_by_both_or_have_a_rule() {
    let plan = plan("native", None);
    let there = table(&[plain("id"), generated("g", "v")]);
    assert_eq!(found(&plan, 180_000, &there, Some(&["id"]), &there), []);
    let here = table(&[plain("id"), plain("g")]);
    let without = found(&plan, 180_000, &there, Some(&["id"]), &here);
    assert_eq!(without.len(), 1);
    assert!(
        remedy(&without[0]).ends_with("SELECT repl_set_expression('public.t', 'g', '(id * 2)');")
    );
    // One that is sent cannot be made plain by DROP EXPRESSION.
    let there = table(&[plain("id"), plain("g")]);
    let here = table(&[plain("id"), generated("g", "v")]);
    let sent = found(&plan, 180_000, &there, None, &here);
    assert!(remedy(&sent[0]).contains("DROP COLUMN \"g\", ADD COLUMN \"g\" integer;"));
}

#[test]
fn pglogical_survives_no_column_that_is_generated_here_and_not_sent() {
    let plan = plan("pglogical", None);
    let there = table(&[plain("id")]);
    let here = table(&[plain("id"), generated("g", "s")]);
    let lines = found(&plan, 150_000, &there, None, &here);
    assert_eq!(lines.len(), 1);
    assert!(remedy(&lines[0]).ends_with("SELECT repl_adopt_generated('public.t');"));
}

#[test]
fn unique_here_is_kept_there_by_one_of_fewer_columns() {
    let plan = plan("native", None);
    let unique = |name: &str, columns: &[&str]| Index {
        name: name.to_owned(),
        is_unique: true,
        is_immediate: true,
        is_valid: true,
        columns: columns.iter().map(|&one| one.to_owned()).collect(),
        ..Index::default()
    };
    let with = |index: Index| {
        let mut table = table(&[plain("id"), plain("a"), plain("b")]);
        table.indexes.push(index);
        table
    };
    let there = with(unique("u", &["a"]));
    let both = with(unique("v", &["a", "b"]));
    assert_eq!(found(&plan, 150_000, &there, None, &both), []);
    let stricter = found(&plan, 150_000, &both, None, &there);
    assert_eq!(stricter.len(), 1);
    assert_eq!(stricter[0].check_name, "unique_constraints");
    // That of some rows there is none of all rows here.
    let partial = with(Index {
        predicate: Some("(b > 0)".to_owned()),
        ..unique("u", &["a"])
    });
    assert_eq!(found(&plan, 150_000, &partial, None, &there).len(), 1);
    assert_eq!(found(&plan, 150_000, &there, None, &partial), []);
    assert_eq!(found(&plan, 150_000, &partial, None, &partial), []);
    // NULLs may be there twice, and not here.
    let nulls = with(Index {
        nulls_are_equal: true,
        ..unique("u", &["a"])
    });
    assert_eq!(found(&plan, 150_000, &there, None, &nulls).len(), 1);
}

#[test]
fn expression_that_could_not_be_read_is_in_no_remedy() {
    let plan = plan("native", None);
    let unread = |name: &str| Column {
        expression: None,
        ..generated(name, "s")
    };
    let there = table(&[plain("id"), unread("g")]);
    let lines = found(
        &plan,
        150_000,
        &there,
        None,
        &table(&[plain("id"), plain("g")]),
    );
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].severity, Severity::Error);
    assert!(lines[0].finding.ends_with("has the table locked there."));
    assert!(!remedy(&lines[0]).contains("repl_set_expression"));
    let here = table(&[plain("id"), generated("g", "s")]);
    for (there, here, node) in [(&there, &here, "there."), (&here, &there, "here.")] {
        let lines = found(&plan, 150_000, there, None, here);
        assert_eq!(lines.len(), 1);
        assert!(
            lines[0]
                .finding
                .starts_with("Not checked: whether g of public.t")
        );
        assert!(lines[0].finding.ends_with(node), "{lines:?}");
    }
    // Nobody is kept from reading what is not there.
    let here = table(&[plain("id"), unread("g")]);
    assert_eq!(
        found(&plan, 150_000, &table(&[plain("id")]), None, &here),
        []
    );
}

#[test]
fn rows_of_a_locked_table_are_not_checked() {
    let plan = plan("native", None);
    let table = table(&[plain("id")]);
    let there = There {
        tables: vec![table.clone()],
        ..There::default()
    };
    let here = Here {
        tables: vec![table.clone()],
        stored: HashSet::from([table.oid]),
        locked: HashSet::from([table.oid]),
        ..Here::default()
    };
    let scene = Scene::new(&plan, 150_000, there, here, "public".to_owned());
    assert!(copy::to_look_into(&scene).is_empty());
    let lines = copy::target_rows(&scene, "target_rows").lines;
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].severity, Severity::Info);
    assert!(
        lines[0]
            .finding
            .starts_with("Not checked: whether public.t has rows")
    );
}

#[test]
fn sequences_that_may_not_be_read_are_not_checked() {
    let plan = plan("native", None);
    let limits = |sequences: Vec<Sequence>| {
        let there = There {
            user: "repl".to_owned(),
            sequences,
            ..There::default()
        };
        let here = Here::default();
        let scene = Scene::new(&plan, 150_000, there, here, "public".to_owned());
        sequence::limits(&scene, "sequence_limits")
    };
    let sequence = |name: &str, may_read: bool| Sequence {
        name: name.to_owned(),
        may_read,
        increment: 1,
        most: 100,
        ..Sequence::default()
    };
    let fresh = limits(vec![sequence("public.a", true)]);
    assert_eq!(fresh.lines, []);
    assert!(fresh.fine.ends_with("(1 of them: none)."), "{}", fresh.fine);
    // That of two columns is one, and one that never ends may be anywhere.
    let endless = Sequence {
        cycles: true,
        ..sequence("public.d", false)
    };
    let hidden = ["public.b", "public.b", "public.c"].map(|name| sequence(name, false));
    let found = limits([vec![endless], hidden.to_vec()].concat()).lines;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].severity, Severity::Info);
    assert_eq!(
        found[0].finding,
        "Not checked: repl may not read 2 sequences there: public.b and public.c."
    );
    assert_eq!(
        remedy(&found[0]),
        "-- on the publisher:\nGRANT SELECT ON SEQUENCE public.b, public.c TO \"repl\";"
    );
    let many: Vec<Sequence> = (0..25)
        .map(|number| sequence(&format!("public.s{number}"), false))
        .collect();
    let found = limits(many).lines;
    assert!(remedy(&found[0]).ends_with("\n-- and likewise on the other 5"));
    let odd = limits(vec![sequence("public.\"a\nb\"", false)]).lines;
    assert!(!remedy(&odd[0]).contains("GRANT"), "{odd:?}");
}

#[test]
fn names_that_break_out_of_a_comment_are_in_no_remedy() {
    let plan = plan("native", None);
    let there = table(&[plain("id"), plain("a\nDROP TABLE b; --")]);
    let lines = found(&plan, 150_000, &there, None, &table(&[plain("id")]));
    assert_eq!(lines.len(), 1);
    assert!(!lines[0].finding.contains('\n'));
    assert!(!remedy(&lines[0]).contains("DROP"), "{lines:?}");
}

#[test]
fn many_lines_of_a_check_become_one_more() {
    let lines = (0..25).map(|number| {
        let severity = if number == 24 {
            Severity::Error
        } else {
            Severity::Warning
        };
        Line::new(severity, "columns", format!("{number}."))
    });
    let folded = fold(lines.collect());
    assert_eq!(folded.len(), NAMED + 1);
    assert_eq!(folded[0].severity, Severity::Error);
    assert!(folded[NAMED].finding.starts_with("5 more of this kind"));
    assert_eq!(folded[NAMED].severity, Severity::Warning);
}
