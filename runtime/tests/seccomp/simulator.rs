//! Classic BPF as the kernel runs it for seccomp: checks a program, then interprets it.
//!
//! Knows what the kernel accepts in a filter and nothing of profiles. KERNEL: net/core/filter.c, kernel/seccomp.c

use runtime::plan::seccomp::Insn;

/// A system call as a filter sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// AUDIT_ARCH_*
    pub audit: u32,
    /// Its number.
    pub number: u32,
    /// Its arguments.
    pub args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        let arg = |at: u32| self.args[at as usize / 2] >> (32 * (at % 2));
        match offset / 4 {
            0 => self.number,
            1 => self.audit,
            2 | 3 => 0,
            at => arg(at - 4) as u32,
        }
    }
}

/// What the kernel checks before it takes a program.
pub fn check(program: &[Insn]) -> Result<(), String> {
    if program.is_empty() || program.len() > 4096 {
        return Err(format!("{} instructions", program.len()));
    }
    for (at, insn) in program.iter().enumerate() {
        let left = program.len() - 1 - at;
        let fits = match insn.code {
            0x20 => insn.k < 64 && insn.k % 4 == 0,
            0x54 | 0x06 => true,
            0x05 => (insn.k as usize) < left,
            0x15 | 0x25 | 0x35 | 0x45 => usize::from(insn.jt.max(insn.jf)) < left,
            _ => false,
        };
        if !fits {
            return Err(format!("instruction {at} of {}: {insn:?}", program.len()));
        }
    }
    match program.last() {
        Some(last) if last.code == 0x06 => Ok(()),
        _ => Err("the last instruction does not return".into()),
    }
}

/// The return value of a checked program, and how many instructions it took.
pub fn run(program: &[Insn], call: &Call) -> (u32, usize) {
    let (mut at, mut a, mut steps) = (0, 0_u32, 0);
    loop {
        let insn = program[at];
        at += 1;
        steps += 1;
        let holds = match insn.code {
            0x20 => {
                a = call.word(insn.k);
                continue;
            }
            0x54 => {
                a &= insn.k;
                continue;
            }
            0x05 => {
                at += insn.k as usize;
                continue;
            }
            0x06 => return (insn.k, steps),
            0x15 => a == insn.k,
            0x25 => a > insn.k,
            0x35 => a >= insn.k,
            0x45 => a & insn.k != 0,
            code => panic!("unchecked instruction {code:#x}"),
        };
        at += usize::from(if holds { insn.jt } else { insn.jf });
    }
}
