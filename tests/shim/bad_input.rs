//! What makes no sense gets a clear code, hangs nobody and leaves nothing.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use tests::shim::api::{pod, task};
use tests::shim::{Client, POD, Shim, TASK, frame, of, shell};
use tests::*;

const UNKNOWN: i32 = 2;
const INVALID: i32 = 3;
const NOT_FOUND: i32 = 5;
const EXISTS: i32 = 6;
const EXHAUSTED: i32 = 8;
const WRONG_STATUS: i32 = 9;
const UNIMPLEMENTED: i32 = 12;

fn code<R: prost::Message + Default>(
    shim: &Shim<'_>,
    call: (&str, &str),
    argument: &impl prost::Message,
) -> i32 {
    shim.client().call::<R>(call.0, call.1, argument).err().map_or(0, |refused| refused.code)
}

fn works(shim: &Shim<'_>) {
    let version: pod::VersionResponse = shim.client().ask(POD, "Version", &pod::VersionRequest {});
    assert_eq!(version.pid, shim.pid());
}

#[test]
fn what_is_not_there_is_named_so() {
    let case = case!();
    let shim = case.shim();
    let id = || "none".to_owned();
    assert_eq!(code::<pod::StartResponse>(&shim, (POD, "Start"), &pod::StartRequest { id: id() }), NOT_FOUND);
    let wait = pod::WaitRequest { id: id(), exec_id: String::new() };
    assert_eq!(code::<pod::WaitResponse>(&shim, (POD, "Wait"), &wait), NOT_FOUND);
    let kill = task::KillRequest { id: id(), signal: 9, ..Default::default() };
    assert_eq!(code::<()>(&shim, (TASK, "Kill"), &kill), NOT_FOUND);
    let remove = pod::RemoveRequest { id: id(), ..Default::default() };
    assert_eq!(code::<pod::Empty>(&shim, (POD, "Remove"), &remove), 0);
    for call in [(POD, "Dance"), (TASK, "Dance"), ("no.such.Service", "Start"), (TASK, "Checkpoint")] {
        assert_eq!(code::<()>(&shim, call, &()), UNIMPLEMENTED, "{call:?}");
    }
}

#[test]
fn a_bundle_that_is_no_bundle_makes_no_container() {
    let case = case!();
    let shim = case.shim();
    let create = |id: &str, bundle: &str| pod::CreateRequest {
        id: id.to_owned(),
        bundle: bundle.to_owned(),
        ..Default::default()
    };
    for (id, bundle) in [("a", "/no/such/bundle"), ("a", "relative"), ("", "/"), ("../x", "/"), ("a", "")] {
        let code = code::<pod::CreateResponse>(&shim, (POD, "Create"), &create(id, bundle));
        assert!([INVALID, NOT_FOUND, 2].contains(&code), "{id:?} {bundle:?}: {code}");
    }
    assert_eq!(shim.watch(0, 0).containers, []);
    works(&shim);
}

#[test]
fn an_id_is_given_once() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "sleep"]);
    shim.create(&bundle);
    // The same request joins the first; another one under the same id is refused.
    shim.create(&bundle);
    assert_eq!(code::<pod::CreateResponse>(&shim, (POD, "Create"), &of(&bundle)), EXISTS);
}

#[test]
fn what_does_not_fit_the_status_is_refused_with_it() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    bundle.with_busybox().args(["/bin/sleep", "1000"]);
    shim.create(&bundle);
    let id = bundle.id().to_owned();
    let start = || code::<pod::StartResponse>(&shim, (POD, "Start"), &pod::StartRequest { id: id.clone() });
    let exec = || code::<pod::ExecResponse>(&shim, (POD, "Exec"), &shell(&id, "e", "true"));
    let remove = || {
        code::<pod::Empty>(
            &shim,
            (POD, "Remove"),
            &pod::RemoveRequest { id: id.clone(), ..Default::default() },
        )
    };
    let resume = || code::<()>(&shim, (TASK, "Resume"), &task::ResumeRequest { id: id.clone() });
    assert_eq!(resume(), WRONG_STATUS, "created");
    assert_eq!(start(), 0);
    assert_eq!([start(), remove(), resume()], [WRONG_STATUS; 3], "running");
    shim.stop(&id, 0);
    let kill = pod::KillRequest { id: id.clone(), signal: "TERM".into(), ..Default::default() };
    assert_eq!(
        [start(), exec(), resume(), code::<pod::Empty>(&shim, (POD, "Kill"), &kill)],
        [WRONG_STATUS; 4],
        "ended"
    );
    assert_eq!([remove(), start()], [0, NOT_FOUND]);
    works(&shim);
}

#[test]
fn a_bundle_that_goes_takes_no_container_along() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    shim.start_sleeping(&mut bundle);
    let config = bundle.dir().join("config.json");
    std::fs::remove_file(&config).expect("remove the bundle's config");
    // What becomes of the file after the creation changes nothing.
    let exec = shell(bundle.id(), "e", "exit 6");
    let _: pod::ExecResponse = shim.client().ask(POD, "Exec", &exec);
    assert_eq!(shim.end_of(&exec).ended.map(|ended| ended.exit_code), Some(6));
    let again = pod::CreateRequest { id: "again".into(), ..of(&bundle) };
    let refused = shim.client().call::<pod::CreateResponse>(POD, "Create", &again);
    let refused = refused.expect_err("its config is gone");
    assert!(refused.message.contains("config.json"), "{refused:?}");
    assert_eq!(shim.stop(bundle.id(), 0).exit_code, 137);
    shim.remove(bundle.id());
    works(&shim);
}

/// Named pipes that nobody ever opens: containerd died between making them and opening them.
#[test]
fn pipes_that_nobody_opens_hold_up_nothing() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    bundle.with_busybox().args(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"]).write();
    let fifo = |name: &str| {
        let path = case.dir().join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("make a pipe");
        path.to_string_lossy().into_owned()
    };
    let create = task::CreateTaskRequest {
        id: bundle.id().to_owned(),
        bundle: bundle.dir().to_string_lossy().into_owned(),
        stdin: fifo("pipe-in"),
        stdout: fifo("pipe-out"),
        stderr: fifo("pipe-err"),
        ..Default::default()
    };
    let id = || bundle.id().to_owned();
    let begin = Instant::now();
    let absent = task::CreateTaskRequest { stdout: "/no/such/pipe".into(), ..create.clone() };
    assert_eq!(code::<task::CreateTaskResponse>(&shim, (TASK, "Create"), &absent), UNKNOWN);
    let file = task::CreateTaskRequest { stdout: "/etc/passwd".into(), ..create.clone() };
    assert_eq!(code::<task::CreateTaskResponse>(&shim, (TASK, "Create"), &file), INVALID);
    let _: task::CreateTaskResponse = shim.client().ask(TASK, "Create", &create);
    let start = task::StartRequest { id: id(), ..Default::default() };
    let _: task::StartResponse = shim.client().ask(TASK, "Start", &start);
    let wait = task::WaitRequest { id: id(), ..Default::default() };
    let ended: task::WaitResponse = shim.client().ask(TASK, "Wait", &wait);
    assert_eq!(ended.exit_status, 3);
    let delete = task::DeleteRequest { id: id(), ..Default::default() };
    let _: task::DeleteResponse = shim.client().ask(TASK, "Delete", &delete);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

/// It asks and asks, and never reads: nothing is kept for it without a bound, and nobody waits for it.
#[test]
fn a_client_that_stops_reading_holds_up_nobody() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    shim.start_sleeping(&mut bundle);
    let (holds, before) = (held_alone(&shim), resident_kb(shim.pid()));
    let deaf = UnixStream::connect(shim.socket()).expect("connect");
    deaf.set_write_timeout(Some(Duration::from_millis(200))).expect("set a deadline");
    let request = tests::shim::request(POD, "Watch", &[]);
    for number in 0u32..50_000 {
        if (&deaf).write_all(&frame(number * 2 + 1, 1, 0, &request)).is_err() {
            break; // it is not read any more, which is as good
        }
    }
    let begin = Instant::now();
    works(&shim);
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    let grown = resident_kb(shim.pid()).saturating_sub(before);
    // All that it asks for would be a hundred times as much.
    assert!(grown < 4096, "{grown} kB for a client that does not read");
    drop(deaf);
    until("it holds what it held", || (held(shim.pid()) == holds).then_some(()));
}

fn resident_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the shim runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn frames_that_are_no_calls_are_answered() {
    let case = case!();
    let shim = case.shim();
    let mut client = shim.client();
    for (bytes, stream, code) in [
        (frame(1, 3, 0, b""), 1, INVALID),
        (frame(2, 1, 0, b""), 2, INVALID),
        (frame(3, 1, 0, b"\xff\xff\xff"), 3, INVALID),
        (frame(5, 1, 2, b""), 5, UNIMPLEMENTED),
        (frame(7, 9, 0, b"x"), 7, INVALID),
    ] {
        client.raw(&bytes);
        let (to, answer) = client.answer();
        assert_eq!((to, answer.map_err(|refused| refused.code)), (stream, Err(code)));
    }
    // Too large: skipped and refused, and the connection goes on.
    client.raw(&frame(9, 1, 0, &vec![0; (4 << 20) + 1]));
    let (to, answer) = client.answer();
    assert_eq!((to, answer.map_err(|refused| refused.code)), (9, Err(EXHAUSTED)));
    works(&shim);
}

/// xorshift: the same frames for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[(self.next() % all.len() as u64) as usize]
    }

    fn bytes(&mut self) -> Vec<u8> {
        (0..self.next() % 64).flat_map(|_| self.next().to_le_bytes()).collect()
    }

    /// Noise, a frame of noise, or a call of a real method with noise for its argument. Not `Shutdown`, which noise may mean.
    fn frame(&mut self) -> Vec<u8> {
        const METHODS: [&str; 12] = [
            "Create", "Start", "Exec", "Kill", "Stop", "Remove", "Delete", "Attach", "State", "Update",
            "Pids", "Stats",
        ];
        let (stream, kind, flags) =
            ((self.next() % 9) as u32, (self.next() % 4) as u8, (self.next() % 8) as u8);
        match self.next() % 3 {
            0 => self.bytes(),
            1 => frame(stream, kind, flags, &self.bytes()),
            _ => {
                let (service, method) = (self.one_of(&[POD, TASK]), self.one_of(&METHODS));
                frame(stream | 1, 1, 0, &tests::shim::request(service, method, &self.bytes()))
            }
        }
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

/// What a process holds: descriptors and threads.
fn held(pid: u32) -> [usize; 2] {
    ["fd", "task"]
        .map(|what| std::fs::read_dir(format!("/proc/{pid}/{what}")).expect("the shim runs").count())
}

/// The same when nobody is connected: who has called before may be just leaving.
fn held_alone(shim: &Shim<'_>) -> [usize; 2] {
    let socket = shim.socket().to_string_lossy().into_owned();
    until("its callers have gone", || {
        let sockets = std::fs::read_to_string("/proc/net/unix").expect("the sockets of this machine");
        (sockets.lines().filter(|line| line.ends_with(&socket)).count() == 1).then(|| held(shim.pid()))
    })
}

/// A thousand a second, for a second, or as long as `hack/fuzz shim` says.
#[test]
fn random_frames_change_nothing() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    shim.start_sleeping(&mut bundle);
    let before = shim.watch(0, 0);
    let holds = held_alone(&shim);
    let mut random = Random(number("RT_FUZZ_SEED", 0x2545_f491_4f6c_dd1d).max(1));
    let (seconds, begin) = (number("RT_FUZZ_SECONDS", 1), Instant::now());
    for second in 1..=seconds {
        for _ in 0..1000 {
            let mut connection = UnixStream::connect(shim.socket()).expect("connect");
            for _ in 0..=random.next() % 2 {
                let _ = connection.write_all(&random.frame()); // it may have been closed after the first
            }
        }
        std::thread::sleep(Duration::from_secs(second).saturating_sub(begin.elapsed()));
    }
    works(&shim);
    assert_eq!(shim.watch(0, 0), before);
    until("it holds what it held", || (held(shim.pid()) == holds).then_some(()));
}

#[test]
fn connections_without_end_are_closed_and_others_are_served() {
    let case = case!();
    let shim = case.shim();
    let silent: Vec<Client> = (0..400).map(|_| shim.client()).collect();
    drop(silent);
    until("it is served again", || {
        let mut client = Client::try_connect(shim.socket())?;
        client.raw(&frame(1, 3, 0, b""));
        client.is_answered().then_some(())
    });
    works(&shim);
}

#[test]
fn a_hello_for_no_stream_ends_at_once() {
    let case = case!();
    let shim = case.shim();
    for (token, name) in [("unknown", "stdout"), ("unknown", "stdfoo"), ("", "")] {
        let mut stream = shim.client().into_stream(token, name);
        stream.set_read_timeout(Some(DEADLINE)).expect("set a deadline");
        let read = std::io::Read::read(&mut stream, &mut [0; 8]);
        assert!(matches!(read, Ok(0) | Err(_)), "{token} {name}: {read:?}");
    }
    works(&shim);
}

#[test]
fn only_root_may_call() {
    let case = case!();
    let shim = case.shim();
    std::fs::set_permissions(shim.socket(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .expect("open it");
    let socket = shim.socket().to_owned();
    // Another thread's effective user, by the system call: the library's would change all threads.
    let closed = std::thread::spawn(move || {
        rustix::thread::set_thread_res_uid(
            rustix::process::Uid::from_raw(65534),
            rustix::process::Uid::from_raw(65534),
            rustix::process::Uid::from_raw(65534),
        )
        .expect("become nobody");
        match Client::try_connect(&socket) {
            None => true,
            Some(mut client) => client.is_closed(),
        }
    });
    assert!(closed.join().expect("the thread ends"));
    works(&shim);
}

#[test]
fn execs_that_nobody_removes_are_counted_and_so_is_what_they_ask_for() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    shim.start_sleeping(&mut bundle);
    let process = json!({ "args": ["/bin/true"], "cwd": "/", "user": { "uid": 0, "gid": 0 }, "env": ["x".repeat(3 << 20)] });
    let spec = prost_types::Any {
        type_url: "types.containerd.io/x".into(),
        value: process.to_string().into_bytes(),
    };
    let mut client = shim.client();
    let mut add = |number: usize, spec: &prost_types::Any| {
        let exec_id = format!("e{number}");
        let request = task::ExecProcessRequest {
            id: bundle.id().to_owned(),
            exec_id,
            spec: Some(spec.clone()),
            ..Default::default()
        };
        client.call::<task::ExecProcessResponse>(TASK, "Exec", &request)
    };
    let refused = (0..64).find_map(|number| add(number, &spec).err().map(|refused| (number, refused)));
    let (number, refused) = refused.expect("they may ask for 64 MiB");
    assert!(number == 21 && refused.code == EXHAUSTED, "{number}: {refused:?}");
    let small = json!({ "args": ["/bin/true"], "cwd": "/", "user": { "uid": 0, "gid": 0 } });
    let small = prost_types::Any { value: small.to_string().into_bytes(), ..spec };
    let refused =
        (number..2000).find_map(|number| add(number, &small).err().map(|refused| (number, refused)));
    let (number, refused) = refused.expect("they are 1024 at most");
    assert!(number == 1024 && refused.code == EXHAUSTED, "{number}: {refused:?}");
    works(&shim);
    shim.stop(bundle.id(), 0);
    shim.remove(bundle.id());
}

#[test]
fn a_log_with_lines_without_end_is_not_kept_in_memory() {
    let case = case!();
    let shim = case.shim();
    let mut bundle = case.bundle();
    bundle.with_busybox().args(["/bin/sh", "-c", "head -c 200000000 /dev/zero; exec sleep 1000"]);
    let log_path = case.dir().join("endless.log").to_string_lossy().into_owned();
    let stdio = pod::Stdio { log_path, ..Default::default() };
    bundle.write();
    let create = |stdio| pod::CreateRequest { stdio: Some(stdio), ..of(&bundle) };
    let too_long = pod::Stdio { log_line_max: u32::MAX, ..stdio.clone() };
    assert_eq!(code::<pod::CreateResponse>(&shim, (POD, "Create"), &create(too_long)), INVALID);
    let longest = pod::Stdio { log_line_max: 1 << 20, ..stdio };
    let _: pod::CreateResponse = shim.client().ask(POD, "Create", &create(longest));
    let before = resident_kb(shim.pid());
    shim.start(bundle.id());
    let log = case.dir().join("endless.log");
    until("it is logged", || std::fs::metadata(&log).ok().filter(|log| log.len() > 190_000_000));
    let grown = resident_kb(shim.pid()).saturating_sub(before);
    assert!(grown < 8192, "{grown} kB for a line without an end");
    std::fs::write(&log, "").expect("empty the log");
    shim.stop(bundle.id(), 0);
    shim.remove(bundle.id());
}
