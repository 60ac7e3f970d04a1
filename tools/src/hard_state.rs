//! `kontiki-inspect hard-state`: term, vote and commit index as the log has them.

use kontiki::cli::exit::Failure;
use kontiki::cli::print::{self, Output};
use kontiki_wal::inspect::{SlotState, is_live};
use serde::Serialize;

use super::Verdict;
use super::args::Place;
use super::log::{headline, open, verdict};

#[derive(Debug, Serialize)]
struct Row {
    term: u64,
    vote: Option<u64>,
    commit_index: u64,
    first_index: u64,
    last_index: u64,
    durable_mark: u64,
    node_id: Option<u64>,
    cluster_id: Option<String>,
    log_uuid: Option<String>,
    live: bool,
}

/// Prints the hard state.
pub(crate) fn run(place: &Place) -> Result<Verdict, Failure> {
    let log = open(&place.dir, |_, _| {})?;
    let header = log.slots().iter().filter(|slot| slot.state == SlotState::Active).find_map(|slot| slot.header);
    let (first, last) = log.entries();
    let state = log.hard_state();
    let row = Row {
        term: state.term.0,
        vote: Some(state.vote).filter(|vote| *vote != 0),
        commit_index: state.commit.0,
        first_index: first.0,
        last_index: last.0,
        durable_mark: log.durable().0,
        node_id: header.map(|header| header.node_id),
        cluster_id: header.map(|header| format!("{:032x}", header.cluster_id)),
        log_uuid: header.map(|header| format!("{:032x}", header.log_uuid)),
        live: is_live(log.dir()),
    };
    if place.output == Output::Json {
        print::json(&row)?;
    } else {
        print::line(&headline(&log))?;
        let vote = row.vote.map_or_else(|| "nobody".to_owned(), |vote| format!("node {vote}"));
        print::line(&format!("term          {}\nvote          {vote}\ncommit index  {}", row.term, row.commit_index))?;
    }
    Ok(verdict(&log.verify()))
}
