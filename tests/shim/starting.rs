//! The command line: start, delete, -info, -v, as containerd calls them.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use prost::Message;
use tests::shim::api::containerd::runtime::bootstrap::v1 as bootstrap;
use tests::shim::api::{containerd, task};
use tests::shim::{Client, TASK, program};
use tests::*;

/// Where containerd would have put this case's bundles.
fn bundle(case: &Case, id: &str, annotations: &Value) -> std::path::PathBuf {
    let dir = case.dir().join("io.containerd.runtime.v2.task/default").join(id);
    std::fs::create_dir_all(&dir).expect("make a bundle");
    let config = json!({ "annotations": annotations });
    std::fs::write(dir.join("config.json"), config.to_string()).expect("write config.json");
    dir
}

fn call(case: &Case, bundle: &Path, verb: &str, input: &[u8]) -> Output {
    let id = bundle.file_name().expect("an id");
    let mut command = Command::new(program());
    command.args(["-namespace", "default", "-address", "/run/c.sock", "-publish-binary", "/bin/true", "-id"]);
    command.arg(id).arg(verb).current_dir(bundle).env("RT_TEST_CASE", case.name());
    command.env_remove("TTRPC_ADDRESS").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("run the shim");
    child.stdin.take().expect("its stdin").write_all(input).expect("write to it");
    child.wait_with_output().expect("wait for it")
}

fn shut_down(address: &str) {
    let path = address.strip_prefix("unix://").expect("a unix address");
    let request = task::ShutdownRequest { id: String::new(), now: true };
    let _: () = Client::connect(Path::new(path)).ask(TASK, "Shutdown", &request);
    until("its socket is gone", || (!Path::new(path).exists()).then_some(()));
}

#[test]
fn old_containerds_get_a_plain_address() {
    let case = case!();
    let bundle = bundle(&case, "plain", &json!({}));
    let output = call(&case, &bundle, "start", b"");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let address = String::from_utf8(output.stdout).expect("text");
    assert!(address.starts_with("unix:///run/containerd/s/") && !address.contains('\n'), "{address}");
    shut_down(&address);
}

#[test]
fn new_containerds_get_a_result() {
    let case = case!();
    let bundle = bundle(&case, "params", &json!({}));
    let sockets = case.dir().join("s");
    let params = bootstrap::BootstrapParams {
        instance_id: "params".into(),
        namespace: "default".into(),
        socket_dir: Some(sockets.to_string_lossy().into_owned()),
        ..Default::default()
    };
    let output = call(&case, &bundle, "start", &params.encode_to_vec());
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let result = bootstrap::BootstrapResult::decode(output.stdout.as_slice()).expect("a result");
    assert_eq!((result.version, result.protocol.as_str()), (3, "ttrpc"));
    assert!(result.address.starts_with(&format!("unix://{}/", sockets.display())), "{}", result.address);
    shut_down(&result.address);
}

#[test]
fn containers_of_a_sandbox_share_a_shim() {
    let case = case!();
    let sandbox = json!({ "io.kubernetes.cri.sandbox-id": "pod-1" });
    let start = |id: &str, annotations: &Value| {
        let output = call(&case, &bundle(&case, id, annotations), "start", b"");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let first = start("pod-1", &sandbox);
    assert_eq!(start("c-1", &sandbox), first);
    assert_eq!(start("c-2", &sandbox), first);
    let other = start("alone", &Value::Null);
    assert_ne!(other, first);
    shut_down(&first);
    shut_down(&other);
}

#[test]
fn a_dead_shims_socket_is_replaced() {
    let case = case!();
    let bundle = bundle(&case, "dies", &json!({}));
    let start = || {
        let output = call(&case, &bundle, "start", b"");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let address = start();
    let path = address.strip_prefix("unix://").expect("a unix address").to_owned();
    let request = task::ConnectRequest { id: "dies".into() };
    let connected: task::ConnectResponse = Client::connect(Path::new(&path)).ask(TASK, "Connect", &request);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(connected.shim_pid).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("kill it");
    until("nobody listens", || Client::try_connect(Path::new(&path)).is_none().then_some(()));
    assert_eq!(start(), address);
    let output = call(&case, &bundle, "delete", b"");
    assert!(output.status.success(), "{output:?}");
    let deleted = task::DeleteResponse::decode(output.stdout.as_slice()).expect("an answer");
    assert_eq!((deleted.exit_status, deleted.exited_at.is_some()), (137, true));
    // The new shim had no container, and will have none.
    until("the shim has ended", || (!Path::new(&path).exists()).then_some(()));
}

#[test]
fn a_socket_whose_path_is_too_long_is_refused_with_its_length() {
    let case = case!();
    let bundle = bundle(&case, "long", &json!({}));
    let sockets = case.dir().join("x".repeat(100));
    let params = bootstrap::BootstrapParams {
        instance_id: "long".into(),
        namespace: "default".into(),
        socket_dir: Some(sockets.to_string_lossy().into_owned()),
        ..Default::default()
    };
    let output = call(&case, &bundle, "start", &params.encode_to_vec());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(said.contains("a socket's path has 107 bytes at most"), "{said}");
    assert!(!sockets.exists());
}

#[test]
fn it_says_what_it_is() {
    let output = Command::new(program()).arg("-v").output().expect("run the shim");
    assert!(output.status.success() && output.stdout.starts_with(b"containerd-shim-rt-v2 "), "{output:?}");
    let output = Command::new(program()).arg("-info").stdin(Stdio::null()).output().expect("run the shim");
    let info = containerd::types::RuntimeInfo::decode(output.stdout.as_slice()).expect("RuntimeInfo");
    assert_eq!(info.name, "io.containerd.rt.v2");
    let features: Value =
        serde_json::from_slice(&info.features.expect("features").value).expect("the runtime's features");
    assert!(features["linux"]["namespaces"].is_array(), "{features}");
}

#[test]
fn what_is_not_understood_is_an_error_on_stderr() {
    let case = case!();
    for arguments in [&["start"][..], &["-id", "../x", "-namespace", "n", "start"], &["dance"], &[]] {
        let output =
            Command::new(program()).args(arguments).current_dir(case.dir()).stdin(Stdio::null()).output();
        let output = output.expect("run the shim");
        assert!(
            !output.status.success() && output.stdout.is_empty() && !output.stderr.is_empty(),
            "{output:?}"
        );
    }
}

#[test]
fn delete_tells_how_a_container_ended_whose_shim_is_dead() {
    let case = case!();
    for (args, code) in [(["/probe", "exit", "3"].as_slice(), 3), (["/probe", "sleep"].as_slice(), 137)] {
        let id = format!("ended-{code}");
        let mut bundle = Bundle::create(
            &bundle(&case, &id, &Value::Null),
            format!("{id}-{}", std::process::id()),
            case.cgroup(),
        );
        bundle.args(args.iter().copied()).write();
        let output = call(&case, bundle.dir(), "start", b"");
        let address = String::from_utf8(output.stdout).expect("text");
        let socket = Path::new(address.strip_prefix("unix://").expect("a unix address"));
        let mut client = Client::connect(socket);
        let create = task::CreateTaskRequest {
            id: id.clone(),
            bundle: bundle.dir().to_string_lossy().into_owned(),
            ..Default::default()
        };
        let made: task::CreateTaskResponse = client.ask(TASK, "Create", &create);
        let _: task::StartResponse =
            client.ask(TASK, "Start", &task::StartRequest { id: id.clone(), exec_id: String::new() });
        if code == 3 {
            let wait = task::WaitRequest { id: id.clone(), exec_id: String::new() };
            let ended: task::WaitResponse = client.ask(TASK, "Wait", &wait);
            assert_eq!(ended.exit_status, 3);
        }
        let connected: task::ConnectResponse = client.ask(TASK, "Connect", &task::ConnectRequest { id });
        let pid = nix::unistd::Pid::from_raw(i32::try_from(connected.shim_pid).expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("kill it");
        until("nobody listens", || Client::try_connect(socket).is_none().then_some(()));
        let output = call(&case, bundle.dir(), "delete", b"");
        assert!(output.status.success(), "{output:?}");
        let deleted = task::DeleteResponse::decode(output.stdout.as_slice()).expect("an answer");
        assert_eq!(deleted.exit_status, code);
        let gone = || !Path::new(&format!("/proc/{}/exe", made.pid)).exists();
        until("its process is gone", || gone().then_some(()));
        assert!(
            !socket.exists()
                && !case.dir().join("rt/default").join(bundle.dir().file_name().expect("an id")).exists()
        );
        assert!(!case.dir().join("rt-shim/default").join(bundle.dir().file_name().expect("an id")).exists());
    }
}

/// A container in `bundle` by the shim that `start` has made, and how `delete` is called on it.
struct Living {
    bundle: Bundle,
    socket: std::path::PathBuf,
    id: String,
}

impl Living {
    fn new(case: &Case, id: &str, write: impl FnOnce(&mut Bundle)) -> Self {
        let mut made = Bundle::create(
            &bundle(case, id, &Value::Null),
            format!("{id}-{}", std::process::id()),
            case.cgroup(),
        );
        write(&mut made);
        made.write();
        let output = call(case, made.dir(), "start", b"");
        let address = String::from_utf8(output.stdout).expect("text");
        let socket = address.strip_prefix("unix://").expect("a unix address").into();
        Self { bundle: made, socket, id: id.to_owned() }
    }

    fn request(&self) -> task::CreateTaskRequest {
        task::CreateTaskRequest {
            id: self.id.clone(),
            bundle: self.bundle.dir().to_string_lossy().into_owned(),
            ..Default::default()
        }
    }

    fn deleted(&self, case: &Case) -> task::DeleteResponse {
        let output = call(case, self.bundle.dir(), "delete", b"");
        assert!(output.status.success(), "{output:?}");
        task::DeleteResponse::decode(output.stdout.as_slice()).expect("an answer")
    }

    fn gone(&self, case: &Case) {
        until("the shim has ended", || Client::try_connect(&self.socket).is_none().then_some(()));
        let rt = case.dir().join("rt/default").join(&self.id);
        assert!(
            !self.socket.exists() && !rt.exists(),
            "{} or {} is left",
            self.socket.display(),
            rt.display()
        );
    }
}

#[test]
fn delete_of_what_a_living_shim_has_leaves_neither() {
    let case = case!();
    for (args, code) in [(["/probe", "exit", "3"].as_slice(), 3), (["/probe", "sleep"].as_slice(), 137)] {
        let living = Living::new(&case, &format!("lives-{code}"), |bundle| {
            bundle.args(args.iter().copied());
        });
        let id = living.id.clone();
        let mut client = Client::connect(&living.socket);
        let made: task::CreateTaskResponse = client.ask(TASK, "Create", &living.request());
        let _: task::StartResponse =
            client.ask(TASK, "Start", &task::StartRequest { id: id.clone(), exec_id: String::new() });
        if code == 3 {
            let ended: task::WaitResponse =
                client.ask(TASK, "Wait", &task::WaitRequest { id, exec_id: String::new() });
            assert_eq!(ended.exit_status, 3);
        }
        assert_eq!(living.deleted(&case).exit_status, code);
        until("its process is gone", || {
            (!Path::new(&format!("/proc/{}/exe", made.pid)).exists()).then_some(())
        });
        living.gone(&case);
    }
}

/// The moment between containerd's death and the end of a create that it had asked for.
#[test]
fn delete_of_what_is_being_made_leaves_nothing_once_it_is_made() {
    let case = case!();
    let mut hook = None;
    let living = Living::new(&case, "half", |bundle| {
        hook = Some(bundle.args(["/probe", "sleep"]).hook_that_waits(case.dir()));
    });
    let hook = hook.expect("its hook");
    // Asked for, and then the connection is gone.
    Client::connect(&living.socket).send(TASK, "Create", &living.request());
    hook.runs();
    let output = call(&case, living.bundle.dir(), "delete", b"");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("is a hook of its create stuck?"), "{output:?}");
    hook.let_go();
    living.gone(&case);
}

/// As a containerd does that comes back and knows nothing of the container.
#[test]
fn a_task_delete_of_what_is_being_made_waits_for_it() {
    let case = case!();
    let mut hook = None;
    let living = Living::new(&case, "soon", |bundle| {
        hook = Some(bundle.args(["/probe", "sleep"]).hook_that_waits(case.dir()));
    });
    let hook = hook.expect("its hook");
    Client::connect(&living.socket).send(TASK, "Create", &living.request());
    hook.runs();
    let mut client = Client::connect(&living.socket);
    client.send(TASK, "Delete", &task::DeleteRequest { id: "soon".into(), exec_id: String::new() });
    // Asked after it, so that it finds the hook running.
    let _: task::ConnectResponse =
        Client::connect(&living.socket).ask(TASK, "Connect", &task::ConnectRequest { id: String::new() });
    hook.let_go();
    let deleted = client.answer().1.unwrap_or_else(|refused| panic!("{refused:?}"));
    let deleted = task::DeleteResponse::decode(deleted.as_slice()).expect("an answer");
    assert_eq!(deleted.exit_status, 137);
    let _: () = client.ask(TASK, "Shutdown", &task::ShutdownRequest { id: "soon".into(), now: false });
    living.gone(&case);
}
