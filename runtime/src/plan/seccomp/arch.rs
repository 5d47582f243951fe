//! The system call interfaces that a filter can be made for, and which of them a kernel runs.
//!
//! Numbers of system calls are in [`super::numbers`].

use super::words;
use crate::error::Result;
use crate::spec::Seccomp;

/// A system call interface: numbers and width of arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    X86,
    /// 32-bit pointers in 64-bit mode: calls of x86_64 with `X32_BIT` in the number.
    X32,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM, EABI.
    Arm,
}

/// Set in the numbers of x32's system calls. KERNEL: arch/x86/include/uapi/asm/unistd.h
pub const X32_BIT: u32 = 0x4000_0000;

impl Arch {
    /// What this program was built for.
    pub const NATIVE: Self = if cfg!(target_arch = "x86_64") {
        Self::X86_64
    } else if cfg!(target_arch = "aarch64") {
        Self::Aarch64
    } else {
        panic!("seccomp: no table of system calls for this architecture")
    };

    /// What the kernel writes to `seccomp_data.arch`. KERNEL: include/uapi/linux/audit.h
    pub fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Whether arguments have 64 bits. x32's count as 32, as for libseccomp.
    pub fn is_wide(self) -> bool {
        matches!(self, Self::X86_64 | Self::Aarch64)
    }

    /// What a kernel for `self` can run: the others' system calls can't come, so that rules for them would be dead.
    pub(super) fn family(self) -> &'static [Self] {
        match self {
            Self::X86_64 | Self::X86 | Self::X32 => &[Self::X86_64, Self::X86, Self::X32],
            Self::Aarch64 | Self::Arm => &[Self::Aarch64, Self::Arm],
        }
    }

    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "SCMP_ARCH_X86_64" => Self::X86_64,
            "SCMP_ARCH_X86" => Self::X86,
            "SCMP_ARCH_X32" => Self::X32,
            "SCMP_ARCH_AARCH64" => Self::Aarch64,
            "SCMP_ARCH_ARM" => Self::Arm,
            _ => return None,
        })
    }
}

/// Those of the profile's architectures that `native` runs, each once; the native one is not added here.
///
/// A known architecture that `native` can't run is passed over: no call of it can reach the filter, so that the filter means the
/// same without. (libseccomp makes rules for it, or fails when its byte order differs.)
pub fn listed(spec: &Seccomp, native: Arch) -> Result<Vec<Arch>> {
    let mut listed = Vec::with_capacity(3);
    for (at, name) in spec.architectures.iter().enumerate() {
        match Arch::named(name) {
            Some(arch) if !native.family().contains(&arch) || listed.contains(&arch) => {}
            Some(arch) => listed.push(arch),
            None if words::ARCHITECTURES.contains(&name.as_str()) => {}
            None => {
                let place = format_args!("linux.seccomp.architectures[{at}]");
                return Err(words::unknown(place, "architecture", name, words::ARCHITECTURES));
            }
        }
    }
    Ok(listed)
}
