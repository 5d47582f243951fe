//! Image references: `HOST/REPOSITORY[:TAG][@DIGEST]` with docker's rules for what is left out. It asks no registry.

use crate::error::{Error, Result};
use crate::image::digest::Digest;
use std::fmt;

/// The longest name, host and repository together, that registries take.
const NAME: usize = 255;

/// A reference in full: with host and repository, and with a tag or a digest (or both).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// `docker.io`, `localhost:5000`, `[::1]:5000`
    pub host: String,
    /// `library/busybox`
    pub repository: String,
    /// `latest` where neither tag nor digest is given.
    pub tag: Option<String>,
    /// Names the content exactly; a tag beside it is decoration.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Reads a reference as people write it: `busybox`, `user/app:1`, `quay.io/a/b@sha256:…`.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: String| Error::invalid(format!("parse image reference {text:?}: {why}"));
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(Digest::parse(digest).map_err(|error| wrong(error.what))?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            // A colon before a slash belongs to the host's port.
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(wrong(format!("{tag:?} is no tag")));
        }
        let (host, repository) = split_host(name);
        if !is_host(&host) {
            return Err(wrong(format!("{host:?} is no host")));
        }
        if let Some(part) = repository.split('/').find(|part| !is_component(part)) {
            return Err(wrong(match part.bytes().any(|byte| byte.is_ascii_uppercase()) {
                true => format!("repository {repository:?} must be lower case"),
                false => format!("{part:?} can't be part of a repository"),
            }));
        }
        if host.len() + 1 + repository.len() > NAME {
            return Err(wrong(format!("longer than {NAME} bytes")));
        }
        let latest = || digest.is_none().then(|| "latest".to_owned());
        let tag = tag.map(str::to_owned).or_else(latest);
        Ok(Self { host, repository, tag, digest })
    }

    /// `docker.io/library/busybox`
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// `docker.io/library/busybox:1.36`; None where only a digest is given, or both are.
    pub fn repo_tag(&self) -> Option<String> {
        let tag = self.tag.as_ref().filter(|_| self.digest.is_none())?;
        Some(format!("{}:{tag}", self.name()))
    }

    /// `docker.io/library/busybox@sha256:…`
    pub fn repo_digest(&self, digest: &Digest) -> String {
        format!("{}@{digest}", self.name())
    }

    /// What a registry is asked for: the digest where there is one, else the tag.
    pub fn wanted(&self) -> Asked<'_> {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => Asked::Digest(digest),
            (None, Some(tag)) => Asked::Tag(tag),
            (None, None) => Asked::Tag("latest"),
        }
    }
}

/// How a manifest is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked<'a> {
    /// By a name that the registry may give to anything.
    Tag(&'a str),
    /// By what it is: no answer decides about that.
    Digest(&'a Digest),
}

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

/// `busybox` is docker.io/library/busybox, `a/b` is docker.io/a/b; a first part with a dot, a colon, or `localhost`, is a host.
fn split_host(name: &str) -> (String, String) {
    let (host, repository) = match name.split_once('/') {
        Some((first, rest)) if is_host_like(first) => (first, rest),
        _ => ("docker.io", name),
    };
    let host = if host == "index.docker.io" { "docker.io" } else { host };
    if host == "docker.io" && !repository.contains('/') {
        return (host.to_owned(), format!("library/{repository}"));
    }
    (host.to_owned(), repository.to_owned())
}

fn is_host_like(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':']) || part.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            let sound = address.parse::<std::net::Ipv6Addr>().is_ok();
            return sound && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
        }
        None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
    };
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

fn is_tag(tag: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let later = |byte: u8| first(byte) || byte == b'.' || byte == b'-';
    tag.len() <= 128 && tag.bytes().next().is_some_and(first) && tag.bytes().all(later)
}

/// Letters and digits, separated by `.`, `_`, `__` or any number of `-`.
fn is_component(part: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = |byte: Option<u8>| byte.is_some_and(word);
    let separators = part.split(|c: char| c.is_ascii_alphanumeric()).filter(|between| !between.is_empty());
    let sound =
        |between: &str| matches!(between, "." | "_" | "__") || between.bytes().all(|byte| byte == b'-');
    ends(part.bytes().next())
        && ends(part.bytes().last())
        && !part.bytes().any(|byte| byte.is_ascii_uppercase())
        && separators.into_iter().all(sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn what_is_left_out_is_filled_in_as_docker_does() {
        for (text, full) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("docker.io/busybox", "docker.io/library/busybox:latest"),
            ("index.docker.io/busybox:x", "docker.io/library/busybox:x"),
            ("user/app", "docker.io/user/app:latest"),
            ("quay.io/a/b/c:v1", "quay.io/a/b/c:v1"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app:1", "localhost:5000/app:1"),
            ("127.0.0.1:5000/app", "127.0.0.1:5000/app:latest"),
            ("[::1]:5000/app", "[::1]:5000/app:latest"),
            ("Registry.EXAMPLE.com/app", "Registry.EXAMPLE.com/app:latest"),
            ("a__b/c-----d/e.f", "docker.io/a__b/c-----d/e.f:latest"),
        ] {
            assert_eq!(Reference::parse(text).unwrap().to_string(), full, "{text}");
        }
    }

    #[test]
    fn a_digest_needs_no_tag_and_wins_over_one() {
        let bare = Reference::parse(&format!("app@{HEX}")).unwrap();
        assert_eq!(bare.to_string(), format!("docker.io/library/app@{HEX}"));
        let digest = Digest::parse(HEX).unwrap();
        assert_eq!((bare.repo_tag(), bare.wanted()), (None, Asked::Digest(&digest)));
        let both = Reference::parse(&format!("r.io:80/app:1@{HEX}")).unwrap();
        assert_eq!(both.to_string(), format!("r.io:80/app:1@{HEX}"));
        assert_eq!((both.repo_tag(), both.wanted()), (None, Asked::Digest(&digest)));
    }

    #[test]
    fn what_is_no_reference_is_refused_with_the_reason() {
        let long = "a/".repeat(130) + "a";
        for (text, why) in [
            ("", "can't be part of a repository"),
            ("Busybox", "lower case"),
            ("a//b", "can't be part"),
            ("a/../b", "can't be part"),
            ("a/b:", "no tag"),
            ("a/b:-x", "no tag"),
            ("a b", "can't be part"),
            ("a..b/c/", "no host"),
            ("a.b:99999/c", "no host"),
            ("a.b:x/c", "no host"),
            ("[::g]/c", "no host"),
            ("a@sha256:00", "hex digits"),
            ("a@", "no colon"),
            ("https://a/b", "no host"),
            ("a_.b", "can't be part"),
            (long.as_str(), "longer than"),
        ] {
            let error = Reference::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
