//! What the clients do: which operation, which key, which value.

use bytes::Bytes;
use clap::ValueEnum;
use rand::{Rng, RngCore, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Load {
    /// Set keys
    Put,
    /// Read keys (linearizable)
    Get,
    /// Append to keys
    Append,
    /// Half puts, half gets
    Mixed,
    /// Set each key once, in order.
    #[value(skip)]
    Fill,
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Put,
    Get,
    Append,
}

impl Load {
    /// Returns whether keys must be there before.
    pub(super) fn reads(self) -> bool {
        match self {
            Load::Get | Load::Mixed => true,
            Load::Put | Load::Append | Load::Fill => false,
        }
    }

    /// Returns whether there are writes.
    pub(super) fn writes(self) -> bool {
        self != Load::Get
    }

    /// Returns the word for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Load::Put => "put",
            Load::Get => "get",
            Load::Append => "append",
            Load::Mixed => "mixed",
            Load::Fill => "fill",
        }
    }
}

/// Draws one client's operations. The same client draws the same in every run.
pub(super) struct Draw {
    load: Load,
    keys: u32,
    rng: Xoshiro256PlusPlus,
    value: Bytes,
}

impl Draw {
    /// Makes the draw of `client`; its values are random, so that no layer below profits from their likeness.
    pub(super) fn new(load: Load, keys: u32, value_bytes: u64, client: u32) -> Draw {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(u64::from(client));
        let mut value = vec![0; usize::try_from(value_bytes).expect("bounded by the command")];
        rng.fill_bytes(&mut value);
        Draw { load, keys, rng, value: value.into() }
    }

    /// Returns the operation with number `number` of the whole run, and its key.
    pub(super) fn next(&mut self, number: u64) -> (Operation, Vec<u8>) {
        let operation = match self.load {
            Load::Put | Load::Fill => Operation::Put,
            Load::Get => Operation::Get,
            Load::Append => Operation::Append,
            Load::Mixed if self.rng.random() => Operation::Put,
            Load::Mixed => Operation::Get,
        };
        let key = match self.load {
            Load::Fill => number % u64::from(self.keys),
            Load::Put | Load::Get | Load::Append | Load::Mixed => u64::from(self.rng.random_range(0..self.keys)),
        };
        let space = if operation == Operation::Append { "append" } else { "key" };
        (operation, format!("bench:{space}:{key:010}").into_bytes())
    }

    /// Returns what is written.
    pub(super) fn value(&self) -> &Bytes {
        &self.value
    }
}
