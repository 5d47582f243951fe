//! Search trees over system call numbers: intervals with targets become comparisons.
//!
//! Knows nothing of what targets do.

use super::arch::X32_BIT;
use super::insn;
use super::program::{Assembler, Target};

/// From `start` to the next one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// First number.
    pub start: u32,
    /// Where its numbers lead.
    pub target: Target,
}

/// Single numbers that a leaf of the tree compares with one by one. Each costs one instruction, where a node for its interval and one
/// for the rest cost two; more of them make the paths longer.
const MOST_EXCEPTIONS: usize = 3;

/// Neighbouring intervals that all lead to `base`, but for single numbers.
struct Chunk<'a> {
    intervals: &'a [Interval],
    base: Target,
}

/// Makes the tree for `intervals`, which begin with number 0 (or the lowest that comes here); the root is where numbers enter.
pub fn plant(assembler: &mut Assembler, intervals: &[Interval]) -> Target {
    let mut chunks = Vec::with_capacity(intervals.len() / 2 + 1);
    let mut rest = intervals;
    while !rest.is_empty() {
        let chunk = Chunk::first(rest);
        rest = &rest[chunk.intervals.len()..];
        chunks.push(chunk);
    }
    grow(assembler, &chunks)
}

fn grow(assembler: &mut Assembler, chunks: &[Chunk<'_>]) -> Target {
    if let [chunk] = chunks {
        let exceptions = chunk.intervals.iter().rev().filter(|interval| interval.target != chunk.base);
        return exceptions.fold(chunk.base, |otherwise, interval| {
            assembler.branch(insn::IF_EQUAL, interval.start, interval.target, otherwise)
        });
    }
    let (low, high) = chunks.split_at(chunks.len() / 2);
    let at = high[0].intervals[0].start;
    let high = grow(assembler, high);
    let low = grow(assembler, low);
    assembler.branch(insn::IF_AT_LEAST, at, high, low)
}

impl<'a> Chunk<'a> {
    /// As many intervals from the beginning as fit into a chunk.
    fn first(intervals: &'a [Interval]) -> Self {
        let is_single =
            |at: usize| intervals.get(at + 1).is_some_and(|next| next.start - intervals[at].start == 1);
        let mut base = None;
        let mut exceptions = 0;
        let mut length = 0;
        while length < intervals.len() {
            let target = intervals[length].target;
            let (new_base, new_exceptions) = match base {
                Some(base) if base == target => (base, exceptions),
                Some(base) if is_single(length) => (base, exceptions + 1),
                Some(_) => break,
                None if is_single(length) => {
                    exceptions += 1;
                    length += 1;
                    continue;
                }
                None => (target, intervals[..length].iter().filter(|before| before.target != target).count()),
            };
            if new_exceptions > MOST_EXCEPTIONS {
                break;
            }
            (base, exceptions) = (Some(new_base), new_exceptions);
            length += 1;
        }
        let intervals = &intervals[..length];
        Self { intervals, base: base.unwrap_or(intervals[length - 1].target) }
    }
}

/// Makes of x86_64's intervals those of x32, numbers with its bit: `same` where both lead to the same.
pub fn difference(intervals: &mut Vec<Interval>, x32: &[Interval], same: Target) {
    let main = std::mem::take(intervals);
    let at = |intervals: &[Interval], number: u32| {
        let after = intervals.partition_point(|interval| interval.start <= number);
        intervals[after - 1].target
    };
    let mut starts: Vec<u32> = main.iter().chain(x32).map(|interval| interval.start).collect();
    starts.sort_unstable();
    starts.dedup();
    for start in starts {
        let own = at(x32, start);
        let target = if own == at(&main, start) { same } else { own };
        if intervals.last().is_none_or(|last| last.target != target) {
            intervals.push(Interval { start: start | X32_BIT, target });
        }
    }
}
