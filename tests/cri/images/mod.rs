//! Images by `rt-cri images` on a store by itself: pulls from registries that fail in every way, what is left then, archives.

mod bound;
mod bundles;
mod declared;
mod docker;
mod durable;
mod given;
mod magic_links;
mod passed_on;
pub mod registry;
mod secured;
mod served;
mod trees;

use registry::{Act, Image, Registry, archive, digest, noise};
use std::path::{Path, PathBuf};
use tests::{Call, Case, case, json, target, until};

pub fn program() -> PathBuf {
    std::env::var_os("RT_CRI").map_or_else(|| target().join("bin/rt-cri"), PathBuf::from)
}

/// `rt-cri images ARGS…` on the case's own store, with its own configuration.
pub fn images<const N: usize>(case: &Case, args: [&str; N]) -> Call {
    images_in(case, "root", args)
}

/// With a store of another name.
fn images_in<const N: usize>(case: &Case, store: &str, args: [&str; N]) -> Call {
    let config = case.dir().join("cri.toml");
    if !config.exists() {
        let hosts = case.dir().join("certs.d");
        std::fs::write(
            &config,
            format!(
                "[registry]\nconfig_path = [{hosts:?}]\nkeep_blobs = true\nattempts = 4\nstall_seconds = 2\n"
            ),
        )
        .expect("write configuration");
    }
    let call = case.program(&program()).arg("images").arg("--root").arg(case.dir().join(store));
    call.arg("--config").arg(config).args(args).env("HOME", "/nonexistent")
}

fn layers(case: &Case) -> PathBuf {
    case.dir().join("root/images/layers")
}

/// What is below a directory of the store.
pub fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

pub fn two_layers() -> Image {
    let low = archive(&[("etc/", b""), ("etc/passwd", b"root:x:0:0::/root:/bin/sh\n"), ("low", b"low")]);
    let high = archive(&[("high", b"high"), ("noise", &noise(300_000))]);
    Image::of(&[low, high], &json!({"Cmd": ["/bin/sh"]}))
}

/// Where what comes of a blob of a repository (`HOST/REPOSITORY`) is kept.
fn partial(case: &Case, repository: &str, blob: &str) -> PathBuf {
    let name = format!("{}.{}", &blob[7..], &digest(repository.as_bytes())[7..39]);
    case.dir().join("root/images/partial").join(name)
}

/// The files of the only image's layers, read back.
fn content(case: &Case, path: &str) -> Option<Vec<u8>> {
    let layers = layers(case);
    names(&layers).iter().find_map(|layer| std::fs::read(layers.join(layer).join("fs").join(path)).ok())
}

#[test]
fn an_image_is_pulled_listed_and_removed() {
    let (case, registry) = (case!(), Registry::start());
    let image = two_layers();
    let name = registry.add("app:1", &image);
    let pulled = images(&case, ["pull", &name]).run().ok();
    assert_eq!(pulled.stdout.trim(), image.id());
    let listed: tests::Value =
        serde_json::from_str(&images(&case, ["list", "--json"]).run().ok().stdout).expect("JSON");
    assert_eq!(listed[0]["repoTags"], json!([name]));
    let by_digest = format!("{}/app@{}", registry.host(), digest(&image.manifest));
    assert_eq!(listed[0]["repoDigests"], json!([by_digest]));
    assert_eq!(content(&case, "high").expect("a file"), b"high");
    images(&case, ["remove", &name]).run().ok();
    images(&case, ["remove", &name]).run().ok();
    assert_eq!(images(&case, ["list", "--json"]).run().ok().stdout.trim(), "[]");
    for part in ["layers", "images", "blobs", "trash"] {
        assert_eq!(names(&case.dir().join("root/images").join(part)), [""; 0], "{part}");
    }
}

#[test]
fn an_image_that_is_here_is_asked_for_once() {
    let (case, registry) = (case!(), Registry::start());
    let name = registry.add("app:1", &two_layers());
    images(&case, ["pull", &name]).run().ok();
    registry.forget();
    images(&case, ["pull", &name]).run().ok();
    assert_eq!(registry.log(), ["HEAD /v2/app/manifests/1"]);
}

#[test]
fn a_download_that_is_cut_goes_on_where_it_broke_off() {
    let (case, registry) = (case!(), Registry::start());
    let image = two_layers();
    let name = registry.add("app:1", &image);
    let large = digest(&image.layers[1]);
    let words: &'static str = Box::leak(large.into_boxed_str());
    registry.when(words, 1, Act::Cut(100_000));
    registry.when(words, 1, Act::Cut(50_000));
    images(&case, ["pull", &name]).run().ok();
    assert_eq!(content(&case, "noise").expect("a file"), noise(300_000));
    let asked: Vec<_> = registry.log().into_iter().filter(|line| line.contains(words)).collect();
    assert!(asked[1].ends_with("bytes=100000-") && asked[2].ends_with("bytes=150000-"), "{asked:?}");
}

#[test]
fn a_registry_that_sends_another_part_than_was_asked_for_is_not_believed() {
    let image = two_layers();
    let blob: &'static str = Box::leak(digest(&image.layers[1]).into_boxed_str());
    for (case, shift, more, why) in
        [("later", 1, 0, "it answers from byte"), ("longer", 0, 100_000, "more than the")]
    {
        let (case, registry) = (Case::new(&format!("images::shifted_{case}")), Registry::start());
        let name = registry.add("app:1", &image);
        registry.when(blob, 1, Act::Cut(1000));
        registry.when(blob, 8, Act::Shifted(shift, more));
        images(&case, ["pull", &name]).run().fails(&[why]);
        // Nothing of it is left in the way, once it is honest again.
        tests::until("it is pulled", || (images(&case, ["pull", &name]).run().code() == 0).then_some(()));
    }
}

#[test]
fn a_registry_that_stops_sending_is_asked_again() {
    let (case, registry) = (case!(), Registry::start());
    let image = two_layers();
    let name = registry.add("app:1", &image);
    registry.when(Box::leak(digest(&image.layers[1]).into_boxed_str()), 1, Act::Stall(1000));
    images(&case, ["pull", &name]).run().ok();
    assert_eq!(content(&case, "noise").expect("a file"), noise(300_000));
}

#[test]
fn what_has_another_digest_is_refused_and_leaves_nothing() {
    let image = two_layers();
    for (words, what) in [
        (digest(&image.layers[1]), "verify layer"),
        (digest(&image.config), "verify blob"),
        (digest(&image.manifest), "verify manifest"),
    ] {
        let (case, registry) = (Case::new(&format!("images::lie_{}", &words[7..15])), Registry::start());
        let name = registry.add("app:1", &image);
        registry.when(Box::leak(words.into_boxed_str()), usize::MAX, Act::Lie);
        let output = images(&case, ["pull", &name]).run();
        // A lie within gzip may show before its end is hashed.
        assert!(
            output.code() == 1 && (output.stderr.contains(what) || output.stderr.contains("read layer")),
            "{output}"
        );
        assert_eq!(names(&case.dir().join("root/images/images")), [""; 0]);
        assert!(names(&layers(&case)).iter().all(|name| !name.contains("part")));
        assert!(names(&case.dir().join("root/images/trash")).is_empty());
    }
}

#[test]
fn a_layer_that_is_not_what_its_config_says_is_refused() {
    let (case, registry) = (case!(), Registry::start());
    let (right, other) = (two_layers(), Image::of(&[archive(&[("other", b"1")])], &json!({})));
    let mixed = Image::made(right.config.clone(), vec![right.layers[0].clone(), other.layers[0].clone()]);
    let name = registry.add("app:1", &mixed);
    images(&case, ["pull", &name]).run().fails(&["verify unpacked layer", "pull image"]);
    assert!(content(&case, "other").is_none());
}

#[test]
fn a_layer_that_ends_early_with_the_right_digest_is_refused() {
    let (case, registry) = (case!(), Registry::start());
    let right = two_layers();
    let half = right.layers[1][..right.layers[1].len() / 2].to_vec();
    let name = registry.add("app:1", &Image::made(right.config.clone(), vec![right.layers[0].clone(), half]));
    images(&case, ["pull", &name]).run().fails(&["the archive ends inside a file"]);
}

#[test]
fn passing_errors_are_waited_out() {
    let (case, registry) = (case!(), Registry::start());
    let name = registry.add("app:1", &two_layers());
    registry.when("manifests", 2, Act::Status(503, ""));
    registry.when("blobs", 1, Act::Status(429, "Retry-After: 1\r\n"));
    registry.when("blobs", 1, Act::Status(500, ""));
    images(&case, ["pull", &name]).run().ok();
}

#[test]
fn a_registry_that_never_answers_well_is_reported_in_the_words_that_kubelets_know() {
    let (case, registry) = (case!(), Registry::start());
    let name = registry.add("app:1", &two_layers());
    registry.when("manifests", usize::MAX, Act::Status(503, ""));
    let output = images(&case, ["pull", &name]).run().fails(&["RegistryUnavailable: pull image", "503"]);
    assert!(output.stderr.starts_with("rt-cri: RegistryUnavailable"), "{output}");
    assert_eq!(registry.asked("manifests"), 4);
    images(&case, ["pull", "127.0.0.1:1/none"]).run().fails(&["RegistryUnavailable", "refused"]);
}

#[test]
fn a_registry_gets_the_token_that_it_asks_for() {
    let (case, registry) = (case!(), Registry::start());
    let name = registry.add("app:1", &two_layers());
    registry.when("/v2/", usize::MAX, Act::Challenge(vec!["right".into()]));
    images(&case, ["pull", &name]).run().ok();
    assert_eq!(
        registry.asked("/token?scope=repository%3Aapp%3Apull&service=test"),
        1,
        "{:?}",
        registry.log()
    );
}

#[test]
fn a_registry_that_refuses_its_own_token_is_not_asked_for_ever() {
    let (case, registry) = (case!(), Registry::start());
    let name = registry.add("app:1", &two_layers());
    registry.when("/v2/", usize::MAX, Act::Challenge(Vec::new()));
    images(&case, ["pull", &name]).run().fails(&["401", "no credentials were given"]);
    assert_eq!((registry.asked("manifests"), registry.asked("/token")), (2, 1), "{:?}", registry.log());
}

#[test]
fn mirrors_are_asked_in_order_and_the_server_when_they_fail_or_lie() {
    let (case, mirror, server) = (case!(), Registry::start(), Registry::start());
    let image = two_layers();
    let name = server.add("app:1", &image);
    mirror.add("app:1", &image);
    mirror.when(Box::leak(digest(&image.layers[1]).into_boxed_str()), usize::MAX, Act::Lie);
    mirror.when(Box::leak(digest(&image.layers[0]).into_boxed_str()), usize::MAX, Act::Status(500, ""));
    let hosts = case.dir().join("certs.d").join(server.host());
    std::fs::create_dir_all(&hosts).expect("make directory");
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://127.0.0.1:1\"]\n[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
        server.host(),
        mirror.host()
    );
    std::fs::write(hosts.join("hosts.toml"), text).expect("write hosts.toml");
    images(&case, ["pull", &name]).run().ok();
    assert_eq!(server.asked("manifests"), 0, "{:?}", server.log());
    assert_eq!(server.asked("blobs"), 2, "{:?}", server.log());
    assert!(
        mirror.log().iter().all(|line| line.contains(&format!("ns={}", server.host().replace(':', "%3A")))),
        "{:?}",
        mirror.log()
    );
}

#[test]
fn a_pull_that_is_killed_leaves_whole_layers_only_and_goes_on_with_them() {
    let (case, registry) = (case!(), Registry::start());
    let image = two_layers();
    let name = registry.add("app:1", &image);
    registry.when(Box::leak(digest(&image.layers[1]).into_boxed_str()), 1, Act::Stall(100_000));
    let pull = images(&case, ["pull", &name]).spawn();
    until("the small layer is whole", || {
        names(&layers(&case)).iter().any(|name| !name.contains("part")).then_some(())
    });
    until("the large one has begun", || {
        names(&layers(&case)).iter().any(|name| name.contains("part")).then_some(())
    });
    pull.end(nix::sys::signal::Signal::SIGKILL);
    images(&case, ["list"]).run().ok();
    assert!(names(&layers(&case)).iter().all(|name| !name.contains("part")));
    registry.forget();
    images(&case, ["pull", &name]).run().ok();
    assert_eq!(registry.asked(&digest(&image.layers[0])), 0, "{:?}", registry.log());
    images(&case, ["fsck"]).run().ok();
}

#[test]
fn a_download_goes_on_after_a_crash_where_it_was() {
    let (case, registry) = (case!(), Registry::start());
    let content = noise(3_000_000);
    let image = Image::of(&[archive(&[("large", &content)])], &json!({}));
    let name = registry.add("app:1", &image);
    let large: &'static str = Box::leak(digest(&image.layers[0]).into_boxed_str());
    std::fs::write(case.dir().join("cri.toml"), "[registry]\n").expect("write configuration");
    let partial = partial(&case, &format!("{}/app", registry.host()), large);
    let came = |least: u64| {
        until("what comes is kept", || std::fs::metadata(&partial).ok().filter(|stat| stat.len() >= least));
    };
    registry.when(large, 1, Act::Stall(1_000_000));
    let pull = images(&case, ["pull", &name]).spawn();
    came(1_000_000);
    pull.end(nix::sys::signal::Signal::SIGKILL);
    // Nor is it lost when the pull is given up politely.
    registry.when(large, 1, Act::Stall(500_000));
    let pull = images(&case, ["pull", &name]).spawn();
    came(1_500_000);
    pull.end(nix::sys::signal::Signal::SIGINT);
    assert!(names(&layers(&case)).is_empty());
    let shown = images(&case, ["fsck"]).run().ok().stdout;
    assert!(shown.contains("is unfinished, 1500000 bytes came"), "{shown}");
    images(&case, ["pull", &name]).run().ok();
    let asked: Vec<_> = registry.log().into_iter().filter(|line| line.contains(large)).collect();
    assert!(asked[1].ends_with("bytes=1000000-") && asked[2].ends_with("bytes=1500000-"), "{asked:?}");
    assert_eq!(self::content(&case, "large").expect("a file"), content);
    assert!(!partial.exists());
}

#[test]
fn what_was_kept_of_a_download_is_fetched_anew_where_it_is_wrong() {
    let (case, registry) = (case!(), Registry::start());
    let content = noise(2_000_000);
    let image = Image::of(&[archive(&[("large", &content)])], &json!({}));
    let name = registry.add("app:1", &image);
    let large = digest(&image.layers[0]);
    let partial = partial(&case, &format!("{}/app", registry.host()), &large);
    std::fs::create_dir_all(partial.parent().expect("a parent")).expect("make directory");
    // As a disk leaves it that made a file long before it had its content.
    std::fs::write(&partial, vec![0; 500_000]).expect("write file");
    images(&case, ["pull", &name]).run().ok();
    assert_eq!(self::content(&case, "large").expect("a file"), content);
    let asked: Vec<_> = registry.log().into_iter().filter(|line| line.contains(&large)).collect();
    assert!(
        asked.len() == 2 && asked[0].ends_with("bytes=500000-") && asked[1].ends_with(&large),
        "{asked:?}"
    );
}

#[test]
fn a_damaged_layer_is_found_and_its_image_can_be_pulled_again() {
    let (case, registry) = (case!(), Registry::start());
    let name = registry.add("app:1", &two_layers());
    images(&case, ["pull", &name]).run().ok();
    images(&case, ["fsck"]).run().ok();
    let layers = layers(&case);
    let layer = names(&layers)
        .into_iter()
        .find(|layer| layers.join(layer).join("fs/high").exists())
        .expect("a layer");
    for (damage, why) in [("", "300000 bytes instead of 300004"), ("hugh", "\"high\" has other content")] {
        std::fs::write(layers.join(&layer).join("fs/high"), damage).expect("damage");
        let output = images(&case, ["fsck"]).run().exits(1);
        assert!(output.stdout.contains("not as it was unpacked") && output.stdout.contains(why), "{output}");
    }
    images(&case, ["fsck", "--repair"]).run().ok();
    assert_eq!(images(&case, ["list", "--json"]).run().ok().stdout.trim(), "[]");
    images(&case, ["pull", &name]).run().ok();
    assert_eq!(content(&case, "high").expect("a file"), b"high");
}

#[test]
fn an_image_that_is_saved_can_be_loaded_elsewhere() {
    let (case, registry) = (case!(), Registry::start());
    let image = two_layers();
    let name = registry.add("app:1", &image);
    images(&case, ["pull", &name]).run().ok();
    let file = case.dir().join("app.tar");
    let file = file.to_str().expect("UTF-8");
    images(&case, ["save", "-o", file, &name]).run().ok();
    images(&case, ["remove", &name]).run().ok();
    let loaded = images(&case, ["load", file]).run().ok();
    assert_eq!(loaded.stdout.trim(), name);
    assert_eq!(content(&case, "noise").expect("a file"), noise(300_000));
    assert!(images(&case, ["list"]).run().ok().stdout.contains(&image.id()[7..19]));
}

#[test]
fn a_docker_archive_is_loaded() {
    let case = case!();
    let layer = archive(&[("file", b"text")]);
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}})
    .to_string();
    let manifest =
        json!([{"Config": "c.json", "RepoTags": ["app:1"], "Layers": ["one/layer.tar"]}]).to_string();
    let tar = archive(&[
        ("one/layer.tar", &layer),
        ("c.json", config.as_bytes()),
        ("manifest.json", manifest.as_bytes()),
    ]);
    let file = case.dir().join("docker.tar");
    std::fs::write(&file, tar).expect("write archive");
    let loaded = images(&case, ["load", file.to_str().expect("UTF-8")]).run().ok();
    assert_eq!(loaded.stdout.trim(), "docker.io/library/app:1");
    assert_eq!(content(&case, "file").expect("a file"), b"text");
}
