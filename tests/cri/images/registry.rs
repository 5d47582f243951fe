//! A registry on loopback that does what a test tells it: serves an image, cuts, refuses, lies. Each test has its own.
//!
//! The images are made here, byte by byte, so that tests know what must come out.

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

/// `sha256:…` of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes it");
        text
    })
}

/// An image in bytes.
pub struct Image {
    /// The manifest.
    pub manifest: Vec<u8>,
    /// The config.
    pub config: Vec<u8>,
    /// Compressed layers, lowest first.
    pub layers: Vec<Vec<u8>>,
}

impl Image {
    /// Of archives, compressed with gzip; `config` is the config's `config`.
    pub fn of(archives: &[Vec<u8>], config: &serde_json::Value) -> Self {
        let layers: Vec<_> = archives.iter().map(|archive| gzip(archive)).collect();
        let diffs: Vec<_> = archives.iter().map(|archive| digest(archive)).collect();
        let config = serde_json::json!({"architecture": architecture(), "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": diffs}});
        Self::made(config.to_string().into_bytes(), layers)
    }

    /// Of a config and compressed layers that may not fit it.
    pub fn made(config: Vec<u8>, layers: Vec<Vec<u8>>) -> Self {
        let kind = "application/vnd.oci.image";
        let described = |bytes: &[u8], kind: String| serde_json::json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()});
        let all: Vec<_> =
            layers.iter().map(|layer| described(layer, format!("{kind}.layer.v1.tar+gzip"))).collect();
        let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": format!("{kind}.manifest.v1+json"),
            "config": described(&config, format!("{kind}.config.v1+json")), "layers": all});
        Self { manifest: manifest.to_string().into_bytes(), config, layers }
    }

    /// Its id.
    pub fn id(&self) -> String {
        digest(&self.config)
    }
}

/// Go's name of this machine's kind.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("compress");
    encoder.finish().expect("compress")
}

/// An archive of files: path, content.
pub fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(if path.ends_with('/') || path.starts_with("bin/") { 0o755 } else { 0o644 });
        header.set_entry_type(if path.ends_with('/') {
            tar::EntryType::Directory
        } else {
            tar::EntryType::Regular
        });
        header.set_mtime(1_600_000_000);
        builder.append_data(&mut header, path, *content).expect("append");
    }
    builder.into_inner().expect("end")
}

/// Bytes that don't compress, the same each time.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// What a registry does instead of answering rightly.
#[derive(Clone)]
pub enum Act {
    /// Another status, with headers.
    Status(u16, &'static str),
    /// So many bytes of the body, then nothing.
    Cut(usize),
    /// Another body of the same length.
    Lie,
    /// 401 with a challenge for a token, unless a request brings one of these (so none: always).
    Challenge(Vec<String>),
    /// What was asked for, under a header that says it has this digest.
    Named(String),
    /// 307 to this address.
    Redirect(String),
    /// 401 with this challenge.
    Want(String),
    /// To a request for a part: what begins so many bytes later, as it says, and ends with so many that nobody asked for.
    Shifted(usize, usize),
    /// A byte of the body each time.
    Drip(Duration),
    /// The body's first bytes, then waiting for ever.
    Stall(usize),
    /// The body's first bytes, and the others after a while.
    Pause(usize, Duration),
    /// The body's first bytes, and the others when all have been asked for who wait here.
    Meet(usize, Arc<Barrier>),
}

/// A rule: for paths with these words, so many times.
struct Rule {
    words: &'static str,
    times: usize,
    act: Act,
}

#[derive(Default)]
struct State {
    files: HashMap<String, (String, Vec<u8>)>,
    rules: Vec<Rule>,
    log: Vec<String>,
    shown: Vec<String>,
    headers: Vec<(String, String)>,
    /// Paths of requests without Authorization.
    bare: Vec<String>,
}

/// The registry; it ends with the test's process.
pub struct Registry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    gone: Arc<AtomicUsize>,
}

impl Registry {
    /// Listens.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State::default()));
        let gone = Arc::new(AtomicUsize::new(0));
        let (shared, left) = (state.clone(), gone.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, gone) = (shared.clone(), left.clone());
                std::thread::spawn(move || answer(&stream, address, (&state, &gone)));
            }
        });
        Self { address, state, gone }
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Serves the image under `REPOSITORY:TAG`, and by digests.
    pub fn add(&self, name: &str, image: &Image) -> String {
        let (repository, tag) = name.split_once(':').expect("a tag");
        let mut state = self.state.lock().expect("unpoisoned");
        let manifest = ("application/vnd.oci.image.manifest.v1+json".to_owned(), image.manifest.clone());
        for wanted in [tag, &digest(&image.manifest)] {
            state.files.insert(format!("/v2/{repository}/manifests/{wanted}"), manifest.clone());
        }
        for blob in image.layers.iter().chain([&image.config]) {
            let path = format!("/v2/{repository}/blobs/{}", digest(blob));
            state.files.insert(path, ("application/octet-stream".to_owned(), blob.clone()));
        }
        format!("{}/{name}", self.address)
    }

    /// From now on, for requests whose path has these words, so many times.
    pub fn when(&self, words: &'static str, times: usize, act: Act) {
        self.state.lock().expect("unpoisoned").rules.push(Rule { words, times, act });
    }

    /// `METHOD PATH [Range]` of all requests so far.
    pub fn log(&self) -> Vec<String> {
        self.state.lock().expect("unpoisoned").log.clone()
    }

    /// What clients showed to be let in: values of Authorization, and forms that token servers get, each once.
    pub fn shown(&self) -> Vec<String> {
        self.state.lock().expect("unpoisoned").shown.clone()
    }

    /// The values of a header that requests brought, each once.
    pub fn header(&self, name: &str) -> Vec<String> {
        let state = self.state.lock().expect("unpoisoned");
        state.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.clone()).collect()
    }

    /// How many requests whose path has these words brought no Authorization.
    pub fn bare(&self, words: &str) -> usize {
        let state = self.state.lock().expect("unpoisoned");
        state.bare.iter().filter(|path| path.contains(words)).count()
    }

    /// Serves these bytes under a path.
    pub fn put(&self, path: &str, kind: &str, bytes: &[u8]) {
        self.state
            .lock()
            .expect("unpoisoned")
            .files
            .insert(path.to_owned(), (kind.to_owned(), bytes.to_vec()));
    }

    /// Serves what is under one path under another too.
    pub fn also_at(&self, from: &str, to: &str) {
        let mut state = self.state.lock().expect("unpoisoned");
        let more: Vec<_> = state
            .files
            .iter()
            .filter_map(|(path, file)| Some((format!("{to}{}", path.strip_prefix(from)?), file.clone())))
            .collect();
        state.files.extend(more);
    }

    /// How many requests had these words.
    pub fn asked(&self, words: &str) -> usize {
        self.log().iter().filter(|line| line.contains(words)).count()
    }

    /// How many clients have closed a connection that was stalled.
    pub fn gone(&self) -> usize {
        self.gone.load(Ordering::SeqCst)
    }

    /// Forgets requests so far.
    pub fn forget(&self) {
        self.state.lock().expect("unpoisoned").log.clear();
    }
}

struct Request {
    method: String,
    path: String,
    headers: HashMap<String, String>,
    body: String,
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut lines = reader.by_ref().lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = String::new();
    reader.take(length).read_to_string(&mut body).ok()?;
    Some(Request { method, path, headers, body })
}

/// What a proxy does for https: bytes both ways.
fn tunnel(mut client: &TcpStream, to: &str) {
    let Ok(server) = TcpStream::connect(to) else { return };
    let _ = client.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = std::io::copy(&mut &server, &mut &*client);
            let _ = client.shutdown(std::net::Shutdown::Both);
        });
        let _ = std::io::copy(&mut &*client, &mut &server);
        let _ = server.shutdown(std::net::Shutdown::Both);
    });
}

/// One request, one answer, one connection.
fn answer(mut stream: &TcpStream, address: SocketAddr, (state, gone): (&Mutex<State>, &AtomicUsize)) {
    let Some(request) = read(stream) else { return };
    let path = request.path.split('?').next().unwrap_or_default();
    // To a proxy it is an address with the host.
    let path =
        path.strip_prefix("http://").and_then(|rest| rest.find('/').map(|at| &rest[at..])).unwrap_or(path);
    let path = path.to_owned();
    let range = request.headers.get("range").cloned().unwrap_or_default();
    let (file, act) = {
        let mut state = state.lock().expect("unpoisoned");
        state.log.push(format!("{} {} {range}", request.method, request.path).trim_end().to_owned());
        for shown in request.headers.get("authorization").into_iter().chain([&request.body]) {
            if !shown.is_empty() && !state.shown.contains(shown) {
                state.shown.push(shown.clone());
            }
        }
        state.bare.extend((!request.headers.contains_key("authorization")).then(|| path.clone()));
        for (name, value) in &request.headers {
            let pair = (name.clone(), value.clone());
            if !state.headers.contains(&pair) {
                state.headers.push(pair);
            }
        }
        (state.files.get(&path).cloned(), state.act(&path, &request))
    };
    if request.method == "CONNECT" {
        tunnel(stream, &request.path);
        return;
    }
    if path == "/v2/" {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    }
    if path == "/token" {
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: 17\r\nConnection: close\r\n\r\n{{\"token\":\"right\"}}"
        );
        return;
    }
    match (&act, &file) {
        (Some(Act::Status(status, headers)), _) => {
            let _ = write!(
                stream,
                "HTTP/1.1 {status} No\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
        (Some(Act::Challenge(_)), _) => {
            let challenge = format!("Bearer realm=\"http://{address}/token\",service=\"test\"");
            let _ = write!(
                stream,
                "HTTP/1.1 401 No\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
        (Some(Act::Redirect(to)), _) => {
            let _ = write!(
                stream,
                "HTTP/1.1 307 There\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
        (Some(Act::Want(challenge)), _) => {
            let _ = write!(
                stream,
                "HTTP/1.1 401 No\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
        (_, None) => {
            let _ =
                write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        (_, Some((kind, bytes))) => serve(stream, (&request, kind, bytes), (act.as_ref(), gone)),
    }
    // What the client still sends is read, so that closing does not reset what it has not read.
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.set_read_timeout(Some(std::time::Duration::from_secs(5)));
    let _ = stream.read(&mut [0; 16]);
}

fn serve(
    mut stream: &TcpStream,
    (request, kind, bytes): (&Request, &str, &[u8]),
    (act, gone): (Option<&Act>, &AtomicUsize),
) {
    let range = request
        .headers
        .get("range")
        .and_then(|text| text.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let (shift, more) = match (act, range) {
        (Some(Act::Shifted(shift, more)), Some(_)) => (*shift, *more),
        _ => (0, 0),
    };
    let from = (range.unwrap_or(0usize) + shift).min(bytes.len());
    let mut body = [&bytes[from..], &vec![0; more]].concat();
    let length = body.len();
    let digest = if let Some(Act::Named(other)) = act { other.clone() } else { digest(bytes) };
    let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
    let last = bytes.len().saturating_sub(1);
    let content_range =
        range.map(|_| format!("Content-Range: bytes {from}-{last}/{}\r\n", bytes.len())).unwrap_or_default();
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nDocker-Content-Digest: {digest}\r\n{content_range}\
         Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    if request.method == "HEAD" {
        return;
    }
    match act {
        Some(Act::Cut(most)) => body.truncate(*most),
        Some(Act::Lie) => body.iter_mut().for_each(|byte| *byte ^= 1),
        Some(Act::Stall(most)) => {
            let _ = stream.write_all(&body[..(*most).min(length)]);
            // Until the other side has gone.
            let _ = stream.read(&mut [0; 16]);
            gone.fetch_add(1, Ordering::SeqCst);
            return;
        }
        Some(Act::Drip(time)) => {
            for byte in body {
                if stream.write_all(&[byte]).is_err() {
                    gone.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                std::thread::sleep(*time);
            }
            return;
        }
        Some(Act::Pause(most, time)) => {
            let first: Vec<_> = body.drain(..(*most).min(length)).collect();
            let _ = stream.write_all(&first);
            std::thread::sleep(*time);
        }
        Some(Act::Meet(most, all)) => {
            let first: Vec<_> = body.drain(..(*most).min(length)).collect();
            let _ = stream.write_all(&first);
            all.wait();
        }
        _ => {}
    }
    let _ = stream.write_all(&body);
}

impl State {
    /// The first rule that holds for the request, used up by one.
    fn act(&mut self, path: &str, request: &Request) -> Option<Act> {
        let holds = |rule: &&mut Rule| rule.times > 0 && path.contains(rule.words) && path != "/token";
        let rule = self.rules.iter_mut().find(holds)?;
        if let Act::Challenge(tokens) = &rule.act {
            let brought = request.headers.get("authorization").and_then(|text| text.strip_prefix("Bearer "));
            if brought.is_some_and(|token| tokens.iter().any(|right| right == token)) {
                return None;
            }
        }
        rule.times -= 1;
        Some(rule.act.clone())
    }
}
