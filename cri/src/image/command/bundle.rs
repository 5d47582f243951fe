//! A bundle of an image for `rt run`: entrypoint, environment, user and working directory are the image's. It mounts nothing.

use crate::error::{Context, Error, Result};
use crate::image::merged::Merged;
use crate::image::unpack::Cancel;
use crate::image::userspec::Resolved;
use crate::image::{Image, UserSpec, Users};
use crate::oci::{DEFAULT_CAPABILITIES as DEFAULT, PATH};
use oci_spec::image::ImageConfiguration;
use serde::Deserialize;
use serde_json::{Value, json};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// What a bundle is made from.
#[derive(Deserialize)]
pub struct Source {
    /// The layers' directories, lowest first.
    chain: Vec<PathBuf>,
    /// The image's config.
    #[serde(rename = "imageSpec")]
    config: ImageConfiguration,
}

impl Source {
    /// Of an image in the store.
    pub fn of(image: &Image) -> Self {
        Self { chain: image.layers.clone(), config: image.config.clone() }
    }
}

/// Makes the bundle in a new directory.
pub fn write(bundle: &Path, source: &Source) -> Result<()> {
    let bundle = std::path::absolute(bundle).what(|| format!("look at {}", bundle.display()))?;
    let what = || format!("make bundle {}", bundle.display());
    let user =
        source.config.config().as_ref().and_then(|config| config.user().as_deref()).unwrap_or_default();
    let users = Merged::open(&source.chain, &Cancel::default())?.users(&[user])?;
    let config = spec(&bundle, source, &users).what(what)?;
    // What the container writes is its own; nobody else passes here.
    std::fs::DirBuilder::new().mode(0o700).create(&bundle).what(what)?;
    for part in ["rootfs", "upper", "upper.work"] {
        std::fs::create_dir(bundle.join(part)).what(what)?;
    }
    let text = serde_json::to_string_pretty(&config).what(what)?;
    crate::paths::write_own(&bundle.join("config.json"), (text + "\n").as_bytes()).what(what)
}

fn spec(bundle: &Path, source: &Source, users: &Users) -> Result<Value> {
    let config = source.config.config().clone().unwrap_or_default();
    let args: Vec<String> =
        [config.entrypoint(), config.cmd()].into_iter().flatten().flatten().cloned().collect();
    if args.is_empty() {
        return Err(Error::invalid("read image config: it has neither entrypoint nor command"));
    }
    let mut env = config.env().clone().unwrap_or_default();
    if !env.iter().any(|pair| pair.starts_with("PATH=")) {
        env.insert(0, PATH.to_owned());
    }
    let cwd = config.working_dir().clone().filter(|dir| !dir.is_empty()).unwrap_or_else(|| "/".to_owned());
    let user = user(config.user().as_deref().unwrap_or_default(), users)?;
    let mount = |destination: &str, kind: &str, options: &str| {
        let options: Vec<&str> = options.split(',').collect();
        json!({"destination": destination, "type": kind, "source": kind, "options": options})
    };
    Ok(json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": user, "args": args, "env": env, "cwd": cwd, "noNewPrivileges": true,
            "capabilities": {"bounding": DEFAULT, "effective": DEFAULT, "permitted": DEFAULT},
        },
        "root": {"path": "rootfs"},
        "mounts": [
            mount("/proc", "proc", "nosuid,noexec,nodev"),
            mount("/dev", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
            mount("/dev/pts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
            mount("/dev/shm", "tmpfs", "nosuid,noexec,nodev,mode=1777,size=65536k"),
            mount("/dev/mqueue", "mqueue", "nosuid,noexec,nodev"),
            mount("/sys", "sysfs", "nosuid,noexec,nodev,ro"),
        ],
        "run.rt.rootfs": rootfs(bundle, source)?,
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }))
}

/// The mounts that `rt` makes the root filesystem of: topmost layer first, as the kernel has it.
fn rootfs(bundle: &Path, source: &Source) -> Result<Value> {
    let text = |path: &Path| {
        let text = path
            .to_str()
            .ok_or_else(|| Error::invalid(format!("use {}: it is not UTF-8", path.display())))?;
        Ok::<_, Error>(text.replace('\\', "\\\\").replace(':', "\\:"))
    };
    if source.chain.is_empty() {
        return Err(Error::invalid("make root filesystem: the image has no layers"));
    }
    let layers = source.chain.iter().rev().map(|layer| text(layer)).collect::<Result<Vec<_>>>()?;
    let options = [
        format!("lowerdir={}", layers.join(":")),
        format!("upperdir={}", text(&bundle.join("upper"))?),
        format!("workdir={}", text(&bundle.join("upper.work"))?),
    ];
    Ok(json!([{"type": "overlay", "source": "overlay", "options": options}]))
}

/// `USER[:GROUP]`, by name or number, with the groups that the image's files give the user.
fn user(text: &str, users: &Users) -> Result<Value> {
    let Resolved { uid, gid, entry } = UserSpec::parse(text)?.resolve(users)?;
    let more: Vec<u32> =
        entry.iter().flat_map(|entry| users.groups_of(&entry.name)).map(|group| group.gid).collect();
    Ok(json!({"uid": uid, "gid": gid, "additionalGids": more}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_looked_up_in_the_images_own_files() {
        let users = Users::parse(
            b"root:x:0:0::/:\napp:x:10:20::/:\n1000:x:0:0::/:\n",
            b"app:x:20:\nextra:x:30:app\n1000:x:0:\n",
        );
        for (text, uid, gid, more) in [
            ("", 0, 0, vec![]),
            ("app", 10, 20, vec![30]),
            ("10", 10, 20, vec![30]),
            ("77", 77, 0, vec![]),
            ("app:extra", 10, 30, vec![30]),
            ("5:6", 5, 6, vec![]),
            ("1000", 1000, 0, vec![]),
            ("10:1000", 10, 1000, vec![30]),
        ] {
            let found = user(text, &users).unwrap();
            assert_eq!(found, json!({"uid": uid, "gid": gid, "additionalGids": more}), "{text}");
        }
        assert!(user("nobody", &users).unwrap_err().to_string().contains("find user \"nobody\""));
        assert!(user("app:none", &users).is_err() && user("4294967296", &users).is_err());
        assert!(user("+10", &users).is_err() && user("app:+20", &users).is_err());
    }
}
