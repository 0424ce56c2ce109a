//! Whether what an application needs is here, and at work.

use super::facts::{Key, Local, Publisher, Trigger};
use super::row::{Row, count, listed, qualified, statements};
use crate::subscription::quote::{identifier, literal, readable};
use std::collections::HashSet;

pub(super) fn rules(local: &Local) -> Row {
    const CHECK: &str = "derived_columns";
    // Those whose table is being brought up are told of by another check.
    let broken = local.rules.iter();
    let broken: Vec<_> = broken
        .filter(|rule| !matches!(rule.state.as_str(), "live" | "backfilling"))
        .collect();
    if let Some(first) = broken.first() {
        let names = broken
            .iter()
            .map(|rule| format!("{}.{} ({})", rule.relation, rule.column, rule.state));
        let mut finding = format!(
            "{} not at work: {}.",
            count(broken.len(), "rule is", "rules are"),
            listed(names)
        );
        if let Some(error) = &first.error {
            finding.push_str(&format!(" {error}"));
        }
        let look = "SELECT relation, column_name, state, last_error FROM repl_generated_columns WHERE state <> 'live';";
        return Row::not_ready(CHECK, finding, Some(look.to_owned()));
    }
    Row::ready(
        CHECK,
        match local.rules.len() {
            0 => "There are no rules.".to_owned(),
            number => format!("{} at work.", count(number, "rule is", "rules are")),
        },
    )
}

pub(super) fn backfills(local: &Local) -> Row {
    const CHECK: &str = "backfills";
    if local.backfills.is_empty() {
        return Row::ready(CHECK, "None is open.");
    }
    let open = local.backfills.iter().map(|one| match one.percent {
        Some(percent) if one.state == "running" => {
            format!("{} (running, {percent} %)", one.relation)
        }
        _ => format!("{} ({})", one.relation, one.state),
    });
    let finding = format!(
        "{} not done: {}.",
        count(local.backfills.len(), "backfill is", "backfills are"),
        listed(open)
    );
    // One that is queued or running ends by itself.
    let ended = local.backfills.iter();
    let ended: Vec<String> = ended
        .filter(|one| matches!(one.state.as_str(), "failed" | "cancelled"))
        .map(|one| format!("SELECT repl_backfill({});", literal(&one.relation)))
        .collect();
    let first = local.backfills.first().map_or(0, |one| one.id);
    let remedy = if ended.is_empty() {
        format!("SELECT state, percent, eta, error FROM repl_backfills WHERE id >= {first};")
    } else {
        statements(ended.into_iter())
    };
    Row::not_ready(CHECK, finding, Some(remedy))
}

pub(super) fn indexes(local: &Local) -> Row {
    const CHECK: &str = "indexes";
    if local.indexes.is_empty() {
        return Row::ready(CHECK, "All indexes of the replicated tables are valid.");
    }
    let finding = format!(
        "{} not valid, unless somebody is building them now: {}.",
        count(local.indexes.len(), "index is", "indexes are"),
        listed(local.indexes.iter().map(|one| &one.name))
    );
    let remedies = local.indexes.iter().map(|one| {
        if one.is_partitioned {
            format!(
                "ALTER INDEX {} ATTACH PARTITION …; -- one of each partition that lacks it",
                one.name
            )
        } else {
            format!("REINDEX INDEX CONCURRENTLY {};", one.name)
        }
    });
    Row::not_ready(CHECK, finding, Some(statements(remedies)))
}

fn definition(key: &Key) -> &str {
    key.definition.trim_end_matches(" NOT VALID")
}

pub(super) fn foreign_keys(local: &Local, heard: Result<&Publisher, &str>) -> Row {
    const CHECK: &str = "foreign_keys";
    if !local.detached.is_empty() {
        let names = local
            .detached
            .iter()
            .map(|(table, name, state)| format!("{name} of {table} ({state})"));
        let finding = format!(
            "{} not back: {}.",
            count(local.detached.len(), "foreign key is", "foreign keys are"),
            listed(names)
        );
        let restore = "SELECT repl_restore_foreign_keys();".to_owned();
        return Row::not_ready(CHECK, finding, Some(restore));
    }
    let theirs: &[Key] = heard.map_or(&[], |publisher| &publisher.keys);
    let is_same = |one: &Key, other: &Key| {
        (&one.schema, &one.table) == (&other.schema, &other.table)
            && (one.name == other.name || definition(one) == definition(other))
    };
    let invalid: Vec<&Key> = local
        .keys
        .iter()
        .filter(|key| !key.is_valid)
        // The publisher does without, too.
        .filter(|key| {
            !theirs
                .iter()
                .any(|other| !other.is_valid && is_same(key, other))
        })
        .collect();
    if !invalid.is_empty() {
        let finding = format!(
            "{} not validated: {}.",
            count(invalid.len(), "foreign key is", "foreign keys are"),
            listed(invalid.iter().map(|key| of_table(key)))
        );
        let remedies = invalid.iter().map(|key| {
            format!(
                "ALTER TABLE {} VALIDATE CONSTRAINT {};",
                qualified(&key.schema, &key.table),
                identifier(&key.name)
            )
        });
        return Row::not_ready(CHECK, finding, Some(statements(remedies)));
    }
    if let Err(why) = heard {
        let why = format!("whether the publisher has more of them. {why}");
        return Row::not_checked(CHECK, &why);
    }
    let known: HashSet<(&str, &str, &str)> = local
        .keys
        .iter()
        .flat_map(|key| [key.name.as_str(), definition(key)].map(|what| (key, what)))
        .map(|(key, what)| (key.schema.as_str(), key.table.as_str(), what))
        .collect();
    let here: HashSet<(&str, &str)> = local
        .here
        .iter()
        .map(|(schema, table)| (schema.as_str(), table.as_str()))
        .collect();
    let missing: Vec<&Key> = theirs
        .iter()
        .filter(|key| {
            let (schema, table) = (key.schema.as_str(), key.table.as_str());
            here.contains(&(schema, table))
                && !known.contains(&(schema, table, key.name.as_str()))
                && !known.contains(&(schema, table, definition(key)))
        })
        .collect();
    if !missing.is_empty() {
        let finding = format!(
            "{} not here: {}.",
            count(
                missing.len(),
                "foreign key of the publisher is",
                "foreign keys of the publisher are"
            ),
            listed(missing.iter().map(|key| of_table(key)))
        );
        let remedies = missing.iter().map(|key| {
            format!(
                "ALTER TABLE {} ADD CONSTRAINT {} {};",
                qualified(&key.schema, &key.table),
                identifier(&key.name),
                key.definition
            )
        });
        return Row::not_ready(CHECK, finding, Some(statements(remedies)));
    }
    Row::ready(
        CHECK,
        match local.keys.len() {
            0 => "There are none.".to_owned(),
            1 => "The only one is here.".to_owned(),
            number => format!("All {number} are here."),
        },
    )
}

fn of_table(key: &Key) -> String {
    format!("{} of {}", key.name, readable(&key.schema, &key.table))
}

pub(super) fn triggers(local: &Local, heard: Result<&Publisher, &str>) -> Row {
    const CHECK: &str = "triggers";
    if local.triggers.is_empty() {
        return Row::ready(CHECK, "All triggers of the replicated tables are enabled.");
    }
    let publisher = match heard {
        Ok(publisher) => publisher,
        Err(why) => {
            let why = format!(
                "whether the publisher has them enabled: {}. {why}",
                listed(local.triggers.iter().map(of_trigger))
            );
            return Row::not_checked(CHECK, &why);
        }
    };
    let fire: HashSet<(&str, &str, &str)> = publisher
        .triggers
        .iter()
        .map(|(schema, table, name)| (schema.as_str(), table.as_str(), name.as_str()))
        .collect();
    let (off, others): (Vec<&Trigger>, Vec<&Trigger>) = local
        .triggers
        .iter()
        .partition(|one| fire.contains(&(&one.schema, &one.table, &one.name)));
    if off.is_empty() {
        let finding = format!(
            "The publisher has none enabled that is not so here. {} fire for an application: {}.",
            count(others.len(), "does not", "do not"),
            listed(others.into_iter().map(of_trigger))
        );
        return Row::ready(CHECK, finding);
    }
    let finding = format!(
        "{} for an application on the publisher and not here: {}.",
        count(off.len(), "trigger fires", "triggers fire"),
        listed(off.iter().map(|one| of_trigger(one)))
    );
    let remedies = off.iter().map(|one| {
        format!(
            "ALTER TABLE {} ENABLE TRIGGER {};",
            qualified(&one.schema, &one.table),
            identifier(&one.name)
        )
    });
    Row::not_ready(CHECK, finding, Some(statements(remedies)))
}

fn of_trigger(trigger: &Trigger) -> String {
    let how = if trigger.enabled == "R" {
        "ENABLE REPLICA"
    } else {
        "disabled"
    };
    let table = readable(&trigger.schema, &trigger.table);
    format!("{} of {table} ({how})", trigger.name)
}

pub(super) fn statistics(local: &Local) -> Row {
    const CHECK: &str = "statistics";
    let tables = &local.unanalyzed;
    if tables.is_empty() {
        return Row::ready(CHECK, "All replicated tables with rows are analyzed.");
    }
    let finding = format!(
        "{} rows and no statistics: {}.",
        count(tables.len(), "table has", "tables have"),
        listed(tables)
    );
    // Each table is done in a transaction of its own (vacuum() of commands/vacuum.c).
    let analyze = format!(
        "ANALYZE {}; -- or vacuumdb --analyze-in-stages",
        tables.join(", ")
    );
    Row::not_ready(CHECK, finding, Some(analyze))
}

#[cfg(test)]
mod tests {
    use super::super::facts::{Backfill, Index, Rule};
    use super::*;

    const AWAY: Result<&Publisher, &str> = Err("It is away.");

    fn key(name: &str, is_valid: bool) -> Key {
        let end = if is_valid { "" } else { " NOT VALID" };
        Key {
            schema: "public".to_owned(),
            table: "item".to_owned(),
            name: name.to_owned(),
            definition: format!("FOREIGN KEY ({name}) REFERENCES public.other(id){end}"),
            is_valid,
        }
    }

    fn here(keys: Vec<Key>) -> Local {
        Local {
            keys,
            here: vec![("public".to_owned(), "item".to_owned())],
            ..Local::default()
        }
    }

    fn there(keys: Vec<Key>) -> Publisher {
        Publisher {
            keys,
            ..Publisher::default()
        }
    }

    #[test]
    fn rule_that_is_not_live_and_backfill_that_is_not_done() {
        let rule = |state: &str| Rule {
            relation: "public.item".to_owned(),
            column: "b".to_owned(),
            state: state.to_owned(),
            error: Some("because".to_owned()),
        };
        let mut local = Local {
            rules: vec![rule("live"), rule("backfilling")],
            ..Local::default()
        };
        assert!(rules(&local).ready && backfills(&local).ready);
        local.rules.push(rule("broken"));
        assert_eq!(
            rules(&local).finding,
            "1 rule is not at work: public.item.b (broken). because"
        );
        let backfill = |state: &str| Backfill {
            id: 4,
            relation: "public.\"It's\"".to_owned(),
            state: state.to_owned(),
            percent: Some(12.5),
        };
        local.backfills.push(backfill("running"));
        let row = backfills(&local);
        assert!(row.finding.contains("(running, 12.5 %)"));
        assert!(row.remedy.is_some_and(|sql| sql.contains("id >= 4")));
        local.backfills.push(backfill("failed"));
        let remedy = backfills(&local).remedy;
        assert_eq!(
            remedy.as_deref(),
            Some("SELECT repl_backfill('public.\"It''s\"');")
        );
    }

    #[test]
    fn index_that_is_not_valid_is_built_anew() {
        let index = |name: &str, is_partitioned| Index {
            name: name.to_owned(),
            is_partitioned,
        };
        let local = Local {
            indexes: vec![index("public.a", false), index("public.b", true)],
            ..Local::default()
        };
        let remedy = indexes(&local).remedy.unwrap_or_default();
        assert!(remedy.starts_with("REINDEX INDEX CONCURRENTLY public.a;\nALTER INDEX public.b"));
        assert!(indexes(&Local::default()).ready);
    }

    #[test]
    fn detached_keys_come_before_all() {
        let mut local = here(vec![key("a", false)]);
        local.detached.push(
            ["public.item", "a_fkey", "detached"]
                .map(str::to_owned)
                .into(),
        );
        let row = foreign_keys(&local, AWAY);
        assert_eq!(
            row.finding,
            "1 foreign key is not back: a_fkey of public.item (detached)."
        );
    }

    #[test]
    fn key_has_to_be_as_valid_as_the_publishers() {
        let local = here(vec![key("a", false)]);
        let row = foreign_keys(&local, Ok(&there(vec![key("a", true)])));
        assert_eq!(
            row.remedy.as_deref(),
            Some("ALTER TABLE \"public\".\"item\" VALIDATE CONSTRAINT \"a\";")
        );
        assert!(!foreign_keys(&local, AWAY).ready);
        assert!(foreign_keys(&local, Ok(&there(vec![key("a", false)]))).ready);
    }

    #[test]
    fn key_of_the_publisher_has_to_be_here_under_any_name() {
        let publisher = there(vec![key("a", true)]);
        let row = foreign_keys(&here(Vec::new()), Ok(&publisher));
        assert_eq!(
            row.remedy.as_deref(),
            Some(
                "ALTER TABLE \"public\".\"item\" ADD CONSTRAINT \"a\" FOREIGN KEY (a) REFERENCES public.other(id);"
            )
        );
        let renamed = Key {
            name: "b".to_owned(),
            ..key("a", true)
        };
        assert!(foreign_keys(&here(vec![renamed]), Ok(&publisher)).ready);
        // The table is the matter of another check.
        assert!(foreign_keys(&Local::default(), Ok(&publisher)).ready);
        let row = foreign_keys(&here(vec![key("a", true)]), AWAY);
        assert!(row.finding.starts_with("Not checked: "));
    }

    #[test]
    fn trigger_has_to_fire_where_the_publishers_does() {
        let trigger = |name: &str, enabled: &str| Trigger {
            schema: "public".to_owned(),
            table: "item".to_owned(),
            name: name.to_owned(),
            enabled: enabled.to_owned(),
        };
        let local = Local {
            triggers: vec![trigger("a", "D"), trigger("b", "R")],
            ..Local::default()
        };
        let mut publisher = Publisher::default();
        let row = triggers(&local, Ok(&publisher));
        assert!(row.ready && row.finding.contains("b of public.item (ENABLE REPLICA)"));
        let name = |name: &str| ("public".to_owned(), "item".to_owned(), name.to_owned());
        publisher.triggers.push(name("a"));
        let row = triggers(&local, Ok(&publisher));
        assert_eq!(
            row.remedy.as_deref(),
            Some("ALTER TABLE \"public\".\"item\" ENABLE TRIGGER \"a\";")
        );
        assert!(!triggers(&local, AWAY).ready);
        assert!(triggers(&Local::default(), AWAY).ready);
    }

    #[test]
    fn tables_without_statistics_are_analyzed_at_once() {
        let local = Local {
            unanalyzed: vec!["public.a".to_owned(), "public.b".to_owned()],
            ..Local::default()
        };
        let remedy = statistics(&local).remedy;
        assert!(remedy.is_some_and(|sql| sql.starts_with("ANALYZE public.a, public.b; -- ")));
        assert!(statistics(&Local::default()).ready);
    }
}
