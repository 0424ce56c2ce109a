//! What both servers tell of themselves, before anything is made of it.

use crate::error::Error;
use crate::pg::{session, spi};
use crate::preflight::Plan;
use crate::subscription::publisher::{Inquiry, SlotRow, Unheard, array};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::HashMap;
use std::ffi::CString;

/// A row of `pg_settings`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Setting {
    pub(super) value: String,
    /// What a session begins with: of the server, the database, the role and the connection string.
    pub(super) reset: Option<String>,
    pub(super) unit: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Settings(HashMap<String, Setting>);

impl Settings {
    /// `None`: the server has no such setting, or does not show it.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|one| one.value.as_str())
    }

    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.text(name)?.parse().ok()
    }

    /// `None`: likewise, or negative, which means that there is no limit.
    pub(super) fn bytes(&self, name: &str) -> Option<i64> {
        let setting = self.0.get(name)?;
        let unit = match setting.unit.as_deref()? {
            "B" => 1,
            "kB" => 1 << 10,
            "8kB" => 8 << 10,
            "MB" => 1 << 20,
            "GB" => 1 << 30,
            _ => return None,
        };
        let number: i64 = setting.value.parse().ok()?;
        (number >= 0).then(|| number.saturating_mul(unit))
    }

    pub(super) fn seconds(&self, name: &str) -> Option<f64> {
        let setting = self.0.get(name)?;
        seconds(&setting.value, setting.unit.as_deref()?)
    }

    /// As [`Settings::seconds`], of what a session begins with.
    pub(super) fn seconds_at_start(&self, name: &str) -> Option<f64> {
        let setting = self.0.get(name)?;
        seconds(setting.reset.as_deref()?, setting.unit.as_deref()?)
    }

    #[cfg(test)]
    pub(super) fn set(mut self, name: &str, value: &str, unit: Option<&str>) -> Self {
        let setting = Setting {
            value: value.to_owned(),
            reset: Some(value.to_owned()),
            unit: unit.map(str::to_owned),
        };
        self.0.insert(name.to_owned(), setting);
        self
    }
}

fn seconds(value: &str, unit: &str) -> Option<f64> {
    let unit = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "min" => 60.0,
        _ => return None,
    };
    Some(value.parse::<f64>().ok()? * unit)
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Database {
    pub(super) name: String,
    pub(super) encoding: String,
    /// Of `pg_database`.
    pub(super) row: Value,
}

impl Database {
    /// Provider, collation, character type and the locale of the provider (15+), as far as the version has them.
    pub(super) fn locale(&self) -> Vec<String> {
        let column = |name: &str| self.row.get(name).and_then(Value::as_str);
        let provider = match column("datlocprovider") {
            Some("i") => "icu",
            Some("b") => "builtin",
            _ => "libc",
        };
        let locale = column("datlocale").or_else(|| column("daticulocale"));
        let (collate, ctype) = (column("datcollate"), column("datctype"));
        let ctype = ctype.filter(|one| Some(*one) != collate);
        let parts = [Some(provider), collate, ctype, locale];
        parts.into_iter().flatten().map(str::to_owned).collect()
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) is_temporary: bool,
    /// Bytes of WAL since where it begins.
    pub(super) retained: Option<i64>,
    pub(super) row: SlotRow,
}

/// Those that have written something.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Transactions {
    pub(super) count: i64,
    /// Of these, those whose beginning is not shown.
    pub(super) hidden: i64,
    /// Of the oldest.
    pub(super) pid: Option<i32>,
    pub(super) seconds: Option<f64>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Prepared {
    pub(super) gid: String,
    pub(super) database: String,
    pub(super) seconds: f64,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Extension {
    pub(super) name: String,
    pub(super) version: String,
    /// Some table has a column of one of its types.
    pub(super) is_used: bool,
}

/// The publisher.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct There {
    pub(super) version: i32,
    pub(super) server_version: String,
    pub(super) user: String,
    pub(super) is_superuser: bool,
    pub(super) may_replicate: bool,
    pub(super) reads_settings: bool,
    pub(super) reads_stats: bool,
    pub(super) is_in_recovery: bool,
    /// Microseconds since 1970.
    pub(super) started_at: i64,
    pub(super) database: Database,
    pub(super) settings: Settings,
    pub(super) walsenders: i64,
    pub(super) slots: Vec<Slot>,
    pub(super) transactions: Transactions,
    pub(super) prepared: Vec<Prepared>,
    /// Natively: those of the plan that there are.
    pub(super) publications: Vec<String>,
    pub(super) extensions: Vec<Extension>,
    /// The role may use the schema of that name; `None`: there is none.
    pub(super) uses_pglogical: Option<bool>,
}

/// pglogical, on either side.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pglogical {
    pub(super) node: Option<String>,
    /// Of the subscriber's node; may hold a password.
    pub(super) dsn: Option<String>,
    /// On the publisher: the replication sets of the plan that there are.
    pub(super) sets: Vec<String>,
}

/// What is published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
pub(super) struct Size {
    pub(super) tables: i64,
    pub(super) bytes: i64,
    pub(super) index_bytes: i64,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct OwnerSetting {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) role: Option<String>,
    pub(super) database: Option<String>,
    /// Of a role or a database, not of the server.
    pub(super) is_own: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Owner {
    pub(super) name: String,
    pub(super) is_superuser: bool,
}

/// This server.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Here {
    pub(super) version: i32,
    pub(super) server_version: String,
    pub(super) is_in_recovery: bool,
    /// Microseconds since 1970.
    pub(super) started_at: i64,
    /// Encodings whose texts can be converted into that of the database.
    pub(super) convertible: Vec<String>,
    pub(super) database: Database,
    pub(super) settings: Settings,
    pub(super) background_workers: i64,
    pub(super) replication_workers: i64,
    /// Native ones of all databases that are switched on, without the one in question.
    pub(super) other_subscriptions: i64,
    pub(super) origins: i64,
    /// Names and versions.
    #[serde(deserialize_with = "null_as_default")]
    pub(super) extensions: HashMap<String, String>,
    /// Of extensions that could be created.
    pub(super) available: Vec<String>,
    pub(super) owner_settings: Vec<OwnerSetting>,
    /// Of the subscription, or who would own it.
    pub(super) owner: Option<Owner>,
    /// Native: its row of `pg_subscription`, without the connection string.
    pub(super) subscription: Option<Value>,
    /// 16+: owners of its tables whose role its own owner may not take on.
    pub(super) unreachable_owners: Vec<String>,
    /// `None`: not installed.
    #[serde(skip)]
    pub(super) pglogical: Option<Pglogical>,
    /// Bytes that the file system of the data directory has left.
    #[serde(skip)]
    pub(super) free_bytes: Option<i64>,
}

fn null_as_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Here {
    /// With the rights of the owner of the extension: what is said of it is no more than settings and numbers.
    pub(super) fn look(plan: &Plan) -> Result<Self, Error> {
        let (_, superuser) = spi::extension()?;
        let subscription = plan.subscription.as_ref();
        let native = subscription.filter(|one| one.provider != "pglogical");
        let id = native.map_or(0, |one| i64::from(one.id));
        let caller = spi::read("select current_user::text", &[], |row| {
            spi::required::<String>(row, 1)
        })?
        .pop();
        let owner = native.map_or(caller, |one| one.owner.clone());
        session::as_role(superuser, || {
            let arguments = [id.into(), owner.clone().into()];
            let mut here: Self = spi::document(include_str!("../sql/subscriber.sql"), &arguments)?;
            if here.extensions.contains_key("pglogical") {
                let sql = include_str!("../sql/pglogical_subscriber.sql");
                here.pglogical = Some(spi::document(sql, &[])?);
            }
            let directory = here.settings.text("data_directory");
            here.free_bytes = directory.and_then(crate::pg::disk::free_bytes);
            Ok(here)
        })
    }
}

/// What the publisher has said.
pub(super) struct Answers {
    pub(super) there: There,
    /// pglogical only; an error: why it does not tell.
    pub(super) pglogical: Option<Result<Pglogical, String>>,
    pub(super) size: Result<Size, String>,
}

impl Answers {
    pub(super) fn ask(plan: &Plan, publisher: &mut Inquiry) -> Result<Self, Unheard> {
        let there: There = ask(plan, publisher, include_str!("../sql/publisher.sql"))?;
        let is_pglogical = plan.provider == "pglogical";
        let mut pglogical = None;
        if is_pglogical && there.uses_pglogical == Some(true) {
            let sql = include_str!("../sql/pglogical_publisher.sql");
            pglogical = Some(ask(plan, publisher, sql).map_err(|unheard| unheard.message));
        }
        let published = match (is_pglogical, there.uses_pglogical) {
            (false, _) => Some(include_str!("../sql/native_size.sql")),
            (true, Some(true)) => Some(include_str!("../sql/pglogical_size.sql")),
            (true, _) => None,
        };
        let size = match published {
            Some(published) => {
                let sql = format!("{published}{}", include_str!("../sql/size.sql"));
                ask(plan, publisher, &sql).map_err(|unheard| unheard.message)
            }
            None => Err("the publisher does not tell what pglogical publishes there".to_owned()),
        };
        Ok(Self {
            there,
            pglogical,
            size,
        })
    }
}

fn ask<T: DeserializeOwned>(plan: &Plan, publisher: &mut Inquiry, sql: &str) -> Result<T, Unheard> {
    let sql = CString::new(sql).unwrap_or_default();
    publisher.ask(&sql, &[array(&plan.publications)])
}
