//! What is known of a pod when it gets its network, and what it got. No effects.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::api;
use crate::error::{Error, Result};

/// A pod as the network sees it; the same value is given to attach, check and detach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodNetwork {
    /// The sandbox id.
    pub id: String,
    /// The pod's namespace, name and uid.
    pub namespace: String,
    /// See `namespace`.
    pub name: String,
    /// See `namespace`.
    pub uid: String,
    /// Where its network namespace is bound.
    pub netns: PathBuf,
    /// Its cgroup parent, as asked for; for plugins that want it.
    pub cgroup_parent: String,
    /// Ports of the host that lead to it.
    pub ports: Vec<Port>,
    /// Its name servers, for plugins that want them.
    pub dns: Dns,
    /// Its annotations; bandwidth limits are among them.
    pub annotations: BTreeMap<String, String>,
}

/// One port of the host that leads to the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The port on the host, 1–65535.
    pub host: u16,
    /// The port in the pod, 1–65535.
    pub container: u16,
    /// The host's address that it is bound to; none: all.
    pub host_ip: Option<IpAddr>,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// As CNI plugins and people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// The protocol's number in IP headers.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

/// Name resolution.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Addresses of name servers.
    #[serde(skip_serializing_if = "Vec::is_empty", alias = "nameservers")]
    pub servers: Vec<String>,
    /// Domains to search.
    #[serde(skip_serializing_if = "Vec::is_empty", alias = "search")]
    pub searches: Vec<String>,
    /// Options as in resolv.conf.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// What a pod got.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The networks that it is in, in the order of their interfaces.
    pub networks: Vec<String>,
    /// Its addresses; the first is the pod's address, one of the other family may follow at once.
    pub ips: Vec<IpAddr>,
    /// Name servers that the network's configuration demands; empty: the pod's own or the host's.
    pub dns: Dns,
}

impl PodNetwork {
    /// From the sandbox's configuration. Errors: a port out of range, an address that is none.
    pub fn new(id: &str, config: &api::PodSandboxConfig, netns: PathBuf) -> Result<Self> {
        let metadata = config.metadata.clone().unwrap_or_default();
        let dns = config.dns_config.clone().unwrap_or_default();
        let ports = config.port_mappings.iter().filter(|port| port.host_port != 0);
        Ok(Self {
            id: id.to_owned(),
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            netns,
            cgroup_parent: config.linux.as_ref().map(|linux| linux.cgroup_parent.clone()).unwrap_or_default(),
            ports: ports.map(Port::new).collect::<Result<_>>()?,
            dns: Dns { servers: dns.servers, searches: dns.searches, options: dns.options },
            annotations: config.annotations.clone().into_iter().collect(),
        })
    }

    /// Errors: a host port that shall lead to two ports of the pod. The same mapping twice is one.
    pub fn check_ports(&self) -> Result<()> {
        let mut taken = HashMap::new();
        for port in &self.ports {
            let first = *taken.entry(port.key()).or_insert(port.container);
            if first != port.container {
                let what = format!(
                    "host port {} is asked for twice by this pod: for its ports {first} and {}",
                    port.shown(),
                    port.container
                );
                return Err(Error::invalid(what).cure("give each a host port of its own"));
            }
        }
        Ok(())
    }
}

impl Port {
    /// What can lead to one place only.
    pub fn key(&self) -> (Protocol, u16, Option<IpAddr>) {
        (self.protocol, self.host, self.host_ip)
    }

    /// The host's side, for people: `8080/tcp`, `10.0.0.1 8080/tcp`.
    pub fn shown(&self) -> String {
        let address = self.host_ip.map(|ip| format!("{ip} ")).unwrap_or_default();
        format!("{address}{}/{}", self.host, self.protocol.name())
    }

    fn new(asked: &api::PortMapping) -> Result<Self> {
        let number = |what: &str, port: i32| match u16::try_from(port) {
            Ok(port) if port != 0 => Ok(port),
            _ => Err(Error::invalid(format!("{what} {port} of a port mapping is not within 1–65535"))),
        };
        let protocol = match api::Protocol::try_from(asked.protocol) {
            Ok(api::Protocol::Tcp) => Protocol::Tcp,
            Ok(api::Protocol::Udp) => Protocol::Udp,
            Ok(api::Protocol::Sctp) => Protocol::Sctp,
            Err(_) => {
                return Err(Error::invalid(format!(
                    "protocol {} of a port mapping is unknown",
                    asked.protocol
                )));
            }
        };
        let host_ip = match asked.host_ip.trim() {
            "" => None,
            text => Some(text.parse::<IpAddr>().map_err(|_| {
                Error::invalid(format!("host address `{text}` of a port mapping is no IP address"))
            })?),
        };
        Ok(Self {
            protocol,
            host: number("host port", asked.host_port)?,
            container: number("container port", asked.container_port)?,
            // The unspecified address means every address of its family; for IPv4 that is what no address means too.
            host_ip: host_ip.filter(|ip| !ip.is_unspecified()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(protocol: i32, container_port: i32, host_port: i32, host_ip: &str) -> api::PortMapping {
        api::PortMapping { protocol, container_port, host_port, host_ip: host_ip.to_owned() }
    }

    #[test]
    fn ports_come_as_the_sandbox_asks() {
        let config = api::PodSandboxConfig {
            port_mappings: vec![asked(0, 80, 8080, ""), asked(1, 53, 0, ""), asked(2, 9, 9, "10.0.0.1")],
            ..Default::default()
        };
        let pod = PodNetwork::new("a", &config, "/run/netns/a".into()).unwrap();
        let expected = [
            Port { protocol: Protocol::Tcp, host: 8080, container: 80, host_ip: None },
            Port { protocol: Protocol::Sctp, host: 9, container: 9, host_ip: Some([10, 0, 0, 1].into()) },
        ];
        assert_eq!(pod.ports, expected);
    }

    #[test]
    fn a_host_port_that_is_asked_for_twice_is_named_with_both_its_ports() {
        let check = |port_mappings| {
            let config = api::PodSandboxConfig { port_mappings, ..Default::default() };
            PodNetwork::new("a", &config, PathBuf::new()).unwrap().check_ports()
        };
        let error =
            check(vec![asked(0, 80, 8080, ""), asked(0, 81, 8080, "0.0.0.0")]).unwrap_err().to_string();
        assert!(
            error.contains("host port 8080/tcp is asked for twice by this pod: for its ports 80 and 81"),
            "{error}"
        );
        let bound = check(vec![asked(1, 53, 53, "10.0.0.1"), asked(1, 54, 53, "10.0.0.1")]);
        assert!(bound.unwrap_err().to_string().contains("host port 10.0.0.1 53/udp is asked for twice"));
        for fine in [
            vec![asked(0, 80, 8080, ""), asked(0, 80, 8080, "")],
            vec![asked(0, 80, 8080, ""), asked(1, 81, 8080, "")],
            vec![asked(0, 80, 8080, ""), asked(0, 81, 8080, "10.0.0.1")],
        ] {
            check(fine).unwrap();
        }
    }

    #[test]
    fn ports_out_of_range_and_wrong_addresses_are_named() {
        for (port, word) in [
            (asked(0, 0, 1, ""), "container port 0"),
            (asked(0, 1, 70000, ""), "host port 70000"),
            (asked(0, 1, -1, ""), "host port -1"),
            (asked(7, 1, 1, ""), "protocol 7"),
            (asked(0, 1, 1, "x"), "`x`"),
        ] {
            let config = api::PodSandboxConfig { port_mappings: vec![port], ..Default::default() };
            let error = PodNetwork::new("a", &config, PathBuf::new()).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
