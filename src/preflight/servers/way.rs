//! The way to the publisher, where there is one: where it leads, and how it is taken.

use super::super::Plan;
use super::super::line::{Line, Node, Severity};
use super::advice::shown;
use super::connection;
use super::facts::{Here, There};
use super::one;
use crate::subscription::conninfo::Conninfo;
use crate::subscription::publisher::Inquiry;

/// Nothing leaves this machine.
pub(super) fn is_local(publisher: &Inquiry) -> bool {
    publisher.route().is_none_or(|route| {
        route
            .remote
            .is_some_and(|address| address.is_loopback() || address == route.local)
    })
}

pub(super) fn connected(plan: &Plan, publisher: &Inquiry, there: &There) -> Line {
    let way = match publisher.route() {
        Some(route) => {
            let remote = route.remote.map(|address| format!(" to {address}"));
            format!(", from {}{}", route.local, remote.unwrap_or_default())
        }
        None => ", through a socket of this machine".to_owned(),
    };
    Line::ok(
        "connection",
        format!(
            "The publisher, PostgreSQL {}, lets in \"{}\"{way}.",
            there.server_version,
            shown(&there.user)
        ),
    )
    .on(&shown(&Conninfo::parse(&plan.conninfo).shown()))
}

/// A subscription to a database of its own server waits, as its slot does, for the very transaction that makes it.
pub(super) fn same_server(plan: &Plan, here: &Here, there: &There) -> Option<Line> {
    let is_same = there.started_at == here.started_at && here.started_at != 0;
    if !is_same || plan.subscription.is_some() || !plan.is_native() {
        return None;
    }
    let finding = format!(
        "The publisher is this very server (database \"{}\"): CREATE SUBSCRIPTION would wait for itself for ever.",
        shown(&there.database.name)
    );
    Some(Line::new(Severity::Error, "same_server", finding).remedy(
        Node::Publisher,
        "-- make the slot first, in the database that publishes:\n\
             -- SELECT pg_create_logical_replication_slot('<slot>', 'pgoutput');\n\
             -- then CREATE SUBSCRIPTION … WITH (create_slot = false, slot_name = '<slot>');",
    ))
}

pub(super) fn encryption(plan: &Plan, is_encrypted: bool, is_local: bool) -> Line {
    const NAME: &str = "encryption";
    let conninfo = Conninfo::parse(&plan.conninfo);
    let mode = conninfo.value("sslmode").unwrap_or("prefer");
    if is_encrypted {
        let checked = match mode {
            "verify-full" => "certificate and host are verified",
            "verify-ca" => "the certificate is verified",
            // As libpq has it.
            "require" if conninfo.value("sslrootcert").is_some() => "the certificate is verified",
            _ => "the certificate is not verified",
        };
        return Line::ok(
            NAME,
            format!("The connection is encrypted (sslmode={mode}: {checked})."),
        );
    }
    if is_local {
        return Line::ok(
            NAME,
            "The connection is not encrypted, and does not leave this machine.".to_owned(),
        );
    }
    Line::new(
        Severity::Info,
        NAME,
        format!("The connection is not encrypted (sslmode={mode}): whoever is between both servers can read the data."),
    )
    .remedy(
        Node::Subscriber,
        "-- write sslmode=require into the connection string, or verify-full with sslrootcert",
    )
}

/// Without these, a connection that dies without a word is noticed late: TCP asks after two hours, and gives up an attempt to
/// connect after two minutes.
pub(super) fn options(plan: &Plan, is_local: bool) -> Line {
    const NAME: &str = "connection_options";
    const WANTED: [(&str, &str); 4] = [
        ("connect_timeout", "10"),
        ("keepalives_idle", "60"),
        ("keepalives_interval", "10"),
        ("keepalives_count", "6"),
    ];
    let conninfo = Conninfo::parse(&plan.conninfo);
    let missing: Vec<String> = WANTED
        .iter()
        .filter(|(name, _)| conninfo.value(name).is_none())
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if is_local {
        return Line::ok(
            NAME,
            "The connection does not leave this machine: connect_timeout and keepalives do not matter."
                .to_owned(),
        );
    }
    if missing.is_empty() {
        return Line::ok(
            NAME,
            "The connection string sets connect_timeout and TCP keepalives.".to_owned(),
        );
    }
    Line::new(
        Severity::Info,
        NAME,
        format!(
            "The connection string leaves {} of connect_timeout and TCP keepalives to the operating system, which notices a dead connection late.",
            missing.len()
        ),
    )
    .remedy(
        Node::Subscriber,
        &format!("-- add to the connection string: {}", missing.join(" ")),
    )
}

/// pglogical's workers connect to their own server, too, with the connection string of its node.
pub(super) fn local_node(plan: &Plan, here: &Here) -> Vec<Line> {
    const NAME: &str = "node_connection";
    const WHERE: &std::ffi::CStr = c"select json_build_object(
        'started_at', (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint,
        'database', json_build_object('name', current_database()))";
    let node = here.pglogical.as_ref().filter(|_| !plan.is_native());
    let Some((node, dsn)) = node.and_then(|one| one.node.as_ref().zip(one.dsn.as_ref())) else {
        return Vec::new();
    };
    // It is not the caller's, and may hold a password.
    if plan.must_use_password {
        return one(Line::not_checked(
            NAME,
            "whether pglogical's own node here connects: only a superuser may use its connection string.",
        ));
    }
    let asked = Inquiry::open(dsn, false).and_then(|mut inquiry| inquiry.ask::<There>(WHERE, &[]));
    let object = format!("node {}", shown(node));
    let place = Conninfo::parse(dsn).shown();
    let again = "-- pglogical uses this for the copy: make the node again with a connection string that works from this server\n\
                 -- (pglogical.drop_node, pglogical.create_node), before there is a subscription";
    one(match asked {
        Ok(found)
            if found.started_at == here.started_at
                && found.database.name == here.database.name =>
        {
            Line::ok(
                NAME,
                format!("pglogical's own node here connects ({}).", shown(&place)),
            )
        }
        Ok(found) => Line::new(
            Severity::Error,
            NAME,
            format!(
                "The connection string of pglogical's own node here ({}) leads to another place: database \"{}\".",
                shown(&place),
                shown(&found.database.name)
            ),
        )
        .remedy(Node::Subscriber, again),
        Err(unheard) => {
            let failed = connection::failed(plan, &unheard);
            Line::new(
                Severity::Error,
                NAME,
                format!(
                    "pglogical's own node here does not connect ({}): {}",
                    shown(&place),
                    failed.finding
                ),
            )
            .remedy(Node::Subscriber, again)
        }
    }
    .on(&object))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(conninfo: &str) -> Plan {
        Plan {
            conninfo: conninfo.to_owned(),
            ..Plan::default()
        }
    }

    #[test]
    fn what_nobody_can_read_needs_no_encryption() {
        for (conninfo, is_encrypted, is_local, severity, said) in [
            ("host=a", false, true, Severity::Ok, "does not leave"),
            ("host=a", false, false, Severity::Info, "sslmode=prefer"),
            (
                "host=a sslmode=verify-full",
                true,
                false,
                Severity::Ok,
                "host are verified",
            ),
            (
                "host=a sslmode=require",
                true,
                false,
                Severity::Ok,
                "is not verified",
            ),
            (
                "host=a sslmode=require sslrootcert=x",
                true,
                false,
                Severity::Ok,
                "certificate is verified",
            ),
        ] {
            let line = encryption(&through(conninfo), is_encrypted, is_local);
            assert_eq!(line.severity, severity, "{line:?}");
            assert!(line.finding.contains(said), "{line:?}");
        }
    }

    #[test]
    fn what_is_missing_of_the_options_is_told() {
        let line = options(
            &through("host=a connect_timeout=5 keepalives_idle=30"),
            false,
        );
        assert_eq!(line.severity, Severity::Info);
        let remedy = line.remedy.unwrap_or_default();
        assert!(
            remedy.ends_with(": keepalives_interval=10 keepalives_count=6"),
            "{remedy}"
        );
        let all =
            "host=a connect_timeout=5 keepalives_idle=30 keepalives_interval=5 keepalives_count=3";
        for (conninfo, is_local) in [(all, false), ("host=a", true)] {
            let line = options(&through(conninfo), is_local);
            assert_eq!(line.severity, Severity::Ok, "{line:?}");
        }
    }
}
