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
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut xattrs: Vec<_> = names.map(|name| attribute(path, name)).collect();
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

/// `name=value`, with overlayfs's origin marks left to overlayfs.
fn attribute(path: &Path, name: &[u8]) -> String {
    let mut value = vec![0u8; 4096];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).expect("an attribute");
    format!("{}={:?}", String::from_utf8_lossy(name), &value[..length])
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

/// A PAX header for the entry after it.
fn pax(builder: &mut tar::Builder<Vec<u8>>, records: &[(&str, &[u8])]) {
    builder.append_pax_extensions(records.iter().copied()).expect("append");
}

/// What has a meaning above another layer, and what depends on the order in which attributes are set.
fn upper() -> Vec<u8> {
    use tar::EntryType as T;
    let mut builder = tar::Builder::new(Vec::new());
    let header = |kind: T, mode: u32, owner: (u64, u64), size: usize| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner.0);
        header.set_gid(owner.1);
        header.set_mtime(1_500_000_001);
        header.set_size(size as u64);
        header
    };
    let mut add = |records: &[(&str, &[u8])], mut header: tar::Header, path: &str, content: &[u8]| {
        if !records.is_empty() {
            pax(&mut builder, records);
        }
        builder.append_data(&mut header, path, content).expect("append");
    };
    let link = |mode: u32, owner: (u64, u64), target: &str| {
        let mut header = header(T::Link, mode, owner, 0);
        header.set_link_name(target).expect("fits");
        header
    };
    // cap_net_raw+ep, as a file has it.
    let capability: &[u8] = &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let capable: &[(&str, &[u8])] = &[("SCHILY.xattr.security.capability", capability)];
    add(&[], header(T::Directory, 0o755, (0, 0), 0), "dir/", b"");
    add(&[], header(T::Regular, 0o644, (0, 0), 0), "dir/.wh.file", b"");
    add(&[], header(T::Directory, 0o700, (7, 8), 0), "sticky/", b"");
    add(&[], header(T::Regular, 0o644, (0, 0), 0), "sticky/.wh..wh..opq", b"");
    add(&[], header(T::Regular, 0o6755, (1000, 1000), 2), "sticky/suid", b"su");
    add(capable, header(T::Regular, 0o755, (0, 0), 4), "sticky/ping", b"ping");
    add(capable, link(0o755, (0, 0), "sticky/ping"), "sticky/ping6", b"");
    add(&[], link(0o6755, (1000, 1000), "sticky/suid"), "sticky/suid2", b"");
    add(&[("mtime", b"1500000000.123456789")], header(T::Regular, 0o600, (5, 6), 3), "sticky/exact", b"1.2");
    add(&[("SCHILY.xattr.user.mine", b"yours")], header(T::Regular, 0o644, (0, 0), 1), "sticky/marked", b"m");
    // Twice in one layer: the second holds.
    add(&[], header(T::Regular, 0o644, (0, 0), 3), "sticky/twice", b"one");
    add(&[], header(T::Regular, 0o640, (3, 3), 5), "sticky/twice", b"other");
    // What was a directory below is a file here.
    add(&[], header(T::Regular, 0o644, (0, 0), 4), "long", b"file");
    builder.into_inner().expect("end")
}

/// containerd 2.4.2 with its own directories, and the call of ctr for it; it ends with this.
struct Containerd {
    program: Option<tests::Started>,
    address: std::path::PathBuf,
}

impl Containerd {
    fn start(case: &tests::Case) -> Self {
        let peers = tests::target().join("peers/bin");
        let dir = case.dir().join("containerd");
        std::fs::create_dir_all(&dir).expect("make directory");
        let config = dir.join("config.toml");
        let disabled = [
            "cri.v1.runtime",
            "cri.v1.images",
            "grpc.v1.cri",
            "podsandbox.controller.v1.podsandbox",
            "nri.v1.nri",
        ];
        let disabled: Vec<_> = disabled.iter().map(|name| format!("\"io.containerd.{name}\"")).collect();
        let text = format!(
            "version = 3\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [{}]\n",
            dir.join("root"),
            dir.join("state"),
            disabled.join(", ")
        );
        std::fs::write(&config, text).expect("write configuration");
        let address = dir.join("sock");
        let call = case
            .program(&peers.join("containerd"))
            .arg("--config")
            .arg(config)
            .arg("--address")
            .arg(&address);
        let mut program = call.spawn();
        tests::until("containerd listens", || {
            assert!(!program.ended(), "containerd ended: {}", program.stderr());
            std::os::unix::net::UnixStream::connect(&address).ok()
        });
        Self { program: Some(program), address }
    }

    fn ctr(&self, case: &tests::Case, args: &[&str]) {
        let call = case.program(&tests::target().join("peers/bin/ctr")).arg("--address").arg(&self.address);
        call.args(args).run().ok();
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if let Some(program) = self.program.take() {
            program.end(nix::sys::signal::Signal::SIGKILL);
        }
    }
}

#[test]
fn layers_are_what_containerd_makes_of_them() {
    let (case, registry) = (case!(), Registry::start());
    let name = registry.add("app:1", &Image::of(&[everything(), upper()], &json!({})));
    images(&case, ["pull", &name]).run().ok();
    let containerd = Containerd::start(&case);
    containerd.ctr(&case, &["images", "pull", "--plain-http", "--snapshotter", "overlayfs", &name]);
    let snapshots = case.dir().join("containerd/root/io.containerd.snapshotter.v1.overlayfs/snapshots");
    let (ours, theirs) = (names(&layers(&case)), names(&snapshots));
    assert_eq!((ours.len(), theirs.len()), (2, 2), "{ours:?} {theirs:?}");
    let trees = |parent: &Path, names: &[String]| {
        let mut trees: Vec<_> = names.iter().map(|name| tree(&parent.join(name).join("fs"))).collect();
        // Which of them has which number depends on who was first.
        trees.sort_by_key(|tree| tree.contains_key("sticky/suid"));
        trees
    };
    for (ours, theirs) in trees(&layers(&case), &ours).iter().zip(trees(&snapshots, &theirs)) {
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
        for (path, facts) in ours {
            // A directory without an entry, and a whiteout, have the time of their making.
            if facts.contains("mode 20000 ") || path == "long" && !facts.contains("mode 100") {
                let kind = |facts: &str| facts.split(" time ").next().unwrap_or_default().to_owned();
                assert_eq!(kind(facts), kind(&theirs[path]), "{path}");
            } else {
                assert_eq!(facts, &theirs[path], "{path}");
            }
        }
    }
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
