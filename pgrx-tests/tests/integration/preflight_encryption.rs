//! `repl_preflight()` of a publisher whose certificate is to be verified, and of one that wants to see ours.

use std::fs;
use std::path::Path;

use replwarden_tests::{Cluster, Pair};

use crate::diagnose::builder;
use crate::preflight_check::{Preflight, paste, row_of};
use crate::status::{self, Row};

/// Runs openssl in the cluster's data directory, as the user to whom it belongs.
#[track_caller]
fn openssl(cluster: &Cluster, arguments: &str) {
    let output = cluster
        .server()
        .user()
        .command(Path::new("/usr/bin/env"))
        .args(["-C", &cluster.data_directory().display().to_string()])
        .args(["openssl"])
        .args(arguments.split(' '))
        .output()
        .expect("env can be run");
    assert!(
        output.status.success(),
        "openssl {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

#[track_caller]
fn authority(cluster: &Cluster, name: &str) {
    openssl(
        cluster,
        &format!("req -x509 {KEY} -keyout {name}.key -out {name}.crt -days 2 -subj /CN={name}"),
    );
}

/// A key, and a certificate for a name, by an authority.
#[track_caller]
fn certificate(cluster: &Cluster, file: &str, name: &str, authority: &str) {
    openssl(
        cluster,
        &format!("req {KEY} -keyout {file}.key -out {file}.csr -subj /CN={name}"),
    );
    openssl(
        cluster,
        &format!(
            "x509 -req -in {file}.csr -CA {authority}.crt -CAkey {authority}.key -CAcreateserial -out {file}.crt -days 2"
        ),
    );
}

/// A publisher with a certificate for `db.example`, whose authority is `ours`; it does not use it yet.
#[track_caller]
fn with_certificate() -> Pair {
    let pair = status::with_item(builder().start());
    let publisher = pair.publisher();
    authority(publisher, "ours");
    authority(publisher, "theirs");
    certificate(publisher, "server", "db.example", "ours");
    pair
}

/// Of the publisher as `db.example`, with the files of its data directory.
fn conninfo(pair: &Pair, more: &str) -> String {
    let publisher = pair.publisher();
    let files = publisher.data_directory().display().to_string();
    format!(
        "host=db.example hostaddr=127.0.0.1 port={} user=postgres dbname={} {}",
        publisher.port(),
        pair.database(),
        more.replace("./", &format!("{files}/"))
    )
}

#[track_caller]
fn failed(pair: &Pair, more: &str, said: &[&str], remedy: &str) -> Row {
    let rows = Preflight::through(pair, &conninfo(pair, more)).rows();
    let row = rows[0].clone();
    assert!(
        row.is("severity", "error") && row.is("check_name", "connection"),
        "{rows:#?}"
    );
    for part in said {
        assert!(row.text("finding").contains(part), "{part}: {row:#?}");
    }
    assert!(row.text("remedy").contains(remedy), "{remedy}: {row:#?}");
    row
}

#[track_caller]
fn encrypted(pair: &Pair, more: &str, said: &str) {
    let preflight = Preflight::through(pair, &conninfo(pair, more));
    preflight.assert_in_order();
    let row = row_of(&preflight.rows(), "encryption");
    assert!(row.is("severity", "ok"), "{row:#?}");
    assert!(row.text("finding").contains(said), "{said}: {row:#?}");
}

#[test]
fn certificate_of_the_publisher() {
    let pair = with_certificate();
    let row = failed(
        &pair,
        "sslmode=verify-full sslrootcert=./ours.crt",
        &["sslmode=verify-full", "offers none"],
        "ALTER SYSTEM SET ssl = on;",
    );
    paste(&pair, &row);
    encrypted(
        &pair,
        "sslmode=verify-full sslrootcert=./ours.crt",
        "certificate and host are verified",
    );
    encrypted(
        &pair,
        "sslmode=verify-ca sslrootcert=./ours.crt",
        "the certificate is verified",
    );
    encrypted(&pair, "", "sslmode=prefer: the certificate is not verified");
    encrypted(
        &pair,
        "sslmode=require",
        "sslmode=require: the certificate is not verified",
    );

    let names_it = "sslmode=verify-full a host that the certificate names";
    // Of another host, of another authority, and with nothing to verify it by.
    failed(
        &pair,
        "sslmode=verify-full sslrootcert=./ours.crt host=other.example",
        &[
            "Encryption with the publisher fails",
            "other.example",
            "db.example",
        ],
        names_it,
    );
    for mode in ["require", "verify-ca", "verify-full"] {
        failed(
            &pair,
            &format!("sslmode={mode} sslrootcert=./theirs.crt"),
            &[
                "Encryption with the publisher fails",
                "certificate verify failed",
            ],
            "sslrootcert in the connection string has to name the authority",
        );
    }
    failed(
        &pair,
        "sslmode=verify-full sslrootcert=./missing.crt",
        &["Encryption with the publisher fails", "missing.crt"],
        "a file that the server's user can read",
    );
    let subscription = conninfo(&pair, "sslmode=verify-full sslrootcert=./ours.crt");
    pair.on_subscriber(&format!(
        "create subscription sub connection '{subscription}' publication pub"
    ));
    pair.on_publisher("insert into item values (1)");
    pair.wait_copied();
    pair.wait_caught_up();
    let row = row_of(&Preflight::of_subscription(&pair).rows(), "encryption");
    assert!(
        row.text("finding").contains("host are verified"),
        "{row:#?}"
    );
    pair.compare("table item", "table item");
}

#[track_caller]
fn set_hba(cluster: &Cluster, text: &str) {
    let path = cluster.data_directory().join("pg_hba.conf");
    fs::write(path, text).expect("pg_hba.conf can be written");
    cluster.reload();
}

#[test]
fn publisher_that_wants_encryption() {
    let pair = with_certificate();
    let publisher = pair.publisher();
    certificate(publisher, "client", "carrier", "ours");
    certificate(publisher, "other", "somebody", "ours");
    certificate(publisher, "strange", "carrier", "theirs");
    publisher.set("ssl_ca_file", "ours.crt");
    publisher.set("ssl", "on");
    pair.on_publisher("create role carrier login superuser");
    let ours = "host all postgres 127.0.0.1/32 trust\n";
    set_hba(
        publisher,
        &format!("{ours}hostssl all carrier 127.0.0.1/32 trust\n"),
    );
    failed(
        &pair,
        "user=carrier sslmode=disable",
        &["pg_hba.conf", "no encryption"],
        "sslmode=require",
    );
    encrypted(&pair, "user=carrier", "sslmode=prefer");

    set_hba(
        publisher,
        &format!("{ours}hostssl all carrier 127.0.0.1/32 trust clientcert=verify-full\n"),
    );
    failed(
        &pair,
        "user=carrier sslmode=require",
        &[
            "wants a certificate",
            "connection requires a valid client certificate",
        ],
        "sslcert and sslkey",
    );
    let with = |certificate: &str, key: &str| {
        format!("user=carrier sslmode=require sslcert=./{certificate}.crt sslkey=./{key}.key")
    };
    failed(
        &pair,
        &with("strange", "strange"),
        &["wants a certificate", "unknown ca"],
        "ssl_ca_file of the publisher",
    );
    failed(
        &pair,
        &with("client", "missing"),
        &["its key, cannot be used", "missing.key"],
        "sslcert and sslkey",
    );
    failed(
        &pair,
        &with("other", "other"),
        &["does not take the proof", "carrier"],
        "unless the connection string is wrong",
    );
    encrypted(&pair, &with("client", "client"), "sslmode=require");
}
