//! Who knows a digest does not have the content: an image or a layer that is here is for those whose registry shows that it has it.

use super::registry::{Act, Image, Registry, archive, digest, noise};
use super::{content, images, layers, names, partial, two_layers};
use std::path::Path;
use tests::{Case, case, json, until};

const KIND: &str = "application/vnd.oci.image.manifest.v1+json";

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// Serves manifest and config of an image, and no layer.
fn told(registry: &Registry, image: &Image) -> String {
    let id = digest(&image.manifest);
    for wanted in ["1", &id] {
        registry.put(&format!("/v2/steal/manifests/{wanted}"), KIND, &image.manifest);
    }
    registry.put(&format!("/v2/steal/blobs/{}", image.id()), "text/plain", &image.config);
    format!("{}/steal:1", registry.host())
}

/// The only image has these names.
fn is_named(case: &Case, tags: &[&String]) {
    let listed: tests::Value =
        serde_json::from_str(&images(case, ["list", "--json"]).run().ok().stdout).expect("JSON");
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    let mut right: Vec<_> = tags.to_vec();
    right.sort();
    assert_eq!(listed[0]["repoTags"], json!(right), "{listed}");
}

#[test]
fn a_digest_in_a_header_gives_nobody_an_image_that_is_here() {
    let (case, registry, thief) = (case!(), Registry::start(), Registry::start());
    let image = two_layers();
    let name = registry.add("private:1", &image);
    images(&case, ["pull", &name]).run().ok();
    let steals = thief.add("steal:1", &Image::of(&[archive(&[("own", b"own")])], &json!({})));
    thief.when("manifests/1", usize::MAX, Act::Named(digest(&image.manifest)));
    images(&case, ["pull", &steals]).run().fails(&["pull image", "404"]);
    // Nor is it given where the registry of the private one is the thief's too.
    let beside = registry.add("steal:1", &Image::of(&[archive(&[("own", b"own")])], &json!({})));
    registry.when("steal/manifests/1", usize::MAX, Act::Named(digest(&image.manifest)));
    images(&case, ["pull", &beside]).run().fails(&["pull image", "404"]);
    is_named(&case, &[&name]);
}

#[test]
fn a_diff_id_in_a_config_gives_nobody_a_layer_that_is_here() {
    let (case, registry) = (case!(), Registry::start());
    let image = two_layers();
    let name = registry.add("private:1", &image);
    images(&case, ["pull", &name]).run().ok();
    let unknown = Image::made(image.config.clone(), vec![b"1".to_vec(), b"2".to_vec()]);
    for thief in [&Registry::start(), &registry] {
        for claimed in [&unknown, &image] {
            images(&case, ["pull", &told(thief, claimed)]).run().fails(&["pull image", "404"]);
        }
    }
    is_named(&case, &[&name]);
}

#[test]
fn the_word_of_a_registry_that_never_gave_a_layer_proves_nothing() {
    let (case, registry, thief) = (case!(), Registry::start(), Registry::start());
    let image = two_layers();
    let name = registry.add("private:1", &image);
    images(&case, ["pull", &name]).run().ok();
    let steals = thief.add("steal:1", &image);
    for layer in &image.layers {
        // It says that it has them, of the right length.
        thief.when(leak(digest(layer)), usize::MAX, Act::Lie);
    }
    images(&case, ["pull", &steals]).run().fails(&["pull image", "layer"]);
    is_named(&case, &[&name]);
}

#[test]
fn what_a_registry_gave_is_asked_about_once_for_each_repository() {
    let (case, registry) = (case!(), Registry::start());
    let image = two_layers();
    let (name, beside) = (registry.add("app:1", &image), registry.add("beside:1", &image));
    images(&case, ["pull", &name]).run().ok();
    registry.forget();
    images(&case, ["pull", &beside]).run().ok();
    let mut asked: Vec<_> = registry.log().into_iter().filter(|line| !line.contains("manifests")).collect();
    asked.sort();
    let [low, high] = [0, 1].map(|at| format!("HEAD /v2/beside/blobs/{}", digest(&image.layers[at])));
    let mut right = [format!("GET /v2/beside/blobs/{}", image.id()), low, high];
    right.sort();
    assert_eq!(asked, right);
    // Another image of the repository with the same layer: known.
    let other: Vec<_> =
        [archive(&[("etc/", b""), ("etc/passwd", b"root:x:0:0::/root:/bin/sh\n"), ("low", b"low")])].into();
    let small = registry.add("beside:2", &Image::of(&other, &json!({"Cmd": ["other"]})));
    for (name, requests) in [(&small, 3), (&small, 1), (&beside, 1), (&name, 1)] {
        registry.forget();
        images(&case, ["pull", name]).run().ok();
        assert_eq!(registry.log().len(), requests, "{name}: {:?}", registry.log());
    }
    assert_eq!(names(&layers(&case)).len(), 2);
}

#[test]
fn a_layer_that_is_here_is_downloaded_from_who_has_not_given_it_and_kept_once() {
    let (case, registry, other) = (case!(), Registry::start(), Registry::start());
    let image = two_layers();
    let (name, elsewhere) = (registry.add("app:1", &image), other.add("app:1", &image));
    images(&case, ["pull", &name]).run().ok();
    images(&case, ["pull", &elsewhere]).run().ok();
    for layer in &image.layers {
        let (digest, blob) = (digest(layer), format!("GET /v2/app/blobs/{}", digest(layer)));
        assert_eq!((other.asked(&digest), other.asked(&blob)), (1, 1), "{:?}", other.log());
    }
    is_named(&case, &[&name, &elsewhere]);
    assert_eq!(names(&layers(&case)).len(), 2);
    other.forget();
    images(&case, ["pull", &elsewhere]).run().ok();
    assert_eq!(other.log(), ["HEAD /v2/app/manifests/1"]);
    images(&case, ["fsck"]).run().ok();
}

/// As an older program wrote it.
fn without_givers(file: &Path) {
    let mut value: tests::Value =
        serde_json::from_slice(&std::fs::read(file).expect("a file")).expect("JSON");
    let mut removed = value.as_object_mut().expect("an object").remove("given").is_some();
    for names in value["images"].as_object_mut().into_iter().flat_map(|images| images.values_mut()) {
        removed |= names.as_object_mut().expect("names").remove("given").is_some();
    }
    assert!(removed, "{}: {value}", file.display());
    std::fs::write(file, value.to_string()).expect("write file");
}

#[test]
fn a_store_of_an_older_program_is_of_nobody() {
    let (case, registry) = (case!(), Registry::start());
    let image = two_layers();
    let name = registry.add("app:1", &image);
    images(&case, ["pull", &name]).run().ok();
    without_givers(&case.dir().join("root/images/index.json"));
    for layer in names(&layers(&case)) {
        without_givers(&layers(&case).join(layer).join("layer.json"));
    }
    assert!(images(&case, ["list"]).run().ok().stdout.contains(&name));
    registry.forget();
    images(&case, ["pull", &name]).run().ok();
    let blobs =
        image.layers.iter().map(|layer| registry.asked(&format!("GET /v2/app/blobs/{}", digest(layer))));
    assert_eq!(blobs.sum::<usize>(), 2, "{:?}", registry.log());
    registry.forget();
    images(&case, ["pull", &name]).run().ok();
    assert_eq!(registry.log(), ["HEAD /v2/app/manifests/1"]);
    assert_eq!(names(&layers(&case)).len(), 2);
}

#[test]
fn what_came_of_a_layer_is_for_the_repository_that_sent_it() {
    let (case, registry, thief) = (case!(), Registry::start(), Registry::start());
    let image = Image::of(&[archive(&[("large", &noise(3_000_000))])], &json!({}));
    let name = registry.add("app:1", &image);
    std::fs::write(case.dir().join("cri.toml"), "[registry]\n").expect("write configuration");
    let large = leak(digest(&image.layers[0]));
    let kept = partial(&case, &format!("{}/app", registry.host()), large);
    registry.when(large, 1, Act::Stall(1_000_000));
    let pull = images(&case, ["pull", &name]).spawn();
    until("what comes is kept", || std::fs::metadata(&kept).ok().filter(|stat| stat.len() >= 1_000_000));
    pull.end(nix::sys::signal::Signal::SIGKILL);
    // All of it, as a crash leaves it before the layer is whole.
    std::fs::write(&kept, &image.layers[0]).expect("write file");
    images(&case, ["pull", &told(&thief, &image)]).run().fails(&["pull image", "404"]);
    assert_eq!(content(&case, "large"), None);
    registry.forget();
    images(&case, ["pull", &name]).run().ok();
    assert_eq!(registry.asked(large), 0, "{:?}", registry.log());
}

#[test]
fn an_archive_gives_only_the_layers_that_it_has() {
    let (case, registry) = (case!(), Registry::start());
    let secret = archive(&[("secret", b"secret")]);
    let image = Image::of(std::slice::from_ref(&secret), &json!({}));
    images(&case, ["pull", &registry.add("private:1", &image)]).run().ok();
    let manifest = json!([{"Config": "c.json", "RepoTags": ["app:1"], "Layers": ["layer.tar"]}]).to_string();
    let file = case.dir().join("docker.tar");
    let shown = file.to_str().expect("UTF-8");
    let other = archive(&[("other", b"other")]);
    for (layer, why) in
        [(None, "find layer.tar in archive"), (Some(&other), "verify unpacked layer"), (Some(&secret), "")]
    {
        let mut files = vec![("c.json", &image.config[..]), ("manifest.json", manifest.as_bytes())];
        files.extend(layer.map(|layer| ("layer.tar", &layer[..])));
        std::fs::write(&file, archive(&files)).expect("write archive");
        let load = images(&case, ["load", shown]).run();
        if why.is_empty() {
            load.ok()
        } else {
            load.fails(&[why])
        };
    }
    // And what an archive brought is of no registry.
    let name = registry.add("private:1", &image);
    images(&case, ["remove", &name]).run().ok();
    images(&case, ["load", shown]).run().ok();
    registry.forget();
    images(&case, ["pull", &name]).run().ok();
    assert_eq!(registry.asked(&format!("GET /v2/private/blobs/{}", digest(&image.layers[0]))), 1);
    assert_eq!(names(&layers(&case)).len(), 1);
}
