//! What the texts of an error tell beyond what they say, whatever language they are in.

use super::super::conninfo::Conninfo;
use std::net::IpAddr;

/// Where the transaction that failed ends on the publisher: the last LSN of the outermost line of the context
/// (`apply_error_callback` of `replication/logical/worker.c` from 15 on: "..., finished at 0/14C0378"; of pglogical
/// "... in commit before 0/14C0378, xid ..."). In bytes since 0/0.
pub(super) fn finish_lsn(context: &str) -> Option<i64> {
    let line = context.lines().last()?;
    let words =
        line.split(|character: char| !(character.is_ascii_alphanumeric() || character == '/'));
    words.filter_map(lsn).next_back().filter(|lsn| *lsn > 0)
}

/// `X/X`, as the server writes it.
fn lsn(word: &str) -> Option<i64> {
    let (high, low) = word.split_once('/')?;
    let half = |text: &str| {
        let is_hexadecimal = (1..=8).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte));
        is_hexadecimal.then(|| i64::from_str_radix(text, 16).ok())?
    };
    Some((half(high)? << u32::BITS) | half(low)?)
}

/// Schema and name of the table, where the message or its context quotes it as `schema.table`.
pub(super) fn relation(message_id: &str, message: &str, context: &str) -> Option<(String, String)> {
    if message_id.contains("relation \"%s.%s\"") || message_id.contains("table \"%s.%s\"") {
        // A name may have such marks, too: where no other name can follow, it is all between the first and the last.
        let after = message_id
            .split_once("\"%s.%s\"")
            .map_or("", |(_, after)| after);
        let name = if after.replace("conflict=%s", "").contains('%') {
            quoted(message).into_iter().next()
        } else {
            outermost(message)
        };
        return qualified(name?);
    }
    let line = context.lines().last()?;
    if let Some((_, rest)) = line.split_once("from remote relation ") {
        // pglogical is not translated, and does not quote: "apply INSERT from remote relation public.t in commit ..."
        return qualified(
            rest.rsplit_once(" in commit ")
                .map_or(rest, |(name, _)| name),
        );
    }
    // "pg_16395", "INSERT" and perhaps a column stand there, too, in an order that the language chooses.
    quoted(line).into_iter().find_map(qualified)
}

/// A schema with a dot in its name is not told from a table with one.
fn qualified(name: &str) -> Option<(String, String)> {
    let (schema, table) = name.split_once('.')?;
    let unquote = |part: &str| {
        let inside = part
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        inside.unwrap_or(part).to_owned()
    };
    Some((unquote(schema), unquote(table)))
}

/// Quotation marks of the languages that the server speaks.
const MARKS: [(char, char); 6] = [
    ('"', '"'),
    ('„', '“'),
    ('»', '«'),
    ('«', '»'),
    ('“', '”'),
    ('「', '」'),
];

/// What stands between the first and the last quotation mark.
fn outermost(text: &str) -> Option<&str> {
    let start = text.find(|one: char| MARKS.iter().any(|(open, _)| *open == one))?;
    let open = text[start..].chars().next()?;
    let inside = &text[start + open.len_utf8()..];
    let (_, close) = MARKS.iter().find(|(one, _)| *one == open)?;
    Some(inside[..inside.rfind(*close)?].trim())
}

/// What stands in quotation marks.
fn quoted(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(|one: char| MARKS.iter().any(|(open, _)| *open == one)) {
        let Some(open) = rest[start..].chars().next() else {
            break;
        };
        let inside = &rest[start + open.len_utf8()..];
        let close = MARKS.iter().find(|(one, _)| *one == open);
        let Some(end) = close.and_then(|(_, close)| inside.find(*close)) else {
            break;
        };
        found.push(inside[..end].trim());
        let mark = inside[end..].chars().next().map_or(1, char::len_utf8);
        rest = &inside[end + mark..];
    }
    found
}

/// A text that may quote a connection string, of which only `conninfos` are known, without anything that could be secret.
/// Where a string cannot be read, or has been changed since, nobody can tell what in the text is a part of a password: of
/// errors of connecting, only what is known not to be one is left of what stands in quotation marks.
pub(super) fn redact(text: &str, message_id: &str, conninfos: &[Conninfo]) -> String {
    redact_after(0, text, message_id, conninfos)
}

/// As [`redact`], for the message itself. From 17 on it begins with the name of the subscription:
/// `apply worker for subscription "%s" could not connect to the publisher: %s`.
pub(super) fn redact_message(text: &str, message_id: &str, conninfos: &[Conninfo]) -> String {
    let names = message_id.contains("for subscription \"%s\" could not connect");
    redact_after(usize::from(names), text, message_id, conninfos)
}

/// The first `names` quotations are no secret.
fn redact_after(names: usize, text: &str, message_id: &str, conninfos: &[Conninfo]) -> String {
    // pglogical_connect_base() of pglogical tells all of it.
    if let Some(dsn) = text.strip_prefix("dsn was: ") {
        return format!("dsn was: {}", Conninfo::parse(dsn).shown());
    }
    let mut text = text.to_owned();
    for conninfo in conninfos {
        if matches!(conninfo, Conninfo::Read(_)) {
            text = conninfo.redact(&text);
        }
    }
    if !message_id.to_ascii_lowercase().contains("connect") {
        return text;
    }
    let harmless: Vec<String> = conninfos.iter().flat_map(Conninfo::shown_values).collect();
    let is_harmless = |quoted: &str| {
        let socket = quoted.rsplit_once("/.s.PGSQL.");
        let directory = socket.map_or(quoted, |(directory, _)| directory);
        harmless.iter().any(|one| one == directory) || quoted.parse::<IpAddr>().is_ok()
    };
    let secrets: Vec<String> = quoted(&text)
        .into_iter()
        .skip(names)
        .filter(|one| !one.is_empty() && !is_harmless(one))
        .map(str::to_owned)
        .collect();
    secrets
        .iter()
        .fold(text, |text, secret| text.replace(secret.as_str(), "..."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscription_of_an_error_of_connecting_is_no_secret() {
        let id = "apply worker for subscription \"%s\" could not connect to the publisher: %s";
        let text = "apply worker for subscription \"moving\" could not connect to the publisher: invalid port \"s3cret\"";
        let unread = [Conninfo::parse("what = is 'this")];
        let shown = redact_message(text, id, &unread);
        assert!(
            shown.contains("\"moving\"") && !shown.contains("s3cret"),
            "{shown}"
        );
        assert!(!redact(text, id, &unread).contains("moving"));
    }

    const ENGLISH: &str = "processing remote data for replication origin \"pg_16395\" during message type \"INSERT\" for replication target relation \"public.loans\" column \"x\" in transaction 725, finished at 0/14BFA88";
    const GERMAN: &str = "Verarbeiten empfangener Daten für Replication-Origin »pg_16395« bei Nachrichtentyp »INSERT« für Replikationszielrelation »public.loans« in Transaktion 725, beendet bei 1/14BFA88";

    #[test]
    fn lsn_is_the_last_of_the_outermost_line() {
        assert_eq!(finish_lsn(ENGLISH), Some(0x14B_FA88));
        assert_eq!(finish_lsn(GERMAN), Some((1 << 32) | 0x14B_FA88));
        let pglogical = "apply INSERT from remote relation public.t in commit before 0/1A2B, xid 733 committed at 2026-11-22 10:00:00+00 (action #2)";
        assert_eq!(finish_lsn(pglogical), Some(0x1A2B));
        let nested = format!("PL/pgSQL function f() line 1 at 3/4\n{ENGLISH}");
        assert_eq!(finish_lsn(&nested), Some(0x14B_FA88));
        assert_eq!(finish_lsn("COPY t, line 1: and/or"), None);
        assert_eq!(finish_lsn(""), None);
    }

    #[test]
    fn relation_is_quoted_in_the_message_or_after_the_kind_of_message() {
        let loans = Some(("public".to_owned(), "loans".to_owned()));
        assert_eq!(relation("", "", ENGLISH), loans);
        assert_eq!(relation("", "", GERMAN), loans);
        let id = "logical replication target relation \"%s.%s\" does not exist";
        let message = "Zielrelation »public.loans« existiert nicht";
        assert_eq!(relation(id, message, ""), loans);
        let id = "conflict detected on relation \"%s.%s\": conflict=%s";
        let message =
            "conflict detected on relation \"public.it's \"odd\"\": conflict=insert_exists";
        let odd = Some(("public".to_owned(), "it's \"odd\"".to_owned()));
        assert_eq!(relation(id, message, ""), odd);
        let id =
            "logical replication target relation \"%s.%s\" has incompatible generated column: %s";
        let message = "logical replication target relation \"public.loans\" has incompatible generated column: \"n\"";
        assert_eq!(relation(id, message, ""), loans);
        let pglogical =
            "apply INSERT from remote relation public.loans in commit before 0/1A2B, xid 733";
        assert_eq!(relation("", "", pglogical), loans);
        assert_eq!(relation("", "duplicate key", ""), None);
    }

    #[test]
    fn relation_is_found_in_the_order_and_with_the_marks_of_any_language() {
        let loans = Some(("public".to_owned(), "loans".to_owned()));
        let japanese = "レプリケーション対象リレーション\"public.loans\"に対する\"INSERT\"";
        assert_eq!(relation("", "", japanese), loans);
        let id = "logical replication target relation \"%s.%s\" does not exist";
        let french = "la relation cible « public.loans » n'existe pas";
        assert_eq!(relation(id, french, ""), loans);
        let odd = "apply INSERT from remote relation public.Odd item in commit before 0/1A2B";
        let name = Some(("public".to_owned(), "Odd item".to_owned()));
        assert_eq!(relation("", "", odd), name);
    }

    const CONNECT: &str = "could not connect to the publisher: %s";

    #[test]
    fn connection_string_of_a_detail_is_shown_without_its_password() {
        let shown = redact("dsn was: host=a password=geheim dbname=b", CONNECT, &[]);
        assert_eq!(shown, "dsn was: host=a dbname=b");
        let conninfos = [Conninfo::parse("host=a password=geheim")];
        let shown = redact("it said geheim", CONNECT, &conninfos);
        assert!(!shown.contains("geheim"), "{shown}");
    }

    #[test]
    fn of_a_string_that_is_not_known_nothing_is_quoted() {
        let text = "missing \"=\" after \"geheim\" in connection info string";
        let unreadable = [Conninfo::parse("host=a geheim")];
        for conninfos in [&unreadable[..], &[]] {
            let shown = redact(text, CONNECT, conninfos);
            assert!(!shown.contains("geheim"), "{shown}");
        }
        let violation = "Key (id)=(\"3\") already exists.";
        assert_eq!(redact(violation, "duplicate key", &unreadable), violation);
        let refused = "connection to server at \"127.0.0.1\", port 1 failed: no user \"joe\"";
        let known = [Conninfo::parse("host=localhost user=joe")];
        assert_eq!(redact(refused, CONNECT, &known), refused);
        assert!(!redact(refused, CONNECT, &[]).contains("joe"));
    }
}
