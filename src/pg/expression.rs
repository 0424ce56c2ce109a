//! Generation expressions: from text to a checked node tree, and back.

use super::relation::Relation;
use super::session;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{IntoDatum, PgTryBuilder, direct_function_call, pg_sys};
use std::ffi::{CStr, CString};
use std::panic::AssertUnwindSafe;

/// `PRS2_NEW_VARNO` of `nodes/primnodes.h`: how a trigger's WHEN refers to NEW.
const NEW_ROW: i32 = 2;
/// The only relation of a stand-alone expression.
const ONLY_RELATION: i32 = 1;

/// An analysed expression over the columns of one relation, in the current memory context.
pub(crate) struct Expression {
    node: *mut pg_sys::Node,
}

/// Why a text is no expression of the wanted kind.
#[derive(Debug)]
pub(crate) enum ParseError {
    /// It is a whole statement, a list, or has an alias or a `*`.
    NotOneExpression,
    Server(Refusal),
}

/// What the server said when it refused something.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: PgSqlErrorCode,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    pub(crate) hint: Option<String>,
}

/// Does what the server may refuse. The transaction must end with an error then, for nothing is rolled back.
pub(crate) fn refusable<T>(work: impl FnOnce() -> T) -> Result<T, Refusal> {
    PgTryBuilder::new(AssertUnwindSafe(|| Ok(work())))
        .catch_others(|error| match error {
            CaughtError::PostgresError(report) => Err(Refusal {
                code: report.sql_error_code(),
                message: report.message().to_owned(),
                detail: report.detail().map(str::to_owned),
                hint: report.hint().map(str::to_owned),
            }),
            other => other.rethrow(),
        })
        .execute()
}

impl Expression {
    /// Parses and analyses `text` as the server does a generation expression (`cookDefault` of
    /// `catalog/heap.c`): names are looked up in the caller's search_path, only columns of `relation` are
    /// visible, subqueries, aggregates, window and set-returning functions are refused.
    pub(crate) fn parse(relation: &Relation, text: &str) -> Result<Self, ParseError> {
        let Ok(query) = CString::new(format!("SELECT {text}")) else {
            return Err(ParseError::NotOneExpression);
        };
        let parsed = refusable(|| {
            let raw = parse_raw(&query)?;
            Some(analyse(relation, raw, &query))
        });
        match parsed {
            Ok(Some(node)) => Ok(Self { node }),
            Ok(None) => Err(ParseError::NotOneExpression),
            Err(refusal) => Err(ParseError::Server(refusal)),
        }
    }

    /// The expression inside the `(… IS NULL)` that is a stored rule's WHEN (`pg_trigger.tgqual`).
    pub(crate) fn from_stored(tree: &CStr) -> Option<Self> {
        // SAFETY: the tree comes from pg_trigger, where only the server writes; tgqual is one node, and its
        // tag is checked before it is taken for a NullTest.
        unsafe {
            let node = pg_sys::stringToNode(tree.as_ptr()).cast::<pg_sys::Node>();
            if node.is_null() || (*node).type_ != pg_sys::NodeTag::T_NullTest {
                return None;
            }
            let node = (*node.cast::<pg_sys::NullTest>()).arg.cast();
            Some(Self { node })
        }
    }

    pub(crate) fn as_node(&self) -> *mut pg_sys::Node {
        self.node
    }

    /// The node tree as the server writes it into its catalogs.
    pub(crate) fn to_tree(&self) -> String {
        // SAFETY: node is a node tree; the result is a palloc'ed C string.
        unsafe {
            CStr::from_ptr(pg_sys::nodeToString(self.node.cast()))
                .to_string_lossy()
                .into_owned()
        }
    }

    /// The type of the value.
    pub(crate) fn type_oid(&self) -> pg_sys::Oid {
        // SAFETY: node is an analysed expression, which is all that exprType asks for.
        unsafe { pg_sys::exprType(self.node) }
    }

    /// With the cast that an INSERT would put around it, or `None` where it would refuse.
    pub(crate) fn assigned_to(&self, type_oid: pg_sys::Oid, modifier: i32) -> Option<Self> {
        // SAFETY: an analysed expression; coerce_to_target_type allows no ParseState and leaves its input be.
        let node = unsafe {
            pg_sys::coerce_to_target_type(
                std::ptr::null_mut(),
                self.node,
                self.type_oid(),
                type_oid,
                modifier,
                pg_sys::CoercionContext::COERCION_ASSIGNMENT,
                pg_sys::CoercionForm::COERCE_IMPLICIT_CAST,
                -1,
            )
        };
        (!node.is_null()).then_some(Self { node })
    }

    /// Holds a cast to a domain, whatever the depth.
    pub(crate) fn checks_domain(&self) -> bool {
        self.to_tree().contains("{COERCETODOMAIN ")
    }

    /// Numbers of the columns that it reads: below zero a system column, zero the whole row.
    pub(crate) fn columns(&self) -> Vec<i16> {
        let mut columns = Vec::new();
        // SAFETY: pull_varattnos collects numbers offset by FirstLowInvalidHeapAttributeNumber; the set is
        // read with bms_next_member, which ends with a negative number.
        unsafe {
            let mut set = std::ptr::null_mut();
            pg_sys::pull_varattnos(self.node, ONLY_RELATION as pg_sys::Index, &mut set);
            let mut member = pg_sys::bms_next_member(set, -1);
            while member >= 0 {
                columns.push((member + pg_sys::FirstLowInvalidHeapAttributeNumber) as i16);
                member = pg_sys::bms_next_member(set, member);
            }
        }
        columns
    }

    /// Gives another value at each call, as `random()` does. Asked of the planned expression, in which default
    /// arguments and inlined functions show (`contain_volatile_functions_after_planning` of PostgreSQL 17).
    pub(crate) fn is_volatile(&self) -> bool {
        // SAFETY: expression_planner works on a copy that only this call sees.
        unsafe { pg_sys::contain_volatile_functions(self.planned()) }
    }

    /// Depends on a setting or on the time, as `now()` and `timestamptz::text` do.
    pub(crate) fn is_mutable(&self) -> bool {
        // SAFETY: as in is_volatile.
        unsafe { pg_sys::contain_mutable_functions(self.planned()) }
    }

    fn planned(&self) -> *mut pg_sys::Node {
        // SAFETY: copyObjectImpl copies the tree, so that planning leaves self as it was analysed.
        unsafe {
            let copy = pg_sys::copyObjectImpl(self.node.cast()).cast::<pg_sys::Expr>();
            pg_sys::expression_planner(copy).cast()
        }
    }

    /// As text that means the same under any search_path, its columns written `new.column`.
    pub(crate) fn to_trigger_text(&self, relation: &Relation) -> String {
        session::with_safe_search_path(|| {
            // SAFETY: the context names the one relation that the columns belong to, as "new"; the result is a
            // palloc'ed C string.
            unsafe {
                let context = pg_sys::deparse_context_for(c"new".as_ptr(), relation.oid());
                let text = pg_sys::deparse_expression(self.node, context, true, false);
                CStr::from_ptr(text).to_string_lossy().into_owned()
            }
        })
    }

    /// A stored rule's expression as a person would write it in the present search_path (`pg_get_expr`).
    pub(crate) fn to_text(&self, relation: &Relation) -> Option<String> {
        // SAFETY: ChangeVarNodes changes this tree, which from_stored has just made, in place; pg_get_expr
        // then takes it, as text, for an expression over the relation.
        unsafe {
            pg_sys::ChangeVarNodes(self.node, NEW_ROW, ONLY_RELATION, 0);
            let tree = pg_sys::cstring_to_text(pg_sys::nodeToString(self.node.cast()));
            direct_function_call::<String>(
                pg_sys::pg_get_expr_ext,
                &[
                    Some(pg_sys::Datum::from(tree)),
                    relation.oid().into_datum(),
                    true.into_datum(),
                ],
            )
        }
    }
}

/// `SELECT <expression>` and nothing more, or `None`.
fn parse_raw(query: &CStr) -> Option<*mut pg_sys::Node> {
    // SAFETY: raw_parser gives a list of RawStmt; every node's tag is checked before its type is assumed.
    unsafe {
        let statements =
            pg_sys::raw_parser(query.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
        let [statement] = cells(statements) else {
            return None;
        };
        let statement = (*statement.ptr_value.cast::<pg_sys::RawStmt>()).stmt;
        if (*statement).type_ != pg_sys::NodeTag::T_SelectStmt {
            return None;
        }
        let select = &*statement.cast::<pg_sys::SelectStmt>();
        let [target] = cells(select.targetList) else {
            return None;
        };
        let target = &*target.ptr_value.cast::<pg_sys::ResTarget>();
        let bare = target.name.is_null()
            && select.distinctClause.is_null()
            && select.intoClause.is_null()
            && select.fromClause.is_null()
            && select.whereClause.is_null()
            && select.groupClause.is_null()
            && select.havingClause.is_null()
            && select.windowClause.is_null()
            && select.valuesLists.is_null()
            && select.sortClause.is_null()
            && select.limitOffset.is_null()
            && select.limitCount.is_null()
            && select.lockingClause.is_null()
            && select.withClause.is_null()
            && select.op == pg_sys::SetOperation::SETOP_NONE;
        (bare && !is_star(target.val)).then_some(target.val)
    }
}

/// `*` or `t.*`, which only a target list may hold.
///
/// # Safety
/// `node` comes from the raw parser.
unsafe fn is_star(node: *mut pg_sys::Node) -> bool {
    // SAFETY: a ColumnRef's fields are a list that is not empty, of String and A_Star nodes.
    unsafe {
        if node.is_null() || (*node).type_ != pg_sys::NodeTag::T_ColumnRef {
            return false;
        }
        let fields = cells((*node.cast::<pg_sys::ColumnRef>()).fields);
        fields.last().is_some_and(|field| {
            (*field.ptr_value.cast::<pg_sys::Node>()).type_ == pg_sys::NodeTag::T_A_Star
        })
    }
}

fn analyse(relation: &Relation, raw: *mut pg_sys::Node, query: &CStr) -> *mut pg_sys::Node {
    // SAFETY: the sequence of cookDefault and of its callers: a ParseState with the relation as only source
    // of names; the relation is open, and query outlives the ParseState.
    unsafe {
        let state = pg_sys::make_parsestate(std::ptr::null_mut());
        (*state).p_sourcetext = query.as_ptr();
        let source = pg_sys::addRangeTableEntryForRelation(
            state,
            relation.as_ptr(),
            pg_sys::AccessShareLock as _,
            std::ptr::null_mut(),
            false,
            true,
        );
        pg_sys::addNSItemToQuery(state, source, true, true, true);
        let node = pg_sys::transformExpr(
            state,
            raw,
            pg_sys::ParseExprKind::EXPR_KIND_GENERATED_COLUMN,
        );
        pg_sys::assign_expr_collations(state, node);
        pg_sys::free_parsestate(state);
        node
    }
}

/// The cells of a list; none for NIL.
///
/// # Safety
/// `list` is NIL or a list of pointers.
unsafe fn cells<'a>(list: *const pg_sys::List) -> &'a [pg_sys::ListCell] {
    if list.is_null() {
        return &[];
    }
    // SAFETY: a List that is not NIL has `length` cells at `elements`.
    unsafe { std::slice::from_raw_parts((*list).elements, (*list).length as usize) }
}

/// A type as SQL writes it, with its modifier unless that is -1 (`format_type_extended`).
pub(crate) fn type_name(type_oid: pg_sys::Oid, modifier: i32) -> String {
    let flags = if modifier >= 0 {
        pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN
    } else {
        0
    };
    // SAFETY: looks the type up in the catalogs; the result is a palloc'ed C string.
    unsafe {
        CStr::from_ptr(pg_sys::format_type_extended(
            type_oid,
            modifier,
            flags as u16,
        ))
        .to_string_lossy()
        .into_owned()
    }
}
