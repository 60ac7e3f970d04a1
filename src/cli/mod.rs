//! The subcommands of `kontiki`.
