//! The root filesystem as rt mounts it: the field `run.rt.rootfs` of its config.json. It makes no directories.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{ContainerPlace, Host};
use crate::error::{Error, Result};

/// A directory that is bound read-only.
pub fn bound(directory: &Path) -> Result<Value> {
    Ok(json!([{ "type": "bind", "source": text(directory)?, "options": ["bind", "ro"] }]))
}

/// An image's layers, lowest first, below the container's writable layer. Its files die with the container, so nothing waits for
/// the disk (`volatile`).
pub fn overlay(layers: &[PathBuf], place: &ContainerPlace, mapped: Option<&Host>) -> Result<Value> {
    if layers.is_empty() {
        return Err(Error::internal(format!(
            "make the root of container {}: its image has no layers",
            place.id
        )));
    }
    // What the kernel's build may choose otherwise: an index refuses layers that were copied, metacopy trusts what a layer says.
    let mut options: Vec<String> = ["index=off", "metacopy=off", "volatile"].map(str::to_owned).into();
    for layer in layers.iter().rev() {
        options.push(format!("lowerdir+={}", text(layer)?));
    }
    options.push(format!("upperdir={}", escaped(text(&place.upper)?)));
    options.push(format!("workdir={}", escaped(text(&place.work)?)));
    if let Some(host) = mapped {
        if !host.idmapped_mounts {
            return Err(Error::unsupported("map the ids of the image's layers")
                .cure("user namespaces need a kernel with idmapped mounts, 5.19 or later"));
        }
        options.push("idmap".to_owned());
    }
    Ok(json!([{ "type": "overlay", "source": "overlay", "options": options }]))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Error::invalid(format!("path {} is not UTF-8", path.display())))
}

/// A backslash escapes in overlayfs's options.
fn escaped(path: &str) -> String {
    path.replace('\\', "\\\\")
}
