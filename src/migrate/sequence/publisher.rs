//! The sequences of a publisher.

use super::position::{Position, positions_by_id, positions_query};
use crate::subscription::provider::Subscription;
use crate::subscription::publisher::{Inquiry, Unheard};
use crate::subscription::quote::{identifier, literal, readable};
use serde::Deserialize;
use std::ffi::CString;
use std::fmt::Write as _;
use std::sync::LazyLock;

static NATIVE: LazyLock<CString> = LazyLock::new(|| {
    question(
        include_str!("../sql/native_published.sql"),
        "    select null::oid where false\n",
    )
});
static PGLOGICAL: LazyLock<CString> = LazyLock::new(|| {
    question(
        include_str!("../sql/pglogical_published.sql"),
        include_str!("../sql/pglogical_published_sequences.sql"),
    )
});

fn question(published: &str, published_sequences: &str) -> CString {
    let sql = include_str!("../sql/publisher_sequences.sql")
        .replace("{published}", published)
        .replace("{published_sequences}", published_sequences);
    CString::new(sql).unwrap_or_default()
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct PublisherSequence {
    id: u32,
    pub(super) schema: String,
    pub(super) name: String,
    r#type: String,
    start: i64,
    pub(super) increment: i64,
    min: i64,
    max: i64,
    cache: i64,
    cycles: bool,
    pub(super) owner: Option<Owner>,
    /// A published table uses it, or no table at all has it for itself.
    pub(super) is_needed: bool,
    may_read: bool,
    last_value: Option<i64>,
    /// `None`: our role there may not read it.
    #[serde(skip)]
    pub(super) position: Option<Position>,
}

/// The column whose serial or identity sequence it is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Owner {
    pub(super) schema: String,
    pub(super) table: String,
    pub(super) column: String,
    /// As `pg_attribute.attidentity`
    identity: String,
}

/// Two questions at the most.
pub(crate) fn sequences(
    subscription: &Subscription,
    publisher: &mut Inquiry,
) -> Result<Vec<PublisherSequence>, Unheard> {
    let question = if subscription.provider == "pglogical" {
        &PGLOGICAL
    } else {
        &NATIVE
    };
    let publications = serde_json::to_string(&subscription.publications).unwrap_or_default();
    let mut found: Vec<PublisherSequence> = publisher.ask(question, &[publications])?;
    for one in &mut found {
        one.position = one.last_value.map(|last_value| Position {
            last_value,
            is_called: true,
        });
    }
    // pg_sequence_last_value() does not tell where one begins that was set or restarted.
    let unknown = found.iter().filter(|one| one.position.is_none());
    let unknown = unknown.filter(|one| one.may_read);
    let names: Vec<(u32, String)> = unknown.map(|one| (one.id, one.qualified_name())).collect();
    if !names.is_empty() {
        let sql = CString::new(positions_query(&names)).unwrap_or_default();
        let positions: Vec<(u32, i64, bool)> = publisher.ask(&sql, &[])?;
        let positions = positions_by_id(positions);
        for one in &mut found {
            one.position = one.position.or_else(|| positions.get(&one.id).copied());
        }
    }
    Ok(found)
}

impl PublisherSequence {
    pub(crate) fn qualified_name(&self) -> String {
        format!("{}.{}", identifier(&self.schema), identifier(&self.name))
    }

    /// For a sentence: a name with control characters could become something else on a terminal.
    pub(crate) fn shown(&self) -> String {
        readable(&self.schema, &self.name).replace(char::is_control, "?")
    }

    /// Statements that make one like it.
    pub(crate) fn definition(&self) -> String {
        let options = self.options();
        let name = self.qualified_name();
        let data_type = match self.r#type.as_str() {
            "bigint" => String::new(),
            other => format!(" AS {other}"),
        };
        let create = format!("CREATE SEQUENCE {name}{data_type}{options};");
        let Some(owner) = &self.owner else {
            return create;
        };
        let table = format!("{}.{}", identifier(&owner.schema), identifier(&owner.table));
        let column = identifier(&owner.column);
        match owner.identity.as_str() {
            "" => format!(
                "{create}\nALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT nextval({});\n\
                 ALTER SEQUENCE {name} OWNED BY {table}.{column};",
                literal(&name)
            ),
            identity => {
                let always = if identity == "a" {
                    "ALWAYS"
                } else {
                    "BY DEFAULT"
                };
                format!(
                    "ALTER TABLE {table} ALTER COLUMN {column} ADD GENERATED {always} AS IDENTITY (SEQUENCE NAME {name}{options});"
                )
            }
        }
    }

    /// Those that are not what they would be anyway (`init_params` of `commands/sequence.c`).
    fn options(&self) -> String {
        let (least, most) = match self.r#type.as_str() {
            "smallint" => (i64::from(i16::MIN), i64::from(i16::MAX)),
            "integer" => (i64::from(i32::MIN), i64::from(i32::MAX)),
            _ => (i64::MIN, i64::MAX),
        };
        let (min, max) = if self.increment > 0 {
            (1, most)
        } else {
            (least, -1)
        };
        let first = if self.increment > 0 {
            self.min
        } else {
            self.max
        };
        let mut options = String::new();
        let all = [
            ("INCREMENT BY", self.increment, 1),
            ("MINVALUE", self.min, min),
            ("MAXVALUE", self.max, max),
            ("START WITH", self.start, first),
            ("CACHE", self.cache, 1),
        ];
        for (option, value, usual) in all {
            if value != usual {
                // Writing to a string does not fail.
                let _ = write!(options, " {option} {value}");
            }
        }
        if self.cycles {
            options.push_str(" CYCLE");
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence() -> PublisherSequence {
        PublisherSequence {
            id: 1,
            schema: "public".to_owned(),
            name: "it's".to_owned(),
            r#type: "bigint".to_owned(),
            start: 1,
            increment: 1,
            min: 1,
            max: i64::MAX,
            cache: 1,
            cycles: false,
            owner: None,
            is_needed: true,
            may_read: true,
            last_value: None,
            position: None,
        }
    }

    #[test]
    fn definition_holds_what_is_not_usual() {
        assert_eq!(
            sequence().definition(),
            "CREATE SEQUENCE \"public\".\"it's\";"
        );
        let down = PublisherSequence {
            r#type: "smallint".to_owned(),
            start: -5,
            increment: -2,
            min: i64::from(i16::MIN),
            max: -1,
            cache: 3,
            cycles: true,
            ..sequence()
        };
        assert_eq!(
            down.definition(),
            "CREATE SEQUENCE \"public\".\"it's\" AS smallint INCREMENT BY -2 START WITH -5 CACHE 3 CYCLE;"
        );
    }

    #[test]
    fn definition_gives_it_to_its_column() {
        let owned = |identity: &str| PublisherSequence {
            start: 5,
            owner: Some(Owner {
                schema: "public".to_owned(),
                table: "t".to_owned(),
                column: "c".to_owned(),
                identity: identity.to_owned(),
            }),
            ..sequence()
        };
        assert!(owned("").definition().ends_with(
            "ALTER TABLE \"public\".\"t\" ALTER COLUMN \"c\" SET DEFAULT nextval('\"public\".\"it''s\"');\n\
             ALTER SEQUENCE \"public\".\"it's\" OWNED BY \"public\".\"t\".\"c\";"
        ));
        assert_eq!(
            owned("d").definition(),
            "ALTER TABLE \"public\".\"t\" ALTER COLUMN \"c\" ADD GENERATED BY DEFAULT AS IDENTITY \
             (SEQUENCE NAME \"public\".\"it's\" START WITH 5);"
        );
    }
}
