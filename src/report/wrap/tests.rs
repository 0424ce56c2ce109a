use super::super::WIDTH;
use super::{length, sql, text};

/// What a server would read: without comments, blanks outside of quotes as one, continued literals joined.
fn read(lines: &[String]) -> String {
    lines
        .iter()
        .map(|line| line.trim())
        .filter(|line| !line.starts_with("--"))
        .collect::<Vec<_>>()
        .join("\n")
        .replace("'\n'", "")
        .replace('\n', " ")
}

fn assert_fits(lines: &[String]) {
    for line in lines {
        assert!(length(line) <= WIDTH, "{line}");
    }
}

#[test]
fn text_is_folded_at_words_and_hangs() {
    let lines = text("  last error: ", 14, &"word ".repeat(40));
    assert_fits(&lines);
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("  last error: word word"));
    assert!(lines[1].starts_with("              word word"));
    assert!(!lines[0].ends_with(' '));
}

#[test]
fn text_without_blanks_is_cut() {
    let lines = text("  ", 2, &"ä".repeat(200));
    assert_fits(&lines);
    let letters: usize = lines.iter().map(|line| line.trim().chars().count()).sum();
    assert_eq!(letters, 200);
}

#[test]
fn text_ends_somewhere_and_has_no_newlines() {
    let lines = text("", 2, &"long\nstory\u{7} ".repeat(500));
    assert_eq!(lines.len(), 7);
    assert_eq!(lines[6], "  ...");
    assert!(lines[0].starts_with("long story? long"));
}

#[test]
fn short_sql_stays_as_it_is() {
    assert_eq!(
        sql(
            2,
            "-- on the publisher:\nSELECT 'a  b';\n\nSELECT 2; -- and a word"
        ),
        [
            "  -- on the publisher:",
            "  SELECT 'a  b';",
            "  SELECT 2; -- and a word"
        ]
    );
}

#[test]
fn long_sql_is_broken_at_blanks_outside_of_quotes() {
    let statement = format!(
        "ALTER SUBSCRIPTION \"a name with blanks {}\" CONNECTION 'host=10.1.2.3 port=5432 dbname=shop' x;",
        "and more ".repeat(5)
    );
    let lines = sql(2, &statement);
    assert_fits(&lines);
    assert!(lines.len() > 1);
    assert_eq!(read(&lines), statement);
    assert!(lines[1].starts_with("    "));
}

#[test]
fn dollar_quotes_are_quotes() {
    let body = "a ".repeat(30);
    let statement = format!("SELECT set_it({0}, $b${1}$b$, $${1}$$);", "x", body);
    let lines = sql(2, &statement);
    assert_fits(&lines);
    assert_eq!(read(&lines), statement);
    assert!(
        lines
            .iter()
            .any(|line| line.contains(&format!("$b${body}$b$")))
    );
}

#[test]
fn a_comment_goes_on_as_a_comment() {
    let lines = sql(2, &format!("SELECT 1; -- {}", "words ".repeat(40)));
    assert_fits(&lines);
    assert_eq!(read(&lines[..1]), lines[0].trim());
    assert!(lines.len() > 2);
    for line in &lines[1..] {
        assert!(line.starts_with("  -- words"), "{line}");
    }
    let lines = sql(2, &format!("-- {}", "x".repeat(200)));
    assert_fits(&lines);
    assert!(lines.iter().all(|line| line.starts_with("  --")));
}

#[test]
fn long_names_and_literals_can_still_be_pasted() {
    let (schema, table) = ("s".repeat(63), "Odd table ".repeat(6));
    let statement = format!(
        "SELECT pglogical.alter_subscription_resynchronize_table('sub', '\"{schema}\".\"{table}\"');"
    );
    let lines = sql(2, &statement);
    assert_fits(&lines);
    assert_eq!(read(&lines).replace("( '", "('"), statement);

    let statement = format!("ALTER TABLE \"{schema}\".\"{table}\" ADD PRIMARY KEY (id);");
    let lines = sql(2, &statement);
    assert_fits(&lines);
    assert_eq!(read(&lines).replace(". \"", ".\""), statement);
}

#[test]
fn quotes_in_a_literal_stay_together() {
    let literal = "''".repeat(120);
    let lines = sql(2, &format!("SELECT '{literal}';"));
    assert_fits(&lines);
    // Each line is a literal of its own, so the quotes within it come in pairs.
    for line in &lines[1..] {
        assert_eq!(line.matches('\'').count() % 2, 0, "{line}");
    }
    assert_eq!(read(&lines).matches('\'').count(), 242);
}

#[test]
fn nothing_is_nothing() {
    assert!(sql(2, " \n ").is_empty());
    assert_eq!(text("", 2, ""), [""]);
}
