//! Random operations, each also twice at once, by a client that goes away, and with a server that is killed in the middle: after each, the
//! server's lists are what a simple model says, and at the end nothing is left.
//!
//! `RT_CRI_SEED` chooses the operations, `RT_CRI_OPERATIONS` how many (60); a failure names both. What an operation is follows from the
//! seed and its number alone, so that `RT_CRI_ONLY=3,17,18` tries a few of them: that is how a failure is made small.

use crate::surroundings;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;
use tests::cri::api::{Client, Refused, v1};
use tests::cri::{BUSYBOX, Surroundings};
use tonic::{Code, Response, Status};

type Calls = v1::runtime_service_client::RuntimeServiceClient<tonic::transport::Channel>;

/// How many pods there may be, and containers in each.
const PODS: u64 = 5;
const CONTAINERS: u64 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Created,
    Running,
    Exited,
}

#[derive(Debug, Clone)]
struct Pod {
    id: String,
    is_ready: bool,
    containers: BTreeMap<u64, (String, Stage)>,
}

/// How a call is made.
#[derive(Debug, Clone, Copy)]
enum Way {
    Once,
    /// By two clients at once.
    Twice,
    /// By one that goes away after so long, and asks again.
    Abandoned(Duration),
    /// The server is killed after so long, and the call made again.
    Killed(Duration),
}

#[derive(Debug, Clone, Copy)]
enum Operation {
    Run(u64),
    StopPod(u64),
    RemovePod(u64),
    Create(u64, u64),
    Start(u64, u64),
    Stop(u64, u64),
    Remove(u64, u64),
    Exec(u64, u64),
    /// A container is created while its pod is removed.
    Race(u64, u64),
    KillServer,
    KillShim(u64),
}

struct World {
    here: Surroundings,
    client: Client,
    pods: BTreeMap<u64, Pod>,
}

/// SplitMix64's step: a number that follows from another.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn operation(seed: u64, number: u64) -> (Operation, Way) {
    let mut state = mix(seed ^ mix(number));
    let mut below = |most: u64| {
        state = mix(state);
        state % most
    };
    let (pod, container) = (below(PODS), below(CONTAINERS));
    let operation = match below(100) {
        0..22 => Operation::Run(pod),
        22..29 => Operation::StopPod(pod),
        29..37 => Operation::RemovePod(pod),
        37..57 => Operation::Create(pod, container),
        57..73 => Operation::Start(pod, container),
        73..80 => Operation::Stop(pod, container),
        80..87 => Operation::Remove(pod, container),
        87..93 => Operation::Exec(pod, container),
        93..96 => Operation::Race(pod, container),
        96..98 => Operation::KillServer,
        _ => Operation::KillShim(pod),
    };
    // What a call needs, about.
    let after = Duration::from_micros(below(40_000));
    let way = match below(10) {
        0..6 => Way::Once,
        6 | 7 => Way::Twice,
        8 => Way::Abandoned(after),
        _ => Way::Killed(after),
    };
    (operation, way)
}

fn code<T: Debug>(result: &Result<T, Refused>) -> Code {
    result.as_ref().map_or_else(|refused| refused.code, |_| Code::Ok)
}

impl World {
    fn pod(&self, number: u64) -> v1::PodSandboxConfig {
        // One in three on the host's network.
        let network = if number.is_multiple_of(3) { 2 } else { 0 };
        let options = v1::NamespaceOption { network, ..Default::default() };
        let context =
            v1::LinuxSandboxSecurityContext { namespace_options: Some(options), ..Default::default() };
        let linux = v1::LinuxPodSandboxConfig {
            cgroup_parent: self.here.case().cgroup().to_owned(),
            security_context: Some(context),
            ..Default::default()
        };
        let (name, uid) = (format!("pod-{number}"), format!("uid-{number}"));
        v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata { name, uid, namespace: "n".into(), attempt: 0 }),
            log_directory: self.here.case().dir().join("logs").to_string_lossy().into_owned(),
            linux: Some(linux),
            ..Default::default()
        }
    }

    fn container(&self, pod: u64, number: u64) -> v1::ContainerConfig {
        v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata { name: format!("c{number}"), attempt: 0 }),
            image: Some(v1::ImageSpec { image: BUSYBOX.into(), ..Default::default() }),
            command: vec!["sleep".into(), "1000".into()],
            log_path: format!("{pod}-{number}.log"),
            linux: Some(v1::LinuxContainerConfig::default()),
            ..Default::default()
        }
    }

    /// Makes a call in the way that is wanted. Of two at once the second may only differ by finding the work done.
    fn call<T, F>(&mut self, way: Way, call: impl Fn(Calls) -> F) -> Result<T, Refused>
    where
        T: Debug + PartialEq,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let once = |client: &Client| {
            let answer = client.wait(call(client.cri()));
            answer.map(Response::into_inner).map_err(Refused::from)
        };
        match way {
            Way::Once => once(&self.client),
            Way::Twice => {
                let both = async { tokio::join!(call(self.client.cri()), call(self.client.cri())) };
                let (a, b) = self.client.wait(both);
                let [a, b] = [a, b].map(|one| one.map(Response::into_inner).map_err(Refused::from));
                if a.is_ok() && b.is_ok() {
                    assert_eq!(a, b, "two at once got different answers");
                }
                a.or(b)
            }
            Way::Abandoned(after) => {
                let _ = self.client.abandon(after, call(self.client.cri()));
                once(&self.client)
            }
            Way::Killed(after) => {
                let _ = self.client.abandon(after, call(self.client.cri()));
                self.restart();
                once(&self.client)
            }
        }
    }

    fn restart(&mut self) {
        self.here.crash_server();
        self.client = self.here.client();
    }

    fn perform(&mut self, operation: Operation, way: Way) {
        match operation {
            Operation::Run(pod) => self.run(pod, way),
            Operation::StopPod(pod) => self.stop_pod(pod, way),
            Operation::RemovePod(pod) => self.remove_pod(pod, way),
            Operation::Create(pod, number) => self.create(pod, number, way),
            Operation::Start(pod, number) => self.start(pod, number, way),
            Operation::Stop(pod, number) => self.stop(pod, number, way),
            Operation::Remove(pod, number) => self.remove(pod, number, way),
            Operation::Exec(pod, number) => self.exec(pod, number),
            Operation::Race(pod, number) => self.race(pod, number),
            Operation::KillServer => self.restart(),
            Operation::KillShim(pod) => self.kill_shim(pod),
        }
    }

    fn run(&mut self, pod: u64, way: Way) {
        let request = v1::RunPodSandboxRequest { config: Some(self.pod(pod)), ..Default::default() };
        let said = self.call(way, |mut cri| {
            let request = request.clone();
            async move { cri.run_pod_sandbox(request).await }
        });
        match (self.pods.get(&pod), &said) {
            (Some(there), Ok(answer)) if there.is_ready => assert_eq!(answer.pod_sandbox_id, there.id),
            (Some(there), Err(refused)) if !there.is_ready => assert_eq!(refused.code, Code::AlreadyExists),
            (None, Ok(answer)) => {
                let id = answer.pod_sandbox_id.clone();
                self.pods.insert(pod, Pod { id, is_ready: true, containers: BTreeMap::new() });
            }
            (there, said) => panic!("{there:?}: {said:?}"),
        }
    }

    /// The id in the model, or one that nobody has.
    fn id(&self, pod: u64) -> String {
        self.pods.get(&pod).map_or_else(|| "none".to_owned(), |pod| pod.id.clone())
    }

    fn container_id(&self, pod: u64, number: u64) -> String {
        let there = self.pods.get(&pod).and_then(|pod| pod.containers.get(&number));
        there.map_or_else(|| "none".to_owned(), |(id, _)| id.clone())
    }

    fn stage(&mut self, pod: u64, number: u64) -> Option<&mut Stage> {
        self.pods.get_mut(&pod)?.containers.get_mut(&number).map(|(_, stage)| stage)
    }

    fn stop_pod(&mut self, pod: u64, way: Way) {
        let request = v1::StopPodSandboxRequest { pod_sandbox_id: self.id(pod) };
        let said = self.call(way, |mut cri| {
            let request = request.clone();
            async move { cri.stop_pod_sandbox(request).await }
        });
        said.expect("a pod can always be stopped");
        if let Some(pod) = self.pods.get_mut(&pod) {
            pod.is_ready = false;
            pod.containers.values_mut().for_each(|(_, stage)| *stage = Stage::Exited);
        }
    }

    fn remove_pod(&mut self, pod: u64, way: Way) {
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: self.id(pod) };
        let said = self.call(way, |mut cri| {
            let request = request.clone();
            async move { cri.remove_pod_sandbox(request).await }
        });
        said.expect("a pod can always be removed");
        self.pods.remove(&pod);
    }

    fn create_request(&self, pod: u64, number: u64) -> v1::CreateContainerRequest {
        v1::CreateContainerRequest {
            pod_sandbox_id: self.id(pod),
            config: Some(self.container(pod, number)),
            sandbox_config: Some(self.pod(pod)),
        }
    }

    fn create(&mut self, pod: u64, number: u64, way: Way) {
        let request = self.create_request(pod, number);
        let said = self.call(way, |mut cri| {
            let request = request.clone();
            async move { cri.create_container(request).await }
        });
        let Some(there) = self.pods.get_mut(&pod) else {
            return assert_eq!(code(&said), Code::NotFound, "{said:?}");
        };
        match (there.is_ready, there.containers.get(&number)) {
            (false, _) => assert_eq!(code(&said), Code::FailedPrecondition, "{said:?}"),
            (true, None) => {
                let id = said.expect("it is created").container_id;
                there.containers.insert(number, (id, Stage::Created));
            }
            (true, Some((id, Stage::Created))) => assert_eq!(said.expect("it is there").container_id, *id),
            (true, Some(_)) => assert_eq!(code(&said), Code::AlreadyExists, "{said:?}"),
        }
    }

    fn start(&mut self, pod: u64, number: u64, way: Way) {
        let request = v1::StartContainerRequest { container_id: self.container_id(pod, number) };
        let said = self.call(way, |mut cri| {
            let request = request.clone();
            async move { cri.start_container(request).await }
        });
        match self.stage(pod, number) {
            None => assert_eq!(code(&said), Code::NotFound, "{said:?}"),
            Some(stage @ Stage::Created) => {
                // Who asks again may find it running.
                let again = !matches!(way, Way::Once) && code(&said) == Code::FailedPrecondition;
                assert!(said.is_ok() || again, "{said:?}");
                *stage = Stage::Running;
            }
            Some(_) => assert_eq!(code(&said), Code::FailedPrecondition, "{said:?}"),
        }
    }

    fn stop(&mut self, pod: u64, number: u64, way: Way) {
        let request = v1::StopContainerRequest { container_id: self.container_id(pod, number), timeout: 0 };
        let said = self.call(way, |mut cri| {
            let request = request.clone();
            async move { cri.stop_container(request).await }
        });
        said.expect("a container can always be stopped");
        if let Some(stage) = self.stage(pod, number) {
            *stage = Stage::Exited;
        }
    }

    fn remove(&mut self, pod: u64, number: u64, way: Way) {
        let request = v1::RemoveContainerRequest { container_id: self.container_id(pod, number) };
        let said = self.call(way, |mut cri| {
            let request = request.clone();
            async move { cri.remove_container(request).await }
        });
        said.expect("a container can always be removed");
        if let Some(pod) = self.pods.get_mut(&pod) {
            pod.containers.remove(&number);
        }
    }

    fn exec(&mut self, pod: u64, number: u64) {
        let container_id = self.container_id(pod, number);
        let cmd = ["echo", "hello"].map(str::to_owned).into();
        let request = v1::ExecSyncRequest { container_id, cmd, timeout: 20 };
        let said = self.call(Way::Once, |mut cri| {
            let request = request.clone();
            async move { cri.exec_sync(request).await }
        });
        match self.stage(pod, number) {
            None => assert_eq!(code(&said), Code::NotFound, "{said:?}"),
            Some(Stage::Running) => assert_eq!(said.expect("it runs").stdout, b"hello\n"),
            Some(_) => assert_eq!(code(&said), Code::FailedPrecondition, "{said:?}"),
        }
    }

    fn race(&mut self, pod: u64, number: u64) {
        let create = self.create_request(pod, number);
        let remove = v1::RemovePodSandboxRequest { pod_sandbox_id: self.id(pod) };
        let (mut one, mut other) = (self.client.cri(), self.client.cri());
        let both = async { tokio::join!(one.create_container(create), other.remove_pod_sandbox(remove)) };
        let (_, removed) = self.client.wait(both);
        removed.expect("a pod can always be removed");
        self.pods.remove(&pod);
    }

    fn kill_shim(&mut self, pod: u64) {
        let Some(there) = self.pods.get(&pod).filter(|pod| pod.is_ready).cloned() else { return };
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: there.id, verbose: true };
        let mut cri = self.client.cri();
        let status = self.client.wait(cri.pod_sandbox_status(request)).expect("a status").into_inner();
        let info: tests::Value = serde_json::from_str(&status.info["info"]).expect("JSON");
        let shim = i32::try_from(info["shimPid"].as_i64().expect("a pid")).expect("a pid");
        // They become children of this process, which is a subreaper: a PID namespace ends with the last zombie in it.
        let orphans =
            std::fs::read_to_string(format!("/proc/{shim}/task/{shim}/children")).expect("its children");
        let orphans: Vec<i32> = orphans.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        kill(Pid::from_raw(shim), Signal::SIGKILL).expect("the shim runs");
        let pod = self.pods.get_mut(&pod).expect("it is there");
        pod.is_ready = false;
        pod.containers.values_mut().for_each(|(_, stage)| *stage = Stage::Exited);
        // Its death has to be seen first.
        tests::until("the lists say that the shim is dead", || {
            for orphan in &orphans {
                let _ = waitpid(Pid::from_raw(*orphan), Some(WaitPidFlag::WNOHANG));
            }
            (self.listed() == self.expected()).then_some(())
        });
    }

    /// Pods and containers as the server lists them: id and state.
    fn listed(&self) -> BTreeMap<String, String> {
        let (mut one, mut other) = (self.client.cri(), self.client.cri());
        let both = async {
            let pods = one.list_pod_sandbox(v1::ListPodSandboxRequest::default());
            let containers = other.list_containers(v1::ListContainersRequest::default());
            tokio::join!(pods, containers)
        };
        let (pods, containers) = self.client.wait(both);
        let pods = pods.expect("a list").into_inner().items;
        let containers = containers.expect("a list").into_inner().containers;
        let pods = pods.into_iter().map(|pod| (pod.id.clone(), format!("{:?}", pod.state())));
        pods.chain(containers.into_iter().map(|one| (one.id.clone(), format!("{:?}", one.state())))).collect()
    }

    /// The same of the model.
    fn expected(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for pod in self.pods.values() {
            let state = if pod.is_ready {
                v1::PodSandboxState::SandboxReady
            } else {
                v1::PodSandboxState::SandboxNotready
            };
            all.insert(pod.id.clone(), format!("{state:?}"));
            for (id, stage) in pod.containers.values() {
                let state = match stage {
                    Stage::Created => v1::ContainerState::ContainerCreated,
                    Stage::Running => v1::ContainerState::ContainerRunning,
                    Stage::Exited => v1::ContainerState::ContainerExited,
                };
                all.insert(id.clone(), format!("{state:?}"));
            }
        }
        all
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

#[test]
fn random_operations_agree_with_a_model_and_leave_nothing() {
    let (seed, count) = (number("RT_CRI_SEED", 1), number("RT_CRI_OPERATIONS", 60));
    let only: Option<Vec<u64>> = std::env::var("RT_CRI_ONLY")
        .ok()
        .map(|text| text.split(',').map(|part| part.parse().expect("RT_CRI_ONLY=1,2,3")).collect());
    let here = surroundings!();
    let client = here.client();
    let mut world = World { here, client, pods: BTreeMap::new() };
    for number in (1..=count).filter(|number| only.as_ref().is_none_or(|only| only.contains(number))) {
        let (operation, way) = operation(seed, number);
        // Shown if it fails.
        println!("RT_CRI_SEED={seed} RT_CRI_OPERATIONS={number}: {operation:?}, {way:?}");
        world.perform(operation, way);
        assert_eq!(world.listed(), world.expected(), "after it, the lists are not the model's");
    }
    for pod in 0..PODS {
        world.remove_pod(pod, Way::Once);
    }
    assert_eq!(world.here.remains(), Vec::<String>::new());
}
