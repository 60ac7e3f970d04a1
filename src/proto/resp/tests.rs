//! The parser against Redis' rules, cut anywhere; the encoder against the protocol's text.
#![allow(clippy::cast_possible_truncation, reason = "small test numbers")]

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::{Limits, Output, Parsed, Parser, ProtocolError, Value, Version};
use crate::kv::{CommandError, Reply};

const LIMITS: Limits = Limits { arguments: 1024, bulk_bytes: 100, command_bytes: 10_000, authenticated: true };

type Events = (Vec<(bool, Vec<Vec<u8>>)>, Option<ProtocolError>);

/// Parses `input`, handed over in pieces that end at `cuts`.
fn parse_all(input: &[u8], cuts: &[usize], limits: &Limits) -> Events {
    let mut parser = Parser::default();
    let mut buffer = BytesMut::new();
    let mut arguments = Vec::new();
    let mut found = Vec::new();
    let mut from = 0;
    for to in cuts.iter().copied().chain([input.len()]) {
        buffer.extend_from_slice(&input[from..to]);
        from = to;
        loop {
            match parser.parse(&mut buffer, limits, &mut arguments) {
                Ok(Parsed::Incomplete) => break,
                Ok(parsed) => found
                    .push((parsed == Parsed::TooLarge, arguments.iter().map(|argument| argument.to_vec()).collect())),
                Err(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}

fn whole(input: &[u8]) -> Events {
    parse_all(input, &[], &LIMITS)
}

fn commands(input: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let (found, error) = whole(input);
    assert_eq!(error, None);
    found.into_iter().map(|(_, arguments)| arguments).collect()
}

fn refusal(input: &[u8]) -> String {
    whole(input).1.expect("an error").to_string()
}

#[test]
fn reads_multibulk_and_inline_commands() {
    let input =
        b"*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING\r\n\r\n*0\r\n*-1\r\n  set \"a\\x41\\n\" 'it\\'s' b\"c\"\n*1\r\n$0\r\n\r\n";
    let expected: Vec<Vec<&[u8]>> =
        vec![vec![b"GET", b"a"], vec![b"PING"], vec![b"set", b"aA\n", b"it's", b"bc"], vec![b""]];
    assert_eq!(commands(input), expected);
}

#[test]
fn refuses_with_the_words_of_redis() {
    assert_eq!(refusal(b"*x\r\n"), "Protocol error: invalid multibulk length");
    assert_eq!(refusal(b"*1025\r\n"), "Protocol error: invalid multibulk length");
    assert_eq!(refusal(b"*01\r\n"), "Protocol error: invalid multibulk length");
    assert_eq!(refusal(b"*1\r\nPING\r\n"), "Protocol error: expected '$', got 'P'");
    assert_eq!(refusal(b"*1\r\n$-1\r\n"), "Protocol error: invalid bulk length");
    assert_eq!(refusal(b"*1\r\n$536870913\r\n"), "Protocol error: invalid bulk length");
    assert_eq!(refusal(b"GET \"a\r\n"), "Protocol error: unbalanced quotes in request");
    assert_eq!(refusal(b"GET \"a\"b\r\n"), "Protocol error: unbalanced quotes in request");
    assert_eq!(refusal(&[b'a'; 70_000]), "Protocol error: too big inline request");
    assert_eq!(refusal(&[b'*'; 70_000]), "Protocol error: too big mbulk count string");
    assert_eq!(refusal(&[b"*1\r\n".as_slice(), &[b'$'; 70_000]].concat()), "Protocol error: too big bulk count string");
}

#[test]
fn a_client_that_has_not_proved_itself_gets_little() {
    let limits = Limits { authenticated: false, bulk_bytes: 1 << 20, ..LIMITS };
    let refusal = |input: &[u8]| parse_all(input, &[], &limits).1.map(|error| error.to_string());
    assert_eq!(refusal(b"*11\r\n").as_deref(), Some("Protocol error: unauthenticated multibulk length"));
    assert_eq!(refusal(b"*1\r\n$16385\r\n").as_deref(), Some("Protocol error: unauthenticated bulk length"));
    assert_eq!(refusal(b"*10\r\n$1000\r\n"), None);
}

#[test]
fn an_argument_too_large_costs_its_command_only() {
    let large = vec![b'v'; 101];
    let mut input = b"*5\r\n$3\r\nSET\r\n$1\r\nk\r\n$101\r\n".to_vec();
    input.extend_from_slice(&large);
    input.extend_from_slice(b"\r\n$2\r\nNX\r\n$101\r\n");
    input.extend_from_slice(&large);
    input.extend_from_slice(b"\r\nPING\r\n");
    let expected = (vec![(true, vec![b"SET".to_vec(), b"k".to_vec()]), (false, vec![b"PING".to_vec()])], None);
    assert_eq!(whole(&input), expected);
    let every_byte: Vec<usize> = (1..input.len()).collect();
    assert_eq!(parse_all(&input, &every_byte, &LIMITS), expected);
}

#[test]
fn a_skipped_argument_takes_no_memory() {
    let mut parser = Parser::default();
    let mut buffer = BytesMut::from(&b"*2\r\n$4\r\nECHO\r\n$100000000\r\n"[..]);
    let mut arguments = Vec::new();
    for _ in 0..1000 {
        assert_eq!(parser.parse(&mut buffer, &LIMITS, &mut arguments), Ok(Parsed::Incomplete));
        assert!(buffer.len() < 20, "{} bytes kept", buffer.len());
        buffer.extend_from_slice(&[b'x'; 4096]);
    }
    assert!(buffer.capacity() < 64 * 1024, "{} bytes taken", buffer.capacity());
}

#[test]
fn a_command_has_a_greatest_size() {
    let mut input = b"*200\r\n".to_vec();
    for _ in 0..200 {
        input.extend_from_slice(b"$100\r\n");
        input.extend_from_slice(&[b'x'; 100]);
        input.extend_from_slice(b"\r\n");
    }
    assert_eq!(refusal(&input), "Protocol error: too big command");
}

fn encoded(push: impl FnOnce(&mut Output)) -> String {
    let mut output = Output::default();
    push(&mut output);
    let mut slices = [std::io::IoSlice::new(&[]); 16];
    let filled = output.slices(&mut slices);
    let bytes = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect::<Vec<u8>>();
    assert_eq!(bytes.len(), output.bytes());
    String::from_utf8(bytes).expect("text")
}

#[test]
fn replies_in_both_versions() {
    let value = Value::Map(vec![
        (Value::text("a"), Value::Integer(i64::MIN)),
        (Value::Simple("b"), Value::Set(vec![Value::Null, Value::NullArray])),
        (Value::Verbatim("t".to_owned()), Value::Reply(Reply::Array(vec![Reply::Ok, Reply::Nil]))),
    ]);
    let two = encoded(|output| output.push_value(&value, Version::Two));
    assert_eq!(
        two,
        "*6\r\n$1\r\na\r\n:-9223372036854775808\r\n+b\r\n*2\r\n$-1\r\n*-1\r\n$1\r\nt\r\n*2\r\n+OK\r\n$-1\r\n"
    );
    let three = encoded(|output| output.push_value(&value, Version::Three));
    assert_eq!(
        three,
        "%3\r\n$1\r\na\r\n:-9223372036854775808\r\n+b\r\n~2\r\n_\r\n_\r\n=5\r\ntxt:t\r\n*2\r\n+OK\r\n_\r\n"
    );
}

#[test]
fn an_error_is_one_line() {
    let text = encoded(|output| output.push_value(&Value::error("a\r\nb"), Version::Two));
    assert_eq!(text, "-ERR a  b\r\n");
    let text = encoded(|output| output.push_reply(&Reply::Error(CommandError::Overflow), Version::Two));
    assert_eq!(text, "-ERR increment or decrement would overflow\r\n");
}

#[test]
fn large_values_are_sent_in_order_and_piecewise() {
    let large = Bytes::from(vec![b'x'; 100_000]);
    let mut output = Output::default();
    let reply =
        Reply::Array(vec![Reply::Bulk(large.clone()), Reply::Bulk(Bytes::from_static(b"s")), Reply::Bulk(large)]);
    output.push_reply(&reply, Version::Two);
    let mut expected = b"*3\r\n$100000\r\n".to_vec();
    expected.extend_from_slice(&[b'x'; 100_000]);
    expected.extend_from_slice(b"\r\n$1\r\ns\r\n$100000\r\n");
    expected.extend_from_slice(&[b'x'; 100_000]);
    expected.extend_from_slice(b"\r\n");
    let mut sent = Vec::new();
    while output.bytes() > 0 {
        let mut slices = [std::io::IoSlice::new(&[]); 2];
        let filled = output.slices(&mut slices);
        let some: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).take(777).collect();
        sent.extend_from_slice(&some);
        output.advance(some.len());
    }
    assert_eq!(sent, expected);
}

/// Pieces that look like requests, right and wrong.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "*",
        "$",
        "1",
        "2",
        "3",
        "-1",
        "0",
        "99",
        "101",
        "150",
        "536870913",
        "\r\n",
        "\n",
        "\r",
        "GET",
        "a",
        "\"",
        "'",
        "\\x41",
        "\\",
        " ",
        "\0",
        "*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
        "*1\r\n$4\r\nPING\r\n",
        "*2\r\n$3\r\nSET\r\n$101\r\n",
        "PING\r\n",
    ]);
    prop_oneof![words.prop_map(|word| word.as_bytes().to_vec()), prop::collection::vec(any::<u8>(), 0..120)]
}

proptest! {
    #[test]
    fn cutting_the_input_changes_nothing(pieces in prop::collection::vec(piece(), 0..24), seed in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        let input = pieces.concat();
        let mut cuts: Vec<usize> = seed.iter().map(|index| index.index(input.len() + 1)).collect();
        cuts.sort_unstable();
        let every_byte: Vec<usize> = (0..input.len()).collect();
        let expected = parse_all(&input, &[], &LIMITS);
        prop_assert_eq!(&parse_all(&input, &cuts, &LIMITS), &expected);
        prop_assert_eq!(&parse_all(&input, &every_byte, &LIMITS), &expected);
    }

    #[test]
    fn what_is_encoded_is_parsed(sent in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 1..8), 1..8)) {
        let mut input = Vec::new();
        for command in &sent {
            input.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
            for argument in command {
                input.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
                input.extend_from_slice(argument);
                input.extend_from_slice(b"\r\n");
            }
        }
        prop_assert_eq!(commands(&input), sent);
    }
}
