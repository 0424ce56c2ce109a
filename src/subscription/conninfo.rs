//! Connection strings as people may see them.

use crate::pg::libpq::{self, Keyword};
use crate::pg::resolver;
use std::ffi::CString;

/// What is shown, in this order; everything else may be a secret, or holds none that helps.
const SHOWN: [&str; 7] = [
    "service", "host", "hostaddr", "port", "user", "dbname", "sslmode",
];

/// A connection string as libpq reads it.
pub(crate) enum Conninfo {
    Read(Vec<Keyword>),
    /// libpq cannot read it, and may quote anything of it.
    Unreadable,
    /// A URI that seems to have a part of a password in its host, port or database: `@` or `/` in it was not encoded.
    Garbled,
}

impl Conninfo {
    pub(crate) fn parse(text: &str) -> Self {
        let keywords = CString::new(text).ok().and_then(|text| libpq::parse(&text));
        match keywords {
            None => Self::Unreadable,
            Some(keywords) if is_uri(text) && keywords.iter().any(is_misplaced) => Self::Garbled,
            Some(keywords) => Self::Read(keywords),
        }
    }

    /// Where it leads to, without any secret.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Unreadable => "(a connection string that libpq cannot read)".to_owned(),
            Self::Garbled => "(a URI in which a password is not percent-encoded)".to_owned(),
            Self::Read(keywords) => shown(keywords),
        }
    }

    /// The values that [`Conninfo::shown`] shows.
    pub(crate) fn shown_values(&self) -> Vec<String> {
        let Self::Read(keywords) = self else {
            return Vec::new();
        };
        let shown = keywords
            .iter()
            .filter(|one| SHOWN.contains(&one.name.as_str()));
        shown.map(|one| one.value.clone()).collect()
    }

    /// It sets a password itself.
    pub(crate) fn has_password(&self) -> bool {
        let Self::Read(keywords) = self else {
            return false;
        };
        let mut keywords = keywords.iter();
        keywords.any(|one| one.name == "password" && !one.value.is_empty())
    }

    /// What it sets itself. Not for secrets.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let Self::Read(keywords) = self else {
            return None;
        };
        let mut keywords = keywords.iter();
        let keyword = keywords.find(|one| one.name == name && !one.value.is_empty());
        keyword.map(|one| one.value.as_str())
    }

    /// Hosts that have to be looked up to connect.
    pub(crate) fn hosts_to_look_up(&self) -> Vec<String> {
        match self {
            Self::Read(keywords) => resolver::hosts_to_look_up(keywords),
            Self::Unreadable | Self::Garbled => Vec::new(),
        }
    }

    /// A message of libpq or of the publisher, in which no secret of the string may stand.
    pub(crate) fn redact(&self, message: &str) -> String {
        match self {
            Self::Unreadable => "libpq cannot read the connection string".to_owned(),
            Self::Garbled => {
                "the connection string seems to have a password with characters that a URI has to encode: @ as %40, / as %2F"
                    .to_owned()
            }
            Self::Read(keywords) => redact(keywords, message),
        }
    }
}

/// As `conninfo_uri_parse` of libpq knows it.
fn is_uri(text: &str) -> bool {
    text.starts_with("postgresql://") || text.starts_with("postgres://")
}

/// It holds what is no host, port or database. (A host that begins with @ is a socket.)
fn is_misplaced(keyword: &Keyword) -> bool {
    let value = &keyword.value;
    match keyword.name.as_str() {
        "host" | "hostaddr" => value
            .split(',')
            .any(|one| one.get(1..).is_some_and(|rest| rest.contains('@'))),
        "port" => value.contains(|one: char| !one.is_ascii_digit() && one != ','),
        "dbname" => value.contains('@'),
        _ => false,
    }
}

fn shown(keywords: &[Keyword]) -> String {
    let shown: Vec<String> = SHOWN
        .iter()
        .filter_map(|name| keywords.iter().find(|one| one.name == *name))
        .filter(|one| !one.is_secret)
        .map(|one| format!("{}={}", one.name, value(&one.value)))
        .collect();
    shown.join(" ")
}

/// As a connection string has to have it.
fn value(text: &str) -> String {
    let is_plain = !text.is_empty()
        && !text
            .chars()
            .any(|one| one.is_whitespace() || matches!(one, '\'' | '\\' | '='));
    if is_plain {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
    }
}

fn redact(keywords: &[Keyword], message: &str) -> String {
    let mut message = message.to_owned();
    let mut secrets: Vec<&str> = keywords
        .iter()
        .filter(|one| one.is_secret && !one.value.is_empty())
        .map(|one| one.value.as_str())
        .collect();
    // Where a secret is so short, or a part of what is shown, what is left out would tell it.
    let is_guessable = |secret: &str| {
        let mut shown = keywords
            .iter()
            .filter(|one| SHOWN.contains(&one.name.as_str()));
        secret.len() < 4 || shown.any(|one| one.value.contains(secret))
    };
    let mut told = secrets.iter().filter(|secret| message.contains(**secret));
    if told.any(|secret| is_guessable(secret)) {
        return "the publisher cannot be reached (its words are not shown: they hold the password, or a word like it)"
            .to_owned();
    }
    // A longer one may hold a shorter one.
    secrets.sort_by_key(|one| std::cmp::Reverse(one.len()));
    for secret in secrets {
        message = message.replace(secret, "********");
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyword(name: &str, value: &str, is_secret: bool) -> Keyword {
        Keyword {
            name: name.to_owned(),
            value: value.to_owned(),
            is_secret,
        }
    }

    #[test]
    fn shows_where_it_leads_and_no_secret() {
        let keywords = [
            keyword("dbname", "my shop", false),
            keyword("password", "s3cret", true),
            keyword("host", "db.example", false),
            keyword("options", "-c x=s3cret", false),
            keyword("sslpassword", "s3cret", true),
        ];
        assert_eq!(shown(&keywords), "host=db.example dbname='my shop'");
    }

    #[test]
    fn quotes_values_as_libpq_does() {
        assert_eq!(value("it's \\"), r"'it\'s \\'");
        assert_eq!(value(""), "''");
        assert_eq!(value("plain"), "plain");
    }

    #[test]
    fn parts_of_a_password_are_noticed_where_they_do_not_belong() {
        for (name, value) in [
            ("host", "ret@db.example"),
            ("port", "sec"),
            ("dbname", "ret@db"),
        ] {
            assert!(is_misplaced(&keyword(name, value, false)), "{name}");
        }
        for (name, value) in [
            ("host", "db.example,@socket"),
            ("port", "5432,5433"),
            ("dbname", "shop"),
            ("user", "me@cloud"),
        ] {
            assert!(!is_misplaced(&keyword(name, value, false)), "{name}");
        }
        assert!(is_uri("postgres://me@db.example") && !is_uri("host=db.example"));
    }

    #[test]
    fn takes_every_secret_out_of_a_message() {
        let keywords = [
            keyword("password", "abcd", true),
            keyword("sslpassword", "abcdef", true),
            keyword("user", "me", false),
        ];
        assert_eq!(
            redact(&keywords, "abcdef and abcd of me"),
            "******** and ******** of me"
        );
        let guessable = [
            keyword("user", "postgresql", false),
            keyword("password", "postgres", true),
        ];
        assert!(!redact(&guessable, "postgresql").contains("****"));
        assert!(!redact(&[keyword("password", "x", true)], "xyx").contains("****"));
    }
}
