//! Idmapped mounts: owners as the container sees them, and what lies on the disk.
//!
//! Mapped layers of an overlay are in `overlay`.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use tests::*;

/// A directory of root's with a file in it, outside of all bundles.
fn volume(case: &Case) -> PathBuf {
    let dir = case.dir().join("volume");
    std::fs::create_dir_all(dir.join("below")).expect("make a directory");
    std::fs::write(dir.join("note"), "n").expect("write");
    dir
}

fn owner(path: &Path) -> (u32, u32) {
    let stat = std::fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    (stat.uid(), stat.gid())
}

/// The owners that the container saw.
fn seen(output: &str) -> Vec<(u64, u64)> {
    let stat: Value = serde_json::from_str(output).expect("JSON");
    let id = |entry: &Value, key: &str| entry[key].as_u64().expect("a number");
    stat.as_array().expect("a list").iter().map(|one| (id(one, "uid"), id(one, "gid"))).collect()
}

fn map(host: u32) -> Value {
    json!([{ "containerID": 0, "hostID": host, "size": 65_536 }])
}

#[test]
fn a_volume_of_roots_is_roots_in_a_user_namespace() {
    unless!("runc 1.1", "idmap without mappings of its own came with 1.2");
    unless!("crun", "it does not take the bare option");
    let case = case!();
    let volume = volume(&case);
    let mut bundle = case.bundle();
    bundle.user_namespace(100_000, 65_536).bind(&volume, "/volume", &["idmap"]);
    let output = case
        .act(&mut bundle, ["chain", "write", "/volume/new", "x", ",", "stat", "/volume/note", "/volume/new"]);
    assert_eq!(seen(&output), [(0, 0), (0, 0)]);
    assert_eq!(owner(&volume.join("new")), (0, 0), "on the disk it is root's");
}

#[test]
fn without_it_the_volume_is_nobodys() {
    let case = case!();
    let volume = volume(&case);
    let mut bundle = case.bundle();
    bundle.user_namespace(100_000, 65_536).bind(&volume, "/volume", &[]);
    assert_eq!(seen(&case.act(&mut bundle, ["stat", "/volume/note"])), [(65_534, 65_534)]);
}

#[test]
fn mappings_of_the_mount_move_owners_both_ways() {
    unless!("runc 1.1", "it wants a user namespace for them");
    let case = case!();
    let volume = volume(&case);
    chown(volume.join("note"), Some(7), Some(8)).expect("chown");
    chown(&volume, Some(3), Some(3)).expect("chown");
    let mut bundle = case.bundle();
    bundle.mount(json!({
        "destination": "/volume", "type": "bind", "source": volume, "options": ["bind"],
        "uidMappings": map(2000), "gidMappings": map(3000),
    }));
    assert_eq!(
        seen(&case.act(&mut bundle, ["stat", "/volume/note", "/volume"])),
        [(2007, 3008), (2003, 3003)]
    );
    assert_eq!(owner(&volume.join("note")), (7, 8));
}

#[test]
fn only_a_recursive_map_reaches_the_mounts_below() {
    unless!("runc 1.1", "ridmap came with 1.2");
    let case = case!();
    let volume = volume(&case);
    let none = None::<&str>;
    nix::mount::mount(Some("t"), &volume.join("below"), Some("tmpfs"), nix::mount::MsFlags::empty(), none)
        .expect("mount");
    for (option, below) in [("idmap", 0), ("ridmap", 2000)] {
        let mut bundle = case.bundle();
        bundle.mount(json!({
            "destination": "/volume", "type": "bind", "source": volume, "options": ["rbind", option],
            "uidMappings": map(2000), "gidMappings": map(2000),
        }));
        let output = case.act(&mut bundle, ["stat", "/volume", "/volume/below"]);
        assert_eq!(seen(&output), [(2000, 2000), (below, below)], "{option}");
    }
    nix::mount::umount(&volume.join("below")).expect("unmount");
}

#[test]
fn filesystem_that_can_not_be_mapped_is_an_error() {
    only_rt!("texts are its own");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.mount(json!({
        "destination": "/volume", "type": "bind", "source": "/proc", "options": ["bind"],
        "uidMappings": map(2000), "gidMappings": map(2000),
    }));
    case.run(&bundle).exits(1).fails(&["mount /proc at /volume", "map its ids", "can't be idmapped"]);
}

#[test]
fn mapping_as_the_container_needs_a_user_namespace() {
    only_rt!("texts are its own");
    let case = case!();
    let volume = volume(&case);
    let mut bundle = case.bundle();
    bundle.bind(&volume, "/volume", &["idmap"]);
    case.run(&bundle)
        .exits(1)
        .fails(&["(/volume): option idmap without mappings of its own needs a user namespace"]);
}
