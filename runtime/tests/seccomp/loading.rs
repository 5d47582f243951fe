//! A filter in force: this program runs one of its tests in a child process, under a filter.

use std::process::Command;

use runtime::plan::seccomp::{Arch, compile, from_bytes, to_bytes};
use runtime::sys;

const IN_CHILD: &str = "RUNTIME_TEST_SECCOMP_CHILD";

#[test]
fn a_loaded_filter_is_in_force_and_leaves_no_new_privs_alone() {
    if std::env::var_os(IN_CHILD).is_some() {
        return under_the_filter();
    }
    let this = std::env::current_exe().expect("this program");
    let name = "loading::a_loaded_filter_is_in_force_and_leaves_no_new_privs_alone";
    let output = Command::new(this)
        .args(["--exact", name, "--nocapture"])
        .env(IN_CHILD, "1")
        .output()
        .expect("a child");
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(reason) = text.lines().find(|line| line.starts_with("SKIP")) {
        println!("{reason}");
        return;
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("the filter held"),
        "{}\n{text}\n{errors}",
        output.status
    );
}

fn under_the_filter() {
    let spec = serde_json::from_str(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"], "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 30},
            {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 97,
             "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_NE"}]}]}"#,
    )
    .expect("a profile");
    let filter = compile(&spec, Arch::NATIVE).expect("a valid profile").expect("a filter");
    match sys::seccomp::load(&to_bytes(&filter.program), filter.flags) {
        Ok(()) => {}
        Err(nix::errno::Errno::EACCES) => {
            println!("SKIP a_loaded_filter_is_in_force_and_leaves_no_new_privs_alone: needs CAP_SYS_ADMIN");
            return;
        }
        Err(errno) => panic!("{errno}"),
    }
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("procfs");
    assert!(status.contains("Seccomp:\t2\n") && status.contains("NoNewPrivs:\t0\n"), "{status}");
    let refused = std::fs::create_dir("/tmp/runtime-test-seccomp").expect_err("mkdir is refused");
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    let refused = std::net::UdpSocket::bind("127.0.0.1:0").expect_err("socket(AF_INET) is refused");
    assert_eq!(refused.raw_os_error(), Some(libc::EAFNOSUPPORT));
    std::os::unix::net::UnixDatagram::unbound().expect("socket(AF_UNIX) is allowed");
    println!("the filter held");
}

#[test]
fn a_program_that_is_none_is_refused() {
    for (bytes, what) in
        [(vec![], "empty"), (vec![6; 9], "a part of an instruction"), (vec![0; 8 * 65536], "too long")]
    {
        assert_eq!(sys::seccomp::load(&bytes, 0), Err(nix::errno::Errno::EINVAL), "{what}");
    }
}

#[test]
fn a_program_survives_the_way_through_a_file() {
    let filter = super::filter(&super::parse(super::CONTAINERD), Arch::X86_64);
    let bytes = to_bytes(&filter.program);
    assert_eq!(bytes.len(), filter.program.len() * 8);
    assert_eq!(from_bytes(&bytes), Some(filter.program));
    assert_eq!(from_bytes(&bytes[1..]), None);
}
