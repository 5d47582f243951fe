//! Requests to one host of a repository: tokens, patience, and what its errors mean. It knows no order of hosts.

use super::Document;
use super::challenge::Challenge;
use super::clients::Pair;
use super::credentials::{HostLogin, Login};
use super::follow::{self, Outgoing, is_same_host, shown};
use super::hosts::Endpoint;
use super::pace::{Pace, body, words};
use super::token::Wanted;
use crate::error::{Context, Error, Kind, Result};
use crate::image::digest::{Digest, Verified};
use crate::image::reference::Reference;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use reqwest::{Method, Response, StatusCode, Url};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// The longest wait that a registry's Retry-After is obeyed for.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most characters of a registry's own words in an error.
const WORDS: usize = 500;

/// A request without its host.
pub struct Ask {
    /// GET or HEAD.
    pub method: Method,
    /// Below the repository: `manifests/latest`.
    pub path: String,
    /// Media types.
    pub accept: Option<&'static str>,
    /// The first byte that is wanted.
    pub from: u64,
    /// What comes is proved by its hash.
    pub is_proved: bool,
}

/// What an answer should turn out to be.
pub struct Expected<'a> {
    /// For errors.
    pub what: &'static str,
    /// None where it was asked for by tag.
    pub digest: Option<&'a Digest>,
    /// Its length, where that was told with the digest.
    pub size: Option<u64>,
    /// The most bytes that are taken.
    pub most: usize,
}

impl Expected<'_> {
    async fn take(&self, response: Response, pace: Pace) -> Result<Document> {
        let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type =
            media_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_owned();
        let bytes = body(response, self.most, pace).await?;
        let content = match self.digest {
            Some(digest) => Verified::asked(self.what, bytes, (digest, self.size))?,
            None => Verified::unasked(bytes),
        };
        Ok(Document { media_type, content })
    }
}

/// One host, the repository there, and what lets us in.
pub struct Connection {
    /// Where and how.
    pub endpoint: Endpoint,
    clients: Pair,
    repository: String,
    /// The image's own host, for mirrors.
    host: String,
    login: Option<HostLogin>,
    pace: Pace,
    authorization: Mutex<Option<HeaderValue>>,
    /// Of a host that requests are passed on to.
    elsewhere: Mutex<Option<(Url, HeaderValue)>>,
}

impl Connection {
    /// Nothing is sent yet.
    pub fn new(
        endpoint: Endpoint,
        (clients, pace): (Pair, Pace),
        (of, login): (&Reference, Option<HostLogin>),
    ) -> Self {
        let (repository, host) = (of.repository.clone(), of.host.clone());
        let (authorization, elsewhere) = Default::default();
        Self { endpoint, clients, repository, host, login, pace, authorization, elsewhere }
    }

    /// Sends the request until there is an answer that is one, at most `attempts` times.
    pub async fn send(&self, ask: &Ask, attempts: u32) -> Result<Response> {
        let mut attempt = 1;
        let (mut authorized, mut authorized_elsewhere) = (false, false);
        loop {
            let (error, wait) = match self.once(ask).await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response)
                    if response.status() == StatusCode::UNAUTHORIZED
                        && !authorized
                        && self.is_own(&response) =>
                {
                    // Once only: a registry that refuses its own token would be asked for ever.
                    authorized = true;
                    self.authorize(&response).await?;
                    continue;
                }
                Ok(response)
                    if response.status() == StatusCode::UNAUTHORIZED
                        && !authorized_elsewhere
                        && !self.is_own(&response)
                        && challenge_of(&response).is_some_and(|wish| wish != Challenge::Basic) =>
                {
                    authorized_elsewhere = true;
                    self.introduce(&response).await?;
                    continue;
                }
                Ok(response) => {
                    let wait = retry_after(&response);
                    let again = is_passing(response.status());
                    let error = self.refused(ask, response).await;
                    if !again {
                        return Err(error);
                    }
                    (error, wait)
                }
                // Not for this request, however often it is made.
                Err(error) if error.kind() == Kind::Denied => return Err(error),
                Err(error) => (error, None),
            };
            if attempt >= attempts {
                return Err(error);
            }
            tracing::debug!(%error, attempt, "registry asked again");
            tokio::time::sleep(wait.unwrap_or_else(|| backoff(attempt))).await;
            attempt += 1;
        }
    }

    /// The whole answer, as it should be.
    pub async fn whole(&self, ask: &Ask, attempts: u32, expected: &Expected<'_>) -> Result<Document> {
        let mut attempt = 1;
        loop {
            let error = match expected.take(self.send(ask, attempts).await?, self.pace).await {
                Ok(document) => return Ok(document),
                Err(error) => error,
            };
            if attempt >= attempts || !matches!(error.kind(), Kind::Unavailable | Kind::Timeout) {
                return Err(error);
            }
            tracing::debug!(%error, attempt, "registry asked again");
            tokio::time::sleep(backoff(attempt)).await;
            attempt += 1;
        }
    }

    async fn once(&self, ask: &Ask) -> Result<Response> {
        let (mut headers, mut secrets) = (HeaderMap::new(), self.endpoint.headers.clone());
        headers.extend(ask.accept.map(|accept| (ACCEPT, HeaderValue::from_static(accept))));
        if ask.from > 0 {
            headers.extend(HeaderValue::try_from(format!("bytes={}-", ask.from)).map(|range| (RANGE, range)));
        }
        if let Some(value) = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            secrets.append(AUTHORIZATION, value);
        }
        let (method, url) = (ask.method.clone(), self.url(&ask.path)?);
        let also = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (form, is_named, is_proved) = (None, true, ask.is_proved);
        let request = Outgoing { method, url, headers, secrets, form, is_named, also, is_proved };
        follow::send(&self.clients, request, self.pace.window).await
    }

    /// Whether this host answered, and not one that it passed the request on to, whose wishes are none of ours.
    fn is_own(&self, response: &Response) -> bool {
        self.url("").is_ok_and(|url| is_same_host(&url, response.url()))
    }

    fn url(&self, path: &str) -> Result<Url> {
        let text = format!("{}/{}/{path}", self.endpoint.base, self.repository);
        let mut url =
            Url::parse(&text).map_err(|error| Error::invalid(format!("make address {text}: {error}")))?;
        if self.endpoint.mirror {
            url.query_pairs_mut().append_pair("ns", &self.host);
        }
        Ok(url)
    }

    /// Gets what the registry's 401 asks for.
    async fn authorize(&self, response: &Response) -> Result<()> {
        let what = || format!("authorize at {}", self.endpoint.base);
        let denied = |why: &str| Error::new(Kind::Denied, format!("{}: {why}", what()));
        let challenge = challenge_of(response).ok_or_else(|| denied("it asks for something unknown"))?;
        let login =
            self.login.as_ref().filter(|login| login.is_for(&self.endpoint)).map(|login| &login.login);
        let unsafe_here = login.is_none() && self.login.is_some();
        let value = match (challenge, login) {
            (_, Some(Login::Bearer(token))) => header(&format!("Bearer {token}"))?,
            (Challenge::Basic, Some(Login::Basic(user, password))) => basic(user, password)?,
            (Challenge::Basic, _) if unsafe_here => {
                return Err(denied("it wants a user and a password, and those of the image's host go to no other without TLS")
                    .cure("ask it by https, or write credentials of its own"));
            }
            (Challenge::Basic, _) => {
                return Err(denied("it wants a user and a password").cure("give credentials with the pull"));
            }
            (Challenge::Bearer { realm, service, scope }, _) => {
                let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.repository));
                let registry = &self.url("")?;
                let wanted = Wanted { realm: &realm, service, scope, registry, is_own: true, login };
                header(&format!("Bearer {}", wanted.get(&self.clients, self.pace).await.what(what)?))?
            }
        };
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        Ok(())
    }

    /// Gets what the 401 of a host asks for that a request was passed on to (a registry behind a name of somebody's own), as anybody would get
    /// it: what is ours is for the first host.
    async fn introduce(&self, response: &Response) -> Result<()> {
        let host = response.url();
        let Some(Challenge::Bearer { realm, service, scope }) = challenge_of(response) else { return Ok(()) };
        let what = || format!("authorize at {}, which {} passed it on to", shown(host), self.endpoint.base);
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.repository));
        let wanted = Wanted { realm: &realm, service, scope, registry: host, is_own: false, login: None };
        let token = header(&format!("Bearer {}", wanted.get(&self.clients, self.pace).await.what(what)?))?;
        *self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner) = Some((host.clone(), token));
        Ok(())
    }

    /// An answer that is none as an error, with the registry's own words.
    async fn refused(&self, ask: &Ask, response: Response) -> Error {
        let status = response.status();
        let url = self.url(&ask.path).map(|url| shown(&url)).unwrap_or_default();
        // Those of one that it passed us on to may be anybody's.
        let text = if self.is_own(&response) { reason(&words(response, 4096).await) } else { String::new() };
        let error = Error::new(kind_of(status), format!("{} {url}: {status}{text}", ask.method));
        match (status, &self.login) {
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, None) => {
                error.cure("no credentials were given for it")
            }
            (StatusCode::TOO_MANY_REQUESTS, _) => error.cure("the registry limits how often it is asked"),
            _ => error,
        }
    }
}

fn challenge_of(response: &Response) -> Option<Challenge> {
    let all = response.headers().get_all(WWW_AUTHENTICATE);
    Challenge::best(all.iter().filter_map(|value| value.to_str().ok()))
}

pub(super) fn kind_of(status: StatusCode) -> Kind {
    match status {
        StatusCode::NOT_FOUND => Kind::NotFound,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Kind::Denied,
        status if is_passing(status) => Kind::Unavailable,
        _ => Kind::Invalid,
    }
}

fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429) || status.is_server_error()
}

/// `: message` of a registry's error document, where it is one.
pub(super) fn reason(text: &[u8]) -> String {
    let document: serde_json::Value = serde_json::from_slice(text).unwrap_or_default();
    let first = &document["errors"][0];
    let parts = [&first["code"], &first["message"], &document["details"]]
        .map(|part| part.as_str().unwrap_or_default());
    let words: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let words: String = words.join(", ").chars().take(WORDS).collect();
    if words.is_empty() { words } else { format!(": {}", words.escape_debug()) }
}

/// User and password as a header.
pub(super) fn basic(user: &str, password: &str) -> Result<HeaderValue> {
    header(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

fn header(text: &str) -> Result<HeaderValue> {
    let unfit = |_| Error::new(Kind::Denied, "the credentials fit into no header");
    let mut value = HeaderValue::from_str(text).map_err(unfit)?;
    value.set_sensitive(true);
    Ok(value)
}

/// What the registry asks to wait, in seconds or until a date.
fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    let wait = match text.trim().parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).ok()?,
    };
    Some(wait.min(PATIENCE))
}

/// Doubling from a quarter of a second to eight, give or take a quarter.
pub fn backoff(attempt: u32) -> Duration {
    let milliseconds = 250u64 << attempt.saturating_sub(1).min(5);
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    Duration::from_millis(milliseconds * 3 / 4 + u64::from(clock) % (milliseconds / 2 + 1))
}
