//! The trees that images become, compared entry by entry with what umoci makes of the same layers.

use super::registry::{Image, Registry};
use super::{images, layers, names};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use tests::{case, json, skip};

/// What is said of an entry: kind and mode, owner, device, size, time, link target, extended attributes.
fn facts(path: &Path) -> String {
    let stat = std::fs::symlink_metadata(path).expect("an entry");
    let target = std::fs::read_link(path).map(|target| target.display().to_string()).unwrap_or_default();
    let size = if stat.is_file() { stat.len() } else { 0 };
    let content =
        if stat.is_file() { super::digest(&std::fs::read(path).expect("a file")) } else { String::new() };
    let mut names = vec![0u8; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let mut xattrs: Vec<_> = names[..length].split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    xattrs.sort();
    format!(
        "mode {:o} owner {}:{} device {} size {size} links {} time {}.{} target {target:?} xattrs {xattrs:?} {content}",
        stat.mode(),
        stat.uid(),
        stat.gid(),
        stat.rdev(),
        if stat.is_dir() { 0 } else { stat.nlink() },
        stat.mtime(),
        stat.mtime_nsec(),
    )
}

fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory").flatten() {
            let path = entry.path();
            if entry.file_type().expect("a type").is_dir() {
                waiting.push(path.clone());
            }
            found.insert(path.strip_prefix(root).expect("below").display().to_string(), facts(&path));
        }
    }
    found
}

/// One layer with every kind of entry that has the same meaning without layers below it.
fn everything() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind: tar::EntryType, change: &dyn Fn(&mut tar::Header), content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_mtime(1_500_000_000);
        header.set_size(content.len() as u64);
        change(&mut header);
        builder.append_data(&mut header, path, content).expect("append");
    };
    use tar::EntryType as T;
    add("dir/", T::Directory, &|header| header.set_mode(0o2751), b"");
    add("dir/file", T::Regular, &|header| header.set_uid(1000), b"content");
    add("dir/suid", T::Regular, &|header| header.set_mode(0o4755), b"x");
    add("dir/empty", T::Regular, &|_| {}, b"");
    add(
        "dir/twin",
        T::Link,
        &|header| {
            header.set_link_name("dir/file").expect("fits");
            header.set_uid(1000);
        },
        b"",
    );
    add("dir/sym", T::Symlink, &|header| header.set_link_name("../nowhere").expect("fits"), b"");
    add("dev/", T::Directory, &|_| {}, b"");
    add(
        "dev/zero",
        T::Char,
        &|header| {
            header.set_device_major(1).expect("fits");
            header.set_device_minor(5).expect("fits");
        },
        b"",
    );
    add("pipe", T::Fifo, &|_| {}, b"");
    add(&format!("long/{}", "n".repeat(150)), T::Regular, &|header| header.set_gid(2000), b"far");
    add("sticky/", T::Directory, &|header| header.set_mode(0o1777), b"");
    builder.into_inner().expect("end")
}

#[test]
fn a_tree_is_what_umoci_makes_of_the_same_layer() {
    let (case, registry) = (case!(), Registry::start());
    if Command::new("umoci").arg("--version").output().is_err()
        || Command::new("skopeo").arg("--version").output().is_err()
    {
        skip!("umoci or skopeo is not installed");
    }
    let image = Image::of(&[everything()], &json!({}));
    let name = registry.add("app:1", &image);
    images(&case, ["pull", &name]).run().ok();
    let layout = case.dir().join("layout");
    let from = format!("docker://{name}");
    let to = format!("oci:{}:x", layout.display());
    let policy = case.dir().join("policy.json");
    std::fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).expect("write policy");
    case.program(Path::new("skopeo"))
        .arg("--policy")
        .arg(&policy)
        .args(["copy", "--src-tls-verify=false", &from, &to])
        .run()
        .ok();
    let bundle = case.dir().join("bundle");
    case.program(Path::new("umoci"))
        .args(["raw", "unpack", "--image"])
        .arg(format!("{}:x", layout.display()))
        .arg(&bundle)
        .run()
        .ok();
    let ours = tree(&layers(&case).join(&names(&layers(&case))[0]).join("fs"));
    let theirs = tree(&bundle);
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (path, facts) in &ours {
        // A directory without an entry has the time of its making.
        if path != "long" {
            assert_eq!(facts, &theirs[path], "{path}");
        }
    }
}
