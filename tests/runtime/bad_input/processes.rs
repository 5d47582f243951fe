//! Mistakes of the process: arguments, user, limits, capabilities, labels.

use super::{Mistake, check};
use tests::*;

#[test]
fn mistakes_of_the_process() {
    only_rt!("the words are its own");
    let case = case!();
    check(
        &case,
        &[
            Mistake {
                name: "no process",
                make: |b| {
                    b.config.as_object_mut().map(|c| c.remove("process"));
                },
                says: "rt: run container \"{id}\": process is missing (a container needs process.args to run)",
            },
            Mistake {
                name: "no args",
                make: |b| {
                    b.args([]);
                },
                says: "rt: run container \"{id}\": process.args is empty (name the program to run)",
            },
            Mistake {
                name: "executable missing",
                make: |b| {
                    b.args(["/no/such"]);
                },
                says: "rt: run container \"{id}\": exec: \"/no/such\": stat /no/such: no such file or directory (it must exist in the container's root filesystem)",
            },
            Mistake {
                name: "command not in PATH",
                make: |b| {
                    b.args(["nowhere"]);
                },
                says: "rt: run container \"{id}\": exec: \"nowhere\": executable file not found in $PATH",
            },
            Mistake {
                name: "not executable",
                make: |b| {
                    b.file("/data", "x").mode("/data", 0o644).args(["/data"]);
                },
                says: "rt: run container \"{id}\": exec: \"/data\": permission denied (the user must be allowed to execute it)",
            },
            Mistake {
                name: "executable is a directory",
                make: |b| {
                    b.args(["/etc"]);
                },
                says: "rt: run container \"{id}\": exec: \"/etc\": is a directory: permission denied",
            },
            Mistake {
                name: "not a program",
                make: |b| {
                    b.file("/data", "\u{1}\u{2}").mode("/data", 0o755).args(["/data"]);
                },
                says: "rt: run container \"{id}\": exec /data: exec format error (ENOEXEC) (it is no program for this machine, and no script that begins with #!)",
            },
            Mistake {
                name: "interpreter missing",
                make: |b| {
                    b.file("/s", "#!/no/sh\n").mode("/s", 0o755).args(["/s"]);
                },
                says: "rt: run container \"{id}\": exec /s: no such file or directory (ENOENT) (the interpreter in its first line, or its dynamic loader, is missing in the container)",
            },
            Mistake {
                name: "relative cwd",
                make: |b| b.config["process"]["cwd"] = json!("etc"),
                says: "rt: run container \"{id}\": process.cwd \"etc\" is not absolute (it is a path in the container that starts with \"/\")",
            },
            Mistake {
                name: "cwd is a file",
                make: |b| b.config["process"]["cwd"] = json!("/probe"),
                says: "rt: run container \"{id}\": enter the working directory /probe: not a directory (ENOTDIR)",
            },
            Mistake {
                name: "no cwd",
                make: |b| {
                    b.config["process"].as_object_mut().map(|c| c.remove("cwd"));
                },
                says: "rt: run container \"{id}\": process.cwd is empty (give an absolute path, such as \"/\")",
            },
            Mistake {
                name: "unknown limit",
                make: |b| {
                    b.config["process"]["rlimits"] =
                        json!([{ "type": "RLIMIT_COFFEE", "soft": 1, "hard": 1 }]);
                },
                says: "rt: run container \"{id}\": process.rlimits[0]: unknown type \"RLIMIT_COFFEE\" (the types are RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_DATA, RLIMIT_STACK, RLIMIT_CORE, RLIMIT_RSS, RLIMIT_NPROC, RLIMIT_NOFILE, RLIMIT_MEMLOCK, RLIMIT_AS, RLIMIT_LOCKS, RLIMIT_SIGPENDING, RLIMIT_MSGQUEUE, RLIMIT_NICE, RLIMIT_RTPRIO, RLIMIT_RTTIME)",
            },
            Mistake {
                name: "limit given twice",
                make: |b| {
                    b.config["process"]["rlimits"] = json!([
            { "type": "RLIMIT_CORE", "soft": 1, "hard": 1 }, { "type": "RLIMIT_CORE", "soft": 2, "hard": 2 }]);
                },
                says: "rt: run container \"{id}\": process.rlimits[1]: RLIMIT_CORE is given twice",
            },
            Mistake {
                name: "soft limit above the hard",
                make: |b| {
                    b.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_CORE", "soft": 2, "hard": 1 }]);
                },
                says: "rt: run container \"{id}\": process.rlimits[0]: RLIMIT_CORE: soft 2 is above hard 1",
            },
            Mistake {
                name: "hard limit raised",
                make: |b| {
                    b.config["process"]["rlimits"] =
                        json!([{ "type": "RLIMIT_NOFILE", "soft": 1, "hard": 999_999_999 }]);
                },
                says: "rt: run container \"{id}\": set RLIMIT_NOFILE to 1:999999999 (the hard limit is above the runtime's own, and raising it needs CAP_SYS_RESOURCE, which this process lacks)",
            },
            Mistake {
                name: "oom score out of range",
                make: |b| b.config["process"]["oomScoreAdj"] = json!(1001),
                says: "rt: run container \"{id}\": process.oomScoreAdj 1001 is not in -1000..=1000",
            },
            Mistake {
                name: "variable without a value",
                make: |b| b.config["process"]["env"] = json!(["NOVALUE"]),
                says: "rt: run container \"{id}\": process.env[0] \"NOVALUE\" has no \"=\" (write NAME=VALUE)",
            },
            Mistake {
                name: "apparmor here",
                make: |b| b.config["process"]["apparmorProfile"] = json!("strict"),
                says: "rt: run container \"{id}\": change to the AppArmor profile \"strict\" (AppArmor is not enabled in this kernel; boot with apparmor=1 security=apparmor, or remove apparmorProfile)",
            },
            Mistake {
                name: "selinux here",
                make: |b| b.config["process"]["selinuxLabel"] = json!("u:r:t:s0"),
                says: "rt: run container \"{id}\": set the SELinux label \"u:r:t:s0\": invalid argument (EINVAL) (SELinux must be enabled on this host and know the label; see /sys/fs/selinux)",
            },
            Mistake {
                name: "unknown scheduling policy",
                make: |b| b.config["process"]["scheduler"] = json!({ "policy": "SCHED_MAGIC" }),
                says: "rt: run container \"{id}\": process.scheduler.policy: unknown value \"SCHED_MAGIC\" (it is one of SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_ISO, SCHED_IDLE, SCHED_DEADLINE)",
            },
        ],
    );
}

#[test]
fn unknown_capabilities_are_dropped_with_a_warning() {
    only_rt!("the words are its own");
    let case = case!();
    let mut bundle = case.bundle();
    for set in ["bounding", "permitted", "effective"] {
        bundle.config["process"]["capabilities"][set] = json!(["CAP_FLY", "CAP_KILL", "CAP_SWIM"]);
    }
    bundle.args(["/probe", "exit", "0"]);
    let output = case.run(&bundle).ok();
    let warning = "level=warning msg=\"ignoring unknown capabilities: CAP_FLY, CAP_SWIM\"\n";
    assert!(output.stderr.ends_with(warning) && output.stderr.lines().count() == 1, "{output}");
}
