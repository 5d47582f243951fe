//! What containers own, and what their environments hold, is not for the host's users: the ways to it are root's alone (rule R7).

use crate::surroundings;
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use tests::cri::Surroundings;

const SECRET: &str = "word-that-only-the-container-should-know";
/// A user of the host who has nothing to do with any pod.
const STRANGER: u32 = 12_345;

/// All below `dir`, `dir` too; what is mounted there belongs to the pods.
fn all(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    let Ok(about) = std::fs::symlink_metadata(dir) else { return found };
    if about.is_dir() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let same = entry.metadata().is_ok_and(|there| there.dev() == about.dev());
            found.extend(same.then(|| all(&entry.path())).into_iter().flatten());
        }
    }
    found
}

/// Whether the stranger may run a file: both it and the ways to it let him.
fn stranger_runs(path: &Path) -> bool {
    let test = std::process::Command::new("test").arg("-x").arg(path).uid(STRANGER).gid(STRANGER).status();
    test.expect("test runs").success()
}

/// Files with the container's word in them that somebody else than root may read.
fn readable(here: &Surroundings) -> Vec<PathBuf> {
    let files = here.places().into_iter().flat_map(|place| all(&place));
    let files = files.filter(|path| std::fs::symlink_metadata(path).is_ok_and(|there| there.is_file()));
    let mut with_word = 0;
    let open = files.filter(|path| {
        let text = std::fs::read(path).unwrap_or_default();
        // In protobuf, base64 shifts it in three ways; the environment's name comes before it.
        let said = String::from_utf8_lossy(&text).into_owned();
        let has = said.contains(SECRET) || path.ends_with("meta") && path.starts_with(&here.places()[0]);
        with_word += usize::from(has);
        has && std::fs::metadata(path).is_ok_and(|there| there.mode() & 0o077 != 0)
    });
    let open = open.collect();
    assert!(with_word >= 2, "neither the record nor the bundle has it");
    open
}

/// Every way by which the server's directories would let others pass.
fn passable(here: &Surroundings) -> Vec<PathBuf> {
    let mut ways = here.places().to_vec();
    for part in ["containers", "sandboxes", "images", "images/layers", "network"] {
        ways.push(here.places()[0].join(part));
    }
    for part in ["pods", "bundles", "rt", "pause"] {
        ways.push(here.places()[1].join(part));
    }
    for record in ["containers", "sandboxes"] {
        let entries = std::fs::read_dir(here.places()[0].join(record)).expect("records").flatten();
        ways.extend(entries.map(|entry| entry.path()));
    }
    ways.retain(|way| std::fs::metadata(way).expect("it is there").mode() & 0o077 != 0);
    ways
}

#[test]
fn a_user_of_the_host_reaches_no_file_of_a_container_not_even_in_an_older_installation() {
    let mut here = surroundings!();
    // The test's own directories are no obstacle.
    for way in here.case().dir().ancestors().take(2) {
        set_permissions(way, Permissions::from_mode(0o755)).expect("set a mode");
    }
    let [root, state] = here.places();
    let id = {
        let pod = here.pod("private").run();
        let mut container = pod.container("c", &["sleep", "1000"]);
        container.config["envs"] = json!([{"key": "WORD", "value": SECRET}]);
        let container = container.run();
        container.exec(&["sh", "-c", "cp /bin/busybox /x && chmod 4755 /x"]).ok();
        container.id().to_owned()
    };
    let planted = root.join("containers").join(&id).join("upper/x");
    assert_eq!(std::fs::metadata(&planted).expect("the file").mode() & 0o7777, 0o4755);
    assert!(!stranger_runs(&planted), "a stranger runs {}", planted.display());
    assert_eq!(passable(&here), Vec::<PathBuf>::new());
    assert_eq!(readable(&here), Vec::<PathBuf>::new());

    // As an older version left it, or a careless restore.
    here.end_server(Signal::SIGTERM);
    for path in [root.as_path(), &state].into_iter().flat_map(all) {
        let about = std::fs::symlink_metadata(&path).expect("it is there");
        let record = path.ends_with("meta") || path.ends_with("status");
        let is_open = about.is_dir() && !path.to_string_lossy().contains("/upper");
        if is_open || record {
            set_permissions(&path, Permissions::from_mode(if record { 0o644 } else { 0o755 }))
                .expect("chmod");
        }
    }
    assert!(stranger_runs(&planted), "the test opens too little: the attack must work here");
    here.start_server();
    assert!(!stranger_runs(&planted), "a stranger runs {} after a start", planted.display());
    assert_eq!(readable(&here), Vec::<PathBuf>::new());
    assert_eq!(passable(&here), Vec::<PathBuf>::new());
}
