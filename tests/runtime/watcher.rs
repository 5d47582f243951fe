//! A process inside looks at everybody who comes into its PID namespace, by exec or by create, and sees nothing of the host.
//!
//! The rules: who can be seen has no root, directory, mount namespace, executable or descriptor of the host, from birth on.
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
    // It stays when it has seen enough: whoever is on his way in then is no orphan.
    args.extend([",", "sleep"].map(str::to_owned));
    bundle.config["process"]["args"] = json!(args);
    bundle.directory("/work");
    let container = victim.start(bundle);
    container.wait_for_output("watching");
    container
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
    let (victim, time) = (Victim::new(case), seconds(USUAL));
    let mut bundle = case.bundle();
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

/// A second container is made again and again in the watcher's PID namespace, by way of `share` or by its path.
#[track_caller]
fn create_is_watched(case: &Case, more: &[&str], user_namespace: bool, share: bool) {
    let (victim, time) = (Victim::new(case), seconds(USUAL));
    let mut second = case.bundle();
    second.directory("/work").args(["/probe", "exit", "0"]);
    second.config["process"]["cwd"] = json!("/work");
    let mut bundle = case.bundle();
    with_more(&mut bundle, more);
    bundle.directory("/work");
    if user_namespace {
        bundle.user_namespace(100_000, 65_536);
        second.user_namespace(100_000, 65_536);
    }
    let container = watch(&victim, &mut bundle, time, &[&second]);
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
