//! The `kontiki` binary: a node, its client and its operator commands.

fn main() {}
