//! Tables whose rows end pglogical's apply worker with a crash, and with it every session of the server.

use super::{Cause, Hazard, Key, RENAME, Told, is_plain, key, listed, shown};
use crate::error::Error;
use crate::pg::spi;
use crate::subscription::provider::Subscription;
use crate::subscription::quote::{identifier, literal};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};

/// A table that has a generated column which reads others, or is partitioned (`sql/pglogical_hazards.sql`).
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Suspect {
    pub(crate) schema_name: String,
    pub(crate) table_name: String,
    /// Both, quoted where need be.
    pub(crate) name: String,
    /// The partitioned table that it is a partition of.
    pub(crate) root: Option<String>,
    pub(crate) is_partitioned: bool,
    /// Those that are generated, and not the same for all rows.
    pub(crate) columns: Vec<String>,
    /// One of these is virtual (18+).
    pub(crate) is_virtual: bool,
    /// It has parents or children without being a partition.
    pub(crate) is_inherited: bool,
    /// A replica identity index, or a primary key that can be one.
    pub(crate) has_key: bool,
    /// Subscriptions that say that they replicate it.
    pub(crate) subscribers: Vec<u32>,
}

pub(super) fn suspects() -> Result<Vec<Suspect>, Error> {
    spi::document(include_str!("../sql/pglogical_hazards.sql"), &[])
}

impl Suspect {
    fn pair(&self) -> (String, String) {
        (self.schema_name.clone(), self.table_name.clone())
    }

    fn is_replicated(&self, subscription: &Subscription, told: &HashMap<Key, Told>) -> bool {
        self.subscribers.contains(&subscription.id)
            || told
                .get(&key(subscription))
                .is_some_and(|told| told.published.contains(&self.pair()))
    }
}

/// The suspects whose columns the publisher has to be asked for.
pub(super) fn ask(
    suspects: &[Suspect],
    subscriptions: &[&Subscription],
    told: &HashMap<Key, Told>,
    questions: &mut HashMap<Key, Vec<(String, String)>>,
) {
    for subscription in subscriptions {
        let tables = suspects
            .iter()
            .filter(|one| !one.is_partitioned && one.is_replicated(subscription, told));
        let tables: Vec<_> = tables.map(Suspect::pair).collect();
        questions.insert(key(subscription), tables);
    }
}

/// `schema`: of this extension.
pub(super) fn hazards(
    suspects: &[Suspect],
    subscriptions: &[&Subscription],
    told: &HashMap<Key, Told>,
    schema: &str,
) -> Vec<Hazard> {
    let mut found = Vec::new();
    for subscription in subscriptions {
        // Of the partitions of a table together: it is the table that has the column.
        let mut generated: BTreeMap<&str, Vec<Dangerous>> = BTreeMap::new();
        for suspect in suspects {
            if !suspect.is_replicated(subscription, told) {
                continue;
            }
            if suspect.is_partitioned {
                found.push(partitioned(subscription, suspect));
            } else if let Some(dangerous) = Dangerous::of(suspect, told.get(&key(subscription))) {
                let table = suspect.root.as_deref().unwrap_or(&suspect.name);
                generated.entry(table).or_default().push(dangerous);
            }
        }
        let generated = generated.into_iter();
        found.extend(
            generated.map(|(table, dangerous)| {
                generated_columns(subscription, table, &dangerous, schema)
            }),
        );
    }
    found
}

/// A suspect with the columns that the publisher does not send.
struct Dangerous<'a> {
    suspect: &'a Suspect,
    columns: Vec<String>,
    /// The publisher has said so.
    is_known: bool,
}

impl<'a> Dangerous<'a> {
    fn of(suspect: &'a Suspect, told: Option<&Told>) -> Option<Self> {
        let described = told.and_then(|told| told.described.get(&suspect.pair()));
        // What is sent is taken as it comes.
        let is_sent = |column: &String| described.is_some_and(|one| one.columns.contains(column));
        let columns = suspect.columns.iter().filter(|one| !is_sent(one));
        let columns: Vec<String> = columns.cloned().collect();
        (!columns.is_empty()).then_some(Self {
            suspect,
            columns,
            is_known: described.is_some(),
        })
    }
}

fn generated_columns(
    subscription: &Subscription,
    table: &str,
    dangerous: &[Dangerous],
    schema: &str,
) -> Hazard {
    let mut columns: Vec<String> = dangerous
        .iter()
        .flat_map(|one| one.columns.iter().cloned())
        .collect();
    columns.sort_unstable();
    columns.dedup();
    let (are, them) = match columns.len() {
        1 => ("is", "it"),
        _ => ("are", "them"),
    };
    let is_known = dangerous.iter().all(|one| one.is_known);
    let why = if is_known {
        format!(", and the publisher does not send {them}: ")
    } else {
        format!(": unless the publisher sends {them}, ")
    };
    let tables: Vec<&str> = dangerous
        .iter()
        .map(|one| one.suspect.name.as_str())
        .collect();
    Hazard {
        finding: format!(
            "{} of {} {are} generated here{why}the first row that is inserted or updated there will crash pglogical's apply \
             worker, and the whole server with it, again and again.",
            listed(&columns),
            shown(table),
        ),
        evidence: serde_json::json!({
            "columns": columns,
            "tables": tables,
            "publisher_has_told": is_known,
        }),
        remedy: Some(remedy(table, dangerous, schema)),
        ..Hazard::new(
            subscription,
            Cause::GeneratedColumnCrash,
            Some(table.to_owned()),
        )
    }
}

fn remedy(table: &str, dangerous: &[Dangerous], schema: &str) -> String {
    if !is_plain(table) {
        return RENAME.to_owned();
    }
    if dangerous.iter().any(|one| one.suspect.is_inherited) {
        return "-- its columns are inherited, and such columns can have no rule: take it out of the inheritance \
                (ALTER TABLE ... NO INHERIT ...) or out of the replication set"
            .to_owned();
    }
    let adopt = format!(
        "SELECT {}repl_adopt_generated({});",
        prefix(schema),
        literal(table)
    );
    if dangerous.iter().any(|one| one.suspect.is_virtual) {
        return "-- a virtual generated column cannot be made a plain one: drop it, add it as a plain column, and give it \
                its expression with repl_set_expression()"
            .to_owned();
    }
    if dangerous.iter().all(|one| one.suspect.has_key) {
        adopt
    } else {
        format!(
            "-- it needs a primary key first: ALTER TABLE {table} ADD PRIMARY KEY (...);\n{adopt}"
        )
    }
}

/// For a function of this extension. Where everybody finds it, it needs none.
fn prefix(schema: &str) -> String {
    if schema == "public" {
        String::new()
    } else {
        format!("{}.", identifier(schema))
    }
}

fn partitioned(subscription: &Subscription, suspect: &Suspect) -> Hazard {
    let name = &suspect.name;
    let remedy = if is_plain(name) {
        "-- pglogical can write to partitions only: have the publisher publish partitions, under the names that they have here, \
         or put a plain table in the place of this one"
    } else {
        RENAME
    };
    Hazard {
        finding: format!(
            "{} is a partitioned table here, which pglogical cannot write to: the first row that comes for it will crash its \
             apply worker, and the whole server with it, again and again.",
            shown(name)
        ),
        evidence: serde_json::json!({ "tables": [name] }),
        remedy: Some(remedy.to_owned()),
        ..Hazard::new(
            subscription,
            Cause::PartitionedTableCrash,
            Some(name.clone()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{name, subscription};
    use super::*;
    use crate::subscription::publisher::DescribedTable;
    use std::collections::HashSet;

    fn suspect(columns: &[&str], subscribers: &[u32]) -> Suspect {
        Suspect {
            schema_name: "public".to_owned(),
            table_name: "loan_app".to_owned(),
            name: "public.loan_app".to_owned(),
            columns: columns.iter().map(|&one| one.to_owned()).collect(),
            has_key: true,
            subscribers: subscribers.to_vec(),
            ..Suspect::default()
        }
    }

    fn found(suspects: &[Suspect], told: Told) -> Vec<Hazard> {
        let subscription = subscription("pglogical");
        let told = HashMap::from([(key(&subscription), told)]);
        hazards(suspects, &[&subscription], &told, "public")
    }

    fn described(columns: &[&str]) -> Told {
        let pair = name("public", "loan_app");
        let table = DescribedTable {
            schema_name: pair.0.clone(),
            table_name: pair.1.clone(),
            columns: columns.iter().map(|&one| one.to_owned()).collect(),
            key: Vec::new(),
            publications: Vec::new(),
        };
        Told {
            described: HashMap::from([(pair, table)]),
            ..Told::default()
        }
    }

    #[test]
    fn generated_column_that_is_not_sent_is_to_be_adopted() {
        let found = found(&[suspect(&["loan_id"], &[7])], described(&["id"]));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].cause, Cause::GeneratedColumnCrash);
        assert_eq!(found[0].object.as_deref(), Some("public.loan_app"));
        assert_eq!(
            found[0].remedy.as_deref(),
            Some("SELECT repl_adopt_generated('public.loan_app');")
        );
        assert!(found[0].finding.starts_with(
            "loan_id of public.loan_app is generated here, and the publisher does not send it: the first row"
        ));
    }

    #[test]
    fn what_the_publisher_sends_is_harmless() {
        let suspects = [suspect(&["a", "b"], &[7])];
        assert!(found(&suspects, described(&["a", "b"])).is_empty());
        let found = found(&suspects, described(&["a"]));
        assert_eq!(found[0].evidence["columns"], serde_json::json!(["b"]));
    }

    #[test]
    fn before_the_publisher_has_told_it_is_a_danger() {
        let found = found(&[suspect(&["a", "b"], &[7])], Told::default());
        assert!(found[0].finding.contains("unless the publisher sends them"));
    }

    #[test]
    fn table_is_replicated_if_either_side_says_so() {
        let suspects = [suspect(&["a"], &[8])];
        assert!(found(&suspects, Told::default()).is_empty());
        let published = Told {
            published: HashSet::from([name("public", "loan_app")]),
            ..Told::default()
        };
        assert_eq!(found(&suspects, published).len(), 1);
    }

    #[test]
    fn partitions_of_a_table_are_one_hazard() {
        let partition = |table: &str| Suspect {
            table_name: table.to_owned(),
            name: format!("public.{table}"),
            root: Some("public.reading".to_owned()),
            ..suspect(&["label"], &[7])
        };
        let found = found(&[partition("r1"), partition("r2")], Told::default());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].object.as_deref(), Some("public.reading"));
        assert!(
            found[0]
                .remedy
                .as_ref()
                .is_some_and(|text| text.contains("('public.reading')"))
        );
    }

    #[test]
    fn remedy_says_what_stands_in_its_way() {
        let remedy = |suspect: Suspect| found(&[suspect], Told::default())[0].remedy.clone();
        let remedy = |suspect| remedy(suspect).unwrap_or_default();
        let with = suspect(&["a"], &[7]);
        let text = remedy(Suspect {
            has_key: false,
            ..with.clone()
        });
        assert!(text.starts_with("-- it needs a primary key first") && text.contains("\nSELECT "));
        for hindered in [
            Suspect {
                is_inherited: true,
                ..with.clone()
            },
            Suspect {
                is_virtual: true,
                ..with.clone()
            },
            Suspect {
                name: "public.\"a\nDROP TABLE b; --\"".to_owned(),
                ..with
            },
        ] {
            let text = remedy(hindered);
            assert!(text.starts_with("-- ") && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn function_is_named_where_it_is() {
        let subscription = subscription("pglogical");
        let suspects = [suspect(&["a"], &[7])];
        let found = hazards(&suspects, &[&subscription], &HashMap::new(), "re pl");
        assert_eq!(
            found[0].remedy.as_deref(),
            Some("SELECT \"re pl\".repl_adopt_generated('public.loan_app');")
        );
    }

    #[test]
    fn partitioned_table_has_no_statement_that_mends_it() {
        let table = Suspect {
            is_partitioned: true,
            ..suspect(&[], &[7])
        };
        let found = found(&[table], Told::default());
        assert_eq!(found[0].cause, Cause::PartitionedTableCrash);
        assert!(
            found[0]
                .remedy
                .as_ref()
                .is_some_and(|text| text.starts_with("-- "))
        );
    }
}
