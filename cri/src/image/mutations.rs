//! Everything that strangers write (references, manifests, configs, hosts.toml, challenges, tokens, passwd files, archives), mutated
//! at random: each must end in a value or an error. `RT_FUZZ_ROUNDS` or `RT_FUZZ_SECONDS` makes it longer, `RT_FUZZ_SEED` other:
//! `hack/fuzz images`.

use super::config::Limits;
use super::registry::{Challenge, endpoints, token_of};
use super::unpack::Archive;
use super::{Reference, Users, manifest};
use std::io::Read;
use std::time::{Duration, Instant};

const HEX: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most.max(1)
    }

    /// A few bytes changed, removed, doubled or put in from elsewhere.
    fn mutate(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..1 + self.below(4) {
            if bytes.is_empty() {
                break;
            }
            let (at, length) = (self.below(bytes.len()), 1 + self.below(16));
            let end = (at + length).min(bytes.len());
            match self.below(5) {
                0 => bytes[at] = self.below(256) as u8,
                1 => drop(bytes.drain(at..end)),
                2 => {
                    let copy = bytes[at..end].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, copy);
                }
                3 => bytes.truncate(at),
                _ => bytes[at] = b"\0\n\"{}[]:,/@=.%\xff9-"[self.below(17)],
            }
        }
        bytes
    }
}

fn rounds() -> usize {
    std::env::var("RT_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3000)
}

fn seed() -> u64 {
    std::env::var("RT_FUZZ_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// So many rounds, or as many as fit into `RT_FUZZ_SECONDS`.
pub fn each(seeds: &[&[u8]], mut take: impl FnMut(&[u8])) {
    let mut random = Random(seed());
    let seconds = std::env::var("RT_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(0));
    let mut round = 0;
    while round < rounds() || Instant::now() < end {
        take(&random.mutate(seeds[round % seeds.len()]));
        round += 1;
    }
}

#[test]
fn references_that_are_taken_are_taken_again_as_they_are_shown() {
    let digest = format!("quay.io:443/a/b_c/d-e.f:tag@{HEX}");
    each(&[b"busybox", b"[::1]:5000/a:1", digest.as_bytes()], |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(reference) = Reference::parse(&text) {
            let shown = reference.to_string();
            assert_eq!(Reference::parse(&shown).as_ref().ok(), Some(&reference), "{text}");
            // A tag may have two dots inside; no part of a path is two dots.
            assert!(shown.split(['/', ':', '@']).all(|part| part != ".."), "{shown}");
            assert!(!shown.contains([' ', '\n', '?', '#', '%', '\\']), "{shown}");
        }
    });
}

#[test]
fn manifests_configs_and_hosts_files_end_in_a_value_or_an_error() {
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"digest":"{HEX}","size":1}},"layers":[{{"digest":"{HEX}","size":2,"mediaType":"a.layer.b"}}]}}"#
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"digest":"{HEX}","size":1,"platform":{{"os":"linux","architecture":"arm","variant":"v7"}}}}]}}"#
    );
    each(&[manifest.as_bytes(), index.as_bytes()], |bytes| {
        if let Ok(manifest::Named::Index(index)) = manifest::parse(bytes, "", &Limits::default()) {
            let _ = manifest::choose(&index, &manifest::Platform::host());
        }
    });
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Env":["A=1"],"Cmd":null,"Volumes":{{"/v":{{}}}}}},"rootfs":{{"type":"layers","diff_ids":["{HEX}"]}}}}"#
    );
    each(&[config.as_bytes()], |bytes| drop(manifest::config(bytes, 1)));
    let dir = std::env::temp_dir().join(format!("rt-mutations.{}", std::process::id()));
    std::fs::create_dir_all(dir.join("h")).expect("make directory");
    let hosts = b"server = 'https://s'\n[host.'https://m:5000/x']\ncapabilities = ['pull']\nca = ['a']\nclient = [['a','b']]\n[host.'https://m:5000/x'.header]\na = 'b'\n";
    each(&[hosts], |bytes| {
        std::fs::write(dir.join("h/hosts.toml"), bytes).expect("write hosts.toml");
        let _ = endpoints(std::slice::from_ref(&dir), "h");
    });
    std::fs::remove_dir_all(dir).expect("remove directory");
}

#[test]
fn challenges_tokens_and_tables_end_in_a_value_or_an_error() {
    each(&[br#"Bearer realm="https://a/t",service="s\"x",scope="r:a:pull", Basic realm=x"#], |bytes| {
        Challenge::best(std::iter::once(&*String::from_utf8_lossy(bytes)));
    });
    each(&[br#"{"token":"abc","access_token":"def","expires_in":60}"#], |bytes| {
        if let Ok(token) = token_of(bytes) {
            assert!(token.bytes().all(|byte| byte.is_ascii_graphic()), "{token}");
        }
    });
    each(&[b"root:x:0:0:root:/root:/bin/sh\napp:x:10:20::/:\n"], |bytes| {
        let users = Users::parse(bytes, bytes);
        assert!(users.passwd.iter().all(|user| user.uid != u32::MAX && !user.name.is_empty()));
    });
}

#[test]
fn archives_end_in_entries_or_an_error() {
    let mut builder = tar::Builder::new(Vec::new());
    for name in ["a", "b/c", &"long/".repeat(60)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, &b"12345"[..]).expect("append");
    }
    let tar = builder.into_inner().expect("end");
    let mut random = Random(seed());
    each(&[&tar], |bytes| {
        let mut bytes = bytes.to_vec();
        // Half of them with checksums that are right, so that more than the checksum is tried.
        for block in bytes.chunks_exact_mut(512).filter(|_| random.below(2) == 0) {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let mut archive = Archive::new(bytes.as_slice());
        while let Ok(Some(_)) = archive.next_entry() {
            let _ = std::io::copy(&mut archive.by_ref().take(1 << 20), &mut std::io::sink());
        }
    });
}
