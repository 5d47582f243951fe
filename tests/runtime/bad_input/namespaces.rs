//! Mistakes of namespaces, mappings, kernel parameters and names of the host.

use super::{Mistake, check};
use tests::*;

#[test]
fn mistakes_of_namespaces_and_mappings() {
    only_rt!("the words are its own");
    let case = case!();
    check(
        &case,
        &[
            Mistake {
                name: "namespace twice",
                make: |b| {
                    if let Some(n) = b.config["linux"]["namespaces"].as_array_mut() {
                        n.push(json!({ "type": "pid" }));
                    }
                },
                says: "rt: run container \"{id}\": linux.namespaces: \"pid\" is given twice",
            },
            Mistake {
                name: "unknown namespace",
                make: |b| {
                    if let Some(n) = b.config["linux"]["namespaces"].as_array_mut() {
                        n.push(json!({ "type": "space" }));
                    }
                },
                says: "rt: run container \"{id}\": linux.namespaces: unknown type \"space\" (the types are user, pid, network, ipc, uts, cgroup, time, mount)",
            },
            Mistake {
                name: "path of another type",
                make: |b| {
                    b.namespace("network", Some("/proc/self/ns/ipc"));
                },
                says: "rt: run container \"{id}\": join the network namespace /proc/self/ns/ipc: it is of type ipc",
            },
            Mistake {
                name: "path that is missing",
                make: |b| {
                    b.namespace("network", Some("/run/netns/none"));
                },
                says: "rt: run container \"{id}\": join the network namespace /run/netns/none: no such file or directory (ENOENT) (the process or the bind mount that held it is gone)",
            },
            Mistake {
                name: "path that is a plain file",
                make: |b| {
                    b.namespace("network", Some("/etc/hostname"));
                },
                says: "rt: run container \"{id}\": join the network namespace /etc/hostname: it is not a namespace",
            },
            Mistake {
                name: "relative path",
                make: |b| {
                    b.namespace("network", Some("netns/x"));
                },
                says: "rt: run container \"{id}\": linux.namespaces: the path \"netns/x\" of \"network\" is not absolute",
            },
            Mistake {
                name: "hostname without a uts namespace",
                make: |b| {
                    b.without_namespace("uts");
                },
                says: "rt: run container \"{id}\": hostname \"box\" needs a uts namespace (add {\"type\": \"uts\"} to linux.namespaces, or remove it)",
            },
            Mistake {
                name: "propagation without a mount namespace",
                make: |b| {
                    b.without_namespace("mount").config["linux"]["rootfsPropagation"] = json!("rslave");
                },
                says: "rt: run container \"{id}\": linux.rootfsPropagation needs a new mount namespace (add {\"type\": \"mount\"} without a path to linux.namespaces)",
            },
            Mistake {
                name: "kernel parameter of the host's network",
                make: |b| {
                    b.without_namespace("network");
                    b.config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
                },
                says: "rt: run container \"{id}\": linux.sysctl: \"net.ipv4.ip_forward\" is the host's: the container has no network namespace of its own (add \"network\" to linux.namespaces)",
            },
            Mistake {
                name: "kernel parameter without a namespace",
                make: |b| b.config["linux"]["sysctl"] = json!({ "vm.swappiness": "1" }),
                says: "rt: run container \"{id}\": linux.sysctl: \"vm.swappiness\" is not in a separate kernel namespace (it is the host's; set it there with sysctl(8))",
            },
            Mistake {
                name: "kernel parameter that is missing",
                make: |b| b.config["linux"]["sysctl"] = json!({ "net.no.such": "1" }),
                says: "rt: run container \"{id}\": write \"1\" to /proc/sys/net/no/such: no such file or directory (ENOENT)",
            },
            Mistake {
                name: "mappings without a user namespace",
                make: |b| {
                    let map = json!([{ "containerID": 0, "hostID": 1000, "size": 1 }]);
                    b.config["linux"]["uidMappings"] = map.clone();
                    b.config["linux"]["gidMappings"] = map;
                },
                says: "rt: run container \"{id}\": linux: uidMappings without a user namespace (add \"user\" to linux.namespaces)",
            },
            Mistake {
                name: "user namespace without mappings",
                make: |b| {
                    b.namespace("user", None);
                },
                says: "rt: run container \"{id}\": linux: a new user namespace needs uidMappings and gidMappings",
            },
            Mistake {
                name: "mappings that overlap",
                make: |b| {
                    b.user_namespace(100_000, 65_536);
                    b.config["linux"]["uidMappings"] = json!([
                { "containerID": 0, "hostID": 100_000, "size": 10 }, { "containerID": 5, "hostID": 200_000, "size": 10 }]);
                },
                says: "rt: run container \"{id}\": linux.uidMappings[1] and [0] overlap in their containerIDs",
            },
            Mistake {
                name: "mappings whose host ids overlap",
                make: |b| {
                    b.user_namespace(100_000, 65_536);
                    b.config["linux"]["uidMappings"] = json!([
                { "containerID": 0, "hostID": 100_000, "size": 10 }, { "containerID": 50, "hostID": 100_009, "size": 10 }]);
                },
                says: "rt: run container \"{id}\": linux.uidMappings[1] and [0] overlap in their hostIDs",
            },
            Mistake {
                name: "empty mapping",
                make: |b| {
                    b.user_namespace(100_000, 65_536);
                    b.config["linux"]["uidMappings"] =
                        json!([{ "containerID": 0, "hostID": 1000, "size": 0 }]);
                },
                says: "rt: run container \"{id}\": linux.uidMappings[0]: size is 0",
            },
            Mistake {
                name: "user that is not mapped",
                make: |b| {
                    b.user_namespace(100_000, 10);
                    b.config["process"]["user"] = json!({ "uid": 10, "gid": 0 });
                },
                says: "rt: run container \"{id}\": become user 10: invalid argument (EINVAL) (the id must be mapped into the user namespace)",
            },
            Mistake {
                name: "time offsets without a time namespace",
                make: |b| {
                    b.config["linux"]["timeOffsets"] = json!({ "monotonic": { "secs": 1, "nanosecs": 0 } });
                },
                says: "rt: run container \"{id}\": linux.timeOffsets needs a new time namespace (add {\"type\": \"time\"} to linux.namespaces)",
            },
        ],
    );
}
