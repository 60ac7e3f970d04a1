//! What clients asked and were told, and whether one copy of the data explains it.
//!
//! Keys only grow, by tokens that occur once, so a value tells which appends came before it. That makes the check exact:
//! each key is linearizable if and only if all values read are beginnings of the final one, and lengths agree with time.

use super::heap::Micros;
use super::report::{Invariant, Violation};

/// One operation of a client.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) client: usize,
    pub(super) request: Request,
    pub(super) began: Micros,
    pub(super) end: Option<End>,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Appends a token to a key.
    Append { key: u64, token: String },
    /// Reads a key, linearizably.
    Read { key: u64 },
    /// Changes the state elsewhere.
    Other,
}

/// How it ended for the client.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// It took effect; an append left its key this long.
    Acknowledged { at: Micros, bytes: Option<u64> },
    /// The value that was read.
    Value { at: Micros, bytes: Vec<u8> },
    /// It certainly had no effect.
    NotExecuted,
    /// Nobody knows.
    Unknown,
}

/// A stretch of one key's life, in bytes of its length and in time.
struct Point<'a> {
    began: Micros,
    ended: Micros,
    /// The key was at least this long when it ended.
    length: u64,
    /// An append: no two have one length, and the one that ended first is shorter.
    token: Option<&'a str>,
}

/// Checks every operation on `key` against its final value.
pub(super) fn check(operations: &[Operation], key: u64, value: &[u8]) -> Result<(), Violation> {
    let broken = |details: String| Err(Violation::new(Invariant::History, format!("key {key}: {details}")));
    let mut points = Vec::new();
    for operation in operations {
        match (&operation.request, &operation.end) {
            (Request::Append { key: on, token }, end) if *on == key => {
                let text = String::from_utf8_lossy(value);
                let places: Vec<usize> = text.match_indices(token.as_str()).map(|(at, _)| at).collect();
                match (end, places.as_slice()) {
                    (_, [_, _, ..]) => return broken(format!("{token} is there {} times", places.len())),
                    (Some(End::NotExecuted), [at]) => {
                        return broken(format!("{token} was not executed, and is at {at}"));
                    }
                    (Some(End::Acknowledged { .. }), []) => {
                        return broken(format!("{token} was acknowledged, and is gone"));
                    }
                    (Some(End::Acknowledged { at, bytes }), [place]) => {
                        let length = (place + token.len()) as u64;
                        if bytes.is_some_and(|told| told != length) {
                            return broken(format!("{token} ends at {length}, its client was told {bytes:?}"));
                        }
                        let (began, ended) = (operation.began, *at);
                        points.push(Point { began, ended, length, token: Some(token) });
                    }
                    // It took effect, but nobody was told: it began before whoever saw it ended.
                    (_, [place]) => points.push(Point {
                        began: operation.began,
                        ended: Micros::MAX,
                        length: (place + token.len()) as u64,
                        token: Some(token),
                    }),
                    (_, []) => {}
                }
            }
            (Request::Read { key: on }, Some(End::Value { at, bytes })) if *on == key => {
                if !value.starts_with(bytes) {
                    let read = String::from_utf8_lossy(bytes);
                    return broken(format!("client {} read what never was: {read}", operation.client));
                }
                points.push(Point { began: operation.began, ended: *at, length: bytes.len() as u64, token: None });
            }
            _ => {}
        }
    }
    in_order(&points).or_else(broken)
}

/// What ended before something began is not longer than what the other saw; an append is shorter.
fn in_order(points: &[Point<'_>]) -> Result<(), String> {
    for first in points {
        for second in points.iter().filter(|second| first.ended < second.began) {
            let is_short = match second.token {
                Some(_) => first.length < second.length,
                None => first.length <= second.length,
            };
            if !is_short {
                return Err(format!(
                    "{} at {} us saw {} bytes, and {} from {} us on saw {}",
                    name(first),
                    first.ended,
                    first.length,
                    name(second),
                    second.began,
                    second.length
                ));
            }
        }
    }
    Ok(())
}

fn name(point: &Point<'_>) -> String {
    point.token.map_or("a read".to_owned(), |token| format!("append {token}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(token: &str, began: Micros, end: Option<End>) -> Operation {
        Operation { client: 0, request: Request::Append { key: 0, token: token.to_owned() }, began, end }
    }

    fn acked(at: Micros) -> Option<End> {
        Some(End::Acknowledged { at, bytes: None })
    }

    fn read(began: Micros, at: Micros, value: &str) -> Operation {
        let end = Some(End::Value { at, bytes: value.as_bytes().to_vec() });
        Operation { client: 1, request: Request::Read { key: 0 }, began, end }
    }

    fn told(operations: &[Operation], value: &str) -> String {
        check(operations, 0, value.as_bytes()).map_or_else(|violation| violation.details, |()| "ok".to_owned())
    }

    #[test]
    fn what_one_copy_explains_passes() {
        let story = [
            append("a;", 0, acked(10)),
            append("b;", 20, Some(End::Unknown)),
            append("c;", 30, Some(End::NotExecuted)),
            read(40, 50, "a;"),
            read(45, 60, "a;b;"),
        ];
        assert_eq!(told(&story, "a;b;"), "ok");
    }

    #[test]
    fn each_kind_of_lie_is_told() {
        assert!(told(&[append("a;", 0, acked(1))], "").contains("is gone"));
        assert!(told(&[append("a;", 0, acked(1))], "a;a;").contains("2 times"));
        assert!(told(&[append("a;", 0, Some(End::NotExecuted))], "a;").contains("not executed"));
        assert!(told(&[append("a;", 0, acked(1)), append("b;", 2, acked(3))], "b;a;").contains("append b;"));
        assert!(told(&[append("a;", 0, acked(1)), read(2, 3, "")], "a;").contains("a read"));
        assert!(told(&[append("a;", 9, acked(10)), read(2, 3, "a;")], "a;").contains("append a;"));
        assert!(told(&[read(0, 1, "a;"), read(2, 3, "")], "a;").contains("a read"));
        assert!(told(&[read(0, 1, "x;")], "a;").contains("never was"));
    }
}
