//! Whether the publisher has ceased to write, and this server can take over.

use super::facts::{Local, Publisher};
use super::row::{Row, count, listed, shown};
use crate::migrate::sequence::{self, Follower, Verdict};
use crate::subscription::quote::{identifier, literal};

pub(super) fn subscriber_writable(local: &Local) -> Row {
    const CHECK: &str = "subscriber_writable";
    if local.is_standby {
        let promote = "SELECT pg_promote();".to_owned();
        return Row::not_ready(CHECK, "This server is a standby.", Some(promote));
    }
    if let Some((database, role)) = local.read_only_settings.first() {
        let what = match (database, role) {
            (Some(database), None) => format!("DATABASE {}", identifier(database)),
            (None, Some(role)) => format!("ROLE {}", identifier(role)),
            (Some(database), Some(role)) => {
                format!(
                    "ROLE {} IN DATABASE {}",
                    identifier(role),
                    identifier(database)
                )
            }
            (None, None) => "ROLE ALL".to_owned(),
        };
        let finding = format!(
            "default_transaction_read_only is on for {}.",
            shown(&what.to_lowercase().replacen("role all", "all roles", 1))
        );
        let reset =
            format!("BEGIN READ WRITE; ALTER {what} RESET default_transaction_read_only; COMMIT;");
        return Row::not_ready(CHECK, finding, Some(reset));
    }
    if local.is_read_only {
        let reset =
            "ALTER SYSTEM SET default_transaction_read_only = off;\nSELECT pg_reload_conf();"
                .to_owned();
        return Row::not_ready(
            CHECK,
            "default_transaction_read_only is on for this server.",
            Some(reset),
        );
    }
    Row::ready(CHECK, "Transactions here may write.")
}

pub(super) fn publisher_writes(publisher: &Publisher) -> Row {
    const CHECK: &str = "publisher_writes";
    let database = identifier(&publisher.database);
    if publisher.prepared > 0 {
        let number = usize::try_from(publisher.prepared).unwrap_or(usize::MAX);
        let finding = format!(
            "{} on the publisher, and may still be committed.",
            count(
                number,
                "transaction is prepared",
                "transactions are prepared"
            )
        );
        let look = "-- on the publisher, and then COMMIT PREPARED or ROLLBACK PREPARED:\n\
             SELECT gid, owner, prepared FROM pg_prepared_xacts WHERE database = current_database();";
        return Row::not_ready(CHECK, finding, Some(look.to_owned()));
    }
    let number: i64 = publisher.sessions.iter().map(|one| one.number).sum();
    if number > 0 {
        let writing: i64 = publisher.sessions.iter().map(|one| one.writing).sum();
        let who = publisher.sessions.iter().map(|one| {
            let application = one.application.as_deref().filter(|name| !name.is_empty());
            format!(
                "{} as {} ({})",
                application.unwrap_or("no name"),
                one.user,
                one.number
            )
        });
        let at_work = match writing {
            0 if !publisher.sees_all => {
                ", of which the role of the connection string may not see what they do".to_owned()
            }
            0 => String::new(),
            1 => ", 1 of them in a transaction that has written".to_owned(),
            writing => format!(", {writing} of them in transactions that have written"),
        };
        let finding = format!(
            "{} to the publisher's database{at_work}: {}.",
            count(
                usize::try_from(number).unwrap_or(usize::MAX),
                "other session is connected",
                "other sessions are connected"
            ),
            listed(who)
        );
        let stop = format!(
            "-- on the publisher, when the application is stopped:\n\
             ALTER DATABASE {database} SET default_transaction_read_only = on;\n\
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity\n \
             WHERE datname = {} AND backend_type = 'client backend'\n   \
             AND application_name <> 'replwarden' AND pid <> pg_backend_pid();",
            literal(&publisher.database)
        );
        return Row::not_ready(CHECK, finding, Some(stop));
    }
    Row::ready(
        CHECK,
        if publisher.is_read_only {
            "No other session is there, and new ones begin read-only."
        } else {
            "No other session is there; new ones could write."
        },
    )
}

pub(super) fn sequences(subscription: &str, followers: &[Follower]) -> Row {
    const CHECK: &str = "sequences";
    let missing: Vec<_> = followers
        .iter()
        .filter(|one| one.is_missing())
        .map(|one| &one.there)
        .collect();
    if !missing.is_empty() {
        let finding = format!(
            "{} not here: {}.",
            count(
                missing.len(),
                "sequence of the publisher is",
                "sequences of the publisher are"
            ),
            listed(missing.iter().map(|one| one.shown()))
        );
        return Row::not_ready(CHECK, finding, Some(sequence::definitions(&missing)));
    }
    let mut behind = Vec::new();
    let mut unknown = Vec::new();
    let mut unfit = Vec::new();
    let mut number = 0;
    for one in followers {
        let Some((local, position)) = &one.here else {
            continue;
        };
        number += 1;
        match one.verdict(local, *position, 0) {
            Verdict::Ahead => {}
            Verdict::Behind(_) => behind.push(&local.shown),
            Verdict::Unknown => unknown.push(&one.there),
            Verdict::Unfit(misfit) => unfit.push(one.misfit(local, misfit)),
        }
    }
    if !unknown.is_empty() {
        let finding = format!(
            "Not checked: the publisher's role may not read {}: {}.",
            count(unknown.len(), "sequence", "sequences"),
            listed(unknown.iter().map(|one| one.shown()))
        );
        let grant = format!("-- {}", sequence::grant(&unknown));
        return Row::not_ready(CHECK, finding, Some(grant));
    }
    if let Some(first) = unfit.first() {
        let (_, remedy) = first.detail_and_hint();
        let text = first.to_string();
        let mut letters = text.chars();
        let text: String = letters
            .next()
            .map(|letter| letter.to_uppercase().chain(letters).collect())
            .unwrap_or_default();
        let more = match unfit.len() {
            1 => String::new(),
            number => format!(" So it is with {} more.", number - 1),
        };
        return Row::not_ready(CHECK, format!("{}.{more}", shown(&text)), Some(remedy));
    }
    if !behind.is_empty() {
        let finding = format!(
            "{} behind the publisher: {}.",
            count(behind.len(), "sequence is", "sequences are"),
            listed(behind)
        );
        let sync = format!(
            "SELECT * FROM repl_sync_sequences({});",
            literal(subscription)
        );
        return Row::not_ready(CHECK, finding, Some(sync));
    }
    Row::ready(
        CHECK,
        match number {
            0 => "There are none.".to_owned(),
            1 => "The only one is not behind the publisher's.".to_owned(),
            number => format!("None of {number} is behind the publisher's."),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::super::facts::Sessions;
    use super::*;

    #[test]
    fn server_that_cannot_write_is_not_ready() {
        let mut local = Local::default();
        assert!(subscriber_writable(&local).ready);
        local.is_read_only = true;
        assert!(!subscriber_writable(&local).ready);
        local
            .read_only_settings
            .push((Some("Shop".to_owned()), None));
        assert_eq!(
            subscriber_writable(&local).remedy.as_deref(),
            Some(
                "BEGIN READ WRITE; ALTER DATABASE \"Shop\" RESET default_transaction_read_only; COMMIT;"
            )
        );
        local.is_standby = true;
        let finding = subscriber_writable(&local).finding;
        assert_eq!(finding, "This server is a standby.");
    }

    #[test]
    fn sessions_of_others_could_write() {
        let mut publisher = Publisher {
            database: "it's".to_owned(),
            ..Publisher::default()
        };
        assert!(publisher_writes(&publisher).ready);
        publisher.sessions = vec![
            Sessions {
                application: Some("web\n".to_owned()),
                user: "app".to_owned(),
                number: 2,
                writing: 1,
            },
            Sessions {
                application: Some(String::new()),
                user: "me".to_owned(),
                number: 1,
                writing: 0,
            },
        ];
        let row = publisher_writes(&publisher);
        assert_eq!(
            row.finding,
            "3 other sessions are connected to the publisher's database, 1 of them in a transaction that has written: \
             web? as app (2) and no name as me (1)."
        );
        let remedy = row.remedy.unwrap_or_default();
        assert!(
            remedy.contains("ALTER DATABASE \"it's\" SET") && remedy.contains("datname = 'it''s'")
        );
        publisher.prepared = 1;
        let row = publisher_writes(&publisher);
        assert!(row.finding.starts_with("1 transaction is prepared"));
    }
}
