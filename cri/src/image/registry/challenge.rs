//! What a registry wants to see: its `WWW-Authenticate` header, and a token server's answer. It sends nothing.

use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;

/// What a registry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// User and password with each request.
    Basic,
    /// A token from another server.
    Bearer {
        /// Its address.
        realm: String,
        /// What the token is for.
        service: Option<String>,
        /// What it allows.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The best of the challenges in a response's headers: a token, else a password.
    pub fn best<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let all: Vec<_> = headers.flat_map(parse).collect();
        let bearer = all.iter().find(|challenge| matches!(challenge, Self::Bearer { .. }));
        bearer.or(all.first()).cloned()
    }
}

/// One header: `Bearer realm="…",service="…",scope="…"`, or several schemes behind each other.
fn parse(header: &str) -> Vec<Challenge> {
    let mut found: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut rest = header.trim_start();
    while !rest.is_empty() {
        let end = rest.find([' ', '=', ',']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after.trim_start();
        if let Some(value) = rest.strip_prefix('=') {
            let (value, after) = value_of(value.trim_start());
            if let Some((_, parameters)) = found.last_mut() {
                parameters.insert(word.to_ascii_lowercase(), value);
            }
            rest = after;
        } else if !word.is_empty() {
            found.push((word.to_ascii_lowercase(), BTreeMap::new()));
        }
        rest = rest.trim_start_matches([' ', ',']);
    }
    found.into_iter().filter_map(challenge_of).collect()
}

fn challenge_of((scheme, mut parameters): (String, BTreeMap<String, String>)) -> Option<Challenge> {
    match scheme.as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: parameters.remove("realm")?,
            service: parameters.remove("service"),
            scope: parameters.remove("scope"),
        }),
        _ => None,
    }
}

/// A quoted string with backslashes, or a token; and what comes after it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

/// The token in a token server's answer.
pub fn token_of(answer: &[u8]) -> Result<String> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(answer)
        .map_err(|error| Error::invalid(format!("read token server's answer: {error}")))?;
    let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token);
    let sound = |token: &String| !token.is_empty() && token.bytes().all(|byte| (0x21..0x7f).contains(&byte));
    token.filter(sound).ok_or_else(|| Error::invalid("read token server's answer: it has no token"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(headers: &[&str]) -> Option<Challenge> {
        Challenge::best(headers.iter().copied())
    }

    #[test]
    fn challenges_are_read_and_the_best_is_chosen() {
        let text =
            r#"Bearer realm="https://auth.x/token?a=b,c",service="x \"y\"",scope="repository:a/b:pull,push""#;
        let wanted = Challenge::Bearer {
            realm: "https://auth.x/token?a=b,c".into(),
            service: Some("x \"y\"".into()),
            scope: Some("repository:a/b:pull,push".into()),
        };
        assert_eq!(best(&[text]), Some(wanted.clone()));
        assert_eq!(best(&["Basic realm=\"x\"", text]), Some(wanted.clone()));
        assert_eq!(best(&[&format!("Basic realm=x, {text}")]), Some(wanted));
        assert_eq!(best(&["basic"]), Some(Challenge::Basic));
        for nothing in ["", "Bearer", "Negotiate abc", "=,=,", "Bearer realm", "\"\"", "Bearer service=\"x"] {
            assert_eq!(best(&[nothing]), None, "{nothing}");
        }
    }

    #[test]
    fn a_token_is_taken_by_either_name_and_must_fit_into_a_header() {
        assert_eq!(token_of(br#"{"token":"a"}"#).unwrap(), "a");
        assert_eq!(token_of(br#"{"token":"","access_token":"b","expires_in":60}"#).unwrap(), "b");
        for wrong in [&b"{}"[..], b"", b"[]", br#"{"token":"a\r\nx: y"}"#, br#"{"token":1}"#] {
            assert!(token_of(wrong).is_err());
        }
    }
}
