//! Frames as bytes, sent by a pod and seen elsewhere.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvfrom, sendto, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::*;

pub const ALL: [u8; 6] = [0xff; 6];
/// All nodes of IPv6.
pub const NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
pub const MY_MAC: [u8; 6] = [0x0a, 0x58, 10, 90, 0, 2];
pub const OTHER_MAC: [u8; 6] = [0x0a, 0x58, 10, 90, 0, 3];
pub const NODE_MAC: [u8; 6] = [0x0a, 0x58, 10, 90, 0, 1];
pub const ME: [u8; 4] = [10, 90, 0, 2];
pub const OTHER: [u8; 4] = [10, 90, 0, 3];
pub const NODE: [u8; 4] = [10, 90, 0, 1];
pub const IP4: u16 = 0x0800;
pub const IP6: u16 = 0x86dd;
pub const ARP: u16 = 0x0806;

pub fn tap(netns: Option<&Path>) -> OwnedFd {
    let open = || {
        let socket =
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), SockProtocol::EthAll).unwrap();
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(5, 0)).unwrap();
        setsockopt(&socket, sockopt::RcvBuf, &(4 << 20)).unwrap();
        Ok(socket)
    };
    match netns {
        Some(netns) => netns::inside(netns::open(netns).unwrap(), open).unwrap(),
        None => open().unwrap(),
    }
}

pub fn send(netns: &Path, frames: Vec<Vec<u8>>) {
    netns::inside(netns::open(netns).unwrap(), move || {
        let eth0 = nix::ifaddrs::getifaddrs().unwrap().find_map(|interface| {
            let address = interface.address.filter(|_| interface.interface_name == "eth0")?;
            address.as_link_addr().copied()
        });
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None).unwrap();
        for frame in frames {
            sendto(socket.as_raw_fd(), &frame, &eth0.unwrap(), MsgFlags::empty()).unwrap();
        }
        Ok(())
    })
    .unwrap();
}

/// A port passes frames on when the kernel has told its bridge that the pod's end is raised, a moment after it is.
pub fn until_forwarding(pods: &[&str]) {
    for pod in pods {
        let port = format!("-d -o link show rt-{pod}");
        until("the port passes frames on", || run("ip", &port).contains("state forwarding"));
    }
}

/// What a tap sees on a link up to a frame that ends with a mark: the ends of frames, of eight bytes each.
pub fn seen(tap: &OwnedFd, link: Option<usize>, mark: [u8; 8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let (length, from) =
            recvfrom::<LinkAddr>(tap.as_raw_fd(), &mut buffer).expect("the last frame comes");
        if link.is_some_and(|link| from.unwrap().ifindex() != link) {
            continue;
        }
        let end = buffer[length.saturating_sub(8)..length].to_vec();
        if end == mark {
            return all;
        }
        all.push(end);
    }
}

pub fn ethernet(to: [u8; 6], from: [u8; 6], tags: &[(u16, u16)], kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [to, from].concat();
    for (kind, id) in tags {
        frame.extend([kind.to_be_bytes(), id.to_be_bytes()].concat());
    }
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}

pub fn sum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum = words.sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    (!(((sum & 0xffff) + (sum >> 16)) as u16)).to_be_bytes()
}

pub fn ip4(from: [u8; 4], to: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len() as u16).to_be_bytes();
    let mut header =
        [&[0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0], &from[..], &to[..]].concat();
    let sum = sum(&header);
    header[10..12].copy_from_slice(&sum);
    [header, payload.to_vec()].concat()
}

/// UDP to port 4000, without a checksum.
pub fn udp(payload: [u8; 8]) -> Vec<u8> {
    [&[0x0f, 0xa0, 0x0f, 0xa0, 0, 16, 0, 0][..], &payload].concat()
}

pub fn ip6(from: &str, to: &str, next: u8, payload: &[u8]) -> Vec<u8> {
    let address = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let length = (payload.len() as u16).to_be_bytes();
    [&[0x60, 0, 0, 0, length[0], length[1], next, 255][..], &address(from), &address(to), payload].concat()
}

pub fn icmp6(from: &str, to: &str, kind: u8, body: &[u8]) -> Vec<u8> {
    let message = [&[kind, 0, 0, 0][..], body].concat();
    let mut pseudo = ip6(from, to, 0, &message)[8..40].to_vec();
    pseudo.extend((message.len() as u32).to_be_bytes());
    pseudo.extend([0, 0, 0, 58]);
    pseudo.extend(&message);
    let sum = sum(&pseudo);
    [&[kind, 0, sum[0], sum[1]][..], body].concat()
}

pub fn arp(operation: u8, mac: [u8; 6], ip: [u8; 4], to: [u8; 4], mark: [u8; 8]) -> Vec<u8> {
    [&[0, 1, 8, 0, 6, 4, 0, operation][..], &mac, &ip, &[0; 6], &to, &mark].concat()
}

/// A router for 1800 s, with a prefix.
pub fn advertisement(from: &str, mark: [u8; 8]) -> Vec<u8> {
    let body = [&[64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0][..], &[253, 2, 0, 0, 0, 0, 0, 0], &mark].concat();
    icmp6(from, "ff02::1", 134, &body)
}

pub fn fragment(next: u8, place: u16, more: u16, payload: &[u8]) -> Vec<u8> {
    let place = (place | more).to_be_bytes();
    [&[next, 0, place[0], place[1], 0, 0, 0, 7][..], payload].concat()
}

/// The end of the last frame that is waited for.
pub const LAST: [u8; 8] = *b"the last";
