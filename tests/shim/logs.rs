//! Logs in a directory that a pod has its hands on: whatever is put in the way, no file of the host's is written to, nobody is held up, and
//! the container is stopped and removed as ever.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use tests::shim::api::pod;
use tests::shim::{POD, Refused, Shim, of, shell};
use tests::*;

/// Denied.
const DENIED: i32 = 7;

/// How long a call takes at most that waits for nobody.
const SOON: Duration = Duration::from_secs(10);

const MARKER: &str = "of the host\n";

/// What is in the way, and how it is put there.
type Obstacle<'a> = (&'static str, Box<dyn Fn() + 'a>);

/// A pod's directory for logs, and files of the host's beside it.
struct Place(PathBuf);

impl Place {
    fn new(case: &Case) -> Self {
        let place = case.dir().join("logs");
        fs::create_dir_all(place.join("pod/c")).expect("make the pod's directory");
        fs::create_dir_all(place.join("host/c")).expect("make the host's directory");
        for file in ["host/file", "host/0.log", "host/c/0.log"] {
            fs::write(place.join(file), MARKER).expect("write a file of the host's");
        }
        Self(place)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// The log of the pod's container.
    fn stdio(&self) -> pod::Stdio {
        pod::Stdio {
            log_path: self.at("pod/c/0.log").to_string_lossy().into_owned(),
            log_directory: self.at("pod").to_string_lossy().into_owned(),
            ..Default::default()
        }
    }

    /// What a pod may put in its log's place.
    fn obstacles(&self) -> Vec<Obstacle<'_>> {
        let log = || self.at("pod/c/0.log");
        let (dir, away) = (self.at("pod/c"), self.at("pod/away"));
        vec![
            ("a link", Box::new(move || symlink(self.at("host/file"), log()).expect("link"))),
            ("a relative link", Box::new(move || symlink("../../host/file", log()).expect("link"))),
            ("a dangling link", Box::new(move || symlink(self.at("host/new"), log()).expect("link"))),
            ("a magic link", Box::new(move || symlink("/proc/self/fd/2", log()).expect("link"))),
            ("a hard link", Box::new(move || fs::hard_link(self.at("host/file"), log()).expect("link"))),
            ("a named pipe", Box::new(move || nix::unistd::mkfifo(&log(), Mode::S_IRWXU).expect("a pipe"))),
            ("a directory", Box::new(move || fs::create_dir(log()).expect("a directory"))),
            (
                "a device",
                Box::new(move || {
                    mknod(&log(), SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 3)).expect("a device");
                }),
            ),
            (
                "another's file",
                Box::new(move || {
                    fs::write(log(), "").expect("a file");
                    std::os::unix::fs::chown(log(), Some(1234), None).expect("give it away");
                }),
            ),
            (
                "a link on the way",
                Box::new({
                    let (dir, away) = (dir.clone(), away.clone());
                    move || {
                        fs::rename(&dir, &away).expect("move the directory");
                        symlink(self.at("host"), &dir).expect("link");
                    }
                }),
            ),
            (
                "a link in the pod's place",
                Box::new(move || {
                    fs::rename(self.at("pod"), self.at("away")).expect("move the directory");
                    symlink("host", self.at("pod")).expect("link");
                }),
            ),
            (
                "a pipe on the way",
                Box::new(move || {
                    fs::rename(&dir, &away).expect("move the directory");
                    nix::unistd::mkfifo(&dir, Mode::S_IRWXU).expect("a pipe");
                }),
            ),
        ]
    }

    /// Takes away what was put in the way.
    fn clear(&self) {
        for (path, away) in [("pod", "away"), ("pod/c", "pod/away")] {
            if self.at(away).exists() {
                let _ = fs::remove_file(self.at(path));
                fs::rename(self.at(away), self.at(path)).expect("move the directory back");
            }
        }
        let log = self.at("pod/c/0.log");
        let _ = fs::remove_file(&log);
        let _ = fs::remove_dir(&log);
    }

    #[track_caller]
    fn is_untouched(&self) {
        for file in ["host/file", "host/0.log", "host/c/0.log"] {
            assert_eq!(fs::read_to_string(self.at(file)).expect("a file of the host's"), MARKER, "{file}");
        }
        assert!(!self.at("host/new").exists(), "a file was made");
    }
}

fn create(shim: &Shim<'_>, bundle: &Bundle, stdio: pod::Stdio) -> Result<pod::CreateResponse, Refused> {
    bundle.write();
    shim.client().call(POD, "Create", &pod::CreateRequest { stdio: Some(stdio), ..of(bundle) })
}

fn reopen(shim: &Shim<'_>, id: &str) -> Result<pod::Empty, Refused> {
    shim.client().call(POD, "ReopenLog", &pod::ReopenLogRequest { id: id.to_owned() })
}

/// Others in the pod go on as if nothing were.
#[track_caller]
fn neighbour_lives(shim: &Shim<'_>, neighbour: &Bundle, exec_id: &str) {
    let began = Instant::now();
    let exec = shell(neighbour.id(), exec_id, "exit 3");
    let _: pod::ExecResponse = shim.client().ask(POD, "Exec", &exec);
    assert_eq!(shim.end_of(&exec).ended.map(|ended| ended.exit_code), Some(3));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[test]
fn a_container_whose_log_is_no_file_of_its_own_is_not_created() {
    let case = case!();
    let shim = case.shim();
    let place = Place::new(&case);
    let (mut bundle, mut neighbour) = (case.bundle(), case.bundle());
    shim.start_sleeping(&mut neighbour);
    bundle.with_busybox().args(["/bin/sh", "-c", "echo mine"]);
    for (number, (what, put)) in place.obstacles().into_iter().enumerate() {
        put();
        let began = Instant::now();
        let refused = create(&shim, &bundle, place.stdio()).expect_err(what);
        assert!(began.elapsed() < SOON, "{what}: {:?}", began.elapsed());
        let log = place.at("pod/c/0.log");
        assert!(refused.message.contains(&format!("open log {}", log.display())), "{what}: {refused:?}");
        assert!(what == "a pipe on the way" || refused.code == DENIED, "{what}: {refused:?}");
        neighbour_lives(&shim, &neighbour, &format!("e{number}"));
        place.is_untouched();
        place.clear();
    }
    assert_eq!(shim.watch(0, 0).containers.len(), 1, "none of them is left");
    // With nothing in the way it is made, its directory, too.
    fs::remove_dir_all(place.at("pod")).expect("remove the directory");
    create(&shim, &bundle, place.stdio()).expect("nothing is in the way");
    shim.start(bundle.id());
    assert_eq!(shim.wait(bundle.id()).exit_code, 0);
    assert!(fs::read_to_string(place.at("pod/c/0.log")).expect("the log").ends_with(" stdout F mine\n"));
    shim.remove(bundle.id());
}

#[test]
fn what_takes_a_rotated_logs_place_is_not_opened_and_the_former_file_goes_on() {
    let case = case!();
    let shim = case.shim();
    let place = Place::new(&case);
    let mut neighbour = case.bundle();
    shim.start_sleeping(&mut neighbour);
    for (number, (what, put)) in place.obstacles().into_iter().enumerate() {
        let mut bundle = case.bundle();
        let script = "echo one; while [ ! -e /go ]; do sleep 0.02; done; echo two; exec sleep 1000";
        bundle.with_busybox().args(["/bin/sh", "-c", script]);
        create(&shim, &bundle, place.stdio()).expect("nothing is in the way");
        shim.start(bundle.id());
        // As a kubelet rotates.
        let rotated = place.at("rotated");
        fs::rename(place.at("pod/c/0.log"), &rotated).expect("rotate");
        put();
        let began = Instant::now();
        let refused = reopen(&shim, bundle.id()).expect_err(what);
        assert!(refused.message.contains("open log"), "{what}: {refused:?}");
        assert!(began.elapsed() < SOON, "{what}: {:?}", began.elapsed());
        fs::write(bundle.host_path("/go"), "").expect("tell it");
        until("the former file goes on", || {
            fs::read_to_string(&rotated).ok().filter(|text| text.ends_with(" stdout F two\n"))
        });
        neighbour_lives(&shim, &neighbour, &format!("e{number}"));
        assert_eq!(shim.stop(bundle.id(), 0).exit_code, 137, "{what}");
        shim.remove(bundle.id());
        assert!(began.elapsed() < SOON * 2, "{what}: {:?}", began.elapsed());
        place.is_untouched();
        place.clear();
        fs::remove_file(&rotated).expect("remove the rotated log");
    }
}

/// The kubelet's directory of all pods' logs may be a link to another disk.
#[test]
fn a_link_that_root_has_made_above_the_pods_directory_is_followed() {
    let case = case!();
    let shim = case.shim();
    let place = Place::new(&case);
    fs::create_dir(place.at("disk")).expect("make a directory");
    symlink(place.at("disk"), place.at("pods")).expect("link");
    let stdio = pod::Stdio {
        log_path: place.at("pods/pod/c/0.log").to_string_lossy().into_owned(),
        log_directory: place.at("pods/pod").to_string_lossy().into_owned(),
        ..Default::default()
    };
    let mut bundle = case.bundle();
    bundle.with_busybox().args(["/bin/sh", "-c", "echo one; exec sleep 1000"]);
    create(&shim, &bundle, stdio.clone()).expect("it is root's");
    shim.start(bundle.id());
    let log = place.at("disk/pod/c/0.log");
    until("it is logged", || fs::read_to_string(&log).ok().filter(|text| text.ends_with(" stdout F one\n")));
    fs::rename(&log, place.at("disk/pod/c/0.log.1")).expect("rotate");
    reopen(&shim, bundle.id()).expect("it is root's");
    assert!(log.exists());
    shim.stop(bundle.id(), 0);
    shim.remove(bundle.id());
    // The same link is refused when a user may have made it.
    std::os::unix::fs::lchown(place.at("pods"), Some(1234), None).expect("give it away");
    let refused = create(&shim, &bundle, stdio).expect_err("a link of a user's");
    assert_eq!(refused.code, DENIED, "{refused:?}");
}

#[test]
fn a_capped_log_begins_anew_beside_whatever_was_put_in_its_drafts_place() {
    let case = case!();
    let shim = case.shim();
    let place = Place::new(&case);
    for (number, draft) in ["a link", "a pipe", "a directory"].into_iter().enumerate() {
        let path = place.at("pod/c/0.log.new");
        match draft {
            "a link" => symlink(place.at("host/file"), &path).expect("link"),
            "a pipe" => nix::unistd::mkfifo(&path, Mode::S_IRWXU).expect("a pipe"),
            _ => fs::create_dir(&path).expect("a directory"),
        }
        let mut bundle = case.bundle();
        let script = format!("head -c 30000 /dev/zero | tr '\\0' '\\n'; exit {number}");
        bundle.with_busybox().args(["/bin/sh", "-c", &script]);
        create(&shim, &bundle, pod::Stdio { log_max_bytes: 100_000, ..place.stdio() })
            .expect("nothing is in the way");
        shim.start(bundle.id());
        assert_eq!(shim.wait(bundle.id()).exit_code, i32::try_from(number).expect("small"));
        shim.remove(bundle.id());
        until("the log is short", || {
            fs::metadata(place.at("pod/c/0.log")).ok().filter(|log| log.len() < 1_300_000)
        });
        place.is_untouched();
    }
}

#[test]
fn a_log_whose_directory_goes_is_written_on_and_made_anew() {
    let case = case!();
    let shim = case.shim();
    let place = Place::new(&case);
    let mut bundle = case.bundle();
    let script = "echo one; while [ ! -e /go ]; do sleep 0.02; done; echo two; exec sleep 1000";
    bundle.with_busybox().args(["/bin/sh", "-c", script]);
    create(&shim, &bundle, place.stdio()).expect("nothing is in the way");
    shim.start(bundle.id());
    until("it is logged", || {
        fs::read_to_string(place.at("pod/c/0.log")).ok().filter(|text| !text.is_empty())
    });
    fs::remove_dir_all(place.at("pod")).expect("remove the directory");
    reopen(&shim, bundle.id()).expect("it is made anew");
    fs::write(bundle.host_path("/go"), "").expect("tell it");
    until("it is logged", || {
        fs::read_to_string(place.at("pod/c/0.log")).ok().filter(|text| text.ends_with(" stdout F two\n"))
    });
    shim.stop(bundle.id(), 0);
    shim.remove(bundle.id());
}

/// Who has the directory exchanges file, link and pipe as fast as it can, while the log is opened again and again.
#[test]
fn a_race_for_the_logs_place_reaches_no_file_of_the_hosts() {
    let case = case!();
    let shim = case.shim();
    let place = Place::new(&case);
    let mut bundle = case.bundle();
    bundle.with_busybox().args(["/bin/sh", "-c", "while :; do echo mine; done"]);
    create(&shim, &bundle, place.stdio()).expect("nothing is in the way");
    shim.start(bundle.id());
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let (log, dir) = (place.at("pod/c/0.log"), place.at("pod/c"));
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = fs::remove_file(&log);
                let _ = symlink(place.at("host/file"), &log);
                let _ = fs::remove_file(&log);
                let _ = nix::unistd::mkfifo(&log, Mode::S_IRWXU);
                let _ = fs::remove_file(&log);
                let _ = fs::hard_link(place.at("host/file"), &log);
                let _ = fs::remove_file(&log);
                let _ = fs::rename(&dir, place.at("pod/away"));
                let _ = symlink(place.at("host/c"), &dir);
                let _ = fs::remove_file(&dir);
                let _ = fs::rename(place.at("pod/away"), &dir);
            }
        });
        let (mut opened, mut refused) = (0, 0);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(3) {
            match reopen(&shim, bundle.id()) {
                Ok(_) => opened += 1,
                Err(_) => refused += 1,
            }
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(opened > 0 && refused > 0, "{opened} opened, {refused} refused");
    });
    shim.stop(bundle.id(), 0);
    shim.remove(bundle.id());
    place.is_untouched();
}

#[test]
fn a_log_path_that_climbs_or_lies_elsewhere_is_refused() {
    let case = case!();
    let shim = case.shim();
    let place = Place::new(&case);
    let mut bundle = case.bundle();
    bundle.with_busybox().args(["/bin/true"]);
    let text = |path: &Path| path.to_string_lossy().into_owned();
    for path in [place.at("pod/../host/file"), place.at("host/file"), PathBuf::from("host/file"), "/".into()]
    {
        let stdio = pod::Stdio { log_path: text(&path), ..place.stdio() };
        assert_eq!(create(&shim, &bundle, stdio).expect_err("it is elsewhere").code, 3, "{}", path.display());
    }
    place.is_untouched();
}

/// `file://` of containerd's: the process gets the file itself.
#[test]
fn a_file_that_containerd_names_for_output_is_a_file_as_well() {
    use tests::shim::api::task;
    let case = case!();
    let shim = case.shim();
    let place = Place::new(&case);
    let mut bundle = case.bundle();
    bundle.with_busybox().args(["/bin/sh", "-c", "echo mine"]).write();
    let log = place.at("pod/c/0.log");
    let request = task::CreateTaskRequest {
        id: bundle.id().to_owned(),
        bundle: bundle.dir().to_string_lossy().into_owned(),
        stdout: format!("file://{}", log.display()),
        ..Default::default()
    };
    let create = || shim.client().call::<task::CreateTaskResponse>(tests::shim::TASK, "Create", &request);
    for (what, put) in place.obstacles() {
        // Without a directory that is the pod's, the file's own counts.
        if what == "a link in the pod's place" {
            continue;
        }
        put();
        let began = Instant::now();
        let refused = create().expect_err(what);
        assert!(began.elapsed() < SOON && refused.message.contains("open "), "{what}: {refused:?}");
        place.is_untouched();
        place.clear();
    }
    fs::File::create(&log).and_then(|mut log| log.write_all(b"before\n")).expect("a file of root's");
    create().expect("nothing is in the way");
    shim.start(bundle.id());
    assert_eq!(shim.wait(bundle.id()).exit_code, 0);
    assert_eq!(fs::read_to_string(&log).expect("the file"), "before\nmine\n");
    shim.remove(bundle.id());
}
