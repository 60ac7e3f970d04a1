//! The log and the identity of a node on disk, and the order in which a node boots.
