//! Disks that fill up, and power that fails: what is left must be whole, and the next pull must work.
//!
//! Power loss is cut out of a loop device: the program is killed by strace at a system call, and what reached the device's backing file
//! until then is all that a copy of it has. What was only in memory is lost, as with power; in a second round all of it is there.

use super::registry::{Image, Registry, archive, digest, noise};
use super::{content, images, layers, names, program};
use nix::mount::{MsFlags, mount};
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::{Case, case, json, skip};

fn free(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).expect("a filesystem");
    stat.f_bfree * stat.f_bsize
}

#[test]
fn a_full_disk_is_said_and_what_was_taken_is_given_back() {
    let (case, registry) = (case!(), Registry::start());
    let root = case.dir().join("root");
    let _small = Disk::small(&root, "size=3m,mode=755");
    let low = archive(&[("low", &noise(900_000))]);
    // Some are whole by then, some half.
    let sizes = [100, 9_000_000, 400_000, 9_000_000, 1_000];
    let layers_of = sizes.map(|size| archive(&[("high", &vec![7; size])]));
    let large = Image::of(&layers_of, &json!({}));
    let (large, small) =
        (registry.add("large:1", &large), registry.add("small:1", &Image::of(&[low], &json!({}))));
    // Makes the store's directories.
    images(&case, ["list"]).run().ok();
    let before = free(&root);
    let output = images(&case, ["pull", &large]).run().fails(&["no space left on device", "make room on"]);
    assert!(output.stderr.contains("pull image"), "{output}");
    assert_eq!(names(&layers(&case)), [""; 0]);
    for part in ["blobs", "partial", "trash"] {
        assert_eq!(names(&root.join("images").join(part)), [""; 0], "{part}");
    }
    assert!(before - free(&root) < 64 << 10, "{before} bytes were free, now {}", free(&root));
    images(&case, ["fsck"]).run().ok();
    images(&case, ["pull", &small]).run().ok();
    assert_eq!(content(&case, "low").expect("a file").len(), 900_000);
}

#[test]
fn a_disk_without_inodes_is_said_too() {
    let (case, registry) = (case!(), Registry::start());
    let root = case.dir().join("root");
    let _small = Disk::small(&root, "nr_inodes=60,mode=755");
    let paths: Vec<_> = (0..100).map(|number| format!("file{number}")).collect();
    let files: Vec<_> = paths.iter().map(|path| (path.as_str(), &b"x"[..])).collect();
    let name = registry.add("app:1", &Image::of(&[archive(&files)], &json!({})));
    images(&case, ["pull", &name]).run().fails(&["make file", "no space left on device"]);
    assert_eq!(names(&layers(&case)), [""; 0]);
}

/// A filesystem in a file, attached by a loop device of its own.
struct Disk {
    point: PathBuf,
}

impl Disk {
    /// One in memory, with bounds.
    fn small(point: &Path, options: &str) -> Self {
        std::fs::create_dir_all(point).expect("make mount point");
        mount(Some("tmpfs"), point, Some("tmpfs"), MsFlags::empty(), Some(options)).expect("a small disk");
        Self { point: point.to_owned() }
    }

    fn mount(file: &Path, point: &Path) -> Option<Self> {
        std::fs::create_dir_all(point).expect("make mount point");
        let mounted =
            Command::new("mount").args(["-o", "loop"]).args([file, point]).output().expect("mount runs");
        mounted.status.success().then(|| Self { point: point.to_owned() })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Busy for a moment after a process that was killed: then it goes with its last user.
        let is_gone = Command::new("umount").arg(&self.point).status().is_ok_and(|status| status.success());
        if !is_gone {
            let _ = Command::new("umount").arg("-l").arg(&self.point).status();
        }
    }
}

/// An empty ext4 that holds a store without images, and the image's own.
fn disk(case: &Case) -> PathBuf {
    let file = case.dir().join("disk");
    std::fs::File::create(&file).and_then(|made| made.set_len(24 << 20)).expect("make a disk");
    let made = Command::new("mke2fs").args(["-q", "-t", "ext4"]).arg(&file).output().expect("mke2fs runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    file
}

/// The calls that a pull changes names and makes things last by, and how many of each are tried; one more than there are changes nothing.
const PHASES: [(&str, u32); 5] =
    [("syncfs", 2), ("fsync", 7), ("rename", 4), ("mkdir", 8), ("unlink,rmdir", 2)];

#[test]
fn power_that_fails_at_any_step_leaves_the_image_or_a_pull_that_can_go_on() {
    let (case, registry) = (case!(), Registry::start());
    let low =
        archive(&[("etc/", b""), ("etc/passwd", b"root:x:0:0::/root:/bin/sh\n"), ("low", &noise(50_000))]);
    let image = Image::of(&[low, archive(&[("high", b"high"), ("noise", &noise(300_000))])], &json!({}));
    let name = registry.add("app:1", &image);
    let (file, root, copy) = (disk(&case), case.dir().join("root"), case.dir().join("copy"));
    let Some(first) = Disk::mount(&file, &root) else {
        skip!("no loop devices here");
    };
    images(&case, ["list"]).run().ok();
    drop(first);
    let empty = std::fs::read(&file).expect("the disk");
    let (mut whole, mut cut) = (0, 0);
    for (call, most) in PHASES {
        for number in 1..=most {
            std::fs::write(&file, &empty).expect("an empty disk");
            let disk = Disk::mount(&file, &root).expect("the disk");
            let inject = format!("inject={call}:signal=SIGKILL:when={number}");
            let output = killed(&case, &["-e", &inject, "-e", &format!("trace={call}")], &name);
            // The disk as power loss leaves it: without what only the kernel's memory had.
            std::fs::copy(&file, &copy).expect("copy the disk");
            drop(disk);
            for (disk, what) in [(&copy, "lost"), (&file, "kept")] {
                let mounted = Disk::mount(disk, &root).expect("the disk");
                let said = || format!("{what} what was not synced when killed at {call} {number}");
                let listed = images(&case, ["list", "--json"]).run().ok().stdout;
                let there = listed.contains(&image.id());
                (whole, cut) = (whole + u32::from(there), cut + u32::from(!there));
                assert!(there || output != 0, "{}: it ended well, and the image is not there", said());
                images(&case, ["fsck"]).run().ok();
                registry.forget();
                images(&case, ["pull", &name]).run().ok();
                assert!(!there || registry.asked("blobs") == 0, "{}: {:?}", said(), registry.log());
                for (path, right) in
                    [("low", noise(50_000)), ("high", b"high".to_vec()), ("noise", noise(300_000))]
                {
                    assert_eq!(
                        content(&case, path).map(|bytes| digest(&bytes)),
                        Some(digest(&right)),
                        "{}: {path}",
                        said()
                    );
                }
                images(&case, ["fsck"]).run().ok();
                drop(mounted);
            }
        }
    }
    assert!(whole >= 2 && cut >= 20, "{whole} times the image was there, {cut} times it was not");
}

/// A pull under strace, which kills it; its exit code.
fn killed(case: &Case, strace: &[&str], name: &str) -> i32 {
    let config = case.dir().join("cri.toml");
    let call = case.program(Path::new("strace")).args(["-f", "-qq", "-o", "/dev/null"]).args(strace);
    let call = call
        .arg(program())
        .args(["images", "--root"])
        .arg(case.dir().join("root"))
        .arg("--config")
        .arg(config);
    call.args(["pull", name]).env("HOME", "/nonexistent").run().code()
}
