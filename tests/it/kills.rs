//! Nodes die without warning under load: what was acknowledged stays, and writes go on.

use std::time::{Duration, Instant};

use crate::harness::{Acknowledged, Load, TestCluster, rounds, tell, wait_for};

/// What no gap may reach, however busy the machine: the default election timeout is at most 1 s.
const GAP_MAX: Duration = Duration::from_secs(10);

#[test]
fn writes_resume_and_nothing_is_lost_or_doubled_when_leaders_die() {
    let mut cluster = TestCluster::start(3);
    let rounds = rounds(3, 20);
    let mut gaps = Vec::new();
    let mut acknowledged = Acknowledged::default();
    for round in 0..rounds {
        let load = Load::start(&format!("leader:{round}"), &cluster.nodes, 4);
        wait_for("load", || (load.sets() >= 200).then_some(()));
        let leader = cluster.leader();
        let killed = Instant::now();
        cluster.nodes[leader].kill();
        gaps.push(wait_for("write after the leader's death", || load.first_write_after(killed)));
        let before = load.sets();
        wait_for("load after the leader's death", || (load.sets() >= before + 50).then_some(()));
        acknowledged.extend(load.finish());
        cluster.nodes[leader].restart();
        cluster.wait_ready();
    }
    for node in &cluster.nodes {
        acknowledged.assert_kept_by(node);
    }
    cluster.assert_converged();
    gaps.sort();
    let (median, worst) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
    tell(&format!(
        "leader killed {rounds} times: first write after {} ms in the median, {} ms at worst; {} writes kept",
        median.as_millis(),
        worst.as_millis(),
        acknowledged.keys.len()
    ));
    assert!(worst < GAP_MAX, "writes did not resume: {gaps:?}");
}

#[test]
fn nothing_is_lost_when_all_nodes_die_at_once() {
    let mut cluster = TestCluster::start(3);
    let rounds = rounds(2, 10);
    let mut acknowledged = Acknowledged::default();
    for round in 0..rounds {
        let load = Load::start(&format!("all:{round}"), &cluster.nodes, 4);
        wait_for("load", || (load.sets() >= 200).then_some(()));
        cluster.kill_all();
        acknowledged.extend(load.finish());
        for node in &mut cluster.nodes {
            node.restart();
        }
        cluster.wait_ready();
        for node in &cluster.nodes {
            acknowledged.assert_kept_by(node);
        }
    }
    cluster.assert_converged();
    tell(&format!("all nodes killed {rounds} times: {} writes kept", acknowledged.keys.len()));
}

/// One node that hangs, as a process on a frozen machine does, costs nothing but time; afterwards it follows again.
#[test]
fn a_stopped_leader_is_replaced_and_catches_up() {
    let mut cluster = TestCluster::start(3);
    let load = Load::start("stopped", &cluster.nodes, 4);
    wait_for("load", || (load.sets() >= 200).then_some(()));
    let leader = cluster.leader();
    let others: Vec<_> = (0..3).filter(|at| *at != leader).collect();
    let id = cluster.nodes[leader].setup.id;
    cluster.nodes[leader].process.signal(crate::harness::Signal::STOP);
    wait_for("another leader", || {
        let elected = |at: &usize| cluster.nodes[*at].status().is_some_and(|s| s.leader_id.is_some_and(|l| l != id));
        others.iter().any(elected).then_some(())
    });
    let before = load.sets();
    wait_for("load without the old leader", || (load.sets() >= before + 50).then_some(()));
    cluster.nodes[leader].process.signal(crate::harness::Signal::CONT);
    let acknowledged = load.finish();
    cluster.wait_ready();
    for node in &cluster.nodes {
        acknowledged.assert_kept_by(node);
    }
    cluster.assert_converged();
}
