//! Requests that are passed on by redirects: how far they go, and what of them goes along. It knows no registry.
//!
//! What only the first host may see (credentials, headers that an administrator wrote for it) ends at the first redirect to another one,
//! and does not come back.

use super::clients::Pair;
use super::resolve;
use crate::error::{Error, Kind, Result};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};
use std::net::IpAddr;
use std::time::Duration;

/// Redirects of one request that are followed, as many as Go's clients do.
const REDIRECTS: usize = 10;

/// A request, and who may see what of it.
pub struct Outgoing {
    /// How it asks.
    pub method: Method,
    /// Whom it asks first.
    pub url: Url,
    /// For whoever answers.
    pub headers: HeaderMap,
    /// For the first host alone.
    pub secrets: HeaderMap,
    /// A form with a secret in it; it is passed on to nobody.
    pub form: Option<String>,
    /// The user gave the first host's name, or the one who did is near as that is.
    pub is_named: bool,
    /// For a host that it may be passed on to, and for no other: a token that this one's own server gave to anybody.
    pub also: Option<(Url, HeaderValue)>,
    /// What comes is proved by its hash, so it may come without TLS where the first host has it.
    pub is_proved: bool,
}

/// Sends it until somebody answers; `wait` is for each one's headers.
pub async fn send(clients: &Pair, request: Outgoing, wait: Duration) -> Result<Response> {
    let Outgoing { method, mut url, headers, secrets, form, is_named, also, is_proved } = request;
    let mut is_first_host = true;
    let first = url.clone();
    for _ in 0..=REDIRECTS {
        // Who is near may lead to what is.
        let may_be_near = is_named && (url.host_str() == first.host_str() || clients.is_near(&first));
        let mut made = clients.of(may_be_near).request(method.clone(), url.clone()).headers(headers.clone());
        if is_first_host {
            made = made.headers(secrets.clone());
        } else if let Some((host, token)) = &also
            && is_same_host(host, &url)
        {
            made = made.header(AUTHORIZATION, token.clone());
        }
        if let Some(form) = &form {
            made = made.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.clone());
        }
        let what = || format!("{method} {}", shown(&url));
        let answer = tokio::time::timeout(wait, made.send()).await;
        let answer = answer.map_err(|_| Error::new(Kind::Timeout, format!("{}: no answer", what())))?;
        let response = answer.map_err(|error| unreachable(&error, &what()))?;
        let Some(next) = next_of(&response, &url).map_err(|error| error.during(what()))? else {
            return Ok(response);
        };
        let refused = |why: &str| {
            Err(Error::new(Kind::Denied, format!("{}: it is passed on to {}, {why}", what(), shown(&next))))
        };
        if url.scheme() == "https" && next.scheme() != "https" && !is_proved {
            return refused("without TLS");
        }
        if is_inward(clients.is_near(&url), &next) {
            return refused("which only this machine reaches");
        }
        is_first_host &= is_same_host(&url, &next);
        if form.is_some() && !is_first_host {
            return refused("which is another host than the credentials are for");
        }
        url = next;
    }
    Err(Error::new(Kind::Denied, format!("{method} {}: passed on more than {REDIRECTS} times", shown(&url))))
}

/// Where a redirect leads; None for another answer.
fn next_of(response: &Response, from: &Url) -> Result<Option<Url>> {
    let is_redirect = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    let Some(location) = response.headers().get(LOCATION).filter(|_| is_redirect) else { return Ok(None) };
    let wrong = || Error::new(Kind::Denied, "it is passed on to what is no address of http or https");
    let next = location.to_str().ok().and_then(|text| from.join(text).ok()).ok_or_else(wrong)?;
    match next.scheme() {
        "http" | "https" if next.has_host() => Ok(Some(next)),
        _ => Err(wrong()),
    }
}

/// Scheme, name and port; or the same name's change from http to https, at the usual ports.
pub fn is_same_host(from: &Url, to: &Url) -> bool {
    let same_name = from.host_str() == to.host_str();
    let upgrade = (from.scheme(), from.port(), to.scheme(), to.port()) == ("http", None, "https", None);
    let same_port =
        from.scheme() == to.scheme() && from.port_or_known_default() == to.port_or_known_default();
    same_name && (same_port || upgrade)
}

/// Whether somebody elsewhere names this machine itself, or its link: what answers there takes us for a neighbour, and is asked for nobody.
/// That is by its address: what a name leads to is seen when it is looked up.
pub fn is_inward(is_from_near: bool, to: &Url) -> bool {
    is_near(to) && !is_from_near
}

/// Whether an address says so, or the one name that means it everywhere.
pub fn is_near(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) => resolve::is_near(address),
        Err(_) => {
            let name = host.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

/// A failure on the way, with its innermost reason.
pub fn unreachable(error: &reqwest::Error, what: &str) -> Error {
    let mut innermost: &(dyn std::error::Error + 'static) = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let why = innermost.to_string();
    let kind = match () {
        () if innermost.is::<resolve::Inward>() => Kind::Denied,
        () if error.is_timeout() => Kind::Timeout,
        () => Kind::Unavailable,
    };
    let error = Error::new(kind, format!("{what}: {why}"));
    match why.contains("certificate") || why.contains("UnknownIssuer") {
        true => error.cure("name its authority as `ca` in the host's hosts.toml"),
        false => error,
    }
}

/// Without what may be secret in it.
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    // An address without a host takes none, and has none.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_name_port_or_scheme_is_another_host() {
        for (from, to, same) in [
            ("https://a/x", "https://a/y?z", true),
            ("https://a/x", "https://a:443/y", true),
            ("https://a:5000/x", "https://a:5000/y", true),
            ("http://a/x", "https://a/x", true),
            ("http://a:5000/x", "https://a:5000/x", false),
            ("http://a:5000/x", "https://a/x", false),
            ("https://a/x", "http://a/x", false),
            ("https://a/x", "http://a:443/x", false),
            ("https://a/x", "https://b.a/x", false),
            ("https://a/x", "https://a.evil/x", false),
            ("https://a/x", "https://a:444/x", false),
            ("https://a/x", "https://a@b/x", false),
        ] {
            let url = |text: &str| Url::parse(text).expect("an address");
            assert_eq!(is_same_host(&url(from), &url(to)), same, "{from} {to}");
        }
    }

    #[test]
    fn nobody_elsewhere_leads_to_this_machine_or_its_link() {
        for (from, to, inward) in [
            ("https://r.io/x", "http://127.0.0.1:9999/admin", true),
            ("https://r.io/x", "http://2130706433/", true),
            ("https://r.io/x", "http://localhost./x", true),
            ("https://r.io/x", "http://a.localhost/x", true),
            ("https://r.io/x", "http://169.254.169.254/latest", true),
            ("https://r.io/x", "http://[::1]/x", true),
            ("https://r.io/x", "http://[::ffff:127.0.0.1]/x", true),
            ("https://r.io/x", "http://[fe80::1]/x", true),
            ("https://r.io/x", "http://0.0.0.0/x", true),
            ("https://r.io/x", "https://10.0.0.1/x", false),
            ("https://r.io/x", "https://localhost.io/x", false),
            ("http://127.0.0.1:5000/x", "http://localhost:5001/x", false),
        ] {
            let url = |text: &str| Url::parse(text).expect("an address");
            assert_eq!(is_inward(is_near(&url(from)), &url(to)), inward, "{from} {to}");
        }
    }

    /// `localhost` stands for any name that leads here: it is the address that is judged.
    #[tokio::test]
    async fn a_name_that_leads_to_this_machine_is_connected_to_for_the_user_alone() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let port = listener.local_addr().expect("an address").port();
        let came = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = came.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let _ = socket.read(&mut [0; 4096]).await;
                let answer = b"HTTP/1.1 204 No\r\nConnection: close\r\n\r\n";
                let _ = socket.write_all(answer).await;
            }
        });
        let clients = super::super::clients::Clients::default();
        let clients = clients.of(&super::super::Tls::default(), Duration::from_secs(10)).expect("clients");
        let ask = async |is_named| {
            let request = Outgoing {
                method: Method::GET,
                url: Url::parse(&format!("http://localhost:{port}/x")).expect("an address"),
                headers: HeaderMap::new(),
                secrets: HeaderMap::new(),
                form: None,
                is_named,
                also: None,
                is_proved: false,
            };
            send(&clients, request, Duration::from_secs(10)).await
        };
        let refused = ask(false).await.expect_err("somebody else gave the name");
        assert_eq!(refused.kind(), Kind::Denied, "{refused}");
        assert!(
            refused.to_string().contains("its name leads to what only this machine reaches"),
            "{refused}"
        );
        assert_eq!(came.load(std::sync::atomic::Ordering::SeqCst), 0);
        assert!(ask(true).await.is_ok());
        // Now that the user's own connection may be waiting to be used again.
        assert!(ask(false).await.is_err());
        assert_eq!(came.load(std::sync::atomic::Ordering::SeqCst), 1);
    }

    #[test]
    fn an_address_is_shown_without_secrets() {
        let url = Url::parse("https://u:p@a/x?token=t").expect("an address");
        assert_eq!(shown(&url), "https://a/x");
    }
}
