//! Logs in a directory that a pod has its hands on: by a volume of the host's directory for logs, a container puts something else in a log's
//! place. No file of the host's is written to, and the pod is stopped and removed as ever.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use tests::cri::api::v1;
use tests::until;

use crate::surroundings;

const MARKER: &str = "of the host\n";
/// How long a call takes at most that waits for nobody.
const SOON: Duration = Duration::from_secs(15);

fn is_untouched(host: &Path) {
    let entries = fs::read_dir(host).expect("the host's directory").count();
    let text = fs::read_to_string(host.join("0.log")).expect("the host's file");
    assert_eq!((text.as_str(), entries), (MARKER, 1));
}

fn directory(path: PathBuf) -> PathBuf {
    fs::create_dir_all(&path).expect("make a directory");
    path
}

#[test]
fn what_a_pod_puts_in_a_logs_place_reaches_no_file_of_the_hosts() {
    let here = surroundings!();
    let host = directory(here.case().dir().join("host"));
    fs::write(host.join("0.log"), MARKER).expect("write the host's file");
    let pod = here.pod("led").run();
    let place = pod.logs();
    let log = directory(place.join("file")).join("0.log");
    type Put<'a> = (&'a str, Box<dyn Fn() + 'a>);
    let obstacles: [Put<'_>; 4] = [
        ("file/0.log", Box::new(|| symlink(host.join("0.log"), &log).expect("link"))),
        ("file/0.log", Box::new(|| nix::unistd::mkfifo(&log, Mode::S_IRWXU).expect("a pipe"))),
        ("file/0.log", Box::new(|| fs::hard_link(host.join("0.log"), &log).expect("link"))),
        ("way/0.log", Box::new(|| symlink(&host, place.join("way")).expect("link"))),
    ];
    for (number, (path, put)) in obstacles.into_iter().enumerate() {
        put();
        let began = Instant::now();
        let mut container = pod.script(&format!("c{number}"), "echo mine");
        container.config["log_path"] = path.into();
        container.refused(&["open log", path]);
        assert!(began.elapsed() < SOON, "{path}: {:?}", began.elapsed());
        let _ = fs::remove_file(&log);
        is_untouched(&host);
    }
    // A directory that is missing is made, by a way that has no link.
    let mut container = pod.script("made", "echo mine");
    container.config["log_path"] = "new/deep/0.log".into();
    let container = container.run();
    container.wait();
    assert!(container.log().ends_with(" stdout F mine\n"), "{}", container.log());
    let began = Instant::now();
    here.crictl(["rmp", "--force", pod.id()]).run().ok();
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    is_untouched(&host);
}

#[test]
fn a_rotated_log_is_not_opened_anew_as_something_else() {
    let here = surroundings!();
    let host = directory(here.case().dir().join("host"));
    fs::write(host.join("0.log"), MARKER).expect("write the host's file");
    let pod = here.pod("rotated").run();
    let (way, away) = (pod.logs().join("way"), pod.logs().join("away"));
    let log = way.join("0.log");
    let mut container = pod.script("c", "while :; do echo mine; sleep 0.05; done");
    container.config["log_path"] = "way/0.log".into();
    let container = container.run();
    let client = here.client();
    let reopen = || {
        let request = v1::ReopenContainerLogRequest { container_id: container.id().to_owned() };
        client.ask::<v1::ReopenContainerLogResponse>("RuntimeService/ReopenContainerLog", &request)
    };
    let began = Instant::now();
    let old = way.join("0.log.1");
    until("it is logged", || fs::metadata(&log).ok().filter(|log| log.len() > 0));
    fs::rename(&log, &old).expect("rotate");
    nix::unistd::mkfifo(&log, Mode::S_IRWXU).expect("a pipe");
    reopen().expect_err("a pipe");
    fs::remove_file(&log).expect("remove it");
    symlink(host.join("0.log"), &log).expect("link");
    reopen().expect_err("a link");
    fs::remove_file(&log).expect("remove it");
    fs::rename(&way, &away).expect("move the directory");
    symlink(&host, &way).expect("link");
    reopen().expect_err("a link on the way");
    fs::remove_file(&way).expect("remove it");
    fs::rename(&away, &way).expect("move it back");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    // The former file has gone on, and the next is a file again.
    reopen().expect("nothing is in the way");
    until("it is logged", || fs::metadata(&log).ok().filter(|log| log.len() > 0));
    let began = Instant::now();
    here.crictl(["rmp", "--force", pod.id()]).run().ok();
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    is_untouched(&host);
}
