//! What listens on this machine: a host port is taken from nobody. Packets for one are translated before they reach any socket, so a pod
//! would answer in the place of the kubelet, of sshd, or of this server's own streams.

use super::pod::{Port, Protocol};
use crate::error::{Error, Kind, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// The kernel's tables of this network namespace: proc_pid_net(5).
const TABLES: [(&str, Protocol); 4] =
    [("tcp", Protocol::Tcp), ("tcp6", Protocol::Tcp), ("udp", Protocol::Udp), ("udp6", Protocol::Udp)];

/// A socket that waits for whoever comes.
#[derive(Debug, PartialEq, Eq)]
struct Listener {
    protocol: Protocol,
    address: IpAddr,
    port: u16,
}

/// Whether nothing listens on the host's side of these ports. SCTP's sockets are not looked at.
pub fn free(ports: &[Port]) -> Result<()> {
    if ports.is_empty() { Ok(()) } else { free_in(&listeners(Path::new("/proc/self/net")), ports) }
}

fn free_in(listeners: &[Listener], ports: &[Port]) -> Result<()> {
    for port in ports {
        if let Some(other) = listeners.iter().find(|listener| listener.is_at(port)) {
            let what =
                format!("host port {}: a process of this machine listens at {}", port.shown(), other.address);
            return Err(Error::new(Kind::Exists, what)
                .cure("use another host port, or end that process (`ss -lntup` shows it)"));
        }
    }
    Ok(())
}

impl Listener {
    /// An address that is not given means all, on either side.
    fn is_at(&self, port: &Port) -> bool {
        let meets = |ip: IpAddr| self.address.is_unspecified() || self.address == ip.to_canonical();
        self.protocol == port.protocol && self.port == port.host && port.host_ip.is_none_or(meets)
    }
}

fn listeners(folder: &Path) -> Vec<Listener> {
    let of = |(name, protocol): (&str, Protocol)| {
        let text = std::fs::read_to_string(folder.join(name)).unwrap_or_default(); // IPv6 may be off
        text.lines().skip(1).filter_map(|line| listener(line, protocol)).collect::<Vec<_>>()
    };
    TABLES.into_iter().flat_map(of).collect()
}

/// `0: 0100007F:1F90 00000000:0000 0A …`: addresses are words in the machine's order; 0A is LISTEN, 07 an unconnected socket of UDP.
fn listener(line: &str, protocol: Protocol) -> Option<Listener> {
    let mut fields = line.split_whitespace();
    let (address, port) = fields.nth(1)?.split_once(':')?;
    let state = fields.nth(1)?;
    if !matches!((protocol, state), (Protocol::Tcp, "0A") | (Protocol::Udp, "07")) {
        return None;
    }
    let words = address.as_bytes().chunks(8).map(|word| {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        Some(word.to_ne_bytes())
    });
    let bytes = words.collect::<Option<Vec<_>>>()?.concat();
    let address = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(v4) => IpAddr::from(Ipv4Addr::from(v4)),
        Err(_) => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?)).to_canonical(),
    };
    Some(Listener { protocol, address, port: u16::from_str_radix(port, 16).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(protocol: Protocol, host: u16, host_ip: Option<&str>) -> Port {
        let host_ip = host_ip.map(|ip| ip.parse().unwrap());
        Port { protocol, host, container: 80, host_ip }
    }

    #[test]
    fn a_port_on_which_the_machine_listens_is_taken_from_nobody() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let here = tcp.local_addr().unwrap().port();
        let refused = free(&[port(Protocol::Tcp, here, None)]).unwrap_err().to_string();
        assert!(refused.contains("listens at 127.0.0.1"), "{refused}");
        assert!(free(&[port(Protocol::Tcp, here, Some("127.0.0.1"))]).is_err());
        assert!(free(&[port(Protocol::Tcp, here, Some("192.0.2.1"))]).is_ok(), "another address");
        assert!(free(&[port(Protocol::Sctp, here, None)]).is_ok());
        let connected = std::net::TcpStream::connect(("127.0.0.1", here)).unwrap();
        let local = connected.local_addr().unwrap().port();
        assert!(free(&[port(Protocol::Tcp, local, None)]).is_ok(), "a connection's own port");
        if let Ok(all) = std::net::TcpListener::bind("[::]:0") {
            let all = all.local_addr().unwrap().port();
            assert!(free(&[port(Protocol::Tcp, all, Some("192.0.2.1"))]).is_err(), "all addresses");
        }
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let there = udp.local_addr().unwrap().port();
        assert!(free(&[port(Protocol::Udp, there, None)]).is_err());
    }

    #[test]
    fn addresses_are_read_as_the_kernel_writes_them() {
        let line = "   1: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 0 0";
        if cfg!(target_endian = "little") {
            let listener = listener(line, Protocol::Tcp).unwrap();
            assert_eq!((listener.address, listener.port), (IpAddr::from(Ipv6Addr::LOCALHOST), 22));
        }
        assert_eq!(listener("  sl  local_address rem_address   st", Protocol::Tcp), None);
    }
}
