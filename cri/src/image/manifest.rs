//! Manifests, indexes and configs: OCI's and docker's schema 2, read with suspicion. It fetches nothing.

use crate::error::{Context, Error, Result};
use crate::image::config::Limits;
use crate::image::digest::Digest;
use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};

/// The most values of a manifest, an index or a config: objects, lists, texts and numbers. In memory each takes some fifty bytes, in
/// the document two; images have some hundreds.
const VALUES: usize = 1 << 16;
/// Kinds of machines that an error names.
const SHOWN: usize = 32;

/// Content by digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// For which machines, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// Machines that an image is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// Go's name of the architecture.
    #[serde(default)]
    pub architecture: String,
    /// Go's name of the system.
    #[serde(default)]
    pub os: String,
    /// `v7`, `v8`
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// An image: its config and its layers, lowest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The config.
    pub config: Descriptor,
    /// The layers.
    pub layers: Vec<Descriptor>,
}

/// What a tag names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// One image.
    Manifest(Manifest),
    /// One for each kind of machine.
    Index(Vec<Descriptor>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    schema_version: Option<u64>,
    #[serde(default)]
    media_type: String,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

/// Reads a manifest or an index.
pub fn parse(bytes: &[u8], media_type: &str, limits: &Limits) -> Result<Named> {
    let what = || "read manifest";
    few_values(bytes).what(what)?;
    let written: Written = serde_json::from_slice(bytes).what(what)?;
    let media_type = if written.media_type.is_empty() { media_type } else { &written.media_type };
    let wrong = |why: &str| Error::invalid(format!("read manifest: {why}"));
    match (written.schema_version, written.fs_layers) {
        (Some(2), None) => {}
        (Some(1), _) | (_, Some(_)) => {
            let old = Error::unsupported("read manifest: it is of docker's schema 1");
            return Err(old.cure("push the image again with a newer docker"));
        }
        (version, _) => return Err(wrong(&format!("schema version {version:?} instead of 2"))),
    }
    match (written.manifests, written.config, written.layers) {
        // CVE-2021-41190: what is both can be taken for either.
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) => Err(wrong("it is an index and a manifest at once")),
        (Some(manifests), None, None) => Ok(Named::Index(manifests)),
        (None, Some(config), Some(layers)) => {
            if layers.len() > limits.layers {
                return Err(wrong(&format!("{} layers, at most {} are taken", layers.len(), limits.layers)));
            }
            if let Some(large) = layers.iter().find(|layer| layer.size > limits.layer_bytes) {
                let (digest, size, most) = (&large.digest, large.size, limits.layer_bytes);
                return Err(wrong(&format!("layer {digest} has {size} bytes, at most {most} are taken")));
            }
            layers.iter().try_for_each(layer)?;
            known_config(&config)?;
            Ok(Named::Manifest(Manifest { config, layers }))
        }
        _ => Err(wrong(&format!("neither an index nor a manifest of an image (media type {media_type:?})"))),
    }
}

/// Layers that are kept elsewhere or sealed can't be had.
fn layer(layer: &Descriptor) -> Result<()> {
    let kind = layer.media_type.as_str();
    let refused =
        |why: &str| Error::unsupported(format!("use layer {} of type {kind:?}: {why}", layer.digest));
    match kind {
        _ if kind.contains(".foreign.") || kind.contains("nondistributable") => {
            Err(refused("its content is not in this registry (a foreign layer)"))
        }
        _ if kind.ends_with("+encrypted") => Err(refused("it is encrypted")),
        _ if kind.contains("layer") || kind.contains("rootfs.diff.tar") || kind.is_empty() => Ok(()),
        _ => Err(refused("it is no layer of a root filesystem")),
    }
}

/// An artifact (a chart, a signature) looks like an image but for this.
fn known_config(config: &Descriptor) -> Result<()> {
    match config.media_type.as_str() {
        "application/vnd.oci.image.config.v1+json"
        | "application/vnd.docker.container.image.v1+json"
        | "" => Ok(()),
        "application/octet-stream" => Ok(()),
        other => Err(Error::unsupported(format!(
            "use image: its config is of type {other:?}, so it is no container image"
        ))),
    }
}

impl Platform {
    /// This machine.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" => ("arm", "v7"),
            "powerpc64" => ("ppc64le", ""),
            "loongarch64" => ("loong64", ""),
            other => (other, ""),
        };
        Self { architecture: architecture.into(), os: "linux".into(), variant: variant.into() }
    }

    /// How well an image for `other` runs here: 0 is best, None not at all.
    fn distance(&self, other: &Self) -> Option<u32> {
        let alike = self.os == other.os && self.architecture == other.architecture;
        let level = |variant: &str| variant.trim_start_matches('v').parse::<u32>().ok();
        match (level(&self.variant), level(&other.variant)) {
            _ if !alike => None,
            (_, None) => Some(if self.variant.is_empty() { 0 } else { 1 }),
            (Some(own), Some(its)) if its <= own => Some(2 * (own - its)),
            // amd64 without a variant is v1: newer ones need a newer processor.
            (None, Some(its)) => Some(its).filter(|its| *its == 1),
            _ => None,
        }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let slash = if self.variant.is_empty() { "" } else { "/" };
        write!(f, "{}/{}{slash}{}", self.os, self.architecture, self.variant)
    }
}

/// The index's entry for this machine.
pub fn choose<'a>(index: &'a [Descriptor], host: &Platform) -> Result<&'a Descriptor> {
    let ranked = index.iter().filter_map(|entry| {
        // An entry that names none is for any.
        let distance = entry.platform.as_ref().map_or(Some(100), |platform| host.distance(platform))?;
        Some((distance, entry))
    });
    let best = ranked.min_by_key(|(distance, _)| *distance).map(|(_, entry)| entry);
    best.ok_or_else(|| {
        let there = index.iter().filter_map(|entry| entry.platform.as_ref());
        let there: Vec<_> = there.map(Platform::to_string).take(SHOWN).collect();
        Error::not_found(format!("find image for {host} in index: it is there for {}", there.join(", ")))
    })
}

/// A config with its diff ids.
pub fn config(bytes: &[u8], layers: usize) -> Result<(ImageConfiguration, Vec<Digest>)> {
    let what = || "read image config";
    few_values(bytes).what(what)?;
    let mut value: serde_json::Value = serde_json::from_slice(bytes).what(what)?;
    // Go writes null for what is empty.
    drop_nulls(&mut value);
    let diffs = value["rootfs"]["diff_ids"].as_array().map(Vec::as_slice).unwrap_or_default();
    let diffs = diffs.iter().map(|diff| Digest::parse(diff.as_str().unwrap_or_default()));
    let diffs = diffs.collect::<Result<Vec<_>>>().what(what)?;
    if diffs.len() != layers {
        let text = format!("read image config: {} diff ids for {layers} layers", diffs.len());
        return Err(Error::invalid(text));
    }
    // Shown to those who ask for the config as it was sent, and kept for nobody.
    value.as_object_mut().map(|config| config.remove("history"));
    // `value["rootfs"]` to change it would panic where the config is no object.
    if let Some(rootfs) = value.get_mut("rootfs").and_then(serde_json::Value::as_object_mut) {
        rootfs.entry("diff_ids").or_insert_with(|| serde_json::json!([]));
    }
    Ok((serde_json::from_value(value).what(what)?, diffs))
}

/// An error where a document has more values than it may; only counted, so that it costs no memory.
fn few_values(bytes: &[u8]) -> Result<()> {
    let (mut values, mut text, mut escaped) = (0usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if text => escaped = true,
            b'"' => text = !text,
            b',' | b':' | b'[' | b'{' if !text => values += 1,
            _ => {}
        }
    }
    match values > VALUES {
        true => Err(Error::invalid(format!("it has {values} values, at most {VALUES} are taken"))
            .cure("build the image with fewer layers, labels or lines of history")),
        false => Ok(()),
    }
}

fn drop_nulls(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Chain ids: what a layer stands on decides with it what a container sees.
pub fn chain_ids(diffs: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diffs.len());
    for diff in diffs {
        let next = match chain.last() {
            None => diff.clone(),
            Some(below) => Digest::of(format!("{below} {diff}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn read(text: &str) -> Result<Named> {
        let text = text.replace("HEX", HEX);
        parse(text.as_bytes(), "", &Limits { layers: 2, ..Limits::default() })
    }

    #[test]
    fn manifests_and_indexes_are_told_apart_by_what_is_in_them() {
        let manifest = r#"{"schemaVersion":2,"config":{"digest":"HEX","size":1},"layers":[{"digest":"HEX","size":2,
            "mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip"}]}"#;
        assert!(
            matches!(read(manifest).unwrap(), Named::Manifest(Manifest { layers, .. }) if layers[0].size == 2)
        );
        let index = r#"{"schemaVersion":2,"manifests":[{"digest":"HEX","size":1,"platform":{"os":"linux","architecture":"amd64"}}]}"#;
        assert!(matches!(read(index).unwrap(), Named::Index(list) if list.len() == 1));
    }

    #[test]
    fn what_can_not_be_an_image_is_refused_with_the_reason() {
        let layer = |kind: &str| {
            format!(
                r#"{{"schemaVersion":2,"config":{{"digest":"HEX","size":1}},"layers":[{{"digest":"HEX","size":1,"mediaType":"{kind}"}}]}}"#
            )
        };
        let three = layer("layer")
            .replace("}]}", "},{\"digest\":\"HEX\",\"size\":1},{\"digest\":\"HEX\",\"size\":1}]}");
        for (text, why) in [
            ("", "EOF"),
            ("[]", "invalid"),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, "schema 1"),
            (r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#, "at once"),
            (r#"{"schemaVersion":2}"#, "neither an index"),
            (r#"{"schemaVersion":2,"config":{"digest":"sha256:0","size":1},"layers":[]}"#, "hex digits"),
            (r#"{"schemaVersion":2,"config":{"digest":"HEX","size":-1},"layers":[]}"#, "invalid value"),
            (
                r#"{"schemaVersion":2,"config":{"digest":"HEX","size":1,"mediaType":"application/vnd.cncf.helm.config.v1+json"},"layers":[]}"#,
                "no container image",
            ),
            (&layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), "foreign layer"),
            (&layer("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"), "encrypted"),
            (&layer("application/json"), "no layer"),
            (&three, "3 layers, at most 2"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn the_entry_for_this_machine_is_chosen() {
        let entry = |text: &str, size: u64| {
            let mut parts = text.split('/').map(str::to_owned);
            let mut next = || parts.next().unwrap_or_default();
            let platform = Platform { os: next(), architecture: next(), variant: next() };
            let platform = (!text.is_empty()).then_some(platform);
            Descriptor { media_type: String::new(), digest: Digest::of(b""), size, platform }
        };
        let index = [
            "linux/arm/v6",
            "linux/arm/v7",
            "linux/amd64/v3",
            "linux/amd64",
            "unknown/unknown",
            "linux/arm64",
        ];
        let index: Vec<_> = index.iter().zip(0..).map(|(text, size)| entry(text, size)).collect();
        for (host, wanted) in [
            ("linux/arm/v7", 1),
            ("linux/arm/v8", 1),
            ("linux/arm/v6", 0),
            ("linux/amd64", 3),
            ("linux/arm64/v8", 5),
        ] {
            let host = entry(host, 0).platform.unwrap();
            assert_eq!(choose(&index, &host).unwrap().size, wanted, "{host}");
        }
        let error = choose(&index, &entry("linux/s390x", 0).platform.unwrap()).unwrap_err().to_string();
        assert!(error.contains("linux/s390x") && error.contains("linux/arm/v6"), "{error}");
        assert_eq!(choose(&[entry("", 9)], &Platform::host()).unwrap().size, 9);
    }

    #[test]
    fn documents_of_absurd_sizes_are_refused_before_they_take_memory() {
        let big = |size: u64| {
            format!(
                r#"{{"schemaVersion":2,"config":{{"digest":"HEX","size":1}},"layers":[{{"digest":"HEX","size":{size}}}]}}"#
            )
        };
        assert!(read(&big(1 << 30)).is_ok());
        let error = read(&big(u64::MAX)).unwrap_err().to_string();
        assert!(error.contains("18446744073709551615 bytes, at most"), "{error}");
        let history = |count: usize| {
            let text =
                r#"{"rootfs":{"type":"layers","diff_ids":[]},"architecture":"amd64","os":"linux","config":{},"history":["#
                    .to_owned();
            text + &"{},".repeat(count) + r#"{"comment":"\",,,["}]}"#
        };
        let (parsed, _) = config(history(1000).as_bytes(), 0).unwrap();
        assert!(parsed.history().as_ref().is_none_or(Vec::is_empty));
        let error = config(history(1 << 20).as_bytes(), 0).unwrap_err().to_string();
        assert!(error.contains("values, at most 65536"), "{error}");
        let nested = "[".repeat(200_000);
        assert!(config(nested.as_bytes(), 0).unwrap_err().to_string().contains("at most 65536"));
        assert!(read(&nested).unwrap_err().to_string().contains("at most 65536"));
    }

    #[test]
    fn configs_with_nulls_are_read_and_diff_ids_counted() {
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{"Env":null,"Cmd":["sh"],"Volumes":{{"/v":{{}}}},
            "Labels":null,"ExposedPorts":null}},"rootfs":{{"type":"layers","diff_ids":["{HEX}"]}},"history":null}}"#
        );
        let (parsed, diffs) = config(text.as_bytes(), 1).unwrap();
        assert_eq!(diffs[0].as_str(), HEX);
        assert_eq!(parsed.config().as_ref().unwrap().cmd().as_ref().unwrap(), &["sh"]);
        assert!(config(text.as_bytes(), 2).unwrap_err().to_string().contains("1 diff ids for 2 layers"));
        for no_config in ["{}", "0", "-7e9", "true", "\"rootfs\"", "[]", "null"] {
            assert!(config(no_config.as_bytes(), 0).is_err(), "{no_config}");
        }
    }
}
