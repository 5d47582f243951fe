//! What is said of a filter beforehand, against what the profile means.

use runtime::plan::seccomp::{Arch, Call};

use super::reference::{self, Reference};
use super::{MOBY, PROFILES, argument_lists, filter, parse, simulator};

/// SECCOMP_RET_ALLOW and SECCOMP_RET_LOG.
const THROUGH: [u32; 2] = [0x7fff_0000, 0x7ffc_0000];

#[test]
fn what_is_said_beforehand_is_what_the_profile_means() {
    for (profile, text, native) in PROFILES {
        let spec = parse(text);
        let (reference, filter) = (Reference::new(&spec, native), filter(&spec, native));
        let (lists, conditional) = (argument_lists(&spec), reference::conditional(&spec));
        let mut through = 0;
        for number in reference::numbers(native) {
            let Some(name) = reference::name(native, number) else { continue };
            let verdict = |args| reference.verdict(&simulator::Call { audit: native.audit(), number, args });
            let all = if conditional.contains(&(native.audit(), number)) { lists.len() } else { 3 };
            for &args in &lists[..all] {
                let said = filter.lets_through(native, &Call { name, args: args.map(Some) });
                let meant = THROUGH.contains(&(verdict(args) & 0xffff_0000));
                assert_eq!(said, meant, "{profile}: {name} with {args:x?}");
            }
            // Without a word about arguments it is only so if it is always so.
            if filter.lets_through(native, &Call::any(name)) {
                through += 1;
                assert!(
                    lists[..all].iter().all(|args| THROUGH.contains(&(verdict(*args) & 0xffff_0000))),
                    "{name}"
                );
            }
        }
        assert!(through > 200, "{profile}: {through} calls");
    }
}

#[test]
fn default_profiles_let_a_clone_without_namespaces_through_and_no_other() {
    let filter = filter(&parse(MOBY), Arch::X86_64);
    let clone = |flags: Option<u64>| {
        filter.lets_through(Arch::X86_64, &Call::with("clone", [flags, Some(0), Some(0), Some(0), Some(0)]))
    };
    assert!(clone(Some(0x8000 | 17)));
    assert!(!clone(Some(0x1000_0000 | 17)) && !clone(None));
    assert!(!filter.lets_through(Arch::X86_64, &Call::any("clone3")));
}

#[test]
fn a_call_that_the_architecture_lacks_is_never_made() {
    let profile = parse(r#"{"defaultAction": "SCMP_ACT_KILL", "architectures": ["SCMP_ARCH_AARCH64"]}"#);
    let filter = filter(&profile, Arch::Aarch64);
    assert!(filter.lets_through(Arch::Aarch64, &Call::any("poll")));
    assert!(!filter.lets_through(Arch::Aarch64, &Call::any("ppoll")));
}
