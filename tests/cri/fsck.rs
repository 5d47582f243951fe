//! `rt-cri fsck`: what is planted among a running pod's things is found and removed, and the pod does not notice. And `rt-cri config`.

use crate::surroundings;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use tests::Output;
use tests::cri::Surroundings;

/// rt-cri's command line with the test's directories.
fn rt_cri(here: &Surroundings, words: &[&str]) -> Output {
    let config = here.case().dir().join("server.toml");
    here.case().program(&tests::cri::program()).args(words).arg("--config").arg(config).run()
}

/// Things that no pod has; what each is called in a report.
fn plant(here: &Surroundings, [root, state]: &[PathBuf; 2]) -> Vec<String> {
    let stranger = "0123456789abcdef".repeat(4);
    let make = |path: PathBuf| {
        std::fs::create_dir_all(&path).expect("make a directory");
        path
    };
    let torn = make(root.join("sandboxes").join(&stranger));
    std::fs::write(torn.join("meta"), "rt-record-1 0 x\n{}").expect("write a torn record");
    let orphan = make(root.join("containers/half"));
    std::fs::write(orphan.join("meta"), "").expect("write a torn record");
    let shm = make(state.join("pods").join(&stranger).join("shm"));
    mount(Some("shm"), &shm, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("mount");
    let bundle = make(state.join("bundles").join(&stranger));
    // Of plugins that gave it nothing.
    let record = tests::json!({
        "pod": { "id": stranger, "namespace": "", "name": "", "uid": "", "netns": "/x", "cgroup_parent": "", "ports": [], "dns": {},
            "annotations": {} },
        "by": { "cni": [] },
        "attachment": null,
    });
    let record_path = root.join("network/attached").join(format!("{stranger}.json"));
    std::fs::write(record_path, record.to_string()).expect("write a network record");
    let namespace = Path::new("/run/netns").join(format!("rt-{stranger}"));
    let add = std::process::Command::new("ip").args(["netns", "add", &format!("rt-{stranger}")]).status();
    assert!(add.expect("ip runs").success());
    let cgroup = make(here.case().cgroup_dir(here.case().cgroup()).join(&stranger));
    vec![
        format!("record {} is torn", torn.display()),
        format!("record {} is torn", orphan.display()),
        format!("mount {} is of no pod", shm.display()),
        format!("directory {} is of no pod", state.join("pods").join(&stranger).display()),
        format!("directory {} is of no pod", bundle.display()),
        format!("network of sandbox {stranger}, which does not exist"),
        format!("network namespace {} is of no pod", namespace.display()),
        format!("cgroup {} is of no pod", cgroup.display()),
    ]
}

#[test]
fn what_no_pod_has_is_found_and_removed_and_pods_stay() {
    let mut here = surroundings!();
    let (pod, container) = {
        let pod = here.pod("stays").run();
        let container = pod.container("c", &["sleep", "1000"]).run();
        (pod.id().to_owned(), container.id().to_owned())
    };
    rt_cri(&here, &["fsck"]).fails(&["another server has /run/rt"]);
    let places = here.places();
    here.end_server(Signal::SIGTERM);
    assert_eq!(rt_cri(&here, &["fsck"]).ok().stdout, "", "something is found though nothing was planted");
    let planted = plant(&here, &places);
    let found = rt_cri(&here, &["fsck"]).fails(&["--repair"]).stdout;
    for thing in &planted {
        assert!(found.contains(thing.as_str()), "{thing:?} is not found:\n{found}");
    }
    assert_eq!(found.lines().count(), planted.len(), "{found}");
    let repaired = rt_cri(&here, &["fsck", "--repair"]).ok();
    assert_eq!(repaired.stderr, "", "{repaired}");
    assert_eq!(rt_cri(&here, &["fsck"]).ok().stdout, "", "something is left");
    here.start_server();
    assert_eq!(here.words(["pods", "--quiet", "--no-trunc", "--state", "Ready"]), [pod.as_str()]);
    assert_eq!(here.words(["ps", "--quiet", "--no-trunc"]), [container.as_str()]);
    here.crictl(["exec", "--sync", &container, "true"]).run().ok();
}

#[test]
fn config_shows_what_is_in_force_and_what_each_key_means() {
    let here = surroundings!();
    let shown = rt_cri(&here, &["config"]).ok().stdout;
    let root = here.places()[0].clone();
    for line in [
        "# Directory of images, records and writable layers: what survives a reboot.\n# Default: \"/var/lib/rt\"\n",
        &format!("root = \"{}\"\n", root.display()),
        "# Default: \"error\"\nmissing = \"ignore\"\n",
        "# Seconds that one plugin may take before it is killed.\ntimeout = 60\n",
    ] {
        assert!(shown.contains(line), "{line:?} is not in:\n{shown}");
    }
    // What it shows is a configuration that means the same.
    let again = here.case().dir().join("again.toml");
    std::fs::write(&again, &shown).expect("write");
    let call = here.case().program(&tests::cri::program()).args(["config", "--config"]).arg(&again);
    assert_eq!(call.run().ok().stdout, shown);
    let call = here.case().program(&tests::cri::program()).args(["config", "--default"]);
    let default = call.run().ok().stdout;
    assert!(default.contains("\n#timeout = 60\n"), "{default}");
}
