//! Values of oci-spec's types with nothing in them: its defaults are a docker-like container that prints as valid and is not what
//! anybody asked for. It decides nothing.

use std::path::PathBuf;

use oci_spec::runtime::{
    Linux, LinuxCapabilities, LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType,
    LinuxResources, Mount, Process, Root, Spec,
};

/// The oldest version that has everything that we write.
const VERSION: &str = "1.1.0";

/// A spec that says nothing but its version.
pub fn spec() -> Spec {
    let mut spec = Spec::default();
    spec.set_version(VERSION.to_owned())
        .set_root(None)
        .set_mounts(None)
        .set_process(None)
        .set_hostname(None)
        .set_annotations(None)
        .set_linux(None);
    spec
}

/// No namespaces, masks or resources.
pub fn linux() -> Linux {
    let mut linux = Linux::default();
    linux
        .set_namespaces(None)
        .set_masked_paths(None)
        .set_readonly_paths(None)
        .set_resources(Some(LinuxResources::default()));
    linux
}

/// No program, no environment, no limits, no capabilities.
pub fn process() -> Process {
    let mut process = Process::default();
    process
        .set_args(None)
        .set_env(None)
        .set_cwd("/".into())
        .set_rlimits(None)
        .set_terminal(None)
        .set_capabilities(Some(capabilities()))
        .set_no_new_privileges(Some(false));
    process
}

/// Five empty sets.
pub fn capabilities() -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(None).set_effective(None).set_inheritable(None).set_permitted(None).set_ambient(None);
    sets
}

/// `root`.
pub fn root(path: impl Into<PathBuf>, readonly: bool) -> Root {
    let mut root = Root::default();
    root.set_path(path.into()).set_readonly(Some(readonly));
    root
}

/// A namespace to make, or with a path to join.
pub fn namespace(kind: LinuxNamespaceType, path: Option<PathBuf>) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind).set_path(path);
    namespace
}

/// One entry of `mounts`.
pub fn mount(destination: &str, kind: &str, source: impl Into<PathBuf>, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(destination.into())
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.into()))
        .set_options(Some(options.iter().map(|&option| option.to_owned()).collect()));
    mount
}

/// One range of ids.
pub fn id_range(container: u32, host: u32, size: u32) -> LinuxIdMapping {
    let builder = LinuxIdMappingBuilder::default().container_id(container).host_id(host).size(size);
    // It has no setters, and its builder asks for nothing that could be missing.
    builder.build().unwrap_or_default()
}
