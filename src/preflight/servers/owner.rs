//! With what the workers of a subscription run: settings and rights of its owner.

use super::super::Plan;
use super::super::line::{Line, Node, Severity};
use super::advice::{From, listed, set, shown};
use super::facts::{Here, OwnerSetting};
use super::one;
use crate::subscription::conninfo::Conninfo;
use crate::subscription::quote::identifier;
use serde_json::Value;

/// Settings of the role or the database that hold for workers, too.
pub(super) fn settings(_: &Plan, here: &Here) -> Vec<Line> {
    const NAME: &str = "owner_settings";
    let lines: Vec<Line> = here
        .owner_settings
        .iter()
        .filter_map(|one| {
            let value = one.value.trim();
            let is_off = matches!(value, "off" | "false" | "no") || value.starts_with('0');
            let (severity, what) = match one.name.as_str() {
                _ if is_off => return None,
                "default_transaction_read_only" => (Severity::Error, "workers cannot write a row"),
                "transaction_timeout" => (
                    Severity::Warning,
                    "a copy or a transaction that takes longer is ended, and begins anew",
                ),
                _ => (
                    Severity::Info,
                    "a worker that waits for a lock for longer fails, and begins anew",
                ),
            };
            let whose = whose(one);
            let line = Line::new(
                severity,
                NAME,
                format!("{} is {} {whose}: {what}.", one.name, shown(value)),
            )
            .on(&one.name);
            let names: Vec<&str> = [&one.role, &one.database]
                .into_iter()
                .flatten()
                .map(String::as_str)
                .collect();
            Some(line.naming(Node::Subscriber, &names, &reset(one)))
        })
        .collect();
    if !lines.is_empty() {
        return lines;
    }
    let owner = here.owner.as_ref().map_or("", |one| one.name.as_str());
    one(Line::ok(
        NAME,
        format!(
            "Workers of role \"{}\" may write here, without lock_timeout or transaction_timeout.",
            shown(owner)
        ),
    ))
}

fn whose(setting: &OwnerSetting) -> String {
    match (&setting.role, &setting.database) {
        (Some(role), Some(database)) => {
            format!(
                "for role \"{}\" in database \"{}\"",
                shown(role),
                shown(database)
            )
        }
        (Some(role), None) => format!("for role \"{}\"", shown(role)),
        (None, Some(database)) => format!("for database \"{}\"", shown(database)),
        (None, None) if setting.is_own => "for all roles".to_owned(),
        (None, None) => "on this server".to_owned(),
    }
}

/// Where it comes from. Whoever pastes it may be read-only, too.
fn reset(setting: &OwnerSetting) -> String {
    let role = setting.role.as_deref().map(identifier);
    let database = setting.database.as_deref().map(identifier);
    let place = match (role, database) {
        (Some(role), Some(database)) => format!("ROLE {role} IN DATABASE {database}"),
        (Some(role), None) => format!("ROLE {role}"),
        (None, Some(database)) => format!("DATABASE {database}"),
        (None, None) if setting.is_own => "ROLE ALL".to_owned(),
        (None, None) => {
            let value = if setting.name == "default_transaction_read_only" {
                "off"
            } else {
                "0"
            };
            return set(&setting.name, value, From::Reload);
        }
    };
    format!(
        "BEGIN READ WRITE;\nALTER {place} RESET {};\nCOMMIT;",
        setting.name
    )
}

/// 16+: who is no superuser connects with a password of the connection string, or not at all.
pub(super) fn password(plan: &Plan, here: &Here) -> Vec<Line> {
    const NAME: &str = "owner_password";
    let Some(owner) = here.owner.as_ref().filter(|_| plan.is_native()) else {
        return Vec::new();
    };
    let required = match &here.subscription {
        Some(row) => flag(row, "subpasswordrequired"),
        None => Some(here.version >= 160_000),
    };
    let name = shown(&owner.name);
    if owner.is_superuser || required != Some(true) {
        return one(Line::ok(
            NAME,
            format!("Workers of role \"{name}\" need no password in the connection string."),
        ));
    }
    if Conninfo::parse(&plan.conninfo).has_password() {
        return one(Line::ok(
            NAME,
            format!("Role \"{name}\" is no superuser, and the connection string has a password."),
        ));
    }
    let line = Line::new(
        Severity::Error,
        NAME,
        format!(
            "Role \"{name}\" is no superuser, and the connection string has no password: the server does not connect (password_required)."
        ),
    );
    one(match &plan.subscription {
        Some(one) => line.naming(
            Node::Subscriber,
            &[&one.subscription],
            &format!(
                "-- give it a password: ALTER SUBSCRIPTION {0} CONNECTION '… password=…';\n\
                 -- or, as a superuser: ALTER SUBSCRIPTION {0} SET (password_required = false);",
                identifier(&one.subscription)
            ),
        ),
        None => line.remedy(
            Node::Subscriber,
            "-- give it one, or let a superuser create the subscription",
        ),
    })
}

/// 16+: each table is written as its owner, whom the owner of the subscription has to be able to become.
pub(super) fn set_role(plan: &Plan, here: &Here) -> Vec<Line> {
    const NAME: &str = "owner_set_role";
    let (Some(row), Some(owner)) = (&here.subscription, &here.owner) else {
        return Vec::new();
    };
    let Some(runs_as_owner) = flag(row, "subrunasowner").filter(|_| plan.is_native()) else {
        return Vec::new();
    };
    let name = shown(&owner.name);
    if runs_as_owner || here.unreachable_owners.is_empty() {
        let how = if runs_as_owner {
            "writes all tables itself (run_as_owner)"
        } else {
            "may become the owner of each table"
        };
        return one(Line::ok(NAME, format!("Role \"{name}\" {how}.")));
    }
    let owners = here.unreachable_owners.iter().map(String::as_str);
    let line = Line::new(
        Severity::Error,
        NAME,
        format!(
            "Role \"{name}\" may not SET ROLE to owners of its tables: {}.",
            listed(owners.clone())
        ),
    );
    let names: Vec<&str> = owners.clone().chain([owner.name.as_str()]).collect();
    let owners: Vec<String> = owners.map(identifier).collect();
    let grant = format!(
        "GRANT {} TO {};",
        owners.join(", "),
        identifier(&owner.name)
    );
    one(line.naming(Node::Subscriber, &names, &grant))
}

fn flag(row: &Value, column: &str) -> Option<bool> {
    row.get(column).and_then(Value::as_bool)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(
        name: &str,
        value: &str,
        role: Option<&str>,
        database: Option<&str>,
    ) -> OwnerSetting {
        OwnerSetting {
            name: name.to_owned(),
            value: value.to_owned(),
            role: role.map(str::to_owned),
            database: database.map(str::to_owned),
            is_own: role.is_some() || database.is_some(),
        }
    }

    #[test]
    fn setting_is_reset_where_it_was_made() {
        let read_only = "default_transaction_read_only";
        for (one, place) in [
            (
                setting(read_only, "on", Some("a\"b"), None),
                "ALTER ROLE \"a\"\"b\" RESET",
            ),
            (
                setting(read_only, "on", None, Some("shop")),
                "ALTER DATABASE \"shop\" RESET",
            ),
            (
                setting(read_only, "on", None, None),
                "ALTER SYSTEM SET default_transaction_read_only = off",
            ),
            (
                setting("lock_timeout", "5s", None, None),
                "ALTER SYSTEM SET lock_timeout = 0",
            ),
        ] {
            let sql = reset(&one);
            assert!(sql.contains(place), "{sql}");
        }
    }

    #[test]
    fn what_is_off_is_no_finding() {
        let plan = Plan::default();
        let here = Here {
            owner_settings: vec![
                setting("default_transaction_read_only", "off", None, None),
                setting("lock_timeout", "0ms", None, None),
                setting("transaction_timeout", "1min", Some("me"), Some("shop")),
            ],
            ..Here::default()
        };
        let lines = settings(&plan, &here);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0].severity, Severity::Warning);
        assert!(
            lines[0]
                .finding
                .contains("role \"me\" in database \"shop\""),
            "{lines:?}"
        );
    }

    fn of_row(row: Value) -> Here {
        Here {
            version: 160_004,
            owner: Some(super::super::facts::Owner {
                name: "me".to_owned(),
                is_superuser: false,
            }),
            subscription: Some(row),
            unreachable_owners: vec!["a\"b".to_owned(), "c".to_owned()],
            ..Here::default()
        }
    }

    fn native(conninfo: &str) -> Plan {
        Plan {
            provider: "native",
            conninfo: conninfo.to_owned(),
            ..Plan::default()
        }
    }

    #[test]
    fn owner_without_password_does_not_connect() {
        let required = of_row(serde_json::json!({"subpasswordrequired": true}));
        let free = of_row(serde_json::json!({"subpasswordrequired": false}));
        let old = of_row(serde_json::json!({}));
        for (here, conninfo, expected) in [
            (&required, "host=a", Severity::Error),
            (&required, "host=a password=x", Severity::Ok),
            (&free, "host=a", Severity::Ok),
            (&old, "host=a", Severity::Ok),
        ] {
            let lines = password(&native(conninfo), here);
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert_eq!(lines[0].severity, expected, "{lines:?}");
        }
    }

    #[test]
    fn owner_has_to_be_able_to_become_those_of_the_tables() {
        let lines = set_role(
            &native(""),
            &of_row(serde_json::json!({"subrunasowner": false})),
        );
        assert_eq!(lines[0].severity, Severity::Error, "{lines:?}");
        let remedy = lines[0].remedy.as_deref().unwrap_or_default();
        assert!(
            remedy.ends_with("GRANT \"a\"\"b\", \"c\" TO \"me\";"),
            "{remedy}"
        );
        let lines = set_role(
            &native(""),
            &of_row(serde_json::json!({"subrunasowner": true})),
        );
        assert_eq!(lines[0].severity, Severity::Ok, "{lines:?}");
        // Up to 15 there is no such thing.
        assert!(set_role(&native(""), &of_row(serde_json::json!({}))).is_empty());
    }
}
