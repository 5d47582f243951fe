//! Bad input: for each mistake the exact message (what, where, why, cure), the exit status, and nothing left behind.
//!
//! The words are rt's own: the references are not asked, and let some of these mistakes pass.

use tests::*;

/// A mistake, and what is said about it; `{bundle}`, `{cgroup}` and `{id}` stand for themselves.
struct Mistake {
    name: &'static str,
    make: fn(&mut Bundle),
    says: &'static str,
}

/// Runs a bundle with the mistake; what is wrong with the answer, if anything.
fn judge(case: &Case, mistake: &Mistake) -> Option<String> {
    let mut bundle = case.bundle();
    bundle.args(["/probe", "exit", "0"]);
    (mistake.make)(&mut bundle);
    let output = case.run(&bundle);
    let cgroup = format!("{}/{}", case.cgroup(), bundle.id());
    let says = mistake
        .says
        .replace("{cgroup}", &cgroup)
        .replace("{bundle}", &bundle.dir().to_string_lossy())
        .replace("{id}", bundle.id());
    let heard = plain(&output.stderr);
    let wrong = output.code() != 1 || heard != says;
    let left = case.leaks();
    let heard = heard.replace(&*bundle.dir().to_string_lossy(), "{bundle}").replace(bundle.id(), "{id}");
    match (wrong, left.is_empty()) {
        (false, true) => None,
        _ => Some(format!(
            "{}: exit {}, left {left:?}\n  expected: {}\n  heard:    {heard}",
            mistake.name,
            output.code(),
            mistake.says
        )),
    }
}

/// The message of the last error line.
fn plain(stderr: &str) -> String {
    stderr.trim_end().to_owned()
}

fn check(case: &Case, mistakes: &[Mistake]) {
    let wrong: Vec<String> = mistakes.iter().filter_map(|mistake| judge(case, mistake)).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Writes the config as text; what the harness would write is dropped.
fn text(bundle: &mut Bundle, text: &str) {
    bundle.config = Value::Null;
    std::fs::write(bundle.dir().join("config.json"), text).expect("write");
}

#[test]
fn mistakes_of_the_bundle() {
    only_rt!("the words are its own");
    let case = case!();
    check(
        &case,
        &[
            Mistake {
                name: "no config",
                make: |b| b.config = Value::Null,
                says: "rt: run container \"{id}\": read config {bundle}/config.json: no such file or directory (ENOENT) (`rt spec` writes one to start from)",
            },
            Mistake {
                name: "config is a directory",
                make: |b| {
                    b.config = Value::Null;
                    std::fs::create_dir(b.dir().join("config.json")).expect("make a directory");
                },
                says: "rt: run container \"{id}\": read config {bundle}/config.json: it is not a regular file",
            },
            Mistake {
                name: "config is not JSON",
                make: |b| text(b, "{\n  \"ociVersion\": \"1.0.2\",\n  oops\n}"),
                says: "rt: run container \"{id}\": parse config {bundle}/config.json: key must be a string at line 3 column 3",
            },
            Mistake {
                name: "config is empty",
                make: |b| text(b, ""),
                says: "rt: run container \"{id}\": parse config {bundle}/config.json: EOF while parsing a value at line 1 column 0",
            },
            Mistake {
                name: "config is a list",
                make: |b| text(b, "[]"),
                says: "rt: run container \"{id}\": ociVersion is missing (write \"1.3.0\")",
            },
            Mistake {
                name: "config ends early",
                make: |b| text(b, "{ \"ociVersion\": \"1.0.2\","),
                says: "rt: run container \"{id}\": parse config {bundle}/config.json: EOF while parsing a value at line 1 column 24",
            },
            Mistake {
                name: "wrong type",
                make: |b| b.config["process"]["args"] = json!("true"),
                says: "rt: run container \"{id}\": understand config {bundle}/config.json: invalid type: string \"true\", expected a sequence at line 136 column 18",
            },
            Mistake {
                name: "wrong type deep inside",
                make: |b| b.config["process"]["user"]["uid"] = json!("root"),
                says: "rt: run container \"{id}\": understand config {bundle}/config.json: invalid type: string \"root\", expected u32 at line 200 column 19",
            },
            Mistake {
                name: "negative id",
                make: |b| b.config["process"]["user"]["uid"] = json!(-1),
                says: "rt: run container \"{id}\": understand config {bundle}/config.json: invalid value: integer `-1`, expected u32 at line 200 column 15",
            },
            Mistake {
                name: "other major version",
                make: |b| b.config["ociVersion"] = json!("2.0.0"),
                says: "rt: run container \"{id}\": ociVersion \"2.0.0\" is not supported (versions 1.0.0 to 1.3.0 are)",
            },
            Mistake {
                name: "no version",
                make: |b| {
                    b.config.as_object_mut().map(|c| c.remove("ociVersion"));
                },
                says: "rt: run container \"{id}\": ociVersion is missing (write \"1.3.0\")",
            },
            Mistake {
                name: "version that is none",
                make: |b| b.config["ociVersion"] = json!("new"),
                says: "rt: run container \"{id}\": ociVersion \"new\" is not supported (versions 1.0.0 to 1.3.0 are)",
            },
            Mistake {
                name: "rootfs missing",
                make: |b| b.config["root"]["path"] = json!("nowhere"),
                says: "rt: run container \"{id}\": open the root filesystem {bundle}/nowhere: no such file or directory (ENOENT) (root.path must name a directory)",
            },
            Mistake {
                name: "rootfs is a file",
                make: |b| {
                    std::fs::write(b.dir().join("file"), "").expect("write");
                    b.config["root"]["path"] = json!("file");
                },
                says: "rt: run container \"{id}\": the root filesystem {bundle}/file is not a directory",
            },
            Mistake {
                name: "no root",
                make: |b| {
                    b.config.as_object_mut().map(|c| c.remove("root"));
                },
                says: "rt: run container \"{id}\": root is missing (give root.path, such as \"rootfs\")",
            },
        ],
    );
}

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
fn mistakes_of_namespaces_and_mappings() {
    only_rt!("the words are its own");
    let case = case!();
    check(
        &case,
        &[
            Mistake {
                name: "namespace twice",
                make: |b| {
                    if let Some(n) = b.config["linux"]["namespaces"].as_array_mut() {
                        n.push(json!({ "type": "pid" }));
                    }
                },
                says: "rt: run container \"{id}\": linux.namespaces: \"pid\" is given twice",
            },
            Mistake {
                name: "unknown namespace",
                make: |b| {
                    if let Some(n) = b.config["linux"]["namespaces"].as_array_mut() {
                        n.push(json!({ "type": "space" }));
                    }
                },
                says: "rt: run container \"{id}\": linux.namespaces: unknown type \"space\" (the types are user, pid, network, ipc, uts, cgroup, time, mount)",
            },
            Mistake {
                name: "path of another type",
                make: |b| {
                    b.namespace("network", Some("/proc/self/ns/ipc"));
                },
                says: "rt: run container \"{id}\": join the network namespace /proc/self/ns/ipc: it is of type ipc",
            },
            Mistake {
                name: "path that is missing",
                make: |b| {
                    b.namespace("network", Some("/run/netns/none"));
                },
                says: "rt: run container \"{id}\": join the network namespace /run/netns/none: no such file or directory (ENOENT) (the process or the bind mount that held it is gone)",
            },
            Mistake {
                name: "path that is a plain file",
                make: |b| {
                    b.namespace("network", Some("/etc/hostname"));
                },
                says: "rt: run container \"{id}\": join the network namespace /etc/hostname: it is not a namespace",
            },
            Mistake {
                name: "relative path",
                make: |b| {
                    b.namespace("network", Some("netns/x"));
                },
                says: "rt: run container \"{id}\": linux.namespaces: the path \"netns/x\" of \"network\" is not absolute",
            },
            Mistake {
                name: "hostname without a uts namespace",
                make: |b| {
                    b.without_namespace("uts");
                },
                says: "rt: run container \"{id}\": hostname \"box\" needs a uts namespace (add {\"type\": \"uts\"} to linux.namespaces, or remove it)",
            },
            Mistake {
                name: "propagation without a mount namespace",
                make: |b| {
                    b.without_namespace("mount").config["linux"]["rootfsPropagation"] = json!("rslave");
                },
                says: "rt: run container \"{id}\": linux.rootfsPropagation needs a new mount namespace (add {\"type\": \"mount\"} without a path to linux.namespaces)",
            },
            Mistake {
                name: "kernel parameter of the host's network",
                make: |b| {
                    b.without_namespace("network");
                    b.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
                },
                says: "rt: run container \"{id}\": linux.sysctl: \"net.ipv4.ip_forward\" is the host's: the container has no network namespace of its own (add \"network\" to linux.namespaces)",
            },
            Mistake {
                name: "kernel parameter without a namespace",
                make: |b| b.config["linux"]["sysctl"] = json!({ "vm.swappiness": "1" }),
                says: "rt: run container \"{id}\": linux.sysctl: \"vm.swappiness\" is not in a separate kernel namespace (it is the host's; set it there with sysctl(8))",
            },
            Mistake {
                name: "kernel parameter that is missing",
                make: |b| b.config["linux"]["sysctl"] = json!({ "net.no.such": "1" }),
                says: "rt: run container \"{id}\": write \"1\" to /proc/sys/net/no/such: no such file or directory (ENOENT)",
            },
            Mistake {
                name: "mappings without a user namespace",
                make: |b| {
                    let map = json!([{ "containerID": 0, "hostID": 1000, "size": 1 }]);
                    b.config["linux"]["uidMappings"] = map.clone();
                    b.config["linux"]["gidMappings"] = map;
                },
                says: "rt: run container \"{id}\": linux: uidMappings without a user namespace (add \"user\" to linux.namespaces)",
            },
            Mistake {
                name: "user namespace without mappings",
                make: |b| {
                    b.namespace("user", None);
                },
                says: "rt: run container \"{id}\": linux: a new user namespace needs uidMappings and gidMappings",
            },
            Mistake {
                name: "mappings that overlap",
                make: |b| {
                    b.user_namespace(100_000, 65_536);
                    b.config["linux"]["uidMappings"] = json!([
                { "containerID": 0, "hostID": 100_000, "size": 10 }, { "containerID": 5, "hostID": 200_000, "size": 10 }]);
                },
                says: "rt: run container \"{id}\": linux.uidMappings[1] and [0] overlap in their containerIDs",
            },
            Mistake {
                name: "mappings whose host ids overlap",
                make: |b| {
                    b.user_namespace(100_000, 65_536);
                    b.config["linux"]["uidMappings"] = json!([
                { "containerID": 0, "hostID": 100_000, "size": 10 }, { "containerID": 50, "hostID": 100_009, "size": 10 }]);
                },
                says: "rt: run container \"{id}\": linux.uidMappings[1] and [0] overlap in their hostIDs",
            },
            Mistake {
                name: "empty mapping",
                make: |b| {
                    b.user_namespace(100_000, 65_536);
                    b.config["linux"]["uidMappings"] =
                        json!([{ "containerID": 0, "hostID": 1000, "size": 0 }]);
                },
                says: "rt: run container \"{id}\": linux.uidMappings[0]: size is 0",
            },
            Mistake {
                name: "user that is not mapped",
                make: |b| {
                    b.user_namespace(100_000, 10);
                    b.config["process"]["user"] = json!({ "uid": 10, "gid": 0 });
                },
                says: "rt: run container \"{id}\": become user 10: invalid argument (EINVAL) (the id must be mapped into the user namespace)",
            },
            Mistake {
                name: "time offsets without a time namespace",
                make: |b| {
                    b.config["linux"]["timeOffsets"] = json!({ "monotonic": { "secs": 1, "nanosecs": 0 } });
                },
                says: "rt: run container \"{id}\": linux.timeOffsets needs a new time namespace (add {\"type\": \"time\"} to linux.namespaces)",
            },
        ],
    );
}

#[test]
fn mistakes_of_mounts_and_paths() {
    only_rt!("the words are its own");
    let case = case!();
    check(
        &case,
        &[
            Mistake {
                name: "unknown option",
                make: |b| {
                    b.mount(json!({ "destination": "/m", "type": "tmpfs", "source": "t", "options": ["nosuid", "nosuchoption"] }));
                },
                says: "rt: run container \"{id}\": mount tmpfs at /m: nosuchoption: invalid argument (EINVAL) (the kernel says: tmpfs: Unknown parameter 'nosuchoption')",
            },
            Mistake {
                name: "bad value of an option",
                make: |b| {
                    b.mount(json!({ "destination": "/m", "type": "tmpfs", "source": "t", "options": ["size=much"] }));
                },
                says: "rt: run container \"{id}\": mount tmpfs at /m: size=much: invalid argument (EINVAL) (the kernel says: tmpfs: Bad value for 'size')",
            },
            Mistake {
                name: "unknown file system",
                make: |b| {
                    b.mount(json!({ "destination": "/m", "type": "nosuchfs", "source": "t" }));
                },
                says: "rt: run container \"{id}\": mount nosuchfs at /m: the kernel has no filesystem nosuchfs (see /proc/filesystems)",
            },
            Mistake {
                name: "bind source missing",
                make: |b| {
                    b.mount(json!({ "destination": "/m", "type": "bind", "source": "/no/such", "options": ["bind"] }));
                },
                says: "rt: run container \"{id}\": mount /no/such at /m: open the source /no/such: no such file or directory (ENOENT)",
            },
            Mistake {
                name: "bind without a source",
                make: |b| {
                    b.mount(json!({ "destination": "/m", "type": "bind", "options": ["bind"] }));
                },
                says: "rt: run container \"{id}\": mounts[7] (/m): a bind mount needs a source",
            },
            Mistake {
                name: "no destination",
                make: |b| {
                    b.mount(json!({ "destination": "", "type": "tmpfs", "source": "t" }));
                },
                says: "rt: run container \"{id}\": mounts[7]: destination is empty",
            },
            Mistake {
                name: "directory over a file",
                make: |b| {
                    b.file("/f", "").bind(std::path::Path::new("/etc"), "/f", &[]);
                },
                says: "rt: run container \"{id}\": mount /etc at /f: the source is a directory, the destination is not",
            },
            Mistake {
                name: "file over a directory",
                make: |b| {
                    b.directory("/d").bind(std::path::Path::new("/etc/hostname"), "/d", &[]);
                },
                says: "rt: run container \"{id}\": mount /etc/hostname at /d: the destination is a directory, the source is not",
            },
            Mistake {
                name: "mask on a symbolic link",
                make: |b| {
                    b.file("/real", "x").link("/alias", "real");
                    b.config["linux"]["maskedPaths"] = json!(["/alias"]);
                },
                says: "rt: run container \"{id}\": mask /alias: it is a symbolic link in the container's root filesystem (name what it points to)",
            },
            Mistake {
                name: "read-only path that is a symbolic link",
                make: |b| {
                    b.file("/real", "x").link("/alias", "real");
                    b.config["linux"]["readonlyPaths"] = json!(["/alias"]);
                },
                says: "rt: run container \"{id}\": make /alias read-only: it is a symbolic link in the container's root filesystem (name what it points to)",
            },
            Mistake {
                name: "relative mask",
                make: |b| b.config["linux"]["maskedPaths"] = json!(["proc/keys"]),
                says: "rt: run container \"{id}\": linux.maskedPaths[0] \"proc/keys\" is not an absolute path",
            },
            Mistake {
                name: "unknown propagation",
                make: |b| b.config["linux"]["rootfsPropagation"] = json!("sideways"),
                says: "rt: run container \"{id}\": linux.rootfsPropagation: unknown value \"sideways\" (it is one of shared, slave, private, unbindable, rshared, rslave, rprivate, runbindable)",
            },
            Mistake {
                name: "device without numbers",
                make: |b| b.config["linux"]["devices"] = json!([{ "path": "/dev/x", "type": "c" }]),
                says: "rt: run container \"{id}\": linux.devices[0] (/dev/x): major and minor are missing",
            },
            Mistake {
                name: "unknown device type",
                make: |b| {
                    b.config["linux"]["devices"] =
                        json!([{ "path": "/dev/x", "type": "z", "major": 1, "minor": 3 }]);
                },
                says: "rt: run container \"{id}\": linux.devices[0] (/dev/x): unknown type \"z\" (it is c, u, b or p)",
            },
            Mistake {
                name: "device with a relative path",
                make: |b| {
                    b.config["linux"]["devices"] =
                        json!([{ "path": "dev/x", "type": "c", "major": 1, "minor": 3 }]);
                },
                says: "rt: run container \"{id}\": linux.devices[0] (dev/x): the path is not absolute",
            },
            Mistake {
                name: "idmap without mappings or a user namespace",
                make: |b| {
                    b.directory("/m").bind(std::path::Path::new("/etc"), "/m", &["idmap"]);
                },
                says: "rt: run container \"{id}\": mounts[7] (/m): option idmap without mappings of its own needs a user namespace (add \"user\" to linux.namespaces, or uidMappings and gidMappings to the mount)",
            },
            Mistake {
                name: "idmapped tmpfs",
                make: |b| {
                    b.mount(json!({ "destination": "/m", "type": "tmpfs", "source": "t", "options": ["idmap"],
            "uidMappings": [{ "containerID": 0, "hostID": 0, "size": 1 }], "gidMappings": [{ "containerID": 0, "hostID": 0, "size": 1 }] }));
                },
                says: "rt: run container \"{id}\": mounts[7] (/m): only bind mounts can be idmapped",
            },
        ],
    );
}

#[test]
fn mistakes_of_seccomp_hooks_and_limits() {
    only_rt!("the words are its own");
    let case = case!();
    check(
        &case,
        &[
            Mistake {
                name: "unknown action",
                make: |b| b.config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_SHRUG" }),
                says: "rt: run container \"{id}\": linux.seccomp.defaultAction: unknown action \"SCMP_ACT_SHRUG\" (known: SCMP_ACT_ALLOW, SCMP_ACT_ERRNO, SCMP_ACT_KILL, SCMP_ACT_KILL_PROCESS, SCMP_ACT_KILL_THREAD, SCMP_ACT_LOG, SCMP_ACT_TRACE, SCMP_ACT_TRAP)",
            },
            Mistake {
                name: "unknown architecture",
                make: |b| {
                    b.config["linux"]["seccomp"] =
                        json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_VAX"] });
                },
                says: "rt: run container \"{id}\": linux.seccomp.architectures[0]: unknown architecture \"SCMP_ARCH_VAX\" (known: SCMP_ARCH_AARCH64, SCMP_ARCH_ARM, SCMP_ARCH_LOONGARCH64, SCMP_ARCH_M68K, SCMP_ARCH_MIPS, SCMP_ARCH_MIPS64, SCMP_ARCH_MIPS64N32, SCMP_ARCH_MIPSEL, SCMP_ARCH_MIPSEL64, SCMP_ARCH_MIPSEL64N32, SCMP_ARCH_PARISC, SCMP_ARCH_PARISC64, SCMP_ARCH_PPC, SCMP_ARCH_PPC64, SCMP_ARCH_PPC64LE, SCMP_ARCH_RISCV64, SCMP_ARCH_S390, SCMP_ARCH_S390X, SCMP_ARCH_SH, SCMP_ARCH_SHEB, SCMP_ARCH_X32, SCMP_ARCH_X86, SCMP_ARCH_X86_64)",
            },
            Mistake {
                name: "unknown operator",
                make: |b| {
                    b.config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            { "names": ["uname"], "action": "SCMP_ACT_ERRNO", "args": [{ "index": 0, "value": 1, "op": "SCMP_CMP_ISH" }] }] });
                },
                says: "rt: run container \"{id}\": linux.seccomp.syscalls[0].args[0].op: unknown operator \"SCMP_CMP_ISH\" (known: SCMP_CMP_EQ, SCMP_CMP_GE, SCMP_CMP_GT, SCMP_CMP_LE, SCMP_CMP_LT, SCMP_CMP_MASKED_EQ, SCMP_CMP_NE)",
            },
            Mistake {
                name: "argument that no call has",
                make: |b| {
                    b.config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            { "names": ["uname"], "action": "SCMP_ACT_ERRNO", "args": [{ "index": 6, "value": 1, "op": "SCMP_CMP_EQ" }] }] });
                },
                says: "rt: run container \"{id}\": linux.seccomp.syscalls[0].args[0].index: 6 is not in 0..=5",
            },
            Mistake {
                name: "unknown filter flag",
                make: |b| {
                    b.config["linux"]["seccomp"] =
                        json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_FUN"] });
                },
                says: "rt: run container \"{id}\": linux.seccomp.flags[0]: unknown flag \"SECCOMP_FILTER_FLAG_FUN\" (known: SECCOMP_FILTER_FLAG_LOG, SECCOMP_FILTER_FLAG_SPEC_ALLOW, SECCOMP_FILTER_FLAG_TSYNC, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)",
            },
            Mistake {
                name: "notification",
                make: |b| {
                    b.config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/none.sock",
            "syscalls": [{ "names": ["uname"], "action": "SCMP_ACT_NOTIFY" }] });
                },
                says: "rt: run container \"{id}\": linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY is not supported yet (take the rules that notify out of the profile)",
            },
            Mistake {
                name: "hook missing",
                make: |b| b.config["hooks"] = json!({ "createRuntime": [{ "path": "/no/hook" }] }),
                says: "rt: run container \"{id}\": run hook createRuntime[0] /no/hook: start it: no such file or directory (ENOENT) (the hook, or the interpreter in its first line, is missing)",
            },
            Mistake {
                name: "hook with a relative path",
                make: |b| b.config["hooks"] = json!({ "createRuntime": [{ "path": "hook" }] }),
                says: "rt: run container \"{id}\": hooks.createRuntime[0].path \"hook\" is not absolute",
            },
            Mistake {
                name: "hook that fails",
                make: |b| b.config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/false" }] }),
                says: "rt: run container \"{id}\": run hook createRuntime[0] /bin/false: exit status 1",
            },
            Mistake {
                name: "hook that fails and says why",
                make: |b| b.config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", "echo no such network >&2; exit 7"] }] }),
                says: "rt: run container \"{id}\": run hook createRuntime[0] /bin/sh: exit status 7, output: \"no such network\"",
            },
            Mistake {
                name: "hook with a bad timeout",
                make: |b| {
                    b.config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/true", "timeout": 0 }] });
                },
                says: "rt: run container \"{id}\": hooks.createRuntime[0].timeout must be above 0 seconds",
            },
            Mistake {
                name: "unknown unified file",
                make: |b| b.config["linux"]["resources"]["unified"] = json!({ "coffee.max": "1" }),
                says: "rt: run container \"{id}\": limit linux.resources.unified.coffee.max: the coffee controller is missing at /sys/fs/cgroup: this kernel does not have it (a kernel that is configured with it)",
            },
            Mistake {
                name: "unified file with a path",
                make: |b| b.config["linux"]["resources"]["unified"] = json!({ "../cgroup.kill": "1" }),
                says: "rt: run container \"{id}\": linux.resources.unified: \"../cgroup.kill\" is no file of a cgroup (such as memory.high)",
            },
            Mistake {
                name: "swap below the limit",
                make: |b| b.config["linux"]["resources"]["memory"] = json!({ "limit": 2000, "swap": 1000 }),
                says: "rt: run container \"{id}\": linux.resources.memory.swap 1000 is below memory.limit 2000: it is the sum of memory and swap",
            },
            Mistake {
                name: "realtime budget",
                make: |b| b.config["linux"]["resources"]["cpu"] = json!({ "realtimeRuntime": 1000 }),
                says: "rt: run container \"{id}\": linux.resources.cpu.realtimeRuntime: cgroup2 has no realtime limits (remove it, or set process.scheduler)",
            },
            Mistake {
                name: "unknown page size",
                make: |b| {
                    b.config["linux"]["resources"]["hugepageLimits"] =
                        json!([{ "pageSize": "3MB", "limit": 1 }]);
                },
                says: "rt: run container \"{id}\": limit linux.resources.hugepageLimits: there is no /sys/fs/cgroup{cgroup}/hugetlb.3MB.max, though the hugetlb controller is there (this kernel lacks the feature)",
            },
            Mistake {
                name: "bad device rule",
                make: |b| {
                    b.config["linux"]["resources"]["devices"] = json!([{ "allow": true, "access": "rwx" }]);
                },
                says: "rt: run container \"{id}\": linux.resources.devices[0].access: unknown letter 'x' (the letters are r, w and m)",
            },
        ],
    );
}

#[test]
fn unknown_members_are_ignored() {
    unless!("crun", "it checks what it does not use");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.config["vm"] = json!({ "hypervisor": { "path": "/x" } });
    bundle.config["process"]["newInSpec2"] = json!([1, { "a": null }]);
    bundle.config["linux"]["mystery"] = json!({});
    bundle.args(["/probe", "exit", "0"]);
    case.run(&bundle).ok();
}

#[test]
fn null_members_count_as_absent() {
    let case = case!();
    let mut bundle = case.bundle();
    for path in ["hooks", "annotations"] {
        bundle.config[path] = Value::Null;
    }
    bundle.config["linux"]["devices"] = Value::Null;
    bundle.config["linux"]["seccomp"] = Value::Null;
    bundle.config["linux"]["sysctl"] = Value::Null;
    bundle.config["linux"]["resources"]["memory"] = Value::Null;
    bundle.config["process"]["rlimits"] = Value::Null;
    bundle.config["process"]["oomScoreAdj"] = Value::Null;
    bundle.args(["/probe", "exit", "0"]);
    case.run(&bundle).ok();
}

#[test]
fn config_of_a_hundred_megabytes_ends_well() {
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "exit", "0"]);
    bundle.write();
    let text = std::fs::read_to_string(bundle.dir().join("config.json")).expect("the config");
    let mut long = text.trim_end().trim_end_matches('}').to_owned();
    long.push_str(",\n\"annotations\": { \"big\": \"");
    long.extend(std::iter::repeat_n('x', 100 << 20));
    long.push_str("\" } }");
    std::fs::write(bundle.dir().join("config.json"), long).expect("write");
    let output = case.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).run();
    assert!([0, 1].contains(&output.code()), "{output}");
}

#[test]
fn config_nested_without_end_is_an_error() {
    let case = case!();
    let mut bundle = case.bundle();
    let deep = format!("{{ \"ociVersion\": \"1.0.2\", \"x\": {}", "[".repeat(1_000_000));
    text(&mut bundle, &deep);
    case.run(&bundle).exits(1);
}

#[test]
fn ten_thousand_mounts_end_well() {
    let case = case!();
    let mut bundle = case.bundle();
    for n in 0..10_000 {
        bundle.mount(json!({ "destination": format!("/m/{n}"), "type": "tmpfs", "source": "t", "options": ["size=4k"] }));
    }
    bundle.args(["/probe", "exit", "0"]);
    bundle.write();
    let call = case.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id());
    let output = call.deadline(std::time::Duration::from_secs(100)).run();
    assert!([0, 1].contains(&output.code()), "{output}");
}

#[test]
fn mistakes_on_the_command_line() {
    only_rt!("the words are its own");
    let case = case!();
    let bundle = case.bundle();
    bundle.write();
    let dir = bundle.dir().to_string_lossy().into_owned();
    let mut wrong = Vec::new();
    for (args, says) in [
        (
            &["run", "--bundle", "/no/such", "x"][..],
            "rt: run container \"x\": open bundle /no/such: no such file or directory (ENOENT) (a bundle is a directory with a config.json; name it with --bundle)",
        ),
        (
            &["run", "--bundle", &dir, "a/b"],
            "rt: invalid container id \"a/b\": '/' is not allowed (use letters, digits and _ + - .)",
        ),
        (&["run", "--bundle", &dir, ""], "rt: container id cannot be empty"),
        (&["run", "--bundle", &dir], "rt: rt run needs a container id (see `rt run --help`)"),
        (&["run", "--bundle", &dir, "x", "y"], "rt: rt run: unexpected argument \"y\" (see `rt run --help`)"),
        (&["run", "--nonsense", "x"], "rt: unknown option --nonsense of rt run (see `rt run --help`)"),
        (&["nonsense"], "rt: unknown command \"nonsense\" (`rt --help` lists the commands)"),
        (&["start", "nobody"], "rt: container \"nobody\" does not exist"),
        (&["kill", "nobody", "TERM"], "rt: container \"nobody\" does not exist"),
        (&["exec", "nobody", "true"], "rt: container \"nobody\" does not exist"),
        (&["pause", "nobody"], "rt: container \"nobody\" does not exist"),
        (&["ps", "nobody"], "rt: container \"nobody\" does not exist"),
        (&["update", "nobody"], "rt: container \"nobody\" does not exist"),
        (&["delete", "nobody"], "rt: container \"nobody\" does not exist"),
        (&["checkpoint", "x"], "rt: rt checkpoint is not supported yet"),
    ] {
        let output = case.call(args.iter().copied()).cwd(&case.dir().join("tmp")).run();
        let heard = plain(&output.stderr).replace(&dir, "{bundle}");
        let code = if args[0] == "exec" { 255 } else { 1 };
        if output.code() != code || heard != says {
            wrong.push(format!("{args:?}: exit {}\n  expected: {says}\n  heard:    {heard}", output.code()));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
