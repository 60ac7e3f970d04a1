//! A failed sync ends the node: what the disk has is unknown, so nothing more is promised.

use std::process::Command;

use crate::harness::{Acknowledged, Certificates, Load, NodeSetup, TestDir, has_program, wait_for};

const IO: i32 = 74;

#[test]
fn a_failed_sync_ends_the_node_with_74_and_loses_nothing_acknowledged() {
    if !has_program("strace", "a failed sync") {
        return;
    }
    let dir = TestDir::new();
    let certificates = Certificates::new(dir.path(), "it");
    let setup = NodeSetup::alone(dir.path(), &certificates.node(1));
    let mut node = setup.clone().start();
    node.wait_ready();
    let mut acknowledged = Acknowledged::default();
    for (round, nth) in [5, 40, 200].into_iter().enumerate() {
        node.stop();
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"]);
        command.arg("-e").arg(format!("inject=fdatasync:error=EIO:when={nth}"));
        let kontiki = setup.command();
        command.arg(kontiki.get_program()).args(kontiki.get_args());
        node = setup.clone().start_as(command);
        let load = Load::start(&format!("eio:{round}"), std::slice::from_ref(&node), 2);
        let output = node.process.wait();
        acknowledged.extend(load.finish());
        output.assert_refused(IO, &["wal"]);
        node.restart();
        node.wait_ready();
        acknowledged.assert_kept_by(&node);
    }
    wait_for("state after the failures", || node.status().filter(|status| status.keys > 0));
}
