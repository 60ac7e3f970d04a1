//! A small RESP2 client: one connection, commands in order, replies in order.

use std::io;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::runtime::Password;

/// The most bytes of one reply; also bounds what a stranger can make us keep.
const REPLY_BYTES_MAX: usize = 1 << 30;
/// The deepest nesting of a reply.
const DEPTH_MAX: u32 = 8;

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Array(Vec<Value>),
    Nil,
}

/// Why there is no reply.
#[derive(Debug, Error)]
pub(crate) enum RespError {
    /// The connection broke; the fate of what was sent is open.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What came is no RESP2.
    #[error("not an answer of a RESP server")]
    Strange,
    /// The server refuses us.
    #[error("{0}")]
    Refused(String),
}

/// A connection.
pub(crate) struct RespClient {
    stream: TcpStream,
    /// What was read and not yet taken; taken up to `taken`.
    buffer: Vec<u8>,
    taken: usize,
    request: Vec<u8>,
}

impl RespClient {
    /// Connects, and gives the password if there is one.
    pub(crate) async fn connect(address: &str, password: Option<&Password>) -> Result<RespClient, RespError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut client = RespClient { stream, buffer: Vec::with_capacity(16 << 10), taken: 0, request: Vec::new() };
        if let Some(Password(secret)) = password
            && let Value::Error(text) = client.call(&[b"AUTH", secret]).await?
        {
            return Err(RespError::Refused(text));
        }
        Ok(client)
    }

    /// Sends one command and waits for its reply.
    pub(crate) async fn call(&mut self, words: &[&[u8]]) -> Result<Value, RespError> {
        self.request.clear();
        push_command(&mut self.request, words);
        self.stream.write_all(&self.request).await?;
        loop {
            let mut at = self.taken;
            if let Some(value) = parse(&self.buffer, &mut at, 0)? {
                self.taken = at;
                return Ok(value);
            }
            self.buffer.drain(..self.taken);
            self.taken = 0;
            if self.buffer.len() > REPLY_BYTES_MAX {
                return Err(RespError::Strange);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}

fn push_command(request: &mut Vec<u8>, words: &[&[u8]]) {
    request.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        request.extend_from_slice(word);
        request.extend_from_slice(b"\r\n");
    }
}

/// Takes one value from `bytes` at `at`; `None` if it is not all there yet.
fn parse(bytes: &[u8], at: &mut usize, depth: u32) -> Result<Option<Value>, RespError> {
    if depth > DEPTH_MAX {
        return Err(RespError::Strange);
    }
    let Some(line) = take_line(bytes, at) else { return Ok(None) };
    let (kind, rest) = line.split_first().ok_or(RespError::Strange)?;
    let text = std::str::from_utf8(rest).map_err(|_| RespError::Strange);
    let number = || text_to_number(rest);
    match kind {
        b'+' => Ok(Some(Value::Simple(text?.to_owned()))),
        b'-' => Ok(Some(Value::Error(text?.to_owned()))),
        b':' => Ok(Some(Value::Integer(number()?))),
        b'$' => take_bulk(bytes, at, number()?),
        b'*' => {
            let Ok(count) = usize::try_from(number()?) else { return Ok(Some(Value::Nil)) };
            let mut items = Vec::new();
            for _ in 0..count {
                let Some(item) = parse(bytes, at, depth + 1)? else { return Ok(None) };
                items.push(item);
            }
            Ok(Some(Value::Array(items)))
        }
        _ => Err(RespError::Strange),
    }
}

fn text_to_number(text: &[u8]) -> Result<i64, RespError> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(RespError::Strange)
}

fn take_bulk(bytes: &[u8], at: &mut usize, length: i64) -> Result<Option<Value>, RespError> {
    let Ok(length) = usize::try_from(length) else { return Ok(Some(Value::Nil)) };
    if length > REPLY_BYTES_MAX {
        return Err(RespError::Strange);
    }
    let Some(body) = bytes.get(*at..*at + length + 2) else { return Ok(None) };
    let (body, end) = body.split_at(length);
    if end != b"\r\n" {
        return Err(RespError::Strange);
    }
    *at += length + 2;
    Ok(Some(Value::Bulk(body.to_vec())))
}

fn take_line<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let rest = &bytes[*at..];
    let end = rest.windows(2).position(|window| window == b"\r\n")?;
    *at += end + 2;
    Some(&rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_all(text: &str) -> Option<Value> {
        let mut at = 0;
        let value = parse(text.as_bytes(), &mut at, 0).unwrap();
        assert!(value.is_none() || at == text.len());
        value
    }

    #[test]
    fn replies_of_every_kind() {
        assert_eq!(parse_all("+OK\r\n"), Some(Value::Simple("OK".into())));
        assert_eq!(parse_all("-ERR x\r\n"), Some(Value::Error("ERR x".into())));
        assert_eq!(parse_all(":-7\r\n"), Some(Value::Integer(-7)));
        assert_eq!(parse_all("$2\r\na\n\r\n"), Some(Value::Bulk(b"a\n".to_vec())));
        assert_eq!(parse_all("$-1\r\n"), Some(Value::Nil));
        assert_eq!(parse_all("*-1\r\n"), Some(Value::Nil));
        let nested = Value::Array(vec![Value::Integer(1), Value::Array(vec![Value::Bulk(b"x".to_vec())])]);
        assert_eq!(parse_all("*2\r\n:1\r\n*1\r\n$1\r\nx\r\n"), Some(nested));
    }

    #[test]
    fn every_prefix_is_incomplete_and_nonsense_is_refused() {
        let text = "*2\r\n:1\r\n$3\r\nabc\r\n";
        for end in 0..text.len() {
            assert_eq!(parse_all(&text[..end]), None, "{end}");
        }
        for bad in ["\r\n", "!x\r\n", ":x\r\n", "$1\r\nabc\r\n", "$9999999999999\r\n"] {
            assert!(parse(bad.as_bytes(), &mut 0, 0).is_err(), "{bad:?}");
        }
        let deep = "*1\r\n".repeat(20);
        assert!(parse(deep.as_bytes(), &mut 0, 0).is_err());
    }
}
