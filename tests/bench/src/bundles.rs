//! The bundles that are measured: an engine's, the same without seccomp, and a bare one.
//!
//! What engines write is a matter of fact (seven mounts, six namespaces, ten masks, five read-only paths); the files are made here.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A bundle's name and directory.
pub struct Bundle {
    pub name: &'static str,
    pub dir: PathBuf,
}

/// Makes all of them below `top`, sharing one root filesystem each of its own; `sleeper` is for operations on a running container.
pub fn make(top: &Path, busybox: &Path, seccomp: &Value) -> std::io::Result<Vec<Bundle>> {
    let engine = engine(seccomp);
    let mut plain = engine.clone();
    plain["linux"].as_object_mut().map(|linux| linux.remove("seccomp"));
    let mut sleeper = engine.clone();
    sleeper["process"]["args"] = json!(["/bin/sleep", "100000"]);
    let all = [("engine", engine), ("plain", plain), ("bare", bare()), ("sleeper", sleeper)];
    all.into_iter().map(|(name, config)| make_one(top, name, &config, busybox)).collect()
}

fn make_one(top: &Path, name: &'static str, config: &Value, busybox: &Path) -> std::io::Result<Bundle> {
    let dir = top.join(name);
    for part in ["bin", "dev", "proc", "sys", "etc"] {
        std::fs::create_dir_all(dir.join("rootfs").join(part))?;
    }
    for program in ["true", "sleep"] {
        std::fs::copy(busybox, dir.join("rootfs/bin").join(program))?;
    }
    std::fs::write(dir.join("config.json"), config.to_string())?;
    Ok(Bundle { name, dir })
}

/// Rewrites the config for another cgroup; done before the clock runs.
pub fn set_cgroup(bundle: &Bundle, path: &str) -> std::io::Result<()> {
    let file = bundle.dir.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    config["linux"]["cgroupsPath"] = json!(path);
    std::fs::write(file, config.to_string())
}

const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

fn process() -> Value {
    json!({
        "user": { "uid": 0, "gid": 0 },
        "args": ["/bin/true"],
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "cwd": "/",
        "capabilities": { "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES },
        "noNewPrivileges": true,
    })
}

fn engine(seccomp: &Value) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": process(),
        "root": { "path": "rootfs" },
        "hostname": "box",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
              "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
            { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
              "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] },
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }, { "type": "network" },
                { "type": "cgroup" },
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "seccomp": seccomp,
        },
    })
}

/// The least that is a container: four namespaces, /proc and /dev, nothing masked or filtered.
fn bare() -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": process(),
        "root": { "path": "rootfs" },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [{ "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }],
        },
    })
}
