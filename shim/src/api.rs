//! The protocols' types, made by build.rs from the files in proto/. No logic.
#![allow(missing_docs, clippy::all, rustdoc::all)]

/// containerd's protocols.
pub mod containerd {
    pub mod events {
        include!(concat!(env!("OUT_DIR"), "/containerd.events.rs"));
    }
    pub mod runc {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/containerd.runc.v1.rs"));
        }
    }
    pub mod runtime {
        pub mod bootstrap {
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/containerd.runtime.bootstrap.v1.rs"));
            }
        }
    }
    pub mod services {
        pub mod events {
            pub mod ttrpc {
                pub mod v1 {
                    include!(concat!(env!("OUT_DIR"), "/containerd.services.events.ttrpc.v1.rs"));
                }
            }
        }
    }
    pub mod task {
        pub mod v2 {
            include!(concat!(env!("OUT_DIR"), "/containerd.task.v2.rs"));
        }
        pub mod v3 {
            include!(concat!(env!("OUT_DIR"), "/containerd.task.v3.rs"));
        }
    }
    pub mod types {
        include!(concat!(env!("OUT_DIR"), "/containerd.types.rs"));
    }
    pub mod v1 {
        pub mod types {
            include!(concat!(env!("OUT_DIR"), "/containerd.v1.types.rs"));
        }
    }
}

/// runtimeoptions.v1.Options.
pub mod runtimeoptions {
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/runtimeoptions.v1.rs"));
    }
}

/// The pod service, proto/pod.proto.
pub mod pod {
    include!(concat!(env!("OUT_DIR"), "/run.rt.pod.v1.rs"));
}

/// What `Stats` answers with: the metrics of a cgroup v2.
pub mod cgroups {
    include!(concat!(env!("OUT_DIR"), "/io.containerd.cgroups.v2.rs"));
}
