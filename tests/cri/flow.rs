//! The way of a pod from `runp` to `rmp`, step by step, as crictl shows it.

use crate::surroundings;
use serde_json::json;
use tests::cri::BUSYBOX;
use tests::write_program;

#[test]
fn version_and_info_say_who_answers_and_that_it_is_ready() {
    let here = surroundings!();
    let version = here.crictl(["version"]).run().ok().stdout;
    assert!(version.contains("RuntimeApiVersion:  v1"), "{version}");
    let conditions = here.json(["info"])["status"]["conditions"].clone();
    for kind in ["RuntimeReady", "NetworkReady"] {
        let condition = conditions.as_array().and_then(|all| all.iter().find(|c| c["type"] == kind));
        assert_eq!(condition.expect("the condition is there")["status"], true, "{conditions}");
    }
}

#[test]
fn a_pod_is_ready_until_it_is_stopped_and_gone_once_removed() {
    let here = surroundings!();
    let pod = here.pod("web").run();
    assert_eq!(here.words(["pods", "--quiet", "--no-trunc", "--state", "Ready"]), [pod.id()]);
    let status = pod.inspect()["status"].clone();
    assert_eq!(status["state"], "SANDBOX_READY", "{status}");
    assert_eq!(status["metadata"]["name"], "web", "{status}");
    assert_eq!(status["labels"]["test"], "web", "{status}");
    let address = status["network"]["ip"].as_str().unwrap_or_default().to_owned();
    assert!(address.parse::<std::net::IpAddr>().is_ok(), "{status}");
    here.crictl(["stopp", pod.id()]).run().ok();
    assert_eq!(pod.inspect()["status"]["state"], "SANDBOX_NOTREADY");
    assert!(here.words(["pods", "--quiet", "--state", "Ready"]).is_empty());
    here.crictl(["stopp", pod.id()]).run().ok();
    here.crictl(["rmp", pod.id()]).run().ok();
    assert!(here.words(["pods", "--quiet"]).is_empty());
    here.crictl(["inspectp", pod.id()]).run().fails(&["NotFound"]);
}

#[test]
fn a_container_is_created_started_stopped_and_removed() {
    let here = surroundings!();
    let pod = here.pod("steps").run();
    let container = pod.script("c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done").create();
    assert_eq!(container.state(), "CONTAINER_CREATED");
    assert_eq!(here.words(["ps", "--all", "--quiet", "--no-trunc", "--state", "Created"]), [container.id()]);
    here.crictl(["start", container.id()]).run().ok();
    assert_eq!(container.state(), "CONTAINER_RUNNING");
    assert_eq!(here.words(["ps", "--quiet", "--no-trunc"]), [container.id()]);
    let status = container.inspect()["status"].clone();
    assert_eq!(status["image"]["image"], BUSYBOX, "{status}");
    assert_eq!(status["metadata"]["name"], "c", "{status}");
    tests::until("it says that it is ready", || container.log().contains("ready").then_some(()));
    here.crictl(["stop", "--timeout", "10", container.id()]).run().ok();
    let status = container.inspect()["status"].clone();
    assert_eq!((&status["state"], &status["exitCode"]), (&"CONTAINER_EXITED".into(), &7.into()), "{status}");
    assert_eq!(status["reason"], "Error", "{status}");
    assert!(here.words(["ps", "--quiet"]).is_empty());
    here.crictl(["rm", container.id()]).run().ok();
    here.crictl(["inspect", container.id()]).run().fails(&["NotFound"]);
}

#[test]
fn a_container_that_ends_by_itself_says_completed_or_error() {
    let here = surroundings!();
    let pod = here.pod("ends").run();
    let status = pod.container("well", &["true"]).run().wait();
    assert_eq!((&status["exitCode"], &status["reason"]), (&0.into(), &"Completed".into()), "{status}");
    let status = pod.script("badly", "exit 3").run().wait();
    assert_eq!((&status["exitCode"], &status["reason"]), (&3.into(), &"Error".into()), "{status}");
    let status = pod.script("killed", "kill -9 $$").run().wait();
    assert_eq!((&status["exitCode"], &status["reason"]), (&137.into(), &"Error".into()), "{status}");
}

#[test]
fn a_program_that_the_kernel_refuses_is_a_start_error() {
    let here = surroundings!();
    let directory = here.case().dir().join("programs");
    std::fs::create_dir(&directory).expect("make a directory");
    let program = directory.join("text");
    write_program(&program, "neither a program nor a script\n");
    let pod = here.pod("refused").run();
    let mut container = pod.container("text", &["/programs/text"]);
    container.config["mounts"] = json!([{ "host_path": directory, "container_path": "/programs" }]);
    let container = container.create();
    here.crictl(["start", container.id()]).run().fails(&["/programs/text", "ENOEXEC"]);
    let status = container.inspect()["status"].clone();
    assert_eq!(
        (&status["state"], &status["exitCode"], &status["reason"]),
        (&"CONTAINER_EXITED".into(), &128.into(), &"StartError".into()),
        "{status}"
    );
    assert!(status["message"].as_str().is_some_and(|said| said.contains("ENOEXEC")), "{status}");
    here.crictl(["start", container.id()]).run().fails(&["exited, not created"]);
    here.crictl(["rm", container.id()]).run().ok();
}

#[test]
fn a_container_that_ignores_the_stop_signal_is_killed_after_the_grace_period() {
    let here = surroundings!();
    let pod = here.pod("stubborn").run();
    let container = pod.script("c", "trap '' TERM; echo ready; while :; do sleep 0.1; done").run();
    tests::until("it says that it is ready", || container.log().contains("ready").then_some(()));
    let begin = std::time::Instant::now();
    here.crictl(["stop", "--timeout", "1", container.id()]).run().ok();
    assert!(begin.elapsed() >= std::time::Duration::from_secs(1), "killed after {:?}", begin.elapsed());
    assert_eq!(container.inspect()["status"]["exitCode"], 137);
}

#[test]
fn exec_sync_gives_output_and_exit_code() {
    let here = surroundings!();
    let pod = here.pod("exec").run();
    let container = pod.container("c", &["sleep", "1000"]).run();
    let output = container.exec(&["sh", "-c", "echo out; echo err >&2"]).ok();
    assert!(output.stdout.starts_with("out\n"), "{output}");
    let said = format!("{}{}", output.stdout, output.stderr);
    assert!(said.contains("err\n"), "{output}");
    let output = container.exec(&["sh", "-c", "exit 5"]);
    assert!(output.code() != 0 && output.stderr.contains('5'), "{output}");
    let output = container.exec(&["/no/such/program"]);
    assert!(output.code() != 0 && output.stderr.contains("no/such/program"), "{output}");
    let slow = here.crictl(["exec", "--sync", "--timeout", "1", container.id(), "sleep", "1000"]).run();
    slow.fails(&["DeadlineExceeded"]);
    assert_eq!(
        container.exec(&["pidof", "sleep"]).ok().stdout.split_whitespace().count(),
        1,
        "the timed-out exec was killed"
    );
}

#[test]
fn logs_are_lines_with_time_stream_and_tag() {
    let here = surroundings!();
    let pod = here.pod("logs").run();
    let container = pod.script("c", "echo to stdout; echo to stderr >&2; printf unfinished").run();
    container.wait();
    let log = container.log();
    let mut seen: Vec<(String, String, String)> = log
        .lines()
        .map(|line| {
            let [time, stream, tag, text] = line.splitn(4, ' ').collect::<Vec<_>>()[..] else {
                panic!("not time, stream, tag and text: {line:?}")
            };
            assert!(
                time.contains('T') && time.contains('.') && time.len() > 20,
                "a time in nanoseconds: {line:?}"
            );
            (stream.to_owned(), tag.to_owned(), text.to_owned())
        })
        .collect();
    seen.sort();
    let line = |stream: &str, tag: &str, text: &str| (stream.to_owned(), tag.to_owned(), text.to_owned());
    // What is not ended by a line feed is partial.
    let expected = [
        line("stderr", "F", "to stderr"),
        line("stdout", "F", "to stdout"),
        line("stdout", "P", "unfinished"),
    ];
    assert_eq!(seen, expected, "{log}");
    let shown = here.crictl(["logs", container.id()]).run().ok();
    assert!(shown.stdout.contains("to stdout") && shown.stderr.contains("to stderr"), "{shown}");
}

#[test]
fn two_containers_of_a_pod_meet_on_localhost() {
    let here = surroundings!();
    let pod = here.pod("pair").run();
    let server = pod
        .script("server", "echo hello from the server >/tmp/index.html; httpd -f -p 127.0.0.1:8080 -h /tmp")
        .run();
    let client = pod.container("client", &["sleep", "1000"]).run();
    let get = ["wget", "-q", "-O", "-", "http://127.0.0.1:8080/"];
    let answer = tests::until("the server answers", || {
        let output = client.exec(&get);
        (output.code() == 0).then(|| output.stdout.trim_end().to_owned())
    });
    assert_eq!(answer, "hello from the server");
    assert_eq!(client.exec(&["hostname"]).ok().stdout.trim_end(), "pair");
    assert_eq!(server.state(), "CONTAINER_RUNNING");
}

#[test]
fn removing_a_pod_by_force_ends_its_running_containers() {
    let here = surroundings!();
    let pod = here.pod("busy").run();
    let container = pod.container("c", &["sleep", "1000"]).run();
    here.crictl(["rmp", "--force", pod.id()]).run().ok();
    assert!(here.words(["pods", "--quiet"]).is_empty());
    assert!(here.words(["ps", "--all", "--quiet"]).is_empty());
    here.crictl(["inspect", container.id()]).run().fails(&["NotFound"]);
}

#[test]
fn a_killed_server_comes_back_and_its_pods_never_noticed() {
    let mut here = surroundings!();
    let (pod_id, container_id, logs) = {
        let pod = here.pod("steady").run();
        let container = pod.script("c", "while :; do echo tick; sleep 0.1; done").run();
        (pod.id().to_owned(), container.id().to_owned(), pod.logs().join("c.log"))
    };
    let started = here.json(["inspect", &container_id])["status"]["startedAt"].clone();
    here.crash_server();
    assert_eq!(here.words(["pods", "--quiet", "--no-trunc", "--state", "Ready"]), [pod_id]);
    assert_eq!(here.words(["ps", "--quiet", "--no-trunc"]), std::slice::from_ref(&container_id));
    assert_eq!(here.json(["inspect", &container_id])["status"]["startedAt"], started);
    let ticks = || std::fs::read_to_string(&logs).unwrap_or_default().lines().count();
    let before = ticks();
    tests::until("it goes on writing its log", || (ticks() > before + 2).then_some(()));
    here.crictl(["exec", "--sync", &container_id, "true"]).run().ok();
}

#[test]
fn a_server_that_comes_back_says_which_pods_networks_lack_something() {
    let mut here = surroundings!();
    let (whole, robbed) = (here.pod("whole").run().id().to_owned(), here.pod("robbed").run().id().to_owned());
    let netns = format!("--net=/run/netns/rt-{robbed}");
    let gone = std::process::Command::new("nsenter").args([&netns, "ip", "link", "delete", "eth0"]).status();
    assert!(gone.is_ok_and(|status| status.success()), "the pod's link is taken away");
    here.crash_server();
    let fault = |id: &str| here.json(["inspectp", id])["info"]["networkFault"].as_str().map(str::to_owned);
    let said = tests::until("the fault is told", || fault(&robbed).filter(|said| !said.is_empty()));
    assert!(said.contains(&format!("check the network of pod {robbed}: ")), "{said}");
    assert!(said.contains("stop the pod and run it again"), "{said}");
    assert_eq!(fault(&whole).as_deref(), Some(""));
    assert_eq!(here.words(["pods", "--quiet", "--state", "Ready"]).len(), 2, "both run on");
}
