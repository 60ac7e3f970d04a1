//! `kontiki cluster`: nodes as child processes on this machine, watched until Ctrl-C.

mod changes;
mod child;
mod layout;
mod ready;
mod watch;

use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};

use super::exit::{Exit, Failure};
use super::print;
use super::start::read_password;
use super::tls;
use layout::Layout;

const LONG_ABOUT: &str = "\
Starts durable nodes on 127.0.0.1, waits until a leader serves, prints where they are, then says what changes until
Ctrl-C, which stops them all. The same directory again resumes the same cluster with all its data.

Node i (from 1) serves Redis clients on BASE+i-1, its peers on BASE+100+i-1 and HTTP on BASE+200+i-1; its data is in
DIR/node-i and its log lines are in DIR/node-i.log. Certificates are made on the first start in DIR/certs.";

const EXAMPLES: &str = "\
Examples:
  kontiki cluster                              three nodes in ./kontiki-data: 7001, 7002, 7003
  kontiki cluster -n 5 --dir /tmp/five --base-port 8001
  kontiki cluster --quiet --ready-file /tmp/ready &
  KONTIKI_SEGMENT_BYTES=1048576 kontiki cluster    settings of 'kontiki start' reach every node

Exit codes: 0 stopped, 64 configuration, 66 the directory is in use, 69 a port is taken; if the nodes end by
themselves, the code of the last one.";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(long_about = LONG_ABOUT, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// How many nodes [default: 3, or what the directory holds]
    #[arg(long, short, value_name = "N", value_parser = layout::parse_nodes)]
    nodes: Option<u16>,
    /// Where everything is kept
    #[arg(long, value_name = "DIR", default_value = "kontiki-data")]
    dir: PathBuf,
    /// The RESP port of node 1 [default: 7001, or what the directory was started with]
    #[arg(long, value_name = "PORT", value_parser = layout::parse_base_port)]
    base_port: Option<u16>,
    /// Print only the table
    #[arg(long, short)]
    quiet: bool,
    /// Write this file once a leader serves
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
    /// A file with the password that clients must give
    #[arg(long, value_name = "FILE", env = "KONTIKI_PASSWORD_FILE")]
    password_file: Option<PathBuf>,
}

/// Runs the cluster until it is told to stop.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let password = args.password_file.as_deref().map(read_password).transpose()?;
    if let Some(path) = &args.ready_file {
        ready::clear(path)?;
    }
    let layout = Layout::open(&args.dir, args.nodes, args.base_port)?;
    layout.wait_for_orphans()?;
    layout.require_free_ports()?;
    tls::prepare_cluster(&layout.certs_dir(), layout.ids())?;
    layout.remember()?;
    super::block_on(async {
        let cannot = |error: std::io::Error| Failure::new(Exit::Io, format!("cannot watch for signals: {error}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
        let mut children = child::Children::start(&layout, args.password_file.as_deref())?;
        let outcome = tokio::select! {
            outcome = watch::serve(&layout, &args, password, &mut children) => outcome,
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        };
        if outcome.is_ok() && !args.quiet {
            // A reader that has gone must not keep the nodes from being stopped.
            print::line("stopping…").ok();
        }
        tokio::select! {
            () = children.stop() => {}
            // Whoever asks twice means it.
            _ = interrupt.recv() => children.kill().await,
        }
        outcome
    })
}
