//! Which profile a request means, and that the default one is one that rt can make a filter of.

use super::*;

fn profile(kind: ProfileType, path: &str) -> api::SecurityProfile {
    api::SecurityProfile { profile_type: kind.into(), localhost_ref: path.into() }
}

#[test]
fn the_new_field_wins_and_neither_means_none() {
    let default = profile(ProfileType::RuntimeDefault, "");
    for (new, old, expected) in [
        (None, "", Choice::Unconfined),
        (None, "unconfined", Choice::Unconfined),
        (None, "runtime/default", Choice::Default),
        (None, "docker/default", Choice::Default),
        (None, "localhost//p.json", Choice::File("/p.json".into())),
        (Some(&default), "unconfined", Choice::Default),
        (Some(&profile(ProfileType::Unconfined, "")), "runtime/default", Choice::Unconfined),
        (Some(&profile(ProfileType::Localhost, "/p.json")), "", Choice::File("/p.json".into())),
    ] {
        assert_eq!(choice(new, old).unwrap(), expected, "{new:?} {old:?}");
    }
}

#[test]
fn mistakes_are_named() {
    let unknown = api::SecurityProfile { profile_type: 7, ..Default::default() };
    for (new, old, message) in [
        (
            Some(&profile(ProfileType::Localhost, "p.json")),
            "",
            "seccomp: profile \"p.json\" is not an absolute path",
        ),
        (Some(&unknown), "", "seccomp: unknown profile type 7"),
        (
            None,
            "other",
            "seccomp_profile_path \"other\" (it is runtime/default, unconfined or localhost/PATH)",
        ),
    ] {
        assert_eq!(choice(new, old).unwrap_err().to_string(), message);
    }
    let file = Choice::File("/p".into());
    for (text, message) in [
        ("{", "read seccomp profile /p: EOF while parsing an object at line 1 column 1"),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["x"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_BPF"]}}]}"#,
            "read seccomp profile /p: it has docker's form (archMap, includes, excludes) (write the runtime-spec's form: architectures, and rules without conditions)",
        ),
    ] {
        assert_eq!(filter(&file, Some(text.as_bytes()), &HashSet::new()).unwrap_err().to_string(), message);
    }
}

#[test]
fn a_file_in_the_specs_form_is_taken_as_it_is() {
    let text = br#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "includes": {}}]}"#;
    let made = filter(&Choice::File("/p".into()), Some(text), &HashSet::new()).unwrap().unwrap();
    assert_eq!(made.syscalls().as_ref().unwrap()[0].names(), &["chmod"]);
}

fn allowed(profile: &LinuxSeccomp) -> HashSet<String> {
    let rules = profile.syscalls().iter().flatten();
    let whole = rules.filter(|rule| rule.action() == Action::ScmpActAllow && rule.args().is_none());
    whole.flat_map(|rule| rule.names().clone()).collect()
}

#[test]
fn capabilities_open_the_calls_that_they_are_good_for() {
    let plain = allowed(&default_profile(&HashSet::new()));
    let admin = allowed(&default_profile(&[Capability::SysAdmin].into()));
    for name in ["mount", "unshare", "clone3", "clone", "bpf"] {
        assert!(!plain.contains(name) && admin.contains(name), "{name}");
    }
    for name in ["keyctl", "io_uring_setup", "userfaultfd", "kexec_load", "init_module", "swapon"] {
        assert!(!admin.contains(name), "{name}");
    }
    assert!(plain.contains("openat2") && !plain.contains("chroot"));
}

#[test]
fn each_call_stands_once() {
    let mut names: Vec<_> = table::ALWAYS.iter().flat_map(|(_, names)| names.split_whitespace()).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn rt_makes_a_filter_of_it() {
    for bounding in [HashSet::new(), [Capability::SysAdmin].into()] {
        let text = serde_json::to_string(&default_profile(&bounding)).unwrap();
        let read: runtime::spec::Seccomp = serde_json::from_str(&text).unwrap();
        runtime::plan::seccomp::compile(&read, runtime::plan::seccomp::Arch::NATIVE).unwrap();
    }
}

// A rule with conditions for `socket` would also open socketcall's way to it, unless a rule without conditions is there.
#[test]
fn sockets_are_made_by_socket_alone() {
    for bounding in [HashSet::new(), [Capability::SysAdmin, Capability::NetAdmin].into()] {
        let profile = default_profile(&bounding);
        let rules = profile.syscalls().iter().flatten();
        let mut through = rules.filter(|rule| rule.names().iter().any(|name| name == "socketcall"));
        let only = through.next().unwrap();
        assert_eq!((only.action(), only.errno_ret()), (Action::ScmpActErrno, Some(38)));
        assert!(only.args().is_none() && through.next().is_none());
    }
}
