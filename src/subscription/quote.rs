//! Names and values as SQL has to have them, where there is no server to ask.

/// An identifier in quotes, which are never wrong.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// As `quote_literal` writes it.
pub(crate) fn literal(text: &str) -> String {
    let quoted = format!("'{}'", text.replace('\'', "''"));
    if quoted.contains('\\') {
        format!("E{}", quoted.replace('\\', "\\\\"))
    } else {
        quoted
    }
}

/// An identifier that is ASCII whatever the name is, which a database of any encoding reads.
pub(crate) fn ascii_identifier(name: &str) -> String {
    if name.is_ascii() {
        return identifier(name);
    }
    let escaped: String = name
        .chars()
        .map(|one| match one {
            '\\' => "\\\\".to_owned(),
            '"' => "\"\"".to_owned(),
            one if one.is_ascii() => one.to_string(),
            one => format!("\\+{:06x}", u32::from(one)),
        })
        .collect();
    format!("U&\"{escaped}\"")
}

/// A qualified name for people: in quotes only where something in it is unusual.
pub(crate) fn readable(schema: &str, name: &str) -> String {
    let part = |name: &str| {
        let is_plain = name.starts_with(|one: char| one.is_ascii_lowercase() || one == '_')
            && name
                .chars()
                .all(|one| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '_');
        if is_plain {
            name.to_owned()
        } else {
            identifier(name)
        }
    };
    format!("{}.{}", part(schema), part(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled_and_backslashes_escaped() {
        assert_eq!(identifier("it's \"odd\""), "\"it's \"\"odd\"\"\"");
        assert_eq!(ascii_identifier("it's \"odd\""), "\"it's \"\"odd\"\"\"");
        assert_eq!(
            ascii_identifier("Gr\u{f6}\u{df}e \"\\"),
            "U&\"Gr\\+0000f6\\+0000dfe \"\"\\\\\""
        );
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\b"), "E'a\\\\b'");
    }

    #[test]
    fn names_for_people_are_quoted_where_need_be() {
        assert_eq!(readable("public", "a_1"), "public.a_1");
        assert_eq!(readable("public", "It's"), "public.\"It's\"");
    }
}
