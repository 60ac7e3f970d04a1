//! `kontiki start`: one node in this process, until it is told to stop.

#![allow(clippy::disallowed_methods, reason = "the process owns the clock, the signals and standard input")]

mod ending;
mod settings;

use super::exit::Failure;
use super::{logging, tls};
use crate::runtime;
use settings::Settings;
pub(super) use settings::read_password;

const LONG_ABOUT: &str = "\
Starts one node and serves until SIGTERM or Ctrl-C.

The same line starts a node the first time and every time. Every flag may also be given as an environment variable
(--segment-bytes is KONTIKI_SEGMENT_BYTES) or as a key of the --config file (segment-bytes = 1048576); flags win over
the environment, the environment over the file.";

const EXAMPLES: &str = "\
Examples:
  One durable node:
    kontiki start --id 1 --data-dir data/1 --client-addr 127.0.0.1:7001 --peer-addr 127.0.0.1:7101 \\
      --http-addr 127.0.0.1:7201 --initial-cluster 1=127.0.0.1:7101
  The first of three (the others alike, each with its own id, directory and ports):
    kontiki start --id 1 --data-dir data/1 --client-addr 127.0.0.1:7001 --peer-addr 127.0.0.1:7101 \\
      --http-addr 127.0.0.1:7201 \\
      --initial-cluster 1=127.0.0.1:7101,2=127.0.0.1:7102,3=127.0.0.1:7103
  Everything from a file:
    kontiki start --config node-1.toml

Exit codes: 0 stopped, 64 configuration, 65 data damaged, 66 data directory locked, 67 identity mismatch,
69 address in use, 74 I/O error or failed sync.";

/// The flags. All are texts here: they are parsed together with the environment and the file.
#[derive(Debug, Default, clap::Args)]
#[command(long_about = LONG_ABOUT, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The node's number in its cluster, from 1
    #[arg(long, value_name = "N")]
    id: Option<String>,
    /// Where the node keeps its data; made if it is not there
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where clients are served: RESP on TCP, the native protocol on UDP
    #[arg(long, value_name = "HOST:PORT")]
    client_addr: Option<String>,
    /// Where the other members reach this node (QUIC on UDP)
    #[arg(long, value_name = "HOST:PORT")]
    peer_addr: Option<String>,
    /// Where /status, /metrics, /healthz and /readyz are served
    #[arg(long, value_name = "HOST:PORT")]
    http_addr: Option<String>,
    /// All members with their peer addresses; once the directory knows its cluster, only hints
    #[arg(long, value_name = "ID=HOST:PORT,…")]
    initial_cluster: Option<String>,
    /// Holds ca.pem, node.pem and node.key; without it, and on loopback only, a development CA is made in DATA-DIR/../certs
    #[arg(long, value_name = "DIR")]
    tls_dir: Option<String>,
    /// A TOML file with any of these settings
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    /// The peer address that others are told [default: --peer-addr]
    #[arg(long, value_name = "HOST:PORT")]
    advertise_peer_addr: Option<String>,
    /// The client address that others are told [default: --client-addr]
    #[arg(long, value_name = "HOST:PORT")]
    advertise_client_addr: Option<String>,
    /// Milliseconds between a leader's heartbeats [default: 50]
    #[arg(long, value_name = "MS")]
    heartbeat_ms: Option<String>,
    /// The least election timeout T in milliseconds, drawn from [T, 2T) [default: 500]
    #[arg(long, value_name = "MS")]
    election_timeout_ms: Option<String>,
    /// Size of one log segment: a power of two from 1MiB [default: 67108864]
    #[arg(long, value_name = "BYTES")]
    segment_bytes: Option<String>,
    /// The longest value [default: the smaller of 8 MiB and a quarter of a segment]
    #[arg(long, value_name = "BYTES")]
    max_value_bytes: Option<String>,
    /// The most clients at once [default: 10000]
    #[arg(long, value_name = "N")]
    max_clients: Option<String>,
    /// How long a request may take before it is answered with an error [default: 5000]
    #[arg(long, value_name = "MS")]
    request_timeout_ms: Option<String>,
    /// A file with the password that clients must give
    #[arg(long, value_name = "FILE")]
    password_file: Option<String>,
    /// Allow serving clients beyond loopback without a password
    #[arg(long)]
    insecure: bool,
    /// human or json [default: human]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// error, warn, info, debug, trace, or a list such as warn,kontiki::raft=debug [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Append log lines to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    log_file: Option<String>,
    /// Stop when standard input ends: a supervisor holds the other end
    #[arg(long, hide = true)]
    exit_with_parent: bool,
}

/// Runs a node until it ends.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    end_on_panic();
    let exit_with_parent = args.exit_with_parent;
    let settings = Settings::resolve(args, std::env::vars_os())?;
    let ending = ending::watch(exit_with_parent)?;
    let _guard = logging::start(&settings.log)?;
    for notice in &settings.notices {
        tracing::warn!("{notice}");
    }
    if settings.make_development_ca {
        tls::prepare_development(&settings.options)?;
    }
    tls::require_node_files(&settings.options)?;
    let node = runtime::start(settings.options)?;
    ending.arm(node.stopper());
    node.wait()?;
    tracing::info!("stopped");
    Ok(())
}

/// Ends the process when any thread panics: a node that has lost a thread must not look alive.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

impl Args {
    /// Returns the flags that were given, by name.
    fn into_flags(self) -> std::collections::BTreeMap<&'static str, String> {
        let flags = [
            ("id", self.id),
            ("data-dir", self.data_dir),
            ("client-addr", self.client_addr),
            ("peer-addr", self.peer_addr),
            ("http-addr", self.http_addr),
            ("initial-cluster", self.initial_cluster),
            ("tls-dir", self.tls_dir),
            ("config", self.config),
            ("advertise-peer-addr", self.advertise_peer_addr),
            ("advertise-client-addr", self.advertise_client_addr),
            ("heartbeat-ms", self.heartbeat_ms),
            ("election-timeout-ms", self.election_timeout_ms),
            ("segment-bytes", self.segment_bytes),
            ("max-value-bytes", self.max_value_bytes),
            ("max-clients", self.max_clients),
            ("request-timeout-ms", self.request_timeout_ms),
            ("password-file", self.password_file),
            ("insecure", self.insecure.then(|| "true".to_owned())),
            ("log-format", self.log_format),
            ("log-level", self.log_level),
            ("log-file", self.log_file),
        ];
        flags.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}
