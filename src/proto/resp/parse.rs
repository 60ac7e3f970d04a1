//! Incremental parser of requests: multibulk and inline, bounded before memory is taken, arguments as slices of the input.
//!
//! It accepts what Redis 7.0 accepts and refuses with its words. Two differences: a bulk above [`Limits::bulk_bytes`] (and
//! within what Redis takes) is skipped without being kept, so that the client gets an error for its command instead of a
//! closed connection; and the number of arguments is bounded by [`Limits::arguments`].

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

/// The longest line: an inline command, or a count.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// The longest bulk that Redis takes (`proto-max-bulk-len`); above it the stream is not trusted.
const ANNOUNCED_BULK_BYTES_MAX: i64 = 512 * 1024 * 1024;

/// Before AUTH a command has at most this many arguments.
const UNAUTHENTICATED_ARGUMENTS_MAX: i64 = 10;

/// Before AUTH an argument has at most this many bytes.
const UNAUTHENTICATED_BULK_BYTES_MAX: i64 = 16 * 1024;

/// What one request may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Arguments of one command, its name included.
    pub arguments: usize,
    /// Bytes of one argument that are kept; a longer one makes its command [`Parsed::TooLarge`].
    pub bulk_bytes: usize,
    /// Bytes of one command with its framing.
    pub command_bytes: usize,
    /// Whether the client has proved itself; if not, 10 arguments of 16 KiB.
    pub authenticated: bool,
}

/// What [`Parser::parse`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A command; its name and arguments are in the caller's vector, at least one.
    Command,
    /// A command with an argument longer than [`Limits::bulk_bytes`]: only what came before that argument, if anything.
    TooLarge,
    /// More input is needed.
    Incomplete,
}

/// Bytes that are not RESP. The connection cannot go on; the text is Redis' own, to be sent after `-ERR `.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("Protocol error: {0}")]
pub struct ProtocolError(pub String);

/// The place in one connection's stream of requests.
///
/// - `arguments` are ranges of the input buffer's bytes, whose first byte is the first byte of the command (or, once
///   something was skipped, of what was kept of it).
/// - `at` is the first byte not yet understood; what lies before it is never looked at again.
/// - `scanned` is 0, or no line ends between `at` and it.
#[derive(Debug, Default)]
pub struct Parser {
    at: usize,
    scanned: usize,
    arguments_left: usize,
    bulk: Option<usize>,
    arguments: Vec<Range<usize>>,
    skip: Option<u64>,
    too_large: bool,
}

impl Parser {
    /// Takes one command off the front of `input`, putting its arguments into `arguments` (cleared first).
    ///
    /// Arguments share the memory of `input`. After an error the input must not be parsed any further.
    pub fn parse(
        &mut self,
        input: &mut BytesMut,
        limits: &Limits,
        arguments: &mut Vec<Bytes>,
    ) -> Result<Parsed, ProtocolError> {
        arguments.clear();
        loop {
            if self.arguments_left == 0 {
                match input.first() {
                    None => return Ok(Parsed::Incomplete),
                    Some(b'*') => match self.begin_multibulk(input, limits)? {
                        Begun::Incomplete => return Ok(Parsed::Incomplete),
                        Begun::Empty => continue,
                        Begun::Command => {}
                    },
                    Some(_) => match self.parse_inline(input, arguments)? {
                        Begun::Incomplete => return Ok(Parsed::Incomplete),
                        Begun::Empty => continue,
                        Begun::Command => return Ok(Parsed::Command),
                    },
                }
            }
            if !self.parse_bulks(input, limits)? {
                return Ok(Parsed::Incomplete);
            }
            return Ok(self.take_command(input, arguments));
        }
    }

    /// Reads `*N\r\n`.
    fn begin_multibulk(&mut self, input: &mut BytesMut, limits: &Limits) -> Result<Begun, ProtocolError> {
        let Some(end) = self.find_line(input, "too big mbulk count string")? else {
            return Ok(Begun::Incomplete);
        };
        let count = parse_i64(&input[1..end]).ok_or_else(|| error("invalid multibulk length"))?;
        if !limits.authenticated && count > UNAUTHENTICATED_ARGUMENTS_MAX {
            return Err(error("unauthenticated multibulk length"));
        }
        if count <= 0 {
            input.advance(end + 2);
            return Ok(Begun::Empty);
        }
        match usize::try_from(count) {
            Ok(count) if count <= limits.arguments => self.arguments_left = count,
            Ok(_) | Err(_) => return Err(error("invalid multibulk length")),
        }
        self.at = end + 2;
        Ok(Begun::Command)
    }

    /// Returns where the line that begins at `at` ends: at its `\r`, with one byte after it.
    fn find_line(&mut self, input: &[u8], too_long: &str) -> Result<Option<usize>, ProtocolError> {
        let from = self.scanned.max(self.at);
        match input[from..].iter().position(|&byte| byte == b'\r') {
            Some(length) if from + length + 1 < input.len() => {
                self.scanned = 0;
                Ok(Some(from + length))
            }
            Some(length) => {
                self.scanned = from + length;
                Ok(None)
            }
            None if input.len() - self.at > LINE_BYTES_MAX => Err(error(too_long)),
            None => {
                self.scanned = input.len();
                Ok(None)
            }
        }
    }

    /// Reads bulks until the command is complete; false if more input is needed.
    fn parse_bulks(&mut self, input: &mut BytesMut, limits: &Limits) -> Result<bool, ProtocolError> {
        while self.arguments_left > 0 {
            if self.skip.is_some() {
                if !self.skip_bulk(input) {
                    return Ok(false);
                }
                continue;
            }
            let Some(length) = self.bulk else {
                if !self.parse_bulk_header(input, limits)? {
                    return Ok(false);
                }
                continue;
            };
            if self.at + length + 2 > limits.command_bytes {
                return Err(error("too big command"));
            }
            if input.len() < self.at + length + 2 {
                return Ok(false);
            }
            if !self.too_large {
                self.arguments.push(self.at..self.at + length);
            }
            self.at += length + 2;
            self.bulk = None;
            self.arguments_left -= 1;
            if self.too_large {
                // Nobody will look at it: the memory goes back at once.
                self.forget_from(input, self.at - length - 2);
            }
        }
        Ok(true)
    }

    /// Reads `$N\r\n`; false if more input is needed.
    fn parse_bulk_header(&mut self, input: &mut BytesMut, limits: &Limits) -> Result<bool, ProtocolError> {
        let start = self.at;
        let Some(end) = self.find_line(input, "too big bulk count string")? else {
            return Ok(false);
        };
        if input[start] != b'$' {
            return Err(error(format!("expected '$', got '{}'", char::from(input[start]))));
        }
        let length = parse_i64(&input[start + 1..end])
            .filter(|length| (0..=ANNOUNCED_BULK_BYTES_MAX).contains(length))
            .ok_or_else(|| error("invalid bulk length"))?;
        if !limits.authenticated && length > UNAUTHENTICATED_BULK_BYTES_MAX {
            return Err(error("unauthenticated bulk length"));
        }
        self.at = end + 2;
        let unsigned = length.unsigned_abs();
        match usize::try_from(length) {
            Ok(length) if length <= limits.bulk_bytes => self.bulk = Some(length),
            Ok(_) | Err(_) => {
                self.skip = Some(unsigned + 2);
                self.too_large = true;
            }
        }
        if self.too_large {
            self.forget_from(input, start);
        }
        Ok(true)
    }

    /// Drops bytes of a bulk that is not kept; false if more are to come.
    fn skip_bulk(&mut self, input: &mut BytesMut) -> bool {
        let left = self.skip.unwrap_or(0);
        let here = input.len() - self.at;
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(here);
        self.at += take;
        self.forget_from(input, self.at - take);
        let left = left - take as u64;
        if left > 0 {
            self.skip = Some(left);
            return false;
        }
        self.skip = None;
        self.arguments_left -= 1;
        true
    }

    /// Cuts `from..self.at` out of the input; what lies before stays for the arguments already found.
    fn forget_from(&mut self, input: &mut BytesMut, from: usize) {
        if self.at == input.len() {
            input.truncate(from);
        } else {
            let mut rest = input.split_off(from);
            rest.advance(self.at - from);
            input.unsplit(rest); // Copies, but only what follows a too large argument in the same read.
        }
        self.at = from;
    }

    fn take_command(&mut self, input: &mut BytesMut, arguments: &mut Vec<Bytes>) -> Parsed {
        let command = input.split_to(self.at).freeze();
        arguments.extend(self.arguments.drain(..).map(|range| command.slice(range)));
        self.at = 0;
        if self.arguments.capacity() > 1024 {
            self.arguments = Vec::new();
        }
        if std::mem::take(&mut self.too_large) { Parsed::TooLarge } else { Parsed::Command }
    }

    fn parse_inline(&mut self, input: &mut BytesMut, arguments: &mut Vec<Bytes>) -> Result<Begun, ProtocolError> {
        let found = input[self.scanned..].iter().position(|&byte| byte == b'\n').map(|length| self.scanned + length);
        if found.unwrap_or(input.len()) > LINE_BYTES_MAX {
            return Err(error("too big inline request"));
        }
        let Some(end) = found else {
            self.scanned = input.len();
            return Ok(Begun::Incomplete);
        };
        self.scanned = 0;
        let line = input.split_to(end + 1);
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        split_inline(line, arguments).ok_or_else(|| error("unbalanced quotes in request"))?;
        Ok(if arguments.is_empty() { Begun::Empty } else { Begun::Command })
    }
}

/// How the head of a command was read.
enum Begun {
    Command,
    Empty,
    Incomplete,
}

fn error(what: impl Into<String>) -> ProtocolError {
    ProtocolError(what.into())
}

/// Reads a decimal number as Redis does: no plus sign, no leading zero, no minus zero, nothing around it.
pub(crate) fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 19 || (digits[0] == b'0' && text.len() > 1) {
        return None;
    }
    let mut value: i64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        // Counted downwards, where there is one number more.
        value = value.checked_mul(10)?.checked_sub(i64::from(digit - b'0'))?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}

/// Splits an inline command into arguments, with quotes and escapes as in `redis-cli`; `None` if quotes are unbalanced.
fn split_inline(line: &[u8], arguments: &mut Vec<Bytes>) -> Option<()> {
    // A NUL ends the line, as it does for Redis.
    let mut rest = line.split(|&byte| byte == 0).next().unwrap_or_default();
    loop {
        while let [byte, after @ ..] = rest
            && is_space(*byte)
        {
            rest = after;
        }
        if rest.is_empty() {
            return Some(());
        }
        let mut word = Vec::new();
        rest = split_word(rest, &mut word)?;
        arguments.push(Bytes::from(word));
    }
}

/// Takes one word off the front; a closing quote ends it and must be followed by space.
fn split_word<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [] => return Some(rest),
            [b'"', after @ ..] => return end_of_quotes(split_double_quoted(after, word)?),
            [b'\'', after @ ..] => return end_of_quotes(split_single_quoted(after, word)?),
            [b' ' | b'\n' | b'\r' | b'\t', ..] => return Some(rest),
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
        };
    }
}

fn end_of_quotes(rest: &[u8]) -> Option<&[u8]> {
    match rest {
        [byte, ..] if !is_space(*byte) => None,
        _ => Some(rest),
    }
}

fn split_double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [] => return None,
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'x', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                word.push(hex_value(*high) << 4 | hex_value(*low));
                after
            }
            [b'\\', escaped, after @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                after
            }
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
        };
    }
}

fn split_single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [] => return None,
            [b'\'', after @ ..] => return Some(after),
            [b'\\', b'\'', after @ ..] => {
                word.push(b'\'');
                after
            }
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
        };
    }
}

fn is_space(byte: u8) -> bool {
    byte == b' ' || (9..=13).contains(&byte)
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}
