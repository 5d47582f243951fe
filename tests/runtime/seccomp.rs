//! Seccomp: what a profile lets through, refuses, kills, and that it is loaded where the spec says.
//!
//! The program itself is proved equal to the profile by unit tests; here is its effect.

use tests::*;

const PERM: &str = "errno 1";

/// A profile that refuses some calls with EPERM and allows the rest.
fn refuse(names: &[&str]) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{ "names": names, "action": "SCMP_ACT_ERRNO" }],
    })
}

fn bundle(case: &Case, profile: Value) -> Bundle {
    let mut bundle = case.bundle();
    bundle.config["linux"]["seccomp"] = profile;
    bundle
}

#[test]
fn without_a_profile_there_is_no_filter() {
    let case = case!();
    assert_eq!(case.see(&mut case.bundle())["seccomp"], 0);
}

#[test]
fn profile_is_loaded_as_a_filter() {
    let case = case!();
    assert_eq!(case.see(&mut bundle(&case, refuse(&["mkdirat"])))["seccomp"], 2);
}

#[test]
fn refused_call_gives_eperm_and_others_work() {
    let case = case!();
    let mut bundle = bundle(&case, refuse(&["getcwd", "uname"]));
    let text = case
        .act(&mut bundle, ["try-syscall", "uname", "b:500", "--", "getcwd", "b:100", "100", "--", "getpid"]);
    assert_eq!(text.lines().collect::<Vec<_>>(), [PERM, PERM, "ok 1"]);
}

#[test]
fn errno_of_the_rule_is_given() {
    let case = case!();
    let mut profile = refuse(&["uname"]);
    profile["syscalls"][0]["errnoRet"] = json!(38);
    assert_eq!(case.act(&mut bundle(&case, profile), ["try-syscall", "uname", "b:500"]).trim(), "errno 38");
}

#[test]
fn default_errno_is_given() {
    let case = case!();
    let mut profile = refuse(&["uname"]);
    profile["defaultAction"] = json!("SCMP_ACT_ERRNO");
    profile["defaultErrnoRet"] = json!(99);
    profile["syscalls"] = json!([{ "action": "SCMP_ACT_ALLOW", "names": [
        "execve", "execveat", "brk", "mmap", "munmap", "mprotect", "arch_prctl", "set_tid_address", "write", "writev", "read", "close",
        "exit", "exit_group", "rt_sigaction", "rt_sigprocmask", "fstat", "newfstatat", "lseek", "ioctl", "futex",
        "readlink", "openat", "open", "getrandom", "rseq", "set_robust_list", "prlimit64", "sigaltstack", "mremap", "madvise", "fcntl",
        "poll", "tkill", "gettid", "getpid", "capset", "prctl", "setuid", "setgid", "setgroups", "chdir", "fchdir", "faccessat",
        "faccessat2", "capget", "epoll_ctl", "epoll_pwait", "nanosleep", "clone", "clone3", "pipe2", "read", "getdents64", "fstatfs",
        "statx", "dup3", "close_range", "setsid", "umask", "epoll_create1", "eventfd2", "sched_yield", "sched_getaffinity", "getppid",
        "tgkill", "rt_sigreturn", "statfs", "access", "stat", "getuid", "getgid", "geteuid", "getegid", "fchown", "readlinkat", "socket",
        "connect", "sendmsg", "sendto", "recvfrom", "recvmsg", "fchownat", "setresuid", "setresgid", "openat2", "lstat", "pselect6",
        "fsync", "wait4", "waitid", "mkdirat", "keyctl" ] }]);
    assert_eq!(case.act(&mut bundle(&case, profile), ["try-syscall", "uname", "b:500"]).trim(), "errno 99");
}

#[test]
fn arguments_are_compared() {
    let case = case!();
    // personality(2) with 0x8 and with anything masked by 0x40000 is refused, socket(AF_VSOCK) too.
    let mut profile = refuse(&[]);
    profile["syscalls"] = json!([
        { "names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5,
          "args": [{ "index": 0, "value": 8, "op": "SCMP_CMP_EQ" }] },
        { "names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 6,
          "args": [{ "index": 0, "value": 0x40000, "valueTwo": 0x40000, "op": "SCMP_CMP_MASKED_EQ" }] },
        { "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 97,
          "args": [{ "index": 0, "value": 40, "op": "SCMP_CMP_EQ" }] },
        { "names": ["getrandom"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7,
          "args": [{ "index": 1, "value": 100, "op": "SCMP_CMP_GT" }, { "index": 2, "value": 1, "op": "SCMP_CMP_NE" }] },
    ]);
    let text = case.act(
        &mut bundle(&case, profile),
        [
            "try-syscall",
            "personality",
            "8",
            "--",
            "personality",
            "0x40008",
            "--",
            "personality",
            "0xffffffff",
            "--",
            "socket",
            "40",
            "1",
            "0",
            "--",
            "socket",
            "1",
            "1",
            "0",
            "--",
            "getrandom",
            "b:200",
            "101",
            "0",
            "--",
            "getrandom",
            "b:200",
            "101",
            "1",
            "--",
            "getrandom",
            "b:200",
            "100",
            "0",
        ],
    );
    // 0xffffffff holds the masked bit too.
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..4], ["errno 5", "errno 6", "errno 6", "errno 97"]);
    assert!(lines[4].starts_with("ok"), "{text}");
    assert_eq!(lines[5..], ["errno 7", "ok 101", "ok 100"]);
}

#[test]
fn killing_action_ends_the_process_by_sigsys() {
    let case = case!();
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD"] {
        let mut profile = refuse(&["uname"]);
        profile["syscalls"][0]["action"] = json!(action);
        let mut bundle = bundle(&case, profile);
        bundle.args(["/probe", "try-syscall", "uname", "b:500"]);
        case.run(&bundle).exits(128 + 31);
    }
}

#[test]
fn trapping_action_sends_sigsys() {
    let case = case!();
    let mut profile = refuse(&["uname"]);
    profile["syscalls"][0]["action"] = json!("SCMP_ACT_TRAP");
    let mut bundle = bundle(&case, profile);
    bundle.args(["/probe", "try-syscall", "uname", "b:500"]);
    case.run(&bundle).exits(128 + 31);
}

#[test]
fn logging_and_tracing_actions_are_known() {
    let case = case!();
    let mut profile = refuse(&["uname"]);
    profile["syscalls"][0]["action"] = json!("SCMP_ACT_LOG");
    assert_eq!(
        case.act(&mut bundle(&case, profile.clone()), ["try-syscall", "uname", "b:500"]).trim(),
        "ok 0"
    );
    profile["syscalls"][0]["action"] = json!("SCMP_ACT_TRACE");
    // Without a tracer the call fails with ENOSYS.
    assert_eq!(case.act(&mut bundle(&case, profile), ["try-syscall", "uname", "b:500"]).trim(), "errno 38");
}

#[test]
fn name_the_kernel_does_not_know_is_left_out() {
    let case = case!();
    let mut bundle = bundle(&case, refuse(&["make_coffee", "uname"]));
    assert_eq!(case.act(&mut bundle, ["try-syscall", "uname", "b:500"]).trim(), PERM);
}

#[test]
fn filter_without_no_new_privileges_is_loaded_too() {
    let case = case!();
    let mut bundle = bundle(&case, refuse(&["uname"]));
    bundle.config["process"]["noNewPrivileges"] = json!(false);
    bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    assert_eq!(case.act(&mut bundle, ["try-syscall", "uname", "b:500"]).trim(), PERM);
}

#[test]
fn user_change_still_works_when_the_profile_refuses_it() {
    let case = case!();
    for nnp in [true, false] {
        let mut bundle =
            bundle(&case, refuse(&["setuid", "setgid", "setgroups", "mount", "chdir", "capset", "uname"]));
        bundle.config["process"]["noNewPrivileges"] = json!(nnp);
        bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        if !nnp {
            // Then the filter must be loaded while privileges are still there: engines allow these calls.
            bundle.config["linux"]["seccomp"] = refuse(&["mount", "uname"]);
        }
        let report = case.see(&mut bundle);
        assert_eq!(report["uid"], json!([1000, 1000, 1000]), "no_new_privileges {nnp}");
        assert_eq!(report["seccomp"], 2);
    }
}

#[test]
fn exec_has_the_filter_of_the_container() {
    let case = case!();
    let mut bundle = bundle(&case, refuse(&["uname"]));
    let container = case.start_sleeping(&mut bundle);
    let output = container.exec(&["/probe", "try-syscall", "uname", "b:500"]).ok();
    assert_eq!(output.stdout.trim(), PERM);
    assert_eq!(container.exec_report(&[])["seccomp"], 2);
}

// What rt itself still calls is known when the filter is judged: else exec would be killed by it, before the program.
#[test]
fn exec_works_whatever_call_the_profile_kills_for() {
    let case = case!();
    for call in
        ["getpid", "getuid", "getgid", "close", "setsid", "sendmsg", "recvmsg", "poll", "capset", "ioctl"]
    {
        let mut profile = refuse(&[call]);
        profile["syscalls"][0]["action"] = json!("SCMP_ACT_KILL_PROCESS");
        let mut bundle = bundle(&case, profile);
        bundle.config["process"]["noNewPrivileges"] = json!(true);
        // A program that needs none of them.
        bundle.args(["/probe", "sleep"]);
        let container = case.start(&bundle);
        println!("{call}");
        container.exec(&["/probe", "exit", "7"]).exits(7);
        let (_ours, theirs) = terminal::pair(30, 90);
        container.call_with("exec", &["--tty"], &["/probe", "exit", "7"]).terminal(theirs).run().exits(7);
        container.delete();
    }
}

#[test]
fn filter_flags_are_accepted() {
    unless!("runc 1.1", "it has no flags");
    let case = case!();
    let mut profile = refuse(&["uname"]);
    profile["flags"] =
        json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"]);
    assert_eq!(case.act(&mut bundle(&case, profile), ["try-syscall", "uname", "b:500"]).trim(), PERM);
}

#[test]
fn engines_default_profile_lets_normal_programs_run() {
    let case = case!();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/data/seccomp/containerd.json");
    let Ok(text) = std::fs::read_to_string(path) else {
        skip!("{path} is not there yet");
    };
    let mut bundle = bundle(&case, serde_json::from_str(&text).expect("JSON"));
    bundle.with_busybox().args(["/bin/sh", "-c", "echo hello | cat; ls / >/dev/null; id -u"]);
    assert_eq!(case.run(&bundle).ok().stdout, "hello\n0\n");
    let text = case.act(
        &mut bundle,
        ["try-syscall", "kexec_load", "0", "0", "0", "0", "--", "swapon", "s:/x", "0", "--", "keyctl", "0"],
    );
    assert!(text.lines().all(|l| l.starts_with("errno 1") || l.starts_with("errno 38")), "{text}");
}

#[test]
fn call_newer_than_the_profile_is_enosys() {
    unless!("crun", "no such rule");
    let case = case!();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/data/seccomp/containerd.json");
    let Ok(text) = std::fs::read_to_string(path) else {
        skip!("{path} is not there yet");
    };
    let mut bundle = bundle(&case, serde_json::from_str(&text).expect("JSON"));
    // A number that no kernel has: glibc falls back on ENOSYS, but not on EPERM.
    assert_eq!(case.act(&mut bundle, ["try-syscall", "1000"]).trim(), "errno 38");
}

#[test]
fn x32_calls_get_no_way_around_the_filter() {
    let case = case!();
    let mut profile = refuse(&["uname"]);
    profile["architectures"] = json!(["SCMP_ARCH_X86_64"]);
    // uname by its x32 number: refused, deadly, or unknown to the kernel; never answered.
    let mut bundle = bundle(&case, profile);
    bundle.args(["/probe", "try-syscall", "0x4000003f", "b:500"]);
    let output = case.run(&bundle);
    assert!(output.code() == 159 || output.stdout.starts_with("errno"), "{output}");
}

#[test]
fn nothing_but_execve_is_left_to_do_once_the_filter_is_loaded() {
    unless!("crun", "it makes other calls once the filter is loaded");
    unless!("runc", "it makes other calls once the filter is loaded");
    let case = case!();
    let mut profile = refuse(&[
        "close_range",
        "dup3",
        "openat",
        "openat2",
        "prctl",
        "recvmsg",
        "rt_sigaction",
        "rt_sigprocmask",
        "sendmsg",
        "setresuid",
        "statx",
    ]);
    profile["syscalls"][0]["action"] = json!("SCMP_ACT_KILL_PROCESS");
    let mut bundle = bundle(&case, profile);
    bundle.config["process"]["noNewPrivileges"] = json!(true);
    bundle.args(["/probe", "exit", "5"]);
    case.run(&bundle).exits(5);
    let container = case.start(&bundle);
    assert_eq!(container.wait_exit(container.pid()), 5);
}

/// A line of `/proc/PID/status`.
fn status(pid: i32, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process that lives");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    line.unwrap_or_else(|| panic!("no {name}")).to_owned()
}

fn default_profile() -> Value {
    let text = include_str!("../data/seccomp/moby.json");
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn created_container_waits_for_its_start_under_the_filter() {
    unless!("crun", "it waits without");
    let case = case!();
    for (nnp, hook) in [(true, false), (false, false), (false, true)] {
        let mut bundle = bundle(&case, default_profile());
        bundle.config["process"]["noNewPrivileges"] = json!(nnp);
        if hook {
            bundle.config["hooks"] =
                json!({ "startContainer": [{ "path": "/probe", "args": ["probe", "hook", "/hook"] }] });
        }
        bundle.args(["/probe", "exit", "5"]);
        let container = case.create(&bundle);
        let pid = container.pid();
        assert_eq!(status(pid, "Seccomp"), "2", "no_new_privileges {nnp}, hook {hook}");
        assert_eq!(status(pid, "NoNewPrivs"), u32::from(nnp).to_string());
        // SYS_ADMIN has the number 21.
        let capabilities = u64::from_str_radix(&status(pid, "CapEff"), 16).expect("a mask");
        assert_eq!(capabilities & 1 << 21, 0, "{capabilities:x}");
        container.call("start").run().ok();
        assert_eq!(container.wait_exit(pid), 5);
        assert_eq!(bundle.host_path("/hook").exists(), hook);
    }
}

#[test]
fn profile_that_refuses_what_a_birth_takes_is_loaded_last() {
    let case = case!();
    let refused =
        ["clone", "clone3", "fork", "vfork", "setsid", "sendmsg", "recvmsg", "poll", "ppoll", "signalfd4"];
    for action in ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"] {
        for nnp in [true, false] {
            let mut profile = refuse(&refused);
            profile["syscalls"][0]["action"] = json!(action);
            let mut bundle = bundle(&case, profile);
            bundle.config["process"]["noNewPrivileges"] = json!(nnp);
            let container = case.start_sleeping(&mut bundle);
            let report = container.exec_report(&[]);
            assert_eq!(report["seccomp"], 2, "{action}, no_new_privileges {nnp}");
            let output = container.exec(&["/probe", "exit", "7"]);
            assert_eq!(output.code(), 7, "{output}");
            let mut second = case.bundle();
            second.config["linux"]["seccomp"] = bundle.config["linux"]["seccomp"].clone();
            second.config["process"]["noNewPrivileges"] = json!(nnp);
            second.namespace("pid", Some(&format!("/proc/{}/ns/pid", container.pid())));
            second.args(["/probe", "exit", "9"]);
            assert_eq!(case.run(&second).code(), 9);
            container.delete();
        }
    }
}

// AF_VSOCK, which no namespace hides, by the call that 32-bit programs of x86 have besides socket(2).
#[test]
fn families_are_refused_to_32_bit_programs_too_where_socketcall_is() {
    let case = case!();
    let families = |profile: Option<Value>| {
        let mut bundle = case.bundle();
        if let Some(profile) = profile {
            bundle.config["linux"]["seccomp"] = profile;
        }
        let text = case.act(&mut bundle, ["chain", "old-socket", "1", ",", "old-socket", "40"]);
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let [unix, _vsock] = &families(None)[..] else { panic!("two answers") };
    if unix != "ok" {
        skip!("this kernel has no socketcall for 32-bit programs: {unix}");
    }
    let mut profile = refuse(&[]);
    profile["syscalls"] = json!([
        { "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 97,
          "args": [{ "index": 0, "value": 40, "op": "SCMP_CMP_EQ" }] },
        { "names": ["socketcall"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
    ]);
    assert_eq!(families(Some(profile)), ["errno 38", "errno 38"]);
}
