//! Whether an expression still means the same once it has been written out as text and read again.
//!
//! The server keeps a trigger's WHEN as a tree, but dumps and restores it as text, under an empty search_path.
//! `NULLIF`, `IS DISTINCT FROM`, `CASE x WHEN` and comparisons of rows have no way to name the schema of their
//! operator: with a type of an extension they may come back with another one, and the column with another
//! value.

use std::collections::BTreeSet;

/// Fields of a node tree (`nodes/outfuncs.c`) that say what is computed.
const FIELDS: [&str; 4] = [":opno", ":opnos", ":funcid", ":minmaxtype"];

/// Every operator and function of a node tree, by field and OID.
pub(super) fn operators(tree: &str) -> BTreeSet<(&str, &str)> {
    let mut found = BTreeSet::new();
    let mut field = None;
    for token in tree.split_ascii_whitespace() {
        if token.starts_with(':') {
            field = FIELDS.into_iter().find(|name| *name == token);
            continue;
        }
        // A list of OIDs is written "(o 98 410)".
        let number = token.trim_matches(['(', ')', '{', '}']);
        let is_oid = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if let (Some(name), true) = (field, is_oid) {
            found.insert((name, number));
        }
    }
    found
}

/// Some operator or function was created after `initdb`: its OID is not below `FirstNormalObjectId` of
/// `access/transam.h`.
pub(super) fn names_user_object(tree: &str) -> bool {
    operators(tree)
        .iter()
        .any(|(_, oid)| oid.parse::<u32>().is_ok_and(|oid| oid >= 16384))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_and_functions_are_found_wherever_they_stand() {
        let tree = "{NULLIFEXPR :opno 16500 :opfuncid 16400 :args ({FUNCEXPR :funcid 870 :args ({VAR :varno 1 \
                    :varattno 3})} {CONST :constvalue 4 [ 32 0 0 0 ]}) :location 7}";
        let expected = BTreeSet::from([(":opno", "16500"), (":funcid", "870")]);
        assert_eq!(operators(tree), expected);
    }

    #[test]
    fn user_objects_are_told_by_their_oid() {
        assert!(names_user_object("{FUNCEXPR :funcid 16384 :args <>}"));
        assert!(!names_user_object(
            "{FUNCEXPR :funcid 16383 :args ({CONST :consttype 90000})}"
        ));
    }

    #[test]
    fn lists_of_operators_are_read_to_their_end() {
        let tree = "{ROWCOMPAREEXPR :rctype 1 :opnos (o 97 664) :opfamilies (o 1976 1994) :largs ({PARAM})}";
        assert_eq!(
            operators(tree),
            BTreeSet::from([(":opnos", "97"), (":opnos", "664")])
        );
    }

    #[test]
    fn casts_without_a_function_make_no_difference() {
        let plain = "{SCALARARRAYOPEXPR :opno 98 :useOr true :args ({VAR :varno 1})}";
        let cast = "{SCALARARRAYOPEXPR :opno 98 :useOr true :args ({RELABELTYPE :arg {VAR :varno 2} :resulttype 25})}";
        assert_eq!(operators(plain), operators(cast));
    }
}
