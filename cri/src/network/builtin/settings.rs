//! The kernel's settings of the bridge, of the host's ways out and of a pod's interface. It makes no links.

use std::fs;
use std::path::Path;

use crate::error::{Context, Result};

/// The host forwards between the bridge and its other links, and its loopback reaches host ports. `uplinks`: where there is IPv6, the
/// links that the host learns its routes from.
pub fn forward(bridge: &str, uplinks: Option<&[&str]>) -> Result<()> {
    set("/proc/sys/net/ipv4/ip_forward", "1")?;
    set(&format!("/proc/sys/net/ipv4/conf/{bridge}/route_localnet"), "1")?;
    // Pods reach each other through the host and are to go on so. KERNEL: redirects are sent if either `all` or the link says so, and
    // links say so by default: those of others go on sending them.
    for link in [bridge, "all"] {
        set(&format!("/proc/sys/net/ipv4/conf/{link}/send_redirects"), "0")?;
    }
    if let Some(uplinks) = uplinks {
        for uplink in uplinks {
            keep_router_advertisements(Path::new(&format!("/proc/sys/net/ipv6/conf/{uplink}")))?;
        }
        set("/proc/sys/net/ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// A host that forwards IPv6 ignores router advertisements unless told otherwise, and would lose its default route.
fn keep_router_advertisements(uplink: &Path) -> Result<()> {
    let is = |name: &str, value: &str| {
        fs::read_to_string(uplink.join(name)).is_ok_and(|text| text.trim() == value)
    };
    if is("accept_ra", "1") && is("forwarding", "0") {
        set(&uplink.join("accept_ra").to_string_lossy(), "2")?;
    }
    Ok(())
}

/// CVE-2020-10749: pods are at this link, and none of them is a router: nobody's advertisement or redirect is believed.
pub fn believe_nobody(link: &str) -> Result<()> {
    let v6 = ["accept_ra", "autoconf", "accept_redirects"];
    let all = v6.map(|name| format!("/proc/sys/net/ipv6/conf/{link}/{name}"));
    // KERNEL: a host that does not forward believes IPv4 redirects if either `all` or the link says so; one that does, if both.
    for path in all.into_iter().chain([format!("/proc/sys/net/ipv4/conf/{link}/accept_redirects")]) {
        // Without IPv6 there is nothing to believe.
        if Path::new(&path).exists() {
            set(&path, "0")?;
        }
    }
    Ok(())
}

/// Inside a pod, before its interface is raised: neither it nor one that is made later believes anybody, and the kernel makes up no
/// address within the link, whose route would lead to any number of neighbours.
pub fn pod(interface: &str) -> Result<()> {
    for link in ["all", "default", interface] {
        believe_nobody(link)?;
    }
    let made_up = format!("/proc/sys/net/ipv6/conf/{interface}/addr_gen_mode");
    if Path::new(&made_up).exists() {
        // IN6_ADDR_GEN_MODE_NONE
        set(&made_up, "1")?;
    }
    Ok(())
}

/// The host's end of a pod's link belongs to the bridge alone: should it take anything itself, there is no IPv6, and nothing is reached
/// back by it. One that is not there is fine.
pub fn port(link: &str) -> Result<()> {
    let v6 = format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6");
    let v4 = format!("/proc/sys/net/ipv4/conf/{link}");
    for (path, value) in [(v6, "1"), (format!("{v4}/rp_filter"), "1"), (format!("{v4}/route_localnet"), "0")]
    {
        if Path::new(&path).exists() {
            set(&path, value)?;
        }
    }
    // Somebody may write disable_ipv6 of `all`, which is each link's.
    believe_nobody(link)
}

/// Writes a setting of the kernel, unless it is so already.
fn set(path: &str, value: &str) -> Result<()> {
    if fs::read_to_string(Path::new(path)).is_ok_and(|text| text.trim() == value) {
        return Ok(());
    }
    fs::write(path, value).what(|| format!("write {value} to {path}"))
}
