//! Every conversion of `linux.resources`, as JSON in and `file=value` out.

use serde_json::json;

use super::*;

fn limits(resources: serde_json::Value, purpose: Purpose<'_>) -> (Result<Limits>, Vec<String>) {
    let resources: Resources = serde_json::from_value(resources).unwrap();
    let mut warnings = Vec::new();
    (plan(&resources, purpose, &mut warnings), warnings)
}

fn written(resources: serde_json::Value, purpose: Purpose<'_>) -> Vec<String> {
    let (limits, warnings) = limits(resources, purpose);
    assert_eq!(warnings, [""; 0]);
    limits.unwrap().writes.iter().map(|write| format!("{}={}", write.file, write.value)).collect()
}

fn created(resources: serde_json::Value) -> Vec<String> {
    written(resources, Purpose::Create)
}

fn refused(resources: serde_json::Value) -> String {
    limits(resources, Purpose::Create).0.unwrap_err().to_string()
}

const MIB: i64 = 1 << 20;

#[test]
fn memory_and_swap() {
    for (memory, expected) in [
        (json!({}), vec![]),
        (json!({ "limit": 0, "swap": 0, "reservation": 0 }), vec![]),
        (json!({ "limit": 64 * MIB }), vec!["memory.max=67108864"]),
        (
            json!({ "limit": 64 * MIB, "swap": 96 * MIB }),
            vec!["memory.swap.max=33554432", "memory.max=67108864"],
        ),
        (json!({ "limit": 64 * MIB, "swap": 64 * MIB }), vec!["memory.swap.max=0", "memory.max=67108864"]),
        (json!({ "limit": 64 * MIB, "swap": 0 }), vec!["memory.max=67108864"]),
        (json!({ "limit": 64 * MIB, "swap": -1 }), vec!["memory.swap.max=max", "memory.max=67108864"]),
        (json!({ "limit": -1 }), vec!["memory.swap.max=max", "memory.max=max"]),
        (json!({ "limit": -1, "swap": 4096 }), vec!["memory.swap.max=4096", "memory.max=max"]),
        (json!({ "swap": -1 }), vec!["memory.swap.max=max"]),
        (json!({ "reservation": 32 * MIB }), vec!["memory.low=33554432"]),
        (json!({ "reservation": -1 }), vec!["memory.low=max"]),
    ] {
        assert_eq!(created(json!({ "memory": memory })), expected, "{memory}");
    }
    assert_eq!(
        refused(json!({ "memory": { "swap": 4096 } })),
        "linux.resources.memory.swap 4096 needs memory.limit: it is the sum of both"
    );
    assert_eq!(
        refused(json!({ "memory": { "limit": 8192, "swap": 4096 } })),
        "linux.resources.memory.swap 4096 is below memory.limit 8192: it is the sum of memory and swap"
    );
}

#[test]
fn an_update_of_memory_starts_from_the_limits_in_force() {
    let before: Resources =
        serde_json::from_value(json!({ "memory": { "limit": 64 * MIB, "swap": 96 * MIB } })).unwrap();
    let purpose = Purpose::Update(Some(&before));
    for (memory, expected) in [
        (json!({ "swap": 80 * MIB }), vec!["memory.swap.max=16777216"]),
        (json!({ "limit": 80 * MIB }), vec!["memory.swap.max=16777216", "memory.max=83886080"]),
        (json!({ "limit": -1 }), vec!["memory.swap.max=max", "memory.max=max"]),
    ] {
        assert_eq!(written(json!({ "memory": memory }), purpose), expected, "{memory}");
    }
    let above = limits(json!({ "memory": { "limit": 100 * MIB } }), purpose).0.unwrap_err();
    assert!(above.to_string().contains("is below memory.limit"), "{above}");
}

#[test]
fn memory_is_checked_before_an_update_only_when_asked() {
    let memory = json!({ "memory": { "limit": 4096, "swap": 8192, "checkBeforeUpdate": true } });
    let check = limits(memory, Purpose::Create).0.unwrap().memory_check;
    assert_eq!(check, Some(MemoryCheck { limit: Some(4096), limit_and_swap: Some(8192) }));
    assert_eq!(limits(json!({ "memory": { "limit": 4096 } }), Purpose::Create).0.unwrap().memory_check, None);
}

#[test]
fn cpu_time() {
    for (cpu, expected) in [
        (json!({ "shares": 0 }), vec![]),
        (json!({ "shares": 1024 }), vec!["cpu.weight=100"]),
        (json!({ "quota": 0, "period": 0 }), vec![]),
        (json!({ "quota": 50000 }), vec!["cpu.max=50000 100000"]),
        (json!({ "quota": 50000, "period": 200_000 }), vec!["cpu.max=50000 200000"]),
        (json!({ "quota": -1 }), vec!["cpu.max=max 100000"]),
        (json!({ "quota": -1, "period": 200_000 }), vec!["cpu.max=max 200000"]),
        (json!({ "period": 200_000 }), vec!["cpu.max=max 200000"]),
        (json!({ "quota": 50000, "burst": 20000 }), vec!["cpu.max.burst=20000", "cpu.max=50000 100000"]),
        (json!({ "idle": 1 }), vec!["cpu.idle=1"]),
        (json!({ "idle": 1, "shares": 512 }), vec!["cpu.idle=1"]),
        (json!({ "idle": 0, "shares": 512 }), vec!["cpu.idle=0", "cpu.weight=59"]),
        (json!({ "cpus": "0-1,3", "mems": "0" }), vec!["cpuset.cpus=0-1,3", "cpuset.mems=0"]),
        (json!({ "cpus": "", "mems": "" }), vec![]),
        (json!({ "realtimeRuntime": 0, "realtimePeriod": 0 }), vec![]),
    ] {
        assert_eq!(created(json!({ "cpu": cpu })), expected, "{cpu}");
    }
    for (cpu, text) in [
        (json!({ "period": 999 }), "cpu.period 999 is not between"),
        (json!({ "period": 1_000_001 }), "cpu.period 1000001 is not between"),
        (json!({ "quota": 999 }), "cpu.quota 999 is below 1000"),
        (json!({ "idle": 2 }), "cpu.idle 2 is neither 0 nor 1"),
        (json!({ "realtimeRuntime": 1 }), "cpu.realtimeRuntime: cgroup2 has no realtime limits"),
        (json!({ "cpus": "a-b" }), "cpu.cpus \"a-b\" is no list of numbers"),
        (json!({ "mems": "3-1" }), "cpu.mems \"3-1\" is no list of numbers"),
    ] {
        let error = refused(json!({ "cpu": cpu }));
        assert!(error.contains(text), "{cpu}: {error}");
    }
}

#[test]
fn an_update_of_cpu_keeps_the_half_that_is_not_given() {
    let before: Resources =
        serde_json::from_value(json!({ "cpu": { "quota": 30000, "period": 200_000 } })).unwrap();
    for (in_force, cpu, expected) in [
        (Some(&before), json!({ "quota": 50000 }), "cpu.max=50000 200000"),
        (Some(&before), json!({ "period": 50000 }), "cpu.max=30000 50000"),
        (Some(&before), json!({ "quota": -1 }), "cpu.max=max 200000"),
        (None, json!({ "quota": 50000 }), "cpu.max=50000 100000"),
        (None, json!({ "period": 50000 }), "cpu.max=max 50000"),
    ] {
        assert_eq!(written(json!({ "cpu": cpu }), Purpose::Update(in_force)), [expected], "{cpu}");
    }
}

#[test]
fn pids() {
    for (limit, expected) in [(10, "pids.max=10"), (0, "pids.max=1"), (-1, "pids.max=max")] {
        assert_eq!(created(json!({ "pids": { "limit": limit } })), [expected]);
    }
    assert_eq!(created(json!({ "pids": {} })), [""; 0]);
}

#[test]
fn block_io() {
    let io = json!({
        "weight": 100,
        "weightDevice": [{ "major": 8, "minor": 0, "weight": 500 }],
        "throttleReadBpsDevice": [{ "major": 8, "minor": 0, "rate": 600 }],
        "throttleWriteBpsDevice": [{ "major": 8, "minor": 16, "rate": 0 }],
        "throttleReadIOPSDevice": [{ "major": 8, "minor": 0, "rate": 7 }],
        "throttleWriteIOPSDevice": [{ "major": 8, "minor": 0, "rate": 8 }],
    });
    let writes = limits(json!({ "blockIO": io }), Purpose::Create).0.unwrap().writes;
    let shown: Vec<_> =
        writes.iter().map(|write| (write.file.as_ref(), write.value.as_str(), write.need)).collect();
    assert_eq!(
        shown,
        [
            ("io.bfq.weight", "100", Need::Degradable),
            ("io.bfq.weight", "8:0 500", Need::Degradable),
            ("io.max", "8:0 rbps=600", Need::Required),
            ("io.max", "8:16 wbps=max", Need::Lifts),
            ("io.max", "8:0 riops=7", Need::Required),
            ("io.max", "8:0 wiops=8", Need::Required),
        ]
    );
    assert_eq!(writes[0].on_error, OnError::Instead("io.weight", "910".into()));
    assert_eq!(writes[1].on_error, OnError::Instead("io.weight", "8:0 4950".into()));
    assert!(refused(json!({ "blockIO": { "weight": 9 } })).contains("is not between 10 and 1000"));
}

#[test]
fn huge_pages_rdma_and_unified() {
    assert_eq!(
        created(json!({
            "hugepageLimits": [{ "pageSize": "2MB", "limit": 4194304 }, { "pageSize": "1GB", "limit": 0 }],
            "rdma": { "mlx5_1": { "hcaHandles": 3 } },
            "unified": { "memory.high": "1000", "io.max": "8:0 rbps=1\n8:16 rbps=2\n", "memory.oom.group": "1" },
        })),
        [
            "hugetlb.2MB.max=4194304",
            "hugetlb.2MB.rsvd.max=4194304",
            "hugetlb.1GB.max=0",
            "hugetlb.1GB.rsvd.max=0",
            "rdma.max=mlx5_1 hca_handle=3 hca_object=max",
            "io.max=8:0 rbps=1",
            "io.max=8:16 rbps=2",
            "memory.high=1000",
            "memory.oom.group=1",
        ]
    );
    for size in ["2", "MB", "2mb", "../2MB", "2MB/x", "+2MB."] {
        let error = refused(json!({ "hugepageLimits": [{ "pageSize": size, "limit": 1 }] }));
        assert!(error.contains("is no page size"), "{size}: {error}");
    }
    for file in ["../memory.max", "memory", "", ".", "..", "a/b.c", ".max", "memory."] {
        let error = refused(json!({ "unified": { file: "1" } }));
        assert!(error.contains("is no file of a cgroup"), "{file}: {error}");
    }
    assert!(refused(json!({ "unified": { "cgroup.procs": "1" } })).contains("is the runtime's"));
}

/// What must be there, and what may be missing.
#[test]
fn needs() {
    let resources = json!({
        "memory": { "limit": 4096, "reservation": 4096 },
        "cpu": { "shares": 5, "quota": 5000, "cpus": "0", "idle": 0 },
        "pids": { "limit": -1 },
        "hugepageLimits": [{ "pageSize": "2MB", "limit": 1 }, { "pageSize": "1GB", "limit": 0 }],
        "unified": { "memory.oom.group": "1", "memory.high": "5", "io.weight": "7", "pids.max": "max" },
    });
    let of = |need: Need| -> Vec<String> {
        let writes = limits(resources.clone(), Purpose::Create).0.unwrap().writes;
        writes.iter().filter(|write| write.need == need).map(|write| write.limit.to_string()).collect()
    };
    assert_eq!(
        of(Need::Required),
        [
            "memory.limit",
            "memory.reservation",
            "cpu.quota",
            "cpu.cpus",
            "hugepageLimits",
            "unified.memory.high"
        ]
    );
    assert_eq!(
        of(Need::Degradable),
        ["cpu.shares", "hugepageLimits", "unified.io.weight", "unified.memory.oom.group"]
    );
    assert_eq!(
        of(Need::Lifts),
        ["pids.limit", "cpu.idle", "hugepageLimits", "hugepageLimits", "unified.pids.max"]
    );
}

#[test]
fn what_only_cgroup_v1_has_is_warned_about() {
    let (result, warnings) = limits(
        json!({
            "memory": { "kernel": 1, "kernelTCP": 1, "swappiness": 60, "disableOOMKiller": true, "useHierarchy": false },
            "blockIO": { "leafWeight": 10 },
            "network": { "classID": 5 },
        }),
        Purpose::Create,
    );
    assert!(result.unwrap().writes.is_empty());
    let fields: Vec<_> = warnings.iter().map(|text| text.split(' ').next().unwrap()).collect();
    assert_eq!(
        fields,
        [
            "linux.resources.memory.kernel",
            "linux.resources.memory.kernelTCP",
            "linux.resources.memory.swappiness",
            "linux.resources.memory.disableOOMKiller",
            "linux.resources.memory.useHierarchy",
            "linux.resources.blockIO.leafWeight",
            "linux.resources.network",
        ]
    );
    // As docker writes "nothing".
    let nothing =
        json!({ "memory": { "disableOOMKiller": false }, "network": { "classID": 0, "priorities": [] } });
    assert_eq!(limits(nothing, Purpose::Create).1, [""; 0]);
}
