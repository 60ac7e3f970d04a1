//! The native client as the commands use it: the flags become a client, its errors exit codes.

use bytes::Bytes;

use super::exit::{Exit, Failure};
use super::reach::Reach;
use super::tls;
use crate::client::{Client, ClientError, ClientOptions};
use crate::transport::tls::ClientTls;

/// How to make a client, read once from the flags.
#[derive(Clone)]
pub(super) struct Native {
    endpoints: Vec<String>,
    tls: ClientTls,
    options: ClientOptions,
}

impl Native {
    /// Reads the TLS files and the password.
    pub(super) fn new(reach: &Reach) -> Result<Native, Failure> {
        let dir = tls::client_dir(reach.tls_dir.as_deref())?;
        let tls = ClientTls::load(&dir).map_err(|error| Failure::config(format!("the TLS file {error}")))?;
        let password = reach.password()?.map(|password| Bytes::from(password.0));
        let options = ClientOptions { deadline: reach.timeout, password, ..ClientOptions::default() };
        Ok(Native { endpoints: reach.endpoints.0.clone(), tls, options })
    }

    /// Connects to the first node that answers, beginning with endpoint `first`.
    pub(super) async fn connect_from(&self, first: usize) -> Result<Client, Failure> {
        let mut endpoints = self.endpoints.clone();
        let places = endpoints.len();
        endpoints.rotate_left(first % places);
        let client = Client::connect(endpoints, self.tls.clone(), self.options.clone()).await;
        client.map_err(|error| self.failure(&error))
    }

    /// Returns the end of a command whose call failed.
    pub(super) fn failure(&self, error: &ClientError) -> Failure {
        let endpoints = self.endpoints.join(", ");
        match error {
            ClientError::Unavailable(_) => Failure::new(
                Exit::Unavailable,
                format!("{error} (endpoints {endpoints}); look with 'kontiki status', or name others with --endpoints"),
            ),
            ClientError::Denied(_) => Failure::config(format!("refused at {endpoints}: {error}")),
            ClientError::Tls(_) => Failure::config(error),
            ClientError::Uncertain
            | ClientError::NoSpace
            | ClientError::TooLarge
            | ClientError::Command(_)
            | ClientError::SessionLost
            | ClientError::Unexpected(_) => Failure::new(Exit::Failed, error),
        }
    }
}

/// A client for one command: connects, and knows how a call that fails ends the command.
pub(super) struct OneCall {
    native: Native,
    pub(super) client: Client,
}

impl OneCall {
    /// Connects.
    pub(super) async fn connect(reach: &Reach) -> Result<OneCall, Failure> {
        let native = Native::new(reach)?;
        let client = native.connect_from(0).await?;
        Ok(OneCall { native, client })
    }

    /// Waits for a call.
    pub(super) async fn end<T>(&self, call: impl Future<Output = Result<T, ClientError>>) -> Result<T, Failure> {
        call.await.map_err(|error| self.native.failure(&error))
    }
}
