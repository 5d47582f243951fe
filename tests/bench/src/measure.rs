//! Running the sides in turn and taking the times.
//!
//! It judges nothing: samples go to `table`.

use crate::bundles::{self, Bundle};
use crate::host;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Everything that was measured: (operation, side) → microseconds.
pub type Samples = BTreeMap<(&'static str, &'static str), Vec<f64>>;

/// What is compared: a runtime, or the floor.
pub struct Side {
    pub name: &'static str,
    pub path: PathBuf,
    /// Measured in every n-th round only, where a side takes long.
    pub every: usize,
}

/// Where the comparison takes place.
pub struct Arena {
    pub top: PathBuf,
    pub cgroup: String,
    pub bundles: Vec<Bundle>,
}

/// The operations in the order of the table.
pub const OPERATIONS: [&str; 13] = [
    "run",
    "run, no seccomp",
    "run, bare",
    "create",
    "start",
    "state",
    "exec",
    "pause",
    "resume",
    "delete -f",
    "delete",
    "--version",
    FILTER,
];

/// What `seccomp_cost` measures inside a process that has just started.
pub const FILTER: &str = "seccomp: build and load";

/// One sample of [`FILTER`]: the program prints nanoseconds to build, to build again and to load.
pub fn filter(program: &Path, profile: &Path, samples: &mut Samples) -> Result<(), String> {
    let output = Command::new(program).arg(profile).arg("--once").stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("run {}: {e}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let [build, _, load, _] = numbers[..] else {
        return Err(format!("{} printed {text:?}", program.display()));
    };
    samples.entry((FILTER, "rt")).or_default().push((build + load) / 1000.0);
    Ok(())
}

impl Arena {
    fn bundle(&self, name: &str) -> &Bundle {
        self.bundles.iter().find(|b| b.name == name).unwrap_or(&self.bundles[0])
    }

    fn cgroup_dir(&self) -> String {
        format!("/sys/fs/cgroup{}/floor", self.cgroup)
    }

    /// The side's own directory for its state.
    fn root(&self, side: &Side) -> PathBuf {
        self.top.join("state").join(side.name)
    }

    /// One call of a runtime.
    fn call(&self, side: &Side, args: &[&str]) -> Command {
        let mut command = Command::new(&side.path);
        command.arg("--root").arg(self.root(side)).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).current_dir(&self.top);
        command
    }

    /// `VERB -b BUNDLE ID`.
    fn call_bundle(&self, side: &Side, verb: &str, bundle: &str, id: &str) -> Command {
        let mut command = self.call(side, &[verb, "-b"]);
        command.arg(&self.bundle(bundle).dir).arg(id);
        command
    }

    fn floor(&self, side: &Side, verb: &str, bundle: &str) -> Command {
        let mut command = Command::new(&side.path);
        command.arg(verb).arg(self.bundle(bundle).dir.join("rootfs")).arg(self.cgroup_dir());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// A `run` of the bundle on this side.
    pub fn run_of(&self, side: &Side, bundle: &str) -> Command {
        match (side.name, bundle) {
            ("floor", "engine") => self.floor(side, "run", bundle),
            ("floor", other) => self.floor(side, other, other),
            _ => self.call_bundle(side, "run", bundle, "r"),
        }
    }

    /// One round of one side.
    pub fn round(&self, side: &Side, samples: &mut Samples) -> Result<(), String> {
        for (operation, bundle) in [("run", "engine"), ("run, no seccomp", "plain"), ("run, bare", "bare")] {
            self.time(operation, side, samples, self.run_of(side, bundle))?;
        }
        if side.name == "floor" {
            return Ok(());
        }
        self.time("--version", side, samples, self.call(side, &["--version"]))?;
        self.time("create", side, samples, self.call_bundle(side, "create", "sleeper", "s"))?;
        self.time("start", side, samples, self.call(side, &["start", "s"]))?;
        self.time("state", side, samples, self.call(side, &["state", "s"]))?;
        self.time("exec", side, samples, self.call(side, &["exec", "s", "/bin/true"]))?;
        self.time("pause", side, samples, self.call(side, &["pause", "s"]))?;
        self.time("resume", side, samples, self.call(side, &["resume", "s"]))?;
        self.time("delete -f", side, samples, self.call(side, &["delete", "-f", "s"]))?;
        self.stopped_delete(side, samples)
    }

    /// `delete` of a container whose process has ended.
    fn stopped_delete(&self, side: &Side, samples: &mut Samples) -> Result<(), String> {
        run(self.call_bundle(side, "create", "engine", "d"))?;
        run(self.call(side, &["start", "d"]))?;
        let events = format!("/sys/fs/cgroup{}/engine/cgroup.events", self.cgroup);
        let end = Instant::now() + Duration::from_secs(20);
        while std::fs::read_to_string(&events).is_ok_and(|text| text.contains("populated 1")) {
            if Instant::now() > end {
                return Err(format!("{}: /bin/true did not end", side.name));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        host::reap();
        self.time("delete", side, samples, self.call(side, &["delete", "d"]))
    }

    fn time(
        &self,
        operation: &'static str,
        side: &Side,
        samples: &mut Samples,
        command: Command,
    ) -> Result<(), String> {
        let time = run(command)?;
        samples.entry((operation, side.name)).or_default().push(time);
        host::reap();
        Ok(())
    }

    /// The peak resident size of `create` in kB, in a process tree of its own.
    pub fn create_rss(&self, side: &Side, meter: &Path) -> Result<u64, String> {
        let create = self.call_bundle(side, "create", "sleeper", "m");
        let mut measured = Command::new(meter);
        measured.arg("rss").arg(create.get_program()).args(create.get_args()).current_dir(&self.top);
        let file = self.top.join("rss");
        let to = std::fs::File::create(&file).map_err(|e| format!("make {}: {e}", file.display()))?;
        measured.stdin(Stdio::null()).stdout(Stdio::null()).stderr(to);
        run(measured)?;
        run(self.call(side, &["delete", "-f", "m"]))?;
        host::reap();
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.lines().last().and_then(|l| l.trim().parse().ok()).ok_or_else(|| format!("no size in {text:?}"))
    }

    /// System calls of a whole `run` as strace counts them, the container's own included.
    pub fn calls_of_run(&self, side: &Side) -> Option<u64> {
        let run = self.run_of(side, "engine");
        let file = self.top.join("strace");
        let mut strace = Command::new("strace");
        strace
            .args(["-f", "-c", "-o"])
            .arg(&file)
            .arg(run.get_program())
            .args(run.get_args())
            .current_dir(&self.top);
        strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = strace.status().ok()?;
        host::reap();
        let text = std::fs::read_to_string(&file).ok().filter(|_| status.success())?;
        // The last line: percent, seconds, microseconds a call, calls, errors, `total`.
        text.lines().rev().find(|l| l.trim_end().ends_with("total"))?.split_whitespace().nth(3)?.parse().ok()
    }

    /// Many runs in a row; each one's time.
    pub fn in_a_row(&self, side: &Side, count: usize) -> Result<Vec<f64>, String> {
        (0..count).map(|_| run(self.run_of(side, "engine"))).collect()
    }

    /// Removes what a side left, whatever happened.
    pub fn clean(&self, side: &Side) {
        for id in ["r", "s", "d", "m"] {
            let mut command = self.call(side, &["delete", "-f", id]);
            let _ = command.stderr(Stdio::null()).status();
        }
        host::reap();
    }

    /// Gives every bundle a cgroup of its own.
    pub fn name_cgroups(&self) -> std::io::Result<()> {
        self.bundles.iter().try_for_each(|b| bundles::set_cgroup(b, &format!("{}/{}", self.cgroup, b.name)))
    }
}

/// Runs it and gives the microseconds it took; anything but success is an error.
fn run(mut command: Command) -> Result<f64, String> {
    let begin = Instant::now();
    let status = command.status();
    let time = begin.elapsed();
    match status {
        Ok(status) if status.success() => Ok(time.as_secs_f64() * 1e6),
        Ok(status) => Err(format!("{command:?}: {status}")),
        Err(e) => Err(format!("{command:?}: {e}")),
    }
}
