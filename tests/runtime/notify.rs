//! sd_notify(3): that a service in a container is ready reaches whoever gave the runtime a `NOTIFY_SOCKET`.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use tests::*;

/// The socket of somebody who waits, and its path.
fn waiting(case: &Case) -> (UnixDatagram, String) {
    let path = case.dir().join("host-notify.sock");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
    (socket, path.to_string_lossy().into_owned())
}

fn hear(socket: &UnixDatagram) -> String {
    let mut text = [0; 4096];
    let length = loop {
        match socket.recv(&mut text) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            heard => break heard.expect("a message"),
        }
    };
    String::from_utf8_lossy(&text[..length]).into_owned()
}

/// Says something else first, which is not passed on.
fn says_ready(bundle: &mut Bundle, then: [&'static str; 2]) {
    let first =
        ["/probe", "chain", "notify", "STATUS=up\nMAINPID=1", ",", "notify", "STATUS=done\nREADY=1", ","];
    bundle.args(first.into_iter().chain(then));
}

#[test]
fn ready_reaches_who_waits_for_run() {
    unless!("crun", "it binds the caller's own socket");
    unless!("runc", "it binds its socket by its path, which is too long for an address here");
    let case = case!();
    let (socket, path) = waiting(&case);
    let mut bundle = case.bundle();
    says_ready(&mut bundle, ["exit", "3"]);
    bundle.write();
    let call = case.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).env("NOTIFY_SOCKET", &path);
    let running = call.spawn();
    assert_eq!(hear(&socket), "READY=1\n");
    running.wait().exits(3);
}

#[test]
fn user_of_a_container_may_say_that_it_is_ready() {
    only_rt!("runc binds its socket by its path, which is too long for an address here");
    let case = case!();
    let (socket, path) = waiting(&case);
    let mut bundle = case.bundle();
    bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    says_ready(&mut bundle, ["exit", "3"]);
    bundle.write();
    let call = case.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).env("NOTIFY_SOCKET", &path);
    call.run().exits(3);
    assert_eq!(hear(&socket), "READY=1\n");
}

#[test]
fn start_waits_until_it_is_ready_and_names_the_process() {
    unless!("crun", "it binds the caller's own socket");
    unless!("runc", "it binds its socket by its path, which is too long for an address here");
    let case = case!();
    let (socket, path) = waiting(&case);
    let mut bundle = case.bundle();
    says_ready(&mut bundle, ["sleep", "100"]);
    bundle.write();
    let create =
        case.call(["create", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).env("NOTIFY_SOCKET", &path);
    let container = Running::new(&case, bundle.id(), create);
    container.call("start").env("NOTIFY_SOCKET", &path).run().ok();
    let mut heard = hear(&socket);
    // runc sends two messages.
    if !heard.contains("READY=1") {
        heard.push_str(&hear(&socket));
    }
    assert!(heard.contains(&format!("MAINPID={}\n", container.pid())), "{heard}");
    assert!(heard.contains("READY=1\n") && !heard.contains("STATUS"), "{heard}");
}

#[test]
fn start_comes_back_when_what_should_be_ready_ends() {
    unless!("crun", "it binds the caller's own socket");
    unless!("runc", "it binds its socket by its path, which is too long for an address here");
    let case = case!();
    let (_socket, path) = waiting(&case);
    let mut bundle = case.bundle();
    bundle.args(["/probe", "exit", "0"]).write();
    let create =
        case.call(["create", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).env("NOTIFY_SOCKET", &path);
    let container = Running::new(&case, bundle.id(), create);
    container.call("start").env("NOTIFY_SOCKET", &path).run().ok();
}

#[test]
fn a_socket_that_the_config_brings_is_left_alone() {
    only_rt!("runc adds its own beside it");
    let case = case!();
    let (_socket, path) = waiting(&case);
    let mut bundle = case.bundle();
    bundle.config["process"]["env"] = json!(["NOTIFY_SOCKET=/run/mine"]);
    bundle.args(["/probe", "report"]).write();
    let call = case.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).env("NOTIFY_SOCKET", &path);
    let report = Report::parse(&call.run().ok().stdout);
    assert_eq!(report.env("NOTIFY_SOCKET").as_deref(), Some("/run/mine"));
}

// Whoever has the socket says what he likes, as often as he likes: that takes his time, not the host's.
#[test]
fn flood_costs_the_runtime_no_time() {
    only_rt!("runc reads all of it");
    let case = case!();
    let (socket, path) = waiting(&case);
    for by_run in [true, false] {
        let mut bundle = case.bundle();
        bundle.args(["/probe", "chain", "notify-flood", "3", ",", "notify", "READY=1", ",", "exit", "3"]);
        bundle.write();
        let made = |verb: &str| {
            case.call([verb, "--bundle"]).arg(bundle.dir()).arg(bundle.id()).env("NOTIFY_SOCKET", &path)
        };
        let container = (!by_run).then(|| Running::new(&case, bundle.id(), made("create")));
        let waits =
            container.as_ref().map_or_else(|| made("run"), |it| it.call("start").env("NOTIFY_SOCKET", &path));
        let waits = waits.spawn();
        assert!(hear(&socket).contains("READY=1\n"));
        let said = waits.wait().exits(if by_run { 3 } else { 0 }).stdout;
        let said = container.map_or(said, |it| it.wait_for_output("\n"));
        let sent: u64 = said.trim().parse().expect("how many were sent");
        // Unread, they fill what the kernel keeps for a socket.
        assert!((20..2000).contains(&sent), "run {by_run}: {sent} messages were read in 3 s");
    }
}

// Nobody reads it any more: a socket that stays open would make its sender wait for ever.
#[test]
fn who_says_more_than_that_it_is_ready_does_not_wait() {
    only_rt!("runc leaves its socket open");
    let case = case!();
    let (socket, path) = waiting(&case);
    let mut bundle = case.bundle();
    // More than the kernel keeps.
    let more = [",", "notify", "STATUS=up"].repeat(40);
    bundle.args(["/probe", "chain", "notify", "READY=1"].into_iter().chain(more)).write();
    let call = case.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).env("NOTIFY_SOCKET", &path);
    call.deadline(Duration::from_secs(20)).run().exits(1).fails(&["onnection refused"]);
    assert_eq!(hear(&socket), "READY=1\n");
}

/// Whoever sends one says how long its close takes (SO_LINGER), which would be the runtime's.
#[test]
fn no_descriptor_can_be_sent_to_the_runtime() {
    only_rt!("what its socket takes is its own");
    if !passes_can_be_refused() {
        return say_skip("no_descriptor_can_be_sent_to_the_runtime", "SO_PASSRIGHTS came with Linux 6.16");
    }
    let case = case!();
    let (socket, path) = waiting(&case);
    let mut bundle = case.bundle();
    bundle.args(["/probe", "chain", "notify-descriptor", ",", "notify", "READY=1"]).write();
    let call = case.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id()).env("NOTIFY_SOCKET", &path);
    assert_eq!(call.run().ok().stdout.trim(), "errno 1");
    assert_eq!(hear(&socket), "READY=1\n");
}

fn passes_can_be_refused() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's version");
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(16))
}
