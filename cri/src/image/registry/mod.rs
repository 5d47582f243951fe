//! Registries: who is asked for what, in which order, and how again when it fails.
//!
//! It keeps nothing on disk and does not look into what it brings, but for digests.

mod challenge;
mod clients;
mod connection;
mod credentials;
mod download;
mod follow;
mod hosts;
#[cfg(test)]
mod named;
mod pace;
mod resolve;
mod token;

pub use challenge::{Challenge, token_of};
pub use credentials::{Credentials, Login};
pub use download::Download;
pub use hosts::{Endpoint, Tls, endpoints};

use crate::error::{Error, Kind, Result};
use crate::image::blocking::blocking;
use crate::image::config::RegistryConfig;
use crate::image::digest::{Digest, Hasher, Verified};
use crate::image::manifest::Descriptor;
use crate::image::reference::{Asked, Reference};
use clients::Clients;
use connection::{Ask, Connection, Expected};
use credentials::HostLogin;
use pace::Pace;
use reqwest::Method;
use reqwest::header::CONTENT_LENGTH;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Blobs that a pull asks about at a time.
const ASKING: usize = 8;

/// What is understood of what a tag or digest may name.
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A manifest or an index as it was sent.
#[derive(Debug, Clone)]
pub struct Document {
    /// By its header, which proves nothing.
    pub media_type: String,
    /// As sent.
    pub content: Verified,
}

/// All registries: connections by how they are secured.
pub struct Registries {
    config: RegistryConfig,
    clients: Arc<Clients>,
}

impl Registries {
    /// Connects to none yet.
    pub fn new(config: RegistryConfig) -> Self {
        Self { config, clients: Arc::default() }
    }

    /// The repository of a reference, with the hosts that serve it.
    pub async fn repository(&self, of: &Reference, sent: Option<&Credentials>) -> Result<Repository> {
        let pace = Pace::new(self.config.stall_seconds, self.config.least_bytes_per_second);
        let mut connections = Vec::new();
        let mut asked = Told::of(&of.name());
        // Files are read at each pull, and away from the threads that answer.
        let (config_path, host, clients) =
            (self.config.config_path.clone(), of.host.clone(), self.clients.clone());
        let found = move || {
            let with_client = |endpoint: Endpoint| {
                let client = clients.of(&endpoint.tls, pace.window)?;
                Ok((endpoint, client))
            };
            endpoints(&config_path, &host)?.into_iter().map(with_client).collect::<Result<Vec<_>>>()
        };
        for (endpoint, client) in blocking(found).await? {
            let login = HostLogin::find(&endpoint, (&of.host, sent), &self.config.docker_config).await?;
            asked.host(&endpoint, login.as_ref());
            connections.push(Arc::new(Connection::new(endpoint, (client, pace), (of, login))));
        }
        Ok(Repository {
            host: of.host.clone(),
            name: of.name(),
            asked: asked.0.finish(),
            connections,
            attempts: self.config.attempts.max(1),
            most: self.config.limits.document_bytes,
            pace,
            asking: Semaphore::new(ASKING),
        })
    }
}

/// One repository on all hosts that serve it.
pub struct Repository {
    /// The host of its images, whoever is asked for them.
    pub host: String,
    name: String,
    /// Of the repository, of its hosts, and of what is shown to them: where two are the same, the same is asked for in the same words.
    pub asked: Digest,
    connections: Vec<Arc<Connection>>,
    attempts: u32,
    most: usize,
    pace: Pace,
    asking: Semaphore,
}

/// Who is asked, and what he is shown, on the way to a digest. Each word has its length before it, so that no two are taken for others.
struct Told(Hasher);

impl Told {
    fn of(name: &str) -> Self {
        let mut told = Self(Hasher::sha256());
        told.word(name.as_bytes());
        told
    }

    fn word(&mut self, word: &[u8]) {
        self.0.update(&(word.len() as u64).to_le_bytes());
        self.0.update(word);
    }

    fn host(&mut self, endpoint: &Endpoint, login: Option<&HostLogin>) {
        self.word(endpoint.base.as_bytes());
        self.word(format!("{:?} {}", endpoint.tls, endpoint.headers.len()).as_bytes());
        for (name, value) in &endpoint.headers {
            self.word(name.as_str().as_bytes());
            self.word(value.as_bytes());
        }
        login
            .map(HostLogin::words)
            .unwrap_or_default()
            .into_iter()
            .for_each(|word| self.word(word.as_bytes()));
    }
}

impl Repository {
    /// The digest that a tag stands for, as the registry says; None where it doesn't say it without the content. Of a digest it is asked
    /// whether it lets us have it, and nothing else that it answers counts.
    pub async fn resolve(&self, wanted: Asked<'_>) -> Result<Option<Digest>> {
        let ask = Ask {
            method: Method::HEAD,
            path: format!("manifests/{wanted}"),
            accept: Some(ACCEPTED),
            from: 0,
            // An answer without content proves nothing.
            is_proved: false,
        };
        let response = match self.first(&ask, matches!(wanted, Asked::Tag(_))).await {
            Ok(response) => response,
            // Some registries know no HEAD; the content tells the digest then.
            Err(error) if error.kind() == Kind::Invalid => return Ok(None),
            Err(error) => return Err(error),
        };
        if let Asked::Digest(digest) = wanted {
            return Ok(Some(digest.clone()));
        }
        let header = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        Ok(header.and_then(|text| Digest::parse(text).ok()))
    }

    /// The manifest or index of a tag or digest; one asked for by digest has it.
    pub async fn document(&self, wanted: Asked<'_>) -> Result<Document> {
        self.manifest(wanted, None).await
    }

    /// An entry of an index.
    pub async fn child(&self, of: &Descriptor) -> Result<Document> {
        self.manifest(Asked::Digest(&of.digest), Some(of.size)).await
    }

    async fn manifest(&self, wanted: Asked<'_>, size: Option<u64>) -> Result<Document> {
        let digest = match wanted {
            Asked::Tag(_) => None,
            Asked::Digest(digest) => Some(digest),
        };
        let (path, is_proved) = (format!("manifests/{wanted}"), digest.is_some());
        let ask = Ask { method: Method::GET, path, accept: Some(ACCEPTED), from: 0, is_proved };
        self.whole(&ask, &Expected { what: "manifest", digest, size, most: self.most }).await
    }

    /// A small blob, whole, of at most `most` bytes: a config.
    pub async fn blob(&self, of: &Descriptor, most: usize) -> Result<Verified> {
        let path = format!("blobs/{}", of.digest);
        let ask = Ask { method: Method::GET, path, accept: None, from: 0, is_proved: true };
        if of.size > most as u64 {
            let text = format!("get blob {}: it has {} bytes, at most {most} are taken", of.digest, of.size);
            return Err(Error::invalid(text));
        }
        let expected = Expected { what: "blob", digest: Some(&of.digest), size: Some(of.size), most };
        Ok(self.whole(&ask, &expected).await?.content)
    }

    /// What the first of the hosts sends that has it as it should be.
    async fn whole(&self, ask: &Ask, expected: &Expected<'_>) -> Result<Document> {
        let mut errors: Vec<Error> = Vec::new();
        let connections = self.able(expected.digest.is_none());
        for (index, connection) in connections.iter().enumerate() {
            let attempts = self.attempts_of(index, &connections);
            match connection.whole(ask, attempts, expected).await {
                Ok(document) => return Ok(document),
                Err(error) => errors.push(error),
            }
        }
        Err(self.all_failed(errors))
    }

    /// Whether the registry says that this repository has the blob, of that length, for whoever pulls. Only of a host that gave it before
    /// does that mean something.
    pub async fn has(&self, of: &Descriptor) -> bool {
        let Ok(_few) = self.asking.acquire().await else { return false };
        for method in [Method::HEAD, Method::GET] {
            let path = format!("blobs/{}", of.digest);
            let ask = Ask { method, path, accept: None, from: 0, is_proved: false };
            match self.first(&ask, false).await {
                Ok(response) => {
                    let length = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
                    return length.and_then(|text| text.parse().ok()) == Some(of.size);
                }
                // Some know no HEAD, or lead to stores where only a GET is let in. Of a GET's answer nothing but the head is read.
                Err(error) if matches!(error.kind(), Kind::Invalid | Kind::Denied) => {}
                Err(_) => return false,
            }
        }
        false
    }

    /// A large blob, piece by piece; hosts before the number `from` are not asked, nor for the first `kept` bytes.
    pub fn download(self: &Arc<Self>, of: &Descriptor, from: usize, kept: u64) -> Download {
        Download::new(self.clone(), of, from, kept)
    }

    /// How many hosts there are.
    pub fn hosts(&self) -> usize {
        self.connections.len()
    }

    /// The first answer of the hosts in their order. One that has not what is wanted, or can't be reached, is passed over.
    async fn first(&self, ask: &Ask, by_tag: bool) -> Result<reqwest::Response> {
        let mut errors: Vec<Error> = Vec::new();
        let connections = self.able(by_tag);
        for (index, connection) in connections.iter().enumerate() {
            let attempts = self.attempts_of(index, &connections);
            match connection.send(ask, attempts).await {
                Ok(response) => return Ok(response),
                Err(error) => errors.push(error),
            }
        }
        Err(self.all_failed(errors))
    }

    /// The hosts that may be asked.
    fn able(&self, by_tag: bool) -> Vec<&Arc<Connection>> {
        let able = |connection: &&Arc<Connection>| match by_tag {
            true => connection.endpoint.resolve,
            false => connection.endpoint.pull,
        };
        self.connections.iter().filter(able).collect()
    }

    /// A host with others behind it is not waited for.
    fn attempts_of(&self, index: usize, among: &[&Arc<Connection>]) -> u32 {
        if index + 1 == among.len() { self.attempts } else { 1 }
    }

    fn all_failed(&self, mut errors: Vec<Error>) -> Error {
        let Some(last) = errors.pop() else {
            return Error::invalid(format!("ask for {}: no host may be asked", self.name))
                .cure("see `capabilities` in its hosts.toml");
        };
        if errors.is_empty() {
            return last;
        }
        let before: Vec<_> = errors.iter().map(Error::to_string).collect();
        last.during(format!("ask {} hosts for {} ({})", errors.len() + 1, self.name, before.join("; ")))
    }
}
