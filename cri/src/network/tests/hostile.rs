//! What a pod with raw sockets does to the host and to other pods.

use std::net::SocketAddrV6;

use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};

use super::super::nft::{self, Family, Table};
use super::super::socket::Socket;
use super::super::wire;
use super::*;

/// Sends ICMPv6 to all nodes of the pod's link.
fn send_icmp6(netns: &Path, message: &'static [u8]) {
    netns::inside(netns::open(netns).unwrap(), move || {
        let socket = socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6)).unwrap();
        rustix::net::sockopt::set_ipv6_multicast_hops(&socket, 255).unwrap();
        let link = nix::net::if_::if_nametoindex("eth0").unwrap();
        let to = SocketAddrV6::new("ff02::1".parse().unwrap(), 0, 0, link);
        assert_eq!(sendto(&socket, message, SendFlags::empty(), &to), Ok(message.len()));
        Ok(())
    })
    .unwrap();
}

// Kubernetes 2020-10749: a pod's router advertisement becomes the node's default route, and other pods'.
#[test]
fn cve_2020_10749_a_pod_advertises_itself_as_a_router() {
    if missing("router advertisements", &["ip"]) {
        return;
    }
    let Some(host) = Host::new("router advertisements", |_| {}) else { return };
    for link in ["up0", "tap0"] {
        run("ip", &format!("link add {link} type ifb"));
    }
    run("ip", "link set up0 up");
    run("ip", "address add 192.0.2.2/24 dev up0");
    run("ip", "route add default via 192.0.2.1");
    let (pod, _) = host.make("a-rogue", vec![]);
    host.make("b-other", vec![]);
    let read = |path: &str| std::fs::read_to_string(path).unwrap().trim().to_owned();
    assert_eq!(read("/proc/sys/net/ipv6/conf/rt0/accept_ra"), "0", "the bridge believes advertisements");
    assert_eq!(read("/proc/sys/net/ipv6/conf/default/accept_ra"), "1", "what is not ours stays");
    assert_eq!(read("/proc/sys/net/ipv6/conf/up0/accept_ra"), "2", "the host's own way out stays");
    assert_eq!(read("/proc/sys/net/ipv6/conf/tap0/accept_ra"), "1", "no way out, somebody's link");
    for link in ["all", "default", "eth0"] {
        for setting in
            ["ipv6/conf/LINK/accept_ra", "ipv6/conf/LINK/accept_redirects", "ipv4/conf/LINK/accept_redirects"]
        {
            let path = format!("/proc/sys/net/{}", setting.replace("LINK", link));
            assert_eq!(
                run("ip", &format!("netns exec rt-a-rogue cat {path}")).trim(),
                "0",
                "a pod believes: {path}"
            );
        }
    }
    // The link-local address that it is sent from is looked for first.
    until("the pod has its own address", || {
        !run("ip", "-n rt-a-rogue -6 addr show dev eth0").contains("tentative")
    });
    // Even a pod that would believe it does not see it.
    run("ip", "netns exec rt-b-other sysctl -qw net.ipv6.conf.eth0.accept_ra=1");
    // A router for 1800 s.
    for _ in 0..3 {
        send_icmp6(&pod.netns, &[134, 0, 0, 0, 64, 8, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(run("ip", "-6 route show proto ra"), "", "the host has the pod's route");
    assert_eq!(run("ip", "-n rt-b-other -6 route show proto ra"), "", "another pod has the pod's route");
}

#[test]
fn thousands_of_host_ports_are_opened_closed_and_opened_again_after_a_restart() {
    let Some(host) = Host::new("many host ports", |_| {}) else { return };
    let many = |first: u16| (first..first + 4096).map(|port| tcp(port, 80, None)).collect::<Vec<_>>();
    let (pod, _) = host.make("a-many", many(10_000));
    let (other, _) = host.make("b-many", many(20_000));
    for pod in [&pod, &other] {
        serve(&pod.netns, "0.0.0.0:80");
    }
    assert!(call(None, "127.0.0.1:14095").is_ok());
    let config = Config { conf_dir: "/run/cni".into(), ..Config::default() };
    let again = Host { network: Network::open(&config, &host.state).unwrap(), ..host };
    let (third, _) = again.make("c-third", vec![tcp(7000, 80, None)]);
    serve(&third.netns, "0.0.0.0:80");
    for port in [10_000, 14_095, 24_095, 7000] {
        assert!(call(None, &format!("127.0.0.1:{port}")).is_ok(), "{port}");
    }
    again.remove("a-many");
    assert!(call(None, "127.0.0.1:14095").is_err());
    assert!(call(None, "127.0.0.1:24095").is_ok());
}

#[test]
fn nothing_comes_from_a_pod_as_somebody_else() {
    let Some(host) = Host::new("sources", |_| {}) else { return };
    let neighbour = neighbour();
    let (pod, _) = host.make("a-pod", vec![]);
    run("ip", "netns exec rt-a-pod ip addr add 203.0.113.7/32 dev eth0");
    let heard = UdpSocket::bind("0.0.0.0:4000").unwrap();
    heard.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let beside =
        netns::inside(netns::open(&neighbour).unwrap(), || Ok(UdpSocket::bind("0.0.0.0:4000").unwrap()));
    let beside = beside.unwrap();
    beside.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let send = |from: &'static str, to: &'static str| {
        netns::inside(netns::open(&pod.netns).unwrap(), move || {
            Ok(UdpSocket::bind(from).unwrap().send_to(b"hello", to).map(drop))
        })
        .unwrap()
        .unwrap();
    };
    let mut buffer = [0; 16];
    send("10.90.0.2:0", "10.90.0.1:4000");
    assert!(heard.recv_from(&mut buffer).is_ok(), "as itself");
    send("203.0.113.7:0", "10.90.0.1:4000");
    assert!(heard.recv_from(&mut buffer).is_err(), "to the host as somebody else");
    send("203.0.113.7:0", "192.0.2.2:4000");
    assert!(beside.recv_from(&mut buffer).is_err(), "to another machine as somebody else");
}

#[test]
fn a_port_that_two_pods_have_on_disk_keeps_no_other_from_being_opened_again() {
    let Some(host) = Host::new("contested ports", |_| {}) else { return };
    let (pod, _) = host.make("a-pod", vec![tcp(8080, 80, None)]);
    serve(&pod.netns, "0.0.0.0:80");
    let folder = host.state.join("attached");
    let text = std::fs::read_to_string(folder.join("a-pod.json")).unwrap();
    let text = text.replace("a-pod", "b-pod").replace("10.90.0.2", "10.90.0.9").replace("::2\"", "::9\"");
    std::fs::write(folder.join("b-pod.json"), text).unwrap();
    let config = Config { conf_dir: "/run/cni".into(), ..Config::default() };
    let again = Host { network: Network::open(&config, &host.state).unwrap(), ..host };
    let (third, _) = again.make("c-pod", vec![tcp(8081, 80, None)]);
    serve(&third.netns, "0.0.0.0:80");
    assert!(call(None, "127.0.0.1:8081").is_ok());
    let first = call(None, "127.0.0.1:8080").is_ok();
    assert!(call(Some(&pod.netns), "10.90.0.1:8081").is_ok(), "nor from sending");
    again.remove("b-pod");
    assert_eq!(call(None, "127.0.0.1:8080").is_ok(), first, "it is closed by the pod that has it");
    again.remove("a-pod");
    assert!(call(None, "127.0.0.1:8080").is_err());
}

/// How often the ruleset has changed.
fn generation() -> u32 {
    const GET_GENERATION: u16 = 10 << 8 | 16;
    let mut found = None;
    let question = wire::Message::new(GET_GENERATION, 0, &[0, 0, 0, 10]);
    let mut socket = Socket::netfilter().unwrap();
    let asked = socket.ask(&question, |_, payload| {
        let number = wire::attribute(&payload[4..], 1).unwrap();
        found = Some(u32::from_be_bytes(number.try_into().unwrap()));
    });
    asked.unwrap().unwrap();
    found.unwrap()
}

#[test]
fn a_pod_comes_and_goes_in_one_change_of_the_rules_each_whoever_has_one_of_its_ports() {
    let Some(host) = Host::new("changes of rules", |_| {}) else { return };
    host.make("a-pod", vec![tcp(8080, 80, None)]);
    let before = generation();
    host.make("b-pod", (9000..9050).map(|port| tcp(port, 80, None)).collect());
    assert_eq!(generation(), before + 1, "made");
    // As if another pod had got one of them by a record of an earlier version.
    let folder = host.state.join("attached");
    let text = std::fs::read_to_string(folder.join("b-pod.json")).unwrap();
    std::fs::write(folder.join("b-pod.json"), text.replace("9007", "8080")).unwrap();
    let config = Config { conf_dir: "/run/cni".into(), ..Config::default() };
    let again = Host { network: Network::open(&config, &host.state).unwrap(), ..host };
    let before = generation();
    again.remove("b-pod");
    // The second is that of its port, when that is gone.
    until("its port is forgotten", || generation() >= before + 2);
    assert_eq!(generation(), before + 2, "gone");
    // Of ports and addresses what the other has is all that is left.
    for (family, set, count) in [
        (Family::Bridge, "links", 1),
        (Family::Bridge, "own", 1),
        (Family::Bridge, "own6", 2),
        (Family::Bridge, "floods", 1),
        (Family::Inet, "links", 1),
        (Family::Inet, "pods", 1),
        (Family::Inet, "pods6", 1),
    ] {
        let question = Table { family, name: "rt-cri-rt0" }.get_entries(set);
        let mut found = 0;
        let asked =
            Socket::netfilter().unwrap().ask(&question, |_, payload| found += nft::entries(payload).count());
        asked.unwrap().unwrap();
        assert_eq!(found, count, "entries of {set}");
    }
    let (pod, _) = again.make("c-pod", vec![tcp(9001, 80, None)]);
    serve(&pod.netns, "0.0.0.0:80");
    assert!(call(None, "127.0.0.1:9001").is_ok());
}
