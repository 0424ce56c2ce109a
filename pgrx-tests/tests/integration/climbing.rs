//! The rule of somebody who wants to be a superuser: whatever evaluates it does so with his rights, and is afterwards as before.

use replwarden_tests::{DEFAULT_DEADLINE, Pair, Provider, Publication, wait_until};

use crate::backfill_state::Backfills;
use crate::database::{Database, lines};
use crate::internals::log_in;
use crate::loan::on_both_providers;
use crate::status;

on_both_providers!(replication);

/// A function for rules that gives the double, and tries whatever there is to be tried. What it may do it does: it notes whose
/// rights it has.
const MALLORY: &str = r#"
    create role mallory login;
    create schema hers authorization mallory;
    grant usage, create on schema public to mallory;
    set role mallory;
    create table hers.seen (who text);
    create table hers.lure (a int);
    create function hers.take() returns int language plpgsql as $$
    begin
        insert into hers.seen values (current_user::text);
        begin
            execute 'alter role mallory superuser';
        exception when others then null;
        end;
        return 1;
    end $$;
    create function hers.late() returns trigger language plpgsql as $$
    begin
        perform hers.take();
        return null;
    end $$;
    create constraint trigger late after insert on hers.lure deferrable initially deferred
        for each row execute function hers.late();
    alter table hers.lure enable always trigger late;
    create function hers.try_all() returns void language plpgsql as $$
    declare
        trick text;
    begin
        perform hers.take();
        foreach trick in array array[
            'set role postgres', 'reset role', 'set role none', 'set session authorization postgres',
            'set session authorization default', 'reset session authorization',
            'insert into hers.lure values (1)',
            'declare hold cursor with hold for select hers.take()',
            'create temp table victim as select hers.take()',
            'create function pg_temp.lower(text) returns text language sql as ''select hers.take()::text''',
            'prepare later as select hers.take()',
            'listen replwarden',
            'set search_path = hers, pg_catalog',
            'set lock_timeout = 1',
            'set default_transaction_read_only = on',
            'set session_replication_role = origin',
            'copy (select 1) to program ''true''',
            'do $do$ begin perform pg_catalog.set_config(''search_path'', ''hers, pg_catalog'', false); end $do$']
        loop
            begin
                execute trick;
                perform hers.take();
            exception when others then null;
            end;
        end loop;
    end $$;
    create function hers.climb(a int) returns int language plpgsql immutable as $$
    begin
        perform hers.try_all();
        return pg_catalog.int4mul(a, 2);
    end $$;
    reset role;
"#;

/// What a superuser would call unqualified.
const SETTINGS: &str = "select name, setting from pg_settings
    where name in ('search_path', 'lock_timeout', 'default_transaction_read_only', 'session_replication_role') order by 1";

#[track_caller]
fn assert_hers_alone(seen: &[String], is_super: &[String]) {
    assert_eq!(seen, ["mallory"], "whose rights her function has had");
    assert_eq!(is_super, ["f"]);
}

/// Rows that are copied, inserted and updated.
fn replication(provider: Provider) {
    let pair = status::builder(provider).start();
    pair.on_both("create table item (id int primary key, a int); create table other (id int primary key, path text)");
    pair.on_subscriber(MALLORY);
    pair.on_subscriber(
        "alter table item add b int; alter table item owner to mallory;
         create extension replwarden;
         create function public.note_path() returns trigger language plpgsql as $$
         begin
             new.path := pg_catalog.concat_ws(';', pg_catalog.current_setting('search_path'), pg_catalog.current_setting('lock_timeout'),
                              pg_catalog.current_setting('session_replication_role'), current_user);
             return new;
         end $$;
         create trigger note_path before insert on other for each row execute function public.note_path();
         alter table other enable always trigger note_path",
    );
    pair.on_subscriber(
        "set role mallory; select repl_set_expression('item', 'b', 'hers.climb(a)')",
    );
    pair.publish(&Publication::of("item").table("other"));
    pair.on_publisher("insert into item values (1, 10), (2, 20)");
    pair.subscribe();
    pair.wait_copied();
    assert_untouched(&pair);
    // With another table before and after it, in the same transaction.
    pair.on_publisher(
        "insert into other values (1); insert into item values (3, 30); update item set a = 11 where id = 1; insert into other values (2)",
    );
    pair.on_publisher("insert into other values (3)");
    pair.wait_caught_up();
    assert_untouched(&pair);
    let mut client = pair.subscriber().connect(pair.database());
    assert_eq!(
        lines(&mut client, "select id, b from item order by 1"),
        ["1|22", "2|40", "3|60"]
    );
    let paths = lines(&mut client, "select path from other order by id");
    assert_eq!(paths.len(), 3);
    assert!(
        paths
            .iter()
            .all(|path| *path == paths[0] && !path.contains("hers")),
        "{paths:?}"
    );
}

#[track_caller]
fn assert_untouched(pair: &Pair) {
    let mut client = pair.subscriber().connect(pair.database());
    let seen = lines(&mut client, "select distinct who from hers.seen");
    let is_super = lines(
        &mut client,
        "select rolsuper from pg_roles where rolname = 'mallory'",
    );
    assert_hers_alone(&seen, &is_super);
}

/// Everything with which a superuser has her rule evaluated, but for writing to her table himself.
#[test]
fn what_a_superuser_asks_for() {
    let database = Database::new();
    database.run(&MALLORY.replace(
        "create role mallory login;",
        "do $$ begin create role mallory login; exception when duplicate_object then null; end $$;",
    ));
    // A session that has only been set to her role would be the superuser's again.
    let mut hers = log_in(database.cluster(), database.name(), "mallory");
    hers.batch_execute(
        "create table public.item (id int primary key, a int, b int, g int generated always as (hers.climb(a)) stored,
                            h int generated always as (hers.climb(21)) stored);
         create table public.part (id int primary key, a int, b int) partition by range (id);
         create table public.part_1 partition of public.part for values from (0) to (10);
         insert into public.item values (1, 10, 0), (2, 20, 0);
         insert into public.part values (1, 10, 0);
         truncate hers.seen",
    )
    .expect("she may");
    drop(hers);
    let mut client = database.connect();
    let before = lines(&mut client, SETTINGS);
    for sql in [
        "select repl_set_expression('item', 'b', 'hers.climb(a) + hers.climb(0)')",
        "select repl_set_expression('part', 'b', 'hers.climb(a)', 'null')",
        "select repl_adopt_generated('item')",
        "select * from repl_generated_columns",
    ] {
        lines(&mut client, sql);
        assert_eq!(lines(&mut client, SETTINGS), before, "{sql}");
        let others = "select distinct who from hers.seen where who <> 'mallory'";
        assert!(lines(&mut client, others).is_empty(), "{sql}");
    }
    Backfills::of(database.cluster(), database.name()).wait_done();
    for sql in [
        "select rows_wrong from repl_verify('item')",
        "select rows_wrong from repl_verify('part')",
    ] {
        assert!(
            lines(&mut client, sql).iter().all(|wrong| wrong == "0"),
            "{sql}"
        );
        assert_eq!(lines(&mut client, SETTINGS), before, "{sql}");
        let others = "select distinct who from hers.seen where who <> 'mallory'";
        assert!(lines(&mut client, others).is_empty(), "{sql}");
        assert!(lines(&mut client, "select name from pg_cursors where is_holdable").is_empty());
        assert!(
            lines(
                &mut client,
                "select relname from pg_class where relnamespace = pg_my_temp_schema()"
            )
            .is_empty()
        );
    }
    // What was false becomes right again.
    lines(
        &mut client,
        "set session_replication_role = replica; alter table item disable trigger zzz_replwarden;
         update item set b = -1; alter table item enable always trigger zzz_replwarden; reset session_replication_role",
    );
    lines(
        &mut client,
        "select repl_backfill('item'), repl_backfill('part')",
    );
    Backfills::of(database.cluster(), database.name()).wait_done();
    assert_eq!(
        lines(&mut client, "select b from item order by id"),
        ["20", "40"]
    );
    lines(&mut client, "select repl_drop_expression('item', 'b')");
    assert_eq!(lines(&mut client, SETTINGS), before);
    wait_until("the function was called", DEFAULT_DEADLINE, || {
        database.lines("select count(*) > 0 from hers.seen") == ["t"]
    });
    let seen = database.lines("select distinct who from hers.seen");
    let is_super = database.lines("select rolsuper from pg_roles where rolname = 'mallory'");
    assert_hers_alone(&seen, &is_super);
}
