//! What systemd is told about a container's scope: properties, with their D-Bus types. It talks to nobody.

use super::property::{Property, Value};
use super::{Place, Purpose, Request, Write, convert};
use crate::error::Result;

/// `0-2,5` → bits 0, 1, 2 and 5, the lowest byte first; `None` if it is no such list.
pub fn bitmask(list: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|bit| *bit < 1 << 16);
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return None;
        }
        for bit in first..=last {
            if bytes.len() <= bit / 8 {
                bytes.resize(bit / 8 + 1, 0);
            }
            bytes[bit / 8] |= 1 << (bit % 8);
        }
    }
    Some(bytes)
}

/// systemd keeps a quota in steps of 10 ms per second and writes it so at each reload: then it shall be so from the start.
pub fn round_quota(writes: &mut [Write]) {
    for write in writes.iter_mut().filter(|write| write.file == "cpu.max") {
        let Some((quota, period)) = write.value.split_once(' ') else { continue };
        if let (Ok(quota), Ok(period)) = (quota.parse(), period.parse::<u64>()) {
            let per_second = u128::from(convert::quota_per_second(quota, period));
            // `unified` may name any two numbers: the kernel says what it thinks of them.
            write.value = format!("{} {period}", per_second * u128::from(period) / 1_000_000);
        }
    }
}

/// All properties but `PIDs`, which are known only when there is a process.
pub fn properties(request: &Request<'_>, writes: &[Write], place: &Place) -> Result<Vec<Property>> {
    let mut properties = Vec::new();
    if matches!(request.purpose, Purpose::Create) {
        own(request.id, place, &mut properties);
    }
    limits(writes, &mut properties);
    if matches!(request.purpose, Purpose::Update(_)) {
        // systemd takes it only when the unit starts.
        properties.retain(|property| property.name != "OOMPolicy");
    }
    if matches!(request.purpose, Purpose::Create) {
        for (name, text) in request.annotations.into_iter().flatten() {
            if let Some(name) = name.strip_prefix("org.systemd.property.") {
                let property = super::variant::property(name, text)?;
                // What the caller says replaces what we would have said.
                properties.retain(|ours| ours.name != property.name);
                properties.push(property);
            }
        }
    }
    Ok(properties)
}

fn own(id: &str, place: &Place, properties: &mut Vec<Property>) {
    let mut set = |name: &str, value: Value| properties.push(Property { name: name.to_owned(), value });
    set("Description", Value::Text(format!("container {id}")));
    if let Place::Unit { slice, unit, .. } = place {
        if unit.ends_with(".slice") {
            set("Wants", Value::Texts(vec![slice.clone()]));
        } else {
            set("Slice", Value::Text(slice.clone()));
            // Ours to make cgroups below; a slice can't be delegated.
            set("Delegate", Value::Bool(true));
        }
    }
    for controller in ["MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"] {
        set(controller, Value::Bool(true));
    }
    set("DefaultDependencies", Value::Bool(false));
    // The device program is ours alone: systemd attaches none, so a daemon-reload has none to drop or to replace.
    set("DevicePolicy", Value::Text("auto".into()));
}

/// The limits that systemd has a property for: it writes them again at each reload, so it has to know them.
fn limits(writes: &[Write], properties: &mut Vec<Property>) {
    for write in writes {
        let Some((name, value)) = property_of(write) else { continue };
        properties.retain(|earlier| earlier.name != name);
        properties.push(Property { name: name.to_owned(), value });
        if write.file == "cpu.max"
            && let Some(period) = write.value.split(' ').nth(1).and_then(|period| period.parse().ok())
        {
            // systemd 242
            let name = "CPUQuotaPeriodUSec".to_owned();
            properties.push(Property { name, value: Value::Uint64(period) });
        }
    }
}

fn property_of(write: &Write) -> Option<(&'static str, Value)> {
    let number = || match write.value.as_str() {
        "max" => Some(u64::MAX),
        other => other.parse::<u64>().ok(),
    };
    let name = match write.file.as_ref() {
        "memory.max" => "MemoryMax",
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.min" => "MemoryMin",
        "memory.swap.max" => "MemorySwapMax",
        "memory.zswap.max" => "MemoryZSwapMax",
        "pids.max" => "TasksMax",
        "cpu.weight" => "CPUWeight",
        // systemd 252: a weight of 0 is "idle".
        "cpu.idle" => return (write.value == "1").then_some(("CPUWeight", Value::Uint64(0))),
        "cpuset.cpus" => return Some(("AllowedCPUs", Value::Bytes(bitmask(&write.value)?))),
        "cpuset.mems" => return Some(("AllowedMemoryNodes", Value::Bytes(bitmask(&write.value)?))),
        "cpu.max" => {
            let (quota, period) = write.value.split_once(' ').unwrap_or((&write.value, "100000"));
            let quota = match quota {
                "max" => u64::MAX,
                quota => convert::quota_per_second(quota.parse().ok()?, period.parse().ok()?),
            };
            return Some(("CPUQuotaPerSecUSec", Value::Uint64(quota)));
        }
        // systemd 253
        "memory.oom.group" => {
            let policy = if write.value == "1" { "kill" } else { "continue" };
            return Some(("OOMPolicy", Value::Text(policy.into())));
        }
        // Block devices by weight are left to the file: systemd wants the path of a node.
        "io.bfq.weight" if !write.value.contains(' ') => {
            let super::OnError::Instead(_, weight) = &write.on_error else { return None };
            return Some(("IOWeight", Value::Uint64(weight.parse().ok()?)));
        }
        "io.weight" => {
            let weight = write.value.trim_start_matches("default ");
            return Some(("IOWeight", Value::Uint64(weight.parse().ok()?)));
        }
        _ => return None,
    };
    Some((name, Value::Uint64(number()?)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{CgroupPlan, Driver, plan};
    use super::*;
    use crate::spec::Resources;

    fn planned(
        resources: serde_json::Value,
        purpose: Purpose<'_>,
        annotations: serde_json::Value,
    ) -> CgroupPlan {
        let resources: Resources = serde_json::from_value(resources).unwrap();
        let annotations = serde_json::from_value(annotations).unwrap();
        plan(&Request {
            id: "web",
            cgroups_path: Some("app.slice:rt:web"),
            resources: Some(&resources),
            annotations: Some(&annotations),
            driver: Driver::Systemd,
            purpose,
        })
        .unwrap()
    }

    fn shown(plan: &CgroupPlan) -> Vec<String> {
        let line = |p: &Property| format!("{}={}", p.name, serde_json::to_string(&p.value).unwrap());
        plan.properties.iter().map(line).collect()
    }

    #[test]
    fn no_quota_is_too_large_to_be_rounded() {
        for (resources, expected) in [
            (json!({"cpu": {"quota": i64::MAX, "period": 1_000_000}}), "9223372036854780000 1000000"),
            (
                json!({"unified": {"cpu.max": format!("{0} {0}", u64::MAX)}}),
                "18446744073709551615 18446744073709551615",
            ),
        ] {
            let plan = planned(resources, Purpose::Create, json!({}));
            let value = plan.writes.iter().find(|write| write.file == "cpu.max").map(|write| &*write.value);
            assert_eq!(value, Some(expected));
        }
    }

    #[test]
    fn a_scope_has_its_slice_its_accounting_and_its_limits() {
        let resources = json!({
            "memory": { "limit": 1048576, "swap": 3145728, "reservation": 4096 },
            "cpu": { "shares": 1024, "quota": 33333, "period": 100000, "cpus": "0-2,9", "mems": "0" },
            "pids": { "limit": 0 },
            "blockIO": { "weight": 100 },
            "unified": { "memory.high": "max", "memory.oom.group": "1" },
        });
        assert_eq!(
            shown(&planned(resources, Purpose::Create, json!({}))),
            [
                "Description=\"container web\"",
                "Slice=\"app.slice\"",
                "Delegate=true",
                "MemoryAccounting=true",
                "CPUAccounting=true",
                "IOAccounting=true",
                "TasksAccounting=true",
                "DefaultDependencies=false",
                "DevicePolicy=\"auto\"",
                "TasksMax=1",
                "MemorySwapMax=2097152",
                "MemoryMax=1048576",
                "MemoryLow=4096",
                "IOWeight=910",
                "CPUWeight=100",
                "CPUQuotaPerSecUSec=340000",
                "CPUQuotaPeriodUSec=100000",
                "AllowedCPUs=[7,2]",
                "AllowedMemoryNodes=[1]",
                "MemoryHigh=18446744073709551615",
                "OOMPolicy=\"kill\"",
            ]
        );
    }

    #[test]
    fn a_quota_is_written_as_systemd_rounds_it() {
        for (quota, written) in [(33_333, "34000 100000"), (50_000, "50000 100000"), (-1, "max 100000")] {
            let plan = planned(json!({ "cpu": { "quota": quota } }), Purpose::Create, json!({}));
            assert_eq!(plan.writes[0].value, written);
        }
    }

    #[test]
    fn an_update_tells_only_what_changes() {
        let resources = json!({ "cpu": { "idle": 1, "quota": -1 }, "unified": { "memory.oom.group": "0" } });
        let annotations = json!({ "org.systemd.property.CollectMode": "'inactive'" });
        assert_eq!(
            shown(&planned(resources, Purpose::Update(None), annotations)),
            ["CPUWeight=0", "CPUQuotaPerSecUSec=18446744073709551615", "CPUQuotaPeriodUSec=100000"]
        );
    }

    #[test]
    fn annotations_win() {
        let annotations = json!({
            "org.systemd.property.TimeoutStopSec": "uint64 5",
            "org.systemd.property.Description": "'mine'",
            "other": "x",
        });
        let lines = shown(&planned(json!({}), Purpose::Create, annotations));
        let described: Vec<_> = lines.iter().filter(|line| line.starts_with("Description=")).collect();
        assert_eq!(described, ["Description=\"mine\""]);
        assert!(lines.contains(&"TimeoutStopUSec=5000000".into()), "{lines:?}");
    }

    #[test]
    fn lists_become_bits() {
        for (list, bits) in [("0", vec![1]), ("0-3,7", vec![0x8f]), ("8", vec![0, 1]), ("1, 3", vec![10])] {
            assert_eq!(bitmask(list), Some(bits), "{list}");
        }
        for list in ["", "-", "3-1", "x", "1-", "0-99999999", "1,,2"] {
            assert_eq!(bitmask(list), None, "{list}");
        }
    }
}
