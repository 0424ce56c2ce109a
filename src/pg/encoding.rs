//! Texts of a database that is not in UTF-8.

use pgrx::{PgTryBuilder, pg_sys};
use std::ffi::{CStr, c_char, c_int};
use std::panic::AssertUnwindSafe;

const UTF8: c_int = pg_sys::pg_enc::PG_UTF8 as c_int;

/// Of the database.
pub(crate) fn is_utf8() -> bool {
    // SAFETY: reads a variable of this process.
    unsafe { pg_sys::GetDatabaseEncoding() == UTF8 }
}

/// A text in the encoding of the database. What cannot be converted is replaced. Inside a transaction.
pub(crate) fn to_utf8(text: &[u8]) -> String {
    if text.is_ascii() || is_utf8() {
        return String::from_utf8_lossy(text).into_owned();
    }
    let convert = || {
        let length = c_int::try_from(text.len()).unwrap_or(0);
        // SAFETY: the text is read only; the result is the text itself, or a string of its own that ends with a zero byte.
        unsafe {
            let start = text.as_ptr().cast::<c_char>();
            let converted = pg_sys::pg_server_to_any(start, length, UTF8);
            if std::ptr::eq(converted, start) {
                None
            } else {
                Some(CStr::from_ptr(converted).to_string_lossy().into_owned())
            }
        }
    };
    // It raises for what is no text in the encoding; it has changed nothing by then.
    let converted = PgTryBuilder::new(AssertUnwindSafe(convert))
        .catch_others(|_| None)
        .execute();
    converted.unwrap_or_else(|| String::from_utf8_lossy(text).into_owned())
}

/// As JSON that the server can read in any encoding of the database: what the encoding does not have is a question mark.
/// Inside a transaction.
pub(crate) fn json(value: &impl serde::Serialize) -> String {
    let text = serde_json::to_string(value).unwrap_or_default();
    if text.is_ascii() || is_utf8() {
        return text;
    }
    escaped(&text, is_storable)
}

/// A text that can be stored whatever the encoding of the database is.
pub(crate) fn storable(text: &str) -> String {
    if text.is_ascii() || is_utf8() {
        return text.to_owned();
    }
    // The server takes it as it is.
    text.replace(|one: char| !one.is_ascii(), "?")
}

/// The server converts what is escaped.
fn escaped(text: &str, is_storable: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii() {
            escaped.push(character);
        } else if is_storable(character) {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            escaped.push('?');
        }
    }
    escaped
}

/// The encoding of the database has it.
fn is_storable(character: char) -> bool {
    // SAFETY: reads a variable of this process.
    if unsafe { pg_sys::GetDatabaseEncoding() } == pg_sys::pg_enc::PG_SQL_ASCII as c_int {
        return false;
    }
    let mut bytes = [0; 4];
    let text = character.encode_utf8(&mut bytes);
    let convert = || {
        let length = c_int::try_from(text.len()).unwrap_or(0);
        // SAFETY: as in to_utf8.
        unsafe { !pg_sys::pg_any_to_server(text.as_ptr().cast(), length, UTF8).is_null() }
    };
    PgTryBuilder::new(AssertUnwindSafe(convert))
        .catch_others(|_| false)
        .execute()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ascii_is_escaped_or_replaced() {
        assert_eq!(escaped("Größe", |one| one != 'ß'), r"Gr\u00f6?e");
        assert_eq!(escaped("\u{1F600}", |_| true), r"\ud83d\ude00");
    }
}
