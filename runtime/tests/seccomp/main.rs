//! Filters against the meaning of their profiles: a simulator runs each program over every system call number, boundary values of the
//! arguments, and all architectures; a reference interpreter of the profile and libseccomp's own program say what is right.

mod errors;
mod libseccomp;
mod loading;
mod passage;
mod random;
mod reference;
mod simulator;

use std::time::{Duration, Instant};

use reference::Reference;
use runtime::plan::seccomp::{Arch, Filter, Insn, OPERATORS, compile};
use runtime::spec::Seccomp;
use simulator::Call;

const MOBY: &str = include_str!("../../../tests/data/seccomp/moby.json");
const MOBY_ARM64: &str = include_str!("../../../tests/data/seccomp/moby-arm64.json");
const CONTAINERD: &str = include_str!("../../../tests/data/seccomp/containerd.json");
const PODMAN: &str = include_str!("../../../tests/data/seccomp/podman.json");
const DENY: &str = include_str!("../../../tests/data/seccomp/deny.json");

/// The profiles and the machines that they are for.
const PROFILES: [(&str, &str, Arch); 5] = [
    ("moby", MOBY, Arch::X86_64),
    ("moby-arm64", MOBY_ARM64, Arch::Aarch64),
    ("containerd", CONTAINERD, Arch::X86_64),
    ("podman", PODMAN, Arch::X86_64),
    ("deny", DENY, Arch::X86_64),
];

fn parse(text: &str) -> Seccomp {
    serde_json::from_str(text).expect("a profile")
}

fn filter(spec: &Seccomp, native: Arch) -> Filter {
    let filter = compile(spec, native).expect("a valid profile").expect("a filter");
    simulator::check(&filter.program).expect("a program that the kernel takes");
    filter
}

/// Numbers with and without meaning: all that tables hold, and the ends of the ranges that get a rule of their own.
fn numbers() -> impl Iterator<Item = u32> {
    let far = [
        0x3fff_ffff,
        0x7fff_ffff,
        0x8000_0000,
        0x8000_0001,
        0xbfff_ffff,
        0xc000_0000,
        0xc000_0001,
        0xffff_fffe,
        u32::MAX,
    ];
    (0..=600).chain(0x4000_0000..=0x4000_0258).chain(0xe_ffff..=0xf_0010).chain(far)
}

/// The AUDIT_ARCH values of all architectures here, and that of a big-endian machine.
fn audits() -> [u32; 5] {
    [Arch::X86_64.audit(), Arch::X86.audit(), Arch::Aarch64.audit(), Arch::Arm.audit(), 0x8000_0016]
}

/// Values around those that the profile compares with, for all arguments that it compares.
fn argument_lists(spec: &Seccomp) -> Vec<[u64; 6]> {
    let mut lists = vec![[0; 6], [u64::MAX; 6], [1; 6]];
    for arg in spec.syscalls.iter().flat_map(|rule| rule.args.iter()) {
        let index = arg.index as usize;
        for value in [arg.value, arg.value_two, arg.value & arg.value_two, !arg.value] {
            let near =
                [value, value.wrapping_sub(1), value.wrapping_add(1), value ^ 1 << 32, value | 1 << 63];
            for near in near.into_iter().chain([value & 0xffff_ffff, value << 32]) {
                for base in [0, 9, 16] {
                    let mut list = [base; 6];
                    list[index] = near;
                    lists.push(list);
                }
            }
        }
    }
    // The first three are the extremes.
    lists[3..].sort_unstable();
    lists.dedup();
    lists
}

/// Panics at the first call that `program` treats otherwise than `verdict` wants.
fn assert_same(what: &str, program: &[Insn], spec: &Seccomp, verdict: impl Fn(&Call) -> u32) {
    let all: Vec<u32> = numbers().collect();
    let (tried, wrong) = differences(program, spec, &all, verdict);
    assert!(wrong.is_empty(), "{what}: {:#x?} of {} wrong ones", &wrong[0], wrong.len());
    println!("{what}: {} instructions, {tried} calls", program.len());
}

/// How many calls were tried, and those that `program` treats otherwise than `verdict` wants: got, wanted.
fn differences(
    program: &[Insn],
    spec: &Seccomp,
    numbers: &[u32],
    verdict: impl Fn(&Call) -> u32,
) -> (u64, Vec<(Call, u32, u32)>) {
    let lists = argument_lists(spec);
    let conditional = reference::conditional(spec);
    let mut tried = 0;
    let mut wrong = Vec::new();
    for audit in audits() {
        for &number in numbers {
            // Where neither the program nor the profile looks at arguments, three lists of them will do.
            let plain = verdict(&Call { audit, number, args: lists[0] });
            let differs = |args| simulator::run(program, &Call { audit, number, args }).0 != plain;
            let is_named = conditional.iter().any(|&(named, at)| (named, at) == (audit, number));
            let enough = if is_named || lists.iter().any(|&args| differs(args)) { lists.len() } else { 3 };
            for &args in &lists[..enough] {
                let call = Call { audit, number, args };
                let (got, wanted) = (simulator::run(program, &call).0, verdict(&call));
                tried += 1;
                if got != wanted {
                    wrong.push((call, got, wanted));
                }
            }
        }
    }
    (tried, wrong)
}

#[test]
fn default_profiles_mean_what_they_say_for_every_call() {
    for (name, text, native) in PROFILES {
        let spec = parse(text);
        let reference = Reference::new(&spec, native);
        assert_same(name, &filter(&spec, native).program, &spec, |call| reference.verdict(call));
    }
}

/// Random profiles are about few calls: those that they name, their neighbours, the calls that go through others, and the ends.
fn numbers_near(spec: &Seccomp) -> Vec<u32> {
    let named =
        reference::named(spec).into_iter().flat_map(|(_, number)| number.saturating_sub(1)..=number + 1);
    let mut near: Vec<u32> =
        named.chain(numbers().skip(601 * 2)).chain([0, 102, 117, 600, 0x4000_0000]).collect();
    near.sort_unstable();
    near.dedup();
    near
}

#[test]
fn random_profiles_mean_what_they_say() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("RT_FUZZ_SEED").unwrap_or(0);
    let end = Instant::now() + Duration::from_secs(number("RT_FUZZ_SECONDS").unwrap_or(0));
    let mut tried = 0;
    // As many as are the same at each run; with `hack/fuzz` more of them, until the time is over.
    for seed in (first..).take_while(|seed| *seed < first + 60 || Instant::now() < end) {
        let (actions, most_args) =
            if seed % 2 == 0 { (&random::ACTIONS[..], 1) } else { (&[("SCMP_ACT_ERRNO", Some(5))][..], 3) };
        let shape = random::Shape { actions, operators: OPERATORS, most_args };
        let native = if seed % 3 == 0 { Arch::Aarch64 } else { Arch::X86_64 };
        let spec = random::Generator::new(seed, shape).profile(native);
        let Ok(filter) = compile(&spec, native) else {
            continue;
        };
        let program = filter.expect("a filter").program;
        simulator::check(&program).expect("a program that the kernel takes");
        let reference = Reference::new(&spec, native);
        let (calls, wrong) =
            differences(&program, &spec, &numbers_near(&spec), |call| reference.verdict(call));
        assert!(wrong.is_empty(), "seed {seed}: {:#x?} of {} wrong ones; {spec:#?}", &wrong[0], wrong.len());
        tried += calls;
    }
    assert!(tried > 30_000, "{tried} calls");
}

#[test]
fn absent_flags_mean_spec_allow_and_no_action_means_no_filter() {
    let flags = |text: &str| filter(&parse(text), Arch::X86_64).flags;
    assert_eq!(flags(r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#), 4);
    assert_eq!(flags(r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": null}"#), 4);
    assert_eq!(flags(r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": []}"#), 0);
    let all = runtime::plan::seccomp::FLAGS;
    assert_eq!(flags(&format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "flags": {all:?}}}"#)), 1 | 2 | 4);
    assert_eq!(
        compile(&parse(r#"{"architectures": ["SCMP_ARCH_X86"]}"#), Arch::X86_64).expect("valid"),
        None
    );
}

#[test]
fn unknown_names_are_reported_and_ignored() {
    let rule = r#"{"names": ["s390_runtime_instr", "read", "nosuch"], "action": "SCMP_ACT_ERRNO"}"#;
    let filter = filter(
        &parse(&format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rule}]}}"#)),
        Arch::X86_64,
    );
    assert_eq!(filter.ignored, ["s390_runtime_instr", "nosuch"]);
}

#[test]
fn architectures_that_the_kernel_cannot_run_change_nothing() {
    let with = |archs: &str| {
        let text = CONTAINERD.replace(r#""SCMP_ARCH_X32"]"#, &format!(r#""SCMP_ARCH_X32"{archs}]"#));
        filter(&parse(&text), Arch::X86_64).program
    };
    assert_eq!(with(r#", "SCMP_ARCH_ARM", "SCMP_ARCH_S390X", "SCMP_ARCH_X86""#), with(""));
}
