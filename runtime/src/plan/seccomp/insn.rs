//! Instructions of classic BPF: plain data, and the few of them that a filter consists of.
//!
//! Knows nothing of profiles. KERNEL: include/uapi/linux/bpf_common.h, Documentation/userspace-api/seccomp_filter.rst.

use serde::{Deserialize, Serialize};

/// One instruction, laid out as the kernel's `struct sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Insn {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when the comparison holds.
    pub jt: u8,
    /// Instructions to skip when it doesn't.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// Bytes of one instruction.
pub const SIZE: usize = 8;

/// Load the word at offset `k` of `struct seccomp_data`.
pub const LOAD: u16 = 0x20;
/// Keep the bits of `k`.
pub const AND: u16 = 0x54;
/// Skip `k` instructions.
pub const JUMP: u16 = 0x05;
/// Branch: equal.
pub const IF_EQUAL: u16 = 0x15;
/// Branch: greater or equal, unsigned.
pub const IF_AT_LEAST: u16 = 0x35;
/// Branch: any bit of `k` set.
pub const IF_ANY_BIT: u16 = 0x45;
/// End with the action `k`.
pub const RETURN: u16 = 0x06;

/// Offset of the system call's number in `struct seccomp_data`.
pub const NUMBER: u32 = 0;
/// Offset of the AUDIT_ARCH_* value.
pub const AUDIT_ARCH: u32 = 4;
/// Offset of the first argument; each has 8 bytes, the lower half first on the architectures here.
pub const ARGUMENTS: u32 = 16;

impl Insn {
    /// An instruction that doesn't branch.
    pub const fn plain(code: u16, k: u32) -> Self {
        Self { code, jt: 0, jf: 0, k }
    }
}

/// The program as the bytes of the kernel's array, in this machine's byte order: it is read back on the same machine.
pub fn to_bytes(program: &[Insn]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(program.len() * SIZE);
    for insn in program {
        bytes.extend_from_slice(&insn.code.to_ne_bytes());
        bytes.extend_from_slice(&[insn.jt, insn.jf]);
        bytes.extend_from_slice(&insn.k.to_ne_bytes());
    }
    bytes
}

/// The inverse of [`to_bytes`]; `None` where the length is no multiple of an instruction's.
pub fn from_bytes(bytes: &[u8]) -> Option<Vec<Insn>> {
    let (insns, rest) = bytes.as_chunks::<SIZE>();
    let read = |b: &[u8; SIZE]| Insn {
        code: u16::from_ne_bytes([b[0], b[1]]),
        jt: b[2],
        jf: b[3],
        k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
    };
    rest.is_empty().then(|| insns.iter().map(read).collect())
}
