//! What a DROP is about to drop, for an event trigger.

use super::version;
use pgrx::{PgList, pg_sys};

/// Names.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    pub(crate) extensions: Vec<String>,
    pub(crate) schemas: Vec<String>,
}

/// The extensions or schemas that the command names for which an event trigger is fired; none where it is no such command.
pub(crate) fn objects(info: pg_sys::FunctionCallInfo) -> Dropped {
    let mut dropped = Dropped::default();
    // SAFETY: the server calls an event trigger with its data as context (CALLED_AS_EVENT_TRIGGER), and the parse tree of a
    // DROP is a DropStmt; each node is looked at for what it says it is.
    unsafe {
        let context = (*info).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_EventTriggerData {
            return dropped;
        }
        let command = (*context.cast::<pg_sys::EventTriggerData>()).parsetree;
        if command.is_null() || (*command).type_ != pg_sys::NodeTag::T_DropStmt {
            return dropped;
        }
        let command = command.cast::<pg_sys::DropStmt>();
        let names = match (*command).removeType {
            pg_sys::ObjectType::OBJECT_EXTENSION => &mut dropped.extensions,
            pg_sys::ObjectType::OBJECT_SCHEMA => &mut dropped.schemas,
            _ => return dropped,
        };
        let objects = PgList::<pg_sys::Node>::from_pg((*command).objects);
        names.extend(objects.iter_ptr().filter_map(|one| version::string_of(one)));
    }
    dropped
}
