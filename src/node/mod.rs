//! One member as a value: Raft plus waiting clients. Events in, actions out; no clock, disk, socket or thread.

mod request;

pub use request::{Outcome, RequestError, WriteSession};
