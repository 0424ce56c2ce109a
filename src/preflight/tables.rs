//! What is published, and whether it fits what is here.

use super::Plan;
use super::line::Line;
use crate::error::Error;
use crate::subscription::publisher::Inquiry;

/// `version`: the publisher's `server_version_num`.
pub(super) fn lines(
    _plan: &Plan,
    _publisher: &mut Inquiry,
    _version: i32,
) -> Result<Vec<Line>, Error> {
    Ok(Vec::new())
}
