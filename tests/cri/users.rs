//! Who a container runs as, asked of the container itself.

use crate::images::registry::{Image, Registry, archive};
use crate::surroundings;
use serde_json::{Value, json};
use tests::cri::{Pod, Surroundings};

/// User 1000 of it is in group 50000.
const GROUPS: &str = "gcr.io/k8s-staging-cri-tools/test-image-predefined-group:latest";

/// What `id` says in a container with this security context, of this image.
fn ids(here: &Surroundings, pod: &Pod<'_>, name: &str, context: &serde_json::Value) -> String {
    let mut container = pod.script(name, "id -u; id -g; id -G");
    container.config["linux"]["security_context"] = context.clone();
    if name == "groups" {
        here.pull(GROUPS);
        container.config["image"]["image"] = json!(GROUPS);
    }
    let container = container.run();
    container.wait();
    let log = container.log();
    let words: Vec<&str> = log.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect();
    words.join(" / ")
}

#[test]
fn a_user_is_a_number_or_a_name_of_the_images_table() {
    let here = surroundings!();
    let pod = here.pod("users").run();
    for (name, context, expected) in [
        ("root", json!({}), "0 / 0 / 0"),
        ("number", json!({"run_as_user": {"value": 1234}}), "1234 / 0 / 0"),
        ("known", json!({"run_as_user": {"value": 33}}), "33 / 33 / 33"),
        ("name", json!({"run_as_username": "www-data"}), "33 / 33 / 33"),
        ("group", json!({"run_as_user": {"value": 1}, "run_as_group": {"value": 7}}), "1 / 7 / 7"),
        ("more", json!({"run_as_user": {"value": 1}, "supplemental_groups": [5, 6]}), "1 / 0 / 0 5 6"),
    ] {
        assert_eq!(ids(&here, &pod, name, &context), expected, "{name}");
    }
}

#[test]
fn the_policy_says_whether_the_images_groups_count() {
    let here = surroundings!();
    let pod = here.pod("policy").run();
    let context = json!({"run_as_user": {"value": 1000}, "supplemental_groups": [1234]});
    assert_eq!(ids(&here, &pod, "groups", &context), "1000 / 1000 / 1000 1234 50000");
    let pod = here.pod("strict").run();
    let context = json!({"run_as_user": {"value": 1000}, "supplemental_groups": [1234], "supplemental_groups_policy": 1});
    assert_eq!(ids(&here, &pod, "groups", &context), "1000 / 1000 / 1000 1234");
}

#[test]
fn an_exec_runs_as_its_container() {
    let here = surroundings!();
    let pod = here.pod("exec").run();
    let mut container = pod.container("c", &["sleep", "1000"]);
    container.config["linux"]["security_context"] =
        json!({"run_as_user": {"value": 33}, "supplemental_groups": [7]});
    let container = container.run();
    assert_eq!(container.exec(&["id", "-G"]).ok().stdout.trim_end(), "33 7");
    assert_eq!(container.exec(&["sh", "-c", "echo $HOME"]).ok().stdout.trim_end(), "/var/www");
    let status = container.inspect()["status"]["user"]["linux"].clone();
    assert_eq!((&status["uid"], &status["gid"]), (&json!("33"), &json!("33")), "{status}");
    assert_eq!(status["supplementalGroups"], json!(["33", "7"]), "{status}");
}

#[test]
fn users_that_are_not_there_and_groups_without_users_are_refused() {
    let here = surroundings!();
    let pod = here.pod("wrong").run();
    for (context, words) in [
        (json!({"run_as_username": "nobody-knows"}), &["nobody-knows"][..]),
        (json!({"run_as_group": {"value": 7}}), &["run_as_group"]),
    ] {
        let mut container = pod.container("c", &["true"]);
        container.config["linux"]["security_context"] = context;
        container.refused(words);
    }
}

/// An image with a USER, whose tables make root of everything of digits that is taken for a name.
fn trap(registry: &Registry, number: usize, user: &str) -> String {
    let names =
        ["1000", "01000", "+1000", "-1", "4294967295", "4294967296", "99999999999999999999", "１０００"];
    let passwd: String = names.iter().map(|name| format!("{name}:x:0:0::/:\n")).collect();
    let group: String = names.iter().map(|name| format!("{name}:x:0:{name}\n")).collect();
    let busybox = std::fs::read(tests::busybox().expect("busybox-static is installed")).expect("busybox");
    let files = [
        ("bin/", &b""[..]),
        ("bin/busybox", &busybox),
        ("etc/", b""),
        ("etc/passwd", passwd.as_bytes()),
        ("etc/group", group.as_bytes()),
    ];
    registry.add(&format!("trap{number}:1"), &Image::of(&[archive(&files)], &json!({"User": user})))
}

// containerd CVE-2024-40635: a USER beyond 32 bits was taken for root. A name of digits in the image's passwd must not be taken at all.
#[test]
fn digits_are_never_looked_up_as_a_name_and_what_image_status_says_is_what_runs() {
    let (here, registry) = (surroundings!(), Registry::start());
    let pod = here.pod("digits").run();
    let runs = |image: &str, context: Value, expected: &str| {
        let mut container =
            pod.container("c", &["/bin/busybox", "sh", "-c", "busybox id -u; busybox id -g; busybox id -G"]);
        container.config["metadata"]["name"] = json!(format!("c{}", expected.replace([' ', '/'], "-")));
        container.config["image"]["image"] = json!(image);
        container.config["linux"]["security_context"] = context;
        let container = container.run();
        container.wait();
        let log = container.log();
        let words: Vec<&str> = log.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect();
        assert_eq!(words.join(" / "), expected, "{image}: {log}");
        let user = container.inspect()["status"]["user"]["linux"].clone();
        assert_eq!(user["uid"], json!(words[0]), "{user}");
        here.crictl(["rm", container.id()]).run().ok();
    };
    let refused = |image: &str, context: Value| {
        let mut container = pod.container("refused", &["/bin/busybox", "id"]);
        container.config["image"]["image"] = json!(image);
        container.config["linux"]["security_context"] = context;
        container.refused(&["write an id of 0 to 4294967294 in decimal digits, or a name"]);
    };
    for (number, (user, status, ids)) in [
        ("1000", json!({"uid": {"value": "1000"}, "username": ""}), Some("1000 / 0 / 0")),
        ("01000", json!({"uid": {"value": "1000"}, "username": ""}), Some("1000 / 0 / 0")),
        ("5:1000", json!({"uid": {"value": "5"}, "username": ""}), Some("5 / 1000 / 1000")),
        ("+1000", json!({"uid": null, "username": "+1000"}), None),
        ("-1", json!({"uid": null, "username": "-1"}), None),
        ("4294967295", json!({"uid": null, "username": "4294967295"}), None),
        ("4294967296", json!({"uid": null, "username": "4294967296"}), None),
        ("99999999999999999999", json!({"uid": null, "username": "99999999999999999999"}), None),
        ("１０００", json!({"uid": null, "username": "１０００"}), None),
        ("5:+1000", json!({"uid": null, "username": "5:+1000"}), None),
    ]
    .into_iter()
    .enumerate()
    {
        let image = trap(&registry, number, user);
        here.pull(&image);
        let shown = here.json(["inspecti", &image])["status"].clone();
        assert_eq!(json!({"uid": shown["uid"], "username": shown["username"]}), status, "{user}");
        match ids {
            Some(ids) => runs(&image, json!({}), ids),
            None => refused(&image, json!({})),
        }
    }
    let image = trap(&registry, 0, "1000");
    runs(&image, json!({"run_as_username": "01000"}), "1000 / 0 / 0");
    runs(&image, json!({"run_as_user": {"value": 1000}, "supplemental_groups": [1000]}), "1000 / 0 / 0 1000");
    for name in ["+1000", "-1", "4294967295", "4294967296", "１０００", " 1000", "1000:1000"] {
        refused(&image, json!({"run_as_username": name}));
    }
    let mut both = pod.container("both", &["/bin/busybox", "id"]);
    both.config["image"]["image"] = json!(image);
    both.config["linux"]["security_context"] =
        json!({"run_as_user": {"value": 1000}, "run_as_username": "root"});
    both.refused(&["are both set"]);
}
