//! `shim-bench`: what one shim and its pod cost without a manager: the throughput of a container's log into a tmpfs, beside a plain copy
//! loop of the same format in the same run. Called by `hack/bench shim`, which prints its lines; task calls through containerd are
//! timed by `hack/peers/tasks`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount, umount};
use tests::shim::Shim;
use tests::shim::api::pod;
use tests::{Case, json, probe};

const USAGE: &str = "shim-bench LOG-FLOOR ROUNDS";
/// Printed in each round.
const BYTES: usize = 512 << 20;
/// What is asked for, in bytes a second, or this part of what the copy loop does.
const WANTED: f64 = 300e6;
const PART: f64 = 0.8;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let floor = args.next().map(PathBuf::from);
    let rounds = args.next().and_then(|rounds| rounds.to_str()?.parse::<usize>().ok());
    let (Some(floor), Some(rounds @ 1..)) = (floor, rounds) else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    let case = Case::new("shim::bench");
    let place = case.dir().join("logs");
    std::fs::create_dir(&place).expect("make a directory");
    let size = Some("size=2g");
    mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::empty(), size).expect("mount a tmpfs");
    let (mut ours, mut copied) = (Vec::new(), Vec::new());
    {
        let shim = case.shim();
        for _ in 0..rounds {
            ours.push(logged(&case, &shim, &place.join("ours")));
            copied.push(copy(&floor, &place.join("floor")));
        }
    }
    umount(&place).expect("umount the tmpfs");
    report(&mut ours, &mut copied);
    ExitCode::SUCCESS
}

fn report(ours: &mut [f64], copied: &mut [f64]) {
    let [ours, copied] = [ours, copied].map(|rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    let (least, megabyte) = (WANTED.min(copied * PART), 1e6);
    let figures = json!({
        "what": "log, bytes a second", "ours": ours.round(), "copy loop": copied.round(),
        "target": least.round(), "met": ours >= least,
    });
    eprintln!("{figures}");
    println!(
        "| a container's log, lines of 100 bytes into tmpfs | {:.0} MB/s | copy loop: {:.0} MB/s | at least {:.0} MB/s | {} |",
        ours / megabyte,
        copied / megabyte,
        least / megabyte,
        if ours >= least { "met" } else { "**missed**" },
    );
}

/// Bytes a second from the container's start until all is in the log, as the end is told only then.
fn logged(case: &Case, shim: &Shim<'_>, log: &Path) -> f64 {
    let mut bundle = case.bundle();
    bundle.args(["/probe", "print-lines", &BYTES.to_string()]);
    let log_path = log.to_string_lossy().into_owned();
    shim.create_with(&bundle, pod::Stdio { log_path, ..Default::default() });
    let begin = Instant::now();
    shim.start(bundle.id());
    assert_eq!(shim.wait(bundle.id()).exit_code, 0);
    let took = begin.elapsed();
    shim.remove(bundle.id());
    rate(log, took)
}

/// The same lines from the same program.
fn copy(floor: &Path, log: &Path) -> f64 {
    let begin = Instant::now();
    let mut printer = Command::new(probe())
        .args(["print-lines", &BYTES.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("run the probe");
    let stdin = printer.stdout.take().expect("its stdout");
    let copied = Command::new(floor).arg(log).stdin(stdin).status().expect("run the copy loop");
    let took = begin.elapsed();
    assert!(copied.success() && printer.wait().is_ok_and(|status| status.success()));
    rate(log, took)
}

/// All lines must be there; what was printed counts, not what was written.
fn rate(log: &Path, took: Duration) -> f64 {
    let line = 140;
    let length = File::open(log).and_then(|log| log.metadata()).expect("the log").len();
    assert!(length / line * 100 >= BYTES as u64 && length.is_multiple_of(line), "{length} bytes in the log");
    std::fs::remove_file(log).expect("remove the log");
    (length / line * 100) as f64 / took.as_secs_f64()
}
