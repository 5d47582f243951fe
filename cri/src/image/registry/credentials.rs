//! Who we are towards a registry: what the caller sent, else docker's `config.json` and its helper programs. It sends nothing.

use super::hosts::Endpoint;
use crate::document;
use crate::error::{Error, Kind, Result};
use crate::image::blocking::blocking;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a helper program may take.
const HELPER: Duration = Duration::from_secs(30);

/// A pull's credentials in the words of CRI's AuthConfig; empty fields are absent ones.
#[derive(Clone, Default, Deserialize)]
pub struct Credentials {
    /// User name.
    #[serde(default)]
    pub username: String,
    /// Its password.
    #[serde(default)]
    pub password: String,
    /// base64 of `user:password`.
    #[serde(default)]
    pub auth: String,
    /// The host these are for, where given: they go to no other.
    #[serde(default)]
    pub server_address: String,
    /// An OAuth refresh token.
    #[serde(default, rename = "identitytoken")]
    pub identity_token: String,
    /// A bearer token, sent as it is.
    #[serde(default, rename = "registrytoken")]
    pub registry_token: String,
}

/// What is shown to a registry or its token server.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// User and password.
    Basic(String, String),
    /// An OAuth refresh token.
    Refresh(String),
    /// A bearer token that needs no token server.
    Bearer(String),
}

/// A login as it is for one host.
#[derive(Clone)]
pub struct HostLogin {
    /// What is shown.
    pub login: Login,
    /// It is for the image's host, and this is a mirror.
    is_lent: bool,
}

impl HostLogin {
    /// What an endpoint of an image of `host` may be shown: what the caller sent for this host or for any, else what docker's
    /// configuration has for it.
    pub async fn find(
        endpoint: &Endpoint,
        (host, sent): (&str, Option<&Credentials>),
        docker_config: &Path,
    ) -> Result<Option<Self>> {
        let own = if endpoint.own { host } else { endpoint.host() };
        let is_lent = !endpoint.own && sent.is_some_and(|sent| sent.server_address.is_empty());
        let login = match sent {
            Some(sent) => sent.login(own)?,
            None => docker_login(docker_config, own).await?,
        };
        Ok(login.map(|login| Self { login, is_lent }))
    }

    /// What is shown, and how.
    pub fn words(&self) -> Vec<&str> {
        match &self.login {
            Login::Basic(user, password) => vec!["basic", user, password],
            Login::Refresh(token) => vec!["refresh", token],
            Login::Bearer(token) => vec!["bearer", token],
        }
    }

    /// What is lent to a mirror goes there with TLS only.
    pub fn is_for(&self, endpoint: &Endpoint) -> bool {
        !self.is_lent || endpoint.base.starts_with("https:")
    }
}

impl Credentials {
    /// What of them is for a host; None where nothing is.
    pub fn login(&self, host: &str) -> Result<Option<Login>> {
        if !self.server_address.is_empty() && host_of(&self.server_address) != host_of(host) {
            return Ok(None);
        }
        let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        if let Some(token) = text(&self.registry_token) {
            return Ok(Some(Login::Bearer(token)));
        }
        if let Some(token) = text(&self.identity_token) {
            return Ok(Some(Login::Refresh(token)));
        }
        if let Some(user) = text(&self.username) {
            return Ok(Some(Login::Basic(user, self.password.clone())));
        }
        text(&self.auth).map(|auth| basic(&auth)).transpose()
    }
}

fn basic(auth: &str) -> Result<Login> {
    let wrong = || Error::invalid("read credentials: auth is not base64 of user:password");
    let bytes = STANDARD.decode(auth.trim()).map_err(|_| wrong())?;
    let text = String::from_utf8(bytes).map_err(|_| wrong())?;
    let (user, password) = text.split_once(':').ok_or_else(wrong)?;
    // Docker pads some with NULs.
    Ok(Login::Basic(user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// `https://index.docker.io/v1/` and `docker.io` are one host.
fn host_of(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    match rest.split('/').next().unwrap_or(rest) {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

#[derive(Deserialize, Default)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Credentials>,
    #[serde(default, rename = "credsStore")]
    store: String,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

/// The host's login in docker's configuration, asking helper programs where it names them.
async fn docker_login(configured: &Path, host: &str) -> Result<Option<Login>> {
    let Some(path) = docker_config(configured) else { return Ok(None) };
    let (file, may_lack) = (path.clone(), configured.as_os_str().is_empty());
    let read = move || match document::read(&file, document::MOST) {
        Err(error) if error.kind() == Kind::NotFound && may_lack => Ok(None),
        _ => document::named(&file, document::MOST).map(Some),
    };
    let Some(text) = blocking(read).await? else { return Ok(None) };
    let config: DockerConfig = serde_json::from_slice(&text)
        .map_err(|error| Error::invalid(format!("read {}: {error}", path.display())))?;
    let host = host_of(host);
    let key = config.helpers.iter().find(|(key, _)| host_of(key) == host);
    let program =
        key.map(|(_, program)| program).or(Some(&config.store)).filter(|program| !program.is_empty());
    if let Some(program) = program
        && let Some(login) = ask(program, host).await?
    {
        return Ok(Some(login));
    }
    let found = config.auths.iter().find(|(key, _)| host_of(key) == host);
    found.map_or(Ok(None), |(_, credentials)| credentials.login(host))
}

fn docker_config(configured: &Path) -> Option<PathBuf> {
    if !configured.as_os_str().is_empty() {
        return Some(configured.to_owned());
    }
    let named = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".docker"));
    Some(named.or_else(home)?.join("config.json"))
}

/// `docker-credential-PROGRAM get`: the host on stdin, JSON on stdout.
async fn ask(program: &str, host: &str) -> Result<Option<Login>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    if program.contains('/') {
        return Err(Error::invalid(format!(
            "ask credential helper {program:?}: it must be a name without slashes"
        )));
    }
    let server = if host == "docker.io" { "https://index.docker.io/v1/" } else { host };
    let what = format!("ask docker-credential-{program} for {host}");
    let failed = |why: String| Error::invalid(format!("{what}: {why}"));
    let mut child = tokio::process::Command::new(format!("docker-credential-{program}"))
        .arg("get")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        use tokio::io::AsyncWriteExt;
        let _ = stdin.write_all(server.as_bytes()).await;
    }
    let output = tokio::time::timeout(HELPER, child.wait_with_output()).await;
    let output =
        output.map_err(|_| failed("no answer".into()))?.map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        // The protocol's way to say that there are none.
        let none = text.contains("credentials not found");
        return if none { Ok(None) } else { Err(failed(text.trim().to_owned())) };
    }
    let answer: Answer = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
    Ok(Some(match answer.username.as_str() {
        "<token>" => Login::Refresh(answer.secret),
        _ => Login::Basic(answer.username, answer.secret),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(change: impl FnOnce(&mut Credentials)) -> Result<Option<Login>> {
        let mut credentials = Credentials::default();
        change(&mut credentials);
        credentials.login("docker.io")
    }

    #[test]
    fn each_form_of_credentials_is_understood() {
        let basic = |user: &str, password: &str| Some(Login::Basic(user.into(), password.into()));
        assert!(login(|_| {}).unwrap().is_none());
        assert!(login(|c| (c.username, c.password) = ("u".into(), "p".into())).unwrap() == basic("u", "p"));
        assert!(login(|c| c.auth = STANDARD.encode("u:p:q\0\0")).unwrap() == basic("u", "p:q"));
        assert!(login(|c| c.identity_token = "t".into()).unwrap() == Some(Login::Refresh("t".into())));
        assert!(login(|c| c.registry_token = "t".into()).unwrap() == Some(Login::Bearer("t".into())));
        assert!(login(|c| c.auth = "!".into()).is_err());
        assert!(login(|c| c.auth = STANDARD.encode("nocolon")).is_err());
    }

    #[test]
    fn credentials_for_another_server_are_not_used() {
        for (server, used) in [
            ("https://index.docker.io/v1/", true),
            ("docker.io", true),
            ("quay.io", false),
            ("https://docker.io.evil", false),
        ] {
            let found = login(|c| (c.username, c.server_address) = ("u".into(), server.into())).unwrap();
            assert_eq!(found.is_some(), used, "{server}");
        }
    }
}
