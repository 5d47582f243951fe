//! Numbers, the rule for missing controllers, and updates.

use serde_json::{Value, json};

use super::super::testing;
use super::*;

fn host(controllers: &[&str]) -> Host {
    Host { controllers: controllers.iter().map(|&name| name.to_owned()).collect(), ..testing::host() }
}

fn asked() -> api::LinuxContainerResources {
    api::LinuxContainerResources {
        cpu_shares: 512,
        cpu_quota: 50_000,
        cpu_period: 100_000,
        memory_limit_in_bytes: 64 << 20,
        cpuset_cpus: "0-1".into(),
        hugepage_limits: vec![
            api::HugepageLimit { page_size: "2MB".into(), limit: 4 << 20 },
            api::HugepageLimit { page_size: "1GB".into(), limit: 0 },
        ],
        unified: [("memory.oom.group".to_owned(), "1".to_owned())].into(),
        ..Default::default()
    }
}

fn shown(resources: &LinuxResources) -> Value {
    serde_json::to_value(resources).unwrap()
}

#[test]
fn everything_is_mapped_where_everything_is_there() {
    let (made, degraded) = linux(&asked(), &testing::host()).unwrap();
    assert_eq!(
        shown(&made),
        json!({
            "cpu": {"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0-1"},
            "memory": {"limit": 64 << 20, "swap": 64 << 20},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}, {"pageSize": "1GB", "limit": 0}],
            "unified": {"memory.oom.group": "1"},
        })
    );
    assert_eq!(degraded, []);
}

#[test]
fn nothing_asked_is_nothing_set() {
    for host in [testing::host(), host(&[])] {
        let (made, degraded) = linux(&api::LinuxContainerResources::default(), &host).unwrap();
        assert_eq!((shown(&made), degraded), (json!({}), vec![]));
    }
}

#[test]
fn real_limits_fail_without_their_controller() {
    let cure =
        "(enable it, remove the limit, or set [cgroup] missing = \"ignore\" in the server's configuration)";
    for (there, message) in [
        (
            &["memory", "cpuset", "hugetlb"][..],
            "set resources.cpu_quota 50000: the host has no cgroup controller \"cpu\"",
        ),
        (
            &["cpu", "cpuset", "hugetlb"],
            "set resources.memory_limit_in_bytes 67108864: the host has no cgroup controller \"memory\"",
        ),
        (
            &["cpu", "memory", "hugetlb"],
            "set resources.cpuset_cpus 0-1: the host has no cgroup controller \"cpuset\"",
        ),
        (
            &["cpu", "memory", "cpuset"],
            "set resources.hugepage_limits 4194304 of 2MB: the host has no cgroup controller \"hugetlb\"",
        ),
    ] {
        let error = linux(&asked(), &host(there)).unwrap_err();
        assert_eq!(error.to_string(), format!("{message} {cure}"));
        assert_eq!(error.kind(), crate::error::Kind::Unsupported);
    }
}

#[test]
fn weights_and_zero_hugepages_are_left_out_and_said() {
    let soft = api::LinuxContainerResources {
        cpu_shares: 512,
        hugepage_limits: vec![api::HugepageLimit { page_size: "2MB".into(), limit: 0 }],
        unified: [
            ("memory.oom.group".to_owned(), "1".to_owned()),
            ("memory.high".to_owned(), "max".to_owned()),
        ]
        .into(),
        ..Default::default()
    };
    let (made, degraded) = linux(&soft, &host(&[])).unwrap();
    assert_eq!(shown(&made), json!({}));
    let said: Vec<_> = degraded.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "resources.cpu_shares 512: left out: the host has no cgroup controller \"cpu\"",
            "resources.hugepage_limits 0 of 2MB: left out: the host has no cgroup controller \"hugetlb\"",
            "resources.unified.memory.oom.group 1: left out: the host has no cgroup controller \"memory\"",
        ]
    );
}

#[test]
fn a_configuration_can_have_all_of_them_left_out() {
    let host = Host { missing: Missing::Ignore, ..host(&[]) };
    let (made, degraded) = linux(&asked(), &host).unwrap();
    assert_eq!((shown(&made), degraded.len()), (json!({}), 7));
}

#[test]
fn swap_is_what_is_said_or_none() {
    let of = |limit, swap| {
        let asked = api::LinuxContainerResources {
            memory_limit_in_bytes: limit,
            memory_swap_limit_in_bytes: swap,
            ..Default::default()
        };
        linux(&asked, &testing::host()).map(|(made, _)| shown(&made))
    };
    assert_eq!(of(10, 0).unwrap(), json!({"memory": {"limit": 10, "swap": 10}}));
    assert_eq!(of(10, 30).unwrap(), json!({"memory": {"limit": 10, "swap": 30}}));
    assert_eq!(of(10, -1).unwrap(), json!({"memory": {"limit": 10, "swap": -1}}));
    assert_eq!(of(-1, 0).unwrap(), json!({"memory": {"limit": -1}}));
    assert!(of(10, 9).is_err());
}

#[test]
fn scores_below_the_servers_own_are_clamped_and_said() {
    let bound = Host { oom_score_adj: 5, lowers_oom_score: false, ..testing::host() };
    assert_eq!(oom_score_adj(6, &bound).unwrap(), (6, None));
    let (score, degraded) = oom_score_adj(-998, &bound).unwrap();
    assert_eq!(score, 5);
    assert_eq!(
        degraded.unwrap().to_string(),
        "resources.oom_score_adj -998: 5: the server may not set less than its own (no CAP_SYS_RESOURCE)"
    );
    assert_eq!(oom_score_adj(-998, &testing::host()).unwrap(), (-998, None));
}

#[test]
fn mistakes_are_named() {
    type Change = fn(&mut api::LinuxContainerResources);
    let cases: [(Change, &str); 5] = [
        (|r| r.cpu_shares = -1, "resources.cpu_shares -1 is negative"),
        (|r| r.cpu_period = -1, "resources.cpu_period -1 is negative"),
        (
            |r| r.hugepage_limits = vec![api::HugepageLimit { page_size: "2M".into(), limit: 1 }],
            "resources.hugepage_limits: \"2M\" is no page size (such as 2MB or 1GB)",
        ),
        (
            |r| r.unified = [("x".to_owned(), "1".to_owned())].into(),
            "resources.unified: \"x\" is no file of a cgroup (such as memory.high)",
        ),
        (
            |r| r.unified = [("cgroup.procs".to_owned(), "1".to_owned())].into(),
            "resources.unified: \"cgroup.procs\" is not for containers to set",
        ),
    ];
    for (change, message) in cases {
        let mut bad = asked();
        change(&mut bad);
        assert_eq!(linux(&bad, &testing::host()).unwrap_err().to_string(), message);
    }
    let message = oom_score_adj(1001, &testing::host()).unwrap_err().to_string();
    assert_eq!(message, "resources.oom_score_adj 1001 is not in -1000..=1000");
}

#[test]
fn an_update_changes_what_it_names() {
    let update = api::LinuxContainerResources {
        cpu_shares: 2,
        hugepage_limits: vec![api::HugepageLimit { page_size: "2MB".into(), limit: 0 }],
        unified: [("memory.high".to_owned(), "1".to_owned())].into(),
        ..Default::default()
    };
    let all = merged(&asked(), &update);
    assert_eq!((all.cpu_shares, all.cpu_quota, all.unified.len()), (2, 50_000, 2));
    let limits: Vec<_> =
        all.hugepage_limits.iter().map(|limit| (limit.page_size.as_str(), limit.limit)).collect();
    assert_eq!(limits, [("1GB", 0), ("2MB", 0)]);
}
