//! Tells whether a process is certainly gone: its UDP port refuses.
//!
//! A kernel answers a datagram for a closed port with an ICMP message, but hands it only to connected sockets, which
//! quinn's are not. Silence proves nothing: a paused process, a lost packet and a firewall are silent too.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

/// How long the refusal may take; on one machine it is there at once, on a LAN within a millisecond.
const REFUSAL_TIME_MAX: Duration = Duration::from_millis(20);

/// Returns whether nothing listens at `address`. `false` means "not known".
pub(crate) async fn is_dead(address: SocketAddr) -> bool {
    match ask(address).await {
        Err(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        Ok(()) => false,
    }
}

async fn ask(address: SocketAddr) -> io::Result<()> {
    let any: SocketAddr = if address.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    // No QUIC packet begins like this: whoever listens drops it.
    socket.send(&[0]).await?;
    match timeout(REFUSAL_TIME_MAX, socket.recv(&mut [0])).await {
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_port_is_dead_and_a_silent_one_is_not() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        assert!(!is_dead(address).await);
        drop(socket);
        assert!(is_dead(address).await);
    }
}
