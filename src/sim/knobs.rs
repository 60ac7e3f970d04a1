//! What a seed decides at the start: sizes, limits, speeds, and how much trouble there is.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

use super::heap::Micros;

/// The run's randomness.
#[derive(Clone, Debug)]
pub(super) struct Dice(Xoshiro256PlusPlus);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    pub(super) fn any(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Returns a number below `end`, which is not 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0.next_u64() % end
    }

    /// Returns a number in `first..=last`.
    pub(super) fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// Returns whether something of this many in a million happens.
    pub(super) fn happens(&mut self, per_million: u64) -> bool {
        self.below(1_000_000) < per_million
    }

    /// Picks one.
    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap_or(0)]
    }

    /// Returns a time around `mean`: usually less, now and then several times as much.
    pub(super) fn around(&mut self, mean: Micros) -> Micros {
        let first = self.below(mean + 1);
        match self.below(16) {
            0 => first + mean * self.between(1, 8),
            1..4 => first + mean,
            _ => first + mean / 2,
        }
    }
}

/// The choices of one run.
#[derive(Clone, Debug)]
pub(super) struct Knobs {
    pub(super) nodes: u64,
    pub(super) clients: usize,
    pub(super) keys: u64,
    pub(super) tick_us: Micros,
    pub(super) heartbeat_ticks: u32,
    pub(super) election_ticks: u32,
    pub(super) max_append_bytes: u64,
    pub(super) max_append_entries: u32,
    pub(super) inflight_messages: u32,
    pub(super) inflight_bytes: u64,
    pub(super) max_uncommitted_bytes: u64,
    pub(super) max_pending_reads: u32,
    pub(super) latency_us: Micros,
    pub(super) loss_per_million: u64,
    pub(super) duplicates_per_million: u64,
    pub(super) sync_us: Micros,
    pub(super) apply_us: Micros,
    pub(super) think_us: Micros,
    pub(super) fault_every_us: Micros,
    pub(super) deadline_ms: u64,
    /// How often a machine crashes just when it wrote something and told others, before its disk has it.
    pub(super) crashes_in_write_per_million: u64,
    /// How often one crashes just when it asked for votes or gave one.
    pub(super) crashes_in_vote_per_million: u64,
}

impl Knobs {
    pub(super) fn draw(dice: &mut Dice, nodes: Option<u64>) -> Knobs {
        let drawn = dice.pick(&[3, 3, 3, 5]);
        Knobs {
            nodes: nodes.unwrap_or(drawn),
            clients: usize::try_from(dice.between(3, 9)).unwrap_or(2),
            keys: dice.between(1, 3),
            tick_us: 10_000,
            heartbeat_ticks: dice.pick(&[1, 2, 4]),
            election_ticks: dice.pick(&[10, 15, 30]),
            max_append_bytes: dice.pick(&[1, 200, 2_000, 1 << 20]),
            max_append_entries: dice.pick(&[1, 2, 8, 256]),
            inflight_messages: dice.pick(&[1, 2, 4]),
            inflight_bytes: dice.pick(&[100, 10_000, 1 << 20]),
            max_uncommitted_bytes: dice.pick(&[300, 10_000, 1 << 20]),
            max_pending_reads: dice.pick(&[1, 8, 256]),
            latency_us: dice.pick(&[50, 200, 2_000]),
            loss_per_million: dice.pick(&[0, 0, 5_000, 50_000]),
            duplicates_per_million: dice.pick(&[0, 0, 5_000, 50_000]),
            sync_us: dice.pick(&[50, 500, 5_000]),
            apply_us: dice.pick(&[5, 50, 1_000]),
            think_us: dice.pick(&[2_000, 20_000, 50_000]),
            fault_every_us: dice.pick(&[100_000, 300_000, 1_000_000]),
            deadline_ms: dice.pick(&[300, 1_000, 3_000]),
            crashes_in_write_per_million: dice.pick(&[0, 0, 500, 5_000]),
            crashes_in_vote_per_million: dice.pick(&[0, 20_000, 100_000, 300_000]),
        }
    }
}
