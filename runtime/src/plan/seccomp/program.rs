//! Decisions → program: a switch over architectures, for each a tree over intervals of system call numbers.
//!
//! ```text
//! load arch ─┬─ x86_64 ─ load nr ─ x32's bit? ─┬─ yes ─ tree of what differs ─┬─ action
//!            │                                 │                              └─ clear the bit ─┐
//!            │                                 └─ no ── tree ─┬─ action                         │
//!            │                                    ▲           └─ cases: arguments ─ action      │
//!            │                                    └─────────────────────────────────────────────┘
//!            ├─ i386 ─ load nr ─ tree ─ …
//!            └─ kill
//! ```
//! What takes time is the kernel's work for each instruction when it loads the program, and for each step when it fills its cache
//! of always allowed calls; so the program is small first, and its paths short. It is made backwards: jumps only lead forward, so
//! that where they lead stands already. What the program decides is not decided here.

use super::arch::{Arch, X32_BIT};
use super::cases::{Case, MOST_CASES};
use super::decisions::{DEFAULT, Decision, Decisions, ENOSYS, Leaf, Table};
use super::insn::{self, Insn};
use super::tree::{self, Interval};
use super::{too_large, words};
use crate::error::Result;

/// KERNEL: BPF_MAXINSNS
const MOST_INSNS: usize = 4096;

/// The program for `decisions`.
pub fn assemble(decisions: &Decisions<'_>) -> Result<Vec<Insn>> {
    check_cases(decisions)?;
    let mut assembler = Assembler::default();
    assembler.reversed.reserve(512);
    let mut switch = Target::End(words::KILL_THREAD);
    let mut audits = Vec::with_capacity(3);
    for table in decisions.tables.iter().rev() {
        let audit = table.arch.audit();
        if audits.contains(&audit) {
            continue;
        }
        audits.push(audit);
        let block = architecture(&mut assembler, decisions, audit)?;
        switch = assembler.branch(insn::IF_EQUAL, audit, block, switch);
    }
    assembler.before(switch, Insn::plain(insn::LOAD, insn::AUDIT_ARCH));
    if assembler.reversed.len() > MOST_INSNS {
        return Err(too_large());
    }
    assembler.reversed.reverse();
    Ok(assembler.reversed)
}

/// Refuses in time what would take long to find too large: each case is at least one instruction.
fn check_cases(decisions: &Decisions<'_>) -> Result<()> {
    let mut cases = 0;
    for (at, leaf) in decisions.leaves.iter().enumerate() {
        if let Decision::Try(tried) = leaf
            && !decisions.leaves[..at].contains(leaf)
        {
            cases += tried.len();
        }
        if cases > MOST_CASES {
            return Err(too_large());
        }
    }
    Ok(())
}

/// All that the kernel reports under one AUDIT_ARCH value: an architecture, or x86_64 and x32.
fn architecture(assembler: &mut Assembler, decisions: &Decisions<'_>, audit: u32) -> Result<Target> {
    let of = |arch: Arch| decisions.tables.iter().find(|table| table.arch == arch);
    let x32 = of(Arch::X32).filter(|table| table.arch.audit() == audit);
    let main = decisions.tables.iter().find(|table| table.arch.audit() == audit && table.arch != Arch::X32);
    let leaves = match main {
        Some(main) if main.arch == Arch::X86_64 && x32.is_none() => without_x32(main.intervals()),
        Some(main) => main.intervals(),
        None => Vec::new(),
    };
    let mut intervals = match main {
        Some(main) => assembler.place(decisions, main, &leaves)?,
        None => vec![Interval { start: 0, target: Target::End(words::KILL_THREAD) }],
    };
    let mut root = tree::plant(assembler, &intervals);
    if let Some(x32) = x32 {
        let own = assembler.place(decisions, x32, &x32.intervals())?;
        // Before the conditions of x32's calls there is no way back into the tree: what leads to it stands right before it.
        let same = assembler.before(root, Insn::plain(insn::AND, !X32_BIT));
        tree::difference(&mut intervals, &own, same);
        let other = tree::plant(assembler, &intervals);
        root = assembler.branch(insn::IF_ANY_BIT, X32_BIT, other, root);
    }
    Ok(assembler.before(root, Insn::plain(insn::LOAD, insn::NUMBER)))
}

/// x32 is not listed: its calls are of a wrong architecture, but for -1, which a tracer sets to skip a call. As in libseccomp.
/// The rule for newer calls (a program of runc's, before libseccomp's) looks at the bit alone, so that it comes first above bit 31.
fn without_x32(mut intervals: Vec<(u32, Leaf)>) -> Vec<(u32, Leaf)> {
    let above = intervals.last().map_or(DEFAULT, |&(_, leaf)| leaf);
    intervals.push((X32_BIT, KILL));
    if above == ENOSYS {
        intervals.extend([(0x8000_0000, ENOSYS), (0xc000_0000, KILL)]);
    }
    intervals.push((u32::MAX, DEFAULT));
    intervals
}

/// The leaf of a wrong architecture: libseccomp's default, which runc leaves as it is. No table has so many leaves.
const KILL: Leaf = Leaf::MAX;

/// Where a branch leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The filter returns this.
    End(u32),
    /// To an instruction, by its index in [`Assembler::reversed`].
    Here(usize),
}

/// A program in the making, last instruction first.
#[derive(Default)]
pub struct Assembler {
    reversed: Vec<Insn>,
    /// Returns that stand already, the nearest of each value.
    ends: Vec<(u32, usize)>,
    /// Cases that stand already: the leaf, whether for 64 bits, where.
    cases: Vec<(Leaf, bool, Target)>,
}

/// A branch skips 255 instructions at most; two are kept for the jumps that lengthen it.
const REACH: usize = 253;

impl Assembler {
    /// A branch to `yes` or `no`.
    pub fn branch(&mut self, code: u16, k: u32, yes: Target, no: Target) -> Target {
        let yes = self.reachable(yes);
        let no = self.reachable(no);
        let distance = |to: usize| (self.reversed.len() - 1 - to) as u8;
        let insn = Insn { code, jt: distance(yes), jf: distance(no), k };
        Target::Here(self.push(insn))
    }

    /// `insn`, and then `target`.
    fn before(&mut self, target: Target, insn: Insn) -> Target {
        let at = self.reachable(target);
        if at + 1 != self.reversed.len() {
            let jump = match target {
                Target::End(action) => Insn::plain(insn::RETURN, action),
                Target::Here(_) => Insn::plain(insn::JUMP, (self.reversed.len() - 1 - at) as u32),
            };
            self.push(jump);
        }
        Target::Here(self.push(insn))
    }

    /// Where it stands.
    fn push(&mut self, insn: Insn) -> usize {
        self.reversed.push(insn);
        self.reversed.len() - 1
    }

    /// An instruction within a branch's reach that is `target` or leads there.
    fn reachable(&mut self, target: Target) -> usize {
        let next = self.reversed.len();
        let far = match target {
            Target::Here(at) if next - at <= REACH => return at,
            Target::Here(at) => Insn::plain(insn::JUMP, (next - 1 - at) as u32),
            Target::End(action) => {
                match self.ends.iter_mut().find(|(value, _)| *value == action) {
                    Some((_, at)) if next - *at <= REACH => return *at,
                    Some((_, at)) => *at = next,
                    None => self.ends.push((action, next)),
                }
                Insn::plain(insn::RETURN, action)
            }
        };
        self.reversed.push(far);
        next
    }

    /// The intervals of a table with their targets, neighbours with the same target merged; makes the cases that they need.
    fn place(
        &mut self,
        decisions: &Decisions<'_>,
        table: &Table,
        leaves: &[(u32, Leaf)],
    ) -> Result<Vec<Interval>> {
        let mut intervals: Vec<Interval> = Vec::with_capacity(leaves.len());
        for &(start, leaf) in leaves {
            let target = match leaf {
                KILL => Target::End(words::KILL_THREAD),
                leaf => self.leaf(decisions, leaf, table.arch.is_wide())?,
            };
            if intervals.last().is_none_or(|last| last.target != target) {
                intervals.push(Interval { start, target });
            }
        }
        Ok(intervals)
    }

    fn leaf(&mut self, decisions: &Decisions<'_>, leaf: Leaf, is_wide: bool) -> Result<Target> {
        let decision = &decisions.leaves[usize::from(leaf)];
        let tried = match decision {
            Decision::Always(action) => return Ok(Target::End(*action)),
            Decision::Try(tried) => tried,
        };
        let stands = |&&(other, wide, _): &&(Leaf, bool, Target)| {
            wide == is_wide && (other == leaf || decisions.leaves[usize::from(other)] == *decision)
        };
        if let Some(&(_, _, target)) = self.cases.iter().find(stands) {
            return Ok(target);
        }
        let ordered = decisions.ordered(tried, is_wide)?;
        let mut rest = &ordered[..];
        let mut next = Target::End(decisions.default);
        while let Some(case) = rest.last() {
            let alike = rest.iter().rev().take_while(|other| case.is_alike(other, is_wide)).count();
            let (before, last) = rest.split_at(rest.len() - alike.max(1));
            next = match case.equality(is_wide) {
                Some(_) => self.equalities(last, next, is_wide),
                None => self.fragment(case, next, is_wide)?,
            };
            rest = before;
            if self.reversed.len() > MOST_INSNS {
                return Err(too_large());
            }
        }
        self.cases.push((leaf, is_wide, next));
        Ok(next)
    }

    /// A case by seccompiler's instructions, or `next`.
    fn fragment(&mut self, case: &Case, next: Target, is_wide: bool) -> Result<Target> {
        self.before(next, Insn::plain(insn::RETURN, case.action));
        let fragment = case.fragment(is_wide)?;
        self.reversed.extend(body(&fragment).iter().rev().map(own));
        Ok(Target::Here(self.reversed.len() - 1))
    }

    /// Cases that ask for values of one argument with the same upper half, and do the same then: the argument is loaded once for
    /// all of them. Default profiles have five such cases for personality(2), which would be a tenth of the program.
    fn equalities(&mut self, cases: &[&Case], next: Target, is_wide: bool) -> Target {
        let mut node = next;
        let mut first = (0, 0);
        for case in cases {
            first = case.equality(is_wide).unwrap_or_default();
            node = self.branch(insn::IF_EQUAL, first.1 as u32, Target::End(case.action), node);
        }
        let (index, value) = first;
        let lower = insn::ARGUMENTS + 8 * u32::from(index);
        node = self.before(node, Insn::plain(insn::LOAD, lower));
        if is_wide {
            node = self.branch(insn::IF_EQUAL, (value >> 32) as u32, node, next);
            node = self.before(node, Insn::plain(insn::LOAD, lower + 4));
        }
        node
    }
}

/// A fragment begins with a jump into itself and one over itself, for callers that chain fragments; neither is needed here.
fn body(fragment: &[seccompiler::sock_filter]) -> &[seccompiler::sock_filter] {
    match fragment {
        [over, past, body @ ..] if over.code == insn::JUMP && over.k == 1 && past.code == insn::JUMP => body,
        whole => whole,
    }
}

fn own(foreign: &seccompiler::sock_filter) -> Insn {
    Insn { code: foreign.code, jt: foreign.jt, jf: foreign.jf, k: foreign.k }
}
