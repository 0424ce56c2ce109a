//! What keeps a connection from being made, as the publisher, libpq and this machine say it.

use crate::pg::libpq::Refusal;
use crate::subscription::failure;
use crate::subscription::publisher::{Stage, Unheard};

/// What kept a connection from being made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hindrance {
    Unreadable,
    NameUnknown,
    NoNameServer,
    Refused,
    NoRoute,
    /// Packets go nowhere.
    Dropped,
    /// Something takes the connection and says nothing.
    Mute,
    /// Whatever answers speaks another protocol.
    NoPostgres,
    Encryption,
    PasswordNeeded,
    Authentication,
    NoEntry,
    RoleUnknown,
    MayNotLogIn,
    /// One of both, in another language.
    RoleUnusable,
    DatabaseUnknown,
    MayNotConnect,
    TooManyConnections,
    WalsendersExhausted,
    MayNotReplicate,
    NotReady,
    TurnedAway,
    Unknown,
}

impl Hindrance {
    /// By SQLSTATE and the function of the publisher's source code, which no language changes, where it is the publisher that
    /// says no; by the words of libpq and of this machine where it was not reached.
    pub(super) fn of(unheard: &Unheard) -> Self {
        let says = |words: &str| unheard.message.contains(words);
        if let Some(refusal) = &unheard.refusal
            && let Some(known) = refused(refusal, &unheard.message)
        {
            return known;
        }
        match unheard.stage {
            Stage::LookingUp if unheard.is_timeout => return Hindrance::NoNameServer,
            Stage::LookingUp => return Hindrance::NameUnknown,
            Stage::Connecting | Stage::Asking => {}
        }
        if unheard.is_timeout {
            return match unheard.route {
                Some(route) if !route.is_established => Hindrance::Dropped,
                _ => Hindrance::Mute,
            };
        }
        if says("libpq cannot read") || says("has to encode") {
            Hindrance::Unreadable
        } else if says("could not translate host name") {
            Hindrance::NameUnknown
        } else if says("password is required") || says("no password supplied") {
            Hindrance::PasswordNeeded
        } else if says("Connection refused") || says("No such file or directory") {
            Hindrance::Refused
        } else if says("No route to host") || says("Network is unreachable") {
            Hindrance::NoRoute
        } else if says("Connection timed out") {
            Hindrance::Dropped
        } else if says("received invalid response") || says("expected authentication request") {
            Hindrance::NoPostgres
        } else if ["SSL", "certificate", "sslmode", "TLS"]
            .iter()
            .any(|word| says(word))
        {
            Hindrance::Encryption
        } else if says("server closed the connection unexpectedly") {
            Hindrance::Mute
        } else if failure::is_turned_away(&unheard.message) {
            Hindrance::TurnedAway
        } else {
            Hindrance::Unknown
        }
    }
}

fn refused(refusal: &Refusal, message: &str) -> Option<Hindrance> {
    let is_by = |routine: &str| refusal.routine == routine;
    Some(match refusal.sqlstate.as_str() {
        "28P01" => Hindrance::Authentication,
        "28000" if is_by("ClientAuthentication") && !message.contains("pg_hba.conf") => {
            Hindrance::Encryption
        }
        "28000" if is_by("InitializeSessionUserId") && message.contains("not permitted") => {
            Hindrance::MayNotLogIn
        }
        "28000" if is_by("InitializeSessionUserId") && message.contains("does not exist") => {
            Hindrance::RoleUnknown
        }
        "28000" if is_by("InitializeSessionUserId") => Hindrance::RoleUnusable,
        "28000" if is_by("auth_failed") => Hindrance::Authentication,
        "28000" if message.contains("pg_hba.conf") => Hindrance::NoEntry,
        "28000" => Hindrance::TurnedAway,
        "3D000" => Hindrance::DatabaseUnknown,
        "42501" if is_by("CheckMyDatabase") => Hindrance::MayNotConnect,
        "42501" => Hindrance::MayNotReplicate,
        "53300" if message.contains("max_wal_senders") => Hindrance::WalsendersExhausted,
        "53300" => Hindrance::TooManyConnections,
        "57P03" => Hindrance::NotReady,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::libpq::Route;

    fn unheard(message: &str, refusal: Option<(&str, &str)>) -> Unheard {
        Unheard {
            stage: Stage::Connecting,
            is_timeout: false,
            message: message.to_owned(),
            route: None,
            refusal: refusal.map(|(sqlstate, routine)| Refusal {
                sqlstate: sqlstate.to_owned(),
                routine: routine.to_owned(),
            }),
        }
    }

    #[test]
    fn what_a_publisher_says_is_known_in_any_language() {
        for (sqlstate, routine, expected) in [
            ("28P01", "auth_failed", Hindrance::Authentication),
            ("28000", "auth_failed", Hindrance::Authentication),
            ("28000", "InitializeSessionUserId", Hindrance::RoleUnusable),
            ("3D000", "InitPostgres", Hindrance::DatabaseUnknown),
            ("42501", "CheckMyDatabase", Hindrance::MayNotConnect),
            ("42501", "InitPostgres", Hindrance::MayNotReplicate),
            ("53300", "InitProcess", Hindrance::TooManyConnections),
            ("57P03", "ProcessStartupPacket", Hindrance::NotReady),
        ] {
            let unheard = unheard("FATAL:  übersetzt", Some((sqlstate, routine)));
            assert_eq!(Hindrance::of(&unheard), expected, "{sqlstate} {routine}");
        }
        let entry = unheard(
            "FATAL:  kein pg_hba.conf-Eintrag",
            Some(("28000", "ClientAuthentication")),
        );
        assert_eq!(Hindrance::of(&entry), Hindrance::NoEntry);
        let walsenders = unheard(
            "FATAL:  number of requested standby connections exceeds max_wal_senders (currently 1)",
            Some(("53300", "InitWalSenderSlot")),
        );
        assert_eq!(Hindrance::of(&walsenders), Hindrance::WalsendersExhausted);
    }

    #[test]
    fn what_keeps_from_reaching_it_is_told_apart() {
        for (message, expected) in [
            (
                "… failed: Connection refused Is the server running",
                Hindrance::Refused,
            ),
            ("… failed: No route to host", Hindrance::NoRoute),
            (
                "server does not support SSL, but SSL was required",
                Hindrance::Encryption,
            ),
            (
                "root certificate file \"x\" does not exist",
                Hindrance::Encryption,
            ),
            (
                "fe_sendauth: no password supplied",
                Hindrance::PasswordNeeded,
            ),
            (
                "libpq cannot read the connection string",
                Hindrance::Unreadable,
            ),
            (
                "… failed: received invalid response to SSL negotiation: H",
                Hindrance::NoPostgres,
            ),
            ("something new", Hindrance::Unknown),
        ] {
            assert_eq!(
                Hindrance::of(&unheard(message, None)),
                expected,
                "{message}"
            );
        }
    }

    #[test]
    fn silence_of_the_network_is_not_that_of_a_server() {
        let route = |is_established| Route {
            local: std::net::IpAddr::from([10, 0, 0, 7]),
            remote: Some(std::net::IpAddr::from([10, 1, 0, 5])),
            is_established,
        };
        for (is_established, expected) in [(false, Hindrance::Dropped), (true, Hindrance::Mute)] {
            let unheard = Unheard {
                is_timeout: true,
                route: Some(route(is_established)),
                ..unheard("timed out", None)
            };
            assert_eq!(Hindrance::of(&unheard), expected);
        }
        let unheard = Unheard {
            is_timeout: true,
            stage: Stage::LookingUp,
            ..unheard("timed out", None)
        };
        assert_eq!(Hindrance::of(&unheard), Hindrance::NoNameServer);
    }
}
