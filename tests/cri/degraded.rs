//! What can't be as it was asked for is said: in the container's status, and in the server's conditions. The server of these
//! tests has `cgroup.missing = "ignore"`.

use crate::surroundings;
use serde_json::json;

#[test]
fn a_limit_whose_controller_is_missing_is_left_out_and_said() {
    let here = surroundings!();
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").expect("a cgroup2");
    let has_memory = controllers.split_whitespace().any(|name| name == "memory");
    let conditions = here.json(["info"])["status"]["conditions"].clone();
    let mut conditions = conditions.as_array().expect("a list").iter();
    let said = conditions.find(|condition| condition["type"] == "CgroupControllersComplete");
    let pod = here.pod("limited").run();
    let mut container = pod.container("c", &["sleep", "1000"]);
    container.config["linux"]["resources"] = json!({ "memory_limit_in_bytes": 64 << 20 });
    let status = container.run().inspect()["status"].clone();
    let message = status["message"].as_str().unwrap_or_default();
    if has_memory {
        assert!(!message.contains("memory"), "{status}");
        return;
    }
    let said = said.expect("the condition is there");
    let words = said["message"].as_str().unwrap_or_default();
    assert_eq!(said["status"], false, "{said}");
    assert!(words.contains("memory") && words.contains("cgroup.missing is ignore"), "{said}");
    let left_out =
        "resources.memory_limit_in_bytes 67108864: left out: the host has no cgroup controller \"memory\"";
    assert!(message.contains(left_out), "{status}");
}

#[test]
fn an_oom_score_below_what_the_server_may_set_is_clamped_and_said() {
    let here = surroundings!();
    let pod = here.pod("scored").run();
    let mut container = pod.container("c", &["sleep", "1000"]);
    container.config["linux"]["resources"] = json!({ "oom_score_adj": -500 });
    let container = container.run();
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").expect("ours");
    let own: i32 = own.trim().parse().expect("a number");
    let inside = container.exec(&["cat", "/proc/1/oom_score_adj"]).ok().stdout;
    let status = container.inspect()["status"].clone();
    let message = status["message"].as_str().unwrap_or_default();
    if own <= -500 || may_lower() {
        assert_eq!((inside.trim(), message.contains("oom_score_adj")), ("-500", false), "{status}");
        return;
    }
    assert_eq!(inside.trim(), own.to_string());
    let clamped = format!("resources.oom_score_adj -500: {own}: the server may not set less than its own");
    assert!(message.contains(&clamped), "{status}");
}

/// CAP_SYS_RESOURCE is in force.
fn may_lower() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("ours");
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or_default();
    u64::from_str_radix(mask.trim(), 16).expect("a mask") & 1 << 24 != 0
}
