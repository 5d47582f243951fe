//! The socket that systemd passes (sd_listen_fds(3)): it is served, and left where it is; what is none is refused in words.

use crate::surroundings;
use nix::sys::signal::Signal;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use tests::Call;
use tests::cri::{Surroundings, program};
use tests::until;

/// A second server, whose descriptor 3 is `passed`.
fn passed(here: &Surroundings, passed: impl Into<OwnedFd>) -> Call {
    let dir = here.case().dir();
    let config = dir.join("second.toml");
    std::fs::write(&config, "[cgroup]\nmissing = \"ignore\"\n").expect("write the configuration");
    let script = r#"exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@""#;
    let call = here.case().program("/bin/sh".as_ref()).args(["-c", script, "sh"]).arg(program());
    let call = call.args(["serve", "--config"]).arg(config).arg("--root").arg(dir.join("second"));
    call.arg("--state").arg("/run/second").stdin(passed)
}

#[test]
fn a_socket_that_is_passed_is_served_and_left() {
    let here = surroundings!();
    let path = here.case().dir().join("passed.sock");
    let listener = UnixListener::bind(&path).expect("bind a socket");
    let mut second = passed(&here, listener).spawn();
    let endpoint = format!("unix://{}", path.display());
    let version = until("the second server answers", || {
        assert!(!second.ended(), "{}", second.stderr());
        let call = here.crictl(["--runtime-endpoint", &endpoint, "version"]).run();
        (call.code() == 0).then_some(call.stdout)
    });
    assert!(version.contains("RuntimeName:  rt"), "{version}");
    second.end(Signal::SIGTERM).ok();
    assert!(path.exists(), "the socket is systemd's to remove");
}

#[test]
fn what_is_no_listening_socket_is_refused() {
    let here = surroundings!();
    let file = File::open("/dev/null").expect("open /dev/null");
    let words = ["take descriptor 3, which LISTEN_FDS says is a socket to serve"];
    passed(&here, file).run().fails(&words);
    let (one, _other) = std::os::unix::net::UnixStream::pair().expect("two sockets");
    passed(&here, one).run().fails(&[words[0], "it does not listen"]);
}
