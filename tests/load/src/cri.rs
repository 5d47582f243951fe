//! One CRI server as a kubelet would talk to it: what is asked of it, and the pods and containers that are asked for.
//!
//! It takes no times.

use crate::api;
use crate::api::image_service_client::ImageServiceClient;
use crate::api::runtime_service_client::RuntimeServiceClient;
use hyper_util::rt::TokioIo;
use prost::bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::UnixStream;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint, Uri};

/// What all containers are made of.
pub const IMAGE: &str = "registry.k8s.io/e2e-test-images/busybox:1.29-2";

/// Whatever fails, in words: a benchmark that meets an error ends.
pub type Result<T> = std::result::Result<T, String>;

/// The largest answer, in bytes.
const ANSWER: usize = 64 << 20;

/// An answer that is a list: on the wire, repeated messages are repeated bytes.
#[derive(Clone, PartialEq, prost::Message)]
struct Items {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    items: Vec<Bytes>,
}

/// A connection to one server; clones share it.
#[derive(Clone)]
pub struct Server {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    channel: Channel,
    /// Where pods keep their logs.
    logs: PathBuf,
}

/// Whose network a pod has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Net {
    /// The host's.
    Host,
    /// One of its own.
    Own,
}

/// A pod that runs.
#[derive(Clone)]
pub struct Pod {
    pub id: String,
    config: api::PodSandboxConfig,
}

impl Server {
    /// Connects to the socket.
    pub async fn connect(socket: &Path, logs: &Path) -> Result<Self> {
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://localhost")
            .connect_with_connector(connector)
            .await
            .map_err(|error| format!("connect to {}: {error}", socket.display()))?;
        Ok(Self {
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(ANSWER),
            images: ImageServiceClient::new(channel.clone()),
            channel,
            logs: logs.to_owned(),
        })
    }

    /// `containerd 2.4.2`
    pub async fn version(&self) -> Result<String> {
        let answer = self.runtime.clone().version(api::VersionRequest::default()).await;
        let answer = answer.map_err(|status| failed("Version", &status))?.into_inner();
        Ok(format!("{} {}", answer.runtime_name, answer.runtime_version))
    }

    /// Pulls the image that all containers use.
    pub async fn pull(&self) -> Result<()> {
        let request = api::PullImageRequest { image: Some(image()), ..Default::default() };
        let answer = self.images.clone().pull_image(request).await;
        answer.map(drop).map_err(|status| failed("PullImage", &status))
    }

    /// RunPodSandbox.
    pub async fn run_pod(&self, net: Net) -> Result<Pod> {
        let config = self.pod_config(net);
        let request =
            api::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        let answer = self.runtime.clone().run_pod_sandbox(request).await;
        let id = answer.map_err(|status| failed("RunPodSandbox", &status))?.into_inner().pod_sandbox_id;
        Ok(Pod { id, config })
    }

    /// CreateContainer, whose program is `command`.
    pub async fn create(&self, pod: &Pod, command: &[&str]) -> Result<String> {
        let request = api::CreateContainerRequest {
            pod_sandbox_id: pod.id.clone(),
            config: Some(container_config(command)),
            sandbox_config: Some(pod.config.clone()),
        };
        let answer = self.runtime.clone().create_container(request).await;
        Ok(answer.map_err(|status| failed("CreateContainer", &status))?.into_inner().container_id)
    }

    /// StartContainer.
    pub async fn start(&self, container: &str) -> Result<()> {
        let request = api::StartContainerRequest { container_id: container.to_owned() };
        let answer = self.runtime.clone().start_container(request).await;
        answer.map(drop).map_err(|status| failed("StartContainer", &status))
    }

    /// ExecSync; the command must succeed.
    pub async fn exec(&self, container: &str, command: &[&str]) -> Result<Vec<u8>> {
        let cmd = command.iter().map(|&word| word.to_owned()).collect();
        let request = api::ExecSyncRequest { container_id: container.to_owned(), cmd, timeout: 30 };
        let answer = self.runtime.clone().exec_sync(request).await;
        let answer = answer.map_err(|status| failed("ExecSync", &status))?.into_inner();
        if answer.exit_code == 0 {
            return Ok(answer.stdout);
        }
        let words = String::from_utf8_lossy(&answer.stderr);
        Err(format!("ExecSync {command:?}: exit code {}: {words}", answer.exit_code))
    }

    /// StopPodSandbox.
    pub async fn stop_pod(&self, pod: &str) -> Result<()> {
        let request = api::StopPodSandboxRequest { pod_sandbox_id: pod.to_owned() };
        let answer = self.runtime.clone().stop_pod_sandbox(request).await;
        answer.map(drop).map_err(|status| failed("StopPodSandbox", &status))
    }

    /// RemovePodSandbox.
    pub async fn remove_pod(&self, pod: &str) -> Result<()> {
        let request = api::RemovePodSandboxRequest { pod_sandbox_id: pod.to_owned() };
        let answer = self.runtime.clone().remove_pod_sandbox(request).await;
        answer.map(drop).map_err(|status| failed("RemovePodSandbox", &status))
    }

    /// ListPodSandbox: the ids.
    pub async fn pods(&self) -> Result<Vec<String>> {
        let answer = self.runtime.clone().list_pod_sandbox(api::ListPodSandboxRequest::default()).await;
        let answer = answer.map_err(|status| failed("ListPodSandbox", &status))?.into_inner();
        Ok(answer.items.into_iter().map(|pod| pod.id).collect())
    }

    /// ListContainers or ListContainerStats: the whole answer, each item as it came. To decode it is the client's work, and takes some as
    /// long as the server's.
    pub async fn list(&self, method: &'static str) -> Result<Vec<Bytes>> {
        let mut client = tonic::client::Grpc::new(self.channel.clone()).max_decoding_message_size(ANSWER);
        client.ready().await.map_err(|error| format!("{method}: {error}"))?;
        let path = PathAndQuery::try_from(format!("/runtime.v1.RuntimeService/{method}"));
        let path = path.map_err(|error| format!("{method}: {error}"))?;
        // Without a filter, one empty request is as another.
        let request = tonic::Request::new(api::ListContainersRequest::default());
        let codec = tonic_prost::ProstCodec::<_, Items>::default();
        let answer = client.unary(request, path, codec).await;
        Ok(answer.map_err(|status| failed(method, &status))?.into_inner().items)
    }

    /// What a kubelet asks for.
    fn pod_config(&self, net: Net) -> api::PodSandboxConfig {
        let name = format!("load-{:x}-{}", std::process::id(), next());
        let network = match net {
            Net::Host => api::NamespaceMode::Node,
            Net::Own => api::NamespaceMode::Pod,
        };
        let context = api::LinuxSandboxSecurityContext {
            namespace_options: Some(api::NamespaceOption {
                network: network as i32,
                pid: api::NamespaceMode::Container as i32,
                ..Default::default()
            }),
            seccomp: Some(default_profile()),
            ..Default::default()
        };
        api::PodSandboxConfig {
            metadata: Some(api::PodSandboxMetadata {
                uid: format!("uid-{name}"),
                namespace: "load".to_owned(),
                attempt: 0,
                name: name.clone(),
            }),
            hostname: if net == Net::Own { name.clone() } else { String::new() },
            log_directory: self.logs.join(&name).to_string_lossy().into_owned(),
            dns_config: Some(api::DnsConfig {
                servers: vec!["10.96.0.10".to_owned()],
                searches: vec!["default.svc.cluster.local".to_owned()],
                options: vec!["ndots:5".to_owned()],
            }),
            labels: labels(&name),
            linux: Some(api::LinuxPodSandboxConfig { security_context: Some(context), ..Default::default() }),
            ..Default::default()
        }
    }
}

fn container_config(command: &[&str]) -> api::ContainerConfig {
    let name = format!("c{}", next());
    let text = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    let context = api::LinuxContainerSecurityContext {
        namespace_options: Some(api::NamespaceOption {
            pid: api::NamespaceMode::Container as i32,
            ..Default::default()
        }),
        seccomp: Some(default_profile()),
        masked_paths: text(&[
            "/proc/asound",
            "/proc/acpi",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/timer_list",
            "/proc/timer_stats",
            "/proc/sched_debug",
            "/proc/scsi",
            "/sys/firmware",
        ]),
        readonly_paths: text(&["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]),
        ..Default::default()
    };
    api::ContainerConfig {
        metadata: Some(api::ContainerMetadata { name: name.clone(), attempt: 0 }),
        image: Some(image()),
        command: text(command),
        envs: vec![api::KeyValue { key: "KUBERNETES_SERVICE_HOST".to_owned(), value: b"10.96.0.1".to_vec() }],
        log_path: format!("{name}.log"),
        labels: labels(&name),
        linux: Some(api::LinuxContainerConfig { security_context: Some(context), ..Default::default() }),
        ..Default::default()
    }
}

fn default_profile() -> api::SecurityProfile {
    api::SecurityProfile {
        profile_type: api::security_profile::ProfileType::RuntimeDefault as i32,
        localhost_ref: String::new(),
    }
}

fn image() -> api::ImageSpec {
    api::ImageSpec { image: IMAGE.to_owned(), ..Default::default() }
}

/// As a kubelet labels them.
fn labels(name: &str) -> std::collections::HashMap<String, String> {
    ["io.kubernetes.pod.name", "io.kubernetes.pod.namespace", "io.kubernetes.pod.uid"]
        .into_iter()
        .map(|key| (key.to_owned(), name.to_owned()))
        .collect()
}

fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn failed(call: &str, status: &tonic::Status) -> String {
    format!("{call}: {:?}: {}", status.code(), status.message())
}
