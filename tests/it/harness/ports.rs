//! Ports that nobody uses, below the range from which the system draws for outgoing connections.

use std::net::{TcpListener, UdpSocket};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 10_000;
const LAST: u16 = 32_000;

/// Returns the first of `count` consecutive ports that are free on TCP and UDP; no two calls return the same.
pub fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = LAST - FIRST;
    // Different processes start at different places, so that two test runs rarely meet.
    let offset = u16::try_from(process::id() * 97 % u32::from(span)).unwrap();
    for _ in 0..1000 {
        let at = NEXT.fetch_add(count, Ordering::Relaxed);
        let first = FIRST + offset.wrapping_add(at) % (span - count);
        let free =
            |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok();
        if (first..first + count).all(free) {
            return first;
        }
    }
    panic!("no {count} free ports between {FIRST} and {LAST}");
}
