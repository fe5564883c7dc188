//! The operations, drawn from a seed: small numbers, so that any part of a list is a list too.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::disk::Block;

/// Extents that operations name; more than a disk has slots.
const EXTENTS: u32 = 40;

/// One thing that is asked of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Create(u128),
    Append {
        extent: u128,
        block: Block,
        generation: u64,
    },
    /// Several at once, into several extents.
    Batch(Vec<(u128, Block)>),
    Read {
        extent: u128,
        block: Block,
        generation: u64,
    },
    Close {
        extent: u128,
        generation: u64,
    },
    /// Everything ends in good order and is started again.
    Restart,
    /// Power is lost some steps after these were asked for at once.
    Crash {
        creates: Vec<u128>,
        appends: Vec<(u128, Block)>,
        closes: Vec<u128>,
        steps: u32,
        seed: u64,
    },
    /// A blank disk in place of this one.
    Replace,
}

/// A list of operations.
pub fn draw(seed: u64, count: usize) -> Vec<Operation> {
    let mut dice = Dice { draw: StdRng::seed_from_u64(seed), base: 0 };
    (0..count).map(|_| dice.operation()).collect()
}

struct Dice {
    draw: StdRng,
    /// Extents and blocks named now are a little above this: work moves on.
    base: u32,
}

impl Dice {
    fn operation(&mut self) -> Operation {
        if self.draw.random_range(0..40) == 0 {
            self.base = (self.base + 1) % EXTENTS;
        }
        match self.draw.random_range(0..1000) {
            0..60 => Operation::Create(self.extent()),
            60..460 => Operation::Append { extent: self.extent(), block: self.block(), generation: self.generation() },
            460..520 => {
                let count = self.draw.random_range(2..8);
                Operation::Batch((0..count).map(|_| (self.extent(), self.block())).collect())
            }
            520..955 => Operation::Read { extent: self.extent(), block: self.block(), generation: self.generation() },
            955..980 => Operation::Close { extent: self.extent(), generation: self.generation() },
            980..984 => Operation::Restart,
            984..998 => self.crash(),
            _ => Operation::Replace,
        }
    }

    fn crash(&mut self) -> Operation {
        let (creates, appends, closes) =
            (self.draw.random_range(0..3), self.draw.random_range(0..8), self.draw.random_range(0..2));
        Operation::Crash {
            creates: (0..creates).map(|_| self.extent()).collect(),
            appends: (0..appends).map(|_| (self.extent(), self.block())).collect(),
            closes: (0..closes).map(|_| self.extent()).collect(),
            steps: self.draw.random_range(0..120),
            seed: self.draw.random(),
        }
    }

    fn extent(&mut self) -> u128 {
        u128::from(1 + (self.base + self.draw.random_range(0..4)) % EXTENTS)
    }

    /// One of few blocks, so that duplicates and reads of what is there are common.
    fn block(&mut self) -> Block {
        let number = u64::from(self.base / 2 * 64 + self.draw.random_range(0..64));
        let bytes = match number % 8 {
            0 => 20_000 + (number * 977 % 30_000) as u32,
            1 | 2 => 3_900 + (number * 31 % 300) as u32,
            _ => 1 + (number * 37 % 3_000) as u32,
        };
        Block { number, bytes }
    }

    /// Mostly none; sometimes an old one.
    fn generation(&mut self) -> u64 {
        if self.draw.random_range(0..4) == 0 { self.draw.random_range(1..6) } else { 0 }
    }
}
