//! What will go wrong with a subscription later.

use super::cause::Cause;
use super::provider::Subscription;
use serde::{Deserialize, Serialize};

/// There is one for a subscription, a cause and an object. All of them are warnings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hazard {
    pub(crate) provider: String,
    /// OID of the subscription.
    pub(crate) id: u32,
    pub(crate) subscription: String,
    pub(crate) cause: Cause,
    /// A table, with its schema and quoted where it has to be; `None`: several things at once.
    pub(crate) object: Option<String>,
    /// A sentence.
    pub(crate) finding: String,
    pub(crate) evidence: serde_json::Value,
    /// SQL that can be pasted.
    pub(crate) remedy: Option<String>,
}

impl Hazard {
    pub(crate) fn new(subscription: &Subscription, cause: Cause, object: Option<String>) -> Self {
        Self {
            provider: subscription.provider.clone(),
            id: subscription.id,
            subscription: subscription.subscription.clone(),
            cause,
            object,
            finding: String::new(),
            evidence: serde_json::Value::Null,
            remedy: None,
        }
    }

    pub(crate) fn is_of(&self, subscription: &Subscription) -> bool {
        self.id == subscription.id && self.provider == subscription.provider
    }
}
