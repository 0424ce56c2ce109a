//! Tables whose UPDATE and DELETE are lost without a word. Where the server has no index to find a row by, it compares every
//! column but generated ones, with NULL for what the publisher does not send (`FindReplTupleInLocalRel` of
//! `replication/logical/worker.c`): a row with a value in an extra column never matches, and is left as it is. It does so only
//! for a publisher whose table has REPLICA IDENTITY FULL; any other makes it an error.

use super::{Cause, Hazard, Key, RENAME, Told, is_plain, key, listed, shown};
use crate::error::Error;
use crate::pg::spi;
use crate::subscription::provider::Subscription;
use crate::subscription::publisher::DescribedTable;
use crate::subscription::quote::identifier;
use serde::Deserialize;
use std::collections::HashMap;

/// A table without an index to find rows by (`sql/native_hazards.sql`).
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct KeylessTable {
    pub(crate) subscriber: u32,
    pub(crate) schema_name: String,
    pub(crate) table_name: String,
    /// Both, quoted where need be.
    pub(crate) name: String,
    /// Those that are compared.
    pub(crate) columns: Vec<String>,
    /// What could be the replica identity: names of unique indexes, with their columns.
    pub(crate) indexes: Vec<(String, Vec<String>)>,
}

pub(super) fn keyless_tables() -> Result<Vec<KeylessTable>, Error> {
    spi::document(include_str!("../sql/native_hazards.sql"), &[])
}

impl KeylessTable {
    fn pair(&self) -> (String, String) {
        (self.schema_name.clone(), self.table_name.clone())
    }
}

/// The publisher has to say of all of them how it publishes them.
pub(super) fn ask(
    tables: &[KeylessTable],
    subscriptions: &[&Subscription],
    questions: &mut HashMap<Key, Vec<(String, String)>>,
) {
    for subscription in subscriptions {
        let tables = tables
            .iter()
            .filter(|table| table.subscriber == subscription.id);
        questions.insert(key(subscription), tables.map(KeylessTable::pair).collect());
    }
}

/// Nothing is found of a table before the publisher has described it.
pub(super) fn hazards(
    tables: &[KeylessTable],
    subscriptions: &[&Subscription],
    told: &HashMap<Key, Told>,
) -> Vec<Hazard> {
    let mut found = Vec::new();
    for table in tables {
        let mut subscriptions = subscriptions.iter();
        let Some(subscription) = subscriptions.find(|one| one.id == table.subscriber) else {
            continue;
        };
        let told = told.get(&key(subscription));
        let described = told.and_then(|told| told.described.get(&table.pair()));
        found.extend(described.and_then(|described| hazard(subscription, table, described)));
    }
    found
}

pub(super) fn hazard(
    subscription: &Subscription,
    table: &KeylessTable,
    described: &DescribedTable,
) -> Option<Hazard> {
    let extra = table
        .columns
        .iter()
        .filter(|one| !described.columns.contains(one));
    let extra: Vec<String> = extra.cloned().collect();
    if extra.is_empty() {
        return None;
    }
    let verb = if extra.len() == 1 { "has" } else { "have" };
    Some(Hazard {
        finding: format!(
            "UPDATE and DELETE on {name} are lost without a word for rows in which {extra} {verb} a value: {name} has no key here, \
             the publisher's has REPLICA IDENTITY FULL, and no row matches in what the publisher does not send.",
            name = shown(&table.name),
            extra = listed(&extra),
        ),
        evidence: serde_json::json!({
            "columns_not_sent": extra,
            "columns_sent": described.columns,
            "publisher_key": described.key,
            "publisher_replica_identity": "full",
        }),
        remedy: Some(remedy(table, described, &extra)),
        ..Hazard::new(subscription, Cause::SilentLoss, Some(table.name.clone()))
    })
}

fn remedy(table: &KeylessTable, described: &DescribedTable, extra: &[String]) -> String {
    let name = &table.name;
    let mut names = described.key.iter().chain(extra);
    if !is_plain(name) || !names.all(|one| is_plain(one)) {
        return RENAME.to_owned();
    }
    let is_sent = |column: &String| described.columns.contains(column);
    let mut indexes = table.indexes.iter();
    if let Some((index, _)) =
        indexes.find(|(index, columns)| is_plain(index) && columns.iter().all(is_sent))
    {
        return format!(
            "ALTER TABLE {name} REPLICA IDENTITY USING INDEX {};",
            identifier(index)
        );
    }
    let is_here = |column: &String| table.columns.contains(column);
    if !described.key.is_empty() && described.key.iter().all(|one| is_here(one) && is_sent(one)) {
        let key: Vec<String> = described.key.iter().map(|one| identifier(one)).collect();
        return format!(
            "ALTER TABLE {name} ADD PRIMARY KEY ({}); -- locks the table while it builds the index",
            key.join(", ")
        );
    }
    let extra: Vec<String> = extra.iter().map(|one| identifier(one)).collect();
    format!(
        "-- the publisher's table has no primary key: ALTER TABLE {name} ADD PRIMARY KEY (...) with columns that the publisher sends,\n\
         -- or make {} generated, or drop what the publisher does not send",
        extra.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{name, subscription};
    use super::*;

    fn table(columns: &[&str]) -> KeylessTable {
        KeylessTable {
            subscriber: 7,
            schema_name: "public".to_owned(),
            table_name: "t".to_owned(),
            name: "public.t".to_owned(),
            columns: texts(columns),
            indexes: Vec::new(),
        }
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&one| one.to_owned()).collect()
    }

    /// What is found when the publisher sends these columns, of which these are its key.
    fn found(table: KeylessTable, sent: &[&str], primary_key: &[&str]) -> Vec<Hazard> {
        let subscription = subscription("native");
        let described = DescribedTable {
            schema_name: "public".to_owned(),
            table_name: "t".to_owned(),
            columns: texts(sent),
            key: texts(primary_key),
            publications: texts(&["pub"]),
        };
        let told = Told {
            described: HashMap::from([(name("public", "t"), described)]),
            ..Told::default()
        };
        let told = HashMap::from([(key(&subscription), told)]);
        hazards(&[table], &[&subscription], &told)
    }

    fn remedy(table: KeylessTable, sent: &[&str], primary_key: &[&str]) -> String {
        let found = found(table, sent, primary_key);
        found[0].remedy.clone().unwrap_or_default()
    }

    #[test]
    fn extra_column_without_key_loses_changes() {
        let found = found(table(&["id", "a", "x"]), &["id", "a"], &[]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].object.as_deref(), Some("public.t"));
        assert_eq!(
            found[0].evidence["columns_not_sent"],
            serde_json::json!(["x"])
        );
        assert!(found[0].finding.contains("in which x has a value"));
    }

    #[test]
    fn nothing_is_lost_where_all_columns_are_sent() {
        assert!(found(table(&["id", "a"]), &["a", "b", "id"], &[]).is_empty());
    }

    #[test]
    fn nothing_is_said_before_the_publisher_has_told() {
        let subscription = subscription("native");
        let tables = [table(&["id", "x"])];
        assert!(hazards(&tables, &[&subscription], &HashMap::new()).is_empty());
    }

    #[test]
    fn index_that_is_there_is_the_first_remedy() {
        let with_indexes = KeylessTable {
            indexes: vec![
                ("on_x".to_owned(), texts(&["x"])),
                ("t Id".to_owned(), texts(&["id"])),
            ],
            ..table(&["id", "x"])
        };
        assert_eq!(
            remedy(with_indexes, &["id"], &["id"]),
            "ALTER TABLE public.t REPLICA IDENTITY USING INDEX \"t Id\";"
        );
    }

    #[test]
    fn key_of_the_publisher_is_the_second() {
        let text = remedy(table(&["Id", "b", "x"]), &["Id", "b"], &["Id", "b"]);
        assert!(text.starts_with("ALTER TABLE public.t ADD PRIMARY KEY (\"Id\", \"b\");"));
        let text = remedy(table(&["id", "x"]), &["id"], &["elsewhere"]);
        assert!(text.starts_with("-- ") && text.contains("\"x\""));
    }

    #[test]
    fn name_that_ends_a_comment_is_in_no_remedy() {
        let odd = table(&["id", "x\nDROP TABLE b; --"]);
        let found = found(odd, &["id"], &[]);
        assert_eq!(found[0].remedy.as_deref(), Some(RENAME));
        assert!(!found[0].finding.contains('\n'));
    }
}
