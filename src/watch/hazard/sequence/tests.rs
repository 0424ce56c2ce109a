use super::super::tests::{name, subscription};
use super::*;

fn probe(sequence: u32, increment: i64) -> Probe {
    Probe {
        sequence,
        sequence_name: format!("public.s{sequence}"),
        increment,
        from: if increment > 0 { 1 } else { i64::MIN },
        to: if increment > 0 { i64::MAX } else { -1 },
        table_name: "public.t".to_owned(),
        column: "id".to_owned(),
        r#type: "bigint".to_owned(),
        is_partitioned: false,
        tables: vec![name("public", "t")],
        subscribers: HashSet::from([("native".to_owned(), 7)]),
        ..Probe::default()
    }
}

fn reading(value: Option<&str>, last_value: i64, is_called: bool) -> Reading {
    Reading {
        probe: 0,
        value: value.map(str::to_owned),
        last_value,
        is_called,
    }
}

/// What it gives next, and where it is to be set.
fn behind(increment: i64, value: &str, last_value: i64, is_called: bool) -> Option<(i64, i64)> {
    let behind = probe(1, increment).behind(&reading(Some(value), last_value, is_called))?;
    Some((behind.next, behind.target))
}

#[test]
fn sequence_is_behind_when_the_next_value_is_not_beyond_the_column() {
    assert_eq!(behind(1, "1000", 1, false), Some((1, 1000)));
    assert_eq!(behind(1, "1000", 999, true), Some((1000, 1000)));
    assert_eq!(behind(1, "1000", 1000, true), None);
    assert_eq!(behind(1, "1000", 1000, false), Some((1000, 1000)));
    assert_eq!(behind(1, "1000", 1001, false), None);
    assert_eq!(probe(1, 1).behind(&reading(None, 1, false)), None);
    assert_eq!(behind(1, "NaN", 1, false), None);
    assert_eq!(behind(1, "12.75", 5, true), Some((6, 12)));
}

#[test]
fn steps_of_a_sequence_are_kept() {
    assert_eq!(behind(2, "1000", 5, true), Some((7, 1001)));
    assert_eq!(behind(2, "1000", 999, true), None);
    assert_eq!(behind(-1, "-1000", -1, false), Some((-1, -1000)));
    assert_eq!(behind(-5, "-12", -1, true), Some((-6, -16)));
    assert_eq!(behind(-1, "-1000", -1000, true), None);
}

#[test]
fn target_is_a_value_of_the_sequence() {
    let small = Probe {
        to: 32767,
        ..probe(1, 100)
    };
    let behind = small.behind(&reading(Some("32760"), 1, true));
    assert_eq!(behind.map(|one| one.target), Some(32767));
}

#[test]
fn query_reads_the_end_that_counts() {
    let up = probe(1, 1).column_query(3);
    assert!(up.starts_with("select 3, (select max(t.id)::text from only public.t t where t.id <= '9223372036854775807'::bigint)"));
    let down = Probe {
        is_partitioned: true,
        r#type: "numeric".to_owned(),
        ..probe(1, -1)
    };
    assert!(
        down.column_query(0).contains(
            "min(t.id)::text from public.t t where t.id >= '-9223372036854775808'::numeric"
        )
    );
}

#[test]
fn several_columns_of_a_sequence_count_together() {
    let candidates = Candidates {
        last: 1,
        looked_at: 1,
        probes: vec![probe(1, 1), probe(1, 1)],
    };
    let readings = [
        reading(Some("10"), 1, true),
        Reading {
            probe: 1,
            ..reading(Some("30"), 1, true)
        },
    ];
    let behind = candidates.behind(&readings);
    assert_eq!(behind.len(), 1);
    assert_eq!(behind[&1].target, 30);
}

fn candidates(looked_at: i32, sizes: &[(u32, usize)]) -> Candidates {
    let probes = sizes.iter().map(|(sequence, size)| Probe {
        tables: vec![name("public", "t"); *size],
        ..probe(*sequence, 1)
    });
    Candidates {
        last: 99,
        looked_at,
        probes: probes.collect(),
    }
}

#[test]
fn round_ends_where_there_are_no_more_sequences() {
    assert_eq!(candidates(100, &[(5, 1)]).cut(0, &[]), 99);
    assert_eq!(candidates(99, &[(5, 1)]).cut(0, &[]), u32::MAX);
}

#[test]
fn no_more_is_read_than_may_be_locked() {
    let mut much = candidates(100, &[(70, 1), (10, 200), (20, 100), (20, 100), (30, 1)]);
    assert_eq!(much.cut(5, &[70]), 10);
    let left: Vec<u32> = much.probes.iter().map(|one| one.sequence).collect();
    assert_eq!(left, [70, 10]);
    // All of one sequence: a part has to do.
    let mut one = candidates(100, &[(20, 200), (20, 200), (20, 200)]);
    assert_eq!(one.cut(5, &[]), 20);
    assert_eq!(one.probes.len(), 2);
}

#[test]
fn publisher_may_know_what_is_replicated() {
    let subscription = subscription("pglogical");
    let unknown = || Candidates {
        probes: vec![Probe {
            subscribers: HashSet::new(),
            ..probe(1, 1)
        }],
        ..candidates(1, &[])
    };
    let mut none = unknown();
    none.keep_replicated(std::slice::from_ref(&subscription), &HashMap::new());
    assert!(none.probes.is_empty());
    let told = Told {
        published: HashSet::from([name("public", "t")]),
        ..Told::default()
    };
    let mut some = unknown();
    let told = HashMap::from([(key(&subscription), told)]);
    some.keep_replicated(&[subscription], &told);
    assert_eq!(some.probes.len(), 1);
}

fn sequences(number: u32) -> BTreeMap<u32, Behind> {
    let one = |sequence: u32| Behind {
        name: format!("public.s{sequence:02}"),
        column: "public.t.id".to_owned(),
        next: 1,
        value: 10,
        target: 10,
        subscribers: HashSet::from([("native".to_owned(), 7)]),
    };
    (1..=number)
        .map(|sequence| (sequence, one(sequence)))
        .collect()
}

#[test]
fn sequences_of_a_subscription_are_one_hazard() {
    let subscription = subscription("native");
    assert_eq!(hazard(&subscription, &BTreeMap::new()), None);
    let one = hazard(&subscription, &sequences(1));
    let one = one.unwrap_or_else(|| unreachable!());
    assert_eq!(one.object, None);
    assert_eq!(
        one.remedy.as_deref(),
        Some("SELECT setval('public.s01', 10);")
    );
    let many = hazard(&subscription, &sequences(25));
    let many = many.unwrap_or_else(|| unreachable!());
    assert!(
        many.finding.starts_with(
            "25 sequences are behind their columns, public.s01, public.s02 and 23 more"
        )
    );
    let remedy = many.remedy.unwrap_or_default();
    assert_eq!(remedy.lines().count(), NAMED);
    assert!(remedy.ends_with("-- and 5 more, which come up then"));
    let other = Subscription {
        id: 8,
        ..subscription
    };
    assert_eq!(hazard(&other, &sequences(1)), None);
}
