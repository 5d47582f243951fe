//! The state directory on a real file system.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::error::Kind;
use crate::id::Id;

/// A state root of its own, removed at the end.
struct Root(PathBuf);

impl Root {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rt-state-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn dir(&self) -> StateDir {
        StateDir::new(self.0.join("deep/root"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join("deep/root").join(name)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn id(text: &str) -> Id {
    Id::parse(text).unwrap()
}

fn record(name: &str) -> Record {
    Record { oci_version: "1.3.0".into(), ..Record::new(id(name), "/b".into(), "/b/rootfs".into()) }
}

fn created(name: &str, pid: u32) -> Record {
    let init = ProcessId::of(pid.try_into().unwrap()).unwrap();
    Record { stage: Stage::Created, init: Some(init), ..record(name) }
}

#[test]
fn an_id_can_be_reserved_once_and_is_free_again_after_a_drop() {
    let root = Root::new("reserve");
    let first = root.dir().reserve(&id("a")).unwrap();
    let error = root.dir().reserve(&id("a")).unwrap_err();
    assert_eq!(error.kind(), Kind::Exists);
    let words = "container with given ID already exists: \"a\" (`rt delete` frees it)";
    assert_eq!(error.to_string(), words);
    assert_eq!(root.file("a").metadata().unwrap().permissions().mode() & 0o7777, 0o711);
    assert_eq!(root.file("").metadata().unwrap().permissions().mode() & 0o7777, 0o700);
    drop(first);
    assert!(!root.file("a").exists());
    drop(root.dir().reserve(&id("a")).unwrap());
}

#[test]
fn a_missing_container_does_not_exist() {
    let root = Root::new("missing");
    for error in [root.dir().open(&id("x")).unwrap_err(), root.dir().open_locked(&id("x")).unwrap_err()] {
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (Kind::NotFound, "container \"x\" does not exist")
        );
    }
    let reserved = root.dir().reserve(&id("x")).unwrap();
    assert_eq!(root.dir().open(&id("x")).unwrap_err().kind(), Kind::NotFound, "no record yet");
    drop(reserved);
}

#[test]
fn the_status_follows_what_is_seen() {
    let root = Root::new("status");
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    let reserved = root.dir().reserve(&id("a")).unwrap();
    reserved.commit(&record("a")).unwrap();
    assert_eq!(root.dir().open(&id("a")).unwrap().status().unwrap(), Status::Creating);
    // As init holds it.
    let held = reserved.make_fifo().unwrap();
    reserved.commit(&created("a", child.id())).unwrap();
    let container = reserved.keep(created("a", child.id()));
    assert_eq!(container.status().unwrap(), Status::Created);
    drop(held);
    assert_eq!(container.status().unwrap(), Status::Running, "nobody reads it");
    container.remove_fifo().unwrap();
    assert_eq!(container.status().unwrap(), Status::Running);

    let freezer = root.file("cgroup.freeze");
    std::fs::write(&freezer, "1\n").unwrap();
    let cgroup = CgroupRecord { path: root.file(""), ..CgroupRecord::default() };
    let mut container = root.dir().open_locked(&id("a")).unwrap();
    let frozen = Record { cgroup: Some(cgroup), ..container.record().clone() };
    container.commit(frozen).unwrap();
    assert_eq!(container.status().unwrap(), Status::Paused);
    std::fs::write(&freezer, "0\n").unwrap();
    assert_eq!(container.status().unwrap(), Status::Running);

    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(container.status().unwrap(), Status::Stopped);
    container.remove().unwrap();
    assert!(!root.file("a").exists());
}

#[test]
fn what_a_killed_create_left_is_stopped() {
    let root = Root::new("killed");
    let reserved = root.dir().reserve(&id("a")).unwrap();
    reserved.commit(&record("a")).unwrap();
    let before = std::fs::read(root.file("a/state.json")).unwrap();
    drop(reserved);
    // As after SIGKILL: the directory is there, and nobody holds it.
    std::fs::create_dir(root.file("a")).unwrap();
    std::fs::write(root.file("a/state.json"), before).unwrap();
    assert_eq!(root.dir().open(&id("a")).unwrap().status().unwrap(), Status::Stopped);
    assert_eq!(root.dir().open_locked(&id("a")).unwrap().status().unwrap(), Status::Stopped);
}

#[test]
fn a_leftover_without_a_readable_record_can_be_removed() {
    let root = Root::new("leftover");
    for (contents, kind) in [(None, Kind::NotFound), (Some("{"), Kind::Internal), (Some(""), Kind::Internal)]
    {
        std::fs::create_dir_all(root.file("a")).unwrap();
        if let Some(contents) = contents {
            std::fs::write(root.file("a/state.json"), contents).unwrap();
        }
        let (leftover, error) = root.dir().open_leftover(&id("a")).unwrap().load().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        leftover.remove().unwrap();
        assert!(!root.file("a").exists());
    }
}

#[test]
fn one_operation_waits_for_the_other_and_sees_what_it_did() {
    let root = Root::new("lock");
    let reserved = root.dir().reserve(&id("a")).unwrap();
    reserved.commit(&created("a", std::process::id())).unwrap();
    drop(reserved.keep(created("a", std::process::id())));
    let first = root.dir().open_locked(&id("a")).unwrap();
    std::thread::scope(|scope| {
        let (ready, at_the_lock) = std::sync::mpsc::channel();
        let (dir, second) = (root.dir(), id("a"));
        let waiting = scope.spawn(move || {
            ready.send(()).unwrap();
            dir.open_locked(&second).map(drop)
        });
        at_the_lock.recv().unwrap();
        first.remove().unwrap();
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), Kind::NotFound);
    });
}

#[test]
fn only_valid_directories_are_listed_in_order() {
    let root = Root::new("list");
    assert_eq!(root.dir().list().unwrap_err().kind(), Kind::NotFound);
    for name in ["b", "a", ".hidden", "c d"] {
        std::fs::create_dir_all(root.file(name)).unwrap();
    }
    std::fs::write(root.file("file"), "").unwrap();
    assert_eq!(root.dir().list().unwrap(), [id("a"), id("b")]);
}

#[test]
fn a_state_file_of_absurd_size_is_refused() {
    let root = Root::new("size");
    std::fs::create_dir_all(root.file("a")).unwrap();
    let file = std::fs::File::create(root.file("a/state.json")).unwrap();
    file.set_len(64 << 20).unwrap();
    let error = root.dir().open(&id("a")).unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.to_string().ends_with("state.json: longer than 16777216 bytes"), "{error}");
}

#[test]
fn the_report_is_runcs() {
    let mut record = record("web");
    record.created = "2026-11-21T04:05:48.000000001Z".into();
    record.init = Some(ProcessId { pid: 42, start_time: 7 });
    record.owner = 0;
    let report = |record: &Record, status| serde_json::to_string(&record.report(status)).unwrap();
    let golden = |pid: i32, status: &str, annotations: &str| {
        format!(
            "{{\"ociVersion\":\"1.3.0\",\"id\":\"web\",\"pid\":{pid},\"status\":\"{status}\",\"bundle\":\"/b\",\
             \"rootfs\":\"/b/rootfs\",\"created\":\"2026-11-21T04:05:48.000000001Z\",{annotations}\"owner\":\"\"}}"
        )
    };
    assert_eq!(report(&record, Status::Running), golden(42, "running", ""));
    assert_eq!(report(&record, Status::Stopped), golden(0, "stopped", ""));
    record.annotations.insert("k".into(), "v".into());
    assert_eq!(report(&record, Status::Paused), golden(42, "paused", "\"annotations\":{\"k\":\"v\"},"));
    assert_eq!(
        String::from_utf8(record.hook_state(Status::Creating)).unwrap(),
        "{\"ociVersion\":\"1.3.0\",\"id\":\"web\",\"status\":\"creating\",\"pid\":42,\"bundle\":\"/b\",\
         \"annotations\":{\"k\":\"v\"}}"
    );
}

#[test]
fn a_deadline_ends_a_wait() {
    let root = Root::new("alarm");
    std::fs::create_dir_all(&root.0).unwrap();
    let open = || std::fs::File::open(&root.0).unwrap();
    let (held, other) = (open(), open());
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let waited = crate::sys::alarm::with_deadline(std::time::Duration::from_millis(1), || {
        rustix::fs::flock(&other, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|errno| nix::errno::Errno::from_raw(errno.raw_os_error()))
    });
    assert_eq!(waited, Err(nix::errno::Errno::ETIMEDOUT));
}
