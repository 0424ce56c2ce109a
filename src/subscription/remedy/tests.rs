use super::*;
use crate::subscription::captured::WorkerKind;
use crate::subscription::known::KnownPublisher;
use crate::subscription::provider::Worker;

fn subscription(provider: &str) -> Subscription {
    Subscription {
        provider: provider.to_owned(),
        subscription: "sub".to_owned(),
        slot_name: Some("slot".to_owned()),
        enabled: true,
        pools: (20, 30),
        owner: Some("Owner".to_owned()),
        ..Subscription::default()
    }
}

fn blocked_by(pids: &[i32]) -> Subscription {
    Subscription {
        worker: Some(Worker {
            pid: 2,
            blocked_by: Some(pids.to_vec()),
            ..Worker::default()
        }),
        ..subscription("native")
    }
}

fn plain_remedy(subscription: &Subscription, cause: Cause) -> String {
    remedy(Case::of(subscription, None), cause).unwrap_or_default()
}

fn error(message: &str) -> CapturedError {
    CapturedError {
        message: message.to_owned(),
        message_id: message.to_owned(),
        relation: Some(("public".to_owned(), "Item".to_owned())),
        finish_lsn: Some(0xABC),
        ..CapturedError::default()
    }
}

fn of_error(provider: &str, error: &CapturedError, cause: Cause) -> String {
    let subscription = subscription(provider);
    let case = Case {
        error: Some(error),
        ..Case::of(&subscription, None)
    };
    remedy(case, cause).unwrap_or_default()
}

/// Each line is a comment.
#[track_caller]
fn assert_comment(text: &str) {
    assert!(!text.is_empty());
    assert!(text.lines().all(|line| line.starts_with("-- ")), "{text}");
}

#[test]
fn remedies_name_things_as_sql_has_to() {
    let mut odd = blocked_by(&[7, 5, 7]);
    odd.subscription = "odd \"sub\"".to_owned();
    assert_eq!(
        plain_remedy(&odd, Cause::Disabled),
        "ALTER SUBSCRIPTION \"odd \"\"sub\"\"\" ENABLE;"
    );
    assert!(plain_remedy(&odd, Cause::LockWait).contains("'{5,7}'"));
    let prepared = plain_remedy(&blocked_by(&[0]), Cause::LockWait);
    assert!(prepared.contains("pg_prepared_xacts"));
    let pool = plain_remedy(&odd, Cause::WorkerPoolExhausted);
    assert!(
        pool.contains("workers = 40;") && pool.contains("= 50;"),
        "{pool}"
    );
    odd.origin_limit = Some(("max_replication_slots".to_owned(), 10));
    assert_eq!(
        plain_remedy(&odd, Cause::OriginsExhausted),
        "ALTER SYSTEM SET \"max_replication_slots\" = 20; -- and restart the server"
    );
}

/// The apply worker waits for a parallel one, which waits for somebody else.
#[test]
fn own_workers_are_not_ended() {
    let mut one = blocked_by(&[3]);
    one.parallel_workers = vec![Worker {
        pid: 3,
        blocked_by: Some(vec![9]),
        ..Worker::default()
    }];
    assert!(plain_remedy(&one, Cause::LockWait).contains("'{9}'"));
}

#[test]
fn name_that_ends_a_comment_is_in_no_remedy() {
    let mut one = blocked_by(&[7, 5, 7]);
    one.subscription = "a\nDROP TABLE b; --".to_owned();
    for cause in [
        Cause::PublisherUnreachable,
        Cause::SlotMissing,
        Cause::Disabled,
        Cause::CrashLoop,
        Cause::DuplicateKey,
        Cause::Unknown,
    ] {
        assert_comment(&plain_remedy(&one, cause));
    }
}

#[test]
fn errors_from_a_publisher_bring_no_sql_into_a_remedy() {
    let evil = "x\"\nDROP TABLE b; -- \"y\": \"a\nDROP TABLE c; --\"";
    let mut error = error(evil);
    error.relation = Some(("s\nDROP TABLE d; --".to_owned(), "t".to_owned()));
    error.detail = Some("Key (a)=(1\nDROP TABLE e; --) exists.".to_owned());
    for cause in [
        Cause::TableMissing,
        Cause::ColumnMissing,
        Cause::DuplicateKey,
        Cause::NotNullViolation,
        Cause::CheckViolation,
        Cause::InvalidData,
        Cause::TriggerError,
        Cause::ReplicaIdentity,
        Cause::PermissionDenied,
        Cause::RowSecurity,
        Cause::Unknown,
    ] {
        let text = of_error("pglogical", &error, cause);
        assert_comment(&text);
        let text = of_error("native", &error, cause);
        let lines = text.lines().filter(|line| !line.starts_with("-- "));
        assert!(lines.clone().all(|line| !line.contains("DROP")), "{text}");
    }
}

#[test]
fn row_in_the_way_is_named_where_its_key_is_told() {
    let mut error = error("");
    let mut text = |detail: &str| {
        error.detail = Some(detail.to_owned());
        of_error("native", &error, Cause::DuplicateKey)
    };
    let found = text("Key (id)=(it's 1) already exists.");
    assert!(
        found.contains("DELETE FROM \"public\".\"Item\" WHERE id = 'it''s 1';"),
        "{found}"
    );
    assert!(found.contains("ALTER SUBSCRIPTION \"sub\" SKIP (lsn = '0/ABC');"));
    assert_comment(&found);
    let found = text("Schlüssel »(a, \"B\")=(1, null)« existiert bereits.");
    assert!(
        found.contains("WHERE a = '1' AND \"B\" IS NULL;"),
        "{found}"
    );
    let found = text(
        "Key already exists in unique index \"i\", modified in transaction 7.\n\
         Key (a)=(x; y); existing local row (x; y, 3); remote row (x; y, 4); replica identity (a)=(2).",
    );
    assert!(found.contains("WHERE a = 'x; y';"), "{found}");
    // A comma too many, an expression, brackets that are part of a value, two keys, and what could be either.
    for detail in [
        "Key (a, b)=(1, 2, 3) already exists.",
        "Key (lower(a))=(x) exists.",
        "Key (a)=(x); y) already exists.",
        "In index \"i\".\nKey (a)=(x); y); existing local row (x); y, 3); remote row (x); y, 4).",
        "In index \"i\".\nKey (a)=(x); y (z); existing local row (x); y (z, 3); remote row (x); y (z, 4).",
        "In index \"i\".\nKey (a)=(1); local row (1, 2).\nIn index \"j\".\nKey (b)=(2); local row (1, 2).",
        "Key (a)=(1) in index \"i\".\nKey (b)=(2); local row (1, 2).",
    ] {
        assert!(!text(detail).contains("DELETE FROM"), "{detail}");
    }
    error.kind = WorkerKind::TableSynchronization;
    let found = of_error("native", &error, Cause::DuplicateKey);
    assert!(
        found.contains("TRUNCATE") && !found.contains("SKIP"),
        "{found}"
    );
}

#[test]
fn columns_are_named_where_the_message_names_them() {
    let found = of_error(
        "native",
        &error(
            "logical replication target relation \"public.Item\" is missing replicated columns: \"a\", \"B\"",
        ),
        Cause::ColumnMissing,
    );
    assert!(found.contains("ALTER TABLE \"public\".\"Item\" ADD COLUMN \"a\" <type>"));
    assert!(found.contains("ADD COLUMN \"B\" <type>"), "{found}");
    let found = of_error(
        "pglogical",
        &error("unknown column name c"),
        Cause::ColumnMissing,
    );
    assert!(found.contains("ADD COLUMN \"c\""), "{found}");
    let found = of_error(
        "native",
        &error("null value in column \"a\" of relation \"Item\" violates not-null constraint"),
        Cause::NotNullViolation,
    );
    assert!(
        found.contains("ALTER COLUMN \"a\" DROP NOT NULL"),
        "{found}"
    );
}

#[test]
fn rights_are_given_to_the_owner_or_by_the_publisher() {
    let mut error = error("permission denied for table Item");
    assert!(
        of_error("native", &error, Cause::PermissionDenied).starts_with(
            "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON \"public\".\"Item\" TO \"Owner\";"
        )
    );
    error.message_id = "role \"%s\" cannot SET ROLE to \"%s\"".to_owned();
    assert_comment(&of_error("native", &error, Cause::PermissionDenied));
    let subscription = subscription("native");
    let case = Case {
        error: Some(&error),
        is_remote: true,
        ..Case::of(&subscription, None)
    };
    let found = remedy(case, Cause::PermissionDenied).unwrap_or_default();
    assert!(found.contains("on the publisher"), "{found}");
}

#[test]
fn crash_loop_ends_with_plain_columns() {
    let mut one = subscription("pglogical");
    one.enabled = false;
    let known = KnownSubscription {
        generated_tables: vec!["public.item".to_owned(), "\"Odd's\".x".to_owned()],
        ..KnownSubscription::default()
    };
    let found = remedy(Case::of(&one, Some(&known)), Cause::CrashLoop);
    assert_eq!(
        found.as_deref(),
        Some(
            "SELECT repl_adopt_generated('public.item');\n\
             SELECT repl_adopt_generated('\"Odd''s\".x');\n\
             SELECT repl_enable('sub');"
        )
    );
    one.enabled = true;
    let found = plain_remedy(&one, Cause::CrashLoop);
    assert!(
        found.starts_with("SELECT repl_disable('sub');\n-- "),
        "{found}"
    );
    assert!(found.ends_with("\nSELECT repl_enable('sub');"), "{found}");
}

#[test]
fn subscription_that_an_error_disabled_is_enabled_after_mending_that() {
    let mut one = subscription("native");
    one.enabled = false;
    let mut error = error("");
    error.sqlstate = "23505".to_owned();
    let case = Case {
        error: Some(&error),
        ..Case::of(&one, None)
    };
    let found = remedy(case, Cause::DisabledOnError).unwrap_or_default();
    let lines: Vec<&str> = found.lines().collect();
    assert!(lines[0].contains("in the way"), "{found}");
    assert_eq!(
        lines.last().copied(),
        Some("ALTER SUBSCRIPTION \"sub\" ENABLE;")
    );
}

#[test]
fn list_of_output_plugins_is_not_quoted() {
    let one = subscription("pglogical");
    assert_eq!(
        plain_remedy(&one, Cause::OutputPluginRefused),
        "ALTER SYSTEM SET output_plugin_libraries = pglogical_output, pgoutput, test_decoding; -- on the publisher\n\
         SELECT pg_reload_conf(); -- on the publisher"
    );
    let known = KnownSubscription {
        publisher: Some(KnownPublisher {
            output_plugin_libraries: Some("wal2json, \"od d\"; DROP, pgoutput".to_owned()),
            ..KnownPublisher::default()
        }),
        ..KnownSubscription::default()
    };
    let found = remedy(Case::of(&one, Some(&known)), Cause::OutputPluginRefused);
    let found = found.unwrap_or_default();
    assert!(
        found.starts_with(
            "ALTER SYSTEM SET output_plugin_libraries = pglogical_output, wal2json, pgoutput; --"
        ),
        "{found}"
    );
}
