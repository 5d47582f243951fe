//! Images and containers whose working directory or program is a magic link, through the whole stack: nothing of the host is reached.
//!
//! The same by hand, with more ways, is in `runtime/magic_links.rs`.

use super::registry::{Image, Registry, archive};
use crate::surroundings;
use serde_json::json;
use tests::cri::{Container, Pod, Surroundings};
use tests::{Output, Victim, probe};

/// Which descriptors a shim or a server has differs.
const ALL: std::ops::RangeInclusive<i32> = 3..=80;

/// An image with the probe and a working directory.
fn image(place: &Surroundings, registry: &Registry, tag: i32, cwd: &str) -> String {
    let probe = std::fs::read(probe()).expect("read the probe");
    let files = archive(&[("bin/", b""), ("bin/probe", &probe)]);
    let config = json!({ "WorkingDir": cwd, "Cmd": ["/bin/probe", "sleep"] });
    let name = registry.add(&format!("app:{tag}"), &Image::of(&[files], &config));
    place.pull(&name);
    name
}

/// Creates, starts and removes it; what it said, and the errors.
fn life(place: &Surroundings, pod: &Pod<'_>, container: &Container<'_>) -> String {
    let created = place.crictl(["create", "--no-pull", pod.id()]).arg(container.file()).arg(pod.file()).run();
    if created.code() != 0 {
        return created.stderr;
    }
    let id = created.stdout.trim();
    let started = place.crictl(["start", id]).run();
    let mut said = started.stderr.clone();
    if started.code() == 0 {
        let status = tests::until("it ends", || {
            let status = place.json(["inspect", id])["status"].clone();
            (status["state"] == "CONTAINER_EXITED").then_some(status)
        });
        said.push_str(&format!("{}exited with {}\n", container.log(), status["exitCode"]));
    }
    // The log goes with it.
    place.crictl(["rm", "--force", id]).run().ok();
    said
}

/// What the probe said that should not be, or that it was run though it is the host's.
fn hits(said: &str) -> impl Iterator<Item = &str> {
    said.lines().filter(|line| line.contains("hit: ") || line.contains("exited with 42"))
}

#[test]
fn working_directory_of_the_config_reaches_nothing_of_the_host() {
    let (place, registry) = (surroundings!(), Registry::start());
    let victim = Victim::of_programs(place.case());
    let image = image(&place, &registry, 1, "/");
    let pod = place.pod("cwd").run();
    let mut found = Vec::new();
    for fd in ALL {
        let mut container = pod.container(&format!("c{fd}"), &["/bin/probe", "reach", &victim.marker()]);
        container.config["image"]["image"] = json!(image);
        container.config["working_dir"] = json!(format!("/proc/self/fd/{fd}"));
        let said = life(&place, &pod, &container);
        found.extend(hits(&said).map(|hit| format!("{fd}: {hit}")));
    }
    victim.is_unharmed();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn working_directory_of_an_image_reaches_nothing_of_the_host() {
    let (place, registry) = (surroundings!(), Registry::start());
    let victim = Victim::of_programs(place.case());
    let pod = place.pod("cwd").run();
    let mut found = Vec::new();
    // Where covered mounts and roots are likely; an image is slower to make than a config.
    for fd in ALL.filter(|fd| *fd >= 40 || fd % 4 == 0) {
        let image = image(&place, &registry, fd, &format!("/proc/self/fd/{fd}"));
        let mut container = pod.container(&format!("c{fd}"), &["/bin/probe", "reach", &victim.marker()]);
        container.config["image"]["image"] = json!(image);
        let said = life(&place, &pod, &container);
        found.extend(hits(&said).map(|hit| format!("{fd}: {hit}")));
    }
    victim.is_unharmed();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn through(victim: &Victim<'_>, fd: i32) -> String {
    format!("/proc/self/fd/{fd}/../../../../../../../../../../..{}", victim.program())
}

#[test]
fn program_of_a_container_is_no_program_of_the_host() {
    let (place, registry) = (surroundings!(), Registry::start());
    let victim = Victim::of_programs(place.case());
    let image = image(&place, &registry, 1, "/");
    let pod = place.pod("program").run();
    let mut found = Vec::new();
    for fd in 3..=40 {
        let mut container = pod.container(&format!("c{fd}"), &[&through(&victim, fd), "hit"]);
        container.config["image"]["image"] = json!(image);
        let said = life(&place, &pod, &container);
        found.extend(hits(&said).map(|hit| format!("{fd}: {hit}")));
    }
    victim.is_unharmed();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn program_of_an_exec_is_no_program_of_the_host() {
    let (place, registry) = (surroundings!(), Registry::start());
    let victim = Victim::of_programs(place.case());
    let image = image(&place, &registry, 1, "/");
    let pod = place.pod("exec").run();
    let mut container = pod.container("c", &["/bin/probe", "sleep"]);
    container.config["image"]["image"] = json!(image);
    let container = container.run();
    let mut found = Vec::new();
    for fd in 3..=40 {
        let Output { stdout, stderr, .. } = container.exec(&[&through(&victim, fd), "hit"]);
        found.extend(hits(&format!("{stdout}{stderr}")).map(|hit| format!("{fd}: {hit}")));
    }
    victim.is_unharmed();
    assert!(found.is_empty(), "{}", found.join("\n"));
}
