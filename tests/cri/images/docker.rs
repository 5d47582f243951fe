//! Debian's docker-registry on loopback as administrators run it: with TLS, passwords, or for those with a certificate only. Each test
//! has its own, with certificates made for it.

use super::registry::{Image, digest};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::{Case, Started, until};

/// `user` and `secret`, as htpasswd writes it.
const PASSWORDS: &str = "user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// Who is let in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Everybody.
    Open,
    /// Who knows the password.
    Password,
    /// Who has a certificate of our authority.
    Certificate,
}

/// The registry; it ends when it is dropped.
pub struct Docker {
    program: Option<Started>,
    dir: PathBuf,
    port: u16,
}

impl Docker {
    /// Serves the image as `app:1` over TLS.
    pub fn start(case: &Case, door: Door, image: &Image) -> Self {
        let dir = case.dir().join("docker");
        std::fs::create_dir_all(&dir).expect("make a directory");
        certificates(&dir);
        store(&dir.join("storage/docker/registry/v2"), image);
        std::fs::write(dir.join("htpasswd"), PASSWORDS).expect("write passwords");
        // Free now; another test would have to take it within milliseconds.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let at = |name: &str| dir.join(name).display().to_string();
        let clients = if door == Door::Certificate {
            format!(", clientcas: [{}]", at("ca.crt"))
        } else {
            String::new()
        };
        let auth = match door {
            Door::Password => format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", at("htpasswd")),
            _ => String::new(),
        };
        let text = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n{auth}http: {{addr: \"127.0.0.1:{port}\", \
             tls: {{certificate: {}, key: {}{clients}}}}}\n",
            at("storage"),
            at("server.crt"),
            at("server.key")
        );
        let config = dir.join("config.yml");
        std::fs::write(&config, text).expect("write configuration");
        let program = tests::target().join("peers/bin/docker-registry");
        assert!(program.exists(), "no {}: run hack/peers/get images", program.display());
        let mut program = case.program(&program).arg("serve").arg(config).spawn();
        until("docker-registry listens", || {
            assert!(!program.ended(), "it ended: {}", program.stderr());
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self { program: Some(program), dir, port }
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A file made for it: `ca.crt`, `server.crt`, `server.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if let Some(program) = self.program.take() {
            program.end(nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// An authority, and a certificate of it for servers and clients.
fn certificates(dir: &Path) {
    let openssl = |args: &str| {
        let output =
            Command::new("openssl").args(args.split(' ')).current_dir(dir).output().expect("openssl runs");
        assert!(output.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    std::fs::write(dir.join("names"), "subjectAltName=IP:127.0.0.1,DNS:registry.test\n")
        .expect("write names");
    openssl(&format!("req -x509 {key} -days 2 -keyout ca.key -out ca.crt -subj /CN=test-authority"));
    openssl(&format!("req {key} -keyout server.key -out server.csr -subj /CN=test"));
    openssl(
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt",
    );
}

/// An image as docker-registry's files.
fn store(top: &Path, image: &Image) {
    let write = |path: String, content: &[u8]| {
        let path = top.join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("make a directory");
        std::fs::write(path, content).expect("write a file of the registry");
    };
    let repository = "repositories/app";
    let hex = |digest: &str| digest["sha256:".len()..].to_owned();
    for blob in image.layers.iter().chain([&image.config, &image.manifest]) {
        let digest = digest(blob);
        let hex = hex(&digest);
        write(format!("blobs/sha256/{}/{hex}/data", &hex[..2]), blob);
        write(format!("{repository}/_layers/sha256/{hex}/link"), digest.as_bytes());
    }
    let manifest = digest(&image.manifest);
    for place in [format!("revisions/sha256/{}", hex(&manifest)), "tags/1/current".to_owned()] {
        write(format!("{repository}/_manifests/{place}/link"), manifest.as_bytes());
    }
}
