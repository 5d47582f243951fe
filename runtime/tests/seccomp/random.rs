//! Random profiles, the same ones at each run: each about few calls, so that rules meet.
//!
//! Their values are near each other and near the boundaries of 32 and 64 bits.

use runtime::plan::seccomp::Arch;
use runtime::spec::{Seccomp, SyscallArg, SyscallRule};

use super::reference;

/// What rules with conditions may be.
pub struct Shape {
    /// Their actions.
    pub actions: &'static [(&'static str, Option<u32>)],
    /// Their operators.
    pub operators: &'static [&'static str],
    /// Conditions of one rule at most.
    pub most_args: usize,
}

/// A sequence of profiles.
pub struct Generator {
    state: u64,
    shape: Shape,
}

impl Generator {
    /// The sequence that belongs to `seed`.
    pub fn new(seed: u64, shape: Shape) -> Self {
        Self { state: seed.wrapping_mul(2).wrapping_add(1), shape }
    }

    /// A number below `limit`. (xorshift64*)
    pub fn below(&mut self, limit: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A profile for `native`.
    pub fn profile(&mut self, native: Arch) -> Seccomp {
        let archs: &[&str] = match native {
            Arch::X86_64 => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            _ => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        };
        let (default_action, default_errno_ret) = self.pick(&ACTIONS);
        let mut spec = Seccomp {
            default_action: default_action.to_owned(),
            default_errno_ret,
            architectures: archs.iter().filter(|_| self.below(2) == 0).map(|&arch| arch.to_owned()).collect(),
            ..Seccomp::default()
        };
        for _ in 0..self.below(8) {
            let rule = self.rule(native);
            spec.syscalls.push(rule);
        }
        spec
    }

    fn rule(&mut self, native: Arch) -> SyscallRule {
        let wide = self.below(3) == 0;
        let names = (0..1 + self.below(if wide { 60 } else { 3 })).map(|_| self.name(native, wide)).collect();
        let args = (0..if wide { 0 } else { self.below(self.shape.most_args + 1) })
            .map(|_| self.arg())
            .collect::<runtime::spec::List<_>>();
        let (action, errno_ret) = self.pick(if args.is_empty() { &ACTIONS } else { self.shape.actions });
        SyscallRule { names, action: action.to_owned(), errno_ret, args }
    }

    fn name(&mut self, native: Arch, wide: bool) -> String {
        const NEAR: [&str; 12] = [
            "read",
            "write",
            "ioctl",
            "socket",
            "socketcall",
            "ipc",
            "semget",
            "rt_sigaction",
            "clone3",
            "set_tls",
            "mmap2",
            "nosuchcall",
        ];
        if !wide {
            return self.pick(&NEAR).to_owned();
        }
        let arch = if native == Arch::X86_64 {
            self.pick(&[native, Arch::X86])
        } else {
            self.pick(&[native, Arch::Arm])
        };
        loop {
            if let Some(name) = reference::name(arch, self.below(470) as u32) {
                return name.to_owned();
            }
        }
    }

    fn arg(&mut self) -> SyscallArg {
        let index = self.below(3) as u32 * 2;
        let value = self.value();
        SyscallArg { index, value, value_two: self.value(), op: self.pick(self.shape.operators).to_owned() }
    }

    fn value(&mut self) -> u64 {
        let near = self.below(4) as u64;
        match self.below(6) {
            0 => u64::from(u32::MAX) - near,
            1 => (1 << 32) + near,
            2 => u64::MAX - near,
            3 => near << 32,
            _ => near,
        }
    }
}

/// All actions.
pub const ACTIONS: [(&str, Option<u32>); 10] = [
    ("SCMP_ACT_ALLOW", None),
    ("SCMP_ACT_ERRNO", None),
    ("SCMP_ACT_ERRNO", Some(38)),
    ("SCMP_ACT_ERRNO", Some(0)),
    ("SCMP_ACT_KILL", None),
    ("SCMP_ACT_KILL_THREAD", None),
    ("SCMP_ACT_KILL_PROCESS", None),
    ("SCMP_ACT_TRAP", None),
    ("SCMP_ACT_TRACE", Some(7)),
    ("SCMP_ACT_LOG", None),
];
