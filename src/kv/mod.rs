//! The replicated state: ordered keys with revisions, and the sessions that make retries safe. Pure.

mod command;
mod glob;
mod reply;

pub use command::{Command, Condition, Exec, Operation, Origin, Query, SessionId, Set, SetCondition};
pub use glob::glob_matches;
pub use reply::{CommandError, Reply};

mod store;
pub use store::{Input, Store};
