//! A token from the token server that a registry names, and to which of them credentials are shown. It keeps none.

use super::challenge::token_of;
use super::clients::Pair;
use super::connection::{basic, kind_of, reason};
use super::credentials::Login;
use super::follow::{self, Outgoing, shown};
use super::hosts::is_loopback;
use super::pace::{Pace, body, words};
use crate::error::{Error, Kind, Result};
use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Method, Url};

/// The largest token answer.
const TOKEN: usize = 1 << 20;
/// The most that is looked at of an error.
const WORDS: usize = 4096;

/// What a token is asked for with.
pub struct Wanted<'a> {
    /// The token server's address.
    pub realm: &'a str,
    /// What the token is for.
    pub service: Option<String>,
    /// What it should allow.
    pub scope: String,
    /// The registry that named the server.
    pub registry: &'a Url,
    /// It is the one that was asked, and none that it passed the request on to.
    pub is_own: bool,
    /// What may be shown.
    pub login: Option<&'a Login>,
}

impl Wanted<'_> {
    /// Asks for it.
    pub async fn get(self, clients: &Pair, pace: Pace) -> Result<String> {
        let Self { realm, service, scope, registry, is_own, login } = self;
        let mut url = Url::parse(realm)
            .map_err(|error| Error::invalid(format!("read token server {realm:?}: {error}")))?;
        let denied = |why| Err(Error::new(Kind::Denied, format!("get token from {}: {why}", shown(&url))));
        let is_near = clients.is_near(registry);
        if follow::is_inward(is_near, &url) {
            return denied("which only this machine reaches, and its registry is elsewhere");
        }
        if registry.scheme() == "https" && url.scheme() != "https" {
            return denied("not over https, as its registry is");
        }
        if login.is_some() && !may_see_credentials(registry, &url) {
            let text = format!("send credentials to {}: not over https", shown(&url));
            return Err(Error::new(Kind::Denied, text).cure("its registry must name one with https"));
        }
        let mut pairs: Vec<(&str, &str)> = vec![("scope", &scope)];
        pairs.extend(service.as_ref().map(|service| ("service", service.as_str())));
        let (mut secrets, mut form) = (HeaderMap::new(), None);
        match login {
            Some(Login::Refresh(token)) => {
                pairs.extend([
                    ("grant_type", "refresh_token"),
                    ("client_id", "rt-cri"),
                    ("refresh_token", token),
                ]);
                let mut made = Url::parse("form:").map_err(|error| Error::internal(error.to_string()))?;
                made.query_pairs_mut().extend_pairs(pairs);
                form = Some(made.query().unwrap_or_default().to_owned());
            }
            login => {
                url.query_pairs_mut().extend_pairs(pairs);
                if let Some(Login::Basic(user, password)) = login {
                    secrets.insert(AUTHORIZATION, basic(user, password)?);
                }
            }
        }
        let what = format!("get token from {}", shown(&url));
        let method = if form.is_some() { Method::POST } else { Method::GET };
        let is_named = is_near || is_own && url.host_str() == registry.host_str();
        let (headers, also) = (HeaderMap::new(), None);
        let request = Outgoing { method, url, headers, secrets, form, is_named, also, is_proved: false };
        let response =
            follow::send(clients, request, pace.window).await.map_err(|e| e.during(what.as_str()))?;
        let status = response.status();
        if !status.is_success() {
            // Words of others than the registry's are nobody's business: it may have named anybody.
            let text = match is_own && follow::is_same_host(registry, response.url()) {
                true => reason(&words(response, WORDS).await),
                false => String::new(),
            };
            return Err(Error::new(kind_of(status), format!("{what}: {status}{text}")));
        }
        token_of(&body(response, TOKEN, pace).await?)
    }
}

/// With TLS anybody whom the registry names. Without it only where the registry has none either, and then itself or this machine.
fn may_see_credentials(registry: &Url, realm: &Url) -> bool {
    let host = |url: &Url| url.host_str().map(str::to_owned);
    match (registry.scheme(), realm.scheme()) {
        (_, "https") => true,
        ("http", "http") => host(registry) == host(realm) || realm.host_str().is_some_and(is_loopback),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_to_token_servers_with_tls_or_to_the_registry_itself() {
        for (registry, realm, may) in [
            ("https://r.io/v2", "https://auth.io/token", true),
            ("https://r.io/v2", "https://r.io/token", true),
            ("https://r.io/v2", "http://r.io/token", false),
            ("https://r.io/v2", "http://127.0.0.1/token", false),
            ("http://r.io/v2", "https://auth.io/token", true),
            ("http://r.io/v2", "http://r.io:8080/token", true),
            ("http://r.io/v2", "http://auth.io/token", false),
            ("http://r.io/v2", "http://r.io@auth.io/token", false),
            ("http://127.0.0.1:5000/v2", "http://localhost:5001/token", true),
            ("http://127.0.0.1:5000/v2", "http://10.0.0.1/token", false),
            ("http://r.io/v2", "ftp://r.io/token", false),
        ] {
            let url = |text: &str| Url::parse(text).expect("an address");
            assert_eq!(may_see_credentials(&url(registry), &url(realm)), may, "{registry} {realm}");
        }
    }
}
