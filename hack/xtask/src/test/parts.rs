//! The parts of the test run: what each starts and what it is called.
//!
//! How their output is counted is in `results`.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{Beside, part};
use crate::console;
use crate::tally::Tally;

/// The test programs of `tests`.
const PROGRAMS: [&str; 6] = ["--test", "runtime", "--test", "shim", "--test", "cri"];

/// What only some builds have is built and tested too, in all of them: one set of features, so that nothing is built twice.
const FEATURES: [&str; 2] = ["--features", "cri/otel"];

/// The callers of `tests/engines`, in the order in which they are run: all of them by default.
const ENGINES: [&str; 14] = [
    "podman",
    "rootless",
    "docker",
    "docker26",
    "containerd",
    "shim",
    "class",
    "validation",
    "critest",
    "specs",
    "streaming",
    "crictl",
    "cni",
    "kubelet",
];

/// Those that have tests of limits, which run in the virtual machine.
const LIMITED: &[&str] = &["podman", "docker", "containerd", "shim", "crictl"];

/// What needs a kernel with all controllers, AppArmor or systemd: a caller, what `hack/vm run` is told, the caller's arguments.
const WHOLE: [(&str, &[&str], &[&str]); 3] = [
    (
        "critest",
        &["--memory", "4096", "--with", "target/debug/critest-tally"],
        &["OOM|AppArmor|listing container stats"],
    ),
    ("node", &["--memory", "3072", "--systemd"], &[]),
    ("rootless", &["--systemd"], &["limits"]),
];

/// What rt passes in the virtual machine: parts of the names of tests.
const SETTLED_IN_VM: &[&str] =
    &["cgroup::", "devices::", "idmapped::", "lifecycle::", "overlay::", "process::", "starting::"];

/// Of these, what has another arrangement of cgroups under systemd.
const SETTLED_UNDER_SYSTEMD: &[&str] = &["systemd::", "devices::"];

/// Programs of `runtime/tests` that prove something: the filter against its profile, the cgroup conversions against their vectors.
const PROOFS: [&str; 4] = ["--test", "seccomp", "--test", "cgroup"];

/// The unit tests of all crates, the proofs, and a second of each fuzzing target.
///
/// The whole workspace is named, here and wherever tests are built: cargo would build dependencies again for each choice of packages,
/// since each has another set of features.
pub fn unit_tests(repository: &Path) -> Tally {
    console::heading("unit tests");
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--workspace", "--lib", "--test", "fuzz", "--no-fail-fast"]);
    for program in ["xtask", "critest-tally", "spec-differences"] {
        command.args(["--bin", program]);
    }
    command.args(FEATURES).args(PROOFS);
    part("unit tests", command.current_dir(repository))
}

/// Seconds for each target of `tests/fuzz`.
const FUZZING: &str = "20";

/// Inputs chosen by the code that they reach, for some seconds per target: each target counts as a test. Others go first.
fn guided_fuzzing(repository: &Path) -> Command {
    let mut command = Command::new("nice");
    command.args(["-n", "10"]).arg(repository.join("hack/fuzz")).args(["guided", FUZZING]);
    command.current_dir(repository);
    command
}

/// The tests that run a program on this machine and look at what it did: those whose names contain one of `names`, all
/// if there are none.
pub fn native(repository: &Path, names: &[&str]) -> Tally {
    let mut tally = Tally::default();
    let (nodes, names): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| **name == "node");
    let (engines, names): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| ENGINES.contains(name));
    if !nodes.is_empty() {
        tally.add(whole(repository, "node"));
    }
    if (nodes.is_empty() && engines.is_empty()) || !names.is_empty() {
        console::heading("the program, natively");
        let mut command = Command::new(env!("CARGO"));
        command.args(["test", "--workspace"]).args(FEATURES).args(PROGRAMS).args(["--no-fail-fast", "--"]);
        command.args(&names);
        tally.add(part("the program, natively", command.current_dir(repository)));
    }
    let by_default: &[&str] =
        if names.is_empty() && engines.is_empty() && nodes.is_empty() { &ENGINES } else { &[] };
    // Engines wait for most of their time.
    let fuzzing = (!by_default.is_empty())
        .then(|| Beside::begin("fuzzing, guided by coverage", guided_fuzzing(repository)));
    for engine in engines.iter().chain(by_default) {
        console::heading(&format!("{engine}, natively"));
        let mut command = Command::new(repository.join("hack/peers/room"));
        command.arg("--").arg(repository.join("tests/engines").join(engine));
        tally.add(part(engine, command.current_dir(repository)));
    }
    fuzzing.into_iter().for_each(|fuzzing| tally.add(fuzzing.end()));
    tally
}

/// What needs a kernel of its own, or controllers that this machine's cgroup v2 lacks.
pub fn virtual_machine(repository: &Path) -> Tally {
    let mut tally = Tally::default();
    let built = failpoints(repository)
        .and_then(|()| Ok((test_program(repository, "runtime")?, test_program(repository, "shim")?)));
    let (runtime, shim) = match built {
        Ok(paths) => paths,
        Err(error) => {
            tally.failed.push(format!("the program, in a virtual machine: {error}"));
            return tally;
        }
    };
    let probe = format!("PROBE={}", repository.join("target/bin/probe").display());
    let failpoints = format!("RT_FAILPOINTS={}", repository.join(FAILPOINTS).display());
    // A bare PID 1 starts quicker; what needs systemd is a topic of its own.
    for (systemd, tests, filters) in [
        (None, &runtime, SETTLED_IN_VM),
        (Some("--systemd"), &runtime, SETTLED_UNDER_SYSTEMD),
        (Some("--systemd"), &shim, &["systemd::"]),
    ] {
        console::heading(&format!("the program, in a virtual machine ({})", filters.join(" ")));
        let mut command = Command::new(repository.join("hack/vm"));
        command.args(["run", "--limit", "1200"]).args(systemd);
        command.args(["--with", tests, "--with", FAILPOINTS, "--", "env", &probe, &failpoints]);
        command.arg(repository.join(tests)).args(["--test-threads", "2"]).args(filters);
        tally.add(part("the program, in a virtual machine", command.current_dir(repository)));
    }
    for engine in LIMITED {
        console::heading(&format!("{engine}, in a virtual machine"));
        let mut command = Command::new(repository.join("hack/vm"));
        command.args(["run", "--limit", "900", "--engines", "--", "hack/peers/room", "--"]);
        command.arg(format!("tests/engines/{engine}")).arg("limits");
        tally.add(part(engine, command.current_dir(repository)));
    }
    for (engine, ..) in WHOLE {
        tally.add(whole(repository, engine));
    }
    tally
}

/// One of `WHOLE`, in a virtual machine of its own.
fn whole(repository: &Path, wanted: &str) -> Tally {
    let mut tally = Tally::default();
    for (engine, options, arguments) in WHOLE.iter().filter(|(engine, ..)| *engine == wanted) {
        console::heading(&format!("{engine}, in a virtual machine"));
        let mut command = Command::new(repository.join("hack/vm"));
        command.args(["run", "--limit", "900", "--engines"]).args(*options).arg("--");
        command.arg(format!("tests/engines/{engine}")).args(*arguments);
        tally.add(part(engine, command.current_dir(repository)));
    }
    tally
}

/// Builds a test program of `tests` and gives its path inside the repository.
fn test_program(repository: &Path, program: &str) -> Result<String, String> {
    let output = Command::new(env!("CARGO"))
        .args(["test", "--workspace", "--test", program, "--no-run"])
        .args(FEATURES)
        .current_dir(repository)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("run cargo: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    // `  Executable runtime/main.rs (target/debug/deps/runtime-0123)`
    let path = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("Executable ")?.split_once('(')?.1.strip_suffix(')'));
    path.map(str::to_owned).ok_or_else(|| format!("cargo built no test program: {said}"))
}

/// rt with fail points, in the place where `tests` puts it, too.
const FAILPOINTS: &str = "target/failpoints/rt";

fn failpoints(repository: &Path) -> Result<(), String> {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--workspace", "--bin", "rt", "--features", "runtime/failpoints"])
        .current_dir(repository)
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("run cargo: {error}"))?;
    if !built.success() {
        return Err("rt with fail points doesn't build".to_owned());
    }
    let copy = || {
        std::fs::create_dir_all(repository.join("target/failpoints"))?;
        std::fs::copy(repository.join("target/debug/rt"), repository.join(FAILPOINTS))
    };
    copy().map(drop).map_err(|error| format!("copy rt to {FAILPOINTS}: {error}"))
}
