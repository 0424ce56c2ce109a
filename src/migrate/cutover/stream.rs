//! Whether everything that the publisher had has come.

use super::facts::{Local, Publisher};
use super::row::{Row, count, listed, shown};
use crate::subscription::finding::lsn;
use crate::subscription::provider::{self, Subscription};
use crate::subscription::quote::literal;
use crate::subscription::state::SYNC_STATES;
use crate::subscription::unit;

/// What `repl_subscriptions` says of a subscription, and `repl_diagnose()` besides.
pub(super) struct Condition {
    pub(super) state: &'static str,
    pub(super) cause: Option<&'static str>,
    pub(super) finding: Option<String>,
    pub(super) remedy: Option<String>,
    /// What is found to be wrong and does not explain the state, with what to do about it.
    pub(super) besides: Vec<(String, Option<String>)>,
    /// And how many seconds ago.
    pub(super) last_error: Option<(String, f64)>,
}

impl Condition {
    /// It comes to the same error again and again, or has given up.
    fn is_failing(&self) -> bool {
        matches!(self.state, "retrying" | "crash_loop") || self.cause == Some("disabled_on_error")
    }
}

pub(super) fn subscription(condition: &Condition) -> Row {
    const CHECK: &str = "subscription";
    match (condition.state, condition.cause) {
        ("streaming", _) => Row::ready(CHECK, "It streams."),
        // How far it is says another check.
        ("catching_up", None) => Row::ready(CHECK, "It streams, and is catching up."),
        // So does that of its tables.
        ("copying", None) => Row::not_ready(CHECK, "It is copying tables.", None),
        (state, cause) => {
            let cause = cause.map_or(String::new(), |cause| format!(" ({cause})"));
            let why = condition.finding.as_deref().unwrap_or_default();
            let finding = format!("It is {state}{cause}. {why}");
            Row::not_ready(CHECK, finding.trim_end(), condition.remedy.clone())
        }
    }
}

pub(super) fn errors(condition: &Condition) -> Row {
    const CHECK: &str = "errors";
    let Some((first, _)) = condition.besides.first() else {
        let Some((error, age)) = &condition.last_error else {
            return Row::ready(CHECK, "repl_diagnose() finds nothing else.");
        };
        let last = format!(
            "The last one, {} ago: {}.",
            unit::duration(*age),
            shown(error.trim_end_matches('.'))
        );
        // What to do about it says the check of the subscription.
        return if condition.is_failing() {
            Row::not_ready(CHECK, last, None)
        } else if condition.cause.is_some() {
            Row::ready(CHECK, format!("repl_diagnose() finds nothing else. {last}"))
        } else {
            Row::ready(CHECK, format!("None is pending. {last}"))
        };
    };
    let finding = match condition.besides.len() {
        1 => first.clone(),
        number => format!(
            "{first} {} found; see repl_diagnose().",
            count(number - 1, "more is", "more are")
        ),
    };
    let remedies = condition.besides.iter();
    let remedies: Vec<&str> = remedies
        .filter_map(|(_, remedy)| remedy.as_deref())
        .collect();
    let remedy = (!remedies.is_empty()).then(|| remedies.join("\n"));
    Row::not_ready(CHECK, finding, remedy)
}

/// `heard`: why the publisher does not tell what it publishes.
pub(super) fn tables(
    subscription: &Subscription,
    local: &Local,
    heard: Result<&Publisher, &str>,
) -> Row {
    const CHECK: &str = "tables";
    if let Some(code) = &subscription.initial_code {
        let finding = format!(
            "The subscription is not initialized: {}.",
            word(&subscription.provider, code)
        );
        return Row::not_ready(CHECK, finding, None);
    }
    if !local.unready.is_empty() {
        let tables = local
            .unready
            .iter()
            .map(|(name, code)| format!("{name} ({})", word(&subscription.provider, code)));
        let finding = format!(
            "{} of {} not ready: {}.",
            local.unready.len(),
            count(local.tables, "table is", "tables are"),
            listed(tables)
        );
        let look = format!(
            "SELECT relation_name, state, description FROM repl_tables WHERE subscription = {} AND state <> 'ready';",
            literal(&subscription.subscription)
        );
        return Row::not_ready(CHECK, finding, Some(look));
    }
    if !local.absent.is_empty() {
        let number = local.absent.len();
        let verb = if number == 1 { "is" } else { "are" };
        let provider = provider::named(&subscription.provider);
        let (what, remedy) = if subscription.provider == "native" {
            (
                format!("{verb} not subscribed"),
                Some(provider.refresh(&subscription.subscription)),
            )
        } else {
            (format!("{verb} not here"), None)
        };
        let finding = format!(
            "{} that the publisher publishes {what}: {}.",
            count(number, "table", "tables"),
            listed(&local.absent)
        );
        return Row::not_ready(CHECK, finding, remedy);
    }
    if let Err(why) = heard {
        let why = format!("whether more tables are published. {why}");
        return Row::not_checked(CHECK, &why);
    }
    let ready = match local.tables {
        0 => return Row::not_ready(CHECK, "The publisher publishes no table.", None),
        1 => "The only table is ready.".to_owned(),
        number => format!("All {number} tables are ready."),
    };
    if local.unpublished.is_empty() {
        return Row::ready(CHECK, ready);
    }
    let still = format!(
        "{} no longer published: {}.",
        count(local.unpublished.len(), "table is", "tables are"),
        listed(&local.unpublished)
    );
    if subscription.provider == "native" {
        let provider = provider::named(&subscription.provider);
        let refresh = provider.refresh(&subscription.subscription);
        let finding = format!("{still} What was written there since is not here.");
        return Row::not_ready(CHECK, finding, Some(refresh));
    }
    // pglogical remembers a table for ever.
    Row::ready(CHECK, format!("{ready} {still}"))
}

fn word(provider: &str, code: &str) -> &'static str {
    let mut states = SYNC_STATES.iter();
    states
        .find(|one| one.provider == provider && one.code == code)
        .map_or("in an unknown state", |one| one.state)
}

/// Where the publisher was when it was asked first, and how far everything is known to be applied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Distance {
    pub(super) target: i64,
    pub(super) applied: Option<i64>,
    /// The end of the last transaction that was applied here.
    pub(super) committed: Option<i64>,
}

impl Distance {
    pub(super) fn is_covered(&self) -> bool {
        self.applied.is_some_and(|applied| applied >= self.target)
    }

    /// What is applied here is no part of that publisher's WAL.
    fn is_beyond(&self) -> bool {
        self.committed
            .is_some_and(|committed| committed > self.target)
    }
}

/// Of an idle publisher the slot follows the end of the WAL, too: its walsender tells how far it has read, the subscriber
/// answers that it has nothing left to apply.
pub(super) fn lag(distance: &Distance) -> Row {
    const CHECK: &str = "lag";
    let target = lsn(distance.target);
    if distance.is_beyond() {
        return Row::not_ready(
            CHECK,
            format!(
                "What is applied here is beyond {target}, the end of the publisher's WAL: it is another server, or was restored from a backup."
            ),
            None,
        );
    }
    match distance.applied {
        _ if distance.is_covered() => Row::ready(
            CHECK,
            format!("0 B: applied up to {target}, where the publisher was."),
        ),
        None => Row::not_ready(
            CHECK,
            "Neither side knows how far it is: nothing has been applied yet.",
            None,
        ),
        Some(applied) => Row::not_ready(
            CHECK,
            format!(
                "{} behind: applied up to {}, and the publisher was at {target}.",
                unit::bytes(distance.target - applied),
                lsn(applied)
            ),
            None,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(state: &'static str, cause: Option<&'static str>) -> Condition {
        Condition {
            state,
            cause,
            finding: Some("Why.".to_owned()),
            remedy: Some("SELECT 1;".to_owned()),
            besides: Vec::new(),
            last_error: None,
        }
    }

    #[test]
    fn only_a_stream_is_ready() {
        assert!(subscription(&condition("streaming", None)).ready);
        assert!(subscription(&condition("catching_up", None)).ready);
        let stalled = subscription(&condition("stalled", Some("lock_wait")));
        assert!(!stalled.ready);
        assert_eq!(stalled.finding, "It is stalled (lock_wait). Why.");
        assert_eq!(stalled.remedy.as_deref(), Some("SELECT 1;"));
        assert!(!subscription(&condition("catching_up", Some("lock_wait"))).ready);
        assert!(!subscription(&condition("copying", None)).ready);
    }

    #[test]
    fn what_is_found_besides_is_an_error() {
        let mut found = condition("streaming", None);
        assert!(errors(&found).ready);
        found.besides.push(("One.".to_owned(), None));
        found
            .besides
            .push(("Two.".to_owned(), Some("SELECT 2;".to_owned())));
        let row = errors(&found);
        assert!(!row.ready);
        assert_eq!(row.finding, "One. 1 more is found; see repl_diagnose().");
        assert_eq!(row.remedy.as_deref(), Some("SELECT 2;"));
    }

    #[test]
    fn error_is_pending_as_long_as_it_comes_again() {
        for (state, cause, ready, finding) in [
            (
                "retrying",
                Some("duplicate_key"),
                false,
                "The last one, 5 s ago: no.",
            ),
            (
                "disabled",
                Some("disabled_on_error"),
                false,
                "The last one, 5 s ago: no.",
            ),
            (
                "stalled",
                Some("lock_wait"),
                true,
                "repl_diagnose() finds nothing else. The last one, 5 s ago: no.",
            ),
            (
                "streaming",
                None,
                true,
                "None is pending. The last one, 5 s ago: no.",
            ),
        ] {
            let row = errors(&Condition {
                last_error: Some(("no.".to_owned(), 5.0)),
                ..condition(state, cause)
            });
            assert_eq!((row.ready, row.finding.as_str()), (ready, finding));
        }
    }

    #[test]
    fn tables_that_are_not_ready_come_before_those_that_are_not_known() {
        let native = Subscription {
            provider: "native".to_owned(),
            subscription: "sub".to_owned(),
            ..Subscription::default()
        };
        let publisher = Publisher::default();
        let mut local = Local {
            tables: 2,
            unready: vec![("public.a".to_owned(), "d".to_owned())],
            absent: vec!["public.b".to_owned()],
            ..Local::default()
        };
        let row = tables(&native, &local, Ok(&publisher));
        assert_eq!(
            row.finding,
            "1 of 2 tables are not ready: public.a (copying data)."
        );
        local.unready.clear();
        let row = tables(&native, &local, Ok(&publisher));
        assert_eq!(
            row.remedy.as_deref(),
            Some("ALTER SUBSCRIPTION \"sub\" REFRESH PUBLICATION;")
        );
        local.absent.clear();
        assert!(tables(&native, &local, Ok(&publisher)).ready);
        local.unpublished = vec!["public.c".to_owned()];
        let row = tables(&native, &local, Ok(&publisher));
        assert!(
            !row.ready
                && row
                    .finding
                    .starts_with("1 table is no longer published: public.c.")
        );
        let pglogical = Subscription {
            provider: "pglogical".to_owned(),
            ..Subscription::default()
        };
        assert!(tables(&pglogical, &local, Ok(&publisher)).ready);
        let row = tables(&native, &local, Err("It is away."));
        assert!(!row.ready && row.finding.starts_with("Not checked: "));
    }

    #[test]
    fn lag_is_the_distance_to_where_the_publisher_was() {
        let mut distance = Distance {
            target: 0x2000,
            applied: Some(0x2000),
            committed: Some(0x1000),
        };
        assert!(lag(&distance).ready);
        distance.applied = Some(0x1800);
        assert_eq!(
            lag(&distance).finding,
            "2.0 kB behind: applied up to 0/1800, and the publisher was at 0/2000."
        );
        distance.applied = None;
        assert!(!lag(&distance).ready);
        distance.applied = Some(0x2000);
        distance.committed = Some(0x3000);
        assert!(!lag(&distance).ready);
    }
}
