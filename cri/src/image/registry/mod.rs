//! Registries: who is asked for what, in which order, and how again when it fails.
//!
//! It keeps nothing on disk and does not look into what it brings, but for digests.

mod challenge;
mod connection;
mod credentials;
mod download;
mod hosts;

pub use challenge::{Challenge, token_of};
pub use credentials::{Credentials, Login};
pub use download::Download;
pub use hosts::{Endpoint, Tls, endpoints};

use crate::error::{Error, Kind, Result};
use crate::image::config::RegistryConfig;
use crate::image::digest::Digest;
use crate::image::manifest::Descriptor;
use crate::image::reference::Reference;
use connection::{Ask, Connection};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What is understood of what a tag or digest may name.
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A manifest or an index as it was sent.
#[derive(Debug, Clone)]
pub struct Document {
    /// By its header.
    pub media_type: String,
    /// Of the bytes.
    pub digest: Digest,
    /// As sent.
    pub bytes: Vec<u8>,
}

/// All registries: connections by how they are secured.
pub struct Registries {
    config: RegistryConfig,
    clients: Mutex<HashMap<Tls, reqwest::Client>>,
}

impl Registries {
    /// Connects to none yet.
    pub fn new(config: RegistryConfig) -> Self {
        Self { config, clients: Mutex::default() }
    }

    /// The repository of a reference, with the hosts that serve it.
    pub async fn repository(&self, of: &Reference, sent: Option<&Credentials>) -> Result<Repository> {
        let login = match sent {
            Some(credentials) => credentials.login(&of.host)?,
            None => credentials::docker_login(&self.config.docker_config, &of.host).await?,
        };
        let mut connections = Vec::new();
        for endpoint in endpoints(&self.config.config_path, &of.host)? {
            let client = self.client(&endpoint.tls)?;
            connections.push(Arc::new(Connection::new(endpoint, client, (of, login.clone()))));
        }
        let most = self.config.limits.document_bytes;
        Ok(Repository { name: of.name(), connections, attempts: self.config.attempts.max(1), most })
    }

    fn client(&self, tls: &Tls) -> Result<reqwest::Client> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(tls) {
            return Ok(client.clone());
        }
        let client = connection::client(tls, self.config.stall_seconds)?;
        clients.insert(tls.clone(), client.clone());
        Ok(client)
    }
}

/// One repository on all hosts that serve it.
pub struct Repository {
    name: String,
    connections: Vec<Arc<Connection>>,
    attempts: u32,
    most: usize,
}

impl Repository {
    /// The digest that a tag or digest stands for; None where the registry doesn't say it without the content.
    pub async fn resolve(&self, wanted: &str) -> Result<Option<Digest>> {
        let ask = Ask {
            method: Method::HEAD,
            path: format!("manifests/{wanted}"),
            accept: Some(ACCEPTED),
            from: 0,
        };
        let response = match self.first(&ask, Digest::parse(wanted).is_err()).await {
            Ok(response) => response,
            // Some registries know no HEAD; the content tells the digest then.
            Err(error) if error.kind() == Kind::Invalid => return Ok(None),
            Err(error) => return Err(error),
        };
        let header = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        Ok(header.and_then(|text| Digest::parse(text).ok()))
    }

    /// The manifest or index of a tag or digest; one asked for by digest has it.
    pub async fn document(&self, wanted: &str) -> Result<Document> {
        let ask =
            Ask { method: Method::GET, path: format!("manifests/{wanted}"), accept: Some(ACCEPTED), from: 0 };
        let by_digest = Digest::parse(wanted).ok();
        let response = self.first(&ask, by_digest.is_none()).await?;
        let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type =
            media_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_owned();
        let bytes = connection::body(response, self.most).await?;
        let digest = match by_digest {
            Some(wanted) if !wanted.matches(&bytes) => return Err(other_content("manifest", &wanted)),
            Some(wanted) => wanted,
            None => Digest::of(&bytes),
        };
        Ok(Document { media_type, digest, bytes })
    }

    /// A small blob, whole: a config.
    pub async fn blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let ask = Ask { method: Method::GET, path: format!("blobs/{digest}"), accept: None, from: 0 };
        let bytes = connection::body(self.first(&ask, false).await?, self.most).await?;
        if digest.matches(&bytes) { Ok(bytes) } else { Err(other_content("blob", digest)) }
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
        let able = |connection: &&Arc<Connection>| match by_tag {
            true => connection.endpoint.resolve,
            false => connection.endpoint.pull,
        };
        let connections: Vec<_> = self.connections.iter().filter(able).collect();
        for (index, connection) in connections.iter().enumerate() {
            // A host with others behind it is not waited for.
            let attempts = if index + 1 == connections.len() { self.attempts } else { 1 };
            match connection.send(ask, attempts).await {
                Ok(response) => return Ok(response),
                Err(error) => errors.push(error),
            }
        }
        Err(self.all_failed(errors))
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

/// Content that is not what was asked for.
pub fn other_content(what: &str, wanted: &Digest) -> Error {
    Error::new(Kind::Invalid, format!("verify {what} {wanted}: what was sent has another digest"))
        .cure("the registry, a mirror or a proxy changed it")
}
