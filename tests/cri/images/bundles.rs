//! Images that `rt` runs by itself, and images that leave the store as files.

use super::registry::{Image, Registry, archive};
use super::{images, program, two_layers};
use crate::surroundings;
use std::path::Path;
use tests::{Case, case, json, skip};

/// Busybox, and a config of which every part shows in what it prints.
fn telling(busybox: &Path) -> Image {
    let busybox = std::fs::read(busybox).expect("busybox");
    let low = archive(&[("bin/", b""), ("bin/busybox", &busybox), ("etc/", b"")]);
    let users = b"root:x:0:0::/:\napp:x:1234:50::/:\n";
    let high = archive(&[
        ("etc/", b""),
        ("etc/passwd", users),
        ("etc/group", b"app:x:50:\nmore:x:60:app\n"),
        ("work/", b""),
    ]);
    let say = "echo $GREETING; id -u; id -G; pwd; cat /etc/passwd | wc -l";
    Image::of(
        &[low, high],
        &json!({"Entrypoint": ["/bin/busybox", "sh", "-c"], "Cmd": [say], "Env": ["GREETING=hello"], "User": "app",
            "WorkingDir": "/work"}),
    )
}

#[track_caller]
fn runs(case: &Case, bundle: &Path) {
    let output = case.call(["run"]).arg(bundle).run().ok();
    assert_eq!(
        output.stdout.split_whitespace().collect::<Vec<_>>(),
        ["hello", "1234", "50", "60", "/work", "2"],
        "{output}"
    );
}

#[test]
fn an_unpacked_image_runs_as_it_is() {
    let (case, registry) = (case!(), Registry::start());
    let Some(busybox) = tests::busybox() else {
        skip!("busybox-static is not installed");
    };
    let name = registry.add("app:1", &telling(&busybox));
    images(&case, ["pull", &name]).run().ok();
    let bundle = case.dir().join("bundles/from-store");
    let bundle_text = bundle.to_str().expect("UTF-8");
    images(&case, ["unpack", &name, bundle_text]).run().ok();
    runs(&case, &bundle);
    images(&case, ["unpack", &name, bundle_text]).run().fails(&["make bundle", "EEXIST"]);
    images(&case, ["unpack", "none", "/nowhere"]).run().fails(&["find image none", "pull it first"]);
}

#[test]
fn a_server_gives_bundles_too() {
    let (place, registry) = (surroundings!(), Registry::start());
    let Some(busybox) = tests::busybox() else {
        skip!("busybox-static is not installed");
    };
    let name = registry.add("app:1", &telling(&busybox));
    let bundle = place.case().dir().join("bundles/from-server");
    let call = || place.case().program(&program()).args(["images", "--address", "unix:///run/rt/cri.sock"]);
    call().args(["pull", &name]).run().ok();
    call().args(["unpack", &name]).arg(&bundle).run().ok();
    runs(place.case(), &bundle);
}

#[test]
fn an_image_whose_layers_were_not_kept_compressed_is_not_saved() {
    let (case, registry) = (case!(), Registry::start());
    std::fs::write(case.dir().join("cri.toml"), "[registry]\nkeep_blobs = false\n")
        .expect("write configuration");
    let name = registry.add("app:1", &two_layers());
    images(&case, ["pull", &name]).run().ok();
    let file = case.dir().join("app.tar");
    let output = images(&case, ["save", "-o", file.to_str().expect("UTF-8"), &name]).run();
    output.fails(&["its compressed form was not kept", "set keep_blobs under [registry]"]);
    assert!(!file.exists() && !file.with_extension("part").exists());
}
