//! A root filesystem that another container exchanges while this one is made: directories on the way of everything that the runtime makes,
//! covers or enters become symbolic links, and directories again, as fast as it goes.
//!
//! The runtime may refuse, or get through. Nothing of the host is touched, and in whatever starts the masks are where they should be.
//! `RT_SOAK_SECONDS` makes each kind that long.

use std::time::{Duration, Instant};
use tests::*;

const USUAL: u64 = 3;

/// A race: what is exchanged, in a bundle that has been made for it.
struct Race<'a> {
    case: &'a Case,
    victim: Victim<'a>,
    bundle: Bundle,
    /// Pairs of paths in the root filesystem.
    pairs: Vec<(String, String)>,
    /// Paths that must not be there in the container.
    absent: Vec<String>,
}

/// What came of it.
#[derive(Default)]
struct Outcome {
    tried: usize,
    started: usize,
    hits: Vec<String>,
}

impl<'a> Race<'a> {
    fn new(case: &'a Case) -> Self {
        let bundle = case.bundle();
        Self { case, victim: Victim::new(case), bundle, pairs: Vec::new(), absent: Vec::new() }
    }

    /// The directory at `path` is exchanged with links, at `path` and a number, to these places.
    fn exchange(&mut self, path: &str, links: &[&str]) {
        self.bundle.directory(path);
        for (number, link) in links.iter().enumerate() {
            let other = format!("{path}.{number}");
            self.bundle.link(&other, link);
            self.pairs.push((path.to_owned(), other));
        }
    }

    /// The same with everywhere that one would like to lead the runtime to.
    fn exchange_with_all(&mut self, path: &str) {
        let outside = self.victim.outside().display().to_string();
        let up = format!("../../../../../../../../../..{outside}");
        let links = ["/", "/proc", "/proc/self/fd/7", "/proc/1/root", "/proc/self/cwd", &outside, &up];
        self.exchange(path, &links);
    }

    /// Another container, with the root filesystem as a volume, exchanges while `start` starts containers.
    #[track_caller]
    fn run(mut self, start: impl Fn(&Victim<'_>, &Bundle) -> Output) -> Outcome {
        let time = seconds(USUAL);
        let mut racer = self.case.bundle();
        racer.bind(&self.bundle.host_path("/"), "/victim", &[]);
        let mut args = vec!["/probe".to_owned(), "exchange".to_owned(), time.to_string()];
        args.extend(self.pairs.iter().flat_map(|(a, b)| [format!("/victim{a}"), format!("/victim{b}")]));
        racer.config["process"]["args"] = json!(args);
        if self.bundle.config["process"]["args"][1] == "report" {
            let names = self.pairs.iter().flat_map(|(a, b)| [a.clone(), b.clone()]);
            let names = names.chain(self.absent.iter().map(|path| format!("!{path}")));
            let args = ["/probe".to_owned(), "guard".to_owned(), self.victim.marker()];
            self.bundle.config["process"]["args"] = json!(args.into_iter().chain(names).collect::<Vec<_>>());
        }
        let racer = self.case.start(&racer);
        racer.wait_for_output("exchanging");
        let mut outcome = Outcome::default();
        let end = Instant::now() + Duration::from_secs(time);
        while Instant::now() < end {
            let output = start(&self.victim, &self.bundle);
            outcome.tried += 1;
            outcome.started += usize::from(output.stdout.contains("guarded"));
            outcome.hits.extend(
                output
                    .stdout
                    .lines()
                    .filter(|line| line.starts_with("hit"))
                    .map(|line| line.trim_end().to_owned()),
            );
        }
        let said = until("the racer ends", || Some(racer.stdout()).filter(|said| said.contains(" times")));
        self.victim.is_unharmed();
        let turns =
            said.lines().find_map(|line| line.strip_prefix("exchanged ")?.split(' ').next()?.parse().ok());
        assert!(turns > Some(100), "it hardly raced: {said}{}", racer.stderr());
        outcome
    }

    /// The usual way: `run` to its end.
    #[track_caller]
    fn holds(self) {
        self.run(|victim, bundle| victim.run(bundle)).holds();
    }
}

impl Outcome {
    #[track_caller]
    fn holds(mut self) {
        let count = self.hits.len();
        self.hits.sort();
        self.hits.dedup();
        assert!(
            self.hits.is_empty(),
            "{} tried, {} started, {count} hits:\n{}",
            self.tried,
            self.started,
            self.hits.join("\n")
        );
        assert!(self.started > 0, "none of {} started: nothing was seen", self.tried);
    }
}

fn without_mounts(bundle: &mut Bundle, path: &str) {
    let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
    mounts.retain(|mount| {
        !mount["destination"].as_str().is_some_and(|to| to == path || to.starts_with(&format!("{path}/")))
    });
}

#[test]
fn mount_target_in_a_race_stays_inside() {
    let case = case!();
    let mut race = Race::new(&case);
    race.exchange_with_all("/way");
    race.exchange("/way/in", &["/", "..", "/proc/self/attr"]);
    race.bundle
        .mount(json!({ "destination": "/way/in/deep", "type": "tmpfs", "source": "t", "options": [] }));
    race.holds();
}

#[test]
fn volume_target_in_a_race_stays_inside() {
    let case = case!();
    let mut race = Race::new(&case);
    let volume = case.dir().join("volume");
    std::fs::create_dir(&volume).expect("make a directory");
    std::fs::write(volume.join("file"), "").expect("write");
    race.exchange_with_all("/way");
    race.bundle.bind(&volume, "/way/in/deep", &[]).bind(&volume.join("file"), "/way/file", &[]);
    race.holds();
}

#[test]
fn proc_in_a_race_is_masked() {
    let case = case!();
    let mut race = Race::new(&case);
    race.exchange_with_all("/proc");
    race.holds();
}

#[test]
fn sys_in_a_race_is_masked() {
    let case = case!();
    let mut race = Race::new(&case);
    race.exchange("/sys", &["/tmp", "/proc", "/"]);
    race.holds();
}

#[test]
fn devices_in_a_race_stay_inside() {
    let case = case!();
    let mut race = Race::new(&case);
    race.exchange_with_all("/nodes");
    race.bundle.config["linux"]["devices"] = json!([
        { "path": "/nodes/fuse", "type": "c", "major": 10, "minor": 229 },
        { "path": "/nodes/in/deep/fuse", "type": "c", "major": 10, "minor": 229 },
    ]);
    race.holds();
}

#[test]
fn dev_in_a_race_stays_inside() {
    let case = case!();
    let mut race = Race::new(&case);
    without_mounts(&mut race.bundle, "/dev");
    race.exchange_with_all("/dev");
    race.holds();
}

#[test]
fn console_in_a_race_stays_inside() {
    let case = case!();
    let mut race = Race::new(&case);
    without_mounts(&mut race.bundle, "/dev");
    race.bundle.mount(json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] }));
    race.bundle.directory("/dev/pts");
    race.exchange_with_all("/dev");
    race.bundle.config["process"]["terminal"] = json!(true);
    let outcome = race.run(|victim, bundle| {
        bundle.write();
        let (mut ours, theirs) = terminal::pair(24, 200);
        let call = victim.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id());
        let mut output = call.terminal(theirs).run();
        output.stdout = ours.read_until("guarded");
        output
    });
    outcome.holds();
}

#[test]
fn working_directory_in_a_race_stays_inside() {
    let case = case!();
    let mut race = Race::new(&case);
    race.bundle.directory("/work/in/deep");
    race.exchange_with_all("/work");
    race.exchange("/work/in", &["/proc/self/fd/9", "/proc/sys", "/sys"]);
    race.bundle.config["process"]["cwd"] = json!("/work/in/deep");
    race.holds();
}

#[test]
fn working_directory_that_is_made_in_a_race_stays_inside() {
    let case = case!();
    let mut race = Race::new(&case);
    race.exchange_with_all("/work");
    race.bundle.config["process"]["cwd"] = json!("/work/made");
    race.holds();
}

#[test]
fn what_a_tmpfs_begins_with_is_not_the_hosts() {
    let case = case!();
    let mut race = Race::new(&case);
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
    nix::unistd::mkfifo(&race.bundle.host_path("/fifo"), mode).expect("make a FIFO");
    race.bundle.file("/copy/outside/file", "text").file("/copy/outside/below/file", "text");
    let dir = case.dir().display().to_string();
    let up = format!("../../../../../../../../../..{dir}");
    race.exchange("/copy", &[&dir, &up, "/proc/1/root", "/proc/self/fd/7"]);
    race.exchange("/copy/outside/below", &[&dir, "/"]);
    race.pairs.push(("/copy/outside/file".to_owned(), "/fifo".to_owned()));
    race.bundle.mount(
        json!({ "destination": "/copy/outside", "type": "tmpfs", "source": "t", "options": ["tmpcopyup"] }),
    );
    race.absent = ["/copy/outside/secret", "/copy/outside/program"].map(str::to_owned).to_vec();
    race.holds();
}

#[test]
fn notify_socket_in_a_race_stays_inside() {
    only_rt!("the others do it in other ways");
    let case = case!();
    let mut race = Race::new(&case);
    let path = case.dir().join("host-notify.sock");
    let _socket = std::os::unix::net::UnixDatagram::bind(&path).expect("bind a socket");
    race.exchange_with_all("/run");
    let outcome = race.run(|victim, bundle| {
        bundle.write();
        let call = victim.call(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id());
        call.env("NOTIFY_SOCKET", &path.to_string_lossy()).run()
    });
    outcome.holds();
}

#[test]
fn program_in_a_race_is_not_the_hosts() {
    let case = case!();
    let mut race = Race::new(&case);
    race.bundle.with_busybox();
    race.bundle.file("/programs/program", "#!/bin/sh\nexit 0\n").mode("/programs/program", 0o755);
    let ways: Vec<String> = (3..12)
        .map(|fd| format!("/proc/self/fd/{fd}/../../../../../../../../..{}", race.victim.outside().display()))
        .collect();
    race.exchange("/programs", &ways.iter().map(String::as_str).collect::<Vec<_>>());
    race.bundle.args(["/programs/program", "hit"]);
    let outcome = race.run(|victim, bundle| {
        let mut output = victim.run(bundle);
        if output.code() == 0 {
            output.stdout.push_str("guarded");
        }
        output
    });
    outcome.holds();
}

#[test]
fn masked_and_read_only_paths_in_a_race_cover_nothing_of_the_host() {
    let case = case!();
    let mut race = Race::new(&case);
    race.bundle.file("/masked/in/deep", "text");
    race.exchange_with_all("/masked");
    race.exchange("/masked/in", &["/", "/proc/self/fd/7"]);
    race.bundle.config["linux"]["maskedPaths"].as_array_mut().expect("a list").push(json!("/masked/in/deep"));
    race.bundle.config["linux"]["readonlyPaths"].as_array_mut().expect("a list").push(json!("/masked/in"));
    race.holds();
}
