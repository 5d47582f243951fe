//! Tests of the whole on the real kernel, each in network and mount namespaces of its own. They need root.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::*;

mod cni;
mod frames;
mod hostile;
mod neighbours;
mod raw;

/// A host of its own: the test's thread and all that it starts are in it.
struct Host {
    state: PathBuf,
    network: Network,
    runtime: tokio::runtime::Runtime,
}

impl Host {
    /// None where the test is not root; it says so.
    fn new(name: &str, change: impl FnOnce(&mut Config)) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("SKIP {name}: needs root");
            return None;
        }
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>).unwrap();
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        run("ip", "link set lo up");
        let state = PathBuf::from("/run/rt/network");
        let mut config = Config { conf_dir: "/run/cni".into(), ..Config::default() };
        change(&mut config);
        let network = Network::open(&config, &state).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Some(Self { state, network, runtime })
    }

    fn make(&self, id: &str, ports: Vec<Port>) -> (PodNetwork, Attachment) {
        let netns = self.runtime.block_on(self.network.make_netns(id, None)).unwrap();
        let pod = PodNetwork {
            id: id.to_owned(),
            namespace: "ns".to_owned(),
            name: id.to_owned(),
            netns,
            ports,
            ..PodNetwork::default()
        };
        let attachment = self.runtime.block_on(self.network.attach(&pod)).unwrap();
        (pod, attachment)
    }

    fn remove(&self, id: &str) {
        self.runtime.block_on(self.network.detach(&named(id))).unwrap();
        self.runtime.block_on(self.network.remove_netns(id)).unwrap();
    }
}

fn named(id: &str) -> PodNetwork {
    PodNetwork { id: id.to_owned(), ..PodNetwork::default() }
}

/// Whether a program that the test looks with is there; it says so if not.
fn missing(test: &str, programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |program: &&&str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let absent = programs.iter().find(|program| !there(program));
    if let Some(program) = absent {
        println!("SKIP {test}: no program {program} here");
    }
    absent.is_some()
}

fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while !done() {
        assert!(std::time::Instant::now() < deadline, "in vain for 5 s: {what}");
        std::thread::yield_now();
    }
}

/// A server in a namespace that answers each connection with the peer's address.
fn serve(netns: &Path, address: &str) {
    let address: SocketAddr = address.parse().unwrap();
    let listener =
        netns::inside(netns::open(netns).unwrap(), move || Ok(TcpListener::bind(address).unwrap())).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            let _ = stream.write_all(peer.ip().to_string().as_bytes());
        }
    });
}

/// What a server says when it is called from a namespace (none: the host's): the address that it saw.
fn call(netns: Option<&Path>, address: &str) -> Result<String, String> {
    let address: SocketAddr = address.parse().unwrap();
    let call = move || {
        let mut text = String::new();
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2));
        Ok(stream
            .and_then(|mut stream| stream.read_to_string(&mut text))
            .map(|_| text)
            .map_err(|error| error.to_string()))
    };
    match netns {
        Some(netns) => netns::inside(netns::open(netns).unwrap(), call).unwrap(),
        None => call().unwrap(),
    }
}

fn tcp(host: u16, container: u16, host_ip: Option<&str>) -> Port {
    Port { protocol: Protocol::Tcp, host, container, host_ip: host_ip.map(|ip| ip.parse().unwrap()) }
}

#[test]
fn pods_of_the_built_in_network_reach_each_other_and_nothing_is_left() {
    let Some(host) = Host::new("pods reach each other", |_| {}) else { return };
    let before = run("ip", "-o link");
    let (one, first) = host.make("0123456789abcdef-one", vec![]);
    let (two, second) = host.make("123456789abcdef0-two", vec![]);
    assert_eq!(first.ips[0].to_string(), "10.90.0.2");
    assert!(first.ips[1].is_ipv6() && first.ips.len() == 2);
    serve(&two.netns, "0.0.0.0:80");
    serve(&two.netns, "[::]:81");
    assert_eq!(call(Some(&one.netns), &format!("{}:80", second.ips[0])), Ok("10.90.0.2".to_owned()));
    assert_eq!(call(Some(&one.netns), &format!("[{}]:81", second.ips[1])), Ok(first.ips[1].to_string()));
    assert_eq!(call(None, &format!("{}:80", second.ips[0])), Ok("10.90.0.1".to_owned()));
    host.runtime.block_on(host.network.check(&one)).unwrap();
    // The same answer, when asked again.
    assert_eq!(host.runtime.block_on(host.network.attach(&one)).unwrap(), first);
    assert_eq!(host.network.condition(), Ok(()));
    assert!(host.network.in_force().starts_with("built-in bridge rt0, 10.90.0.0/16, fd"));
    for id in [&one.id, &two.id] {
        host.remove(id);
        host.remove(id);
    }
    run("ip", "link del rt0");
    until("the pods' links are gone", || run("ip", "-o link").lines().count() == before.lines().count());
    assert!(std::fs::read_dir(host.state.join("attached")).unwrap().next().is_none());
    assert!(std::fs::read_dir(netns::FOLDER).unwrap().next().is_none());
}

/// A second machine beside the host, at 192.0.2.2; the host is 192.0.2.1 and its only way out.
fn neighbour() -> PathBuf {
    let path = netns::make("neighbour").unwrap();
    run("ip", "link add up0 type veth peer name eth0 netns rt-neighbour");
    run("ip", "addr add 192.0.2.1/24 dev up0");
    run("ip", "link set up0 up");
    run("ip", "-n rt-neighbour addr add 192.0.2.2/24 dev eth0");
    run("ip", "-n rt-neighbour link set eth0 up");
    path
}

#[test]
fn host_ports_lead_to_the_pod_from_everywhere_and_pods_leave_as_the_host() {
    if missing("host ports", &["ip", "nft"]) {
        return;
    }
    let Some(host) = Host::new("host ports", |_| {}) else { return };
    let neighbour = neighbour();
    let (pod, attachment) = host.make("a-web", vec![tcp(8080, 80, None), tcp(8081, 80, Some("127.0.0.1"))]);
    let (other, _) = host.make("b-other", vec![]);
    serve(&pod.netns, "0.0.0.0:80");
    serve(&neighbour, "0.0.0.0:90");
    let own = attachment.ips[0].to_string();
    assert_eq!(call(Some(&neighbour), "192.0.2.1:8080"), Ok("192.0.2.2".to_owned()), "from another machine");
    assert!(call(Some(&neighbour), "192.0.2.1:8081").is_err(), "bound to 127.0.0.1");
    assert_eq!(call(None, "127.0.0.1:8080"), Ok("10.90.0.1".to_owned()), "from the host's loopback");
    assert_eq!(call(None, "127.0.0.1:8081"), Ok("10.90.0.1".to_owned()), "bound to the host's loopback");
    assert_eq!(call(None, "192.0.2.1:8080"), Ok("192.0.2.1".to_owned()), "from the host");
    assert!(call(Some(&other.netns), "192.0.2.1:8080").is_ok(), "from another pod");
    assert!(call(Some(&pod.netns), "192.0.2.1:8080").is_ok(), "from the pod itself");
    assert_eq!(call(Some(&pod.netns), "192.0.2.2:90"), Ok("192.0.2.1".to_owned()), "pods leave as the host");
    assert_eq!(own, "10.90.0.2");
    let rules = run("nft", "list table inet rt-cri-rt0");
    assert!(rules.contains("tcp . 8080 : 10.90.0.2 . 80"), "{rules}");
    // Somebody flushes all rules: the next question mends it.
    run("nft", "flush ruleset");
    assert!(call(Some(&neighbour), "192.0.2.1:8080").is_err());
    host.runtime.block_on(host.network.look(&[])).unwrap();
    assert!(call(Some(&neighbour), "192.0.2.1:8080").is_ok());
    host.remove("a-web");
    assert!(call(Some(&neighbour), "192.0.2.1:8080").is_err(), "closed with the pod");
}

#[test]
fn a_host_port_leads_to_one_pod_only() {
    let Some(host) = Host::new("one pod only", |_| {}) else { return };
    host.make("a-first", vec![tcp(8080, 80, None)]);
    let netns = host.runtime.block_on(host.network.make_netns("b-second", None)).unwrap();
    let pod = PodNetwork {
        id: "b-second".to_owned(),
        netns,
        ports: vec![tcp(8080, 81, None)],
        ..PodNetwork::default()
    };
    let error = host.runtime.block_on(host.network.attach(&pod)).unwrap_err();
    assert!(error.to_string().contains("host port 8080/tcp leads to pod a-first already"), "{error}");
    assert!(host.network.attachment("b-second").is_none());
    assert_eq!(host.runtime.block_on(host.network.detach(&pod)).map_err(|error| error.to_string()), Ok(()));
}

#[test]
fn the_hosts_loopback_is_out_of_pods_reach() {
    let Some(host) = Host::new("loopback", |_| {}) else { return };
    let (pod, _) = host.make("a-pod", vec![]);
    let listener = TcpListener::bind("127.0.0.1:7777").unwrap();
    std::thread::spawn(move || while listener.accept().is_ok() {});
    run("ip", "-n rt-a-pod route add 127.0.0.7 via 10.90.0.1");
    run("ip", "netns exec rt-a-pod sysctl -qw net.ipv4.conf.eth0.route_localnet=1");
    assert!(call(None, "127.0.0.7:7777").is_err() || call(None, "127.0.0.1:7777").is_ok());
    run("ip", "-n rt-a-pod addr del 127.0.0.1/8 dev lo");
    assert!(call(Some(&pod.netns), "127.0.0.1:7777").is_err());
}

#[test]
fn after_a_crash_addresses_stay_taken_and_everything_can_be_taken_back() {
    let Some(host) = Host::new("after a crash", |_| {}) else { return };
    let (pod, first) = host.make("a-pod", vec![tcp(8080, 80, None)]);
    host.make("b-pod", vec![]);
    let config = Config { conf_dir: "/run/cni".into(), ..Config::default() };
    let again = Host { network: Network::open(&config, &host.state).unwrap(), ..host };
    assert_eq!(again.network.attachment("a-pod"), Some(first));
    let (_, third) = again.make("c-pod", vec![]);
    assert_eq!(third.ips[0].to_string(), "10.90.0.4");
    serve(&pod.netns, "0.0.0.0:80");
    assert!(call(None, "127.0.0.1:8080").is_ok(), "host ports are still there");
    let live = BTreeSet::from(["c-pod".to_owned()]);
    again.runtime.block_on(again.network.gc(&live)).unwrap();
    assert_eq!(again.network.attachment("a-pod"), None);
    assert!(call(None, "127.0.0.1:8080").is_err());
    let left: Vec<_> =
        std::fs::read_dir(netns::FOLDER).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["rt-c-pod"]);
    until("the pods' links are gone", || run("ip", "-o link show type veth").lines().count() == 1);
}

#[test]
fn traffic_passes_where_others_drop_what_is_forwarded() {
    if missing("forward policy", &["ip", "iptables-nft", "iptables-legacy"]) {
        return;
    }
    let Some(host) = Host::new("forward policy", |_| {}) else { return };
    let neighbour = neighbour();
    for program in ["iptables-nft", "iptables-legacy"] {
        run(program, "-P FORWARD DROP");
    }
    let (pod, attachment) = host.make("a-pod", vec![tcp(8080, 80, None)]);
    serve(&pod.netns, "0.0.0.0:80");
    serve(&neighbour, "0.0.0.0:90");
    assert!(call(Some(&neighbour), "192.0.2.1:8080").is_ok());
    assert!(call(Some(&pod.netns), "192.0.2.2:90").is_ok());
    host.remove("a-pod");
    host.make("b-pod", vec![]);
    let rules = run("iptables-nft", "-S FORWARD");
    assert_eq!(
        rules.lines().filter(|line| line.contains("rt0")).count(),
        2,
        "once each, and readable: {rules}"
    );
    assert_eq!(attachment.ips.len(), 2);
}

#[test]
fn a_name_server_over_udp_answers_from_the_port_that_was_asked() {
    let Some(host) = Host::new("udp", |_| {}) else { return };
    let neighbour = neighbour();
    let port = Port { protocol: Protocol::Udp, host: 5300, container: 53, host_ip: None };
    let (pod, _) = host.make("a-dns", vec![port]);
    let server =
        netns::inside(netns::open(&pod.netns).unwrap(), || Ok(UdpSocket::bind("0.0.0.0:53").unwrap()))
            .unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 16];
        while let Ok((length, peer)) = server.recv_from(&mut buffer) {
            let _ = server.send_to(&buffer[..length], peer);
        }
    });
    let client =
        netns::inside(netns::open(&neighbour).unwrap(), || Ok(UdpSocket::bind("0.0.0.0:0").unwrap()))
            .unwrap();
    client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    client.connect("192.0.2.1:5300").unwrap();
    client.send(b"hello").unwrap();
    let mut buffer = [0; 16];
    assert_eq!(client.recv(&mut buffer).map(|length| buffer[..length].to_vec()).unwrap(), b"hello");
}

#[test]
fn a_pod_range_that_the_host_routes_is_avoided_and_bridges_of_others_are_not_taken() {
    let Some(host) = Host::new("ranges", |_| {}) else { return };
    run("ip", "link add d0 type ifb");
    run("ip", "addr add 10.90.3.1/24 dev d0");
    run("ip", "link set d0 up");
    let (_, attachment) = host.make("a-pod", vec![]);
    assert_eq!(attachment.ips[0], IpAddr::from([10, 91, 0, 2]));
    let config = Config { bridge: "d0".to_owned(), conf_dir: "/run/cni".into(), ..Config::default() };
    let other = Host { network: Network::open(&config, Path::new("/run/other")).unwrap(), ..host };
    let netns = other.runtime.block_on(other.network.make_netns("b-pod", None)).unwrap();
    let pod = PodNetwork { id: "b-pod".to_owned(), netns, ..PodNetwork::default() };
    let error = other.runtime.block_on(other.network.attach(&pod)).unwrap_err().to_string();
    assert!(error.contains("network link d0 is no bridge but `ifb`"), "{error}");
}
