//! Events: rows of `repl_events`, notifications on the channel `replwarden`, lines of the server log.

use super::episode::OpenEpisode;
use crate::error::Error;
use crate::guc;
use crate::pg::session::{self, ORDINARY_TRIGGERS};
use crate::pg::session_events;
use crate::pg::{encoding, spi};
use crate::subscription::publisher::epoch;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, pg_sys};
use serde_json::Value;

/// Something that has happened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    /// In seconds since 1970.
    pub(crate) occurred_at: f64,
    pub(crate) provider: String,
    /// OID of the subscription; `None`: it concerns none, or all.
    pub(crate) id: Option<u32>,
    pub(crate) subscription: Option<String>,
    /// `info`, `warning` or `critical`
    pub(crate) severity: String,
    /// What it is, in a word.
    pub(crate) event: String,
    pub(crate) cause: Option<String>,
    /// An object. The provider is added when it is written.
    pub(crate) detail: Value,
    /// When what goes on, or has ended, began.
    pub(crate) since: Option<f64>,
    pub(crate) part: Part,
}

impl Event {
    /// As [`write`].
    pub(crate) fn write(&self) -> Result<(), Error> {
        write(std::slice::from_ref(self)).map(|_| ())
    }

    /// As [`log`].
    pub(crate) fn log(&self) {
        log(std::slice::from_ref(self));
    }
}

/// What an event is to the episode of which it is a part. With the name of the episode.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Part {
    Whole,
    /// Not written if the episode is known to go on: somebody's act has opened it.
    Begins(String),
    /// The episode goes on, or begins, with this event.
    GoesOn(String),
    Ends(String),
}

impl Part {
    /// With a name that can be stored in any encoding.
    fn storable(&self) -> Self {
        let name = |episode: &String| encoding::storable(episode);
        match self {
            Self::Whole => Self::Whole,
            Self::Begins(episode) => Self::Begins(name(episode)),
            Self::GoesOn(episode) => Self::GoesOn(name(episode)),
            Self::Ends(episode) => Self::Ends(name(episode)),
        }
    }
}

/// The name of an episode in the table.
pub(crate) fn episode_name(
    provider: &str,
    id: Option<u32>,
    state: &str,
    object: Option<(&str, &str)>,
) -> String {
    let id = id.map_or_else(String::new, |id| id.to_string());
    let (cause, object) = object.unwrap_or_default();
    [provider, &id, state, cause, object]
        .join("/")
        .trim_end_matches('/')
        .to_owned()
}

/// The longest payload of a notification, in bytes (`NOTIFY_PAYLOAD_MAX_LENGTH` of `commands/async.c` is 8000 with blocks of
/// 8 kB).
const LONGEST_PAYLOAD: i32 = 7900;

const OPENS_ALREADY: &str =
    "select 1 from {schema}._repl_events e where e.episode = $1 and e.is_open";

const CLOSE: &str =
    "update {schema}._repl_events e set is_open = false where e.episode = $1 and e.is_open";

/// Writes a row and gives notice of it: of the whole row, or of what of it fits.
const WRITE: &str = "
with written as (
    insert into {schema}._repl_events
           (occurred_at, provider, subscription_id, subscription, severity, event, cause, detail, episode, is_open)
    select to_timestamp($1), $2, $3, $4::name, $5, $6, $7,
           $8::jsonb || jsonb_strip_nulls(jsonb_build_object('provider', $2, 'since', to_timestamp($9))), $10, $11
    returning id, occurred_at, subscription, severity, event, cause, detail
)
select pg_notify('replwarden', coalesce(
           (select payload.text
              from (values (1, w.detail), (2, w.detail - 'evidence'), (3, w.detail - 'evidence' - 'remedy'), (4, null))
                       as cut (place, detail)
             cross join lateral (
                   select row_to_json(r)::text
                     from (select w.id, w.occurred_at, w.subscription, w.severity, w.event, w.cause, cut.detail) r)
                       as payload (text)
             where octet_length(payload.text) < $12
             order by cut.place limit 1), ''))
  from written w";

/// Writes events, in the transaction that is under way, with the rights of the extension's owner. They are to be logged
/// with [`log`] when it has committed: those that it returns, for what somebody has told already is not written.
pub(crate) fn write(events: &[Event]) -> Result<Vec<Event>, Error> {
    let mut written = Vec::new();
    if events.is_empty() {
        return Ok(written);
    }
    let table = Table::find()?;
    for event in events {
        let part = event.part.storable();
        let (episode, is_open) = match &part {
            Part::Whole => (None, false),
            Part::Begins(episode) if table.run(OPENS_ALREADY, &[episode.as_str().into()])? > 0 => {
                continue;
            }
            Part::Begins(episode) => (Some(episode), true),
            Part::GoesOn(episode) | Part::Ends(episode) => {
                table.run(CLOSE, &[episode.as_str().into()])?;
                (Some(episode), matches!(part, Part::GoesOn(_)))
            }
        };
        table.run(
            WRITE,
            &[
                event.occurred_at.into(),
                event.provider.as_str().into(),
                event.id.map(i64::from).into(),
                event.subscription.as_deref().map(encoding::storable).into(),
                event.severity.as_str().into(),
                event.event.as_str().into(),
                event.cause.as_deref().into(),
                encoding::json(&without_nul(&event.detail)).into(),
                event.since.into(),
                episode.map(String::as_str).into(),
                is_open.into(),
                LONGEST_PAYLOAD.into(),
            ],
        )?;
        written.push(event.clone());
    }
    Ok(written)
}

/// Writes what a session does, and has it logged when the transaction commits. (Logged it is also if only a savepoint before
/// it was rolled back.)
pub(crate) fn record(event: Event) -> Result<(), Error> {
    let written = write(&[event])?;
    session_events::at_commit(move || log(&written));
    Ok(())
}

/// Events that have still to be written: what cannot be written now is written later.
#[derive(Debug, Default)]
pub(crate) struct Outbox(Vec<Event>);

impl Outbox {
    /// So many are kept while they cannot be written: more than any night brings.
    const ROOM: usize = 10_000;

    pub(crate) fn add(&mut self, events: Vec<Event>) {
        self.0.extend(events);
        let excess = self.0.len().saturating_sub(Self::ROOM);
        self.0.drain(..excess);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In a transaction. As [`write`].
    pub(crate) fn write(&self) -> Result<Vec<Event>, Error> {
        write(&self.0)
    }

    /// When it has committed; with what `write` has returned.
    pub(crate) fn written(&mut self, events: &[Event]) {
        self.0.clear();
        log(events);
    }
}

/// Puts events into the server log.
pub(crate) fn log(events: &[Event]) {
    for event in events {
        ErrorReport::new(
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            line(event),
            "replwarden",
        )
        .report(PgLogLevel::LOG);
    }
}

/// The episodes that go on, as far as the table knows. Takes no transaction id.
pub(crate) fn open_episodes() -> Result<Vec<OpenEpisode>, Error> {
    let (schema, _) = spi::extension()?;
    let sql = OPEN.replace("{schema}", &pgrx::spi::quote_identifier(schema));
    spi::document(&sql, &[])
}

const OPEN: &str = "
select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
           'provider', e.provider, 'id', e.subscription_id, 'subscription', e.subscription, 'state', e.event,
           'cause', e.cause, 'object', e.detail ->> 'object',
           'since', extract(epoch from coalesce((e.detail ->> 'since')::timestamptz, e.occurred_at)))), '[]')::text
  from {schema}._repl_events e where e.is_open";

/// The crashes of workers of which events tell: when, and which process. Takes no transaction id.
pub(crate) fn told_crashes() -> Result<Vec<(f64, i32)>, Error> {
    let (schema, _) = spi::extension()?;
    let sql = TOLD_CRASHES.replace("{schema}", &pgrx::spi::quote_identifier(schema));
    spi::document(&sql, &[])
}

const TOLD_CRASHES: &str = "
select coalesce(pg_catalog.json_agg(pg_catalog.json_build_array(
           extract(epoch from e.occurred_at), e.detail #> '{evidence,pid}')), '[]')::text
  from {schema}._repl_events e where e.event = 'worker_crashed'";

/// Deletes what is older than `replwarden.event_retention`. Takes no transaction id where there is nothing to delete.
pub(crate) fn expire() -> Result<(), Error> {
    let limit = [(epoch() - guc::event_retention().as_secs_f64()).into()];
    let table = Table::find()?;
    let select = format!("select 1 from {{schema}}._repl_events e where {EXPIRED} limit 1");
    if table.reads(&select, &limit)? {
        let delete = format!("delete from {{schema}}._repl_events e where {EXPIRED}");
        table.run(&delete, &limit)?;
    }
    Ok(())
}

const EXPIRED: &str = "e.occurred_at < pg_catalog.to_timestamp($1) and not e.is_open";

/// The tables of the extension that the watch writes to.
pub(super) struct Table {
    schema: String,
    owner: pg_sys::Oid,
}

impl Table {
    pub(super) fn find() -> Result<Self, Error> {
        let (schema, owner) = spi::extension()?;
        Ok(Self {
            schema: pgrx::spi::quote_identifier(schema),
            owner,
        })
    }

    /// Whether a query gives a row. Takes no transaction id.
    pub(super) fn reads(&self, sql: &str, arguments: &[DatumWithOid]) -> Result<bool, Error> {
        let sql = sql.replace("{schema}", &self.schema);
        session::with_safe_search_path(|| spi::read(&sql, arguments, |_| Ok(())))
            .map(|rows| !rows.is_empty())
    }

    /// Runs a statement with the rights of the extension's owner, and not as replication would: the table ignores what
    /// replication brings. Says how many rows it gives.
    pub(super) fn run(&self, sql: &str, arguments: &[DatumWithOid]) -> Result<usize, Error> {
        let sql = sql.replace("{schema}", &self.schema);
        let settings = [ORDINARY_TRIGGERS, session::SAFE_SEARCH_PATH];
        session::with_settings(&settings, || {
            session::as_role(self.owner, || spi::query_kept(&sql, arguments, |_| Ok(())))
        })
        .map(|rows| rows.len())
    }
}

/// jsonb holds no U+0000.
fn without_nul(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace('\0', "")),
        Value::Array(values) => values.iter().map(without_nul).collect(),
        Value::Object(fields) => {
            let fields = fields.iter();
            fields
                .map(|(name, value)| (name.replace('\0', ""), without_nul(value)))
                .collect()
        }
        other => other.clone(),
    }
}

/// The event for the server log.
fn line(event: &Event) -> String {
    let mut text = "replwarden: ".to_owned();
    if let Some(name) = &event.subscription {
        text.push_str(&format!("subscription \"{name}\""));
    }
    let ended = event.event.strip_suffix("_ended");
    match (predicate(ended.unwrap_or(&event.event)), ended) {
        (Some(state), None) => text.push_str(&format!(" is {state}")),
        (Some(state), Some(_)) => text.push_str(&format!(" is no longer {state}")),
        (None, _) if event.subscription.is_some() => text.push_str(&format!(": {}", event.event)),
        (None, _) => text.push_str(&event.event),
    }
    if let Some(cause) = event.cause.as_ref().filter(|cause| **cause != event.event) {
        text.push_str(&format!(" ({cause})"));
    }
    if let Some(seconds) = event.detail.get("seconds").and_then(Value::as_f64) {
        text.push_str(&format!(", after {seconds} s"));
    }
    let finding = event.detail.get("finding").and_then(Value::as_str);
    if let Some(finding) = finding.filter(|finding| !finding.is_empty()) {
        text.push_str(&format!(": {finding}"));
    }
    // A line must not become two, nor do anything to a terminal.
    text.replace(char::is_control, " ")
}

fn predicate(state: &str) -> Option<&str> {
    Some(match state {
        "stalled" | "retrying" | "down" | "disabled" | "copying" => state,
        "crash_loop" => "in a crash loop",
        "catching_up" => "catching up",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(word: &str, cause: Option<&str>, detail: Value) -> Event {
        Event {
            occurred_at: 1000.0,
            provider: "native".to_owned(),
            id: Some(7),
            subscription: Some("sub".to_owned()),
            severity: "critical".to_owned(),
            event: word.to_owned(),
            cause: cause.map(str::to_owned),
            detail,
            since: None,
            part: Part::Whole,
        }
    }

    #[test]
    fn lines_of_the_log_say_it_in_words() {
        for (event, text) in [
            (
                event(
                    "stalled",
                    Some("lock_wait"),
                    json!({"finding": "It waits."}),
                ),
                "replwarden: subscription \"sub\" is stalled (lock_wait): It waits.",
            ),
            (
                event("crash_loop_ended", None, json!({"seconds": 12.5})),
                "replwarden: subscription \"sub\" is no longer in a crash loop, after 12.5 s",
            ),
            (
                event(
                    "hazard",
                    Some("sequence_behind"),
                    json!({"finding": "It is."}),
                ),
                "replwarden: subscription \"sub\": hazard (sequence_behind): It is.",
            ),
            (
                Event {
                    subscription: None,
                    ..event("errors_overwritten", None, json!({}))
                },
                "replwarden: errors_overwritten",
            ),
            (
                Event {
                    subscription: Some("a\n\u{1b}[2Jb".to_owned()),
                    ..event("enabled", None, json!({}))
                },
                "replwarden: subscription \"a  [2Jb\": enabled",
            ),
        ] {
            assert_eq!(line(&event), text);
        }
    }

    #[test]
    fn nul_is_left_out() {
        let value = json!({"a\0": ["b\0c", 1, null], "d": {"e": "\0"}});
        assert_eq!(
            without_nul(&value),
            json!({"a": ["bc", 1, null], "d": {"e": ""}})
        );
    }

    #[test]
    fn outbox_keeps_the_newest() {
        let mut outbox = Outbox::default();
        assert!(outbox.is_empty());
        for number in 0..=Outbox::ROOM {
            outbox.add(vec![event(&number.to_string(), None, json!({}))]);
        }
        assert_eq!(outbox.0.len(), Outbox::ROOM);
        assert_eq!(outbox.0[0].event, "1");
    }

    #[test]
    fn episodes_have_names_of_their_own() {
        assert_eq!(
            episode_name("native", Some(7), "stalled", None),
            "native/7/stalled"
        );
        assert_eq!(
            episode_name("pglogical", None, "hazard", Some(("crash", "public.t"))),
            "pglogical//hazard/crash/public.t"
        );
    }
}
