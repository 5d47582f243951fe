//! Device rules → a program of type BPF_PROG_TYPE_CGROUP_DEVICE. It is loaded elsewhere.
//!
//! The kernel asks the program once per use, with a set of accesses (an open for reading and writing is one question). The rules
//! are a list in which, for each access, the last one that names the device decides. So the program goes through the list from
//! its end, and keeps in a register which of the accesses are not decided yet: an allowing rule takes its own out, a denying
//! rule that meets one of them ends in "no".

use std::fmt;

use serde::{Serialize, Serializer};

use crate::error::{Error, Result};
use crate::spec::DeviceRule;

/// A compiled list of rules. Printed, it is that list, the deciding one first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceProgram {
    rules: Vec<Rule>,
    instructions: Vec<u64>,
}

/// A set of block and character devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Both.
    Any,
    /// Block.
    Block,
    /// Character.
    Char,
}

/// One rule, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Allow or deny.
    pub allow: bool,
    /// Of which type.
    pub kind: Type,
    /// `None`: any.
    pub major: Option<u32>,
    /// `None`: any.
    pub minor: Option<u32>,
    /// Of MKNOD, READ, WRITE.
    pub access: u8,
}

// KERNEL: include/uapi/linux/bpf.h, BPF_DEVCG_*
const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;
const BLOCK: i32 = 1;
const CHAR: i32 = 2;

/// What every container may use, whatever the config says, as for runc and crun: to make any node, and to use null, zero, full,
/// random, urandom, tty, ptmx and the ptys. (runc also allows net/tun, 10:200: engines that want it say so.)
const DEFAULTS: [Rule; 9] = [
    node(Type::Any, None, None, MKNOD),
    node(Type::Char, Some(1), Some(3), ALL),
    node(Type::Char, Some(1), Some(5), ALL),
    node(Type::Char, Some(1), Some(7), ALL),
    node(Type::Char, Some(1), Some(8), ALL),
    node(Type::Char, Some(1), Some(9), ALL),
    node(Type::Char, Some(5), Some(0), ALL),
    node(Type::Char, Some(5), Some(2), ALL),
    node(Type::Char, Some(136), None, ALL),
];

const fn node(kind: Type, major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
    Rule { allow: true, kind, major, minor, access }
}

impl DeviceProgram {
    /// Nothing is allowed but what `rules` and then the defaults allow.
    pub fn compile(rules: &[DeviceRule]) -> Result<Self> {
        let mut kept: Vec<Rule> = Vec::with_capacity(rules.len() + DEFAULTS.len());
        let mut keep = |rule: Rule| {
            // One that a later rule covers decides nothing. Engines repeat the defaults, so this halves the program.
            if !kept.iter().any(|later| later.covers(&rule)) {
                kept.push(rule);
            }
        };
        DEFAULTS.iter().for_each(|rule| keep(*rule));
        for (at, rule) in rules.iter().enumerate().rev() {
            if let Some(rule) = Rule::plan(at, rule)? {
                keep(rule);
            }
        }
        // At the end the answer is "no" anyway.
        while kept.last().is_some_and(|rule| !rule.allow) {
            kept.pop();
        }
        let instructions = assemble(&kept);
        // A jump goes at most so far.
        if instructions.len() > usize::from(i16::MAX.cast_unsigned()) {
            return Err(Error::invalid(format!(
                "linux.resources.devices: {} rules are too many",
                rules.len()
            )));
        }
        Ok(Self { rules: kept, instructions })
    }

    /// No device is denied: there is no need for a program.
    pub fn allows_all(&self) -> bool {
        self.rules.iter().all(|rule| rule.allow) && self.rules.iter().any(|rule| rule.covers(&EVERYTHING))
    }

    /// The rules that decide, the deciding one first; what no rule allows is denied.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Eight bytes each, as the `struct bpf_insn` of the kernel on a little-endian machine.
    pub fn instructions(&self) -> &[u64] {
        &self.instructions
    }
}

const EVERYTHING: Rule = node(Type::Any, None, None, ALL);

impl Rule {
    /// `None`: about a FIFO, which the kernel does not ask about.
    fn plan(at: usize, rule: &DeviceRule) -> Result<Option<Self>> {
        let place = format_args!("linux.resources.devices[{at}]");
        let kind = match rule.kind.as_deref().unwrap_or_default() {
            "" | "a" => Type::Any,
            "b" => Type::Block,
            "c" | "u" => Type::Char,
            "p" => return Ok(None),
            other => {
                return Err(
                    Error::invalid(format!("{place}.type: unknown type {other:?}")).cure("it is a, b or c")
                );
            }
        };
        let number = |field: &str, number: Option<i64>| match number {
            None | Some(-1) => Ok(None),
            Some(number) => u32::try_from(number)
                .map(Some)
                .map_err(|_| Error::invalid(format!("{place}.{field} {number} is no device number"))),
        };
        let mut access = 0;
        for letter in rule.access.as_deref().unwrap_or_default().chars() {
            access |= match letter {
                'r' => READ,
                'w' => WRITE,
                'm' => MKNOD,
                other => {
                    return Err(Error::invalid(format!("{place}.access: unknown letter {other:?}"))
                        .cure("the letters are r, w and m"));
                }
            };
        }
        Ok(Some(Self {
            allow: rule.allow,
            kind,
            major: number("major", rule.major)?,
            minor: number("minor", rule.minor)?,
            access: if access == 0 { ALL } else { access },
        }))
    }

    /// Whatever `other` speaks about, this one does too.
    fn covers(&self, other: &Self) -> bool {
        (self.kind == Type::Any || self.kind == other.kind)
            && (self.major.is_none() || self.major == other.major)
            && (self.minor.is_none() || self.minor == other.minor)
            && self.access & other.access == other.access
    }
}

impl fmt::Display for Rule {
    /// `allow c 1:3 rwm`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.allow { "allow" } else { "deny" };
        let kind = match self.kind {
            Type::Any => 'a',
            Type::Block => 'b',
            Type::Char => 'c',
        };
        write!(f, "{verb} {kind} ")?;
        for (number, end) in [(self.major, ':'), (self.minor, ' ')] {
            match number {
                Some(number) => write!(f, "{number}{end}")?,
                None => write!(f, "*{end}")?,
            }
        }
        f.write_str(&access_letters(self.access))
    }
}

/// `rwm`, or some of it.
pub fn access_letters(access: u8) -> String {
    [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
        .iter()
        .filter(|(bit, _)| access & bit != 0)
        .map(|(_, letter)| letter)
        .collect()
}

impl Serialize for DeviceProgram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.rules.iter().map(ToString::to_string))
    }
}

// KERNEL: include/uapi/linux/bpf_common.h, bpf.h
const LOAD_WORD: u8 = 0x61;
const MOV32: u8 = 0xbc;
const MOV32_CONST: u8 = 0xb4;
const AND32_CONST: u8 = 0x54;
const SHIFT_RIGHT32_CONST: u8 = 0x74;
const JUMP: u8 = 0x05;
const JUMP_EQUAL32: u8 = 0x16;
const JUMP_NOT_EQUAL32: u8 = 0x56;
const JUMP_ANY_BIT32: u8 = 0x46;
const EXIT: u8 = 0x95;

const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
/// The accesses that are not decided yet.
const OPEN: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

const fn instruction(code: u8, registers: (u8, u8), offset: i16, constant: i32) -> u64 {
    let (to, from) = registers;
    code as u64
        | ((from << 4 | to) as u64) << 8
        | (offset as u16 as u64) << 16
        | (constant as u32 as u64) << 32
}

/// A program under construction. Jumps to the answers are filled in at the end.
struct Assembly {
    program: Vec<u64>,
    /// Where a jump to an answer stands, and which.
    jumps: Vec<(usize, bool)>,
}

/// The context has access << 16 | type, major, minor.
///
/// Rules of one verdict that follow each other may stand in any order, so they become a tree: no test is made twice. The kernel's
/// verifier walks every path and takes three times as long for the same rules in a row (200 µs for the defaults, not 68).
fn assemble(rules: &[Rule]) -> Vec<u64> {
    let mut assembly = Assembly { program: Vec::with_capacity(16 + rules.len() * 3), jumps: Vec::new() };
    assembly.program.extend([
        instruction(LOAD_WORD, (KIND, CONTEXT), 0, 0),
        instruction(LOAD_WORD, (MAJOR, CONTEXT), 4, 0),
        instruction(LOAD_WORD, (MINOR, CONTEXT), 8, 0),
        instruction(MOV32, (OPEN, KIND), 0, 0),
        instruction(SHIFT_RIGHT32_CONST, (OPEN, 0), 0, 16),
        instruction(AND32_CONST, (KIND, 0), 0, 0xffff),
    ]);
    // Accesses that some rule has decided for all devices.
    let mut closed = 0;
    let mut verdict = false;
    for run in rules.chunk_by(|a, b| a.allow == b.allow) {
        let general = |rule: &&Rule| rule.covers(&Rule { access: rule.access, ..EVERYTHING });
        for rule in run.iter().filter(general) {
            closed |= rule.access;
            if closed == ALL {
                verdict = rule.allow;
                break;
            }
            assembly.general(rule);
        }
        if closed == ALL {
            break;
        }
        let (full, partial): (Vec<Rule>, Vec<Rule>) =
            run.iter().filter(|rule| !general(rule)).partition(|rule| rule.access | closed == ALL);
        for kind in [Type::Any, Type::Block, Type::Char] {
            let of_kind: Vec<&Rule> = full.iter().filter(|rule| rule.kind == kind).collect();
            assembly.tree(kind, run[0].allow, &of_kind);
        }
        partial.iter().for_each(|rule| assembly.single(rule));
    }
    assembly.finish(verdict)
}

impl Assembly {
    fn push(&mut self, code: u8, register: u8, constant: i32) -> usize {
        self.program.push(instruction(code, (register, 0), 0, constant));
        self.program.len() - 1
    }

    fn answer(&mut self, code: u8, register: u8, constant: i32, verdict: bool) {
        let at = self.push(code, register, constant);
        self.jumps.push((at, verdict));
    }

    /// Lets the jump at `at` lead to what comes next.
    fn land(&mut self, at: usize) {
        let offset = self.program.len() - at - 1;
        self.program[at] = self.program[at] & !0xffff_0000 | (offset as u64 & 0xffff) << 16;
    }

    /// Some accesses of all devices.
    fn general(&mut self, rule: &Rule) {
        if rule.allow {
            self.push(AND32_CONST, OPEN, i32::from(ALL & !rule.access));
            self.answer(JUMP_EQUAL32, OPEN, 0, true);
        } else {
            self.answer(JUMP_ANY_BIT32, OPEN, i32::from(rule.access), false);
        }
    }

    /// Rules about one type of device that decide all that is open.
    fn tree(&mut self, kind: Type, verdict: bool, rules: &[&Rule]) {
        if rules.is_empty() {
            return;
        }
        let mut to_end = self.unless_kind(kind);
        if rules.iter().any(|rule| rule.major.is_none() && rule.minor.is_none()) {
            self.answer(JUMP, 0, 0, verdict);
        } else {
            for minor in rules.iter().filter(|rule| rule.major.is_none()).filter_map(|rule| rule.minor) {
                self.answer(JUMP_EQUAL32, MINOR, minor.cast_signed(), verdict);
            }
            let mut majors: Vec<u32> = rules.iter().filter_map(|rule| rule.major).collect();
            majors.sort_unstable();
            majors.dedup();
            for (at, major) in majors.iter().enumerate() {
                let minors: Vec<Option<u32>> =
                    rules.iter().filter(|rule| rule.major == Some(*major)).map(|rule| rule.minor).collect();
                if minors.contains(&None) {
                    self.answer(JUMP_EQUAL32, MAJOR, major.cast_signed(), verdict);
                    continue;
                }
                let to_next = self.push(JUMP_NOT_EQUAL32, MAJOR, major.cast_signed());
                for minor in minors.into_iter().flatten() {
                    self.answer(JUMP_EQUAL32, MINOR, minor.cast_signed(), verdict);
                }
                if at + 1 < majors.len() {
                    to_end.push(self.push(JUMP, 0, 0));
                }
                self.land(to_next);
            }
        }
        to_end.into_iter().for_each(|at| self.land(at));
    }

    /// One rule about some accesses of some devices.
    fn single(&mut self, rule: &Rule) {
        let mut to_end = self.unless_kind(rule.kind);
        for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
            if let Some(number) = number {
                to_end.push(self.push(JUMP_NOT_EQUAL32, register, number.cast_signed()));
            }
        }
        self.general(rule);
        to_end.into_iter().for_each(|at| self.land(at));
    }

    fn unless_kind(&mut self, kind: Type) -> Vec<usize> {
        match kind {
            Type::Any => Vec::new(),
            Type::Block => vec![self.push(JUMP_NOT_EQUAL32, KIND, BLOCK)],
            Type::Char => vec![self.push(JUMP_NOT_EQUAL32, KIND, CHAR)],
        }
    }

    /// The verdict on what no rule has decided, then the other one if there is a way to it: the kernel refuses instructions that
    /// are never reached.
    fn finish(mut self, verdict: bool) -> Vec<u64> {
        for answer in [verdict, !verdict] {
            let jumps: Vec<usize> =
                self.jumps.iter().filter(|(_, to)| *to == answer).map(|(at, _)| *at).collect();
            if answer == verdict || !jumps.is_empty() {
                jumps.into_iter().for_each(|at| self.land(at));
                self.push(MOV32_CONST, ANSWER, i32::from(answer));
                self.push(EXIT, 0, 0);
            }
        }
        self.program
    }
}

#[cfg(test)]
mod tests;
