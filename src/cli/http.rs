//! The little HTTP the command line speaks: one GET, one bounded answer, one deadline.

use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::print::base64;
use crate::runtime::{NodeStatus, Password};

/// The most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum HttpError {
    /// Nobody listens there, or the connection broke.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The deadline passed.
    #[error("no answer within {} ms", .0.as_millis())]
    Late(Duration),
    /// What came is no HTTP answer, or not the body that was asked for.
    #[error("not an answer of kontiki")]
    Strange,
    /// Another status than 200.
    #[error("HTTP status {0}")]
    Status(u16),
}

/// One answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Asks `address` for `path`.
pub(crate) async fn get(
    address: &str,
    path: &str,
    password: Option<&Password>,
    deadline: Duration,
) -> Result<Answer, HttpError> {
    let exchange = exchange(address, path, password);
    tokio::time::timeout(deadline, exchange).await.map_err(|_| HttpError::Late(deadline))?
}

/// Asks a node for its status.
pub(crate) async fn status(
    address: &str,
    password: Option<&Password>,
    deadline: Duration,
) -> Result<NodeStatus, HttpError> {
    let answer = get(address, "/status", password, deadline).await?;
    if answer.status != 200 {
        return Err(HttpError::Status(answer.status));
    }
    serde_json::from_slice(&answer.body).map_err(|_| HttpError::Strange)
}

async fn exchange(address: &str, path: &str, password: Option<&Password>) -> Result<Answer, HttpError> {
    let mut stream = TcpStream::connect(address).await?;
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    if let Some(Password(secret)) = password {
        // Basic, not Bearer: a password may hold bytes that no header may.
        let credentials = [b"kontiki:", secret.as_slice()].concat();
        request.push_str(&format!("Authorization: Basic {}\r\n", base64(&credentials)));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    let limit = ANSWER_BYTES_MAX as u64 + 1;
    stream.take(limit).read_to_end(&mut bytes).await?;
    if bytes.len() > ANSWER_BYTES_MAX {
        return Err(HttpError::Strange);
    }
    parse(&bytes).ok_or(HttpError::Strange)
}

/// Takes an answer apart: the status, and the body by its length, by chunks, or up to the end.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let head_bytes = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..head_bytes]).ok()?;
    let rest = &bytes[head_bytes + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let header = |wanted: &str| {
        let mut found = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        found.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
    };
    let body = if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        dechunk(rest)?
    } else if let Some(length) = header("content-length") {
        rest.get(..length.parse::<usize>().ok()?)?.to_vec()
    } else {
        rest.to_vec()
    };
    Some(Answer { status, body })
}

fn dechunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..end]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        let start = end + 2;
        body.extend_from_slice(rest.get(start..start.checked_add(size)?)?);
        rest = rest.get(start + size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Option<(u16, String)> {
        parse(text.as_bytes()).map(|answer| (answer.status, String::from_utf8(answer.body).unwrap()))
    }

    #[test]
    fn bodies_come_by_length_by_chunks_or_to_the_end() {
        let by_length = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab";
        let by_chunks = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n1;x=y\r\nb\r\n0\r\n\r\n";
        let to_the_end = "HTTP/1.0 503 No\r\n\r\nab";
        assert_eq!(body(by_length), Some((200, "ab".into())));
        assert_eq!(body(by_chunks), Some((200, "ab".into())));
        assert_eq!(body(to_the_end), Some((503, "ab".into())));
    }

    #[test]
    fn half_an_answer_is_none() {
        for bad in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", "SSH-2.0\r\n\r\n"] {
            assert_eq!(body(bad), None, "{bad:?}");
        }
        assert_eq!(body("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\na"), None);
    }
}
