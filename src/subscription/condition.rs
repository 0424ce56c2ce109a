//! The states of a subscription, and how far it is behind.

/// The words of `repl_subscriptions.state`; what they mean is said there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Streaming,
    CatchingUp,
    Copying,
    Stalled,
    Retrying,
    Down,
    Disabled,
    CrashLoop,
}

impl State {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Streaming => "streaming",
            Self::CatchingUp => "catching_up",
            Self::Copying => "copying",
            Self::Stalled => "stalled",
            Self::Retrying => "retrying",
            Self::Down => "down",
            Self::Disabled => "disabled",
            Self::CrashLoop => "crash_loop",
        }
    }
}

/// Behind by so much, a subscription is catching up.
const BEHIND_SECONDS: f64 = 10.0;
/// Likewise where only the distance is known: a segment of WAL.
const BEHIND_BYTES: i64 = 16 << 20;

/// How far a subscription is behind its publisher.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Lag {
    pub(crate) bytes: Option<i64>,
    pub(crate) seconds: Option<f64>,
}

impl Lag {
    /// More than is usual.
    pub(super) fn is_behind(self) -> bool {
        match (self.seconds, self.bytes) {
            (Some(seconds), _) => seconds >= BEHIND_SECONDS,
            (None, Some(bytes)) => bytes >= BEHIND_BYTES,
            (None, None) => false,
        }
    }
}
