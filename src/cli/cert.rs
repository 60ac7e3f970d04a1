//! `kontiki cert`: the authority of a cluster, and the certificates it signs.

use std::path::PathBuf;

use clap::Subcommand;

use super::exit::Failure;
use super::parse;
use super::print;
use super::tls::failure;
use crate::raft::NodeId;
use crate::transport::certs::{Authority, CA_CERT, CA_KEY, CLIENT_CERT, CLIENT_KEY, NODE_CERT, NODE_KEY};

const EXAMPLES: &str = "\
Examples:
  kontiki cert ca --tls-dir tls --cluster prod                the authority: keep tls/ca.key off the nodes
  kontiki cert node --id 1 --tls-dir tls --out tls/node-1     copy tls/node-1 to node 1
  kontiki cert client --name reports --tls-dir tls --out tls/reports";

const CA_EXAMPLES: &str = "\
Examples:
  kontiki cert ca --tls-dir tls
  kontiki cert ca --tls-dir tls --cluster prod";

const NODE_EXAMPLES: &str = "\
Examples:
  kontiki cert node --id 1 --tls-dir tls --out tls/node-1
  kontiki cert node --id 2 --tls-dir tls --out tls/node-2 --host db2.example.org --host 10.0.0.2";

const CLIENT_EXAMPLES: &str = "\
Examples:
  kontiki cert client --name reports --tls-dir tls --out tls/reports
  KONTIKI_TLS_DIR=tls/reports kontiki get greeting";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make the authority of a new cluster: ca.pem and ca.key
    #[command(after_help = CA_EXAMPLES)]
    Ca {
        /// Where to write them
        #[arg(long, value_name = "DIR")]
        tls_dir: PathBuf,
        /// The cluster's name; it is in every certificate
        #[arg(long, value_name = "NAME", default_value = "kontiki")]
        cluster: String,
    },
    /// Make a node's certificate: node.pem, node.key and a copy of ca.pem
    #[command(after_help = NODE_EXAMPLES)]
    Node {
        /// The node's number in its cluster
        #[arg(long, value_name = "N", value_parser = parse::node_id)]
        id: NodeId,
        /// Where the authority is
        #[arg(long, value_name = "DIR")]
        tls_dir: PathBuf,
        /// A name or address of the node, for clients that check it; may be given again
        #[arg(long = "host", value_name = "HOST")]
        hosts: Vec<String>,
        /// Where to write [default: --tls-dir]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Make a client's certificate: client.pem, client.key and a copy of ca.pem
    #[command(after_help = CLIENT_EXAMPLES)]
    Client {
        /// The client's name
        #[arg(long, value_name = "NAME")]
        name: String,
        /// Where the authority is
        #[arg(long, value_name = "DIR")]
        tls_dir: PathBuf,
        /// Where to write [default: --tls-dir]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// Makes what was asked for and says where it is.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let open = |dir: &PathBuf| Authority::open(dir).map_err(|error| failure(&error));
    let (dir, names) = match args.what {
        What::Ca { tls_dir, cluster } => {
            Authority::create(&tls_dir, &cluster).map_err(|error| failure(&error))?;
            (tls_dir, vec![CA_CERT, CA_KEY])
        }
        What::Node { id, tls_dir, hosts, out } => {
            let authority = open(&tls_dir)?;
            let out = out.unwrap_or(tls_dir);
            authority.issue_node(id, &hosts, &out).map_err(|error| failure(&error))?;
            (out, vec![NODE_CERT, NODE_KEY, CA_CERT])
        }
        What::Client { name, tls_dir, out } => {
            let authority = open(&tls_dir)?;
            let out = out.unwrap_or(tls_dir);
            authority.issue_client(&name, &out).map_err(|error| failure(&error))?;
            (out, vec![CLIENT_CERT, CLIENT_KEY, CA_CERT])
        }
    };
    let list: Vec<String> = names.iter().map(|name| dir.join(name).display().to_string()).collect();
    print::line(&format!("wrote {}", list.join(", ")))
}
