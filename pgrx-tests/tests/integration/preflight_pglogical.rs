//! `repl_preflight()` of a pair that replicates with pglogical.

use replwarden_tests::{DEFAULT_DEADLINE, Pair, Provider, wait_until};

use crate::preflight_check::{Preflight, assert_shows, paste, quoted, row_of};
use crate::status::{self, Row};

#[track_caller]
fn with_item() -> Pair {
    status::with_item(status::builder(Provider::Pglogical).start())
}

const MORE: &[&str] = &[
    "replication_sets",
    "pglogical_extension",
    "pglogical_preload",
    "pglogical_node",
    "node_connection",
];

#[test]
fn pair_in_order_is_found_in_order() {
    let pair = with_item();
    let before = Preflight::before(&pair);
    before.assert_in_order();
    assert_shows(&before.rows(), MORE);
    pair.on_publisher("insert into item values (1), (2)");
    pair.subscribe();
    pair.wait_copied();
    pair.wait_caught_up();
    let after = Preflight::of_subscription(&pair);
    after.assert_in_order();
    assert_shows(&after.rows(), MORE);
    assert_shows(&after.rows(), &["slot"]);
}

#[test]
fn what_pglogical_needs() {
    let pair = with_item();
    let preflight = Preflight::before(&pair);
    let publisher = pair.publisher();
    if publisher.query_one_value::<bool>(
        "postgres",
        "select exists (select from pg_settings where name = 'output_plugin_libraries')",
    ) {
        preflight.breaks(
            || publisher.set("output_plugin_libraries", "pgoutput, test_decoding"),
            &[("error", "output_plugin_libraries")],
        );
        let list: String = publisher.query_one_value("postgres", "show output_plugin_libraries");
        assert_eq!(list, "pglogical_output, pgoutput, test_decoding");
    }
    // pglogical's workers would connect to nowhere.
    let broken = "update pglogical.node_interface set if_dsn = 'host=127.0.0.1 port=1 dbname=shop' where if_name = 'subscriber'";
    let before = preflight.not_fine();
    pair.on_subscriber(broken);
    let rows = preflight.wait_new(&before, &[("error", "node_connection")]);
    assert!(rows[0].text("finding").contains("port=1"), "{rows:#?}");
    assert!(
        rows[0].text("remedy").contains("pglogical.create_node"),
        "{rows:#?}"
    );
    // To another place.
    pair.on_subscriber(&format!(
        "update pglogical.node_interface set if_dsn = '{}' where if_name = 'subscriber'",
        pair.publisher().conninfo(pair.database())
    ));
    let rows = preflight.wait_new(&before, &[("error", "node_connection")]);
    assert!(
        rows[0].text("finding").contains("another place"),
        "{rows:#?}"
    );
    pair.on_subscriber(&format!(
        "update pglogical.node_interface set if_dsn = '{}' where if_name = 'subscriber'",
        pair.subscriber().conninfo(pair.database())
    ));
    preflight.wait_as_before(&before);

    let conninfo = pair.publisher().conninfo(pair.database());
    let preflight = Preflight::of(&pair, &conninfo, "{default,it's}", "pglogical");
    let row = row_of(&preflight.rows(), "replication_sets");
    assert!(
        row.is("severity", "error") && row.is("object", "it's"),
        "{row:#?}"
    );
    // A name that pglogical takes.
    let preflight = Preflight::of(&pair, &conninfo, "{default,later}", "pglogical");
    paste(&pair, &row_of(&preflight.rows(), "replication_sets"));
    wait_until("the set is there", DEFAULT_DEADLINE, || {
        row_of(&preflight.rows(), "replication_sets").is("severity", "ok")
    });
}

#[test]
fn role_that_may_not_look_into_pglogical() {
    let pair = with_item();
    pair.publisher().execute(
        pair.database(),
        "create role carrier login replication; grant select on item to carrier",
    );
    let conninfo = pair
        .publisher()
        .conninfo(pair.database())
        .replace("user=postgres", "user=carrier");
    let preflight = Preflight::through(&pair, &conninfo);
    let rows = preflight.rows();
    let row = row_of(&rows, "pglogical_rights");
    assert!(row.is("severity", "error"), "{row:#?}");
    let is_none = "The publisher's role \"carrier\" is no superuser, which pglogical asks for";
    let role = row_of(&rows, "pglogical_role");
    assert!(role.is("severity", "info"), "{role:#?}");
    assert!(role.text("finding").starts_with(is_none), "{role:#?}");
    // The list of output plugins is for those who may see all settings.
    for check in [
        "replication_sets",
        "disk_space",
        "output_plugin_libraries",
        "publisher_role",
    ] {
        let row = row_of(&rows, check);
        assert!(row.text("finding").contains("Not checked:"), "{row:#?}");
    }
    // The half of it: the publisher's own words say why.
    pair.on_publisher("grant usage on schema pglogical to carrier");
    let rows = preflight.rows();
    for check in ["replication_sets", "disk_space"] {
        let row = row_of(&rows, check);
        assert!(
            row.text("finding")
                .starts_with("Not checked: permission denied")
                || row
                    .text("finding")
                    .starts_with("Not checked: ERROR:  permission denied"),
            "{row:#?}"
        );
    }
    paste(&pair, &row);
    let rows = preflight.rows();
    for check in ["replication_sets", "disk_space"] {
        assert!(row_of(&rows, check).is("severity", "ok"), "{rows:#?}");
    }
    pair.on_publisher("alter role carrier superuser");
    let rows = preflight.rows();
    let is_role = |row: &Row| row.is("check_name", "pglogical_role");
    assert!(!rows.iter().any(is_role), "{rows:#?}");
}

/// Each part that is not there yet, from the beginning.
#[test]
fn servers_without_pglogical() {
    let pair = status::with_item(status::builder(Provider::Native).start());
    let conninfo = pair.publisher().conninfo(pair.database());
    let preflight = Preflight::of(&pair, &conninfo, "{default}", "pglogical");
    let rows = preflight.rows();
    let missing = |check: &str, object: &str| {
        rows.iter().any(|row| {
            row.is("severity", "error") && row.is("check_name", check) && row.is("object", object)
        })
    };
    for object in ["publisher", "subscriber"] {
        assert!(missing("pglogical_extension", object), "{rows:#?}");
    }
    let of = |rows: &[Row], check: &str, object: &str| -> Row {
        let mut rows = rows.iter();
        let row = rows.find(|row| row.is("check_name", check) && row.is("object", object));
        row.unwrap_or_else(|| panic!("no {check} of the {object}"))
            .clone()
    };
    let remedy = of(&rows, "pglogical_preload", "subscriber");
    let remedy = remedy.text("remedy");
    assert!(
        remedy.contains("shared_preload_libraries = 'replwarden', 'pglogical';"),
        "{remedy}"
    );
    // In this order.
    for check in ["pglogical_preload", "pglogical_extension", "pglogical_node"] {
        for object in ["publisher", "subscriber"] {
            let row = of(&preflight.rows(), check, object);
            assert!(row.is("severity", "error"), "{row:#?}");
            if row.text("remedy").contains("<") || row.text("remedy").contains('…') {
                let dsn = quoted(&pair.subscriber().conninfo(pair.database()));
                pair.on_subscriber(&format!(
                    "select pglogical.create_node('subscriber', {dsn})"
                ));
            } else {
                paste(&pair, &row);
            }
            let row = of(&preflight.rows(), check, object);
            assert!(row.is("severity", "ok"), "{row:#?}");
        }
    }
    pair.on_publisher("select pglogical.replication_set_add_table('default', 'item')");
    preflight.assert_in_order();
}
