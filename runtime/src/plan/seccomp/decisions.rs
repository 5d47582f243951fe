//! What a profile decides for each system call of an architecture, with libseccomp's precedence.
//!
//! Of the rules for one call: one without conditions beats all with conditions, wherever they stand; of several without
//! conditions the first wins. Of those with conditions the first that holds wins, tried in this order (compared condition by
//! condition, by argument): that about the higher argument; equality (`EQ`, `NE`, `MASKED_EQ`) before upper bounds (`LT`, `LE`)
//! before lower bounds (`GT`, `GE`); the higher value, of upper bounds the lower one; else as in the profile. It matters
//! only where conditions overlap and actions differ. The same conditions with different actions are an error, as for libseccomp.
//! A rule whose action is the default one is passed over (runc: "redundant"), so that it beats nothing.
//!
//! Makes no instructions.

use super::arch::Arch;
use super::cases::{self, Case, MOST_CASES};
use super::numbers::{self, Entry, Multiplexed, SPAN};
use super::words;
use crate::error::{Error, Result};
use crate::spec::Seccomp;

/// Index into [`Decisions::leaves`].
pub type Leaf = u16;
/// The default action's leaf.
pub const DEFAULT: Leaf = 0;
/// ENOSYS's leaf.
pub const ENOSYS: Leaf = 1;

/// What becomes of a system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Always this action.
    Always(u32),
    /// The action of the first case that holds (indices into [`Decisions::cases`]), or the default one.
    Try(Vec<u32>),
}

/// All decisions of a profile.
pub struct Decisions<'a> {
    /// The action of what no rule is for.
    pub default: u32,
    /// What leaves stand for.
    pub leaves: Vec<Decision>,
    /// Conditional actions.
    pub cases: Vec<Case>,
    /// One for each architecture.
    pub tables: Vec<Table>,
    /// Names that no architecture knows.
    pub unknown: Vec<&'a str>,
    /// Whether rules without conditions decide for socketcall and ipc: then those for the calls made through them don't count.
    settled: [bool; 2],
}

/// The leaves of an architecture.
pub struct Table {
    /// Whose numbers these are.
    pub arch: Arch,
    /// By number, without x32's bit.
    cells: [Leaf; SPAN],
    private: [Leaf; 16],
    /// The highest number that a rule names, with x32's bit; 0: none.
    highest: u32,
    /// Whether calls above it are ENOSYS.
    has_newest: bool,
}

/// `archs`: those to decide for; `listed`: those that the profile names. (The native one may be missing there.)
///
/// runc's rule: when the default action neither allows, logs nor traces, calls with numbers above the highest one that a rule
/// names on a listed architecture return ENOSYS, so that programs fall back to older calls instead of failing with EPERM.
pub fn decide<'a>(spec: &'a Seccomp, archs: &[Arch], listed: &[Arch]) -> Result<Decisions<'a>> {
    let place = format_args!("linux.seccomp.defaultAction");
    let default = words::action(place, &spec.default_action, spec.default_errno_ret)?;
    let is_strict = !matches!(default & 0xffff_0000, words::ALLOW | words::LOG | words::TRACE);
    let table = |&arch| Table {
        arch,
        cells: [DEFAULT; SPAN],
        private: [DEFAULT; 16],
        highest: 0,
        has_newest: is_strict && listed.contains(&arch),
    };
    let mut decisions = Decisions {
        default,
        leaves: vec![Decision::Always(default), Decision::Always(words::ERRNO | libc::ENOSYS as u32)],
        cases: Vec::new(),
        tables: archs.iter().map(table).collect(),
        unknown: Vec::new(),
        settled: ["socketcall", "ipc"].map(|name| is_settled(spec, name, default)),
    };
    for (rule, syscalls) in spec.syscalls.iter().enumerate() {
        let place = format_args!("linux.seccomp.syscalls[{rule}].action");
        let action = words::action(place, &syscalls.action, syscalls.errno_ret)?;
        let first = decisions.cases.len();
        if !syscalls.args.is_empty() {
            cases::of_rule(rule, action, syscalls, &mut decisions.cases)?;
        }
        let cases = first as u32..decisions.cases.len() as u32;
        let outcome = Outcome { rule, action, cases, is_default: action == default };
        decisions.add_rule(&outcome, &syscalls.names)?;
    }
    Ok(decisions)
}

/// Whether a rule without conditions is for a call.
fn is_settled(spec: &Seccomp, name: &str, default: u32) -> bool {
    spec.syscalls.iter().filter(|rule| rule.args.is_empty()).any(|rule| {
        let action = words::action(format_args!(""), &rule.action, rule.errno_ret);
        action.is_ok_and(|action| action != default) && rule.names.iter().any(|listed| listed == name)
    })
}

/// What a rule does: `action`, always or in the `cases`.
struct Outcome {
    rule: usize,
    action: u32,
    cases: std::ops::Range<u32>,
    is_default: bool,
}

impl Outcome {
    fn has_case_that_always_holds(&self, cases: &[Case], arch: Arch) -> bool {
        cases[self.cases.start as usize..self.cases.end as usize]
            .iter()
            .any(|case| case.always_holds(arch.is_wide()))
    }
}

impl<'a> Decisions<'a> {
    fn add_rule(&mut self, outcome: &Outcome, names: &'a [String]) -> Result<()> {
        let leaf = if outcome.cases.is_empty() { self.always(outcome.action) } else { DEFAULT };
        for (at, name) in names.iter().enumerate() {
            let Some(entry) = numbers::find(name) else {
                if name.is_empty() {
                    let place = format!("linux.seccomp.syscalls[{}].names[{at}]", outcome.rule);
                    return Err(Error::invalid(format!("{place}: the name is empty")));
                }
                self.unknown.push(name);
                continue;
            };
            for table in 0..self.tables.len() {
                self.add(table, entry, leaf, outcome)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, table: usize, entry: &Entry, leaf: Leaf, outcome: &Outcome) -> Result<()> {
        let arch = self.tables[table].arch;
        let through = entry.multiplexed(arch);
        if let Some(number) = entry.number(arch) {
            // libseccomp gives multiplexed calls no number of their own when it looks for the highest.
            if through.is_none() {
                self.tables[table].highest = self.tables[table].highest.max(number);
            }
            if outcome.is_default {
                return Ok(());
            }
            let cell = self.tables[table].cell(number);
            if leaf != DEFAULT && *cell == DEFAULT {
                // Most of all calls: the first rule for it, without conditions.
                *cell = leaf;
            } else if outcome.has_case_that_always_holds(&self.cases, arch) {
                let always = self.always(outcome.action);
                self.decide_cell(table, number, always, 0..0)?;
            } else {
                self.decide_cell(table, number, leaf, outcome.cases.clone())?;
            }
        }
        match through {
            Some(through) if !outcome.is_default => self.add_multiplexed(table, through, outcome),
            _ => Ok(()),
        }
    }

    fn add_multiplexed(&mut self, table: usize, through: Multiplexed, outcome: &Outcome) -> Result<()> {
        let [socketcall, ipc] = self.settled;
        let (name, call) = match through {
            Multiplexed::Socketcall(_) if socketcall => return Ok(()),
            Multiplexed::Ipc(_) if ipc => return Ok(()),
            Multiplexed::Socketcall(call) => ("socketcall", call),
            Multiplexed::Ipc(call) => ("ipc", call),
        };
        let Some(number) = numbers::find(name).and_then(|entry| entry.number(self.tables[table].arch)) else {
            return Ok(());
        };
        let first = self.cases.len() as u32;
        if outcome.cases.is_empty() {
            let case = Case { action: outcome.action, conditions: Vec::new(), rule: outcome.rule };
            self.cases.push(case.multiplexed(call));
        }
        for case in outcome.cases.clone() {
            let case = self.cases[case as usize].multiplexed(call);
            self.cases.push(case);
        }
        self.decide_cell(table, number, DEFAULT, first..self.cases.len() as u32)
    }

    /// `cases` empty: always `leaf`.
    fn decide_cell(
        &mut self,
        table: usize,
        number: u32,
        leaf: Leaf,
        cases: std::ops::Range<u32>,
    ) -> Result<()> {
        if self.is_decided(table, number) {
            return Ok(());
        }
        let cell = self.tables[table].cell(number);
        let now = *cell;
        if cases.is_empty() {
            *cell = leaf;
            return Ok(());
        }
        if now == DEFAULT {
            *cell = Leaf::try_from(self.leaves.len()).map_err(|_| super::too_large())?;
            self.leaves.push(Decision::Try(cases.collect()));
            return Ok(());
        }
        match &mut self.leaves[usize::from(now)] {
            Decision::Try(tried) if tried.len() + cases.len() <= MOST_CASES => tried.extend(cases),
            _ => return Err(super::too_large()),
        }
        Ok(())
    }

    /// Whether a rule without conditions has decided already.
    fn is_decided(&mut self, table: usize, number: u32) -> bool {
        let now = *self.tables[table].cell(number);
        now != DEFAULT && matches!(self.leaves[usize::from(now)], Decision::Always(_))
    }

    fn always(&mut self, action: u32) -> Leaf {
        let wanted = Decision::Always(action);
        let at = self.leaves.iter().position(|leaf| *leaf == wanted).unwrap_or_else(|| {
            self.leaves.push(wanted);
            self.leaves.len() - 1
        });
        at as Leaf
    }

    /// The cases of a leaf in the order in which they are tried.
    pub fn ordered(&self, tried: &[u32], is_wide: bool) -> Result<Vec<&Case>> {
        let mut ordered: Vec<&Case> = Vec::with_capacity(tried.len());
        for &at in tried {
            let case = &self.cases[at as usize];
            let same = ordered.iter().find(|other| case.is_same(other, is_wide));
            match same {
                Some(other) if other.action == case.action => continue,
                Some(other) => {
                    let what = format!(
                        "syscalls[{}] and [{}] have the same conditions and different actions",
                        other.rule, case.rule
                    );
                    return Err(Error::invalid(format!("linux.seccomp: {what}")));
                }
                None => {}
            }
            let place =
                ordered.iter().position(|other| case.order(other, is_wide).is_lt()).unwrap_or(ordered.len());
            ordered.insert(place, case);
        }
        Ok(ordered)
    }
}

impl Table {
    fn cell(&mut self, number: u32) -> &mut Leaf {
        match number.checked_sub(numbers::ARM_PRIVATE) {
            Some(private) if self.arch == Arch::Arm => &mut self.private[private as usize],
            _ => &mut self.cells[(number & !super::arch::X32_BIT) as usize],
        }
    }

    /// Leaves by number, x32's without its bit: each holds from its number to the next one's.
    pub fn intervals(&self) -> Vec<(u32, Leaf)> {
        let mut intervals = Vec::with_capacity(128);
        let mut put = |start: u32, leaf: Leaf| {
            if intervals.last().is_none_or(|&(_, last)| last != leaf) {
                intervals.push((start, leaf));
            }
        };
        for (number, &leaf) in self.cells.iter().enumerate() {
            put(number as u32, leaf);
        }
        put(SPAN as u32, DEFAULT);
        if self.arch == Arch::Arm {
            for (number, &leaf) in self.private.iter().enumerate() {
                put(numbers::ARM_PRIVATE + number as u32, leaf);
            }
        }
        if self.has_newest && self.highest != 0 {
            let newest = self.highest & !super::arch::X32_BIT;
            intervals.retain(|&(start, _)| start <= newest);
            if intervals.last().is_none_or(|&(_, last)| last != ENOSYS) {
                intervals.push((newest + 1, ENOSYS));
            }
        }
        intervals
    }
}
