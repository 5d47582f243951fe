//! The server is killed at each recorded point of its work, and comes back: what was half made is undone, what was half removed can be
//! removed, and nothing is left.
//!
//! Needs a build of rt-cri with the feature `failpoints`, which the harness makes.

use crate::surroundings;
use serde_json::json;
use tests::cri::Surroundings;

/// The server dies at `point` in the middle of `call`, and is there again.
fn die_at(here: &mut Surroundings, point: &str, call: &[&str]) {
    here.restart_server_to_die_at(point);
    let output = here.crictl(call).run();
    assert_ne!(output.code(), 0, "{point}: the server did not die there: {output}");
    here.crash_server();
}

#[test]
fn a_pod_that_was_being_made_is_gone_and_can_be_made() {
    let mut here = surroundings!();
    let stages = [
        "write-record",
        "make-network-namespace",
        "set-up-network",
        "make-files",
        "make-spec",
        "start-shim",
        "create-pause-container",
        "start-pause-container",
    ];
    let config = here.pod("half").file();
    let config = config.to_str().expect("a path").to_owned();
    for stage in stages {
        die_at(&mut here, &format!("run/{stage}"), &["runp", &config]);
        assert!(here.words(["pods", "--quiet"]).is_empty(), "{stage}: the half-made pod is listed");
        assert_eq!(here.remains(), Vec::<String>::new(), "{stage}");
        let id = here.crictl(["runp", &config]).run().ok().stdout.trim().to_owned();
        here.crictl(["rmp", "--force", &id]).run().ok();
    }
}

/// Its network is made after its pause process, which has the user namespace that owns it.
#[test]
fn a_pod_with_a_user_namespace_that_was_being_made_is_gone_and_can_be_made() {
    let mut here = surroundings!();
    let mut pod = here.pod("half");
    let map = json!([{"host_id": 1_000_000, "container_id": 0, "length": 65_536}]);
    pod.config["linux"]["security_context"]["namespace_options"] =
        json!({"pid": 1, "userns_options": {"mode": 0, "uids": map, "gids": map}});
    let config = path(&pod.file());
    for stage in ["start-pause-container", "adopt-network-namespace", "set-up-network", "write-network-files"]
    {
        die_at(&mut here, &format!("run/{stage}"), &["runp", &config]);
        assert!(here.words(["pods", "--quiet"]).is_empty(), "{stage}: the half-made pod is listed");
        assert_eq!(here.remains(), Vec::<String>::new(), "{stage}");
        let id = here.crictl(["runp", &config]).run().ok().stdout.trim().to_owned();
        here.crictl(["rmp", "--force", &id]).run().ok();
    }
}

#[test]
fn a_container_that_was_being_made_is_gone_and_can_be_made() {
    let mut here = surroundings!();
    let (pod, pod_file, file) = {
        let pod = here.pod("holder").run();
        let container = pod.container("half", &["sleep", "1000"]);
        (pod.id().to_owned(), path(&pod.file()), path(&container.file()))
    };
    for stage in ["write-record", "make-writable-layer", "make-spec", "create-in-the-shim"] {
        die_at(&mut here, &format!("create/{stage}"), &["create", &pod, &file, &pod_file]);
        assert!(
            here.words(["ps", "--all", "--quiet"]).is_empty(),
            "{stage}: the half-made container is listed"
        );
        let id = here.crictl(["create", &pod, &file, &pod_file]).run().ok().stdout.trim().to_owned();
        here.crictl(["start", &id]).run().ok();
        here.crictl(["rm", "--force", &id]).run().ok();
    }
}

#[test]
fn a_container_that_was_being_started_stopped_or_removed_goes_on_from_there() {
    let mut here = surroundings!();
    let (pod, pod_file, file) = {
        let pod = here.pod("holder").run();
        let container = pod.container("c", &["sleep", "1000"]);
        (pod.id().to_owned(), path(&pod.file()), path(&container.file()))
    };
    let create = |here: &Surroundings| {
        here.crictl(["create", &pod, &file, &pod_file]).run().ok().stdout.trim().to_owned()
    };
    let id = create(&here);
    die_at(&mut here, "start/begin", &["start", &id]);
    assert_eq!(here.words(["ps", "--all", "--quiet", "--no-trunc", "--state", "Created"]), [id.as_str()]);
    die_at(&mut here, "start/started", &["start", &id]);
    assert_eq!(here.words(["ps", "--quiet", "--no-trunc"]), [id.as_str()]);
    for point in ["stop-container/begin", "stop-container/record"] {
        die_at(&mut here, point, &["stop", "--timeout", "0", &id]);
        if point.ends_with("begin") {
            assert_eq!(here.words(["ps", "--quiet", "--no-trunc"]), [id.as_str()], "{point}");
        }
    }
    here.crictl(["stop", &id]).run().ok();
    let status = here.json(["inspect", &id])["status"].clone();
    assert_eq!(
        (&status["state"], &status["exitCode"]),
        (&"CONTAINER_EXITED".into(), &137.into()),
        "{status}"
    );
    for point in ["remove-container/shim", "remove-container/files", "remove-container/record"] {
        die_at(&mut here, point, &["rm", &id]);
        assert_eq!(here.words(["ps", "--all", "--quiet", "--no-trunc"]), [id.as_str()], "{point}");
    }
    here.crictl(["rm", &id]).run().ok();
    assert!(here.words(["ps", "--all", "--quiet"]).is_empty());
}

#[test]
fn a_pod_that_was_being_stopped_or_removed_can_be_stopped_and_removed() {
    let mut here = surroundings!();
    let id = {
        let pod = here.pod("ending").run();
        pod.container("c", &["sleep", "1000"]).run();
        pod.id().to_owned()
    };
    for point in ["stop/containers", "stop/network", "stop/shim", "stop/files", "stop/record"] {
        die_at(&mut here, point, &["stopp", &id]);
        assert_eq!(
            here.words(["pods", "--quiet", "--no-trunc", "--state", "NotReady"]),
            [id.as_str()],
            "{point}"
        );
    }
    here.crictl(["stopp", &id]).run().ok();
    for point in ["remove/files", "remove/record"] {
        die_at(&mut here, point, &["rmp", &id]);
        assert_eq!(here.words(["pods", "--quiet", "--no-trunc"]), [id.as_str()], "{point}");
    }
    here.crictl(["rmp", &id]).run().ok();
    assert!(here.words(["pods", "--quiet"]).is_empty());
    assert!(here.words(["ps", "--all", "--quiet"]).is_empty());
}

fn path(path: &std::path::Path) -> String {
    path.to_str().expect("a path").to_owned()
}
