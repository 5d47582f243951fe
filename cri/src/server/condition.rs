//! Status and RuntimeConfig: what the server says of itself, truthfully.

use std::collections::HashMap;

use serde_json::json;

use crate::api;
use crate::config::Missing;
use crate::node::Node;
use crate::oci::Driver;

/// Status.
pub fn status(node: &Node, verbose: bool) -> api::StatusResponse {
    let network = match node.network.condition() {
        Ok(()) => condition("NetworkReady", true, ("NetworkIsUp", &node.network.in_force())),
        Err(why) => condition("NetworkReady", false, ("NetworkPluginNotReady", &why)),
    };
    let mut conditions = vec![condition("RuntimeReady", true, ("RuntimeIsUp", "")), network];
    conditions.extend(cgroups(node));
    conditions.extend(apparmor(node));
    api::StatusResponse {
        status: Some(api::RuntimeStatus { conditions }),
        info: if verbose { info(node) } else { HashMap::new() },
        runtime_handlers: handlers(node),
        features: Some(api::RuntimeFeatures {
            supplemental_groups_policy: true,
            user_namespaces_host_network: false,
            mount_options: true,
        }),
    }
}

/// RuntimeConfig.
pub fn runtime_config(node: &Node) -> api::RuntimeConfigResponse {
    let driver = match node.host().driver {
        Driver::Systemd => api::CgroupDriver::Systemd,
        Driver::Cgroupfs => api::CgroupDriver::Cgroupfs,
    };
    let linux = api::LinuxRuntimeConfiguration { cgroup_driver: driver as i32 };
    api::RuntimeConfigResponse { linux: Some(linux) }
}

fn condition(kind: &str, status: bool, (reason, message): (&str, &str)) -> api::RuntimeCondition {
    api::RuntimeCondition {
        r#type: kind.to_owned(),
        status,
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

/// Says which controllers pods can't have; nothing where all are there.
fn cgroups(node: &Node) -> Option<api::RuntimeCondition> {
    let host = node.host();
    let lacking: Vec<&str> = ["cpu", "cpuset", "io", "memory", "pids"]
        .into_iter()
        .filter(|name| !host.controllers.contains(*name))
        .collect();
    if lacking.is_empty() {
        return None;
    }
    let what = match host.missing {
        Missing::Error => "a limit that needs one is an error",
        Missing::Ignore => "limits that need one are left out (cgroup.missing is ignore)",
    };
    let message = format!("the host has no cgroup2 controller {}: {what}", lacking.join(", "));
    Some(condition("CgroupControllersComplete", false, ("ControllersMissing", &message)))
}

/// Says that containers are not confined by AppArmor though the kernel has it; nothing where they are, or where it has not.
fn apparmor(node: &Node) -> Option<api::RuntimeCondition> {
    let why = node.host().apparmor.as_ref()?.lacking.clone()?;
    Some(condition("AppArmorDefaultProfileLoaded", false, ("ProfileMissing", &why)))
}

fn handlers(node: &Node) -> Vec<api::RuntimeHandler> {
    let host = node.host();
    let features = api::RuntimeHandlerFeatures {
        recursive_read_only_mounts: host.recursive_readonly,
        user_namespaces: host.idmapped_mounts,
    };
    let handler = |name: &str| api::RuntimeHandler { name: name.to_owned(), features: Some(features) };
    // The default one has no name in requests.
    std::iter::once("").chain(node.runtimes.keys().map(String::as_str)).map(handler).collect()
}

fn info(node: &Node) -> HashMap<String, String> {
    let host = node.host();
    let config = json!({
        "config": node.config,
        "network": node.network.in_force(),
        "cgroupDriver": format!("{:?}", host.driver).to_lowercase(),
        "controllers": host.controllers,
        "oomScoreAdj": host.oom_score_adj,
        "runtimes": node.runtimes,
        "sandboxes": node.sandboxes.all().len(),
        "containers": node.containers.all().len(),
    });
    HashMap::from([("config".to_owned(), config.to_string())])
}
