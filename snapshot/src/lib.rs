//! State on disk for Kontiki. Knows nothing of consensus.
//!
//! What is here today: [`sealed_file`], the atomic and durable replacement of one small checked file. The node keeps
//! its identity in one. Sorted runs, the manifest that names them and the transfer of both are not here yet.

#![forbid(unsafe_code)]

pub mod sealed_file;
