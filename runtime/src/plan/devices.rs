//! The nodes and links of the container's /dev. It says nothing about who may use a device: see the cgroup's device rules.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::idmap::id;
use super::mounts::{Content, Mount, inside};
use crate::error::{Error, Result};
use crate::spec;

/// A device node to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Absolute path in the container.
    pub path: PathBuf,
    /// `S_IFCHR`, `S_IFBLK` or `S_IFIFO`.
    pub kind: u32,
    /// Device number; 0 for a FIFO.
    pub major: u32,
    /// Device number; 0 for a FIFO.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner in the container.
    pub uid: u32,
    /// Group in the container.
    pub gid: u32,
}

/// SPEC: config-linux.md#default-devices; /dev/console and /dev/ptmx are made elsewhere.
pub const DEFAULTS: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Links in /dev: name, target. `core` as runc makes it, if the host has /proc/kcore.
pub const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// All nodes to make: the defaults, but where the config names the same path the config's. `None`: the config binds a /dev of
/// its own, in which nothing may be made.
pub fn plan(list: &[spec::Device], mounts: &[Mount]) -> Result<Option<Vec<Device>>> {
    if mounts.iter().any(|m| m.target == Path::new("/dev") && matches!(m.content, Content::Bind { .. })) {
        return Ok(None);
    }
    let mut devices = Vec::with_capacity(DEFAULTS.len() + list.len());
    for (path, major, minor) in DEFAULTS {
        devices.push(Device {
            path: path.into(),
            kind: libc::S_IFCHR,
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        });
    }
    for (at, device) in list.iter().enumerate() {
        let device = node(at, device)?;
        devices.retain(|known| known.path != device.path);
        devices.push(device);
    }
    Ok(Some(devices))
}

fn node(at: usize, device: &spec::Device) -> Result<Device> {
    let place = || format!("linux.devices[{at}] ({})", device.path);
    let kind = match device.kind.as_str() {
        "c" | "u" => libc::S_IFCHR,
        "b" => libc::S_IFBLK,
        "p" => libc::S_IFIFO,
        other => {
            return Err(
                Error::invalid(format!("{}: unknown type {other:?}", place())).cure("it is c, u, b or p")
            );
        }
    };
    if !device.path.starts_with('/') {
        return Err(Error::invalid(format!("{}: the path is not absolute", place())));
    }
    if kind != libc::S_IFIFO && (device.major, device.minor) == (0, 0) {
        return Err(Error::invalid(format!("{}: major and minor are missing", place())));
    }
    let number = |name: &str, number: i64, most: i64| {
        u32::try_from(number)
            .ok()
            .filter(|_| number <= most)
            .ok_or_else(|| Error::invalid(format!("{}: {name} {number} is not in 0..={most}", place())))
    };
    // KERNEL: include/linux/kdev_t.h: 12 bits major, 20 bits minor.
    let (major, minor) = if kind == libc::S_IFIFO {
        (0, 0)
    } else {
        (number("major", device.major, 0xfff)?, number("minor", device.minor, 0xf_ffff)?)
    };
    Ok(Device {
        path: inside(&device.path),
        kind,
        major,
        minor,
        mode: device.file_mode.unwrap_or(0o666) & 0o7777,
        uid: id(&format!("{}: uid", place()), device.uid.unwrap_or(0))?,
        gid: id(&format!("{}: gid", place()), device.gid.unwrap_or(0))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(path: &str, kind: &str, major: i64) -> spec::Device {
        spec::Device { path: path.into(), kind: kind.into(), major, ..Default::default() }
    }

    #[test]
    fn the_config_overrides_a_default() {
        let all = plan(&[device("/dev/null", "c", 7), device("/dev/pipe", "p", -1)], &[]).unwrap().unwrap();
        assert_eq!(all.len(), DEFAULTS.len() + 1);
        assert_eq!(all.iter().find(|d| d.path == Path::new("/dev/null")).unwrap().major, 7);
    }

    #[test]
    fn mistakes_name_the_entry() {
        for (bad, message) in [
            (device("/dev/x", "z", 0), "linux.devices[0] (/dev/x): unknown type \"z\" (it is c, u, b or p)"),
            (device("dev/x", "c", 0), "linux.devices[0] (dev/x): the path is not absolute"),
            (device("/dev/x", "c", -1), "linux.devices[0] (/dev/x): major -1 is not in 0..=4095"),
        ] {
            assert_eq!(plan(&[bad], &[]).unwrap_err().to_string(), message);
        }
    }
}
