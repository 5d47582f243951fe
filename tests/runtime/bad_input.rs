//! Bad input: for each mistake the exact message (what, where, why, cure), the exit status, and nothing left behind.
//!
//! The words are rt's own: the references are not asked, and let some of these mistakes pass.

use tests::*;

/// A mistake, and what is said about it; `{bundle}` and `{id}` stand for themselves.
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
    let says = mistake.says.replace("{bundle}", &bundle.dir().to_string_lossy()).replace("{id}", bundle.id());
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
            Mistake { name: "no config", make: |b| b.config = Value::Null, says: "?" },
            Mistake {
                name: "config is a directory",
                make: |b| {
                    b.config = Value::Null;
                    std::fs::create_dir(b.dir().join("config.json")).expect("make a directory");
                },
                says: "?",
            },
            Mistake {
                name: "config is not JSON",
                make: |b| text(b, "{\n  \"ociVersion\": \"1.0.2\",\n  oops\n}"),
                says: "?",
            },
            Mistake { name: "config is empty", make: |b| text(b, ""), says: "?" },
            Mistake { name: "config is a list", make: |b| text(b, "[]"), says: "?" },
            Mistake {
                name: "config ends early",
                make: |b| text(b, "{ \"ociVersion\": \"1.0.2\","),
                says: "?",
            },
            Mistake { name: "wrong type", make: |b| b.config["process"]["args"] = json!("true"), says: "?" },
            Mistake {
                name: "wrong type deep inside",
                make: |b| b.config["process"]["user"]["uid"] = json!("root"),
                says: "?",
            },
            Mistake {
                name: "negative id",
                make: |b| b.config["process"]["user"]["uid"] = json!(-1),
                says: "?",
            },
            Mistake {
                name: "other major version",
                make: |b| b.config["ociVersion"] = json!("2.0.0"),
                says: "?",
            },
            Mistake {
                name: "no version",
                make: |b| {
                    b.config.as_object_mut().map(|c| c.remove("ociVersion"));
                },
                says: "?",
            },
            Mistake {
                name: "version that is none",
                make: |b| b.config["ociVersion"] = json!("new"),
                says: "?",
            },
            Mistake {
                name: "rootfs missing",
                make: |b| b.config["root"]["path"] = json!("nowhere"),
                says: "?",
            },
            Mistake {
                name: "rootfs is a file",
                make: |b| {
                    std::fs::write(b.dir().join("file"), "").expect("write");
                    b.config["root"]["path"] = json!("file");
                },
                says: "?",
            },
            Mistake {
                name: "no root",
                make: |b| {
                    b.config.as_object_mut().map(|c| c.remove("root"));
                },
                says: "?",
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
                says: "?",
            },
            Mistake {
                name: "no args",
                make: |b| {
                    b.args([]);
                },
                says: "?",
            },
            Mistake {
                name: "executable missing",
                make: |b| {
                    b.args(["/no/such"]);
                },
                says: "?",
            },
            Mistake {
                name: "command not in PATH",
                make: |b| {
                    b.args(["nowhere"]);
                },
                says: "?",
            },
            Mistake {
                name: "not executable",
                make: |b| {
                    b.file("/data", "x").mode("/data", 0o644).args(["/data"]);
                },
                says: "?",
            },
            Mistake {
                name: "executable is a directory",
                make: |b| {
                    b.args(["/etc"]);
                },
                says: "?",
            },
            Mistake {
                name: "not a program",
                make: |b| {
                    b.file("/data", "\u{1}\u{2}").mode("/data", 0o755).args(["/data"]);
                },
                says: "?",
            },
            Mistake {
                name: "interpreter missing",
                make: |b| {
                    b.file("/s", "#!/no/sh\n").mode("/s", 0o755).args(["/s"]);
                },
                says: "?",
            },
            Mistake { name: "relative cwd", make: |b| b.config["process"]["cwd"] = json!("etc"), says: "?" },
            Mistake {
                name: "cwd is a file",
                make: |b| b.config["process"]["cwd"] = json!("/probe"),
                says: "?",
            },
            Mistake {
                name: "no cwd",
                make: |b| {
                    b.config["process"].as_object_mut().map(|c| c.remove("cwd"));
                },
                says: "?",
            },
            Mistake {
                name: "unknown limit",
                make: |b| {
                    b.config["process"]["rlimits"] =
                        json!([{ "type": "RLIMIT_COFFEE", "soft": 1, "hard": 1 }])
                },
                says: "?",
            },
            Mistake {
                name: "limit given twice",
                make: |b| {
                    b.config["process"]["rlimits"] = json!([
            { "type": "RLIMIT_CORE", "soft": 1, "hard": 1 }, { "type": "RLIMIT_CORE", "soft": 2, "hard": 2 }])
                },
                says: "?",
            },
            Mistake {
                name: "soft limit above the hard",
                make: |b| {
                    b.config["process"]["rlimits"] = json!([{ "type": "RLIMIT_CORE", "soft": 2, "hard": 1 }])
                },
                says: "?",
            },
            Mistake {
                name: "hard limit raised",
                make: |b| {
                    b.config["process"]["rlimits"] =
                        json!([{ "type": "RLIMIT_NOFILE", "soft": 1, "hard": 999_999_999 }])
                },
                says: "?",
            },
            Mistake {
                name: "oom score out of range",
                make: |b| b.config["process"]["oomScoreAdj"] = json!(1001),
                says: "?",
            },
            Mistake {
                name: "variable without a value",
                make: |b| b.config["process"]["env"] = json!(["NOVALUE"]),
                says: "?",
            },
            Mistake {
                name: "apparmor here",
                make: |b| b.config["process"]["apparmorProfile"] = json!("strict"),
                says: "?",
            },
            Mistake {
                name: "selinux here",
                make: |b| b.config["process"]["selinuxLabel"] = json!("u:r:t:s0"),
                says: "?",
            },
            Mistake {
                name: "unknown scheduling policy",
                make: |b| b.config["process"]["scheduler"] = json!({ "policy": "SCHED_MAGIC" }),
                says: "?",
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
                    b.config["linux"]["namespaces"].as_array_mut().map(|n| n.push(json!({ "type": "pid" })));
                },
                says: "?",
            },
            Mistake {
                name: "unknown namespace",
                make: |b| {
                    b.config["linux"]["namespaces"]
                        .as_array_mut()
                        .map(|n| n.push(json!({ "type": "space" })));
                },
                says: "?",
            },
            Mistake {
                name: "path of another type",
                make: |b| {
                    b.namespace("network", Some("/proc/self/ns/ipc"));
                },
                says: "?",
            },
            Mistake {
                name: "path that is missing",
                make: |b| {
                    b.namespace("network", Some("/run/netns/none"));
                },
                says: "?",
            },
            Mistake {
                name: "path that is a plain file",
                make: |b| {
                    b.namespace("network", Some("/etc/hostname"));
                },
                says: "?",
            },
            Mistake {
                name: "relative path",
                make: |b| {
                    b.namespace("network", Some("netns/x"));
                },
                says: "?",
            },
            Mistake {
                name: "hostname without a uts namespace",
                make: |b| {
                    b.without_namespace("uts");
                },
                says: "?",
            },
            Mistake {
                name: "no mount namespace",
                make: |b| {
                    b.without_namespace("mount");
                },
                says: "?",
            },
            Mistake {
                name: "kernel parameter of the host's network",
                make: |b| {
                    b.without_namespace("network");
                    b.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
                },
                says: "?",
            },
            Mistake {
                name: "kernel parameter without a namespace",
                make: |b| b.config["linux"]["sysctl"] = json!({ "vm.swappiness": "1" }),
                says: "?",
            },
            Mistake {
                name: "kernel parameter that is missing",
                make: |b| b.config["linux"]["sysctl"] = json!({ "net.no.such": "1" }),
                says: "?",
            },
            Mistake {
                name: "mappings without a user namespace",
                make: |b| {
                    b.config["linux"]["uidMappings"] =
                        json!([{ "containerID": 0, "hostID": 1000, "size": 1 }]);
                },
                says: "?",
            },
            Mistake {
                name: "user namespace without mappings",
                make: |b| {
                    b.namespace("user", None);
                },
                says: "?",
            },
            Mistake {
                name: "mappings that overlap",
                make: |b| {
                    b.user_namespace(100_000, 65_536);
                    b.config["linux"]["uidMappings"] = json!([
                { "containerID": 0, "hostID": 100_000, "size": 10 }, { "containerID": 5, "hostID": 200_000, "size": 10 }]);
                },
                says: "?",
            },
            Mistake {
                name: "mappings whose host ids overlap",
                make: |b| {
                    b.user_namespace(100_000, 65_536);
                    b.config["linux"]["uidMappings"] = json!([
                { "containerID": 0, "hostID": 100_000, "size": 10 }, { "containerID": 50, "hostID": 100_009, "size": 10 }]);
                },
                says: "?",
            },
            Mistake {
                name: "empty mapping",
                make: |b| {
                    b.user_namespace(100_000, 65_536);
                    b.config["linux"]["uidMappings"] =
                        json!([{ "containerID": 0, "hostID": 1000, "size": 0 }]);
                },
                says: "?",
            },
            Mistake {
                name: "user that is not mapped",
                make: |b| {
                    b.user_namespace(100_000, 10);
                    b.config["process"]["user"] = json!({ "uid": 10, "gid": 0 });
                },
                says: "?",
            },
            Mistake {
                name: "time offsets without a time namespace",
                make: |b| {
                    b.config["linux"]["timeOffsets"] = json!({ "monotonic": { "secs": 1, "nanosecs": 0 } });
                },
                says: "?",
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
                says: "?",
            },
            Mistake {
                name: "bad value of an option",
                make: |b| {
                    b.mount(json!({ "destination": "/m", "type": "tmpfs", "source": "t", "options": ["size=much"] }));
                },
                says: "?",
            },
            Mistake {
                name: "unknown file system",
                make: |b| {
                    b.mount(json!({ "destination": "/m", "type": "nosuchfs", "source": "t" }));
                },
                says: "?",
            },
            Mistake {
                name: "bind source missing",
                make: |b| {
                    b.mount(json!({ "destination": "/m", "type": "bind", "source": "/no/such", "options": ["bind"] }));
                },
                says: "?",
            },
            Mistake {
                name: "bind without a source",
                make: |b| {
                    b.mount(json!({ "destination": "/m", "type": "bind", "options": ["bind"] }));
                },
                says: "?",
            },
            Mistake {
                name: "no destination",
                make: |b| {
                    b.mount(json!({ "destination": "", "type": "tmpfs", "source": "t" }));
                },
                says: "?",
            },
            Mistake {
                name: "directory over a file",
                make: |b| {
                    b.file("/f", "").bind(std::path::Path::new("/etc"), "/f", &[]);
                },
                says: "?",
            },
            Mistake {
                name: "file over a directory",
                make: |b| {
                    b.directory("/d").bind(std::path::Path::new("/etc/hostname"), "/d", &[]);
                },
                says: "?",
            },
            Mistake {
                name: "mask on a symbolic link",
                make: |b| {
                    b.file("/real", "x").link("/alias", "real");
                    b.config["linux"]["maskedPaths"] = json!(["/alias"]);
                },
                says: "?",
            },
            Mistake {
                name: "read-only path that is a symbolic link",
                make: |b| {
                    b.file("/real", "x").link("/alias", "real");
                    b.config["linux"]["readonlyPaths"] = json!(["/alias"]);
                },
                says: "?",
            },
            Mistake {
                name: "relative mask",
                make: |b| b.config["linux"]["maskedPaths"] = json!(["proc/keys"]),
                says: "?",
            },
            Mistake {
                name: "unknown propagation",
                make: |b| b.config["linux"]["rootfsPropagation"] = json!("sideways"),
                says: "?",
            },
            Mistake {
                name: "device without numbers",
                make: |b| b.config["linux"]["devices"] = json!([{ "path": "/dev/x", "type": "c" }]),
                says: "?",
            },
            Mistake {
                name: "unknown device type",
                make: |b| {
                    b.config["linux"]["devices"] =
                        json!([{ "path": "/dev/x", "type": "z", "major": 1, "minor": 3 }])
                },
                says: "?",
            },
            Mistake {
                name: "device with a relative path",
                make: |b| {
                    b.config["linux"]["devices"] =
                        json!([{ "path": "dev/x", "type": "c", "major": 1, "minor": 3 }])
                },
                says: "?",
            },
            Mistake {
                name: "idmapped tmpfs",
                make: |b| {
                    b.mount(json!({ "destination": "/m", "type": "tmpfs", "source": "t", "options": ["idmap"],
            "uidMappings": [{ "containerID": 0, "hostID": 0, "size": 1 }], "gidMappings": [{ "containerID": 0, "hostID": 0, "size": 1 }] }));
                },
                says: "?",
            },
            Mistake {
                name: "idmap without mappings or user namespace",
                make: |b| {
                    b.bind(std::path::Path::new("/etc"), "/m", &["idmap"]);
                },
                says: "?",
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
                says: "?",
            },
            Mistake {
                name: "unknown architecture",
                make: |b| {
                    b.config["linux"]["seccomp"] =
                        json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_VAX"] })
                },
                says: "?",
            },
            Mistake {
                name: "unknown operator",
                make: |b| {
                    b.config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            { "names": ["uname"], "action": "SCMP_ACT_ERRNO", "args": [{ "index": 0, "value": 1, "op": "SCMP_CMP_ISH" }] }] })
                },
                says: "?",
            },
            Mistake {
                name: "argument that no call has",
                make: |b| {
                    b.config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            { "names": ["uname"], "action": "SCMP_ACT_ERRNO", "args": [{ "index": 6, "value": 1, "op": "SCMP_CMP_EQ" }] }] })
                },
                says: "?",
            },
            Mistake {
                name: "unknown filter flag",
                make: |b| {
                    b.config["linux"]["seccomp"] =
                        json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_FUN"] })
                },
                says: "?",
            },
            Mistake {
                name: "notification",
                make: |b| {
                    b.config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/none.sock",
            "syscalls": [{ "names": ["uname"], "action": "SCMP_ACT_NOTIFY" }] })
                },
                says: "?",
            },
            Mistake {
                name: "hook missing",
                make: |b| b.config["hooks"] = json!({ "createRuntime": [{ "path": "/no/hook" }] }),
                says: "?",
            },
            Mistake {
                name: "hook with a relative path",
                make: |b| b.config["hooks"] = json!({ "createRuntime": [{ "path": "hook" }] }),
                says: "?",
            },
            Mistake {
                name: "hook that fails",
                make: |b| b.config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/false" }] }),
                says: "?",
            },
            Mistake {
                name: "hook that fails and says why",
                make: |b| b.config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", "echo no such network >&2; exit 7"] }] }),
                says: "?",
            },
            Mistake {
                name: "hook with a bad timeout",
                make: |b| {
                    b.config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/true", "timeout": 0 }] })
                },
                says: "?",
            },
            Mistake {
                name: "unknown unified file",
                make: |b| b.config["linux"]["resources"]["unified"] = json!({ "coffee.max": "1" }),
                says: "?",
            },
            Mistake {
                name: "unified file with a path",
                make: |b| b.config["linux"]["resources"]["unified"] = json!({ "../cgroup.kill": "1" }),
                says: "?",
            },
            Mistake {
                name: "swap below the limit",
                make: |b| b.config["linux"]["resources"]["memory"] = json!({ "limit": 2000, "swap": 1000 }),
                says: "?",
            },
            Mistake {
                name: "realtime budget",
                make: |b| b.config["linux"]["resources"]["cpu"] = json!({ "realtimeRuntime": 1000 }),
                says: "?",
            },
            Mistake {
                name: "unknown page size",
                make: |b| {
                    b.config["linux"]["resources"]["hugepageLimits"] =
                        json!([{ "pageSize": "3MB", "limit": 1 }])
                },
                says: "?",
            },
            Mistake {
                name: "bad device rule",
                make: |b| {
                    b.config["linux"]["resources"]["devices"] = json!([{ "allow": true, "access": "rwx" }])
                },
                says: "?",
            },
            Mistake {
                name: "systemd cgroup path without systemd",
                make: |b| b.config["linux"]["cgroupsPath"] = json!("system.slice:rt:x"),
                says: "?",
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
        (&["run", "--bundle", "/no/such", "x"][..], "?"),
        (&["run", "--bundle", &dir, "a/b"], "?"),
        (&["run", "--bundle", &dir, ""], "?"),
        (&["run", "--bundle", &dir], "?"),
        (&["run", "--bundle", &dir, "x", "y"], "?"),
        (&["run", "--nonsense", "x"], "?"),
        (&["nonsense"], "?"),
        (&["start", "nobody"], "?"),
        (&["kill", "nobody", "TERM"], "?"),
        (&["exec", "nobody", "true"], "?"),
        (&["pause", "nobody"], "?"),
        (&["ps", "nobody"], "?"),
        (&["update", "nobody"], "?"),
        (&["delete", "nobody"], "?"),
        (&["checkpoint", "x"], "?"),
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
