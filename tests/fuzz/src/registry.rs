//! What registries and their owners write: hosts.toml, and every answer on the way of a pull.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cri::image::config::Limits;
use cri::image::manifest::Descriptor;
use cri::image::reference::Asked;
use cri::image::registry::{Registries, Repository, endpoints};
use cri::image::{Digest, Reference, RegistryConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::surroundings::SCRATCH;
use crate::{Form, Outcome, Target};

/// Which hosts are asked.
pub const HOSTS: Target =
    Target { name: "hosts", run: hosts, seeds: files, form: Form::Bytes, memory: (2 << 20, 512) };

/// Answers in their order, each after a line `---`.
pub const ANSWERS: Target = Target {
    name: "registry",
    run: answers,
    seeds: conversations,
    form: Form::Bytes,
    memory: (16 << 20, 64),
};

/// Until a conversation has ended, whatever the machine does beside.
const PATIENCE: Duration = Duration::from_secs(60);

/// The largest document that is taken here: inputs can be longer.
const DOCUMENT_MAX: usize = 8 << 10;

const BETWEEN: &[u8] = b"\n---\n";
const DOCUMENT: &[u8] = br#"{"schemaVersion":2,"manifests":[]}"#;
const BLOB: &[u8] = b"blob";

fn hosts(input: &[u8]) -> Outcome {
    let folder = Path::new(SCRATCH).join("certs.d");
    fs::create_dir_all(folder.join("h")).expect("a folder");
    fs::write(folder.join("h/hosts.toml"), input).expect("write hosts.toml");
    let read = || endpoints(std::slice::from_ref(&folder), "h").map_err(|error| error.to_string());
    let found = read();
    assert_eq!(found, read(), "the same file, other hosts");
    for endpoint in found.iter().flatten() {
        assert!(
            ["http://", "https://"].iter().any(|scheme| endpoint.base.starts_with(scheme)),
            "{}",
            endpoint.base
        );
        assert!(!endpoint.base.ends_with('/'), "{}", endpoint.base);
    }
    Outcome::from(&found)
}

fn files() -> Vec<(&'static str, Vec<u8>)> {
    let whole = "server = 'https://s'\n[host.'https://m:5000/x']\ncapabilities = ['pull', 'resolve', 'push']\nca = ['a.pem', '/b']\nclient = [['a','b']]\nskip_verify = true\noverride_path = true\n[host.'https://m:5000/x'.header]\nx-a = 'b'\nx-c = ['d', 'e']\n[host.'http://127.0.0.1:5000']\nca = 'one'\nclient = 'both.pem'\n";
    vec![("whole", whole.as_bytes().to_vec()), ("server", b"server = \"http://127.0.0.1:5000\"\n".to_vec())]
}

/// One client for all inputs: to make one is to read all authorities of this machine.
struct Here {
    runtime: Runtime,
    registries: Registries,
}

impl Here {
    fn new() -> Self {
        let limits = Limits { document_bytes: DOCUMENT_MAX, ..Limits::default() };
        let docker_config = Path::new(SCRATCH).join("docker.json");
        fs::write(&docker_config, "{}").expect("nobody's credentials");
        let registries = Registries::new(RegistryConfig {
            config_path: Vec::new(),
            docker_config,
            attempts: 1,
            stall_seconds: 5,
            limits,
            ..RegistryConfig::default()
        });
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { runtime, registries }
    }
}

fn answers(input: &[u8]) -> Outcome {
    thread_local!(static HERE: Here = Here::new());
    let given = split(input);
    let taken = HERE.with(|here| {
        here.runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:5000").await.expect("a port of our own network");
            let serving = tokio::spawn(serve(listener, given));
            let taken = timeout(PATIENCE, pull(&here.registries)).await.expect("a conversation that ends");
            serving.abort();
            let _ = serving.await;
            taken
        })
    });
    if taken > 0 { Outcome::Taken } else { Outcome::Refused }
}

fn split(input: &[u8]) -> Vec<Vec<u8>> {
    let mut found = vec![Vec::new()];
    let mut rest = input;
    while let Some((byte, after)) = rest.split_first() {
        if let Some(next) = rest.strip_prefix(BETWEEN) {
            found.push(Vec::new());
            rest = next;
            continue;
        }
        found.last_mut().expect("there is one").push(*byte);
        rest = after;
    }
    found.reverse();
    found
}

/// Each connection gets one answer to its first request; when there is none left, it is closed.
async fn serve(listener: TcpListener, mut answers: Vec<Vec<u8>>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let answer = answers.pop().unwrap_or_default();
        let (mut head, mut piece) = (Vec::new(), [0; 4096]);
        while !head.windows(4).any(|four| four == b"\r\n\r\n") {
            match stream.read(&mut piece).await {
                Ok(count @ 1..) => head.extend_from_slice(&piece[..count]),
                _ => break,
            }
        }
        let _ = stream.write_all(&answer).await; // it may have had enough
        let _ = stream.shutdown().await;
    }
}

/// Every question of a pull; how many were answered. What has a digest is what was asked for.
async fn pull(registries: &Registries) -> usize {
    let reference = Reference::parse("127.0.0.1:5000/a/b:latest").expect("a reference");
    let repository = Arc::new(registries.repository(&reference, None).await.expect("a repository"));
    let mut taken = 0;
    taken += usize::from(repository.resolve(Asked::Tag("latest")).await.is_ok());
    if let Ok(document) = repository.document(Asked::Tag("latest")).await {
        let bytes = document.content.bytes();
        assert!(document.content.digest().matches(bytes), "a digest of other bytes");
        assert!(bytes.len() <= DOCUMENT_MAX, "{} bytes", bytes.len());
        taken += 1;
    }
    let wanted = Digest::of(DOCUMENT);
    if let Ok(document) = repository.document(Asked::Digest(&wanted)).await {
        assert_eq!((document.content.digest(), document.content.bytes()), (&wanted, DOCUMENT));
        taken += 1;
    }
    let small = described(BLOB.len());
    if let Ok(blob) = repository.blob(&small, DOCUMENT_MAX).await {
        assert_eq!(blob.bytes(), BLOB, "another blob than was asked for");
        taken += 1;
    }
    taken + usize::from(download(&repository).await)
}

/// The blob in a manifest that says it has `size` bytes.
fn described(size: usize) -> Descriptor {
    Descriptor { media_type: String::new(), digest: Digest::of(BLOB), size: size as u64, platform: None }
}

/// As many bytes as the manifest says, or an error.
async fn download(repository: &Arc<Repository>) -> bool {
    // A part of it is there.
    let mut download = repository.download(&described(600), 0, 100);
    let mut come = 100;
    loop {
        match download.piece().await {
            Ok(Some(piece)) => come += piece.len(),
            Ok(None) => {
                assert_eq!(come, 600, "a download of another length");
                return true;
            }
            Err(_) => return false,
        }
        assert!(come <= 600, "{come} bytes of 600");
    }
}

fn conversations() -> Vec<(&'static str, Vec<u8>)> {
    let answer = |head: &str, body: &[u8]| {
        [format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
    };
    let digest = Digest::of(DOCUMENT);
    let resolved = answer(&format!("200 OK\r\nDocker-Content-Digest: {digest}"), b"");
    let kind = "200 OK\r\nContent-Type: application/vnd.oci.image.index.v1+json; charset=utf-8";
    let rest = answer("206 Partial Content\r\nContent-Range: bytes 100-599/600", &[b'x'; 500]);
    let plain = [resolved, answer(kind, DOCUMENT), answer(kind, DOCUMENT), answer("200 OK", BLOB), rest];
    let challenge = "401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"http://127.0.0.1:5000/token\",service=\"s\",scope=\"repository:a/b:pull\"";
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nblob\r\n0\r\n\r\n".to_vec();
    let whole = answer("200 OK", &[b'y'; 600]);
    let login = [
        answer(challenge, b""),
        answer("200 OK", br#"{"token":"abc","expires_in":60}"#),
        answer("200 OK", b""),
        answer("307 Temporary Redirect\r\nLocation: http://127.0.0.1:5000/v2/elsewhere", b""),
        answer(kind, DOCUMENT),
        answer(
            "429 Too Many Requests\r\nRetry-After: 1",
            br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"m"}]}"#,
        ),
        chunked,
        whole,
    ];
    vec![("plain", plain.join(BETWEEN)), ("login", login.join(BETWEEN))]
}
