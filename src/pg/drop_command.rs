//! What a DROP is about to drop, for an event trigger.

use super::version;
use pgrx::{PgList, pg_sys};

#[derive(Debug, Default)]
pub(crate) struct Dropped {
    /// Names, as those of the schemas.
    pub(crate) extensions: Vec<String>,
    pub(crate) schemas: Vec<String>,
    /// Roles, with all that they own in this database.
    pub(crate) owners: Vec<pg_sys::Oid>,
}

/// What the command names for which an event trigger is fired; nothing where it is neither DROP EXTENSION nor DROP SCHEMA nor
/// DROP OWNED.
pub(crate) fn objects(info: pg_sys::FunctionCallInfo) -> Dropped {
    let mut dropped = Dropped::default();
    // SAFETY: the server calls an event trigger with its data as context (CALLED_AS_EVENT_TRIGGER), and the parse tree of a
    // DROP is a DropStmt, that of DROP OWNED a DropOwnedStmt with a list of RoleSpec; each node is looked at for what it says
    // it is.
    unsafe {
        let context = (*info).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_EventTriggerData {
            return dropped;
        }
        let command = (*context.cast::<pg_sys::EventTriggerData>()).parsetree;
        if command.is_null() {
            return dropped;
        }
        if (*command).type_ == pg_sys::NodeTag::T_DropOwnedStmt {
            let command = command.cast::<pg_sys::DropOwnedStmt>();
            let roles = PgList::<pg_sys::RoleSpec>::from_pg((*command).roles);
            // A role that is not there is refused by the server.
            let roles = roles
                .iter_ptr()
                .map(|role| pg_sys::get_rolespec_oid(role, true));
            dropped.owners.extend(roles);
            return dropped;
        }
        if (*command).type_ != pg_sys::NodeTag::T_DropStmt {
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
