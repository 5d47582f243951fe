//! What a pod that writes its own frames gets through to its neighbours and to the host.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, sockopt};

use super::super::nft::{Family, Table};
use super::super::socket::Socket;
use super::raw::*;
use super::*;

/// A frame that is tried: what it is, whether it passes.
struct Case {
    what: String,
    frame: Vec<u8>,
    passes: bool,
}

/// The cases that concern neighbours and host alike; `to` is who hears them.
fn cases(mine6: &str, theirs6: &str, to: [u8; 6], to4: [u8; 4]) -> Vec<Case> {
    let local = "fe80::858:aff:fe5a:2";
    let mut all = Vec::new();
    let mut number = 0u64;
    let mut case = |what: &str, passes, frame: &dyn Fn([u8; 8]) -> Vec<u8>| {
        number += 1;
        all.push(Case {
            what: what.to_owned(),
            frame: frame((0xabad_1dea << 32 | number).to_be_bytes()),
            passes,
        });
    };
    let four = |from, mac, tags: &[_], mark| ethernet(to, mac, tags, IP4, &ip4(from, to4, 17, &udp(mark)));
    case("its own IPv4", true, &|mark| four(ME, MY_MAC, &[], mark));
    case("another's address", false, &|mark| four(OTHER, MY_MAC, &[], mark));
    case("the node's address", false, &|mark| four(NODE, MY_MAC, &[], mark));
    case("an address of the loopback", false, &|mark| four([127, 0, 0, 9], MY_MAC, &[], mark));
    case("no address", false, &|mark| four([0; 4], MY_MAC, &[], mark));
    case("another's hardware address", false, &|mark| four(ME, [2, 0, 0, 0, 0, 9], &[], mark));
    case("the node's hardware address", false, &|mark| four(ME, NODE_MAC, &[], mark));
    for (what, tags) in [
        ("a tag 0", &[(0x8100, 0)][..]),
        ("a tag 5", &[(0x8100, 5)]),
        ("two tags 0", &[(0x8100, 0), (0x8100, 0)]),
        ("a tag of a provider", &[(0x88a8, 0), (0x8100, 0)]),
        ("three tags 0", &[(0x8100, 0), (0x8100, 0), (0x8100, 0)]),
    ] {
        case(&format!("{what} before its own IPv4"), false, &|mark| four(ME, MY_MAC, tags, mark));
        let router = |mark| {
            ethernet(NODES, MY_MAC, tags, IP6, &ip6(local, "ff02::1", 58, &advertisement(local, mark)))
        };
        case(&format!("{what} before an advertisement"), false, &router);
    }
    for kind in [0x88cc, 0x8809, 0x8847, 0x0100, 0x9000] {
        case(&format!("a frame of kind {kind:x}"), false, &|mark| ethernet(to, MY_MAC, &[], kind, &mark));
    }

    let six =
        |to6: &str, next, payload: &[u8]| ethernet(NODES, MY_MAC, &[], IP6, &ip6(local, to6, next, payload));
    let router = |mark| advertisement(local, mark);
    case("an advertisement", false, &|mark| six("ff02::1", 58, &router(mark)));
    for (what, next) in [("hop-by-hop options", 0), ("destination options", 60), ("a routing header", 43)] {
        let header = [58, 0, if next == 43 { 0 } else { 1 }, if next == 43 { 0 } else { 4 }, 0, 0, 0, 0];
        let after = |mark| six("ff02::1", next, &[&header[..], &router(mark)].concat());
        case(&format!("an advertisement behind {what}"), false, &after);
    }
    let options =
        |length: u8| [&[58, length, 1, length * 8 + 4][..], &vec![0; usize::from(length) * 8 + 4]].concat();
    let hidden = |mark| [options(30), router(mark)].concat();
    case("an advertisement's first fragment, of options only", false, &|mark| {
        let first = [&options(29)[..], &mark].concat();
        six("ff02::1", 44, &fragment(60, 0, 1, &first))
    });
    case("an advertisement's second fragment, behind options", false, &|mark| {
        six("ff02::1", 44, &fragment(60, 248, 0, &hidden(mark)[248..]))
    });
    case("an advertisement as one fragment", false, &|mark| {
        six("ff02::1", 44, &fragment(58, 0, 0, &router(mark)))
    });
    for (what, kind) in
        [("a redirect", 137), ("a renumbering", 138), ("a querier", 130), ("a multicast router", 151)]
    {
        let message = |mark: [u8; 8]| icmp6(local, "ff02::1", kind, &[&[0; 36][..], &mark].concat());
        case(what, false, &|mark| six("ff02::1", 58, &message(mark)));
    }
    let about = |target: &str, mark: [u8; 8]| {
        let target = target.parse::<std::net::Ipv6Addr>().unwrap().octets();
        [&[0x20, 0, 0, 0][..], &target, &[253, 1, 0, 0, 0, 0, 0, 0], &mark].concat()
    };
    case("that it is there", true, &|mark| {
        six("ff02::1", 58, &icmp6(local, "ff02::1", 136, &about(mine6, mark)))
    });
    case("that another is here", false, &|mark| {
        six("ff02::1", 58, &icmp6(local, "ff02::1", 136, &about(theirs6, mark)))
    });
    case("that it is there, as a fragment", false, &|mark| {
        six("ff02::1", 44, &fragment(58, 0, 0, &icmp6(local, "ff02::1", 136, &about(mine6, mark))))
    });
    case("where another is", true, &|mark| {
        six("ff02::1", 58, &icmp6(local, "ff02::1", 135, &about(theirs6, mark)))
    });
    case("echo", true, &|mark| {
        six("ff02::1", 58, &icmp6(local, "ff02::1", 128, &[&[0; 4][..], &mark].concat()))
    });
    case("a datagram from its own IPv6", true, &|mark| {
        ethernet(NODES, MY_MAC, &[], IP6, &ip6(mine6, "ff02::1", 17, &udp(mark)))
    });
    for from in [theirs6, "::", "::1", "fe80::858:aff:fe5a:1", "2001:db8::1"] {
        let datagram = |mark| ethernet(NODES, MY_MAC, &[], IP6, &ip6(from, "ff02::1", 17, &udp(mark)));
        case(&format!("a datagram from {from}"), false, &datagram);
    }

    case("who has another", true, &|mark| ethernet(ALL, MY_MAC, &[], ARP, &arp(1, MY_MAC, ME, OTHER, mark)));
    for (what, mac, sender, ip) in [
        ("another", MY_MAC, MY_MAC, OTHER),
        ("the node", MY_MAC, MY_MAC, NODE),
        ("nobody", MY_MAC, MY_MAC, [0; 4]),
        ("itself elsewhere", MY_MAC, OTHER_MAC, ME),
        ("itself from elsewhere", OTHER_MAC, MY_MAC, ME),
    ] {
        for operation in [1, 2] {
            let frame = |mark| ethernet(ALL, mac, &[], ARP, &arp(operation, sender, ip, to4, mark));
            case(&format!("ARP {operation} as {what}"), false, &frame);
        }
    }
    all
}

fn judge(from: &Path, tap: &OwnedFd, link: Option<usize>, last: Vec<u8>, cases: &[Case]) {
    let mark = last[last.len() - 8..].try_into().unwrap();
    let frames = cases.iter().map(|case| case.frame.clone()).chain([last]).collect();
    send(from, frames);
    let seen = seen(tap, link, mark);
    let wrong: Vec<&str> = cases
        .iter()
        .filter(|case| seen.iter().any(|end| case.frame.ends_with(end)) != case.passes)
        .map(|case| case.what.as_str())
        .collect();
    assert!(wrong.is_empty(), "passes and should not, or the other way round: {wrong:#?}");
}

#[test]
fn a_pod_sends_as_itself_only() {
    let Some(host) = Host::new("forged frames", |_| {}) else { return };
    let (pod, mine) = host.make("a-pod", vec![]);
    let (other, theirs) = host.make("b-pod", vec![]);
    until_forwarding(&["a-pod", "b-pod"]);
    let (mine6, theirs6) = (mine.ips[1].to_string(), theirs.ips[1].to_string());
    let check = |what: &str| {
        println!("{what}");
        let last = ethernet(OTHER_MAC, MY_MAC, &[], IP4, &ip4(ME, OTHER, 17, &udp(LAST)));
        judge(&pod.netns, &tap(Some(&other.netns)), None, last, &cases(&mine6, &theirs6, OTHER_MAC, OTHER));
        let last = ethernet(NODE_MAC, MY_MAC, &[], IP4, &ip4(ME, NODE, 17, &udp(LAST)));
        let bridge = nix::net::if_::if_nametoindex("rt0").unwrap() as usize;
        judge(&pod.netns, &tap(None), Some(bridge), last, &cases(&mine6, &theirs6, NODE_MAC, NODE));
    };
    check("at first");
    // A server that comes after this one.
    let config = Config { conf_dir: "/run/cni".into(), ..Config::default() };
    let again = Host { network: Network::open(&config, &host.state).unwrap(), ..host };
    again.runtime.block_on(again.network.gc(&BTreeSet::from(["a-pod".into(), "b-pod".into()]))).unwrap();
    check("after a restart");
    // One that comes and goes takes nothing of theirs.
    again.make("c-pod", vec![tcp(8080, 80, None)]);
    again.remove("c-pod");
    check("after another pod");
}

// KERNEL: frames to these addresses are no bridge's: the port itself takes them.
#[test]
fn frames_to_reserved_groups_are_taken_by_nobody() {
    let Some(host) = Host::new("reserved groups", |_| {}) else { return };
    let (pod, mine) = host.make("a-pod", vec![]);
    let read =
        |path: &str| std::fs::read_to_string(format!("/proc/sys/net/{path}")).unwrap().trim().to_owned();
    for (setting, value) in [
        ("ipv6/conf/rt-a-pod/disable_ipv6", "1"),
        ("ipv6/conf/rt-a-pod/accept_ra", "0"),
        ("ipv6/conf/rt-a-pod/accept_redirects", "0"),
        ("ipv6/conf/rt-a-pod/autoconf", "0"),
        ("ipv4/conf/rt-a-pod/accept_redirects", "0"),
        ("ipv4/conf/rt-a-pod/rp_filter", "1"),
        ("ipv4/conf/rt-a-pod/route_localnet", "0"),
    ] {
        assert_eq!(read(setting), value, "{setting}");
    }
    let flags = run("ip", "-o link show rt-a-pod");
    assert!(flags.contains("NOARP"), "{flags}");
    // The rules hold without the settings, and the settings without the rules.
    let settings =
        ["disable_ipv6=0", "accept_ra=2", "autoconf=1"].map(|text| format!("net.ipv6.conf.rt-a-pod.{text}"));
    let loose = ["all", "rt-a-pod"].map(|link| format!("net.ipv4.conf.{link}.rp_filter=0"));
    run("sysctl", "-qw net.ipv4.conf.all.route_localnet=1");
    for what in ["rules alone", "settings alone", "the bridge is gone"] {
        match what {
            "rules alone" => {
                settings
                    .iter()
                    .chain(&loose)
                    .for_each(|setting| drop(run("sysctl", &format!("-qw {setting}"))));
                run("ip", "link set rt-a-pod arp on");
            }
            "settings alone" => {
                for family in [Family::Inet, Family::Bridge] {
                    let table = Table { family, name: "rt-cri-rt0" };
                    Socket::netfilter().unwrap().commit(vec![table.delete()]).unwrap().unwrap();
                }
                run("sysctl", "-qw net.ipv6.conf.rt-a-pod.disable_ipv6=1 net.ipv4.conf.rt-a-pod.rp_filter=1");
                run("ip", "link set rt-a-pod arp off");
            }
            _ => {
                host.runtime.block_on(host.network.look(&[])).unwrap();
                settings
                    .iter()
                    .chain(&loose)
                    .for_each(|setting| drop(run("sysctl", &format!("-qw {setting}"))));
                run("ip", "link del rt0");
                run("ip", "addr add 10.90.0.1/32 dev lo");
                run("ip", "route add 10.90.0.2/32 dev rt-a-pod");
            }
        }
        let open = |ip: [u8; 4]| {
            let socket = nix::sys::socket::socket(
                AddressFamily::Inet,
                SockType::Datagram,
                SockFlag::empty(),
                SockProtocol::Udp,
            );
            let socket = UdpSocket::from(socket.unwrap());
            setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
            let [a, b, c, d] = ip;
            nix::sys::socket::bind(socket.as_raw_fd(), &nix::sys::socket::SockaddrIn::new(a, b, c, d, 4000))
                .unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            socket
        };
        let (any, loopback) = (open([0; 4]), open([127, 0, 0, 1]));
        let local = "fe80::858:aff:fe5a:2";
        // Frames to the first are passed on as others are, and taken by the bridge itself.
        for last in if what == "settings alone" { 1 } else { 0 }..16 {
            let group = [0x01, 0x80, 0xc2, 0, 0, last];
            let datagram = |from, to| ethernet(group, MY_MAC, &[], IP4, &ip4(from, to, 17, &udp(LAST)));
            let router = ip6(local, "ff02::1", 58, &advertisement(local, LAST));
            let neighbour = arp(1, MY_MAC, [10, 90, 7, last], NODE, LAST);
            send(
                &pod.netns,
                vec![
                    datagram(ME, NODE),
                    datagram(OTHER, NODE),
                    datagram([8, 8, 8, 8], NODE),
                    datagram(ME, [127, 0, 0, 1]),
                    ethernet(group, MY_MAC, &[], IP6, &router),
                    ethernet(group, MY_MAC, &[(0x8100, 0), (0x8100, 0)], IP6, &router),
                    ethernet(group, MY_MAC, &[], ARP, &neighbour),
                ],
            );
        }
        for socket in [&any, &loopback] {
            let heard = socket.recv_from(&mut [0; 64]);
            assert!(heard.is_err(), "{what}: a datagram from {heard:?}");
        }
        assert_eq!(run("ip", "-6 route show proto ra"), "", "{what}: an advertisement is believed");
        assert_eq!(run("ip", "neigh show 10.90.7.3"), "", "{what}: a neighbour is believed");
    }
    assert_eq!(mine.ips.len(), 2);
}
