//! Callers that are away, that look all at once, that are newer than the shim, that forget it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prost::Message;
use tests::shim::api::{containerd, pod, task};
use tests::shim::{Client, POD, Receiver, Shim, TASK, frame, of, request, shell};
use tests::*;

/// How long the receiver is away.
const AWAY: Duration = Duration::from_secs(60);

/// What the receiver has after so many events.
fn arrived(receiver: &Receiver, count: usize) -> Vec<String> {
    until("the events arrive", || (receiver.topics().len() >= count).then(|| receiver.topics()))
}

#[test]
fn events_wait_for_a_receiver_that_is_away_for_a_minute() {
    let case = case!();
    let socket = case.dir().join("events");
    let receiver = Receiver::listen(&socket);
    let shim = case.shim_with_events("shim", &socket);
    let mut bundle = case.bundle();
    bundle.with_busybox().args(["/bin/sleep", "1000"]).write();
    shim.create(&bundle);
    assert_eq!(arrived(&receiver, 1), ["/tasks/create"]);
    drop(receiver);
    let gone = Instant::now();

    let mut client = shim.client();
    shim.start(bundle.id());
    let exec = shell(bundle.id(), "e", "exit 5");
    let _: pod::ExecResponse = client.ask(POD, "Exec", &exec);
    assert_eq!(shim.end_of(&exec).ended.map(|ended| ended.exit_code), Some(5));
    let _: () = client.ask(TASK, "Pause", &task::PauseRequest { id: bundle.id().into() });
    let _: () = client.ask(TASK, "Resume", &task::ResumeRequest { id: bundle.id().into() });
    shim.stop(bundle.id(), 0);
    std::thread::sleep(AWAY.saturating_sub(gone.elapsed()));

    let receiver = Receiver::listen(&socket);
    let meanwhile = ["start", "exec-added", "exec-started", "exit", "paused", "resumed", "exit"];
    assert_eq!(arrived(&receiver, meanwhile.len()), meanwhile.map(|what| format!("/tasks/{what}")));
    shim.remove(bundle.id());
    assert_eq!(arrived(&receiver, meanwhile.len() + 1).last().map(String::as_str), Some("/tasks/delete"));
    let ends = receiver.events().into_iter().filter(|event| event.topic == "/tasks/exit").map(|event| {
        assert_eq!(event.namespace, "default");
        let exit = event.event.expect("an event").value;
        containerd::events::TaskExit::decode(exit.as_slice()).expect("a TaskExit").exit_status
    });
    assert_eq!(ends.collect::<Vec<_>>(), [5, 137]);
}

const WATCHERS: usize = 4;
const LANES: i32 = 3;
const LIVES: i32 = 8;
/// More than a watcher may take to see an end: one that was not woken would come too late.
const WAIT_MS: i64 = 60_000;

type Seen = Mutex<BTreeMap<String, i32>>;

/// Follows the pod by its versions: each answer is newer than the one before. Half of them connect for each look.
fn watch(shim: &Shim<'_>, number: usize, seen: &Seen, over: &AtomicBool) {
    let (mut client, mut version) = (shim.client(), 0);
    loop {
        if number.is_multiple_of(2) {
            client = shim.client();
        }
        let request = pod::WatchRequest { after: version, wait_ms: WAIT_MS };
        let answer: pod::WatchResponse = client.ask(POD, "Watch", &request);
        assert!(answer.version > version, "{} after {version}", answer.version);
        version = answer.version;
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        for container in &answer.containers {
            let Some(ended) = &container.ended else { continue };
            let known = seen.insert(container.id.clone(), ended.exit_code);
            assert!(known.is_none_or(|code| code == ended.exit_code), "{container:?}, {known:?}");
        }
        if over.load(Ordering::Acquire) && answer.containers.is_empty() {
            return;
        }
    }
}

#[test]
fn who_watches_misses_nothing_and_sees_nothing_twice() {
    let case = case!();
    let shim = case.shim();
    let (seen, over) =
        (std::array::from_fn::<Seen, WATCHERS, _>(|_| Seen::default()), AtomicBool::new(false));
    let live = &|code: i32, before_its_removal: &dyn Fn()| {
        let mut bundle = case.bundle();
        bundle.args(["/probe", "exit", &code.to_string()]);
        shim.create(&bundle);
        shim.start(bundle.id());
        let sees =
            |seen: &Seen| seen.lock().unwrap_or_else(PoisonError::into_inner).get(bundle.id()) == Some(&code);
        until("all have seen its end", || seen.iter().all(sees).then_some(()));
        before_its_removal();
        shim.remove(bundle.id());
    };
    std::thread::scope(|threads| {
        for (number, seen) in seen.iter().enumerate() {
            let (shim, over) = (&shim, &over);
            threads.spawn(move || watch(shim, number, seen, over));
        }
        std::thread::scope(|threads| {
            for lane in 0..LANES {
                threads.spawn(move || (0..LIVES).for_each(|number| live(LIVES * lane + number, &|| ())));
            }
        });
        live(LANES * LIVES, &|| over.store(true, Ordering::Release));
    });
    for seen in seen {
        let seen = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(i32::try_from(seen.len()), Ok(LANES * LIVES + 1));
    }
}

/// A field that no version of the protocol has: number 1000, of three bytes.
const UNKNOWN_FIELD: [u8; 6] = [0xC2, 0x3E, 3, b'n', b'e', b'w'];
/// gRPC's code.
const UNIMPLEMENTED: i32 = 12;

#[test]
fn an_older_shim_serves_a_newer_caller() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    bundle.with_busybox().args(["/bin/sleep", "1000"]).write();
    let id = || bundle.id().to_owned();
    let mut client = shim.client();
    let version: pod::VersionResponse = client.ask(POD, "Version", &pod::VersionRequest {});
    assert_eq!((version.api, version.pid), (1, shim.pid()));

    let exec = shell(bundle.id(), "e", "exit 4");
    let calls: [(&str, Vec<u8>); 7] = [
        ("Create", of(&bundle).encode_to_vec()),
        ("Start", pod::StartRequest { id: id() }.encode_to_vec()),
        ("Exec", exec.encode_to_vec()),
        ("Watch", pod::WatchRequest { after: 0, wait_ms: 0 }.encode_to_vec()),
        ("Stop", pod::StopRequest { id: id(), ..Default::default() }.encode_to_vec()),
        ("Remove", pod::RemoveRequest { id: id(), ..Default::default() }.encode_to_vec()),
        ("MethodOfTomorrow", Vec::new()),
    ];
    for (stream, (method, mut payload)) in (101u32..).step_by(2).zip(calls) {
        payload.extend(UNKNOWN_FIELD);
        client.raw(&frame(stream, 1, 0, &request(POD, method, &payload)));
        let (to, answer) = client.answer();
        assert_eq!(to, stream);
        match answer {
            Ok(_) => assert_ne!(method, "MethodOfTomorrow"),
            Err(refused) => {
                assert_eq!((method, refused.code), ("MethodOfTomorrow", UNIMPLEMENTED), "{refused:?}");
                assert!(refused.message.contains("MethodOfTomorrow"), "{refused:?}");
            }
        }
    }
    assert_eq!(shim.watch(0, 0).containers, []);
}

#[test]
fn a_shim_whose_starter_forgets_it_ends_by_itself() {
    let case = case!();
    let mut shim = case.shim_with_events("shim", &case.dir().join("nobody"));
    let connected: task::ConnectResponse =
        shim.client().ask(TASK, "Connect", &task::ConnectRequest { id: "none".into() });
    assert_eq!((connected.shim_pid, connected.task_pid), (shim.pid(), 0));
    let begun = Instant::now();
    let within = Duration::from_secs(45);
    let ended = tests::within(within, || (!shim.is_running()).then_some(()));
    assert!(ended.is_some(), "it is there after {within:?}: {}", shim.log());
    assert!(
        begun.elapsed() > Duration::from_secs(20),
        "after {:?}: its first container may be on its way",
        begun.elapsed()
    );
    assert!(shim.ended().success(), "{}", shim.log());
    assert!(Client::try_connect(shim.socket()).is_none());
}
