//! What Kubernetes uses to look inside: events, statistics, and what checkpoints say. Streams are in `engines/streaming`.

use crate::surroundings;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::time::Duration;
use tests::cri::api::v1;
use tests::cri::{BUSYBOX, Surroundings};
use tokio::task::JoinSet;
use tonic::{Code, Status, Streaming};
use v1::ContainerEventType as What;

type Calls = v1::runtime_service_client::RuntimeServiceClient<tonic::transport::Channel>;
type Event = v1::ContainerEventResponse;

/// How long an event may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is asked for over a pod's network.
const SENT: u64 = 500_000;

/// The annotation of a sandbox status that says how many events were lost before.
const LOST: &str = "run.rt.events-lost";

fn sandbox(here: &Surroundings, name: &str, words: usize) -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            namespace: "n".to_owned(),
            attempt: 0,
        }),
        hostname: name.to_owned(),
        log_directory: here.case().dir().join("logs").to_string_lossy().into_owned(),
        annotations: HashMap::from([("long".to_owned(), "x".repeat(words))]),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: here.case().cgroup().to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn container(name: &str, script: &str) -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: name.to_owned(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: BUSYBOX.to_owned(), ..Default::default() }),
        command: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
        log_path: format!("{name}.log"),
        ..Default::default()
    }
}

async fn run_pod(cri: &mut Calls, config: &v1::PodSandboxConfig) -> String {
    let request = v1::RunPodSandboxRequest { config: Some(config.clone()), ..Default::default() };
    cri.run_pod_sandbox(request).await.expect("a pod").into_inner().pod_sandbox_id
}

async fn remove_pod(cri: &mut Calls, pod: &str) {
    let request = v1::StopPodSandboxRequest { pod_sandbox_id: pod.to_owned() };
    cri.stop_pod_sandbox(request).await.expect("it stops");
    let request = v1::RemovePodSandboxRequest { pod_sandbox_id: pod.to_owned() };
    cri.remove_pod_sandbox(request).await.expect("it goes");
}

/// The way of a container that ends by itself, up to its start.
async fn start(cri: &mut Calls, pod: &str, of: &v1::PodSandboxConfig, config: v1::ContainerConfig) -> String {
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: pod.to_owned(),
        config: Some(config),
        sandbox_config: Some(of.clone()),
    };
    let id = cri.create_container(request).await.expect("a container").into_inner().container_id;
    let request = v1::StartContainerRequest { container_id: id.clone() };
    cri.start_container(request).await.expect("it starts");
    id
}

async fn events(cri: &mut Calls) -> Streaming<Event> {
    cri.get_container_events(v1::GetEventsRequest {}).await.expect("events").into_inner()
}

async fn next(events: &mut Streaming<Event>) -> Event {
    let event = tokio::time::timeout(PATIENCE, events.message()).await;
    event.expect("an event in time").expect("no error").expect("no end")
}

fn is_lossy(event: &Event) -> bool {
    event.pod_sandbox_status.as_ref().is_some_and(|status| status.annotations.contains_key(LOST))
}

#[test]
fn events_come_once_and_in_order_with_the_statuses_of_their_moment() {
    let here = surroundings!();
    let client = here.client();
    let mut cri = client.cri();
    client.wait(async {
        let (mut first, mut second) = (events(&mut cri).await, events(&mut cri).await);
        let config = sandbox(&here, "events", 10);
        let pod = run_pod(&mut cri, &config).await;
        let mut running = JoinSet::new();
        const COUNT: usize = 12;
        for number in 0..COUNT {
            let (mut cri, pod, config) = (cri.clone(), pod.clone(), config.clone());
            running.spawn(async move {
                start(&mut cri, &pod, &config, container(&format!("c{number}"), "exit 3")).await
            });
        }
        let ids = running.join_all().await;
        let mut seen: Vec<Event> = Vec::new();
        // They end by themselves; the pod is removed when all have.
        let ended = |seen: &[Event]| {
            let stopped = |event: &&Event| event.container_event_type() == What::ContainerStoppedEvent;
            seen.iter().filter(stopped).count()
        };
        while ended(&seen) < COUNT {
            seen.push(next(&mut first).await);
        }
        remove_pod(&mut cri, &pod).await;
        while seen.last().is_none_or(|event| {
            event.container_id != pod || event.container_event_type() != What::ContainerDeletedEvent
        }) {
            seen.push(next(&mut first).await);
        }
        let mut again = Vec::new();
        while again.len() < seen.len() {
            again.push(next(&mut second).await);
        }
        assert_eq!(seen, again, "two readers are told the same");
        judge(&seen, &pod, &ids);
    });
}

/// Each object's four events in their order, nothing twice, and times that do not go back.
fn judge(seen: &[Event], pod: &str, ids: &[String]) {
    let expected = [
        What::ContainerCreatedEvent,
        What::ContainerStartedEvent,
        What::ContainerStoppedEvent,
        What::ContainerDeletedEvent,
    ];
    assert_eq!(seen.len(), 4 * (ids.len() + 1), "{seen:#?}");
    assert!(seen.is_sorted_by_key(|event| event.created_at), "times go back");
    for id in ids.iter().map(String::as_str).chain([pod]) {
        let of: Vec<&Event> = seen.iter().filter(|event| event.container_id == id).collect();
        let told: Vec<What> = of.iter().map(|event| event.container_event_type()).collect();
        assert_eq!(told, expected, "of {id}");
        for event in of {
            let status = event.pod_sandbox_status.as_ref().expect("the sandbox's status");
            assert_eq!(status.id, pod);
        }
    }
    for (what, state) in [
        (What::ContainerCreatedEvent, v1::ContainerState::ContainerCreated),
        (What::ContainerStoppedEvent, v1::ContainerState::ContainerExited),
    ] {
        for event in
            seen.iter().filter(|event| event.container_event_type() == what && event.container_id != pod)
        {
            let own = event.containers_statuses.iter().find(|status| status.id == event.container_id);
            let own = own.expect("the container's own status");
            assert_eq!(own.state(), state, "{own:?}");
            assert_eq!(own.exit_code, if what == What::ContainerStoppedEvent { 3 } else { 0 });
        }
    }
}

#[test]
fn a_slow_reader_is_told_what_it_lost_and_how_things_stand_and_holds_up_nobody() {
    let mut here = surroundings!();
    here.end_server(nix::sys::signal::Signal::SIGTERM);
    here.start_server_with("[events]\nbuffer = 8\n");
    // Each has a connection of its own: what one does not read is in its own window.
    let (slow, quick) = (here.client(), here.client());
    let config = sandbox(&here, "slow", 60_000);
    let mut cri = quick.cri();
    let mut unread = slow.wait(async { events(&mut slow.cri()).await });
    let pod = quick.wait(async {
        let mut heard = events(&mut cri).await;
        let pod = run_pod(&mut cri, &config).await;
        for number in 0..12 {
            start(&mut cri, &pod, &config, container(&format!("c{number}"), "exit 3")).await;
            for _ in 0..if number == 0 { 5 } else { 3 } {
                assert!(!is_lossy(&next(&mut heard).await), "a reader that reads loses nothing");
            }
        }
        pod
    });
    slow.wait(async {
        let mut last = next(&mut unread).await;
        while !is_lossy(&last) {
            last = next(&mut unread).await; // what was on its way
        }
        let mut standing = vec![last];
        while standing.len() < 13 {
            standing.push(next(&mut unread).await);
        }
        assert!(standing.iter().all(is_lossy), "the resync is marked as one");
        let stopped = |event: &&Event| event.container_event_type() == What::ContainerStoppedEvent;
        assert_eq!(standing.iter().filter(stopped).count(), 12, "all containers have ended");
        assert!(standing.iter().any(|event| event.container_id == pod), "the pod is there");
        // And from there on what happens.
        start(&mut slow.cri(), &pod, &config, container("after", "exit 3")).await;
        let event = next(&mut unread).await;
        assert_eq!((event.container_event_type(), is_lossy(&event)), (What::ContainerCreatedEvent, false));
    });
    let log = here.server_log();
    assert!(log.contains("a reader of container events is too slow"), "{log}");
}

#[test]
fn checkpoints_are_unimplemented_and_say_why() {
    let here = surroundings!();
    let pod = here.pod("checkpoint").run();
    let kept = pod.container("c", &["sleep", "1000"]).run();
    let client = here.client();
    let mut cri = client.cri();
    let says_why = |status: Status| {
        assert_eq!(status.code(), Code::Unimplemented, "{status}");
        assert!(status.message().contains("rt"), "{status}");
        assert!(status.message().contains("CRIU"), "{status}");
    };
    client.wait(async {
        let request =
            v1::CheckpointContainerRequest { container_id: kept.id().to_owned(), ..Default::default() };
        says_why(cri.checkpoint_container(request).await.expect_err("no checkpoint"));
        let request =
            v1::CheckpointContainerRequest { container_id: "nobody".to_owned(), ..Default::default() };
        let unknown = cri.checkpoint_container(request).await.expect_err("no container");
        assert_eq!(unknown.code(), Code::NotFound, "{unknown}");
        let request = v1::CheckpointPodRequest { pod_sandbox_id: pod.id().to_owned(), ..Default::default() };
        says_why(cri.checkpoint_pod(request).await.expect_err("no checkpoint"));
        says_why(cri.restore_pod(v1::RestorePodRequest::default()).await.expect_err("no restoring"));
    });
    assert_eq!(kept.state(), "CONTAINER_RUNNING");
}

/// The first of `crictl stats`, in CRI's own fields.
fn stats(here: &Surroundings, container: &str) -> v1::ContainerStats {
    let client = here.client();
    let request = v1::ContainerStatsRequest { container_id: container.to_owned() };
    let answer = client.wait(async { client.cri().container_stats(request).await });
    answer.expect("statistics").into_inner().stats.expect("statistics")
}

#[test]
fn the_writable_layer_is_walked_at_most_every_ten_seconds() {
    let here = surroundings!();
    let pod = here.pod("layer").run();
    let script = "dd if=/dev/zero of=/one bs=1M count=1; mkdir /d; touch /d/1 /d/2; echo ready; while :; do sleep 0.1; done";
    let kept = pod.script("c", script).run();
    tests::until("it has written", || kept.log().contains("ready").then_some(()));
    // The first question waits for the walk for a moment only.
    let layer = || tests::until("the layer's size", || stats(&here, kept.id()).writable_layer);
    let first = layer();
    let bytes = |layer: &v1::FilesystemUsage| layer.used_bytes.map(|value| value.value).unwrap_or_default();
    assert!((1 << 20..2 << 20).contains(&bytes(&first)), "{first:?}");
    let inodes = first.inodes_used.map(|value| value.value);
    kept.exec(&["sh", "-c", "dd if=/dev/zero of=/two bs=1M count=3; touch /d/3"]).ok();
    assert_eq!(layer(), first, "an answer within ten seconds is the same");
    let later = tests::within(Duration::from_secs(20), || Some(layer()).filter(|layer| *layer != first));
    let later = later.expect("after ten seconds it is walked anew");
    assert!(later.timestamp - first.timestamp >= 10_000_000_000, "{later:?} after {first:?}");
    assert!((4 << 20..5 << 20).contains(&bytes(&later)), "{later:?}");
    assert_eq!(later.inodes_used.map(|value| value.value), inodes.map(|count| count + 2));
}

#[test]
fn the_rate_of_cpu_and_pressure_and_network_are_told() {
    let here = surroundings!();
    let pod = here.pod("rates").run();
    let serve = format!(
        "dd if=/dev/zero of=/tmp/big bs=1000 count={LENGTH}; httpd -p 8080 -h /tmp; while :; do :; done",
        LENGTH = SENT / 1000
    );
    let busy = pod.script("busy", &serve).run();
    // From the second question on it is the rate between two.
    let rate = || stats(&here, busy.id()).cpu.and_then(|cpu| cpu.usage_nano_cores).map(|value| value.value);
    let turns = tests::within(PATIENCE, || rate().filter(|rate| (50_000_000..1_200_000_000).contains(rate)));
    assert!(turns.is_some(), "a busy loop takes a part of one CPU, not {:?}", rate());
    let client = here.client();
    let of_pod = || {
        let request = v1::PodSandboxStatsRequest { pod_sandbox_id: pod.id().to_owned() };
        let answer = client.wait(async { client.cri().pod_sandbox_stats(request).await });
        answer.expect("statistics").into_inner().stats.and_then(|stats| stats.linux).expect("a pod's")
    };
    let linux = of_pod();
    let has_psi = std::path::Path::new("/proc/pressure/cpu").exists();
    assert_eq!(linux.cpu.as_ref().is_some_and(|cpu| cpu.psi.is_some()), has_psi, "{linux:?}");
    assert_eq!(linux.io.is_some(), has_psi, "{linux:?}");
    let processes = linux.process.as_ref().and_then(|process| process.process_count).map(|count| count.value);
    assert!(processes.is_none_or(|count| count >= 1), "{processes:?}");
    let sent = |linux: &v1::LinuxPodSandboxStats| {
        let eth0 =
            linux.network.as_ref().and_then(|network| network.default_interface.clone()).expect("eth0");
        assert_eq!(eth0.name, "eth0");
        eth0.tx_bytes.map(|value| value.value).unwrap_or_default()
    };
    let before = sent(&linux);
    let address = pod.inspect()["status"]["network"]["ip"].as_str().expect("an address").to_owned();
    let mut answer = Vec::new();
    let mut connection = std::net::TcpStream::connect((address.as_str(), 8080)).expect("a connection");
    connection.write_all(b"GET /big HTTP/1.0\r\n\r\n").expect("asked");
    connection.read_to_end(&mut answer).expect("an answer");
    assert!(answer.len() as u64 > SENT, "{}", String::from_utf8_lossy(&answer[..200]));
    let after = sent(&of_pod());
    assert!(
        (before + SENT..before + SENT + SENT / 4).contains(&after),
        "{before} bytes before, {after} after"
    );
}
