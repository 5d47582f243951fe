//! Bundles as docker, podman, and containerd with a kubelet write them: each runs as it stands.
//!
//! The engines themselves are driven elsewhere (`hack/peers`); here are their configs, from `data/bundles`.

use std::path::Path;
use tests::*;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data");

/// A bundle with the named config; `pause` is the container whose namespaces it joins.
fn bundle(case: &Case, name: &str, pause: Option<&Running<'_>>) -> Bundle {
    let mut bundle = case.bundle();
    for (file, text) in [
        ("resolv.conf", "nameserver 10.0.0.1\n"),
        ("hosts", "127.0.0.1 localhost\n"),
        ("hostname", "x\n"),
        ("containerenv", ""),
        ("termination-log", ""),
    ] {
        std::fs::create_dir_all(bundle.dir().join("files")).expect("make a directory");
        std::fs::write(bundle.dir().join("files").join(file), text).expect("write");
    }
    for part in ["secrets", "volume", "shm"] {
        std::fs::create_dir_all(bundle.dir().join(part)).expect("make a directory");
    }
    std::fs::write(bundle.dir().join("secrets/token"), "t").expect("write");
    let path = format!("{DATA}/bundles/{name}.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let pid = pause.map_or(0, Running::pid).to_string();
    let values = [
        ("@BUNDLE@", bundle.dir().to_string_lossy().into_owned()),
        ("@ID@", bundle.id().to_owned()),
        ("@CGROUP@", bundle.cgroup().to_owned()),
        ("@NETNS@", case.dir().join("netns").to_string_lossy().into_owned()),
        ("@PAUSE ID@", pause.map_or("", Running::id).to_owned()),
        ("@PAUSE@", pid),
        ("@PROBE@", probe().to_string_lossy().into_owned()),
    ];
    let text = values.iter().fold(text, |text, (name, value)| text.replace(name, value));
    bundle.config = serde_json::from_str(&text).expect("JSON");
    let profile = bundle.config["linux"]["seccomp"].as_str().expect("the name of a profile");
    let profile = profile.trim_start_matches("@SECCOMP ").trim_end_matches('@');
    let profile = std::fs::read_to_string(format!("{DATA}/seccomp/{profile}.json")).expect("a profile");
    bundle.config["linux"]["seccomp"] = serde_json::from_str(&profile).expect("JSON");
    fit(case, &mut bundle);
    bundle
}

/// Takes out what this machine can't do at all: limits of missing controllers, an OOM score below ours without CAP_SYS_RESOURCE.
fn fit(case: &Case, bundle: &mut Bundle) {
    let there =
        std::fs::read_to_string(case.cgroup_dir("/").join("cgroup.controllers")).expect("cgroup.controllers");
    let there: Vec<&str> = there.split_whitespace().collect();
    let resources = bundle.config["linux"]["resources"].as_object_mut().expect("resources");
    for (key, controller) in
        [("memory", "memory"), ("cpu", "cpu"), ("pids", "pids"), ("blockIO", "io"), ("unified", "memory")]
    {
        let empty = |v: &Value| v.as_object().is_some_and(|o| o.values().all(|v| *v == 0 || *v == false));
        if !there.contains(&controller) && resources.get(key).is_some_and(|v| !empty(v)) {
            resources.remove(key);
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").expect("our status");
    let effective = status.lines().find_map(|l| l.strip_prefix("CapEff:")).map(str::trim).unwrap_or_default();
    let resource = u64::from_str_radix(effective, 16).is_ok_and(|bits| bits >> 24 & 1 == 1);
    if !resource && bundle.config["process"]["oomScoreAdj"].as_i64() < Some(0) {
        bundle.config["process"]["oomScoreAdj"] = json!(0);
    }
}

/// A network namespace bound to a file, as CNI makes it.
fn network(case: &Case) {
    let file = case.dir().join("netns");
    std::fs::write(&file, "").expect("make a file");
    let path = file.to_string_lossy().into_owned();
    let unshare = ["--net=".to_owned() + &path, "true".to_owned()];
    case.program(Path::new("/usr/bin/unshare")).args(unshare).run().ok();
}

fn remove_network(case: &Case) {
    nix::mount::umount2(&case.dir().join("netns"), nix::mount::MntFlags::MNT_DETACH).expect("unmount");
}

#[test]
fn dockers_bundle_runs() {
    unless!("crun", "it takes a weight of 0 for a limit");
    let case = case!();
    let mut bundle = bundle(&case, "docker", None);
    let report = case.see(&mut bundle);
    assert_eq!(report["hostname"], "5bf2ae1bb8c8");
    assert_eq!(report["seccomp"], 2);
    assert_eq!(report["no_new_privs"], 0);
    assert_eq!(report.capabilities("effective").len(), 14);
    report.mount("/etc/hosts");
    report.mount("/sys/fs/cgroup").expect(&["ro", "nosuid", "nodev", "noexec"]);
    let hook = std::fs::read_to_string(bundle.dir().join("prestart.json")).expect("the hook ran");
    assert!(hook.contains(bundle.id()), "{hook}");
}

#[test]
fn podmans_bundle_runs() {
    let case = case!();
    network(&case);
    let mut bundle = bundle(&case, "podman", None);
    let report = case.see(&mut bundle);
    remove_network(&case);
    assert_eq!(report["umask"], 0o22);
    assert_eq!(report["rlimits"]["RLIMIT_NOFILE"], json!([4096, 4096]));
    assert_eq!(report.capabilities("effective").len(), 11);
    report.mount("/dev/shm").expect(&["nosuid", "nodev", "noexec"]);
    report.mount("/dev").expect(&["nosuid", "noexec"]);
    assert_eq!(report["seccomp"], 2);
}

#[test]
fn pod_of_containerd_and_kubelet_runs() {
    let case = case!();
    network(&case);
    let sandbox = bundle(&case, "cri-sandbox", None);
    let pause = case.start(&sandbox);
    let report = Report::parse(&pause.exec(&["/probe", "report"]).ok().stdout);
    assert_eq!(report["hostname"], "web-0");
    report.mount("/").expect(&["ro"]);
    report.mount("/dev/shm").expect(&["ro"]);
    let mut app = bundle(&case, "cri-container", Some(&pause));
    let app = case.see(&mut app);
    for kind in ["net", "ipc", "uts"] {
        assert_eq!(app.namespace(kind), report.namespace(kind), "{kind}");
    }
    assert_ne!(app.namespace("pid"), report.namespace("pid"));
    assert_eq!(app["hostname"], "web-0");
    assert_eq!(app["oom_score_adj"], 1000);
    assert_eq!(app["uid"], json!([1000, 1000, 1000]));
    app.mount("/var/run/secrets/kubernetes.io/serviceaccount").expect(&["ro"]);
    app.mount("/data").expect(&["rw"]);
    app.mount("/dev/termination-log");
    let mut debug = bundle(&case, "cri-container-shared-pid", Some(&pause));
    let debug = case.see(&mut debug);
    assert_eq!(debug.namespace("pid"), report.namespace("pid"));
    pause.delete();
    remove_network(&case);
}
