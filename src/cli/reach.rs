//! How a client command reaches the cluster: the flags they share.

use std::path::PathBuf;
use std::time::Duration;

use super::exit::Failure;
use super::parse;
use super::start::read_password;
use crate::runtime::Password;

/// A list of addresses as one value of a flag.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints(pub(crate) Vec<String>);

/// Parses the value of an `--endpoints` flag.
pub(crate) fn parse_endpoints(text: &str) -> Result<Endpoints, String> {
    parse::endpoints(text).map(Endpoints)
}

/// The flags of every client command.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Reaching the cluster")]
pub(crate) struct Reach {
    /// Client addresses of nodes, any of them; a bare port takes the host before it
    #[arg(long, value_name = "HOST:PORT,…", env = "KONTIKI_ENDPOINTS", hide_env_values = true)]
    #[arg(default_value = "127.0.0.1:7001,7002,7003", value_parser = parse_endpoints)]
    pub(crate) endpoints: Endpoints,
    /// Holds ca.pem, and client.pem and client.key if there is a client certificate [default: kontiki-data/certs]
    #[arg(long, value_name = "DIR", env = "KONTIKI_TLS_DIR", hide_env_values = true)]
    pub(crate) tls_dir: Option<PathBuf>,
    /// A file with the cluster's password
    #[arg(long, value_name = "FILE", env = "KONTIKI_PASSWORD_FILE", hide_env_values = true)]
    pub(crate) password_file: Option<PathBuf>,
    /// How long one request may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse::duration)]
    pub(crate) timeout: Duration,
}

impl Reach {
    /// Reads the password, if a file is named.
    pub(crate) fn password(&self) -> Result<Option<Password>, Failure> {
        self.password_file.as_deref().map(read_password).transpose()
    }
}
