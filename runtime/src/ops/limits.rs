//! Limits that change: new ones laid over those in force. Pure; what they mean is decided in [`crate::plan`].

use crate::spec::{BlockIo, Cpu, Memory, Resources, ThrottleDevice, WeightDevice};

/// Zeros that mean "not given": docker writes them for what its user didn't say, and runc takes them so.
/// A pids limit of 0 is a limit, and so is a burst of 0.
pub fn without_zeros(mut resources: Resources) -> Resources {
    if let Some(memory) = &mut resources.memory {
        for limit in [&mut memory.limit, &mut memory.reservation, &mut memory.swap] {
            *limit = limit.filter(|&bytes| bytes != 0);
        }
    }
    if let Some(cpu) = &mut resources.cpu {
        cpu.shares = cpu.shares.filter(|&shares| shares != 0);
        cpu.quota = cpu.quota.filter(|&micros| micros != 0);
        cpu.period = cpu.period.filter(|&micros| micros != 0);
        cpu.realtime_period = cpu.realtime_period.filter(|&micros| micros != 0);
        cpu.realtime_runtime = cpu.realtime_runtime.filter(|&micros| micros != 0);
        for list in [&mut cpu.cpus, &mut cpu.mems] {
            *list = list.take().filter(|list| !list.is_empty());
        }
    }
    if let Some(block) = &mut resources.block_io {
        block.weight = block.weight.filter(|&weight| weight != 0);
        block.leaf_weight = block.leaf_weight.filter(|&weight| weight != 0);
    }
    resources
}

/// What is in force after `new` was set over `old`.
pub fn merge(old: Resources, new: Resources) -> Resources {
    Resources {
        // An update changes no devices, as runc's.
        devices: old.devices,
        memory: both(old.memory, new.memory, |old, new| merge_memory(&old, &new)),
        cpu: both(old.cpu, new.cpu, merge_cpu),
        pids: both(old.pids, new.pids, |old, new| crate::spec::Pids { limit: new.limit.or(old.limit) }),
        block_io: both(old.block_io, new.block_io, merge_block_io),
        hugepage_limits: upsert(old.hugepage_limits.0, new.hugepage_limits.0, |a, b| {
            a.page_size == b.page_size
        })
        .into(),
        network: new.network.or(old.network),
        rdma: both(old.rdma, new.rdma, |mut old, new| {
            old.extend(new);
            old
        }),
        unified: both(old.unified, new.unified, |mut old, new| {
            old.extend(new);
            old
        }),
    }
}

fn both<T>(old: Option<T>, new: Option<T>, merge: impl FnOnce(T, T) -> T) -> Option<T> {
    match (old, new) {
        (Some(old), Some(new)) => Some(merge(old, new)),
        (old, new) => new.or(old),
    }
}

fn merge_memory(old: &Memory, new: &Memory) -> Memory {
    Memory {
        limit: new.limit.or(old.limit),
        reservation: new.reservation.or(old.reservation),
        swap: new.swap.or(old.swap),
        kernel: new.kernel.or(old.kernel),
        kernel_tcp: new.kernel_tcp.or(old.kernel_tcp),
        swappiness: new.swappiness.or(old.swappiness),
        disable_oom_killer: new.disable_oom_killer.or(old.disable_oom_killer),
        use_hierarchy: new.use_hierarchy.or(old.use_hierarchy),
        // A property of the update, not of the limits.
        check_before_update: new.check_before_update,
    }
}

fn merge_cpu(old: Cpu, new: Cpu) -> Cpu {
    Cpu {
        shares: new.shares.or(old.shares),
        quota: new.quota.or(old.quota),
        burst: new.burst.or(old.burst),
        period: new.period.or(old.period),
        realtime_runtime: new.realtime_runtime.or(old.realtime_runtime),
        realtime_period: new.realtime_period.or(old.realtime_period),
        cpus: new.cpus.or(old.cpus),
        mems: new.mems.or(old.mems),
        idle: new.idle.or(old.idle),
    }
}

fn merge_block_io(old: BlockIo, new: BlockIo) -> BlockIo {
    let rates = |old: Vec<ThrottleDevice>, new: Vec<ThrottleDevice>| {
        upsert(old, new, |a, b| (a.major, a.minor) == (b.major, b.minor)).into()
    };
    let same_weight = |a: &WeightDevice, b: &WeightDevice| (a.major, a.minor) == (b.major, b.minor);
    BlockIo {
        weight: new.weight.or(old.weight),
        leaf_weight: new.leaf_weight.or(old.leaf_weight),
        weight_device: upsert(old.weight_device.0, new.weight_device.0, same_weight).into(),
        throttle_read_bps_device: rates(old.throttle_read_bps_device.0, new.throttle_read_bps_device.0),
        throttle_write_bps_device: rates(old.throttle_write_bps_device.0, new.throttle_write_bps_device.0),
        throttle_read_iops_device: rates(old.throttle_read_iops_device.0, new.throttle_read_iops_device.0),
        throttle_write_iops_device: rates(old.throttle_write_iops_device.0, new.throttle_write_iops_device.0),
    }
}

/// Entries of `new` take the place of those in `old` that are about the same thing.
fn upsert<T>(mut old: Vec<T>, new: Vec<T>, same: impl Fn(&T, &T) -> bool) -> Vec<T> {
    for entry in new {
        match old.iter().position(|known| same(known, &entry)) {
            Some(at) => old[at] = entry,
            None => old.push(entry),
        }
    }
    old
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(value: Value) -> Resources {
        serde_json::from_value(value).unwrap()
    }

    /// As JSON, without what is absent or empty.
    fn shown(resources: &Resources) -> Value {
        let mut value = serde_json::to_value(resources).unwrap();
        crate::ops::spec::strip_nulls(&mut value);
        value.as_object_mut().unwrap().retain(|_, part| part.as_array().is_none_or(|list| !list.is_empty()));
        value
    }

    #[test]
    fn what_is_not_given_stays() {
        let old = json!({
            "memory": {"limit": 100, "swap": 200},
            "cpu": {"quota": 1000, "period": 5000, "shares": 512},
            "pids": {"limit": 9},
            "unified": {"memory.high": "50", "cpu.weight": "7"},
        });
        for (new, expected) in [
            (json!({}), old.clone()),
            (json!({"memory": null, "cpu": null, "pids": null}), old.clone()),
            (
                json!({"memory": {"limit": 150}, "cpu": {"period": 9000}, "unified": {"memory.high": "60"}}),
                json!({
                    "memory": {"limit": 150, "swap": 200},
                    "cpu": {"quota": 1000, "period": 9000, "shares": 512},
                    "pids": {"limit": 9},
                    "unified": {"memory.high": "60", "cpu.weight": "7"},
                }),
            ),
        ] {
            assert_eq!(shown(&merge(read(old.clone()), read(new))), expected);
        }
    }

    #[test]
    fn devices_of_the_same_number_are_replaced() {
        let rate = |minor: i64, rate: u64| json!({"major": 8, "minor": minor, "rate": rate});
        let old = json!({"blockIO": {"throttleReadBpsDevice": [rate(0, 1), rate(1, 2)]}});
        let new = json!({"blockIO": {"throttleReadBpsDevice": [rate(1, 3), rate(2, 4)]}});
        let merged = merge(read(old), read(new));
        let rates: Vec<u64> =
            merged.block_io.unwrap().throttle_read_bps_device.iter().map(|d| d.rate).collect();
        assert_eq!(rates, [1, 3, 4]);
    }

    #[test]
    fn the_zeros_of_docker_are_not_given() {
        let docker = json!({
            "memory": {"limit": 0, "reservation": 0, "swap": 0, "checkBeforeUpdate": false},
            "cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": "", "burst": 0, "idle": 0},
            "pids": {"limit": 0},
            "blockIO": {"weight": 0},
        });
        let left = without_zeros(read(docker));
        let cpu = left.cpu.as_ref().unwrap();
        assert_eq!((cpu.shares, cpu.quota, cpu.period, &cpu.cpus), (None, None, None, &None));
        assert_eq!((cpu.burst, cpu.idle), (Some(0), Some(0)), "these can be 0");
        assert_eq!(left.pids.unwrap().limit, Some(0));
        assert_eq!(left.memory.unwrap().limit, None);
        assert_eq!(left.block_io.unwrap().weight, None);
    }
}
