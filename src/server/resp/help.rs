//! HELP of the commands that have subcommands, from their specifications.

use super::commands::lookup;
use crate::proto::resp::Value;

/// Answers `name`, such as `client|help`.
pub(super) fn help(name: &'static str) -> Value {
    let parent = name.split_once('|').map_or(name, |(parent, _)| parent);
    let title = format!("{} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:", parent.to_uppercase());
    let mut lines = vec![Value::text(title)];
    for spec in lookup(parent.as_bytes()).map_or(&[][..], |parent| parent.subcommands) {
        lines.push(Value::text(spec.short_name().to_uppercase()));
        lines.push(Value::text(format!("    {}", spec.summary)));
    }
    Value::Array(lines)
}
