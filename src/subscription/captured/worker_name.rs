//! The names of processes that replicate, which are never translated.

use super::WorkerKind;

/// Whom a process works for.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct WorkerName {
    pub(crate) provider: &'static str,
    pub(crate) kind: WorkerKind,
    /// OID of the subscription.
    pub(crate) id: Option<u32>,
    /// OID of the table that it synchronizes.
    pub(crate) relation: Option<u32>,
    /// Of the session of a copy: `application_name`.
    pub(crate) copy: Option<String>,
}

impl WorkerName {
    /// `bgw_name` as `logicalrep_worker_launch` of `replication/logical/launcher.c` makes it, in 14 to 18, or
    /// `pglogical_worker_register` of `pglogical_worker.c`; or `copy <application_name>`.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        if let Some(application_name) = name.strip_prefix("copy ") {
            return Some(Self {
                provider: "pglogical",
                kind: WorkerKind::Copy,
                copy: Some(application_name.to_owned()),
                ..Self::default()
            });
        }
        if let Some(rest) = name.strip_prefix("pglogical ") {
            return Self::pglogical(rest);
        }
        let rest = name.strip_prefix("logical replication ")?;
        if rest == "launcher" {
            return Some(Self {
                provider: "native",
                kind: WorkerKind::Launcher,
                ..Self::default()
            });
        }
        let (kind, target) = rest.split_once("worker for subscription ")?;
        let (id, relation) = match target.split_once(" sync ") {
            Some((id, relation)) => (id, Some(relation.parse().ok()?)),
            None => (target, None),
        };
        Some(Self {
            provider: "native",
            kind: match kind.trim() {
                "parallel apply" => WorkerKind::ParallelApply,
                _ if relation.is_some() => WorkerKind::TableSynchronization,
                _ => WorkerKind::Apply,
            },
            id: Some(id.parse().ok()?),
            relation,
            copy: None,
        })
    }

    fn pglogical(rest: &str) -> Option<Self> {
        let (word, target) = rest.split_once(' ').unwrap_or((rest, ""));
        let kind = match word {
            "supervisor" => WorkerKind::Supervisor,
            "manager" => WorkerKind::Manager,
            "apply" => WorkerKind::Apply,
            "sync" => WorkerKind::Sync,
            _ => return None,
        };
        let id = match kind {
            WorkerKind::Apply | WorkerKind::Sync => Some(target.rsplit_once(':')?.1.parse().ok()?),
            _ => None,
        };
        Some(Self {
            provider: "pglogical",
            kind,
            id,
            ..Self::default()
        })
    }

    /// The session of a copy is one of this subscription: `<name>_copy`, cut after 50 bytes and with a part of its hash
    /// where the name is longer than 58 (`shorten_hash` of pglogical).
    pub(crate) fn is_copy_of(&self, subscription: &str) -> bool {
        let Some(name) = self
            .copy
            .as_ref()
            .and_then(|name| name.strip_suffix("_copy"))
        else {
            return false;
        };
        if subscription.len() <= 58 {
            return name == subscription;
        }
        name.len() == 57 && name.as_bytes()[..50] == subscription.as_bytes()[..50]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(name: &str) -> (&'static str, WorkerKind, Option<u32>, Option<u32>) {
        let name = WorkerName::parse(name).unwrap_or_default();
        (name.provider, name.kind, name.id, name.relation)
    }

    #[test]
    fn native_names_of_all_versions() {
        let native = |kind, id, relation| ("native", kind, id, relation);
        for name in [
            "logical replication worker for subscription 16400",
            "logical replication apply worker for subscription 16400",
        ] {
            assert_eq!(parsed(name), native(WorkerKind::Apply, Some(16400), None));
        }
        for name in [
            "logical replication worker for subscription 16400 sync 17",
            "logical replication tablesync worker for subscription 16400 sync 17",
        ] {
            assert_eq!(
                parsed(name),
                native(WorkerKind::TableSynchronization, Some(16400), Some(17))
            );
        }
        assert_eq!(
            parsed("logical replication parallel apply worker for subscription 5"),
            native(WorkerKind::ParallelApply, Some(5), None)
        );
        assert_eq!(
            parsed("logical replication launcher"),
            native(WorkerKind::Launcher, None, None)
        );
    }

    #[test]
    fn pglogical_names() {
        let pglogical = |kind, id| ("pglogical", kind, id, None);
        assert_eq!(
            parsed("pglogical apply 5:3141"),
            pglogical(WorkerKind::Apply, Some(3141))
        );
        assert_eq!(
            parsed("pglogical sync odd name 5:3141"),
            pglogical(WorkerKind::Sync, Some(3141))
        );
        assert_eq!(
            parsed("pglogical manager 5"),
            pglogical(WorkerKind::Manager, None)
        );
        assert_eq!(
            parsed("pglogical supervisor"),
            pglogical(WorkerKind::Supervisor, None)
        );
    }

    #[test]
    fn other_processes_replicate_nothing() {
        for name in [
            "replwarden launcher",
            "parallel worker for PID 5",
            "pglogical apply x",
            "logical replication worker for subscription x",
        ] {
            assert_eq!(WorkerName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn copy_belongs_to_the_subscription_that_its_name_begins_with() {
        let of = |application_name: &str, subscription: &str| {
            let name = WorkerName::parse(&format!("copy {application_name}"));
            name.is_some_and(|name| name.is_copy_of(subscription))
        };
        assert!(of("sub_copy", "sub"));
        assert!(!of("sub_copy", "sub_copy"));
        let long = "s".repeat(60);
        assert!(of(&format!("{}1234567_copy", &long[..50]), &long));
        assert!(!of(&format!("{}_copy", &long[..57]), "other"));
    }
}
