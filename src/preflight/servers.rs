//! What the two servers are like, and the way between them.

use super::Plan;
use super::line::{Line, Severity};
use crate::error::Error;
use crate::subscription::publisher::{Inquiry, Unheard};

/// The settings of this server and its roles.
pub(super) fn of_subscriber(_plan: &Plan) -> Result<Vec<Line>, Error> {
    Ok(Vec::new())
}

/// The settings of the publisher. Gives its version (`server_version_num`); `None`: it does not tell.
pub(super) fn of_publisher(
    _plan: &Plan,
    publisher: &mut Inquiry,
    _lines: &mut Vec<Line>,
) -> Result<Option<i32>, Error> {
    let version = publisher.ask(
        c"select current_setting('server_version_num')::int::text",
        &[],
    );
    Ok(version.ok())
}

/// Nothing is known of the publisher.
pub(super) fn unheard(_plan: &Plan, unheard: &Unheard) -> Line {
    Line::new(Severity::Error, "connection", unheard.message.clone())
}
