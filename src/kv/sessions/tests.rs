//! The bounds of sessions: what goes when there are too many, and that what went is never executed again.

use bytes::Bytes;

use super::*;

const HOUR_MS: u64 = IDLE_MS;

fn at(index: u64) -> Now {
    Now { index, time_ms: index }
}

fn opened(number: u64, seq: u64) -> Origin {
    Origin { session: SessionId { node: 0, boot: 0, number }, seq, previous: 0, first_unanswered: 0 }
}

fn connection(number: u64, seq: u64) -> Origin {
    Origin { session: SessionId { node: 1, boot: 1, number }, seq, previous: seq - 1, first_unanswered: seq }
}

fn run(sessions: &mut Sessions, origin: &Origin, index: u64, reply: &Reply) -> Admission {
    let admission = sessions.admit(origin, at(index));
    if admission == Admission::Execute {
        sessions.on_executed(origin, at(index), reply);
    }
    assert_eq!(sessions.sum(), sessions.rescan());
    admission
}

fn stale() -> Admission {
    Admission::Refuse(CommandError::SessionStale)
}

fn expired() -> Admission {
    Admission::Refuse(CommandError::SessionExpired)
}

#[test]
fn the_latest_256_replies_are_repeated_and_older_numbers_are_stale() {
    let mut sessions = Sessions::new();
    sessions.open(at(1));
    for seq in 1..=300 {
        assert_eq!(run(&mut sessions, &opened(1, seq), 1 + seq, &Reply::count(seq)), Admission::Execute);
    }
    for seq in 1..=44 {
        assert_eq!(run(&mut sessions, &opened(1, seq), 500, &Reply::Ok), stale(), "{seq}");
    }
    for seq in 45..=300 {
        assert_eq!(run(&mut sessions, &opened(1, seq), 500, &Reply::Ok), Admission::Repeat(Reply::count(seq)));
    }
}

/// With a full window a late number is executed and falls out at once: its copy must not be executed again.
#[test]
fn a_late_number_below_a_full_window_is_executed_once() {
    let mut sessions = Sessions::new();
    sessions.open(at(1));
    for seq in 1000..1256 {
        run(&mut sessions, &opened(1, seq), seq, &Reply::Ok);
    }
    assert_eq!(run(&mut sessions, &opened(1, 500), 2000, &Reply::Ok), Admission::Execute);
    assert_eq!(run(&mut sessions, &opened(1, 500), 2001, &Reply::Ok), stale());
    assert_eq!(run(&mut sessions, &opened(1, 1000), 2002, &Reply::Ok), Admission::Repeat(Reply::Ok));
}

#[test]
fn a_session_keeps_a_mebibyte_and_a_reply_beyond_that_is_only_remembered() {
    let mut sessions = Sessions::new();
    sessions.open(at(1));
    let big = Reply::Bulk(Bytes::from(vec![b'x'; 400 * 1024]));
    for seq in 1..=3 {
        run(&mut sessions, &opened(1, seq), 1 + seq, &big);
    }
    assert_eq!(run(&mut sessions, &opened(1, 1), 10, &Reply::Ok), stale());
    assert_eq!(run(&mut sessions, &opened(1, 2), 11, &Reply::Ok), Admission::Repeat(big.clone()));

    let huge = Reply::Array(vec![Reply::Bulk(Bytes::from(vec![b'x'; 1024 * 1024]))]);
    assert_eq!(run(&mut sessions, &opened(1, 4), 12, &huge), Admission::Execute);
    assert_eq!(run(&mut sessions, &opened(1, 4), 13, &Reply::Ok), stale(), "executed, reply not kept");
    assert_eq!(run(&mut sessions, &opened(1, 3), 14, &Reply::Ok), Admission::Repeat(big));
    assert!(sessions.reply_bytes() <= 1024 * 1024);
}

/// A reply of many small elements takes memory for each of them, not for their bytes alone.
#[test]
fn elements_count_against_the_bound() {
    let mut sessions = Sessions::new();
    sessions.open(at(1));
    let many = Reply::Array(vec![Reply::Nil; 100_000]);
    run(&mut sessions, &opened(1, 1), 2, &many);
    assert_eq!(run(&mut sessions, &opened(1, 1), 3, &Reply::Ok), stale());
}

#[test]
fn when_all_keep_too_much_the_least_recently_used_forgets() {
    let mut sessions = Sessions::with_limits(10, 2500);
    for index in 1..=3 {
        sessions.open(at(index));
    }
    let reply = Reply::Bulk(Bytes::from(vec![b'x'; 1000]));
    run(&mut sessions, &opened(1, 1), 4, &reply);
    run(&mut sessions, &opened(2, 1), 5, &reply);
    run(&mut sessions, &opened(1, 1), 6, &reply);
    run(&mut sessions, &opened(3, 1), 7, &reply);
    assert!(sessions.reply_bytes() <= 2500);
    assert_eq!(run(&mut sessions, &opened(2, 1), 8, &reply), stale(), "forgotten, not executed again");
    assert_eq!(run(&mut sessions, &opened(1, 1), 9, &reply), Admission::Repeat(reply.clone()));
    assert_eq!(run(&mut sessions, &opened(2, 2), 10, &reply), Admission::Execute, "the session itself lives on");
}

#[test]
fn beyond_the_bound_the_least_recently_used_session_is_gone_and_pools_are_apart() {
    let mut sessions = Sessions::with_limits(2, 1 << 20);
    sessions.open(at(1));
    sessions.open(at(2));
    run(&mut sessions, &opened(1, 1), 3, &Reply::Ok);
    for number in 1..=5 {
        assert_eq!(run(&mut sessions, &connection(number, 1), 3 + number, &Reply::Ok), Admission::Execute);
    }
    assert_eq!(sessions.counts(), (2, 2), "connections do not evict opened sessions");
    sessions.open(at(10));
    assert_eq!(run(&mut sessions, &opened(2, 1), 11, &Reply::Ok), expired());
    assert_eq!(run(&mut sessions, &opened(1, 1), 12, &Reply::Ok), Admission::Repeat(Reply::Ok));
    assert_eq!(run(&mut sessions, &connection(1, 1), 13, &Reply::Ok), expired(), "evicted, not opened again");
    assert_eq!(run(&mut sessions, &connection(1, 2), 14, &Reply::Ok), expired());
    assert_eq!(run(&mut sessions, &connection(5, 2), 15, &Reply::Ok), Admission::Execute);
}

#[test]
fn idleness_ends_opened_sessions_only() {
    let mut sessions = Sessions::new();
    sessions.open(at(1));
    run(&mut sessions, &connection(1, 1), 2, &Reply::Ok);
    sessions.expire(HOUR_MS);
    assert_eq!(sessions.counts(), (1, 1));
    sessions.expire(1 + HOUR_MS);
    assert_eq!(sessions.counts(), (0, 1));
    sessions.expire(u64::MAX);
    assert_eq!(sessions.counts(), (0, 1));
}

/// A front node answers as it goes, so a connection keeps one reply, however long it lives.
#[test]
fn a_connection_keeps_only_what_is_unanswered() {
    let mut sessions = Sessions::new();
    for seq in 1..=1000 {
        run(&mut sessions, &connection(1, seq), seq, &Reply::Ok);
    }
    assert!(sessions.reply_bytes() < 200, "{} bytes", sessions.reply_bytes());
    assert_eq!(run(&mut sessions, &connection(1, 999), 2000, &Reply::Ok), stale());
    assert_eq!(run(&mut sessions, &connection(1, 1000), 2001, &Reply::Ok), Admission::Repeat(Reply::Ok));
}

/// Numbers in whatever order, with gaps for ever: memory stays bounded, and no closed session comes back.
#[test]
fn spent_numbers_stay_spent_when_there_are_too_many_to_remember() {
    let mut sessions = Sessions::new();
    for number in (2..=80_000).rev().step_by(2) {
        sessions.close(SessionId { node: 1, boot: 1, number });
    }
    assert_eq!(sessions.sum(), sessions.rescan());
    for number in (2..=80_000).step_by(2) {
        assert_eq!(sessions.admit(&connection(number, 1), at(1)), expired(), "{number}");
    }
    assert_eq!(sessions.admit(&connection(80_001, 1), at(2)), Admission::Execute);
    assert_eq!(sessions.admit(&connection(79_999, 1), at(3)), Admission::Execute);
    assert_eq!(sessions.admit(&connection(1, 1), at(4)), expired(), "taken for closed: it renews its session");
}

#[test]
fn no_number_that_a_peer_can_write_stops_the_table() {
    let mut sessions = Sessions::new();
    for number in [0, 1, 2, u64::MAX - 1, u64::MAX] {
        let session = SessionId { node: u64::MAX, boot: u64::MAX, number };
        let origin = Origin { session, seq: u64::MAX, previous: u64::MAX, first_unanswered: u64::MAX };
        sessions.admit(&origin, at(1));
        sessions.close(session);
        for seq in [0, 1, u64::MAX] {
            run(&mut sessions, &Origin { seq, previous: 0, ..origin }, 2, &Reply::Ok);
            run(&mut sessions, &Origin { seq, ..opened(number, 0) }, 3, &Reply::Ok);
        }
    }
}

#[test]
fn earlier_boots_are_remembered_up_to_a_bound() {
    let mut sessions = Sessions::new();
    for boot in 1..=100 {
        sessions.close_other_boots(1, boot);
    }
    for boot in 36..=99 {
        let session = SessionId { node: 1, boot, number: 1 };
        assert_eq!(run(&mut sessions, &Origin { session, ..connection(1, 1) }, boot, &Reply::Ok), expired());
    }
    let session = SessionId { node: 1, boot: 100, number: 1 };
    assert_eq!(run(&mut sessions, &Origin { session, ..connection(1, 1) }, 200, &Reply::Ok), Admission::Execute);
}
