//! What containerd had of images: unpacking, users, indexes, archives.

use super::{most_memory, outside, probe, untouched};
use crate::images::registry::{Image, Registry, archive, digest};
use crate::images::{images, names, program};
use crate::surroundings;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};
use tests::cri::Surroundings;
use tests::{Case, case, json};

/// An archive, entry by entry.
#[derive(Default)]
struct Entries(Vec<u8>);

impl Entries {
    fn with(mut self, kind: tar::EntryType, path: &str, link: Option<&Path>, content: &[u8]) -> Self {
        // As they stand, `..` and all: by GNU's entries for long names, which the crate doesn't look at.
        let link = link.map(|link| link.as_os_str().as_bytes());
        let long = |kind: u8, text: &[u8]| (tar::EntryType::new(kind), [text, b"\0"].concat());
        let before = [Some(long(b'L', path.as_bytes())), link.map(|link| long(b'K', link))];
        for (kind, content) in before.into_iter().flatten().chain([(kind, content.to_vec())]) {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(if kind == tar::EntryType::Directory { 0o755 } else { 0o644 });
            header.set_size(content.len() as u64);
            header.set_path("short").expect("a path");
            header.set_cksum();
            self.0.extend_from_slice(header.as_bytes());
            self.0.extend_from_slice(&content);
            self.0.resize(self.0.len().next_multiple_of(512), 0);
        }
        self
    }

    fn file(self, path: &str, content: &[u8]) -> Self {
        self.with(tar::EntryType::Regular, path, None, content)
    }

    fn link(self, path: &str, to: &Path) -> Self {
        self.with(tar::EntryType::Symlink, path, Some(to), b"")
    }

    /// A file that is a hole but for its beginning, in GNU's old form.
    fn sparse(mut self, path: &str, head: &[u8], size: u64) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNUSparse);
        header.set_mode(0o644);
        header.set_size(head.len() as u64);
        header.set_path(path).expect("a path");
        let gnu = header.as_gnu_mut().expect("a GNU header");
        let octal = |field: &mut [u8; 12], value: u64| {
            // Base 256, which large sizes need.
            field.fill(0);
            field[0] = 0x80;
            field[4..].copy_from_slice(&value.to_be_bytes());
        };
        octal(&mut gnu.sparse[0].offset, 0);
        octal(&mut gnu.sparse[0].numbytes, head.len() as u64);
        octal(&mut gnu.sparse[1].offset, size);
        octal(&mut gnu.sparse[1].numbytes, 0);
        octal(&mut gnu.realsize, size);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(head);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// /etc/passwd and /etc/group with a hole of 256 MiB, and containers whose users are looked for in them.
pub fn absurd_tables_cost_nothing(here: &Surroundings) {
    let registry = Registry::start();
    let probe_bytes = std::fs::read(tests::probe()).expect("the probe");
    let low = archive(&[("bin/probe", &probe_bytes)]);
    let high = Entries::default()
        .sparse("etc/passwd", b"root:x:0:0::/root:/bin/sh\n", 256 << 20)
        .sparse("etc/group", b"root:x:0:\n", 256 << 20)
        .end();
    let name = registry.add("app:1", &Image::of(&[low, high], &json!({})));
    let before = most_memory(here);
    let _ = here.crictl(["pull", &name]).run();
    for (at, context) in [
        json!({"run_as_user": {"value": 4321}, "supplemental_groups": [7]}),
        json!({"run_as_username": "nobody-knows"}),
    ]
    .iter()
    .enumerate()
    {
        let pod = here.pod(&format!("absurd-{at}")).run();
        let mut container = probe(&pod, "c", &name, &["exit", "0"]);
        container.config["linux"]["security_context"] = context.clone();
        let created =
            here.crictl(["create", "--no-pull", pod.id()]).arg(container.file()).arg(pod.file()).run();
        if created.code() == 0 {
            here.crictl(["start", created.stdout.trim()]).run().ok();
        }
    }
    let grown = most_memory(here).saturating_sub(before) >> 20;
    assert!(grown < 64, "the server has taken {grown} MiB");
}

// 2026-47262: /etc/group of an image is read without bound when a container is made.
#[test]
fn cve_2026_47262_an_endless_group_table() {
    absurd_tables_cost_nothing(&surroundings!());
}

/// An image whose USER is `user`, and its table has that as a name of root: it is refused, or doesn't run as root.
#[track_caller]
fn never_root(here: &Surroundings, users: &[&str], table: bool) {
    for (at, user) in users.iter().enumerate() {
        let registry = Registry::start();
        let name = user.split(':').next().unwrap_or_default();
        let lines = format!("root:x:0:0::/root:/bin/sh\n{name}:x:0:0::/:/bin/sh\n");
        let passwd = if table { lines } else { "root:x:0:0::/root:/bin/sh\n".to_owned() };
        let probe_bytes = std::fs::read(tests::probe()).expect("the probe");
        let layer = archive(&[("bin/probe", &probe_bytes), ("etc/passwd", passwd.as_bytes())]);
        let image = registry.add("app:1", &Image::of(&[layer], &json!({"User": user})));
        if here.crictl(["pull", &image]).run().code() != 0 {
            continue;
        }
        let said = here.json(["inspecti", &image])["status"].clone();
        let pod = here.pod(&format!("user-{at}")).run();
        let container = probe(&pod, "c", &image, &["report"]);
        let created =
            here.crictl(["create", "--no-pull", pod.id()]).arg(container.file()).arg(pod.file()).run();
        if created.code() == 0 {
            let id = created.stdout.trim().to_owned();
            here.crictl(["start", &id]).run().ok();
            let log = pod.logs().join("c.log");
            let text = tests::until("it says who it is", || {
                std::fs::read_to_string(&log).ok().filter(|text| text.contains("\"uid\":"))
            });
            assert!(!text.contains("\"uid\":[0,0,0]"), "USER {user:?} runs as root");
            if let Some(number) = said["uid"]["value"].as_str() {
                assert!(
                    text.contains(&format!("\"uid\":[{number},")),
                    "USER {user:?} is said to be {number}: {text}"
                );
            }
        }
        here.crictl(["rmp", "--force", pod.id()]).run().ok();
        here.crictl(["rmi", &image]).run().ok();
    }
}

// 2024-40635: a USER beyond 32 bits becomes 0.
#[test]
fn cve_2024_40635_a_user_beyond_32_bits_is_root() {
    let users = ["4294967296", "8589934592:1", "18446744073709551616", "2147483648", "4294967295"];
    never_root(&surroundings!(), &users, false);
}

// 2026-46680: a USER that is no valid number is looked up as a name, and the image's table makes root of it.
#[test]
fn cve_2026_46680_a_number_is_looked_up_as_a_name() {
    let users = ["1000", "4294967296", "01000", "+1000", "1000:1000", "99999999999999999999", "2147483648"];
    never_root(&surroundings!(), &users, true);
}

// 2025-47290: an image's links lead what is unpacked onto the host.
#[test]
fn cve_2025_47290_a_layer_is_unpacked_through_its_links() {
    let case = case!();
    let outside = outside(&case);
    let up = Path::new("../../../../../../../../../..").join(outside.strip_prefix("/").expect("absolute"));
    for (at, to) in [outside.as_path(), &up].into_iter().enumerate() {
        let hard = tar::EntryType::Link;
        let linked = || Entries::default().link("way", to);
        let second = Entries::default()
            .file("way/.wh.secret", b"")
            .file("way/.wh..wh..opq", b"")
            .file("way/more", b"x");
        for (nth, layers) in [
            vec![linked().file("way/made", b"x").file("way/secret", b"changed").end()],
            vec![
                linked().with(hard, "own", Some(Path::new("way/secret")), b"").file("own", b"changed").end(),
            ],
            vec![linked().with(tar::EntryType::Directory, "way/", None, b"").file("way/made", b"x").end()],
            vec![linked().end(), second.end()],
            vec![
                Entries::default()
                    .file(&format!("../../../../../../..{}/made", outside.display()), b"x")
                    .end(),
            ],
            vec![Entries::default().file(&format!("{}/made", outside.display()), b"x").end()],
        ]
        .into_iter()
        .enumerate()
        {
            let registry = Registry::start();
            let name = registry.add(&format!("app{at}{nth}:1"), &Image::of(&layers, &json!({})));
            let _ = images(&case, ["pull", &name]).run();
            untouched(&outside);
        }
    }
}

// 2023-25153: files of an image archive that are read at once are read whatever their size.
#[test]
fn cve_2023_25153_an_archive_whose_index_is_endless() {
    let case = case!();
    for name in ["index.json", "manifest.json", "oci-layout"] {
        let path = case.dir().join(format!("{name}.tar"));
        let mut header = tar::Header::new_gnu();
        header.set_path(name).expect("a path");
        header.set_mode(0o644);
        header.set_size(1 << 30);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(b"{\"schemaVersion\": 2, \"manifests\": [");
        std::fs::write(&path, bytes).expect("write an archive");
        let file = std::fs::File::options().write(true).open(&path).expect("the archive");
        file.set_len((1 << 30) + 4096).expect("a hole");
        // What it may take is bounded, so that the machine that runs this test is not in danger.
        let script = "ulimit -v 1000000; exec \"$@\"";
        let call = case.program(Path::new("/bin/sh")).args(["-c", script, "sh"]).arg(program());
        let output =
            call.args(["images", "--root"]).arg(case.dir().join("root")).arg("load").arg(&path).run();
        assert!(output.code() == 1 && output.stderr.contains("load"), "{name}: {output}");
        assert!(!output.stderr.contains("out of memory"), "{name}: {output}");
    }
}

fn index(entries: &[(String, usize)], annotation: &str) -> Vec<u8> {
    let all: Vec<_> = entries
        .iter()
        .map(|(digest, size)| {
            json!({"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest, "size": size,
            "annotations": {annotation: digest}})
        })
        .collect();
    let index =
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": all});
    index.to_string().into_bytes()
}

fn serve(registry: &Registry, name: &str, document: Vec<u8>) -> String {
    registry.add(name, &Image { manifest: document, config: Vec::new(), layers: Vec::new() })
}

// 2026-53493: indexes whose entries name each other, so that a few kilobytes are a graph without end.
#[test]
fn cve_2026_53493_indexes_name_each_other_without_end() {
    let (case, registry) = (case!(), Registry::start());
    let image = crate::images::two_layers();
    registry.add("app:0", &image);
    let mut below = (digest(&image.manifest), image.manifest.len());
    for level in 1..30 {
        let document = index(&vec![below.clone(); 100], "a");
        below = (digest(&document), document.len());
        serve(&registry, &format!("app:{level}"), document);
    }
    let begun = Instant::now();
    let name = format!("{}/app:29", registry.host());
    let deep = images(&case, ["pull", &name]).run();
    assert_ne!(deep.code(), 0, "thirty indexes within each other are followed: {deep}");
    deep.fails(&["indexes within each other"]);
    let wide: Vec<_> = (0..10_000).map(|at: u32| (digest(&at.to_be_bytes()), 500)).collect();
    let name = serve(&registry, "app:wide", index(&wide, "a"));
    assert_ne!(images(&case, ["pull", &name]).run().code(), 0);
    assert!(registry.asked("GET /v2/app/manifests") <= 10, "{:?}", registry.log());
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

// 2026-95839: a digest that is none, in a descriptor with containerd's annotation, ends the server.
#[test]
fn cve_2026_95839_a_digest_that_is_none_ends_the_server() {
    let case = case!();
    let registry = Registry::start();
    let kind = "application/vnd.oci.image";
    for (at, digest) in
        ["", "x", "sha256:", "sha256:zz", ":", "sha256:..", "sha512:00", "sha256:é", "../../x"]
            .iter()
            .enumerate()
    {
        let annotations = json!({"io.containerd.manifest.subject": digest});
        let descriptor = |kind: String| json!({"mediaType": kind, "digest": digest, "size": 3, "annotations": annotations});
        let (config, layer) =
            (descriptor(format!("{kind}.config.v1+json")), descriptor(format!("{kind}.layer.v1.tar")));
        let whole = json!({"mediaType": format!("{kind}.manifest.v1+json"), "schemaVersion": 2, "config": config,
            "layers": [layer], "subject": descriptor(format!("{kind}.manifest.v1+json")), "annotations": annotations});
        let entry = index(&[((*digest).to_owned(), 3)], "io.containerd.manifest.subject");
        for (way, document) in [("m", whole.to_string().into_bytes()), ("i", entry)] {
            let name = serve(&registry, &format!("app:{way}{at}"), document);
            let output = images(&case, ["pull", &name]).run();
            assert!(!output.stderr.contains("panic"), "digest {digest:?} ends the program: {output}");
            assert_eq!(output.code(), 1, "{digest:?}: {output}");
        }
    }
    assert_eq!(names(&case.dir().join("root/images/images")), [""; 0]);
}

/// How long a layer takes that has a directory of `files` files, and says so many times that it is opaque.
fn opaque(case: &Case, registry: &Registry, files: usize, times: usize) -> Duration {
    let mut layer = Entries::default().with(tar::EntryType::Directory, "d/", None, b"");
    for at in 0..files {
        layer = layer.file(&format!("d/{at}"), b"");
    }
    for _ in 0..times {
        layer = layer.file("d/.wh..wh..opq", b"");
    }
    let name = registry.add(&format!("app{files}-{times}:1"), &Image::of(&[layer.end()], &json!({})));
    let begun = Instant::now();
    // How long is for the test to judge.
    let _ = images(case, ["pull", &name]).deadline(Duration::from_secs(300)).run();
    begun.elapsed()
}

// 2026-95838: each opaque whiteout walks all that its directory has: a few kilobytes, compressed, take hours.
#[test]
fn cve_2026_95838_opaque_whiteouts_without_end() {
    let (case, registry) = (case!(), Registry::start());
    let (files, times) = (4000, 20_000);
    let alone = opaque(&case, &registry, files, 1);
    let all = opaque(&case, &registry, files, times);
    // 80 million names looked at would be minutes.
    assert!(all < alone * 4 + Duration::from_secs(8), "opaque whiteouts took {all:?}, one took {alone:?}");
}
