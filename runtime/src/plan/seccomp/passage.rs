//! What a filter lets through of calls that are known beforehand: whether it can be loaded before they are made.
//!
//! Runs the program as the kernel would, with arguments of which only some are known. Where the answer is not sure, it is no.

use super::arch::Arch;
use super::insn::{self, Insn};
use super::{Filter, numbers, words};

/// Branch: greater, unsigned.
const IF_ABOVE: u16 = 0x25;

/// A call that will be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// As profiles name it.
    pub name: &'static str,
    /// Its arguments; `None`: an address, or what else is not known now.
    pub args: [Option<u64>; 6],
}

impl Call {
    /// With nothing known of its arguments.
    pub const fn any(name: &'static str) -> Self {
        Self { name, args: [None; 6] }
    }

    /// With the first arguments known as far as they are.
    pub fn with<const N: usize>(name: &'static str, known: [Option<u64>; N]) -> Self {
        let mut args = [None; 6];
        args[..N].copy_from_slice(&known);
        Self { name, args }
    }
}

impl Filter {
    /// Whether the call is made and answered as without the filter. One that `native` doesn't have is never made; a name that nothing
    /// has is a mistake of ours.
    pub fn lets_through(&self, native: Arch, call: &Call) -> bool {
        let Some(entry) = numbers::find(call.name) else { return false };
        let Some(number) = entry.number(native) else { return true };
        let action = run(&self.program, native, number, &call.args);
        action.is_some_and(|action| matches!(action & 0xffff_0000, words::ALLOW | words::LOG))
    }
}

/// What the program returns; `None` if that depends on what is not known, or the program is not one of ours.
fn run(program: &[Insn], native: Arch, number: u32, args: &[Option<u64>; 6]) -> Option<u32> {
    let mut at = 0;
    let mut word: Option<u32> = Some(0);
    loop {
        let insn = program.get(at)?;
        at += 1;
        let holds = match insn.code {
            insn::LOAD => {
                word = load(insn.k, native, number, args);
                continue;
            }
            insn::AND => {
                word = word.map(|word| word & insn.k);
                continue;
            }
            insn::JUMP => {
                at = at.checked_add(insn.k as usize)?;
                continue;
            }
            insn::RETURN => return Some(insn.k),
            insn::IF_EQUAL => word? == insn.k,
            IF_ABOVE => word? > insn.k,
            insn::IF_AT_LEAST => word? >= insn.k,
            insn::IF_ANY_BIT => word? & insn.k != 0,
            _ => return None,
        };
        at += usize::from(if holds { insn.jt } else { insn.jf });
    }
}

fn load(offset: u32, native: Arch, number: u32, args: &[Option<u64>; 6]) -> Option<u32> {
    match offset {
        insn::NUMBER => Some(number),
        insn::AUDIT_ARCH => Some(native.audit()),
        _ => {
            let at = offset.checked_sub(insn::ARGUMENTS).filter(|at| at % 4 == 0)?;
            let arg = (*args.get(at as usize / 8)?)?;
            Some((arg >> (at % 8 * 8)) as u32)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn returns(program: &[(u16, u8, u8, u32)], args: [Option<u64>; 6]) -> Option<u32> {
        let insns: Vec<Insn> = program.iter().map(|&(code, jt, jf, k)| Insn { code, jt, jf, k }).collect();
        run(&insns, Arch::X86_64, 7, &args)
    }

    #[test]
    fn what_is_not_known_counts_only_where_it_is_asked_for() {
        let program = [
            (insn::LOAD, 0, 0, 0),
            (insn::IF_EQUAL, 0, 1, 7),
            (insn::RETURN, 0, 0, 1),
            (insn::LOAD, 0, 0, 16),
        ];
        assert_eq!(returns(&program, [None; 6]), Some(1));
        for (half, k, wanted) in [(16, 3, Some(1)), (16, 4, Some(2)), (20, 9, Some(1)), (24, 3, None)] {
            let program = [
                (insn::LOAD, 0, 0, half),
                (insn::IF_EQUAL, 0, 1, k),
                (insn::RETURN, 0, 0, 1),
                (insn::RETURN, 0, 0, 2),
            ];
            let known = [Some(9 << 32 | 3), None, None, None, None, None];
            assert_eq!(returns(&program, known), wanted, "{half} {k}");
        }
    }

    #[test]
    fn a_program_that_is_none_of_ours_is_no_answer() {
        for program in [
            &[][..],
            &[(0x60, 0, 0, 0), (insn::RETURN, 0, 0, words::ALLOW)],
            &[(insn::JUMP, 0, 0, u32::MAX)],
            &[(insn::LOAD, 0, 0, 8), (insn::IF_EQUAL, 0, 0, 0), (insn::RETURN, 0, 0, words::ALLOW)],
            &[(insn::LOAD, 0, 0, 18), (insn::IF_EQUAL, 0, 0, 0), (insn::RETURN, 0, 0, words::ALLOW)],
            &[(insn::LOAD, 0, 0, 64), (insn::IF_EQUAL, 0, 0, 0), (insn::RETURN, 0, 0, words::ALLOW)],
        ] {
            assert_eq!(returns(program, [Some(0); 6]), None, "{program:?}");
        }
    }

    #[test]
    fn only_allowing_and_logging_lets_through() {
        let all = [
            (words::ALLOW, true),
            (words::LOG, true),
            (words::ERRNO, false),
            (words::TRACE, false),
            (words::KILL_THREAD, false),
            (0x8000_0000, false),
            (0x7fc0_0000, false),
            (0x0003_0000, false),
        ];
        for (action, wanted) in all {
            let program = vec![Insn::plain(insn::RETURN, action)];
            let filter = Filter { program, flags: 0, ignored: Vec::new() };
            assert_eq!(filter.lets_through(Arch::X86_64, &Call::any("read")), wanted, "{action:#x}");
            assert!(!filter.lets_through(Arch::X86_64, &Call::any("raed")), "{action:#x}");
        }
    }
}
