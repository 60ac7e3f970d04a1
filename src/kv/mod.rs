//! The replicated state: ordered keys with revisions, and the sessions that make retries safe. Pure.

mod command;
mod execute;
mod glob;
mod hash;
mod key;
mod query;
mod reply;
mod rows;
mod sessions;
mod store;

pub use command::{Command, Condition, Exec, Operation, Origin, Query, SessionId, Set, SetCondition};
pub use glob::glob_matches;
pub use query::ScanStep;
pub use reply::{CommandError, Reply};
pub use store::{Input, LOGGED_REPLY_BYTES_MAX, Limits, QUERY_REPLY_BYTES_MAX, Store};

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod script_tests;
