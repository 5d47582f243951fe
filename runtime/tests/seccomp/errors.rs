//! Profiles that are refused: the message names the place, the value and what is known.

use runtime::Kind;
use runtime::plan::seccomp::{Arch, compile};
use serde_json::{Value, json};

/// A profile and its error's kind and beginning.
fn table() -> Vec<(Value, Kind, &'static str)> {
    let rule = |rule: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    let arg = |arg: Value| json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [arg]});
    let invalid = Kind::Invalid;
    vec![
        (
            json!({"defaultAction": "SCMP_ACT_DENY"}),
            invalid,
            "linux.seccomp.defaultAction: unknown action \"SCMP_ACT_DENY\" (known: SCMP_ACT_ALLOW, SCMP_ACT_ERRNO, SCMP_ACT_KILL,",
        ),
        (
            json!({"syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}),
            invalid,
            "linux.seccomp.defaultAction: unknown action \"\"",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_NOTIFY"}),
            Kind::Unsupported,
            "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY is not supported yet",
        ),
        (
            rule(json!({"names": ["nosuchcall"], "action": "SCMP_ACT_NOTIFY"})),
            Kind::Unsupported,
            "linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY is not supported yet",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}),
            invalid,
            "linux.seccomp.defaultAction: SCMP_ACT_ALLOW takes no errno, but 1 is given",
        ),
        (
            rule(json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096})),
            invalid,
            "linux.seccomp.syscalls[0].action: errno 4096 is not in 0..=4095",
        ),
        (
            rule(json!({"names": ["read"], "action": "SCMP_ACT_TRACE", "errnoRet": 65536})),
            invalid,
            "linux.seccomp.syscalls[0].action: errno 65536 is not in 0..=65535",
        ),
        (
            rule(json!({"names": ["read", ""], "action": "SCMP_ACT_ERRNO"})),
            invalid,
            "linux.seccomp.syscalls[0].names[1]: the name is empty",
        ),
        (
            rule(arg(json!({"index": 0, "value": 1, "op": "EQ"}))),
            invalid,
            "linux.seccomp.syscalls[0].args[0].op: unknown operator \"EQ\" (known: SCMP_CMP_EQ, SCMP_CMP_GE,",
        ),
        (
            rule(arg(json!({"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}))),
            invalid,
            "linux.seccomp.syscalls[0].args[0].index: 6 is not in 0..=5",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86", "amd64"]}),
            invalid,
            "linux.seccomp.architectures[1]: unknown architecture \"amd64\" (known: SCMP_ARCH_AARCH64,",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NEW_LISTENER"]}),
            invalid,
            "linux.seccomp.flags[0]: unknown flag \"SECCOMP_FILTER_FLAG_NEW_LISTENER\" (known: SECCOMP_FILTER_FLAG_LOG,",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}),
            invalid,
            "linux.seccomp.listenerMetadata: is set without listenerPath",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 7, "op": "SCMP_CMP_EQ"}]},
                {"names": ["write", "read"], "action": "SCMP_ACT_LOG", "args": [{"index": 1, "value": 7, "op": "SCMP_CMP_EQ"}]},
            ]}),
            invalid,
            "linux.seccomp: syscalls[0] and [1] have the same conditions and different actions",
        ),
    ]
}

#[test]
fn a_wrong_profile_is_refused_with_place_value_and_choice() {
    for (profile, kind, text) in table() {
        let spec = serde_json::from_value(profile.clone()).expect("JSON of the right shape");
        let error = compile(&spec, Arch::X86_64).expect_err(text);
        assert_eq!(error.kind(), kind, "{profile}");
        assert!(error.to_string().starts_with(text), "{profile}\n{error}");
    }
}

#[test]
fn rules_beyond_the_kernels_limit_are_refused_in_time() {
    let case = |value: u64| json!({"index": 0, "value": value, "op": "SCMP_CMP_NE"});
    let rule = |value: u64| json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": value % 2, "args": [case(value)]});
    let many_rules = json!((0..100_000).map(rule).collect::<Vec<_>>());
    let many_args = json!([{"names": ["read"], "action": "SCMP_ACT_LOG", "args": (0..100_000).map(case).collect::<Vec<_>>()}]);
    let every_call: Vec<&str> =
        (0..600).filter_map(|number| super::reference::name(Arch::X86_64, number)).collect();
    let many_calls: Vec<Value> = (0..1000)
        .map(|value| json!({"names": every_call, "action": "SCMP_ACT_LOG", "args": [case(value)]}))
        .collect();
    for rules in [many_rules, many_args, json!(many_calls)] {
        let spec = serde_json::from_value(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
            .expect("JSON");
        let started = std::time::Instant::now();
        let error = compile(&spec, Arch::X86_64).expect_err("too many rules");
        let text = "linux.seccomp: the rules make a program of more than 4096 instructions";
        assert!(error.to_string().starts_with(text), "{error}");
        assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
    }
}
