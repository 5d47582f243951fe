//! HTTP clients by how certificates are judged: by what the files of a host's configuration hold, not by their names.

use super::follow;
use super::hosts::Tls;
use super::resolve::{self, Led, Named, Near};
use crate::document;
use crate::error::{Error, Result};
use crate::image::digest::{Digest, Hasher};
use reqwest::dns::Resolve;
use reqwest::{Client, Url, redirect};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(15);

/// One client for each configuration, until what its files hold changes.
#[derive(Default)]
pub struct Clients(Mutex<HashMap<Tls, (Digest, Pair)>>);

/// The clients of one host's configuration, by who gave the name that is connected to. Connections are kept apart, so none that the user's
/// name led to serves another's.
#[derive(Clone)]
pub struct Pair {
    named: Client,
    led: Client,
    near: Arc<Near>,
}

impl Pair {
    /// For a host that the user named, or that somebody elsewhere led to.
    pub fn of(&self, is_named: bool) -> &Client {
        if is_named { &self.named } else { &self.led }
    }

    /// Whether this machine itself, or its link, is there: by its address, or by what its name led to where the user gave it.
    pub fn is_near(&self, url: &Url) -> bool {
        follow::is_near(url) || url.host_str().is_some_and(|name| self.near.has(name))
    }
}

impl Clients {
    /// The clients for hosts whose certificates are judged so.
    pub fn of(&self, tls: &Tls, stall: Duration) -> Result<Pair> {
        let files = Files::read(tls)?;
        let digest = files.digest();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = known.get(tls).filter(|(of, _)| *of == digest) {
            return Ok(client.clone());
        }
        let client = files.client(tls, stall)?;
        known.insert(tls.clone(), (digest, client.clone()));
        Ok(client)
    }
}

/// What a configuration's files hold.
struct Files {
    authorities: Vec<Vec<u8>>,
    /// Certificate and key.
    identity: Option<Vec<u8>>,
}

impl Files {
    fn read(tls: &Tls) -> Result<Self> {
        let read = |path: &Path| document::named(path, document::MOST);
        let identity = match &tls.client {
            None => None,
            Some((certificate, key)) => {
                let mut pem = read(certificate)?;
                pem.push(b'\n');
                pem.extend(key.as_deref().map(read).transpose()?.unwrap_or_default());
                Some(pem)
            }
        };
        Ok(Self { authorities: tls.ca.iter().map(|path| read(path)).collect::<Result<_>>()?, identity })
    }

    fn digest(&self) -> Digest {
        let mut hasher = Hasher::sha256();
        for part in self.identity.iter().chain(&self.authorities) {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.finish()
    }

    fn client(&self, tls: &Tls, stall: Duration) -> Result<Pair> {
        // Another part of the program may have chosen already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let unfit =
            |path: &Path, error: reqwest::Error| Error::invalid(format!("read {}: {error}", path.display()));
        let mut authorities = Vec::new();
        for (path, pem) in tls.ca.iter().zip(&self.authorities) {
            let certificates = reqwest::Certificate::from_pem_bundle(pem);
            authorities.extend(certificates.map_err(|error| unfit(path, error))?);
        }
        let identity = match (&tls.client, &self.identity) {
            (Some((path, _)), Some(pem)) => {
                Some(reqwest::Identity::from_pem(pem).map_err(|error| unfit(path, error))?)
            }
            _ => None,
        };
        let builder = || {
            let mut builder = Client::builder()
                .user_agent(concat!("rt-cri/", env!("CARGO_PKG_VERSION")))
                // A connection for each layer: one shared by all of HTTP/2 is slower, and its windows cost memory.
                .http1_only()
                // `follow` does it: reqwest would pass on all headers but its own.
                .redirect(redirect::Policy::none())
                .connect_timeout(CONNECT)
                .read_timeout(stall)
                .pool_idle_timeout(Duration::from_secs(30))
                .referer(false)
                .tls_danger_accept_invalid_certs(tls.skip_verify);
            if let Some(identity) = identity.clone() {
                builder = builder.identity(identity);
            }
            builder
        };
        let near = Arc::<Near>::default();
        let client = |is_named: bool| {
            let resolver = || -> Arc<dyn Resolve> {
                match is_named {
                    true => Arc::new(Named(near.clone())),
                    false => Arc::new(Led { proxies: resolve::proxies() }),
                }
            };
            let made = builder().dns_resolver(resolver()).tls_certs_merge(authorities.clone()).build();
            // A host without any authorities: those of the configuration, or none, which refuses all https.
            let only = |_| builder().dns_resolver(resolver()).tls_certs_only(authorities.clone()).build();
            made.or_else(only).map_err(|error| Error::internal(format!("make http client: {error}")))
        };
        Ok(Pair { named: client(true)?, led: client(false)?, near: near.clone() })
    }
}
