//! Foreign keys that were detached for a copy and that nobody has brought back since.

use super::{Cause, Hazard, RENAME, is_plain, shown};
use crate::migrate::foreign_key::Forgotten;
use crate::subscription::provider::Subscription;
use crate::subscription::quote::literal;

/// Of subscriptions all of whose tables are ready: it is time.
pub(super) fn hazards(keys: &[Forgotten], subscriptions: &[Subscription]) -> Vec<Hazard> {
    let mut found: Vec<Hazard> = Vec::new();
    for key in keys {
        let mut subscriptions = subscriptions.iter().filter(|one| key.is_of(one));
        let Some(first) = subscriptions.next() else {
            continue;
        };
        if first.is_copying() || subscriptions.any(Subscription::is_copying) {
            continue;
        }
        let object = Some(key.relation.clone());
        let cause = Cause::ForeignKeyDetached;
        // One for each table: its keys come back together.
        let known = found
            .iter_mut()
            .find(|one| one.object == object && one.is_of(first));
        match known {
            Some(known) => {
                known.finding.push(' ');
                known.finding.push_str(&finding(key));
                if let Some(keys) = known.evidence["keys"].as_array_mut() {
                    keys.push(evidence(key));
                }
            }
            None => found.push(Hazard {
                finding: finding(key),
                evidence: serde_json::json!({"keys": [evidence(key)]}),
                remedy: Some(remedy(key)),
                ..Hazard::new(first, cause, object)
            }),
        }
    }
    found
}

impl Forgotten {
    fn is_of(&self, subscription: &Subscription) -> bool {
        let ids = match subscription.provider.as_str() {
            "native" => &self.native,
            _ => &self.pglogical,
        };
        ids.contains(&subscription.id)
    }
}

fn finding(key: &Forgotten) -> String {
    let name = shown(&key.name);
    let table = shown(&key.relation);
    let (how, consequence) = if key.is_back {
        ("is back, but not valid", "existing rows may break it")
    } else {
        (
            "is detached",
            "once the application writes here nothing keeps it from writing rows that refer to nothing",
        )
    };
    match &key.problem {
        Some(problem) => format!(
            "Foreign key {name} of {table} {how}: {}.",
            shown(problem).trim_end_matches('.')
        ),
        None => format!(
            "Foreign key {name} of {table} {how}, though all tables are copied; {consequence}."
        ),
    }
}

fn evidence(key: &Forgotten) -> serde_json::Value {
    serde_json::json!({
        "constraint": key.name,
        "referenced": key.referenced,
        "is_back": key.is_back,
        "problem": key.problem,
    })
}

fn remedy(key: &Forgotten) -> String {
    if !is_plain(&key.relation) {
        return RENAME.to_owned();
    }
    format!(
        "SELECT repl_restore_foreign_keys({});",
        literal(&key.relation)
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::subscription;
    use super::*;

    fn key(name: &str) -> Forgotten {
        Forgotten {
            relation: "public.orders".to_owned(),
            name: name.to_owned(),
            native: vec![7],
            ..Forgotten::default()
        }
    }

    #[test]
    fn it_is_time_when_all_tables_are_ready() {
        let ready = subscription("native");
        let found = hazards(&[key("a"), key("b")], std::slice::from_ref(&ready));
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].remedy.as_deref(),
            Some("SELECT repl_restore_foreign_keys('public.orders');")
        );
        assert!(found[0].finding.contains(" b "), "{}", found[0].finding);
        let copying = Subscription {
            tables_total: 2,
            tables_ready: 1,
            ..ready
        };
        assert!(hazards(&[key("a")], &[copying]).is_empty());
        assert!(hazards(&[key("a")], &[subscription("pglogical")]).is_empty());
    }
}
