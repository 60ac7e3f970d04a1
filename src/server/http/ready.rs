//! Readiness: whether a linearizable read is possible through this node. It tries one.

use std::fmt::Write;
use std::time::Duration;

use crate::node::Outcome;
use crate::runtime::{Handle, StorageState};

/// A load balancer that asks does not want to wait longer than this.
const READ_TIME_MAX: Duration = Duration::from_secs(2);

/// What was looked at, and what is wrong with it, if anything.
#[derive(Debug)]
pub(super) struct Checks(Vec<(&'static str, Result<String, String>)>);

/// Looks at everything; the read comes last and decides most.
pub(super) async fn checks(handle: &Handle, request_timeout: Duration) -> Checks {
    let status = handle.status();
    let serving = if handle.is_stopping() { Err("the node is stopping") } else { Ok("ok") };
    let recovered = if handle.is_loading() { Err("the node is recovering its state") } else { Ok("ok") };
    let storage = match status.storage_state {
        StorageState::Ok => Ok("ok"),
        StorageState::Full => Ok("full: writes are refused"),
        StorageState::Suspect => Err("suspect: acknowledged data was damaged"),
        StorageState::Poisoned => Err("poisoned: a sync failed"),
    };
    let leader = status.leader_id.map(|leader| format!("{leader} in term {}", status.term));
    let mut checks = vec![
        ("serving", owned(serving)),
        ("recovered", owned(recovered)),
        ("storage", owned(storage)),
        ("leader", leader.ok_or_else(|| "none is known".to_owned())),
    ];
    // The leader is for people: only the read can tell.
    let is_hopeless = checks[..3].iter().any(|(_, result)| result.is_err());
    checks.push(("read", if is_hopeless { Err("not tried".to_owned()) } else { read(handle, request_timeout).await }));
    Checks(checks)
}

async fn read(handle: &Handle, request_timeout: Duration) -> Result<String, String> {
    let mut connection = handle.connect();
    connection.read(1, request_timeout.min(READ_TIME_MAX));
    match connection.completed().await.outcome {
        Ok(Outcome::Readable) => Ok("linearizable".to_owned()),
        Ok(Outcome::Applied { .. }) => Err("answered as a write".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn owned(result: Result<&str, &str>) -> Result<String, String> {
    result.map(str::to_owned).map_err(str::to_owned)
}

impl Checks {
    /// Returns whether a read went through.
    pub(super) fn is_ready(&self) -> bool {
        self.0.last().is_some_and(|(_, result)| result.is_ok())
    }

    /// Returns `ok`, or the first thing that is wrong.
    pub(super) fn summary(&self) -> String {
        let wrong =
            self.0.iter().find_map(|(name, result)| result.as_ref().err().map(|why| format!("{name}: {why}\n")));
        if self.is_ready() { "ok\n".to_owned() } else { wrong.unwrap_or_default() }
    }

    /// Returns one line a check: `[+]leader 2 in term 5`.
    pub(super) fn all(&self) -> String {
        let mut text = String::new();
        for (name, result) in &self.0 {
            let (mark, said) = match result {
                Ok(said) => ('+', said),
                Err(why) => ('-', why),
            };
            let line = writeln!(text, "[{mark}]{name} {said}");
            assert!(line.is_ok(), "writing to a string does not fail");
        }
        text.push_str(if self.is_ready() { "ready\n" } else { "not ready\n" });
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_read_decides_and_the_first_fault_is_told() {
        let ready = Checks(vec![("leader", Err("none is known".to_owned())), ("read", Ok("linearizable".to_owned()))]);
        assert!(ready.is_ready());
        assert_eq!(ready.summary(), "ok\n");
        assert_eq!(ready.all(), "[-]leader none is known\n[+]read linearizable\nready\n");
        let not = Checks(vec![("storage", Err("suspect".to_owned())), ("read", Err("not tried".to_owned()))]);
        assert!(!not.is_ready());
        assert_eq!(not.summary(), "storage: suspect\n");
    }
}
