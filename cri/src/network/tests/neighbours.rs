//! What a pod makes the kernel remember of neighbours.

use super::raw::*;
use super::*;

/// Addresses that no pod has, each called once from a namespace: more than the kernel has room for.
fn call_nobody(netns: &Path, address: impl Fn(u16) -> String + Send + 'static) {
    netns::inside(netns::open(netns).unwrap(), move || {
        for number in 0..3000 {
            let to: SocketAddr = address(number).parse().unwrap();
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let _ = UdpSocket::bind(any).unwrap().send_to(b"hello", to);
        }
        Ok(())
    })
    .unwrap();
}

// The kernel has one table of neighbours of each family, of 1024 entries, for all namespaces.
#[test]
fn no_pod_fills_the_table_of_neighbours() {
    let Some(host) = Host::new("neighbours", |_| {}) else { return };
    let (pod, mine) = host.make("a-pod", vec![]);
    let (other, theirs) = host.make("b-pod", vec![]);
    until_forwarding(&["a-pod", "b-pod"]);
    let prefix = mine.ips[1].to_string();
    let prefix = prefix.strip_suffix('2').unwrap().to_owned();
    // What is nobody's is said to be so at once.
    let asked = std::time::Instant::now();
    let answer = call(Some(&pod.netns), "10.90.77.77:80").unwrap_err();
    assert!(answer.contains("No route to host"), "{answer}");
    assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
    let known = || {
        let count = |arguments: &str| run("ip", arguments).lines().count();
        count("neigh show nud all dev rt0") + count("-n rt-a-pod neigh show nud all dev eth0")
    };
    let before = known();
    // The groups that it and the host are in have entries too.
    let check = |what: &str| {
        let more = known() - before;
        assert!(more < 20, "{more} neighbours more by {what}");
    };
    call_nobody(&pod.netns, |number| format!("10.90.{}.{}:9", 4 + number / 250, 1 + number % 250));
    check("datagrams to addresses of the range");
    call_nobody(&pod.netns, move |number| format!("[{prefix}{:x}]:9", 0x100 + number));
    check("datagrams to addresses of IPv6's range");
    let link = run("ip", "-n rt-a-pod -o link show eth0");
    let link = link.split(':').next().unwrap().to_owned();
    call_nobody(&pod.netns, move |number| format!("[fe80::{:x}%{link}]:9", 0x100 + number));
    check("datagrams to addresses of the link");
    // It names others as senders.
    send(
        &pod.netns,
        (0..3000u16)
            .map(|number| {
                let [high, low] = (0x0400 + number).to_be_bytes();
                ethernet(NODE_MAC, MY_MAC, &[], ARP, &arp(1, MY_MAC, [10, 90, high, low], NODE, LAST))
            })
            .collect(),
    );
    check("senders of ARP");
    serve(&other.netns, "0.0.0.0:80");
    assert!(call(Some(&pod.netns), &format!("{}:80", theirs.ips[0])).is_ok());
    host.remove("b-pod");
    assert!(call(Some(&pod.netns), &format!("{}:80", theirs.ips[0])).is_err());
}
