//! `rt-cri check`: what this host has of what pods need, with the cure for what it lacks. It changes nothing.

use std::fmt::Write;
use std::path::Path;

use crate::config::Config;
use crate::error::Result;
use crate::network::Network;
use crate::oci::{DEFAULT_PROFILE, Driver};
use crate::server::program;
use crate::{host, paths};

/// What came of one look.
struct Finding {
    what: &'static str,
    /// What is there, or what is lacking and what to do about it.
    found: std::result::Result<String, String>,
    /// Whether pods can do without.
    is_needed: bool,
}

/// All findings as text, and whether nothing that is needed is lacking.
pub fn report(config: &Config) -> Result<(String, bool)> {
    let findings = [
        kernel(),
        cgroup(),
        controllers(),
        overlay(),
        programs(config),
        shims(config)?,
        network(config)?,
        driver(config),
        users(),
        apparmor(),
    ];
    let mut text = String::new();
    let mut is_fit = true;
    for finding in findings {
        let (word, detail) = match (&finding.found, finding.is_needed) {
            (Ok(found), _) => ("ok", found),
            (Err(lack), true) => ("LACKING", lack),
            (Err(lack), false) => ("limited", lack),
        };
        is_fit &= word != "LACKING";
        // A String takes what is written.
        let _ = writeln!(text, "{word:<8} {:<20} {detail}", finding.what);
    }
    Ok((text, is_fit))
}

fn kernel() -> Finding {
    let (major, minor) = host::kernel();
    let found = format!("{major}.{minor}");
    let found = if (major, minor) >= (5, 14) {
        Ok(found)
    } else {
        Err(format!("{found}: 5.14 is the oldest that works; boot a newer one"))
    };
    Finding { what: "kernel", found, is_needed: true }
}

fn cgroup() -> Finding {
    let found = host::cgroup_mount().map(|path| format!("cgroup2 at {}", path.display()));
    let found = found.ok_or_else(|| {
        "no cgroup2: `mount -t cgroup2 none /sys/fs/cgroup`, or boot with systemd.unified_cgroup_hierarchy=1".to_owned()
    });
    Finding { what: "cgroups", found, is_needed: true }
}

fn controllers() -> Finding {
    let list =
        host::cgroup_mount().and_then(|root| std::fs::read_to_string(root.join("cgroup.controllers")).ok());
    let list = list.unwrap_or_default();
    let there: Vec<&str> = list.split_whitespace().collect();
    let lacking: Vec<&str> =
        ["cpu", "cpuset", "io", "memory", "pids"].into_iter().filter(|name| !there.contains(name)).collect();
    let found = if lacking.is_empty() {
        Ok(there.join(", "))
    } else {
        Err(format!(
            "no {}: limits that need one are errors; boot with cgroup_no_v1=all, or set `cgroup.missing = \"ignore\"`",
            lacking.join(", ")
        ))
    };
    Finding { what: "cgroup controllers", found, is_needed: false }
}

fn overlay() -> Finding {
    let list = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let is_there = list.lines().any(|line| line.split_whitespace().last() == Some("overlay"));
    let found =
        if is_there { Ok("there".to_owned()) } else { Err("no overlayfs: `modprobe overlay`".to_owned()) };
    Finding { what: "overlay", found, is_needed: true }
}

fn programs(config: &Config) -> Finding {
    let mut paths = vec![config.shim.path.as_path()];
    paths.extend(config.runtimes.values().map(|runtime| runtime.path.as_path()));
    let found = paths
        .into_iter()
        .map(|path| program(path).map(|path| path.display().to_string()))
        .collect::<Result<Vec<_>>>();
    let found = found.map(|found| found.join(", ")).map_err(|error| error.to_string());
    Finding { what: "shim and runtimes", found, is_needed: true }
}

fn shims(config: &Config) -> Result<Finding> {
    let (score, clamped) = host::shims::score(&host::look(config)?);
    let place = host::shims::cgroup();
    let found = match (&place, &clamped) {
        (Ok(path), None) => Ok(format!("live in {}, oom_score_adj {score}", path.display())),
        (Ok(_), Some(clamped)) => Err(format!("oom_score_adj {clamped}")),
        (Err(why), None) => Err(format!("share the server's cgroup: {why}")),
        (Err(why), Some(clamped)) => {
            Err(format!("share the server's cgroup: {why}; oom_score_adj {clamped}"))
        }
    };
    Ok(Finding { what: "shims", found, is_needed: false })
}

fn network(config: &Config) -> Result<Finding> {
    // Of its own place, so that a server that runs is not disturbed.
    let place = std::env::temp_dir().join(format!("rt-cri-check-{}", paths::new_id()?));
    let found = Network::open(&config.cni, &place).map_err(|error| error.to_string()).and_then(|network| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("start a thread: {error}"))?;
        runtime.block_on(network.status()).map_err(|error| error.to_string())?;
        Ok(network.in_force())
    });
    paths::remove_dir(&place)?;
    Ok(Finding { what: "pod network", found, is_needed: false })
}

fn driver(config: &Config) -> Finding {
    let found = match host::driver(config.cgroup.driver) {
        Driver::Cgroupfs => "cgroupfs",
        Driver::Systemd => "systemd",
    };
    Finding { what: "cgroup driver", found: Ok(found.to_owned()), is_needed: true }
}

fn apparmor() -> Finding {
    let found = match host::apparmor::look() {
        None => Ok("not enabled in this kernel".to_owned()),
        Some(there) if there.lacking.is_none() => Ok(format!("{} is loaded", DEFAULT_PROFILE)),
        Some(there) if there.profiles.is_none() => Err(there.lacking.unwrap_or_default()),
        Some(_) => match host::apparmor::parser() {
            Ok(parser) => Ok(format!("the server will load {} by {}", DEFAULT_PROFILE, parser.display())),
            Err(error) => Err(format!("containers will not be confined by it: {error}")),
        },
    };
    Finding { what: "AppArmor", found, is_needed: false }
}

fn users() -> Finding {
    let is_there = Path::new("/proc/self/ns/user").exists() && host::kernel() >= (5, 19);
    let found = if is_there {
        Ok("there, with idmapped mounts".to_owned())
    } else {
        Err("pods with user namespaces need 5.19".to_owned())
    };
    Finding { what: "user namespaces", found, is_needed: false }
}
