//! Mistakes of mounts, masked and read-only paths, devices.

use super::{Mistake, check};
use tests::*;

#[test]
fn mistakes_of_mounts_and_paths() {
    only_rt!("the words are its own");
    let case = case!();
    check(
        &case,
        &[
            Mistake {
                name: "unknown option",
                make: |b| {
                    b.mount(json!({ "destination": "/m", "type": "tmpfs", "source": "t", "options": ["nosuid", "nosuchoption"] }));
                },
                says: "rt: run container \"{id}\": mount tmpfs at /m: nosuchoption: invalid argument (EINVAL) (the kernel says: tmpfs: Unknown parameter 'nosuchoption')",
            },
            Mistake {
                name: "bad value of an option",
                make: |b| {
                    b.mount(json!({ "destination": "/m", "type": "tmpfs", "source": "t", "options": ["size=much"] }));
                },
                says: "rt: run container \"{id}\": mount tmpfs at /m: size=much: invalid argument (EINVAL) (the kernel says: tmpfs: Bad value for 'size')",
            },
            Mistake {
                name: "unknown file system",
                make: |b| {
                    b.mount(json!({ "destination": "/m", "type": "nosuchfs", "source": "t" }));
                },
                says: "rt: run container \"{id}\": mount nosuchfs at /m: the kernel has no filesystem nosuchfs (see /proc/filesystems)",
            },
            Mistake {
                name: "bind source missing",
                make: |b| {
                    b.mount(json!({ "destination": "/m", "type": "bind", "source": "/no/such", "options": ["bind"] }));
                },
                says: "rt: run container \"{id}\": mount /no/such at /m: open the source /no/such: no such file or directory (ENOENT)",
            },
            Mistake {
                name: "bind without a source",
                make: |b| {
                    b.mount(json!({ "destination": "/m", "type": "bind", "options": ["bind"] }));
                },
                says: "rt: run container \"{id}\": mounts[7] (/m): a bind mount needs a source",
            },
            Mistake {
                name: "no destination",
                make: |b| {
                    b.mount(json!({ "destination": "", "type": "tmpfs", "source": "t" }));
                },
                says: "rt: run container \"{id}\": mounts[7]: destination is empty",
            },
            Mistake {
                name: "directory over a file",
                make: |b| {
                    b.file("/f", "").bind(std::path::Path::new("/etc"), "/f", &[]);
                },
                says: "rt: run container \"{id}\": mount /etc at /f: the source is a directory, the destination is not",
            },
            Mistake {
                name: "file over a directory",
                make: |b| {
                    b.directory("/d").bind(std::path::Path::new("/etc/hostname"), "/d", &[]);
                },
                says: "rt: run container \"{id}\": mount /etc/hostname at /d: the destination is a directory, the source is not",
            },
            Mistake {
                name: "mask on a symbolic link",
                make: |b| {
                    b.file("/real", "x").link("/alias", "real");
                    b.config["linux"]["maskedPaths"] = json!(["/alias"]);
                },
                says: "rt: run container \"{id}\": mask /alias: it is a symbolic link in the container's root filesystem (name what it points to)",
            },
            Mistake {
                name: "read-only path that is a symbolic link",
                make: |b| {
                    b.file("/real", "x").link("/alias", "real");
                    b.config["linux"]["readonlyPaths"] = json!(["/alias"]);
                },
                says: "rt: run container \"{id}\": make /alias read-only: it is a symbolic link in the container's root filesystem (name what it points to)",
            },
            Mistake {
                name: "relative mask",
                make: |b| b.config["linux"]["maskedPaths"] = json!(["proc/keys"]),
                says: "rt: run container \"{id}\": linux.maskedPaths[0] \"proc/keys\" is not an absolute path",
            },
            Mistake {
                name: "unknown propagation",
                make: |b| b.config["linux"]["rootfsPropagation"] = json!("sideways"),
                says: "rt: run container \"{id}\": linux.rootfsPropagation: unknown value \"sideways\" (it is one of shared, slave, private, unbindable, rshared, rslave, rprivate, runbindable)",
            },
            Mistake {
                name: "device without numbers",
                make: |b| b.config["linux"]["devices"] = json!([{ "path": "/dev/x", "type": "c" }]),
                says: "rt: run container \"{id}\": linux.devices[0] (/dev/x): major and minor are missing",
            },
            Mistake {
                name: "unknown device type",
                make: |b| {
                    b.config["linux"]["devices"] =
                        json!([{ "path": "/dev/x", "type": "z", "major": 1, "minor": 3 }]);
                },
                says: "rt: run container \"{id}\": linux.devices[0] (/dev/x): unknown type \"z\" (it is c, u, b or p)",
            },
            Mistake {
                name: "device with a relative path",
                make: |b| {
                    b.config["linux"]["devices"] =
                        json!([{ "path": "dev/x", "type": "c", "major": 1, "minor": 3 }]);
                },
                says: "rt: run container \"{id}\": linux.devices[0] (dev/x): the path is not absolute",
            },
            Mistake {
                name: "idmap without mappings or a user namespace",
                make: |b| {
                    b.directory("/m").bind(std::path::Path::new("/etc"), "/m", &["idmap"]);
                },
                says: "rt: run container \"{id}\": mounts[7] (/m): option idmap without mappings of its own needs a user namespace (add \"user\" to linux.namespaces, or uidMappings and gidMappings to the mount)",
            },
            Mistake {
                name: "idmapped tmpfs",
                make: |b| {
                    b.mount(json!({ "destination": "/m", "type": "tmpfs", "source": "t", "options": ["idmap"],
            "uidMappings": [{ "containerID": 0, "hostID": 0, "size": 1 }], "gidMappings": [{ "containerID": 0, "hostID": 0, "size": 1 }] }));
                },
                says: "rt: run container \"{id}\": mounts[7] (/m): only bind mounts can be idmapped",
            },
        ],
    );
}
