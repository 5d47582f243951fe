//! CNI with the reference plugins, of both versions that hack/peers/get has, and with plugins that fail.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

/// Where the plugins of a version are; none, with words, where they are not.
fn plugins(test: &str, version: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers").join(version);
    let found = path.join("bridge").is_file();
    if !found {
        println!("SKIP {test}: no CNI plugins at {}: hack/peers/get cni", path.display());
    }
    found.then_some(path)
}

fn configure(file: &str, text: &str) {
    fs::create_dir_all("/run/cni").unwrap();
    fs::write(Path::new("/run/cni").join(file), text).unwrap();
}

fn conflist(version: &str, name: &str, subnet: &str) -> String {
    let ipam = format!(
        r#"{{"type": "host-local", "dataDir": "/run/leases", "routes": [{{"dst": "0.0.0.0/0"}}], "ranges": [[{{"subnet": "{subnet}"}}]]}}"#
    );
    format!(
        r#"{{"cniVersion": "{version}", "name": "{name}", "plugins": [
            {{"type": "bridge", "bridge": "{name}", "isGateway": true, "ipMasq": true, "hairpinMode": true, "ipam": {ipam}}},
            {{"type": "portmap", "capabilities": {{"portMappings": true}}, "snat": true}},
            {{"type": "bandwidth", "capabilities": {{"bandwidth": true}}}},
            {{"type": "tuning"}}]}}"#
    )
}

fn leases(name: &str) -> usize {
    let files =
        fs::read_dir(Path::new("/run/leases").join(name)).map(|files| files.flatten().collect::<Vec<_>>());
    let address = |name: &std::ffi::OsStr| name.to_string_lossy().parse::<IpAddr>().is_ok();
    files.unwrap_or_default().iter().filter(|file| address(&file.file_name())).count()
}

fn with_plugins(version: &str, cni_version: &str) {
    let test = format!("CNI plugins {version}");
    let Some(folder) = plugins(&test, version) else { return };
    if missing(&test, &["ip", "iptables", "tc"]) {
        return;
    }
    let Some(host) = Host::new(&test, |config| config.bin_dirs = vec![folder.clone()]) else { return };
    let neighbour = neighbour();
    configure("10-mynet.conflist", &conflist(cni_version, "mynet", "10.77.0.0/24"));
    assert_eq!(host.network.in_force(), "CNI network mynet (/run/cni/10-mynet.conflist)");
    let netns = host.runtime.block_on(host.network.make_netns("a-pod", None)).unwrap();
    let pod = PodNetwork {
        id: "a-pod".to_owned(),
        netns,
        ports: vec![tcp(8080, 80, None)],
        annotations: [("kubernetes.io/egress-bandwidth".to_owned(), "100M".to_owned())].into(),
        ..PodNetwork::default()
    };
    let attachment = host.runtime.block_on(host.network.attach(&pod)).unwrap();
    assert_eq!(attachment.ips, ["10.77.0.2".parse::<IpAddr>().unwrap()]);
    assert_eq!(attachment.networks, ["mynet"]);
    serve(&pod.netns, "0.0.0.0:80");
    assert_eq!(call(None, "10.77.0.2:80"), Ok("10.77.0.1".to_owned()));
    assert!(call(Some(&neighbour), "192.0.2.1:8080").is_ok(), "the host port");
    assert!(run("tc", "qdisc").contains("tbf"), "the limit of bandwidth");
    // 1.1.1's portmap looks for IPv6 rules of pods that have no IPv6 address.
    if cni_version == "1.1.0" {
        host.runtime.block_on(host.network.check(&pod)).unwrap();
    }
    host.runtime.block_on(host.network.look(&host.network.inner.plugins.networks().unwrap())).unwrap();
    assert_eq!(leases("mynet"), 1);
    // The configuration is gone, the server is another: DEL works from the record.
    fs::remove_file("/run/cni/10-mynet.conflist").unwrap();
    let config = Config { conf_dir: "/run/cni".into(), bin_dirs: vec![folder], ..Config::default() };
    let again = Host { network: Network::open(&config, &host.state).unwrap(), ..host };
    assert_eq!(again.network.attachment("a-pod"), Some(attachment));
    again.remove("a-pod");
    assert_eq!(leases("mynet"), 0);
    assert!(call(Some(&neighbour), "192.0.2.1:8080").is_err());
    assert!(!run("ip", "-o link").contains("mynet-"));
}

#[test]
fn a_pod_of_the_reference_plugins_1_9_1_gets_address_ports_and_limits() {
    with_plugins("cni", "1.1.0");
}

#[test]
fn a_pod_of_debians_plugins_1_1_1_gets_address_ports_and_limits() {
    with_plugins("cni-debian", "1.0.0");
}

#[test]
fn two_networks_are_two_interfaces_in_order_and_gc_gives_back_what_nobody_has() {
    let Some(folder) = plugins("two networks", "cni") else { return };
    let change = |config: &mut Config| {
        config.bin_dirs = vec![folder.clone()];
        config.networks = 2;
    };
    let Some(host) = Host::new("two networks", change) else { return };
    for (file, name, subnet) in
        [("20-b.conflist", "netb", "10.79.0.0/24"), ("10-a.conflist", "neta", "10.78.0.0/24")]
    {
        configure(file, &conflist("1.1.0", name, subnet));
    }
    let (pod, attachment) = host.make("a-pod", vec![]);
    host.make("b-pod", vec![]);
    assert_eq!(attachment.networks, ["neta", "netb"]);
    let addresses = run("ip", "-n rt-a-pod -o -4 addr show dev eth1");
    assert!(addresses.contains(&attachment.ips[1].to_string()), "{addresses}");
    assert_eq!((leases("neta"), leases("netb")), (2, 2));
    host.runtime.block_on(host.network.gc(&BTreeSet::from([pod.id]))).unwrap();
    assert_eq!((leases("neta"), leases("netb")), (1, 1));
}

/// A plugin of our own: a shell script. `cp` writes it: what this process has open for writing, a child that another test has just forked
/// has too, and exec of it would be ETXTBSY.
fn script(name: &str, text: &str) {
    fs::create_dir_all("/run/plugins").unwrap();
    let path = Path::new("/run/plugins").join(name);
    let draft = path.with_extension("draft");
    fs::write(&draft, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(Command::new("cp").args([&draft, &path]).status().unwrap().success());
}

fn scripted(test: &str, plugins: &[&str]) -> Option<Host> {
    let host = Host::new(test, |config| {
        config.bin_dirs = vec!["/run/plugins".into()];
        config.timeout = 1;
    })?;
    let types: Vec<_> = plugins.iter().map(|name| format!(r#"{{"type": "{name}"}}"#)).collect();
    configure(
        "1.conflist",
        &format!(r#"{{"cniVersion": "1.1.0", "name": "n", "plugins": [{}]}}"#, types.join(",")),
    );
    Some(host)
}

fn attach_error(host: &Host) -> String {
    let netns = host.runtime.block_on(host.network.make_netns("p", None)).unwrap();
    let pod = PodNetwork { id: "p".to_owned(), netns, ..PodNetwork::default() };
    host.runtime.block_on(host.network.attach(&pod)).unwrap_err().to_string()
}

#[test]
fn a_failed_plugin_is_named_with_its_words_and_what_was_made_before_is_deleted() {
    let Some(host) = scripted("failed plugin", &["good", "bad"]) else { return };
    script(
        "good",
        r#"echo "good $CNI_COMMAND" >>/run/calls; [ "$CNI_COMMAND" = ADD ] && echo '{"cniVersion":"1.1.0"}' || :"#,
    );
    script(
        "bad",
        r#"echo "bad $CNI_COMMAND" >>/run/calls
        [ "$CNI_COMMAND" = ADD ] || exit 0
        echo '{"code": 11, "msg": "no room", "details": "try later"}'; exit 1"#,
    );
    let error = attach_error(&host);
    assert!(error.contains("run CNI plugin bad (ADD) of network n for pod p: no room; try later"), "{error}");
    assert_eq!(fs::read_to_string("/run/calls").unwrap(), "good ADD\nbad ADD\nbad DEL\ngood DEL\n");
    assert!(fs::read_dir(host.state.join("attached")).unwrap().next().is_none());
}

#[test]
fn a_plugin_that_hangs_is_killed_with_its_children() {
    let Some(host) = scripted("hanging plugin", &["slow"]) else { return };
    script("slow", r#"[ "$CNI_COMMAND" = ADD ] || exit 0; sleep 600 & echo $! >/run/child; wait"#);
    let error = attach_error(&host);
    assert!(error.contains("no answer in 1 s") && error.contains("cni.timeout"), "{error}");
    let child: i32 = fs::read_to_string("/run/child").unwrap().trim().parse().unwrap();
    let gone = || {
        let stat = fs::read_to_string(format!("/proc/{child}/stat"));
        stat.map_or(true, |stat| stat.contains(") Z "))
    };
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while !gone() {
        assert!(std::time::Instant::now() < deadline, "the plugin's child lives");
        std::thread::yield_now();
    }
}

#[test]
fn a_plugin_that_is_not_installed_or_not_ready_makes_the_condition_say_so() {
    let Some(host) = scripted("condition", &["absent"]) else { return };
    let networks = || host.network.inner.plugins.networks().unwrap();
    let error = host.runtime.block_on(host.network.look(&networks())).unwrap_err().to_string();
    assert!(
        error.contains("no program `absent` in /run/plugins") && error.contains("cni.bin_dirs"),
        "{error}"
    );
    script("absent", r#"echo '{"code": 50, "msg": "agent is down"}'; exit 1"#);
    let error = host.runtime.block_on(host.network.look(&networks())).unwrap_err().to_string();
    assert!(error.contains("(STATUS) of network n: agent is down"), "{error}");
    assert!(host.network.condition().unwrap_err().contains("not asked yet"));
}

#[test]
fn plugins_are_told_who_is_still_there() {
    let Some(host) = scripted("gc", &["own"]) else { return };
    script(
        "own",
        r#"[ "$CNI_COMMAND" = GC ] && cat >/run/gc; [ "$CNI_COMMAND" = ADD ] && echo '{"cniVersion":"1.1.0"}' || :"#,
    );
    host.make("a-pod", vec![]);
    host.make("b-pod", vec![]);
    host.runtime.block_on(host.network.gc(&BTreeSet::from(["a-pod".to_owned()]))).unwrap();
    let told: serde_json::Value = serde_json::from_slice(&fs::read("/run/gc").unwrap()).unwrap();
    assert_eq!(
        told["cni.dev/valid-attachments"],
        serde_json::json!([{"containerID": "a-pod", "ifname": "eth0"}])
    );
    assert!(host.network.attachment("b-pod").is_none());
}
