//! RESP, the protocol of Redis clients: requests in (version 2 and 3, inline commands), replies out.

mod encode;
mod parse;
#[cfg(test)]
mod tests;

pub use encode::{Output, Value, Version};
pub(crate) use parse::parse_i64;
pub use parse::{Limits, Parsed, Parser, ProtocolError};
