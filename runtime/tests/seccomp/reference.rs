//! What an OCI profile means, call by call, straight from its text: the oracle that programs are held against.
//!
//! Shares nothing with the compiler: it goes from a number to its name, and tries the rules on one call at a time. Slow.

use runtime::plan::seccomp::Arch;
use runtime::spec::{Seccomp, SyscallArg, SyscallRule};

use super::simulator::Call;

/// x32's own numbers, 512 to 547. KERNEL: arch/x86/entry/syscalls/syscall_64.tbl
const X32_OWN: &str = "rt_sigaction rt_sigreturn ioctl readv writev recvfrom sendmsg recvmsg execve ptrace rt_sigpending
    rt_sigtimedwait rt_sigqueueinfo sigaltstack timer_create mq_notify kexec_load waitid set_robust_list get_robust_list vmsplice
    move_pages preadv pwritev rt_tgsigqueueinfo recvmmsg sendmmsg process_vm_readv process_vm_writev setsockopt getsockopt io_setup
    io_submit execveat preadv2 pwritev2";
/// What x86_64 has and x32 has not at all.
const NOT_X32: &str =
    "uselib _sysctl create_module get_kernel_syms query_module nfsservctl set_thread_area get_thread_area
    epoll_ctl_old epoll_wait_old vserver uretprobe uprobe map_shadow_stack";
const SOCKETCALL: &str = "- socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom shutdown
    setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg";
const IPC: &str = "- semop semget semctl semtimedop - - - - - - msgsnd msgrcv msgget msgctl - - - - - - shmat shmdt shmget shmctl";

const KILL: u32 = 0;
/// ERRNO with ENOSYS.
pub const ENOSYS: u32 = 0x5_0026;

/// All interfaces, by SCMP_ARCH_* name.
pub const INTERFACES: [(&str, Arch); 5] = [
    ("SCMP_ARCH_X86_64", Arch::X86_64),
    ("SCMP_ARCH_X86", Arch::X86),
    ("SCMP_ARCH_X32", Arch::X32),
    ("SCMP_ARCH_AARCH64", Arch::Aarch64),
    ("SCMP_ARCH_ARM", Arch::Arm),
];

/// The name of a number of `arch` (x32's with its bit).
pub fn name(arch: Arch, number: u32) -> Option<&'static str> {
    use syscalls::{aarch64, arm, x86, x86_64};
    let id = number as usize;
    match arch {
        Arch::X86_64 => x86_64::Sysno::new(id).map(|call| call.name()),
        Arch::X86 if number == 17 => Some("break"),
        Arch::X86 => x86::Sysno::new(id).map(|call| call.name()),
        Arch::Aarch64 if number == 79 => Some("newfstatat"),
        Arch::Aarch64 if (403..=423).contains(&number) => None,
        Arch::Aarch64 => aarch64::Sysno::new(id).map(|call| call.name()),
        Arch::Arm if (0xf0001..=0xf0006).contains(&number) => {
            "breakpoint cacheflush usr26 usr32 set_tls get_tls".split(' ').nth(id - 0xf0001)
        }
        Arch::Arm => arm::Sysno::new(id).map(|call| call.name()),
        Arch::X32 if number >> 30 != 1 => None,
        Arch::X32 => {
            let id = id & 0x3fff_ffff;
            let own = |name: &str| X32_OWN.split_whitespace().position(|own| own == name);
            match x86_64::Sysno::new(id).map(|call| call.name()) {
                Some(name) if own(name).is_none() && NOT_X32.split_whitespace().all(|not| not != name) => {
                    Some(name)
                }
                Some(_) => None,
                None if id >= 512 => X32_OWN.split_whitespace().nth(id - 512),
                None => None,
            }
        }
    }
}

/// The numbers that an architecture can have.
pub fn numbers(arch: Arch) -> Box<dyn Iterator<Item = u32>> {
    match arch {
        Arch::X32 => Box::new((0x4000_0000..).take(600)),
        Arch::Arm => Box::new((0..600).chain(0xf0000..0xf0010)),
        _ => Box::new(0..600),
    }
}

/// A profile, and the newest call that it names on each architecture.
pub struct Reference<'a> {
    spec: &'a Seccomp,
    native: Arch,
    newest: Vec<(Arch, u32)>,
}

impl<'a> Reference<'a> {
    /// Of a profile that is valid.
    pub fn new(spec: &'a Seccomp, native: Arch) -> Self {
        let listed =
            INTERFACES.iter().filter(|(name, _)| spec.architectures.iter().any(|listed| listed == name));
        let newest = listed.map(|&(_, arch)| (arch, newest(spec, arch))).collect();
        Self { spec, native, newest }
    }

    /// What becomes of a call.
    pub fn verdict(&self, call: &Call) -> u32 {
        let is_x86_64 = call.audit == Arch::X86_64.audit();
        let is_in = |arch: Arch| arch == self.native || self.newest.iter().any(|&(listed, _)| listed == arch);
        let Some(arch) = self.interface(call) else { return KILL };
        if self.is_too_new(call) {
            return ENOSYS;
        }
        let is_skipped = call.number == u32::MAX;
        let is_foreign = if is_x86_64 && !is_in(Arch::X32) {
            call.number >= 0x4000_0000 && !is_skipped
        } else {
            !is_in(arch)
        };
        if is_foreign { KILL } else { self.rules(arch, call) }
    }

    /// Whether it is newer than the newest call that the profile names, and the default action is not to let such calls through.
    pub fn is_too_new(&self, call: &Call) -> bool {
        let arch = self.interface(call);
        let newest =
            self.newest.iter().find(|&&(listed, _)| Some(listed) == arch).map_or(0, |&(_, newest)| newest);
        let is_permissive =
            matches!(self.spec.default_action.as_str(), "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG" | "SCMP_ACT_TRACE");
        newest != 0 && call.number > newest && !is_permissive
    }

    /// Which interface a call is made through, of those that the kernel has.
    fn interface(&self, call: &Call) -> Option<Arch> {
        let has_bit = call.number & 0x4000_0000 != 0;
        let here: &[Arch] = match self.native {
            Arch::X86_64 => &[Arch::X86_64, Arch::X86, Arch::X32],
            _ => &[Arch::Aarch64, Arch::Arm],
        };
        here.iter().copied().find(|arch| match arch {
            Arch::X86_64 => arch.audit() == call.audit && !has_bit,
            Arch::X32 => arch.audit() == call.audit && has_bit,
            other => other.audit() == call.audit,
        })
    }

    fn rules(&self, arch: Arch, call: &Call) -> u32 {
        let default = value(&self.spec.default_action, self.spec.default_errno_ret);
        let own = name(arch, call.number);
        let through = match (arch, call.number) {
            (Arch::X86, 102) => SOCKETCALL,
            (Arch::X86, 117) => IPC,
            _ => "",
        };
        let mut best: Option<(Rank, u32)> = None;
        for rule in self.spec.syscalls.iter() {
            let action = value(&rule.action, rule.errno_ret);
            if action == default {
                continue;
            }
            for listed in rule.names.iter() {
                let mut cases = Vec::new();
                if own == Some(listed) {
                    cases = cases_of(&rule.args);
                } else if let Some(number) = through.split_whitespace().position(|through| through == listed)
                {
                    let first = SyscallArg {
                        op: "SCMP_CMP_EQ".into(),
                        value: number as u64,
                        ..SyscallArg::default()
                    };
                    cases = cases_of(&rule.args);
                    for case in &mut cases {
                        case.retain(|arg| arg.index != 0);
                        case.insert(0, first.clone());
                    }
                }
                for mut case in cases {
                    // A mask of zeros asks for nothing.
                    case.retain(|arg| arg.op != "SCMP_CMP_MASKED_EQ" || cut(arg.value, arch) != 0);
                    if case.is_empty() {
                        return action;
                    }
                    let rank = rank(&case, arch);
                    let is_better = |other: &Rank| {
                        let mut pairs = rank.iter().zip(other);
                        pairs.find(|(a, b)| a != b).is_some_and(|(a, b)| a > b)
                    };
                    let wins = best.as_ref().is_none_or(|(other, _)| is_better(other));
                    if wins && case.iter().all(|arg| holds(arg, call, arch)) {
                        best = Some((rank, action));
                    }
                }
            }
        }
        best.map_or(default, |(_, action)| action)
    }
}

/// AUDIT_ARCH value and number of all calls that rules with arguments name.
pub fn conditional(spec: &Seccomp) -> Vec<(u32, u32)> {
    calls_of(spec.syscalls.iter().filter(|rule| !rule.args.is_empty()))
}

/// AUDIT_ARCH value and number of all calls that rules name.
pub fn named(spec: &Seccomp) -> Vec<(u32, u32)> {
    calls_of(spec.syscalls.iter())
}

fn calls_of<'a>(rules: impl Iterator<Item = &'a SyscallRule>) -> Vec<(u32, u32)> {
    let names: Vec<&str> = rules.flat_map(|rule| rule.names.iter().map(String::as_str)).collect();
    let of = |&(_, arch): &(&str, Arch)| {
        let named =
            numbers(arch).filter(|&number| name(arch, number).is_some_and(|name| names.contains(&name)));
        named.map(|number| (arch.audit(), number)).collect::<Vec<_>>()
    };
    INTERFACES.iter().flat_map(of).collect()
}

/// Compared condition by condition; the higher wins.
type Rank = Vec<(u32, u8, u64)>;

fn rank(case: &[SyscallArg], arch: Arch) -> Rank {
    let mut rank: Rank = case
        .iter()
        .map(|arg| match arg.op.as_str() {
            "SCMP_CMP_LT" | "SCMP_CMP_LE" => (arg.index, 2, !cut(arg.value, arch)),
            "SCMP_CMP_GT" | "SCMP_CMP_GE" => (arg.index, 1, cut(arg.value, arch)),
            "SCMP_CMP_MASKED_EQ" => (arg.index, 3, cut(arg.value & arg.value_two, arch)),
            _ => (arg.index, 3, cut(arg.value, arch)),
        })
        .collect();
    rank.sort_by_key(|&(index, _, _)| index);
    rank
}

/// One case, or one for each condition when two are about one argument.
pub fn cases_of(args: &[SyscallArg]) -> Vec<Vec<SyscallArg>> {
    let repeats = (0..6).any(|index| args.iter().filter(|arg| arg.index == index).count() > 1);
    if repeats { args.iter().map(|arg| vec![arg.clone()]).collect() } else { vec![args.to_vec()] }
}

fn cut(value: u64, arch: Arch) -> u64 {
    match arch {
        Arch::X86_64 | Arch::Aarch64 => value,
        _ => u64::from(value as u32),
    }
}

fn holds(arg: &SyscallArg, call: &Call, arch: Arch) -> bool {
    let given = cut(call.args[arg.index as usize], arch);
    let value = cut(arg.value, arch);
    match arg.op.as_str() {
        "SCMP_CMP_NE" => given != value,
        "SCMP_CMP_LT" => given < value,
        "SCMP_CMP_LE" => given <= value,
        "SCMP_CMP_EQ" => given == value,
        "SCMP_CMP_GE" => given >= value,
        "SCMP_CMP_GT" => given > value,
        "SCMP_CMP_MASKED_EQ" => given & value == cut(arg.value_two, arch) & value,
        other => panic!("operator {other}"),
    }
}

/// The filter's return value for an action.
pub fn value(action: &str, errno: Option<u32>) -> u32 {
    match action {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => KILL,
        "SCMP_ACT_KILL_PROCESS" => 1 << 31,
        "SCMP_ACT_TRAP" => 3 << 16,
        "SCMP_ACT_ERRNO" => 5 << 16 | errno.unwrap_or(1),
        "SCMP_ACT_TRACE" => 0x7ff0 << 16 | errno.unwrap_or(1),
        "SCMP_ACT_LOG" => 0x7ffc << 16,
        "SCMP_ACT_ALLOW" => 0x7fff << 16,
        other => panic!("action {other}"),
    }
}

fn newest(spec: &Seccomp, arch: Arch) -> u32 {
    let names: Vec<&str> =
        spec.syscalls.iter().flat_map(|rule| rule.names.iter().map(String::as_str)).collect();
    let is_through = |name: &str| {
        arch == Arch::X86
            && SOCKETCALL.split_whitespace().chain(IPC.split_whitespace()).any(|through| through == name)
    };
    let named =
        |&number: &u32| name(arch, number).is_some_and(|name| names.contains(&name) && !is_through(name));
    numbers(arch).filter(named).max().unwrap_or(0)
}
