//! How a streaming client and the server come to speak: the transport and the version of its protocol, out of a request's headers. It opens
//! nothing.

use bytes::Bytes;
use http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::server::Answer;
use super::{remote, websocket};

const PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

const REMOTE_SPDY: [&str; 4] =
    ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
const REMOTE_WEBSOCKET: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
const FORWARD_SPDY: [&str; 1] = ["portforward.k8s.io"];
const FORWARD_WEBSOCKET: [&str; 1] = ["SPDY/3.1+portforward.k8s.io"];

/// How both sides speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Streams of SPDY/3.1.
    Spdy(remote::Version),
    /// Messages of WebSocket.
    WebSocket(websocket::Version),
}

/// A transport, and the answer that agrees to it.
pub struct Chosen {
    /// What is spoken from then on.
    pub transport: Transport,
    /// Says so.
    pub answer: Answer,
}

/// Finds the transport and its version, and the answer that says so. The first version of the client's that we speak is taken.
pub fn choose(headers: &HeaderMap, forwards: bool) -> std::result::Result<Chosen, Box<Answer>> {
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if upgrade.eq_ignore_ascii_case("websocket") {
        let known: &[&str] = if forwards { &FORWARD_WEBSOCKET } else { &REMOTE_WEBSOCKET };
        let offered = offered(headers, &SEC_WEBSOCKET_PROTOCOL);
        let protocol = first_spoken(&offered, known)?;
        let Some(key) = headers.get(SEC_WEBSOCKET_KEY) else {
            return Err(Box::new(plain(StatusCode::BAD_REQUEST, "no Sec-WebSocket-Key\n")));
        };
        let mut answer = switching("websocket");
        let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
        answer.headers_mut().extend(accept.ok().map(|accept| (SEC_WEBSOCKET_ACCEPT, accept)));
        answer.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        let version =
            if protocol == REMOTE_WEBSOCKET[0] { websocket::Version::V5 } else { websocket::Version::V4 };
        return Ok(Chosen { transport: Transport::WebSocket(version), answer });
    }
    if upgrade.eq_ignore_ascii_case("SPDY/3.1") {
        let known: &[&str] = if forwards { &FORWARD_SPDY } else { &REMOTE_SPDY };
        let offered = offered(headers, &PROTOCOL);
        let protocol = first_spoken(&offered, known)?;
        let mut answer = switching("SPDY/3.1");
        answer.headers_mut().insert(PROTOCOL, HeaderValue::from_static(protocol));
        let version =
            if protocol == REMOTE_SPDY[0] { remote::Version::Status } else { remote::Version::Text };
        return Ok(Chosen { transport: Transport::Spdy(version), answer });
    }
    Err(Box::new(plain(StatusCode::BAD_REQUEST, "neither Upgrade: SPDY/3.1 nor Upgrade: websocket\n")))
}

/// The protocols that a client names: headers may be repeated, or hold a list.
fn offered<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|name| !name.is_empty()).collect()
}

fn first_spoken(offered: &[&str], known: &[&'static str]) -> std::result::Result<&'static str, Box<Answer>> {
    if offered.is_empty() {
        return Err(Box::new(plain(StatusCode::BAD_REQUEST, "no protocol version is asked for\n")));
    }
    let found = offered.iter().find_map(|name| known.iter().find(|ours| *ours == name));
    found.copied().ok_or_else(|| {
        let mut answer =
            plain(StatusCode::FORBIDDEN, "none of the protocol versions asked for is spoken here\n");
        for name in known {
            answer.headers_mut().append(ACCEPTED, HeaderValue::from_static(name));
        }
        Box::new(answer)
    })
}

/// An answer that ends the connection.
pub fn plain(status: StatusCode, text: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *answer.status_mut() = status;
    // A URL is good for one connection.
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

fn switching(to: &'static str) -> Answer {
    let mut answer = plain(StatusCode::SWITCHING_PROTOCOLS, "");
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static(to));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    #[test]
    fn the_first_version_of_the_client_that_is_known_is_chosen() {
        let spdy = headers(&[
            ("connection", "Upgrade"),
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", "v9.channel.k8s.io, v4.channel.k8s.io"),
            ("x-stream-protocol-version", "v3.channel.k8s.io"),
        ]);
        let chosen = choose(&spdy, false).expect("a transport");
        assert_eq!(chosen.transport, Transport::Spdy(remote::Version::Status));
        assert_eq!(chosen.answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(chosen.answer.headers()[PROTOCOL], "v4.channel.k8s.io");
    }

    #[test]
    fn websocket_answers_with_its_key_and_protocol() {
        let websocket = headers(&[
            ("upgrade", "websocket"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="), // RFC 6455, section 1.3
            ("sec-websocket-protocol", "v5.channel.k8s.io,v4.channel.k8s.io"),
        ]);
        let chosen = choose(&websocket, false).expect("a transport");
        assert_eq!(chosen.transport, Transport::WebSocket(websocket::Version::V5));
        assert_eq!(chosen.answer.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn requests_that_cannot_be_served_say_why() {
        for (pairs, expected) in [
            (&[][..], StatusCode::BAD_REQUEST),
            (&[("upgrade", "SPDY/3.1")], StatusCode::BAD_REQUEST),
            (
                &[("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", "v9.channel.k8s.io")],
                StatusCode::FORBIDDEN,
            ),
            (
                &[("upgrade", "websocket"), ("sec-websocket-protocol", "v5.channel.k8s.io")],
                StatusCode::BAD_REQUEST,
            ),
        ] {
            let Err(answer) = choose(&headers(pairs), false) else { panic!("{pairs:?}") };
            assert_eq!(answer.status(), expected, "{pairs:?}");
            if expected == StatusCode::FORBIDDEN {
                assert_eq!(answer.headers().get_all(ACCEPTED).iter().count(), 4);
            }
        }
    }
}
