//! Who a container runs as, asked of the container itself.

use crate::surroundings;
use serde_json::json;
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
