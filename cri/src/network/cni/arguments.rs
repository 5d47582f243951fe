//! What plugins are told of a pod: `CNI_ARGS`, and the capability arguments that a plugin asks for. Pure.

use serde_json::{Map, Value, json};

use super::super::pod::PodNetwork;
use crate::error::{Error, Result};

const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";

/// `CNI_ARGS`, as Kubernetes' plugins know them.
pub fn arguments(pod: &PodNetwork) -> String {
    // Names can't hold `;` or `=` in Kubernetes; from others they would add arguments.
    let plain = |text: &str| text.replace([';', '='], "_");
    format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
        plain(&pod.namespace),
        plain(&pod.name),
        pod.id,
        plain(&pod.uid),
    )
}

/// All capability arguments of a pod, by name; a plugin gets those that it lists. `ranges`: the node's pod ranges.
pub fn capabilities(pod: &PodNetwork, ranges: &[String]) -> Result<Map<String, Value>> {
    let mut all = Map::new();
    if !pod.ports.is_empty() {
        let ports = pod.ports.iter().map(|port| {
            let host_ip = port.host_ip.map(|ip| ip.to_string()).unwrap_or_default();
            json!({"hostPort": port.host, "containerPort": port.container, "protocol": port.protocol.name(), "hostIP": host_ip})
        });
        all.insert("portMappings".to_owned(), ports.collect());
    }
    let mut bandwidth = Map::new();
    for (annotation, rate, burst) in
        [(INGRESS, "ingressRate", "ingressBurst"), (EGRESS, "egressRate", "egressBurst")]
    {
        if let Some(text) = pod.annotations.get(annotation) {
            bandwidth.insert(rate.to_owned(), bits(annotation, text)?.into());
            // No limit to a burst was asked for: the largest that the plugin takes.
            bandwidth.insert(burst.to_owned(), u32::MAX.into());
        }
    }
    if !bandwidth.is_empty() {
        all.insert("bandwidth".to_owned(), bandwidth.into());
    }
    if !ranges.is_empty() {
        all.insert(
            "ipRanges".to_owned(),
            ranges.iter().map(|subnet| json!([{ "subnet": subnet }])).collect(),
        );
    }
    let dns = &pod.dns;
    if !(dns.servers.is_empty() && dns.searches.is_empty() && dns.options.is_empty()) {
        let dns = json!({"servers": dns.servers, "searches": dns.searches, "options": dns.options});
        all.insert("dns".to_owned(), dns);
    }
    if !pod.cgroup_parent.is_empty() {
        all.insert("cgroupPath".to_owned(), pod.cgroup_parent.clone().into());
    }
    if !pod.annotations.is_empty() {
        all.insert("io.kubernetes.cri.pod-annotations".to_owned(), json!(pod.annotations));
    }
    Ok(all)
}

/// A rate as Kubernetes writes quantities, in bits per second: `10M`, `1.5G`, `800k`, `1e6`, `2Mi`.
fn bits(annotation: &str, text: &str) -> Result<u64> {
    let wrong = || {
        Error::invalid(format!("annotation {annotation} is `{text}`"))
            .cure("write a rate between 1k and 1P in bits per second, as `10M`")
    };
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.').map_or(0, |index| index + 1);
    let (number, unit) = text.split_at(end);
    let unit = match unit {
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    let rate = number.parse::<f64>().map_err(|_| wrong())? * unit;
    if (1e3..=1e15).contains(&rate) { Ok(rate as u64) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::super::super::pod::{Port, Protocol};
    use super::*;

    #[test]
    fn rates_are_quantities_within_kubernetes_limits() {
        for (text, expected) in [
            ("10M", 10_000_000),
            ("1.5G", 1_500_000_000),
            ("1k", 1000),
            ("1e6", 1_000_000),
            ("1Mi", 1_048_576),
        ] {
            assert_eq!(bits(INGRESS, text).unwrap(), expected, "{text}");
        }
        for text in ["", "M", "10", "-5M", "10X", "2P", "nan", "inf"] {
            assert!(bits(INGRESS, text).unwrap_err().to_string().contains(&format!("`{text}`")));
        }
    }

    #[test]
    fn capabilities_are_those_that_the_pod_has() {
        let mut pod = PodNetwork { id: "i".to_owned(), ..PodNetwork::default() };
        assert!(capabilities(&pod, &[]).unwrap().is_empty());
        pod.ports = vec![Port { protocol: Protocol::Udp, host: 53, container: 5353, host_ip: None }];
        pod.annotations.insert(EGRESS.to_owned(), "1M".to_owned());
        let all = capabilities(&pod, &["10.1.0.0/24".to_owned()]).unwrap();
        assert_eq!(
            all["portMappings"],
            json!([{"hostPort": 53, "containerPort": 5353, "protocol": "udp", "hostIP": ""}])
        );
        assert_eq!(all["bandwidth"], json!({"egressRate": 1_000_000, "egressBurst": u32::MAX}));
        assert_eq!(all["ipRanges"], json!([[{"subnet": "10.1.0.0/24"}]]));
    }

    #[test]
    fn arguments_can_not_be_smuggled_in() {
        let pod =
            PodNetwork { id: "i".to_owned(), name: "a;K8S_POD_UID=x".to_owned(), ..PodNetwork::default() };
        assert!(arguments(&pod).contains("K8S_POD_NAME=a_K8S_POD_UID_x;"));
    }
}
