//! How scripts show messages and states: as one writes them in a paper.

use super::cluster::{Packet, Payload};
use crate::raft::{AppendOutcome, LogId, Message, PeerPace, Persist, RoleName};

pub(super) fn role(role: RoleName) -> &'static str {
    match role {
        RoleName::Follower => "follower",
        RoleName::PreCandidate => "pre-candidate",
        RoleName::Candidate => "candidate",
        RoleName::Leader => "leader",
    }
}

pub(super) fn pace(pace: PeerPace) -> &'static str {
    match pace {
        PeerPace::Probe => "probe",
        PeerPace::Replicate => "replicate",
        PeerPace::NeedsSnapshot => "needs a snapshot",
    }
}

fn log_id(id: LogId) -> String {
    format!("({},t{})", id.index, id.term)
}

fn entries(first: u64, payloads: &[Payload]) -> String {
    let each = payloads.iter().enumerate();
    let shown: Vec<String> =
        each.map(|(at, payload)| format!("{}:{}@t{}", first + at as u64, payload.label, payload.term)).collect();
    format!("[{}]", shown.join(" "))
}

pub(super) fn persist(id: u64, persist: &Persist, payloads: &[Payload]) -> String {
    let mut line = format!("n{id} writes #{}", persist.seq);
    if let Some(state) = persist.hard_state {
        let vote = state.vote.map(|vote| format!(" vote n{vote}")).unwrap_or_default();
        line += &format!(" t{}{vote}", state.term);
    }
    if let Some(from) = persist.truncate_from {
        line += &format!(" cut from {from}");
    }
    if let Some(range) = &persist.append {
        line += &format!(" {}", entries(range.start().0, payloads));
    }
    line
}

pub(super) fn packet(packet: &Packet, questions: &mut Vec<u64>) -> String {
    format!("n{} -> n{} {}", packet.from, packet.to, message(&packet.message, &packet.payloads, questions))
}

fn message(message: &Message, payloads: &[Payload], questions: &mut Vec<u64>) -> String {
    let mut question = |id: u64| {
        let known = questions.iter().position(|&other| other == id);
        known.unwrap_or_else(|| {
            questions.push(id);
            questions.len() - 1
        }) + 1
    };
    let round = |read: u64| if read == 0 { String::new() } else { format!(" round {read}") };
    let answer = |granted: bool| if granted { "granted" } else { "refused" };
    match message {
        Message::PreVote { term, last } => format!("PreVote t{term} last {}", log_id(*last)),
        Message::PreVoteReply { term, granted } => format!("PreVoteReply t{term} {}", answer(*granted)),
        Message::Vote { term, last, transfer } => {
            format!("Vote t{term} last {}{}", log_id(*last), if *transfer { " transfer" } else { "" })
        }
        Message::VoteReply { term, granted } => format!("VoteReply t{term} {}", answer(*granted)),
        Message::Append { term, prev, commit, read, .. } => {
            let shown = entries(prev.index.0 + 1, payloads);
            format!("Append t{term} prev {} {shown} commit {commit}{}", log_id(*prev), round(*read))
        }
        Message::AppendReply { term, outcome: AppendOutcome::Matched(matched), read } => {
            format!("AppendReply t{term} matched {matched}{}", round(*read))
        }
        Message::AppendReply { term, outcome: AppendOutcome::Rejected { rejected, hint }, read } => {
            format!("AppendReply t{term} rejected {rejected} hint {}{}", log_id(*hint), round(*read))
        }
        Message::Heartbeat { term, commit, read } => format!("Heartbeat t{term} commit {commit}{}", round(*read)),
        Message::HeartbeatReply { term, read } => format!("HeartbeatReply t{term}{}", round(*read)),
        Message::ReadIndex { term, id } => format!("ReadIndex t{term} question {}", question(*id)),
        Message::ReadIndexReply { term, id, index } => {
            let index = index.map_or("none".to_owned(), |index| index.to_string());
            format!("ReadIndexReply t{term} question {} index {index}", question(*id))
        }
        Message::TimeoutNow { term } => format!("TimeoutNow t{term}"),
    }
}

/// The word that names a message's kind in `deliver` and `drop`.
pub(super) fn kind(message: &Message) -> &'static str {
    match message {
        Message::PreVote { .. } => "PreVote",
        Message::PreVoteReply { .. } => "PreVoteReply",
        Message::Vote { .. } => "Vote",
        Message::VoteReply { .. } => "VoteReply",
        Message::Append { .. } => "Append",
        Message::AppendReply { .. } => "AppendReply",
        Message::Heartbeat { .. } => "Heartbeat",
        Message::HeartbeatReply { .. } => "HeartbeatReply",
        Message::ReadIndex { .. } => "ReadIndex",
        Message::ReadIndexReply { .. } => "ReadIndexReply",
        Message::TimeoutNow { .. } => "TimeoutNow",
    }
}
