//! `bench`: rt against crun, runc and the kernel's floor, in turn on the same bundles; a table with the targets at the end.
//!
//! It builds and installs nothing: `hack/bench` brings the programs.

mod bundles;
#[path = "sys/host.rs"]
mod host;
mod measure;
mod table;

use measure::{Arena, Samples, Side};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use table::{Figures, Results};

const USAGE: &str = "bench --floor PATH --rt PATH [--crun PATH] [--runc PATH] --busybox PATH --seccomp FILE \
    [--seccomp-cost PATH] [--rounds N] [--row N] [--json FILE]";

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("bench: {message}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// What the command line says.
struct Options(BTreeMap<String, String>);

impl Options {
    fn parse() -> Result<Self, String> {
        let mut args = std::env::args().skip(1);
        let mut found = BTreeMap::new();
        while let Some(name) = args.next() {
            let known = USAGE.split_whitespace().any(|word| word.trim_start_matches('[') == name);
            let value = args.next().filter(|_| known && name.starts_with("--")).ok_or(USAGE)?;
            found.insert(name, value);
        }
        Ok(Self(found))
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.0.get(name).map(PathBuf::from)
    }

    fn need(&self, name: &str) -> Result<PathBuf, String> {
        self.path(name).ok_or_else(|| format!("{name} is missing; {USAGE}"))
    }

    fn number(&self, name: &str, default: usize) -> Result<usize, String> {
        self.0.get(name).map_or(Ok(default), |n| n.parse().map_err(|_| format!("{name} {n}: not a number")))
    }
}

fn run() -> Result<(), String> {
    let options = Options::parse()?;
    let sides = sides(&options)?;
    let rounds = options.number("--rounds", 100)?;
    let row = options.number("--row", 1000)?;
    let arena = arena(&options)?;
    let outcome = compare(&arena, &sides, rounds, row).and_then(|mut results| {
        if let Some(program) = options.path("--seccomp-cost") {
            let profile = options.need("--seccomp")?;
            (0..3 * rounds).try_for_each(|_| measure::filter(&program, &profile, &mut results.samples))?;
        }
        Ok(results)
    });
    sides.iter().filter(|s| s.name != "floor").for_each(|side| arena.clean(side));
    remove(&arena);
    let results = outcome?;
    if let Some(file) = options.path("--json") {
        std::fs::write(&file, format!("{:#}\n", results.json()))
            .map_err(|e| format!("write {}: {e}", file.display()))?;
    }
    print!("{}", results.markdown());
    Ok(())
}

fn sides(options: &Options) -> Result<Vec<Side>, String> {
    let mut sides = vec![
        Side { name: "floor", path: options.need("--floor")?, every: 1 },
        Side { name: "rt", path: options.need("--rt")?, every: 1 },
    ];
    for (name, option, every) in [("crun", "--crun", 1), ("runc", "--runc", 3)] {
        if let Some(path) = options.path(option) {
            sides.push(Side { name, path, every });
        }
    }
    Ok(sides)
}

fn arena(options: &Options) -> Result<Arena, String> {
    let seccomp = options.need("--seccomp")?;
    let text = std::fs::read_to_string(&seccomp).map_err(|e| format!("read {}: {e}", seccomp.display()))?;
    let profile = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", seccomp.display()))?;
    host::adopt_orphans();
    host::private_mounts().map_err(|e| format!("leave the host's mounts (as root?): {e}"))?;
    if !host::is_cgroup2("/sys/fs/cgroup") {
        host::mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0).map_err(|e| format!("mount cgroup2: {e}"))?;
    }
    let name = format!("rt-bench.{}", std::process::id());
    let top = std::env::temp_dir().join(&name);
    std::fs::create_dir_all(&top).map_err(|e| format!("make {}: {e}", top.display()))?;
    // Memory, as /run is: no side's state or bundle meets a disk.
    host::mount("bench", &top.to_string_lossy(), "tmpfs", 0).map_err(|e| format!("mount a tmpfs: {e}"))?;
    let cgroup = format!("/{name}");
    std::fs::create_dir_all(format!("/sys/fs/cgroup{cgroup}")).map_err(|e| format!("make a cgroup: {e}"))?;
    let bundles = bundles::make(&top, &options.need("--busybox")?, &profile)
        .map_err(|e| format!("make bundles: {e}"))?;
    let arena = Arena { top, cgroup, bundles };
    arena.name_cgroups().map_err(|e| format!("write configs: {e}"))?;
    Ok(arena)
}

fn remove(arena: &Arena) {
    host::reap();
    let cgroup = format!("/sys/fs/cgroup{}", arena.cgroup);
    for entry in std::fs::read_dir(&cgroup).into_iter().flatten().flatten() {
        let _ = std::fs::remove_dir(entry.path());
    }
    let _ = std::fs::remove_dir(&cgroup);
    // The tmpfs over it ends with this process; what is below is an empty directory.
    let below = arena.top.clone();
    let _ = std::process::Command::new("umount").arg("-l").arg(&below).status();
    let _ = std::fs::remove_dir(&below);
}

fn compare(arena: &Arena, sides: &[Side], rounds: usize, row: usize) -> Result<Results, String> {
    let mut samples = Samples::new();
    for side in sides {
        // Caches of files and of compiled filters are filled before the clock counts.
        let mut warm = Samples::new();
        for _ in 0..3 {
            arena.round(side, &mut warm)?;
        }
    }
    for round in 0..rounds {
        if round % 10 == 0 {
            eprintln!("round {round} of {rounds}");
        }
        // Another side begins each time: nobody always comes after the same neighbour.
        for turn in 0..sides.len() {
            let side = &sides[(round + turn) % sides.len()];
            if round % side.every == 0 {
                arena.round(side, &mut samples)?;
            }
        }
    }
    Ok(Results {
        samples,
        counts: counts(arena, sides)?,
        row: in_a_row(arena, sides, row)?,
        machine: machine(),
        versions: versions(sides),
    })
}

fn in_a_row(arena: &Arena, sides: &[Side], count: usize) -> Result<Option<(usize, f64, f64)>, String> {
    let Some(rt) = sides.iter().find(|side| side.name == "rt") else { return Ok(None) };
    if count < 200 {
        return Ok(None);
    }
    eprintln!("{count} runs in a row");
    let times = arena.in_a_row(rt, count)?;
    let (first, last) = (Figures::of(&times[..100]), Figures::of(&times[count - 100..]));
    Ok(first.zip(last).map(|(first, last)| (count, first.median, last.median)))
}

fn counts(arena: &Arena, sides: &[Side]) -> Result<BTreeMap<(&'static str, &'static str), u64>, String> {
    let mut counts = BTreeMap::new();
    let floor: &Path = &sides[0].path;
    for side in sides {
        if let Some(calls) = arena.calls_of_run(side) {
            counts.insert(("system calls of run", side.name), calls);
        }
        if side.name != "floor" {
            counts.insert(("peak RSS of create", side.name), arena.create_rss(side, floor)?);
        }
        let size = std::fs::metadata(&side.path).map_err(|e| format!("{}: {e}", side.path.display()))?.len();
        counts.insert(("size of the program", side.name), size);
    }
    Ok(counts)
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches([' ', '\t', ':']);
    let count = cpus.lines().filter(|l| l.starts_with("processor")).count();
    format!("{count} × {model}, kernel {}", read("/proc/sys/kernel/osrelease").trim())
}

fn versions(sides: &[Side]) -> Vec<(&'static str, String)> {
    let version = |side: &Side| -> Option<String> {
        let output = std::process::Command::new(&side.path).arg("--version").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        text.split_whitespace().nth(2).map(str::to_owned)
    };
    sides.iter().filter(|s| s.name != "floor").map(|s| (s.name, version(s).unwrap_or_default())).collect()
}
