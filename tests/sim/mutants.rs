//! Historic mistakes, made on purpose: each must be found within a budget of seeds, else the simulator proves nothing.
//!
//! `cargo test --features mutants --test sim`

use kontiki::raft::Mutant;
use kontiki::sim::Options;

use super::play;

/// Runs seeds until the mistake is found, and tells how.
#[track_caller]
fn find(mutant: Mutant, seeds: u64) {
    let options = Options { mutant: Some(mutant), ..Options::default() };
    let found = (1..=seeds).find_map(|seed| Some((seed, play(seed, &options).err()?)));
    let Some((seed, failure)) = found else { panic!("{mutant:?} was not found within {seeds} seeds") };
    println!("{mutant:?} found by seed {seed}: {failure}");
}

#[test]
fn votes_before_they_are_durable() {
    find(Mutant::VoteBeforeDurable, 60);
}

#[test]
fn old_terms_committed_by_count() {
    find(Mutant::CommitOldTermByCount, 20);
}

#[test]
fn entries_acknowledged_before_they_are_durable() {
    find(Mutant::AcknowledgeBeforeDurable, 5);
}

#[test]
fn superseded_writes_acknowledged() {
    find(Mutant::AcknowledgeSuperseded, 40);
}

#[test]
fn logs_cut_by_every_append() {
    find(Mutant::TruncateOnEveryAppend, 20);
}

#[test]
fn reads_without_a_round() {
    find(Mutant::ReadWithoutRound, 150);
}

#[test]
fn votes_without_a_look_at_the_log() {
    find(Mutant::VoteWithoutLogCheck, 20);
}

#[test]
fn votes_given_twice() {
    find(Mutant::ForgetVote, 40);
}
