//! SIGTERM ends a node within five seconds, cleanly, and costs nothing.

use std::time::{Duration, Instant};

use crate::harness::{Load, Signal, TestCluster, rounds, tell, wait_for};

const STOP_MAX: Duration = Duration::from_secs(5);

#[test]
fn a_leader_asked_to_stop_under_load_ends_with_0_within_5_s() {
    let mut cluster = TestCluster::start(3);
    for round in 0..rounds(1, 10) {
        let load = Load::start(&format!("term:{round}"), &cluster.nodes, 4);
        wait_for("load", || (load.sets() >= 50).then_some(()));
        let leader = cluster.leader();
        let asked = Instant::now();
        cluster.nodes[leader].process.signal(Signal::TERM);
        let output = cluster.nodes[leader].process.wait();
        let took = asked.elapsed();
        assert_eq!(output.code, 0, "{output:#?}");
        assert_eq!(output.stderr, "");
        assert!(took < STOP_MAX, "took {took:?}");
        let gap = wait_for("write without the old leader", || load.first_write_after(asked));
        tell(&format!(
            "leader stopped in {} ms; first write sent after the signal took {} ms",
            took.as_millis(),
            gap.as_millis()
        ));
        let acknowledged = load.finish();
        cluster.nodes[leader].restart();
        cluster.wait_ready();
        for node in &cluster.nodes {
            acknowledged.assert_kept_by(node);
        }
    }
}

/// A node that finds nobody to talk to still stops when asked.
#[test]
fn a_node_without_a_quorum_stops_when_asked() {
    let mut cluster = TestCluster::start(3);
    for at in [1, 2] {
        cluster.nodes[at].kill();
    }
    let asked = Instant::now();
    cluster.nodes[0].stop();
    assert!(asked.elapsed() < STOP_MAX, "took {:?}", asked.elapsed());
}
