//! CNI 1.1: pods' networks made by plugins, as the configurations in a folder say.
//!
//! Configurations are read when they are needed, so a change counts at once; what a pod was given with is kept with its
//! record, so that DEL works whatever became of the files. The interface names are eth0, eth1, … in the order of networks.

mod arguments;
mod conflist;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod plugin;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use self::conflist::Network;
use self::plugin::{Call, Place};
use super::config::Config;
use super::pod::{Attachment, Dns, PodNetwork};
use crate::error::{Context, Result};

/// One network that a pod is in, or is about to be: all that DEL needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    network: String,
    version: String,
    no_check: bool,
    interface: String,
    arguments: String,
    /// The plugins' configurations, complete but for the result.
    plugins: Vec<Map<String, Value>>,
    /// The last plugin's result; none while it is in the making.
    result: Option<Value>,
}

/// Where plugins are and how long they may take.
#[derive(Debug, Clone)]
pub struct Plugins {
    conf_dir: PathBuf,
    bin_dirs: Vec<PathBuf>,
    networks: usize,
    deadline: Duration,
}

impl Plugins {
    /// From the configuration.
    pub fn new(config: &Config) -> Self {
        Self {
            conf_dir: config.conf_dir.clone(),
            bin_dirs: config.bin_dirs.clone(),
            networks: config.networks,
            deadline: config.deadline(),
        }
    }

    /// The networks in force; empty: there is no CNI configuration.
    pub fn networks(&self) -> Result<Vec<Network>> {
        conflist::load(&self.conf_dir, self.networks)
    }

    /// What a pod will be given: configurations complete, nothing run yet.
    pub fn plan(&self, networks: &[Network], pod: &PodNetwork, ranges: &[String]) -> Result<Vec<Joined>> {
        let capabilities = arguments::capabilities(pod, ranges)?;
        let arguments = arguments::arguments(pod);
        if !pod.ports.is_empty()
            && !networks
                .iter()
                .any(|network| network.plugins.iter().any(|plugin| wants(plugin, "portMappings")))
        {
            tracing::warn!(
                pod = pod.id,
                "host ports were asked for, and no plugin of the network has the capability portMappings"
            );
        }
        let joined = networks.iter().enumerate().map(|(index, network)| Joined {
            network: network.name.clone(),
            version: network.version.clone(),
            no_check: network.no_check,
            interface: format!("eth{index}"),
            arguments: arguments.clone(),
            plugins: network.plugins.iter().map(|plugin| complete(plugin, network, &capabilities)).collect(),
            result: None,
        });
        Ok(joined.collect())
    }

    /// ADD: runs the plugins of a network in order, each with the result of the one before.
    pub async fn add(&self, pod: &PodNetwork, joined: &mut Joined) -> Result<()> {
        let mut result: Option<Value> = None;
        for plugin in &joined.plugins {
            let config = with_result(plugin, result.as_ref());
            let answer = plugin::run(&self.call("ADD", pod, joined, plugin), &config).await?;
            result = answer.or(result);
        }
        joined.result = Some(result.unwrap_or_else(|| json!({})));
        Ok(())
    }

    /// DEL: runs them in the reverse order; what is not there is fine with them.
    pub async fn delete(&self, pod: &PodNetwork, joined: &Joined) -> Result<()> {
        let result = joined.result.as_ref().filter(|_| joined.at_least("0.4.0"));
        for plugin in joined.plugins.iter().rev() {
            plugin::run(&self.call("DEL", pod, joined, plugin), &with_result(plugin, result)).await?;
        }
        Ok(())
    }

    /// CHECK: asks each plugin whether what it made is still there.
    pub async fn check(&self, pod: &PodNetwork, joined: &Joined) -> Result<()> {
        if joined.no_check || !joined.at_least("0.4.0") {
            return Ok(());
        }
        for plugin in &joined.plugins {
            let config = with_result(plugin, joined.result.as_ref());
            plugin::run(&self.call("CHECK", pod, joined, plugin), &config).await?;
        }
        Ok(())
    }

    /// STATUS: asks each plugin of a network whether it can serve pods.
    pub async fn status(&self, network: &Network) -> Result<()> {
        for fields in network.plugins.iter().filter(|_| network.at_least("1.1.0")) {
            let config = complete(fields, network, &Map::new());
            plugin::run(&self.networks_call("STATUS", network, &config), &Value::Object(config.clone()))
                .await?;
        }
        Ok(())
    }

    /// GC: tells each plugin of a network which pods are still there. All are run; the first error is returned.
    pub async fn collect(&self, network: &Network, pods: &[(String, String)]) -> Result<()> {
        if network.no_gc || !network.at_least("1.1.0") {
            return Ok(());
        }
        let valid: Value =
            pods.iter().map(|(id, interface)| json!({"containerID": id, "ifname": interface})).collect();
        let mut first = Ok(());
        for fields in &network.plugins {
            let mut config = complete(fields, network, &Map::new());
            config.insert("cni.dev/valid-attachments".to_owned(), valid.clone());
            let run =
                plugin::run(&self.networks_call("GC", network, &config), &Value::Object(config.clone()))
                    .await;
            first = first.and(run.map(drop));
        }
        first
    }

    fn call<'a>(
        &'a self,
        command: &'static str,
        pod: &'a PodNetwork,
        joined: &'a Joined,
        plugin: &'a Map<String, Value>,
    ) -> Call<'a> {
        let netns = (command != "DEL" || pod.netns.exists()).then_some(pod.netns.as_path());
        let place = Place { id: &pod.id, netns, interface: &joined.interface, arguments: &joined.arguments };
        Call {
            command,
            plugin: kind(plugin),
            network: &joined.network,
            pod: Some(place),
            bin_dirs: &self.bin_dirs,
            deadline: self.deadline,
        }
    }

    fn networks_call<'a>(
        &'a self,
        command: &'static str,
        network: &'a Network,
        plugin: &'a Map<String, Value>,
    ) -> Call<'a> {
        Call {
            command,
            plugin: kind(plugin),
            network: &network.name,
            pod: None,
            bin_dirs: &self.bin_dirs,
            deadline: self.deadline,
        }
    }
}

impl Joined {
    fn at_least(&self, version: &str) -> bool {
        let parts =
            |text: &str| text.split('.').map(|part| part.parse::<u32>().unwrap_or(0)).collect::<Vec<_>>();
        parts(&self.version) >= parts(version)
    }

    /// Its network and interface.
    pub fn place(&self) -> (&str, &str) {
        (&self.network, &self.interface)
    }
}

/// What a pod has of all its networks, IPv4 before IPv6 within each.
pub fn attachment(all: &[Joined]) -> Result<Attachment> {
    let mut attachment = Attachment::default();
    for joined in all {
        attachment.networks.push(joined.network.clone());
        let result = joined.result.as_ref().unwrap_or(&Value::Null);
        let mut ips = addresses(result).what(|| format!("read the result of network {}", joined.network))?;
        ips.sort_by_key(IpAddr::is_ipv6);
        attachment.ips.extend(ips);
        let dns = result.get("dns").cloned().unwrap_or_else(|| json!({}));
        let dns: Dns = serde_json::from_value(dns).unwrap_or_default();
        attachment.dns.servers.extend(dns.servers);
        attachment.dns.searches.extend(dns.searches);
        attachment.dns.options.extend(dns.options);
    }
    Ok(attachment)
}

/// The addresses of a result, of any version.
fn addresses(result: &Value) -> Result<Vec<IpAddr>> {
    let listed = result.get("ips").and_then(Value::as_array).into_iter().flatten();
    let listed = listed.filter_map(|ip| ip.get("address"));
    // SPEC: CNI 0.2.0 and before.
    let older = ["ip4", "ip6"].into_iter().filter_map(|key| result.get(key)?.get("ip"));
    listed
        .chain(older)
        .map(|address| {
            let text = address.as_str().unwrap_or_default();
            let ip = text.split('/').next().unwrap_or_default().parse::<IpAddr>();
            ip.map_err(|_| crate::error::Error::invalid(format!("`{text}` is no address")))
        })
        .collect()
}

fn kind(plugin: &Map<String, Value>) -> &str {
    plugin.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn wants(plugin: &Map<String, Value>, capability: &str) -> bool {
    plugin.get("capabilities").and_then(|all| all.get(capability)).and_then(Value::as_bool) == Some(true)
}

/// A plugin's configuration as it gets it, but for the result.
fn complete(
    plugin: &Map<String, Value>,
    network: &Network,
    capabilities: &Map<String, Value>,
) -> Map<String, Value> {
    let mut config = plugin.clone();
    config.insert("name".to_owned(), network.name.clone().into());
    config.insert("cniVersion".to_owned(), network.version.clone().into());
    let asked = capabilities.iter().filter(|(name, _)| wants(plugin, name));
    let asked: Map<String, Value> = asked.map(|(name, value)| (name.clone(), value.clone())).collect();
    if !asked.is_empty() {
        config.insert("runtimeConfig".to_owned(), asked.into());
    }
    config
}

fn with_result(plugin: &Map<String, Value>, result: Option<&Value>) -> Value {
    let mut config = plugin.clone();
    if let Some(result) = result {
        config.insert("prevResult".to_owned(), result.clone());
    }
    Value::Object(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(result: Value) -> Joined {
        Joined {
            network: "n".to_owned(),
            version: "1.0.0".to_owned(),
            no_check: false,
            interface: "eth0".to_owned(),
            arguments: String::new(),
            plugins: Vec::new(),
            result: Some(result),
        }
    }

    #[test]
    fn results_of_all_versions_give_their_addresses_ipv4_first() {
        let new = json!({"ips": [{"address": "fd00::2/64"}, {"address": "10.1.0.2/16"}], "dns": {"nameservers": ["1.1.1.1"]}});
        let all = attachment(&[joined(new)]).unwrap();
        assert_eq!(all.ips, ["10.1.0.2".parse::<IpAddr>().unwrap(), "fd00::2".parse().unwrap()]);
        assert_eq!(all.dns.servers, ["1.1.1.1"]);
        let old = json!({"ip4": {"ip": "10.1.0.3/16"}});
        assert_eq!(attachment(&[joined(old)]).unwrap().ips, ["10.1.0.3".parse::<IpAddr>().unwrap()]);
        assert!(attachment(&[joined(json!({"ips": [{"address": "x"}]}))]).is_err());
    }

    #[test]
    fn a_plugin_gets_the_capabilities_that_it_lists() {
        let network = Network {
            file: PathBuf::new(),
            name: "n".to_owned(),
            version: "1.0.0".to_owned(),
            plugins: Vec::new(),
            no_check: false,
            no_gc: false,
        };
        let capabilities = json!({"portMappings": [1], "dns": {}}).as_object().unwrap().clone();
        let plugin = json!({"type": "p", "capabilities": {"portMappings": true, "dns": false}});
        let config = complete(plugin.as_object().unwrap(), &network, &capabilities);
        assert_eq!(config["runtimeConfig"], json!({"portMappings": [1]}));
        assert_eq!((&config["name"], &config["cniVersion"]), (&json!("n"), &json!("1.0.0")));
    }
}
