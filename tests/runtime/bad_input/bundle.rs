//! Mistakes of the bundle: what is missing, unreadable or no config.

use std::os::unix::fs::PermissionsExt;

use super::{Mistake, check, plain, text};
use tests::*;

#[test]
fn mistakes_of_the_bundle() {
    only_rt!("the words are its own");
    let case = case!();
    check(
        &case,
        &[
            Mistake {
                name: "no config",
                make: |b| b.config = Value::Null,
                says: "rt: run container \"{id}\": read config {bundle}/config.json: no such file or directory (ENOENT) (`rt spec` writes one to start from)",
            },
            Mistake {
                name: "config is a directory",
                make: |b| {
                    b.config = Value::Null;
                    std::fs::create_dir(b.dir().join("config.json")).expect("make a directory");
                },
                says: "rt: run container \"{id}\": read config {bundle}/config.json: it is not a regular file",
            },
            Mistake {
                name: "config is not JSON",
                make: |b| text(b, "{\n  \"ociVersion\": \"1.0.2\",\n  oops\n}"),
                says: "rt: run container \"{id}\": parse config {bundle}/config.json: key must be a string at line 3 column 3",
            },
            Mistake {
                name: "config is empty",
                make: |b| text(b, ""),
                says: "rt: run container \"{id}\": parse config {bundle}/config.json: EOF while parsing a value at line 1 column 0",
            },
            Mistake {
                name: "config is a list",
                make: |b| text(b, "[]"),
                says: "rt: run container \"{id}\": ociVersion is missing (write \"1.3.0\")",
            },
            Mistake {
                name: "config ends early",
                make: |b| text(b, "{ \"ociVersion\": \"1.0.2\","),
                says: "rt: run container \"{id}\": parse config {bundle}/config.json: EOF while parsing a value at line 1 column 24",
            },
            Mistake {
                name: "wrong type",
                make: |b| b.config["process"]["args"] = json!("true"),
                says: "rt: run container \"{id}\": understand config {bundle}/config.json: invalid type: string \"true\", expected a sequence at line 136 column 18",
            },
            Mistake {
                name: "wrong type deep inside",
                make: |b| b.config["process"]["user"]["uid"] = json!("root"),
                says: "rt: run container \"{id}\": understand config {bundle}/config.json: invalid type: string \"root\", expected u32 at line 200 column 19",
            },
            Mistake {
                name: "the user that means no change",
                make: |b| b.config["process"]["user"]["uid"] = json!(u32::MAX),
                says: "rt: run container \"{id}\": process.user.uid 4294967295 is nobody's (ids go up to 4294967294)",
            },
            Mistake {
                name: "the group that means no change",
                make: |b| b.config["process"]["user"]["gid"] = json!(u32::MAX),
                says: "rt: run container \"{id}\": process.user.gid 4294967295 is nobody's (ids go up to 4294967294)",
            },
            Mistake {
                name: "a further group that is none",
                make: |b| b.config["process"]["user"]["additionalGids"] = json!([5, u32::MAX]),
                says: "rt: run container \"{id}\": process.user.additionalGids 4294967295 is nobody's (ids go up to 4294967294)",
            },
            Mistake {
                name: "a device of nobody's",
                make: |b| {
                    b.config["linux"]["devices"] =
                        json!([{ "path": "/dev/x", "type": "c", "major": 1, "minor": 3, "uid": u32::MAX }]);
                },
                says: "rt: run container \"{id}\": linux.devices[0] (/dev/x): uid 4294967295 is nobody's (ids go up to 4294967294)",
            },
            Mistake {
                name: "negative id",
                make: |b| b.config["process"]["user"]["uid"] = json!(-1),
                says: "rt: run container \"{id}\": understand config {bundle}/config.json: invalid value: integer `-1`, expected u32 at line 200 column 15",
            },
            Mistake {
                name: "other major version",
                make: |b| b.config["ociVersion"] = json!("2.0.0"),
                says: "rt: run container \"{id}\": ociVersion \"2.0.0\" is not supported (versions 1.0.0 to 1.3.0 are)",
            },
            Mistake {
                name: "no version",
                make: |b| {
                    b.config.as_object_mut().map(|c| c.remove("ociVersion"));
                },
                says: "rt: run container \"{id}\": ociVersion is missing (write \"1.3.0\")",
            },
            Mistake {
                name: "version that is none",
                make: |b| b.config["ociVersion"] = json!("new"),
                says: "rt: run container \"{id}\": ociVersion \"new\" is not supported (versions 1.0.0 to 1.3.0 are)",
            },
            Mistake {
                name: "rootfs missing",
                make: |b| b.config["root"]["path"] = json!("nowhere"),
                says: "rt: run container \"{id}\": open the root filesystem {bundle}/nowhere: no such file or directory (ENOENT) (root.path must name a directory)",
            },
            Mistake {
                name: "rootfs is a file",
                make: |b| {
                    std::fs::write(b.dir().join("file"), "").expect("write");
                    b.config["root"]["path"] = json!("file");
                },
                says: "rt: run container \"{id}\": the root filesystem {bundle}/file is not a directory",
            },
            Mistake {
                name: "no root",
                make: |b| {
                    b.config.as_object_mut().map(|c| c.remove("root"));
                },
                says: "rt: run container \"{id}\": root is missing (give root.path, such as \"rootfs\")",
            },
        ],
    );
}

#[test]
fn unreadable_bundles_are_errors() {
    only_rt!("the words are its own");
    let case = case!();
    let mut bundle = case.bundle();
    bundle.args(["/probe", "exit", "0"]).write();
    let config = bundle.dir().join("config.json");
    let say = |path: &std::path::Path, mode: u32, says: &str| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
        // Root without the capability that lets it read everything.
        let call = case.program(std::path::Path::new("setpriv"));
        let call =
            call.args(["--bounding-set", "-dac_override,-dac_read_search"]).arg(Runtime::under_test().path());
        let call =
            call.arg("--root").arg(case.state_root()).args(["run", "--bundle"]).arg(bundle.dir()).arg("x");
        let output = call.run().exits(1);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        assert_eq!(plain(&output.stderr).replace(&*bundle.dir().to_string_lossy(), "{bundle}"), says);
    };
    say(
        &config,
        0o000,
        "rt: run container \"x\": read config {bundle}/config.json: permission denied (EACCES)",
    );
    say(
        bundle.dir(),
        0o000,
        "rt: run container \"x\": read config {bundle}/config.json: permission denied (EACCES)",
    );
    assert_eq!(case.leaks(), Vec::<String>::new());
}

#[test]
fn an_id_that_is_taken_is_an_error() {
    only_rt!("the words are its own");
    let case = case!();
    let mut bundle = case.bundle();
    let container = case.start_sleeping(&mut bundle);
    let again = case.call(["run", "--bundle"]).arg(bundle.dir()).arg(container.id()).run().exits(1);
    let says =
        "rt: run container \"{id}\": container with given ID already exists: \"{id}\" (`rt delete` frees it)";
    assert_eq!(plain(&again.stderr), says.replace("{id}", container.id()));
    assert_eq!(container.status(), "running");
}
