//! A process inside looks at everybody who comes into its PID namespace, by exec or by create, and sees nothing of the host.
//!
//! The rules: who can be seen has no root, directory, mount namespace, executable or descriptor of the host, from birth on; nor a capability
//! that the container's processes don't have; and it is under their filter, with their no_new_privs.
//! `RT_SOAK_SECONDS` makes each test that long.

use std::time::{Duration, Instant};
use tests::*;

/// Long enough for some hundred processes on an idle machine.
const USUAL: u64 = 5;

/// A container whose process watches for this many seconds; what it may see besides its own are `others`.
fn watch<'a>(victim: &Victim<'a>, bundle: &mut Bundle, time: u64, others: &[&Bundle]) -> Running<'a> {
    let mut args: Vec<String> =
        ["/probe", "chain", "watch", &time.to_string(), "2"].map(str::to_owned).to_vec();
    args.extend(victim.facts(others));
    // What is given to some of them on purpose.
    std::fs::write(victim.given(), "").expect("write");
    args.push(format!("own={}", identity(&victim.given())));
    args.extend(rights(bundle));
    // It stays when it has seen enough: whoever is on his way in then is no orphan.
    args.extend([",", "sleep"].map(str::to_owned));
    bundle.config["process"]["args"] = json!(args);
    bundle.directory("/work");
    let container = victim.start(bundle);
    container.wait_for_output("watching");
    container
}

/// What each process of the container is to have and to lack.
fn rights(bundle: &Bundle) -> Vec<String> {
    let process = &bundle.config["process"];
    let names = process["capabilities"]["effective"].as_array().expect("capabilities");
    let mask = names.iter().fold(0_u64, |mask, name| {
        let name = name.as_str().expect("a name");
        mask | 1 << capability(name)
    });
    let mut rights = vec![format!("caps={mask:x}")];
    if bundle.config["linux"]["seccomp"].is_object() {
        rights.push("status=Seccomp:2".to_owned());
    }
    if process["noNewPrivileges"] == true {
        rights.push("status=NoNewPrivs:1".to_owned());
    }
    rights
}

/// KERNEL: include/uapi/linux/capability.h
fn capability(name: &str) -> u32 {
    let known = [
        ("CAP_CHOWN", 0),
        ("CAP_DAC_OVERRIDE", 1),
        ("CAP_FOWNER", 3),
        ("CAP_FSETID", 4),
        ("CAP_KILL", 5),
        ("CAP_SETGID", 6),
        ("CAP_SETUID", 7),
        ("CAP_SETPCAP", 8),
        ("CAP_NET_BIND_SERVICE", 10),
        ("CAP_NET_RAW", 13),
        ("CAP_SYS_CHROOT", 18),
        ("CAP_SYS_PTRACE", 19),
        ("CAP_MKNOD", 27),
        ("CAP_AUDIT_WRITE", 29),
        ("CAP_SETFCAP", 31),
        ("CAP_CHECKPOINT_RESTORE", 40),
    ];
    known.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no number of {name}")).1
}

/// Does `enter` again and again while it watches; then it must have met some, and have seen nothing.
#[track_caller]
fn sees_nothing(watcher: &Running<'_>, time: u64, mut enter: impl FnMut(usize)) {
    let end = Instant::now() + Duration::from_secs(time) + DEADLINE;
    let mut rounds = 0;
    while !watcher.stdout().contains("done\n") {
        assert!(Instant::now() < end, "the watcher does not end: {}{}", watcher.stdout(), watcher.stderr());
        enter(rounds);
        rounds += 1;
    }
    let said = watcher.stdout();
    let met: u64 = said
        .lines()
        .filter_map(|line| line.strip_prefix("watched: ")?.split(' ').next()?.parse::<u64>().ok())
        .sum();
    assert!(met > 3, "it met nobody in {rounds} rounds: {said}{}", watcher.stderr());
    let hits: Vec<&str> = said.lines().filter(|line| line.starts_with("host ")).collect();
    assert!(hits.is_empty(), "{met} processes met in {rounds} rounds:\n{}", hits.join("\n"));
}

/// Execs of each kind, in turn.
fn execs(case: &Case, victim: &Victim<'_>, container: &Running<'_>, round: usize) {
    let options: &[&str] = match round % 5 {
        0 => &[],
        1 => &["--cwd", "/work"],
        2 => &["--user", "1000:1000"],
        3 => &["--tty"],
        _ => &["--preserve-fds", "1"],
    };
    let program = ["/probe", "exit", "0"];
    // A watcher that stops it may be at its end just then, and PID 1 with it: how this ends is not the matter.
    let _ = match round % 5 {
        3 => {
            let (_ours, theirs) = terminal::pair(24, 80);
            victim.exec(container, options, &program).terminal(theirs).run()
        }
        4 => {
            let line = format!(
                "exec 3<'{}'; exec '{}' --root '{}' exec --preserve-fds 1 {} /probe exit 0",
                victim.given().display(),
                victim.runtime().display(),
                case.state_root().display(),
                container.id()
            );
            case.program(std::path::Path::new("/bin/sh")).args(["-c", &line]).run()
        }
        _ => victim.exec(container, options, &program).run(),
    };
}

const PTRACE: &str = "CAP_SYS_PTRACE";

fn with_more(bundle: &mut Bundle, more: &[&str]) {
    let all: Vec<&str> = config::DEFAULT_CAPABILITIES.iter().chain(more).copied().collect();
    bundle.capabilities(&all);
}

#[track_caller]
fn exec_is_watched(case: &Case, more: &[&str], user_namespace: bool) {
    exec_is_watched_in(case, case.bundle(), more, user_namespace);
}

#[track_caller]
fn exec_is_watched_in(case: &Case, mut bundle: Bundle, more: &[&str], user_namespace: bool) {
    let (victim, time) = (Victim::new(case), seconds(USUAL));
    with_more(&mut bundle, more);
    bundle.directory("/work");
    if user_namespace {
        bundle.user_namespace(100_000, 65_536);
    }
    let container = watch(&victim, &mut bundle, time, &[]);
    sees_nothing(&container, time, |round| execs(case, &victim, &container, round));
    victim.is_unharmed();
}

#[test]
fn exec_shows_nothing_of_the_host_to_root() {
    exec_is_watched(&case!(), &[], false);
}

#[test]
fn exec_shows_nothing_of_the_host_to_a_tracer() {
    exec_is_watched(&case!(), &[PTRACE, "CAP_CHECKPOINT_RESTORE"], false);
}

#[test]
fn exec_shows_nothing_of_the_host_to_root_of_a_user_namespace() {
    exec_is_watched(&case!(), &[], true);
}

#[test]
fn exec_shows_nothing_of_the_host_to_a_tracer_in_a_user_namespace() {
    exec_is_watched(&case!(), &[PTRACE], true);
}

/// Under an engine's default profile. That of moby lets a tracer trace.
fn filtered(case: &Case, no_new_privileges: bool) -> Bundle {
    let mut bundle = case.bundle();
    let profile = include_str!("../data/seccomp/moby.json");
    bundle.config["linux"]["seccomp"] = serde_json::from_str(profile).expect("JSON");
    bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
    bundle
}

#[test]
fn exec_comes_under_the_filter() {
    let case = case!();
    exec_is_watched_in(&case, filtered(&case, true), &[], false);
}

#[test]
fn exec_comes_under_the_filter_without_no_new_privileges() {
    let case = case!();
    exec_is_watched_in(&case, filtered(&case, false), &[PTRACE], false);
}

#[test]
fn exec_comes_under_the_filter_in_a_user_namespace() {
    let case = case!();
    exec_is_watched_in(&case, filtered(&case, false), &[PTRACE], true);
}

/// A second container is made again and again in the watcher's PID namespace, by way of `share` or by its path.
#[track_caller]
fn create_is_watched(case: &Case, more: &[&str], user_namespace: bool, share: bool) {
    let bundles = [case.bundle(), case.bundle()];
    create_is_watched_in(case, &Victim::new(case), bundles, more, (user_namespace, share));
}

#[track_caller]
fn create_is_watched_in(
    case: &Case,
    victim: &Victim<'_>,
    [mut bundle, mut second]: [Bundle; 2],
    more: &[&str],
    (user_namespace, share): (bool, bool),
) {
    let time = seconds(USUAL);
    second.directory("/work").args(["/probe", "exit", "0"]);
    second.config["process"]["cwd"] = json!("/work");
    with_more(&mut bundle, more);
    bundle.directory("/work");
    if user_namespace {
        bundle.user_namespace(100_000, 65_536);
        second.user_namespace(100_000, 65_536);
    }
    let container = watch(victim, &mut bundle, time, &[&second]);
    let with = format!("{}=pid", container.id());
    if !share {
        second.namespace("pid", Some(&format!("/proc/{}/ns/pid", container.pid())));
        if user_namespace {
            second.namespace("user", Some(&format!("/proc/{}/ns/user", container.pid())));
        }
    } else if user_namespace {
        second.without_namespace("user");
        let linux = second.config["linux"].as_object_mut().expect("an object");
        linux.remove("uidMappings");
        linux.remove("gidMappings");
    }
    second.write();
    sees_nothing(&container, time, |round| {
        let call = |verb: &str| {
            let call = victim.call([verb]);
            let call = if share { call.args(["--share", &with]) } else { call };
            call.arg("--bundle").arg(second.dir()).arg(second.id())
        };
        if round % 2 == 0 {
            let _ = call("run").run();
            let _ = victim.call(["delete", "--force", second.id()]).run();
        } else {
            let created = Running::new(case, second.id(), call("create"));
            // Who is traced as it ends can only be reaped when the watcher lets go of it.
            container.adopt(created.pid());
            let _ = victim.call(["start", second.id()]).run();
            created.delete();
        }
    });
    victim.is_unharmed();
}

#[test]
fn create_in_a_pid_namespace_by_path_shows_nothing_of_the_host_to_root() {
    create_is_watched(&case!(), &[], false, false);
}

#[test]
fn create_in_a_pid_namespace_by_path_shows_nothing_of_the_host_to_a_tracer() {
    create_is_watched(&case!(), &[PTRACE, "CAP_CHECKPOINT_RESTORE"], false, false);
}

#[test]
fn create_in_a_pid_namespace_with_its_user_namespace_shows_nothing_of_the_host_to_a_tracer() {
    create_is_watched(&case!(), &[PTRACE], true, false);
}

#[test]
fn create_with_shared_pids_shows_nothing_of_the_host_to_a_tracer() {
    only_rt!("--share is its own");
    create_is_watched(&case!(), &[PTRACE], false, true);
}

#[test]
fn create_with_shared_pids_and_users_shows_nothing_of_the_host_to_a_tracer() {
    only_rt!("--share is its own");
    create_is_watched(&case!(), &[PTRACE], true, true);
}

/// createContainer hooks have the host's root.
#[track_caller]
fn hooks_are_watched(case: &Case, user_namespace: bool) {
    let mut second = case.bundle();
    second.config["hooks"] =
        json!({ "createContainer": [{ "path": "/bin/sleep", "args": ["sleep", "0.05"] }] });
    let bundles = [case.bundle(), second];
    create_is_watched_in(case, &Victim::new(case), bundles, &[PTRACE], (user_namespace, false));
}

#[test]
fn hooks_of_a_create_in_a_pid_namespace_by_path_are_not_seen() {
    hooks_are_watched(&case!(), false);
}

#[test]
fn hooks_of_a_create_in_a_pid_namespace_with_its_user_namespace_are_not_seen() {
    hooks_are_watched(&case!(), true);
}

#[test]
fn create_comes_under_the_filter() {
    let case = case!();
    let bundles = [filtered(&case, true), filtered(&case, true)];
    create_is_watched_in(&case, &Victim::new(&case), bundles, &[PTRACE], (false, false));
}

#[test]
fn create_comes_under_the_filter_without_no_new_privileges() {
    only_rt!("--share is its own");
    let case = case!();
    let bundles = [filtered(&case, false), filtered(&case, false)];
    create_is_watched_in(&case, &Victim::new(&case), bundles, &[PTRACE], (false, true));
}

/// Where the procfs of a shared PID namespace can't be named, a process enters to open it.
#[track_caller]
fn maker_is_watched(more: &[&str], user_namespace: bool, case: &Case) {
    let victim = Victim::lacking(case, "procfs-of-a-pid-namespace");
    create_is_watched_in(case, &victim, [case.bundle(), case.bundle()], more, (user_namespace, false));
}

#[test]
fn maker_of_a_procfs_shows_nothing_of_the_host_to_root() {
    only_rt!("it has fail points");
    maker_is_watched(&[], false, &case!());
}

#[test]
fn maker_of_a_procfs_shows_nothing_of_the_host_to_a_tracer() {
    only_rt!("it has fail points");
    maker_is_watched(&[PTRACE], false, &case!());
}

#[test]
fn maker_of_a_procfs_shows_nothing_of_the_host_in_a_user_namespace() {
    only_rt!("it has fail points");
    maker_is_watched(&[PTRACE], true, &case!());
}
