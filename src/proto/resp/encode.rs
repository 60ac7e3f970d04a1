//! Replies as bytes: versions 2 and 3, large values by reference.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::kv::Reply;

/// Values from this size on are sent from where they are; smaller ones are copied together, which costs less.
const BY_REFERENCE_BYTES_MIN: usize = 8 * 1024;

/// What a connection speaks; a new one speaks version 2 until `HELLO 3`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// RESP2: maps and sets are arrays, nil is a bulk of length -1.
    #[default]
    Two,
    /// RESP3: maps, sets, nulls and verbatim strings have their own types.
    Three,
}

/// A reply that the server makes itself; what the state answers is a [`Reply`].
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A short word.
    Simple(&'static str),
    /// An error: its code and text, as after `-`. Bytes, because it may repeat what the client sent.
    Error(Bytes),
    /// A number.
    Integer(i64),
    /// Bytes.
    Bulk(Bytes),
    /// Text for people (`txt`); a bulk in version 2.
    Verbatim(String),
    /// No value where a bulk could be.
    Null,
    /// No value where an array could be.
    NullArray,
    /// Several values.
    Array(Vec<Value>),
    /// Keys and values; a flat array in version 2.
    Map(Vec<(Value, Value)>),
    /// Values without order; an array in version 2.
    Set(Vec<Value>),
    /// What the state answered, among other values.
    Reply(Reply),
}

impl Value {
    /// The usual good end of a command that has nothing to say.
    pub const OK: Value = Value::Simple("OK");

    /// Makes a bulk of text.
    pub fn text(text: impl Into<String>) -> Value {
        Value::Bulk(Bytes::from(text.into()))
    }

    /// Makes an error with Redis' general code: `ERR …`.
    pub fn error(text: impl std::fmt::Display) -> Value {
        Value::Error(Bytes::from(format!("ERR {text}")))
    }

    /// Makes an error of its code and text, as after `-`.
    pub const fn fixed_error(text: &'static str) -> Value {
        Value::Error(Bytes::from_static(text.as_bytes()))
    }
}

/// Bytes on their way to one client, in order.
///
/// - `chunks` go before `tail`; none is empty.
/// - `bytes` is the sum of all.
#[derive(Debug, Default)]
pub struct Output {
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
    bytes: usize,
}

impl Output {
    /// Returns how many bytes wait to be sent, those that are only referred to included.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Fills `slices` with what goes next, for a vectored write; returns how many were filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let chunks = self.chunks.iter().map(|chunk| &chunk[..]);
        let tail = Some(&self.tail[..]).filter(|tail| !tail.is_empty());
        let mut filled = 0;
        for (slice, chunk) in slices.iter_mut().zip(chunks.chain(tail)) {
            *slice = IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }

    /// Drops the first `count` bytes: they are sent. Panics if there are fewer.
    pub fn advance(&mut self, mut count: usize) {
        self.bytes -= count;
        while let Some(chunk) = self.chunks.front_mut() {
            if count < chunk.len() {
                chunk.advance(count);
                return;
            }
            count -= chunk.len();
            self.chunks.pop_front();
        }
        self.tail.advance(count);
    }

    /// Gives memory back that a burst left behind; to be called when nothing waits.
    pub fn shrink(&mut self) {
        if self.bytes == 0 && self.tail.capacity() > 64 * 1024 {
            self.tail = BytesMut::new();
        }
    }

    /// Appends a reply of the server.
    pub fn push_value(&mut self, value: &Value, version: Version) {
        match value {
            Value::Simple(word) => self.push_line(b'+', word.as_bytes()),
            Value::Error(text) => self.push_error_bytes(text),
            Value::Integer(number) => self.push_number(b':', *number),
            Value::Bulk(bytes) => self.push_bulk(bytes),
            Value::Verbatim(text) => self.push_verbatim(text, version),
            Value::Null => self.push_raw(null(version)),
            Value::NullArray => self.push_raw(if version == Version::Three { b"_\r\n" } else { b"*-1\r\n" }),
            Value::Array(values) => {
                self.push_length(b'*', values.len());
                self.push_values(values, version);
            }
            Value::Set(values) => {
                self.push_length(if version == Version::Three { b'~' } else { b'*' }, values.len());
                self.push_values(values, version);
            }
            Value::Map(pairs) => {
                match version {
                    Version::Two => self.push_length(b'*', pairs.len() * 2),
                    Version::Three => self.push_length(b'%', pairs.len()),
                }
                for (key, value) in pairs {
                    self.push_value(key, version);
                    self.push_value(value, version);
                }
            }
            Value::Reply(reply) => self.push_reply(reply, version),
        }
    }

    /// Appends a reply of the state.
    pub fn push_reply(&mut self, reply: &Reply, version: Version) {
        match reply {
            Reply::Ok => self.push_raw(b"+OK\r\n"),
            Reply::Nil => self.push_raw(null(version)),
            Reply::Integer(number) => self.push_number(b':', *number),
            Reply::Bulk(bytes) => self.push_bulk(bytes),
            Reply::Simple(word) => self.push_line(b'+', word),
            Reply::Array(replies) => {
                self.push_length(b'*', replies.len());
                for reply in replies {
                    self.push_reply(reply, version);
                }
            }
            Reply::Error(error) => self.push_error(error),
        }
    }

    /// Appends an error; a line break in it becomes a space, for the frame's sake.
    pub fn push_error(&mut self, error: impl std::fmt::Display) {
        self.push_error_bytes(error.to_string().as_bytes());
    }

    fn push_error_bytes(&mut self, error: &[u8]) {
        let before = self.tail.len();
        self.tail.put_u8(b'-');
        self.tail.extend(error.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
        self.tail.put_slice(b"\r\n");
        self.bytes += self.tail.len() - before;
    }

    /// Appends one value as a bulk string, by reference if it is large.
    pub fn push_bulk(&mut self, bytes: &Bytes) {
        self.push_length(b'$', bytes.len());
        if bytes.len() < BY_REFERENCE_BYTES_MIN {
            self.push_raw(bytes);
        } else {
            let before = self.tail.split().freeze();
            self.chunks.push_back(before);
            self.chunks.push_back(bytes.clone());
            self.bytes += bytes.len();
        }
        self.push_raw(b"\r\n");
    }

    fn push_values(&mut self, values: &[Value], version: Version) {
        for value in values {
            self.push_value(value, version);
        }
    }

    fn push_verbatim(&mut self, text: &str, version: Version) {
        match version {
            Version::Two => self.push_length(b'$', text.len()),
            Version::Three => {
                self.push_length(b'=', text.len() + 4);
                self.push_raw(b"txt:");
            }
        }
        self.push_raw(text.as_bytes());
        self.push_raw(b"\r\n");
    }

    fn push_line(&mut self, mark: u8, text: &[u8]) {
        self.push_raw(&[mark]);
        self.push_raw(text);
        self.push_raw(b"\r\n");
    }

    fn push_length(&mut self, mark: u8, length: usize) {
        self.push_number(mark, i64::try_from(length).unwrap_or(i64::MAX));
    }

    fn push_number(&mut self, mark: u8, number: i64) {
        // The longest is a mark, a sign, 19 digits and the line's end.
        let mut line = [0; 24];
        let mut at = line.len() - 2;
        line[at..].copy_from_slice(b"\r\n");
        let mut left = number.unsigned_abs();
        loop {
            at -= 1;
            line[at] = b'0' + u8::try_from(left % 10).unwrap_or(0);
            left /= 10;
            if left == 0 {
                break;
            }
        }
        if number < 0 {
            at -= 1;
            line[at] = b'-';
        }
        at -= 1;
        line[at] = mark;
        self.push_raw(&line[at..]);
    }

    fn push_raw(&mut self, bytes: &[u8]) {
        self.tail.put_slice(bytes);
        self.bytes += bytes.len();
    }
}

fn null(version: Version) -> &'static [u8] {
    match version {
        Version::Two => b"$-1\r\n",
        Version::Three => b"_\r\n",
    }
}
