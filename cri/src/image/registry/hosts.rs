//! Which hosts are asked for an image, in order and how: containerd's `HOST/hosts.toml`. It connects to none.

use crate::document;
use crate::error::{Error, Kind, Result};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A host that is asked, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `https://HOST[/PATH]/v2`, without a slash at the end.
    pub base: String,
    /// Manifests may be asked for by tag.
    pub resolve: bool,
    /// Content may be asked for by digest.
    pub pull: bool,
    /// Not the image's own host: it is told which one that is.
    pub mirror: bool,
    /// The image's own host, or what is configured to be its server.
    pub own: bool,
    /// Sent with each request to this host, and to no other.
    pub headers: HeaderMap,
    /// How its certificate is judged.
    pub tls: Tls,
}

/// How a host's certificate is judged, and ours shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Tls {
    /// Certificates of authorities, PEM, beside the system's.
    pub ca: Vec<PathBuf>,
    /// Our certificate and key, PEM; the key may be in the same file.
    pub client: Option<(PathBuf, Option<PathBuf>)>,
    /// Any certificate will do.
    pub skip_verify: bool,
}

impl Endpoint {
    /// `HOST[:PORT]`
    pub fn host(&self) -> &str {
        let rest = self.base.split_once("://").map_or(self.base.as_str(), |(_, rest)| rest);
        rest.split('/').next().unwrap_or(rest)
    }
}

/// The endpoints for `host` (`docker.io`, `localhost:5000`), the image's own host last.
pub fn endpoints(config_path: &[PathBuf], host: &str) -> Result<Vec<Endpoint>> {
    for directory in candidates(config_path, host) {
        let file = directory.join("hosts.toml");
        match document::text(&file, document::MOST) {
            Ok(text) => {
                let parsed = parse(&text, &directory, host);
                return parsed.map_err(|error| error.during(format!("read {}", file.display())));
            }
            Err(error) if error.kind() == Kind::NotFound => {
                if let Some(tls) = certificates(&directory) {
                    return Ok(vec![own(host, tls)]);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(vec![own(host, Tls::default())])
}

/// Directories that may describe the host, best first. A colon may be written as `_PORT_`, as containerd does.
fn candidates(config_path: &[PathBuf], host: &str) -> Vec<PathBuf> {
    let mut names = vec![host.to_owned()];
    if let Some((name, port)) =
        host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
    {
        names.push(format!("{name}_{port}_"));
    }
    names.push("_default".to_owned());
    let places = config_path.iter();
    places.flat_map(|place| names.iter().map(move |name| place.join(name))).collect()
}

/// The image's own host where nothing is said of it.
fn own(host: &str, tls: Tls) -> Endpoint {
    let scheme = if is_loopback(host) && tls == Tls::default() { "http" } else { "https" };
    let base = format!("{scheme}://{}/v2", server_of(host));
    Endpoint { base, resolve: true, pull: true, mirror: false, own: true, headers: HeaderMap::new(), tls }
}

/// docker.io answers at another name.
fn server_of(host: &str) -> &str {
    if host == "docker.io" { "registry-1.docker.io" } else { host }
}

/// Registries on this machine are plain http unless something is said of them (or they use https's port).
pub(super) fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    (name == "localhost" || address.is_ok_and(|address| address.is_loopback())) && !host.ends_with(":443")
}

/// Docker's way: `*.crt` are authorities, `NAME.cert` and `NAME.key` are ours.
fn certificates(directory: &Path) -> Option<Tls> {
    let mut files: Vec<_> = std::fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let with = |end: &'static str| {
        files.iter().filter(move |path| path.extension().is_some_and(|e| e == end)).cloned()
    };
    let client = with("cert").map(|cert| (cert.clone(), Some(cert.with_extension("key")))).next();
    let tls = Tls { ca: with("crt").collect(), client, skip_verify: false };
    (tls != Tls::default()).then_some(tls)
}

/// The file as written.
#[derive(Deserialize)]
struct File {
    server: Option<String>,
    #[serde(default)]
    host: Hosts,
    #[serde(flatten)]
    own: Section,
}

/// What can be said of a server.
#[derive(Deserialize, Default)]
struct Section {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany>,
    client: Option<Clients>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    header: BTreeMap<String, OneOrMany>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Clients {
    One(String),
    Files(Vec<String>),
    Pairs(Vec<Vec<String>>),
}

/// `[host."…"]` tables in the file's order, which is the order they are asked in.
#[derive(Default)]
struct Hosts(Vec<(String, Section)>);

impl<'de> Deserialize<'de> for Hosts {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Hosts;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a table of hosts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Hosts, A::Error> {
                let mut hosts = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    hosts.push(entry);
                }
                Ok(Hosts(hosts))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

fn parse(text: &str, directory: &Path, host: &str) -> Result<Vec<Endpoint>> {
    let file: File =
        toml::from_str(text).map_err(|error| Error::invalid(error.to_string().trim_end().to_owned()))?;
    let mut endpoints = Vec::new();
    for (url, section) in &file.host.0 {
        let endpoint = endpoint(url, section, directory)?;
        let own = is_at(&endpoint.base, host);
        endpoints.push(Endpoint { mirror: !own, own, ..endpoint });
    }
    let written = file.own.ca.is_some() || file.own.client.is_some() || file.own.skip_verify;
    let server = match &file.server {
        Some(server) => server.clone(),
        None if is_loopback(host) && !written => format!("http://{host}"),
        None => format!("https://{}", server_of(host)),
    };
    let last = endpoint(&server, &file.own, directory)?;
    let last = Endpoint { mirror: !is_at(&last.base, host), own: true, ..last };
    // A server that is named among the hosts is not asked twice.
    match endpoints.iter_mut().find(|endpoint| endpoint.base == last.base) {
        Some(same) => same.own = true,
        None => endpoints.push(last),
    }
    Ok(endpoints)
}

fn is_at(base: &str, host: &str) -> bool {
    let rest = base.split_once("://").map_or(base, |(_, rest)| rest);
    rest.split('/').next() == Some(server_of(host))
}

fn endpoint(url: &str, section: &Section, directory: &Path) -> Result<Endpoint> {
    let url = if url.contains("://") { url.to_owned() } else { format!("https://{url}") };
    let parsed =
        reqwest::Url::parse(&url).map_err(|error| Error::invalid(format!("read host {url:?}: {error}")))?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
        return Err(Error::invalid(format!("read host {url:?}: neither http:// nor https:// with a host")));
    }
    // The text is looked at for the scheme and the host elsewhere: a URL parser may not find others in it, nor an end before ours.
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    if !scheme.eq_ignore_ascii_case(parsed.scheme())
        || rest.starts_with('/')
        || rest.contains(|c: char| matches!(c, '?' | '#' | '\\') || c.is_whitespace() || c.is_control())
    {
        return Err(Error::invalid(format!(
            "read host {url:?}: not of the form SCHEME://HOST[:PORT][/PATH]"
        )));
    }
    let mut base = format!("{}://{}", parsed.scheme(), rest.trim_end_matches('/'));
    if !section.override_path && !base.ends_with("/v2") {
        base.push_str("/v2");
    }
    let can =
        |word: &str| section.capabilities.as_ref().is_none_or(|list| list.iter().any(|known| known == word));
    let known = ["pull", "resolve", "push", "referrers"];
    let strange = section.capabilities.iter().flatten().find(|word| !known.contains(&word.as_str()));
    if let Some(word) = strange {
        return Err(Error::invalid(format!("read host {url:?}: unknown capability {word:?}")));
    }
    let path = |name: &String| directory.join(name);
    let mut headers = HeaderMap::new();
    for (name, values) in &section.header {
        for value in values.all() {
            let unfit =
                || Error::invalid(format!("read host {url:?}: {name:?} and its value make no header"));
            let pair = (HeaderName::try_from(name), HeaderValue::try_from(value));
            let (Ok(name), Ok(mut value)) = pair else { return Err(unfit()) };
            value.set_sensitive(true);
            headers.append(name, value);
        }
    }
    Ok(Endpoint {
        resolve: can("resolve"),
        pull: can("pull"),
        mirror: false,
        own: false,
        headers,
        tls: Tls {
            ca: section.ca.iter().flat_map(OneOrMany::all).map(path).collect(),
            client: section.client.as_ref().map(|client| client_of(client, directory)).transpose()?.flatten(),
            skip_verify: section.skip_verify,
        },
        base,
    })
}

/// containerd's three ways to write it; of many pairs the first is used, more is an error.
fn client_of(client: &Clients, directory: &Path) -> Result<Option<(PathBuf, Option<PathBuf>)>> {
    let several = || Error::unsupported("use more than one client certificate for a host");
    let pair = match client {
        Clients::One(both) => return Ok(Some((directory.join(both), None))),
        Clients::Files(files) => files,
        Clients::Pairs(pairs) if pairs.len() > 1 => return Err(several()),
        Clients::Pairs(pairs) => match pairs.first() {
            Some(pair) => pair,
            None => return Ok(None),
        },
    };
    match pair.as_slice() {
        [] => Ok(None),
        [both] => Ok(Some((directory.join(both), None))),
        [cert, key] if key.is_empty() => Ok(Some((directory.join(cert), None))),
        [cert, key] => Ok(Some((directory.join(cert), Some(directory.join(key))))),
        _ => Err(several()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bases(text: &str, host: &str) -> Vec<String> {
        let endpoints = parse(text, Path::new("/c/h"), host).unwrap();
        endpoints.into_iter().map(|endpoint| endpoint.base).collect()
    }

    #[test]
    fn mirrors_are_asked_in_the_files_order_and_the_server_last() {
        let text = r#"
            server = "https://up.example"
            [host."https://z.mirror:5000"]
            capabilities = ["pull"]
            [host."http://a.mirror/prefix"]
            override_path = true
            ca = "ca.pem"
            client = [["c.pem", "k.pem"]]
            skip_verify = true
            [host."http://a.mirror/prefix".header]
            x-one = "1"
            x-two = ["2", "3"]
        "#;
        let found = parse(text, Path::new("/c/h"), "up.example").unwrap();
        let order: Vec<_> = found.iter().map(|endpoint| endpoint.base.as_str()).collect();
        assert_eq!(order, ["https://z.mirror:5000/v2", "http://a.mirror/prefix", "https://up.example/v2"]);
        assert!(!found[0].resolve && found[0].pull && found[0].mirror && !found[2].mirror);
        assert_eq!(found[1].headers.len(), 3);
        let client = Some(("/c/h/c.pem".into(), Some("/c/h/k.pem".into())));
        assert_eq!(found[1].tls, Tls { ca: vec!["/c/h/ca.pem".into()], client, skip_verify: true });
    }

    #[test]
    fn what_is_left_out_is_the_host_itself() {
        assert_eq!(bases("", "quay.io"), ["https://quay.io/v2"]);
        assert_eq!(bases("", "docker.io"), ["https://registry-1.docker.io/v2"]);
        assert_eq!(bases("", "localhost:5000"), ["http://localhost:5000/v2"]);
        assert_eq!(bases("skip_verify = true", "localhost:5000"), ["https://localhost:5000/v2"]);
        assert_eq!(
            bases("server = 'http://q.io'\n[host.'q.io']", "q.io"),
            ["https://q.io/v2", "http://q.io/v2"]
        );
        assert_eq!(bases("[host.'https://q.io/v2/']", "q.io"), ["https://q.io/v2"]);
        assert_eq!(bases("[host.'HTTPS://q.io']", "q.io"), ["https://q.io/v2"]);
    }

    #[test]
    fn mistakes_are_errors() {
        for (text, why) in [
            ("server = 1", "invalid type"),
            ("[host.'ftp://x']", "neither http"),
            ("[host.'http:12+//12https://x#y']", "not of the form"),
            ("[host.'https://x#/y']", "not of the form"),
            ("[host.'https://x?y=z']", "not of the form"),
            ("[host.'https://x\\q.io']", "not of the form"),
            ("[host.'https:///x']", "not of the form"),
            ("[host.' https://x']", "not of the form"),
            ("[host.'https://x']\ncapabilities = ['fly']", "unknown capability"),
            ("[host.'https://x']\nclient = ['a','b','c']", "more than one client"),
            ("[host.'https://x'.header]\n'a b' = 'c'", "make no header"),
            ("[host", "TOML parse error"),
        ] {
            let error = parse(text, Path::new("/c"), "h").unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn loopback_hosts_are_known() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.8.8.8", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "10.0.0.1:5000", "localhost:443", "q.io"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
