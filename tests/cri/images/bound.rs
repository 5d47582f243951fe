//! A digest binds: what is asked for by digest is what came with that hash, whatever headers, mirrors and names say.

use super::registry::{Act, Image, Registry, archive, digest};
use super::{content, images, layers, names, two_layers};
use tests::{Case, case, json};

/// An image that is told from others by one word.
fn image(word: &str) -> Image {
    Image::of(&[archive(&[("word", word.as_bytes())])], &json!({"Cmd": [word]}))
}

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// `hosts.toml` of a server with a mirror before it.
fn mirrored(case: &Case, server: &Registry, mirror: &Registry) {
    let hosts = case.dir().join("certs.d").join(server.host());
    std::fs::create_dir_all(&hosts).expect("make directory");
    let text = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", server.host(), mirror.host());
    std::fs::write(hosts.join("hosts.toml"), text).expect("write hosts.toml");
}

#[test]
fn a_header_does_not_change_which_image_a_digest_names() {
    let (case, registry) = (case!(), Registry::start());
    let (wanted, other) = (image("wanted"), image("other"));
    registry.add("app:1", &wanted);
    let tagged = registry.add("app:2", &other);
    let (wanted_is, other_is) = (digest(&wanted.manifest), digest(&other.manifest));
    // The other one is here already, so that its digest would be enough to name it.
    images(&case, ["pull", &tagged]).run().ok();
    registry.when(leak(wanted_is.clone()), usize::MAX, Act::Named(other_is.clone()));
    for name in
        [format!("{}/app@{wanted_is}", registry.host()), format!("{}/app:2@{wanted_is}", registry.host())]
    {
        let pulled = images(&case, ["pull", &name]).run().ok();
        assert_eq!(pulled.stdout.trim(), wanted.id(), "{name}");
    }
    let listed: tests::Value =
        serde_json::from_str(&images(&case, ["list", "--json"]).run().ok().stdout).expect("JSON");
    for image in listed.as_array().expect("a list") {
        let is = if image["id"] == json!(wanted.id()) { &wanted_is } else { &other_is };
        assert_eq!(image["repoDigests"], json!([format!("{}/app@{is}", registry.host())]), "{listed}");
    }
}

#[test]
fn what_comes_for_a_digest_has_it_or_is_refused() {
    let (case, registry) = (case!(), Registry::start());
    let (wanted, other) = (image("wanted"), image("other"));
    let wanted_is = digest(&wanted.manifest);
    registry.add("app:1", &wanted);
    registry.add("app:2", &other);
    let path = format!("/v2/app/manifests/{wanted_is}");
    registry.put(&path, "application/vnd.oci.image.manifest.v1+json", &other.manifest);
    for header in [None, Some(digest(&other.manifest)), Some(wanted_is.clone())] {
        if let Some(header) = header {
            registry.when(leak(wanted_is.clone()), 2, Act::Named(header));
        }
        let name = format!("{}/app:2@{wanted_is}", registry.host());
        images(&case, ["pull", &name]).run().fails(&["verify manifest", "another digest"]);
        assert_eq!(images(&case, ["list", "--json"]).run().ok().stdout.trim(), "[]");
    }
    assert!(names(&layers(&case)).is_empty());
}

#[test]
fn a_mirror_that_lies_about_a_digest_is_passed_over() {
    let (case, mirror, server) = (case!(), Registry::start(), Registry::start());
    let (wanted, other) = (image("wanted"), image("other"));
    let wanted_is = digest(&wanted.manifest);
    server.add("app:1", &wanted);
    mirror.add("app:1", &other);
    let kind = "application/vnd.oci.image.manifest.v1+json";
    mirror.put(&format!("/v2/app/manifests/{wanted_is}"), kind, &other.manifest);
    mirror.put(&format!("/v2/app/blobs/{}", wanted.id()), "text/plain", &other.config);
    mirrored(&case, &server, &mirror);
    let pulled = images(&case, ["pull", &format!("{}/app@{wanted_is}", server.host())]).run().ok();
    assert_eq!(pulled.stdout.trim(), wanted.id());
    assert_eq!(content(&case, "word").expect("a file"), b"wanted");
    assert!(mirror.asked("manifests") > 0 && mirror.asked("blobs") > 0, "{:?}", mirror.log());
}

#[test]
fn a_descriptors_length_binds_too() {
    for part in ["config", "child", "layer"] {
        let (case, registry) = (Case::new(&format!("images::bound::length_{part}")), Registry::start());
        let right = image("right");
        let mut manifest: tests::Value = serde_json::from_slice(&right.manifest).expect("JSON");
        let longer = |descriptor: &mut tests::Value| {
            descriptor["size"] = json!(descriptor["size"].as_u64().expect("a size") + 1);
        };
        match part {
            "config" => longer(&mut manifest["config"]),
            "layer" => longer(&mut manifest["layers"][0]),
            _ => {}
        }
        let (config, layers) = (right.config.clone(), right.layers.clone());
        let told = Image { manifest: manifest.to_string().into_bytes(), config, layers };
        let name = registry.add("app:1", &told);
        if part == "child" {
            let mut child = json!({"digest": digest(&told.manifest), "size": told.manifest.len(),
                "mediaType": "application/vnd.oci.image.manifest.v1+json"});
            longer(&mut child);
            let index = json!({"schemaVersion": 2, "manifests": [child]}).to_string();
            let kind = "application/vnd.oci.image.index.v1+json";
            for wanted in ["1", &digest(index.as_bytes())] {
                registry.put(&format!("/v2/app/manifests/{wanted}"), kind, index.as_bytes());
            }
        }
        let output = images(&case, ["pull", &name]).run();
        let words = ["bytes came instead of", "it ended after"];
        assert!(output.code() == 1 && words.iter().any(|w| output.stderr.contains(w)), "{part}: {output}");
        assert_eq!(images(&case, ["list", "--json"]).run().ok().stdout.trim(), "[]");
    }
}

#[test]
fn lengths_beyond_all_bounds_are_refused_before_anything_is_fetched() {
    let (case, registry) = (case!(), Registry::start());
    let right = two_layers();
    for size in [u64::MAX, 1 << 62, 200 << 30] {
        let mut manifest: tests::Value = serde_json::from_slice(&right.manifest).expect("JSON");
        for layer in manifest["layers"].as_array_mut().expect("layers") {
            layer["size"] = json!(size);
        }
        let (config, layers) = (right.config.clone(), right.layers.clone());
        let name =
            registry.add("app:1", &Image { manifest: manifest.to_string().into_bytes(), config, layers });
        images(&case, ["pull", &name]).run().fails(&["read manifest", "bytes, at most"]);
    }
    assert_eq!(registry.asked("/blobs/"), 0, "{:?}", registry.log());
}

#[test]
fn a_kept_layer_that_was_changed_is_not_saved() {
    let (case, registry) = (case!(), Registry::start());
    let image = two_layers();
    let name = registry.add("app:1", &image);
    images(&case, ["pull", &name]).run().ok();
    let blob = case.dir().join("root/images/blobs").join(&digest(&image.layers[1])[7..]);
    let right = std::fs::read(&blob).expect("a kept layer");
    for wrong in [right[..right.len() - 1].to_vec(), {
        let mut other = right.clone();
        other[100] ^= 1;
        other
    }] {
        std::fs::write(&blob, wrong).expect("change it");
        let out = case.dir().join("out.tar");
        let save = images(&case, ["save", "-o", out.to_str().expect("UTF-8"), &name]);
        save.run().fails(&["has other content", "pull it anew"]);
        assert!(!out.exists());
    }
}
