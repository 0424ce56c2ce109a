//! What works in psql works in a worker of replication, which has an empty search_path and other rights.

use crate::loan::on_both_providers;
use replwarden_tests::{Pair, Provider, Publication};

on_both_providers!(
    functions_types_and_collations,
    dropped_columns_and_several_rules
);

const COLUMNS: &str = "id int primary key, name text, price numeric, mood text";

fn functions_types_and_collations(provider: Provider) {
    let pair = Pair::start(provider);
    pair.on_publisher(&format!("create table item ({COLUMNS})"));
    pair.on_subscriber(
        "create schema shop;
         create type shop.mood as enum ('bad', 'good');
         create type shop.pair as (low numeric, high numeric);
         create domain shop.cents as bigint check (value >= 0);
         create collation shop.c from \"C\";
         create table shop.rate (factor numeric);
         insert into shop.rate values (100);
         create function shop.to_cents(numeric) returns bigint language plpgsql stable
             set search_path = shop, pg_temp
             as 'begin return $1 * (select factor from rate); end';
         create function shop.initial(text) returns text language sql immutable
             begin atomic select upper(left($1, 1)); end;
         create operator shop.=== (leftarg = text, rightarg = text, function = pg_catalog.texteq);",
    );
    pair.on_subscriber(&format!(
        "create table item ({COLUMNS}, cents shop.cents, feeling shop.mood, span shop.pair, initial varchar(1),
                            upper_name text, is_pen boolean, before_m boolean, doc jsonb, tags text[])"
    ));
    pair.on_subscriber("create extension replwarden");
    // Names are found through this search_path when the rule is set, and need no schema.
    pair.on_subscriber(
        "set search_path = public, shop;
         select repl_set_expression('item', column_name, expression)
           from (values ('cents', 'to_cents(price)'),
                        ('feeling', 'mood::mood'),
                        ('span', 'row(price - 1, price + 1)::pair'),
                        ('initial', 'initial(name)'),
                        ('upper_name', 'upper(name)'),
                        ('is_pen', 'name === ''pen'''),
                        ('before_m', 'name collate c < ''m'''),
                        ('doc', 'jsonb_build_object(''id'', id, ''span'', (row(price - 1, price + 1)::pair).high)'),
                        ('tags', 'string_to_array(name, '' '')')) rule (column_name, expression)",
    );
    pair.publish(&Publication::of("item"));
    pair.on_publisher(
        "insert into item values (1, 'pen', 1.50, 'good'), (2, 'Red pen', 2.25, 'bad')",
    );
    pair.subscribe();
    pair.wait_copied();
    pair.on_publisher("insert into item values (3, 'zebra', 1000, 'good'), (4, null, null, null)");
    pair.on_publisher("update item set name = 'ink', price = 3 where id = 2");
    pair.wait_caught_up();
    let derived = pair.subscriber().rows_text(
        pair.database(),
        "select id, cents, feeling, span, initial, upper_name, is_pen, before_m, doc, tags from item order by id",
    );
    let expected = [
        "1|150|good|(0.50,2.50)|P|PEN|t|f|{\"id\": 1, \"span\": 2.50}|{pen}",
        "2|300|bad|(2,4)|I|INK|f|t|{\"id\": 2, \"span\": 4}|{ink}",
        "3|100000|good|(999,1001)|Z|ZEBRA|f|f|{\"id\": 3, \"span\": 1001}|{zebra}",
        "4|||(,)|||||{\"id\": 4, \"span\": null}|",
    ];
    let derived: Vec<String> = derived
        .iter()
        .map(|row| {
            row.iter()
                .map(|value| value.as_deref().unwrap_or(""))
                .collect::<Vec<_>>()
                .join("|")
        })
        .collect();
    assert_eq!(derived, expected);
}

fn dropped_columns_and_several_rules(provider: Provider) {
    let pair = Pair::start(provider);
    pair.on_publisher("create table item (id int primary key, a int, b int)");
    pair.on_subscriber(
        "create table item (gone_1 int, sum int, id int primary key, gone_2 text, b int, product int, a int, gone_3 int)",
    );
    pair.on_subscriber("alter table item drop gone_1, drop gone_2, drop gone_3");
    pair.on_subscriber("create extension replwarden");
    pair.on_subscriber(
        "select repl_set_expression('item', 'sum', 'a + b'), repl_set_expression('item', 'product', 'a * b')",
    );
    pair.publish(&Publication::of("item"));
    pair.on_publisher("insert into item select n, n, 2 from generate_series(1, 100) n");
    pair.subscribe();
    pair.wait_copied();
    pair.on_publisher("insert into item values (101, 3, 4)");
    pair.on_publisher("update item set b = 10 where id % 10 = 0");
    pair.wait_caught_up();
    pair.compare(
        "select id, a, b, a + b, a * b from item order by id",
        "select id, a, b, sum, product from item order by id",
    );
}
