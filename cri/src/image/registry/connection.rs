//! Requests to one host of a repository: tokens, patience, and what its errors mean. It knows no order of hosts.

use super::Document;
use super::challenge::{Challenge, token_of};
use super::credentials::Login;
use super::hosts::{Endpoint, Tls};
use crate::error::{Context, Error, Kind, Result};
use crate::image::digest::{Digest, Verified};
use crate::image::reference::Reference;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RANGE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use reqwest::{Client, Method, Response, StatusCode, Url};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(15);
/// The longest wait that a registry's Retry-After is obeyed for.
const PATIENCE: Duration = Duration::from_secs(60);
/// The largest token answer.
const TOKEN: usize = 1 << 20;

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
    async fn take(&self, response: Response) -> Result<Document> {
        let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type =
            media_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_owned();
        let bytes = body(response, self.most).await?;
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
    client: Client,
    repository: String,
    /// The image's own host, for mirrors.
    host: String,
    login: Option<Login>,
    authorization: Mutex<Option<HeaderValue>>,
}

impl Connection {
    /// Nothing is sent yet.
    pub fn new(endpoint: Endpoint, client: Client, (of, login): (&Reference, Option<Login>)) -> Self {
        let (repository, host) = (of.repository.clone(), of.host.clone());
        Self { endpoint, client, repository, host, login, authorization: Mutex::default() }
    }

    /// Sends the request until there is an answer that is one, at most `attempts` times.
    pub async fn send(&self, ask: &Ask, attempts: u32) -> Result<Response> {
        let mut attempt = 1;
        let mut authorized = false;
        loop {
            let (error, wait) = match self.once(ask).await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) if response.status() == StatusCode::UNAUTHORIZED && !authorized => {
                    // Once only: a registry that refuses its own token would be asked for ever.
                    authorized = true;
                    self.authorize(&response).await?;
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
            let error = match expected.take(self.send(ask, attempts).await?).await {
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
        let url = self.url(&ask.path)?;
        let mut request = self.client.request(ask.method.clone(), url.clone());
        for (name, value) in &self.endpoint.headers {
            request = request.header(name, value);
        }
        if let Some(accept) = ask.accept {
            request = request.header(ACCEPT, accept);
        }
        if ask.from > 0 {
            request = request.header(RANGE, format!("bytes={}-", ask.from));
        }
        if let Some(value) = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            request = request.header(AUTHORIZATION, value);
        }
        request.send().await.map_err(|error| unreachable(&error, &format!("{} {}", ask.method, shown(&url))))
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
        let headers =
            response.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let what = || format!("authorize at {}", self.endpoint.base);
        let denied = |why: &str| Error::new(Kind::Denied, format!("{}: {why}", what()));
        let challenge = Challenge::best(headers).ok_or_else(|| denied("it asks for something unknown"))?;
        let text = match (challenge, &self.login) {
            (_, Some(Login::Bearer(token))) => format!("Bearer {token}"),
            (Challenge::Basic, Some(Login::Basic(user, password))) => basic(user, password),
            (Challenge::Basic, _) => {
                return Err(denied("it wants a user and a password").cure("give credentials with the pull"));
            }
            (Challenge::Bearer { realm, service, scope }, _) => {
                format!("Bearer {}", self.token(&realm, service, scope).await.what(what)?)
            }
        };
        let mut value =
            HeaderValue::from_str(&text).map_err(|_| denied("the credentials fit into no header"))?;
        value.set_sensitive(true);
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        Ok(())
    }

    /// A token from the token server that the registry names.
    async fn token(&self, realm: &str, service: Option<String>, scope: Option<String>) -> Result<String> {
        let mut url = Url::parse(realm)
            .map_err(|error| Error::invalid(format!("read token server {realm:?}: {error}")))?;
        if self.endpoint.base.starts_with("https:") && url.scheme() != "https" && self.login.is_some() {
            return Err(Error::new(
                Kind::Denied,
                format!("send credentials to {}: not over https", shown(&url)),
            ));
        }
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.repository));
        let mut pairs: Vec<(&str, &str)> = vec![("scope", &scope)];
        pairs.extend(service.as_ref().map(|service| ("service", service.as_str())));
        let request = match &self.login {
            Some(Login::Refresh(token)) => {
                pairs.extend([
                    ("grant_type", "refresh_token"),
                    ("client_id", "rt-cri"),
                    ("refresh_token", token),
                ]);
                let mut form = Url::parse("form:").map_err(|error| Error::internal(error.to_string()))?;
                form.query_pairs_mut().extend_pairs(pairs);
                let body = form.query().unwrap_or_default().to_owned();
                let kind = "application/x-www-form-urlencoded";
                self.client.post(url.clone()).header(CONTENT_TYPE, kind).body(body)
            }
            login => {
                url.query_pairs_mut().extend_pairs(pairs);
                let request = self.client.get(url.clone());
                match login {
                    Some(Login::Basic(user, password)) => {
                        request.header(AUTHORIZATION, basic(user, password))
                    }
                    _ => request,
                }
            }
        };
        let what = format!("get token from {}", shown(&url));
        let response = request.send().await.map_err(|error| unreachable(&error, &what))?;
        let status = response.status();
        if !status.is_success() {
            let text = body(response, 4096).await.unwrap_or_default();
            return Err(Error::new(kind_of(status), format!("{what}: {status}{}", reason(&text))));
        }
        token_of(&body(response, TOKEN).await?)
    }

    /// An answer that is none as an error, with the registry's own words.
    async fn refused(&self, ask: &Ask, response: Response) -> Error {
        let status = response.status();
        let url = self.url(&ask.path).map(|url| shown(&url)).unwrap_or_default();
        let text = body(response, 4096).await.unwrap_or_default();
        let error = Error::new(kind_of(status), format!("{} {url}: {status}{}", ask.method, reason(&text)));
        match (status, &self.login) {
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, None) => {
                error.cure("no credentials were given for it")
            }
            (StatusCode::TOO_MANY_REQUESTS, _) => error.cure("the registry limits how often it is asked"),
            _ => error,
        }
    }
}

/// A client for hosts whose certificates are judged so.
pub fn client(tls: &Tls, stall_seconds: u64) -> Result<Client> {
    // Another part of the program may have chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let read = |path: &std::path::Path| std::fs::read(path).what(|| format!("read {}", path.display()));
    let unfit = |path: &std::path::Path, error: reqwest::Error| {
        Error::invalid(format!("read {}: {error}", path.display()))
    };
    let mut authorities = Vec::new();
    for path in &tls.ca {
        let certificates = reqwest::Certificate::from_pem_bundle(&read(path)?);
        authorities.extend(certificates.map_err(|error| unfit(path, error))?);
    }
    let identity = match &tls.client {
        None => None,
        Some((certificate, key)) => {
            let mut pem = read(certificate)?;
            pem.push(b'\n');
            pem.extend(key.as_deref().map(read).transpose()?.unwrap_or_default());
            Some(reqwest::Identity::from_pem(&pem).map_err(|error| unfit(certificate, error))?)
        }
    };
    let builder = || {
        let mut builder = Client::builder()
            .user_agent(concat!("rt-cri/", env!("CARGO_PKG_VERSION")))
            // A connection for each layer: one shared by all of HTTP/2 is slower, and its windows cost memory.
            .http1_only()
            .connect_timeout(CONNECT)
            .read_timeout(Duration::from_secs(stall_seconds.max(1)))
            .pool_idle_timeout(Duration::from_secs(30))
            .referer(false)
            .tls_danger_accept_invalid_certs(tls.skip_verify);
        if let Some(identity) = identity.clone() {
            builder = builder.identity(identity);
        }
        builder
    };
    let made = builder().tls_certs_merge(authorities.clone()).build();
    // A host without any authorities: those of the configuration, or none, which refuses all https.
    let made = made.or_else(|_| builder().tls_certs_only(authorities).build());
    made.map_err(|error| Error::internal(format!("make http client: {error}")))
}

/// The whole body, of at most `most` bytes.
pub async fn body(mut response: Response, most: usize) -> Result<Vec<u8>> {
    let url = shown(response.url());
    let mut bytes = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|error| unreachable(&error, &format!("read {url}")))?
    {
        if bytes.len() + chunk.len() > most {
            return Err(Error::invalid(format!("read {url}: more than the {most} bytes that are taken")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// A failure on the way, with its innermost reason.
pub fn unreachable(error: &reqwest::Error, what: &str) -> Error {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let why = innermost.to_string();
    let kind = if error.is_timeout() { Kind::Timeout } else { Kind::Unavailable };
    let error = Error::new(kind, format!("{what}: {why}"));
    match why.contains("certificate") || why.contains("UnknownIssuer") {
        true => error.cure("name its authority as `ca` in the host's hosts.toml"),
        false => error,
    }
}

fn kind_of(status: StatusCode) -> Kind {
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
fn reason(text: &[u8]) -> String {
    let document: serde_json::Value = serde_json::from_slice(text).unwrap_or_default();
    let first = &document["errors"][0];
    let parts = [&first["code"], &first["message"], &document["details"]]
        .map(|part| part.as_str().unwrap_or_default());
    let words: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let words = words.join(", ");
    if words.is_empty() { words } else { format!(": {}", words.escape_debug()) }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// Without what may be secret in a query.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
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
