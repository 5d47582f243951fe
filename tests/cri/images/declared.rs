//! Images that declare more than they bring, pulled by the server that runs: it refuses them, or they cost what they brought, and the next
//! image is pulled as if they had not been there.

use super::registry::{Image, Registry, archive};
use super::two_layers;
use crate::surroundings;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};
use tests::json;

/// The most that the server may grow by one of them.
const MOST_MIB: u64 = 48;

/// An entry of an archive with extended headers before it.
fn entry(builder: &mut tar::Builder<Vec<u8>>, headers: &[&[(&str, &[u8])]], path: &str, content: &[u8]) {
    for records in headers {
        builder.append_pax_extensions(records.iter().copied()).expect("append");
    }
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(1_600_000_000);
    builder.append_data(&mut header, path, content).expect("append");
}

/// A file of so many bytes, of which three are not a hole.
fn holes(builder: &mut tar::Builder<Vec<u8>>, path: &str, size: u64) {
    let (size, map) = (size.to_string(), format!("{},3", 1u64 << 32));
    let records = [("GNU.sparse.size", size.as_bytes()), ("GNU.sparse.map", map.as_bytes())];
    entry(builder, &[&records], path, b"abc");
}

#[test]
fn what_an_image_declares_costs_the_server_nothing_and_nobody_else() {
    let here = surroundings!();
    let registry = Registry::start();
    let mut headers = tar::Builder::new(Vec::new());
    let comment = vec![b'c'; 1 << 20];
    entry(&mut headers, &vec![&[("comment", comment.as_slice())][..]; 200], "f", b"");
    let mut deep = tar::Builder::new(Vec::new());
    for number in 0..600 {
        let path = format!("{number:03}/{}f", "directoryname1/".repeat(249));
        entry(&mut deep, &[&[("path", path.as_bytes())]], "f", b"");
    }
    let mut sparse = tar::Builder::new(Vec::new());
    (0..20).for_each(|number| holes(&mut sparse, &format!("s{number}"), 120 << 30));
    for (name, builder, why) in [
        ("headers", headers, "extended headers of"),
        ("deep", deep, "directories without an entry"),
        ("sparse", sparse, "files with holes of"),
    ] {
        let image = Image::of(&[builder.into_inner().expect("end")], &json!({}));
        let before = crate::cves::most_memory(&here);
        let hostile = registry.add(&format!("{name}:1"), &image);
        let began = Instant::now();
        here.crictl(["pull", &hostile]).run().fails(&[why]);
        assert!(began.elapsed() < Duration::from_secs(60), "{name}: {:?}", began.elapsed());
        let grown = crate::cves::most_memory(&here).saturating_sub(before) >> 20;
        assert!(grown < MOST_MIB, "{name}: the server has taken {grown} MiB");
        let good = registry.add(&format!("{name}-good:1"), &two_layers());
        here.pull(&good);
        here.crictl(["rmi", &good]).run().ok();
    }
}

#[test]
fn a_volume_of_holes_takes_what_the_image_brought() {
    const SIZE: u64 = 8 << 30;
    let here = surroundings!();
    let registry = Registry::start();
    let probe = std::fs::read(tests::probe()).expect("the probe");
    let mut volume = tar::Builder::new(Vec::new());
    holes(&mut volume, "v/s", SIZE);
    let layers = [archive(&[("bin/probe", &probe), ("v/", b"")]), volume.into_inner().expect("end")];
    let name = registry.add("volume:1", &Image::of(&layers, &json!({"Volumes": {"/v": {}}})));
    let before = crate::cves::most_memory(&here);
    here.pull(&name);
    let pod = here.pod("volume").run();
    let mut container = pod.container("c", &["/bin/probe", "sleep"]);
    container.config["image"]["image"] = json!(name);
    let began = Instant::now();
    let container = container.run();
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    let file = here.places()[0].join("containers").join(container.id()).join("volumes/0/s");
    let file = std::fs::metadata(&file).expect("its volume has the file");
    assert_eq!(file.len(), SIZE);
    assert!(file.blocks() * 512 < 1 << 20, "{} blocks", file.blocks());
    let grown = crate::cves::most_memory(&here).saturating_sub(before) >> 20;
    assert!(grown < MOST_MIB, "the server has taken {grown} MiB");
}
