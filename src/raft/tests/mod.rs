//! The core on stage: scripts that tell a story in commands and recorded output, and noise that must not panic it.
//!
//! `KONTIKI_REWRITE_SCRIPTS=1 cargo test --lib raft::tests` records the output anew; read the difference before
//! committing it.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::too_many_lines,
    reason = "tests may panic, and numbers in them are small"
)]

mod cluster;
mod noise;
mod print;
mod script;
