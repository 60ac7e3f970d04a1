//! The command line as a client: sessions over QUIC, through whichever node answers.

use std::path::PathBuf;

use crate::harness::{Output, TestCluster, kontiki, run};

struct Cli {
    cluster: TestCluster,
    tls_dir: PathBuf,
}

impl Cli {
    fn new() -> Cli {
        let cluster = TestCluster::start(3);
        let tls_dir = cluster.certificates.client("it");
        Cli { cluster, tls_dir }
    }

    /// Runs `kontiki ARGS` against node `at`, then the other nodes.
    fn run(&self, at: usize, args: &[&str]) -> Output {
        let nodes = &self.cluster.nodes;
        let endpoints: Vec<String> =
            (0..nodes.len()).map(|step| nodes[(at + step) % nodes.len()].setup.client.to_string()).collect();
        let mut command = kontiki(args);
        command.arg("--endpoints").arg(endpoints.join(",")).arg("--tls-dir").arg(&self.tls_dir);
        run(command)
    }
}

#[test]
fn put_get_append_del_cas_and_range_through_every_node() {
    let cli = Cli::new();
    for at in 0..3 {
        cli.run(at, &["put", "fruit", "apple"]).success();
        assert_eq!(cli.run(at + 1, &["get", "fruit"]).success(), "apple\n");
        cli.run(at + 2, &["append", "fruit", "s"]).success();
        assert_eq!(cli.run(at, &["get", "fruit"]).success(), "apples\n");

        let refused = cli.run(at, &["cas", "fruit", "pears", "plums"]);
        assert_eq!(refused.code, 1, "a condition that is false: {refused:#?}");
        cli.run(at, &["cas", "fruit", "apples", "plums"]).success();

        cli.run(at, &["put", "berry", "red"]).success();
        let range = cli.run(at, &["range", "a", "z"]);
        let lines: Vec<&str> = range.success().lines().collect();
        assert_eq!(lines.len(), 2, "{range:#?}");
        assert!(lines[0].contains("berry") && lines[0].contains("red"), "{range:#?}");
        assert!(lines[1].contains("fruit") && lines[1].contains("plums"), "{range:#?}");

        cli.run(at, &["del", "fruit"]).success();
        assert_eq!(cli.run(at, &["get", "fruit"]).code, 1, "a missing key");
        assert_eq!(cli.run(at, &["del", "fruit"]).code, 1, "a missing key");
    }
}

#[test]
fn it_goes_on_when_its_node_is_dead() {
    let mut cli = Cli::new();
    cli.run(0, &["put", "a", "1"]).success();
    cli.cluster.nodes[0].kill();
    assert_eq!(cli.run(0, &["get", "a"]).success(), "1\n");
    cli.run(0, &["append", "a", "2"]).success();
    assert_eq!(cli.run(1, &["get", "a"]).success(), "12\n");
}

#[test]
fn nobody_there_is_69_and_a_stranger_is_refused() {
    let cli = Cli::new();
    let nobody = run({
        let mut command = kontiki(["get", "a", "--endpoints", "127.0.0.1:1", "--tls-dir"]);
        command.arg(&cli.tls_dir);
        command
    });
    nobody.assert_refused(69, &["127.0.0.1:1"]);

    let elsewhere = crate::harness::TestDir::new();
    let stranger = crate::harness::Certificates::new(elsewhere.path(), "it").client("stranger");
    let stranger = Cli { tls_dir: stranger, ..cli };
    assert_ne!(stranger.run(0, &["put", "a", "1"]).code, 0, "a client of another authority was served");
}

#[test]
fn status_names_every_member() {
    let cli = Cli::new();
    let status = cli.run(0, &["status"]);
    for node in &cli.cluster.nodes {
        assert!(status.success().contains(&node.setup.peer.to_string()), "{status:#?}");
    }
}
