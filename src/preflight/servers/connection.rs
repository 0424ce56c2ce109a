//! Why there is no connection with the publisher: each reason by its own sign, and what to do about it.

mod hindrance;

use super::super::Plan;
use super::super::line::{Line, Node, Severity};
use super::advice::{is_plain, shown};
use crate::subscription::conninfo::Conninfo;
use crate::subscription::publisher::Unheard;
use crate::subscription::quote::{identifier, literal};
use hindrance::Hindrance;

/// Of a connection that was not made.
pub(super) fn failed(plan: &Plan, unheard: &Unheard) -> Line {
    let way = Way {
        conninfo: Conninfo::parse(&plan.conninfo),
        unheard,
    };
    let hindrance = Hindrance::of(unheard);
    let (finding, node, remedy) = way.told(hindrance);
    let line = Line::new(
        Severity::Error,
        "connection",
        format!("{finding} ({})", shown(&unheard.message)),
    )
    .on(&shown(&way.conninfo.shown()));
    let remedy = match remedy {
        Some(remedy) => remedy,
        None => way.change(plan),
    };
    line.remedy(node, &remedy)
}

/// Of one that was made, and on which no answer came.
pub(super) fn unanswered(unheard: &Unheard) -> Line {
    Line::new(
        Severity::Error,
        "connection",
        format!(
            "The publisher lets this server in, and does not say what it is like ({}).",
            shown(&unheard.message)
        ),
    )
    .remedy(
        Node::Publisher,
        "-- it has to be PostgreSQL 10 or later, and to answer within replwarden.probe_timeout",
    )
}

struct Way<'a> {
    conninfo: Conninfo,
    unheard: &'a Unheard,
}

impl Way<'_> {
    /// A finding, the server that its remedy is for, and the remedy; without one, the way to connect has to be changed.
    fn told(&self, hindrance: Hindrance) -> (String, Node, Option<String>) {
        let there = Node::Publisher;
        let here = Node::Subscriber;
        let say = |text: &str| Some(text.to_owned());
        match hindrance {
            Hindrance::Unreadable => (
                "libpq cannot read the connection string.".to_owned(),
                here,
                say("-- keywords and values as in host=db.example port=5432 user=me dbname=shop, or a URI in which @ / : of a password are %40 %2F %3A"),
            ),
            Hindrance::NameUnknown => (
                format!("The name of the publisher's host, {}, is not known to this server.", self.host()),
                here,
                say("-- getent hosts <name> in a shell of this server shows what it knows: correct the name, or its DNS, or use an address"),
            ),
            Hindrance::NoNameServer => (
                format!("No name server has told the address of {} in time.", self.host()),
                here,
                say("-- see /etc/resolv.conf of this server, and whether it reaches the name servers listed there"),
            ),
            Hindrance::Refused => (
                format!("Nothing listens at {}.", self.place()),
                there,
                say("-- see that PostgreSQL runs there, on this port, and listens on the network:\nSHOW listen_addresses;\nSHOW port;"),
            ),
            Hindrance::NoRoute => (
                format!("The network has no way from {} to {}.", self.local(), self.place()),
                here,
                say("-- see routes, VPN or peering between both networks"),
            ),
            Hindrance::Dropped => (
                format!(
                    "{} does not answer {}: a firewall, a security group or an allow-list between both drops what is sent.",
                    self.place(),
                    self.local()
                ),
                there,
                Some(format!(
                    "-- let {} connect to port {} in the firewall, security group or list of allowed addresses; behind NAT, the address that it has outside",
                    self.local(),
                    self.port()
                )),
            ),
            Hindrance::Mute => (
                format!(
                    "{} takes a connection from {} and says nothing: no PostgreSQL is behind it, or one that hangs.",
                    self.place(),
                    self.local()
                ),
                there,
                say("-- see what listens on this port (a proxy or load balancer?), that its PostgreSQL answers, and that nobody between both ends connections"),
            ),
            Hindrance::NoPostgres => (
                format!("What answers at {} is no PostgreSQL.", self.place()),
                there,
                say("-- see what listens on this port (a proxy, another service?), and whether the port is right"),
            ),
            Hindrance::Encryption => self.encryption(),
            Hindrance::PasswordNeeded => (
                "A password is needed, and the connection string has none that counts.".to_owned(),
                here,
                None,
            ),
            Hindrance::Authentication => (
                format!("The publisher does not take the proof that {} is who it says: a wrong password, or another way to prove it.", self.user()),
                there,
                self.user_sql(|user| format!("-- unless the connection string is wrong:\n-- ALTER ROLE {user} PASSWORD '…';")),
            ),
            Hindrance::NoEntry => (
                format!("pg_hba.conf of the publisher does not let {} in from {}.", self.user(), self.local()),
                there,
                Some(self.entry()),
            ),
            Hindrance::RoleUnknown => (
                format!("The publisher has no role {}.", self.user()),
                there,
                self.user_sql(|user| format!("CREATE ROLE {user} LOGIN REPLICATION; -- and a password")),
            ),
            Hindrance::MayNotLogIn => (
                format!("The publisher's role {} may not log in.", self.user()),
                there,
                self.user_sql(|user| format!("ALTER ROLE {user} LOGIN;")),
            ),
            Hindrance::RoleUnusable => (
                format!("The publisher has no role {}, or it may not log in.", self.user()),
                there,
                self.user_sql(|user| format!("-- CREATE ROLE {user} LOGIN REPLICATION; or\nALTER ROLE {user} LOGIN;")),
            ),
            Hindrance::DatabaseUnknown => (
                format!("The publisher has no database {}.", self.database()),
                there,
                say("-- its databases, for the connection string:\nSELECT datname FROM pg_database WHERE datallowconn;"),
            ),
            Hindrance::MayNotConnect => (
                format!("The publisher's role {} may not connect to {}.", self.user(), self.database()),
                there,
                self.user_sql(|user| {
                    let database = self.conninfo.value("dbname").filter(|name| is_plain(name));
                    let database = database.map_or("…".to_owned(), identifier);
                    format!("GRANT CONNECT ON DATABASE {database} TO {user};")
                }),
            ),
            Hindrance::TooManyConnections => (
                "The publisher has no connection left: max_connections, or the limit of the role or database.".to_owned(),
                there,
                say("-- who has them, and what is allowed:\nSELECT usename, state, count(*) FROM pg_stat_activity GROUP BY 1, 2 ORDER BY 3 DESC;\nSHOW max_connections;\nSELECT rolname, rolconnlimit FROM pg_roles WHERE rolconnlimit >= 0;"),
            ),
            Hindrance::WalsendersExhausted => (
                "The publisher has no walsender left (max_wal_senders).".to_owned(),
                there,
                say("ALTER SYSTEM SET max_wal_senders = 20; -- or more than SELECT count(*) FROM pg_stat_replication\n-- and restart the server"),
            ),
            Hindrance::MayNotReplicate => (
                format!("The publisher's role {} has no right to replicate.", self.user()),
                there,
                self.user_sql(|user| format!("ALTER ROLE {user} REPLICATION;\n-- on Amazon RDS: GRANT rds_replication TO {user};")),
            ),
            Hindrance::NotReady => (
                "The publisher takes no connections now: it is starting up, shutting down or recovering.".to_owned(),
                there,
                say("-- see its log; then run repl_preflight() again"),
            ),
            Hindrance::TurnedAway => (
                format!("The publisher turns {} away.", self.user()),
                there,
                say("-- its log says why: password, pg_hba.conf, LOGIN or REPLICATION of the role"),
            ),
            Hindrance::Unknown => (
                format!("No connection with {}, for a reason that is not known here.", self.place()),
                there,
                say("-- see what libpq says, and the publisher's log"),
            ),
        }
    }

    fn encryption(&self) -> (String, Node, Option<String>) {
        let says = |words: &str| self.unheard.message.contains(words);
        if says("does not support SSL") {
            return (
                format!(
                    "The connection string wants encryption (sslmode={}), and the publisher offers none.",
                    self.conninfo.value("sslmode").unwrap_or("require")
                ),
                Node::Publisher,
                Some("-- with server.crt and server.key in its data directory:\nALTER SYSTEM SET ssl = on;\nSELECT pg_reload_conf();\n-- or write sslmode=prefer into the connection string, where nobody can listen".to_owned()),
            );
        }
        // The publisher says so in its own language; what this server has is a matter of libpq.
        let is_wanted = self.unheard.refusal.is_some() || says("alert unknown ca");
        let is_unusable = says("could not open certificate file") || says("private key");
        if is_wanted || is_unusable {
            let finding = if is_wanted {
                "The publisher wants a certificate of whoever connects, and the connection string has none that counts."
            } else {
                "The certificate with which this server is to prove who it is, or its key, cannot be used."
            };
            return (
                finding.to_owned(),
                Node::Subscriber,
                Some("-- sslcert and sslkey in the connection string have to name files that the server's user can read, the key nobody else; and ssl_ca_file of the publisher the authority of the certificate".to_owned()),
            );
        }
        (
            "Encryption with the publisher fails: its certificate, or the files that check it here."
                .to_owned(),
            Node::Subscriber,
            Some("-- sslrootcert in the connection string has to name the authority of its certificate (a file that the server's user can read), and sslmode=verify-full a host that the certificate names".to_owned()),
        )
    }

    /// Another connection string.
    fn change(&self, plan: &Plan) -> String {
        match &plan.subscription {
            Some(subscription) if !is_plain(&subscription.subscription) => {
                "-- give the connection string a password".to_owned()
            }
            Some(subscription) if plan.provider == "native" => format!(
                "-- ALTER SUBSCRIPTION {} CONNECTION '… password=…';",
                identifier(&subscription.subscription)
            ),
            Some(subscription) => format!(
                "-- SELECT pglogical.alter_node_add_interface('<provider node>', 'with_password', '… password=…');\n\
                 -- SELECT pglogical.alter_subscription_interface({}, 'with_password');",
                literal(&subscription.subscription)
            ),
            None => "-- give the connection string a password".to_owned(),
        }
    }

    /// A line for pg_hba.conf, with the address that the publisher sees if it tells it.
    fn entry(&self) -> String {
        let seen = self.unheard.message.split_once(" host \"");
        let seen = seen.and_then(|(_, rest)| rest.split_once('"'));
        let seen = seen.and_then(|(address, _)| address.parse().ok());
        let address = seen.or(self.unheard.route.map(|route| route.local));
        let name = |keyword: &str| match self.conninfo.value(keyword) {
            Some(name) if is_plain(name) => identifier(name),
            _ => "all".to_owned(),
        };
        let (kind, from) = match address {
            Some(std::net::IpAddr::V4(address)) => ("host", format!(" {address}/32")),
            Some(std::net::IpAddr::V6(address)) => ("host", format!(" {address}/128")),
            None => ("local", String::new()),
        };
        let unencrypted = match self.conninfo.value("sslmode") {
            Some("disable") => {
                "\n-- or, where its lines are for encrypted connections (hostssl): sslmode=require in the connection string"
            }
            _ => "",
        };
        format!(
            "-- before other lines of pg_hba.conf (SHOW hba_file):\n-- {kind} {} {}{from} scram-sha-256{unencrypted}\nSELECT pg_reload_conf();",
            name("dbname"),
            name("user")
        )
    }

    fn user_sql(&self, sql: impl Fn(&str) -> String) -> Option<String> {
        let user = self.conninfo.value("user").filter(|user| is_plain(user));
        Some(sql(&user.map_or("…".to_owned(), identifier)))
    }

    fn user(&self) -> String {
        self.quoted("user", "of the operating system's user")
    }

    fn database(&self) -> String {
        self.quoted("dbname", "of the role's name")
    }

    fn host(&self) -> String {
        self.quoted("host", "of the environment")
    }

    fn quoted(&self, keyword: &str, otherwise: &str) -> String {
        match self.conninfo.value(keyword) {
            Some(value) => format!("\"{}\"", shown(value)),
            None => otherwise.to_owned(),
        }
    }

    fn port(&self) -> String {
        shown(self.conninfo.value("port").unwrap_or("5432"))
    }

    /// Where the publisher is.
    fn place(&self) -> String {
        let named = self
            .conninfo
            .value("host")
            .or(self.conninfo.value("hostaddr"));
        let named = named.map_or("the publisher".to_owned(), shown);
        let address = self.unheard.route.and_then(|route| route.remote);
        let address = address.map(|one| one.to_string());
        let address = address.filter(|address| *address != named);
        let address = address.map_or(String::new(), |address| format!(" ({address})"));
        format!("{named}{address}, port {}", self.port())
    }

    /// Where this server is.
    fn local(&self) -> String {
        match self.unheard.route {
            Some(route) => format!("this server's {}", route.local),
            None => "this server (its address is not known here)".to_owned(),
        }
    }
}
