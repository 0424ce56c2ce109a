//! Whether the values of a type can be stored in a column of another. Natively they come as text, which every type reads that
//! could have written it.

use super::facts::Column;

/// What becomes of the publisher's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// The same type.
    Same,
    /// Each of them can be stored.
    Wide,
    /// Some of them cannot.
    Narrow,
    /// They can be stored, and mean something else.
    Shifted,
    /// None, or by chance.
    Foreign,
}

/// `is_binary`: they come in the form of their own type.
pub(super) fn fit(there: &Column, here: &Column, is_binary: bool) -> Fit {
    let (from, from_is_array) = element(there);
    let (to, to_is_array) = element(here);
    if from_is_array != to_is_array {
        let is_text = ["text", "varchar"].contains(&to) && !to_is_array && !is_binary;
        return if is_text { Fit::Wide } else { Fit::Foreign };
    }
    if from == to && is_of_server(there) == is_of_server(here) {
        return if there.typmod == here.typmod {
            Fit::Same
        } else {
            modified(from, there.typmod, here.typmod)
        };
    }
    let is_text = |name: &str| ["text", "varchar", "bpchar"].contains(&name);
    if is_text(from) && is_text(to) && is_of_server(there) && is_of_server(here) {
        return if to == "text" || here.typmod == -1 && to == "varchar" {
            Fit::Wide
        } else {
            modified(
                to,
                if from == "text" { -1 } else { there.typmod },
                here.typmod,
            )
        };
    }
    if is_binary {
        return Fit::Foreign;
    }
    if !is_of_server(here) {
        // A domain, or a type of the user: who knows what it takes.
        return if is_of_server(there) {
            Fit::Narrow
        } else {
            Fit::Foreign
        };
    }
    if is_text(to) {
        return if here.typmod == -1 {
            Fit::Wide
        } else {
            Fit::Narrow
        };
    }
    if !is_of_server(there) {
        return Fit::Foreign;
    }
    converted(from, to, here.typmod)
}

/// As text.
fn converted(from: &str, to: &str, typmod: i32) -> Fit {
    const WHOLE: [&str; 3] = ["int2", "int4", "int8"];
    let width = |name: &str| WHOLE.iter().position(|one| *one == name);
    match (from, to) {
        (from, to) if width(from).is_some() && width(to).is_some() => {
            if width(from) < width(to) {
                Fit::Wide
            } else {
                Fit::Narrow
            }
        }
        (from, "numeric") if width(from).is_some() || ["float4", "float8"].contains(&from) => {
            if typmod == -1 {
                Fit::Wide
            } else {
                Fit::Narrow
            }
        }
        ("int2" | "int4" | "float4", "float8")
        | ("int2", "float4")
        | ("json", "jsonb")
        | ("jsonb", "json")
        | ("date", "timestamp")
        | ("cidr", "inet")
        | ("macaddr", "macaddr8") => Fit::Wide,
        (from, "float4" | "float8") if width(from).is_some() => Fit::Narrow,
        ("float8", "float4")
        | ("numeric", "float4" | "float8" | "int2" | "int4" | "int8")
        | ("float4" | "float8", "int2" | "int4" | "int8") => Fit::Narrow,
        ("text" | "varchar" | "bpchar", _) | ("timestamp", "date") | ("inet", "cidr") => {
            Fit::Narrow
        }
        ("timestamp" | "date", "timestamptz")
        | ("timestamptz", "timestamp" | "date")
        | ("time", "timetz")
        | ("timetz", "time") => Fit::Shifted,
        _ => Fit::Foreign,
    }
}

/// Of the same type, with another length, precision or scale.
fn modified(name: &str, there: i32, here: i32) -> Fit {
    if here == -1 {
        return Fit::Wide;
    }
    if there == -1 {
        return Fit::Narrow;
    }
    if name == "numeric" {
        // numeric_typmod_precision and numeric_typmod_scale of numeric.c
        let parts = |typmod: i32| {
            let scale = (typmod - 4) & 0x7ff;
            let scale = (scale ^ 1024) - 1024;
            (((typmod - 4) >> 16) & 0xffff, scale)
        };
        let ((precision, scale), (precision_here, scale_here)) = (parts(there), parts(here));
        let is_wide = scale_here >= scale && precision_here - scale_here >= precision - scale;
        return if is_wide { Fit::Wide } else { Fit::Narrow };
    }
    // bit(n) takes just n.
    if here > there && name != "bit" {
        Fit::Wide
    } else {
        Fit::Narrow
    }
}

fn is_of_server(column: &Column) -> bool {
    column.type_schema == "pg_catalog"
}

fn element(column: &Column) -> (&str, bool) {
    match column.type_name.strip_prefix('_') {
        Some(element) if column.r#type.ends_with("[]") => (element, true),
        _ => (&column.type_name, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(type_name: &str, typmod: i32) -> Column {
        let schema = if type_name.starts_with("my_") {
            "public"
        } else {
            "pg_catalog"
        };
        let array = if type_name.starts_with('_') { "[]" } else { "" };
        Column {
            r#type: format!("{type_name}{array}"),
            type_schema: schema.to_owned(),
            type_name: type_name.to_owned(),
            typmod,
            ..Column::default()
        }
    }

    fn fits(from: (&str, i32), to: (&str, i32)) -> Fit {
        fit(&column(from.0, from.1), &column(to.0, to.1), false)
    }

    fn numeric(precision: i32, scale: i32) -> (&'static str, i32) {
        ("numeric", ((precision << 16) | (scale & 0x7ff)) + 4)
    }

    #[test]
    fn wider_types_take_everything() {
        for (from, to) in [
            (("int4", -1), ("int8", -1)),
            (("int4", -1), ("numeric", -1)),
            (("int4", -1), ("text", -1)),
            (("varchar", 14), ("text", -1)),
            (("varchar", 14), ("varchar", 24)),
            (("varchar", 14), ("varchar", -1)),
            (("my_mood", -1), ("text", -1)),
            (("json", -1), ("jsonb", -1)),
            (("_int4", -1), ("_int8", -1)),
            (("_int4", -1), ("text", -1)),
            (numeric(10, 2), ("numeric", -1)),
            (numeric(10, 2), numeric(12, 4)),
            (("timestamptz", 3), ("timestamptz", -1)),
        ] {
            assert_eq!(fits(from, to), Fit::Wide, "{from:?} {to:?}");
        }
    }

    #[test]
    fn narrower_types_take_some() {
        for (from, to) in [
            (("int8", -1), ("int4", -1)),
            (("varchar", 14), ("varchar", 9)),
            (("text", -1), ("varchar", 14)),
            (("text", -1), ("int4", -1)),
            (("numeric", -1), ("int8", -1)),
            (("int8", -1), ("float8", -1)),
            (("bit", 4), ("bit", 8)),
            (numeric(10, 2), numeric(12, 6)),
            (("numeric", -1), numeric(10, 2)),
            (("int4", -1), ("my_domain", -1)),
        ] {
            assert_eq!(fits(from, to), Fit::Narrow, "{from:?} {to:?}");
        }
    }

    #[test]
    fn others_are_shifted_or_foreign() {
        assert_eq!(fits(("timestamp", -1), ("timestamptz", -1)), Fit::Shifted);
        for (from, to) in [
            (("bool", -1), ("int4", -1)),
            (("uuid", -1), ("int8", -1)),
            (("int4", -1), ("_int4", -1)),
            (("my_a", -1), ("my_b", -1)),
        ] {
            assert_eq!(fits(from, to), Fit::Foreign, "{from:?} {to:?}");
        }
        assert_eq!(fits(("my_a", -1), ("my_a", -1)), Fit::Same);
    }

    #[test]
    fn binary_values_are_read_by_their_own_type_only() {
        let (int4, int8) = (column("int4", -1), column("int8", -1));
        assert_eq!(fit(&int4, &int8, true), Fit::Foreign);
        let (varchar, text) = (column("varchar", 14), column("text", -1));
        assert_eq!(fit(&varchar, &text, true), Fit::Wide);
    }
}
