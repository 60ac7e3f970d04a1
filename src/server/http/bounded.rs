//! HTTP connections with bounds: only so many at once, and none that stands still.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// Connections served at once; more wait in the system's queue.
const CONNECTIONS_MAX: usize = 1024;

/// A connection on which nothing moves for this long is closed.
const STANDSTILL_MAX: Duration = Duration::from_secs(10);

/// A request must be complete within this time of its first byte, and the first one of the connection's beginning: a
/// byte now and then does not keep the room.
const REQUEST_MAX: Duration = Duration::from_secs(5);

/// A listener that accepts only while there is room.
#[derive(Debug)]
pub(super) struct BoundedListener {
    listener: TcpListener,
    room: Arc<Semaphore>,
    standstill_max: Duration,
    request_max: Duration,
}

/// A connection that takes room until it is dropped, and fails when nothing moves.
#[derive(Debug)]
pub(super) struct BoundedStream {
    stream: TcpStream,
    standstill: Pin<Box<Sleep>>,
    standstill_max: Duration,
    request_max: Duration,
    /// When the request that is being read must be complete.
    complete_by: Option<Instant>,
    _room: OwnedSemaphorePermit,
}

impl BoundedListener {
    pub(super) fn new(listener: TcpListener) -> BoundedListener {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        BoundedListener { listener, room, standstill_max: STANDSTILL_MAX, request_max: REQUEST_MAX }
    }
}

impl Listener for BoundedListener {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoundedStream, SocketAddr) {
        loop {
            let Ok(room) = Arc::clone(&self.room).acquire_owned().await else {
                // The semaphore is never closed.
                continue;
            };
            // The wrapped listener waits out errors of the system by itself.
            let (stream, address) = Listener::accept(&mut self.listener).await;
            let standstill_max = self.standstill_max;
            let request_max = self.request_max;
            let first = standstill_max.min(request_max);
            let standstill = Box::pin(sleep(first));
            let complete_by = Some(Instant::now() + first);
            return (
                BoundedStream { stream, standstill, standstill_max, request_max, complete_by, _room: room },
                address,
            );
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl BoundedStream {
    /// Passes on what moved, and starts the clock again; else fails if the time is up.
    fn watch<T>(&mut self, context: &mut Context<'_>, moved: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match moved {
            Poll::Ready(_) if self.complete_by.is_some_and(|complete_by| complete_by <= Instant::now()) => {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Ready(result) => {
                let until = Instant::now() + self.standstill_max;
                let until = self.complete_by.map_or(until, |complete_by| until.min(complete_by));
                self.standstill.as_mut().reset(until);
                Poll::Ready(result)
            }
            Poll::Pending => {
                ready!(self.standstill.as_mut().poll(context));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.stream).poll_read(context, into);
        if moved.is_ready() {
            let request_max = self.request_max;
            self.complete_by.get_or_insert_with(|| Instant::now() + request_max);
        }
        self.watch(context, moved)
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.complete_by = None;
        let moved = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, moved)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.complete_by = None;
        let moved = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, moved)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_connection_that_stands_still_fails() {
        let mut listener = BoundedListener::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        listener.standstill_max = Duration::from_millis(20);
        let _silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().await;
        let began = Instant::now();
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= listener.standstill_max);
    }

    /// A byte now and then does not keep the room.
    #[tokio::test]
    async fn a_request_that_never_ends_fails() {
        let mut listener = BoundedListener::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        listener.request_max = Duration::from_millis(50);
        let mut slow = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().await;
        let began = Instant::now();
        let error = loop {
            slow.write_all(b"x").await.unwrap();
            if let Err(error) = stream.read_u8().await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= listener.request_max);
    }

    #[tokio::test]
    async fn room_comes_back_with_the_end_of_a_connection() {
        let mut listener = BoundedListener::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = listener.local_addr().unwrap();
        let _client = TcpStream::connect(address).await.unwrap();
        let (stream, _) = listener.accept().await;
        assert_eq!(listener.room.available_permits(), CONNECTIONS_MAX - 1);
        drop(stream);
        assert_eq!(listener.room.available_permits(), CONNECTIONS_MAX);
    }
}
