//! containerd's events: in the order in which things happened, each until it has arrived.
//!
//! While the receiver is away they are kept, the newest two thousand; that is an hour of a busy pod. One that was delivered
//! just before the receiver died may arrive twice, which its readers have to expect of any publisher.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use prost_types::Any;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::api::containerd::events as api;
use crate::api::containerd::services::events::ttrpc::v1::ForwardRequest;
use crate::api::containerd::types::Envelope;
use crate::pod::{Event, Fifos, Happening};
use crate::service::{any, exit_status, fifos, mounts, timestamp};
use crate::ttrpc::{Channel, Code, Status, Stop};

/// Events that are kept.
const KEPT: usize = 2048;
/// How long the receiver may take for one.
const DELIVERY: Duration = Duration::from_secs(5);
/// The first pause after a failure; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// With so many failures behind it the receiver is not just restarting.
const PATIENCE: u32 = 100;
const LONG_PAUSE: Duration = Duration::from_secs(60);

const FORWARD: (&str, &str) = ("containerd.services.events.ttrpc.v1.Events", "Forward");

/// Where events go.
#[derive(Debug)]
pub struct Receiver {
    path: PathBuf,
    namespace: String,
    channel: Option<Channel>,
}

impl Receiver {
    /// containerd's ttrpc socket, and the namespace that the events are of. Connects when there is something to tell.
    pub fn new(path: PathBuf, namespace: String) -> Self {
        Self { path, namespace, channel: None }
    }

    async fn deliver(&mut self, event: &Event) -> Result<(), Status> {
        let request = ForwardRequest { envelope: Some(self.envelope(event)) };
        let channel = match self.channel.take().filter(|channel| !channel.is_closed()) {
            Some(channel) => channel,
            None => Channel::connect(&self.path).await?,
        };
        channel.call::<_, ()>(FORWARD, &request, DELIVERY).await?;
        self.channel = Some(channel);
        Ok(())
    }

    fn envelope(&self, event: &Event) -> Envelope {
        let (topic, event_any) = message(event);
        Envelope {
            timestamp: Some(timestamp(event.at)),
            namespace: self.namespace.clone(),
            topic: topic.to_owned(),
            event: Some(event_any),
        }
    }
}

/// Forwards until `stop` is told, and then what is left.
pub async fn forward(mut events: UnboundedReceiver<Event>, mut to: Receiver, stop: Stop) {
    let mut kept = Kept::default();
    let mut failures = 0;
    loop {
        while let Ok(event) = events.try_recv() {
            kept.push(event);
        }
        let Some(event) = kept.queue.front() else {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => kept.push(event),
                    None => return,
                },
                () = stop.told() => match events.try_recv() {
                    Ok(event) => kept.push(event),
                    Err(_) => return,
                },
            }
            continue;
        };
        match to.deliver(event).await {
            Ok(()) => {
                failures = 0;
                kept.queue.pop_front();
            }
            // It arrived and is not wanted: not to be sent for ever.
            Err(status) if refused(&status) => {
                tracing::error!("publish {:?} of {}: {status}", event.what, event.target);
                kept.queue.pop_front();
            }
            Err(status) => {
                failures += 1;
                tracing::debug!("publish an event: {status}");
                wait(&mut events, &mut kept, pause(failures)).await;
            }
        }
    }
}

/// Waits, and takes in what happens meanwhile.
async fn wait(events: &mut UnboundedReceiver<Event>, kept: &mut Kept, time: Duration) {
    let until = tokio::time::Instant::now() + time;
    while let Ok(Some(event)) = tokio::time::timeout_at(until, events.recv()).await {
        kept.push(event);
    }
}

fn pause(failures: u32) -> Duration {
    if failures > PATIENCE {
        return LONG_PAUSE;
    }
    FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST_PAUSE)
}

fn refused(status: &Status) -> bool {
    let codes = [Code::InvalidArgument, Code::Unimplemented, Code::ResourceExhausted];
    codes.iter().any(|code| *code as i32 == status.code)
}

#[derive(Default)]
struct Kept {
    queue: VecDeque<Event>,
}

impl Kept {
    fn push(&mut self, event: Event) {
        if self.queue.len() == KEPT {
            let lost = self.queue.pop_front();
            tracing::error!("the receiver of events is away too long: lost {lost:?}");
        }
        self.queue.push_back(event);
    }
}

/// An event's topic and its message.
fn message(event: &Event) -> (&'static str, Any) {
    let container_id = event.target.container.clone();
    let exec_id = event.target.exec.clone().unwrap_or_default();
    match &event.what {
        Happening::Created { pid, bundle, stdio, rootfs_mounts } => {
            let Fifos { stdin, stdout, stderr, terminal } = fifos(stdio);
            let create = api::TaskCreate {
                container_id,
                bundle: bundle.to_string_lossy().into_owned(),
                rootfs: mounts(rootfs_mounts.clone()),
                io: Some(api::TaskIo { stdin, stdout, stderr, terminal }),
                checkpoint: String::new(),
                pid: *pid,
            };
            ("/tasks/create", any("containerd.events.TaskCreate", &create))
        }
        Happening::Started { pid } => {
            ("/tasks/start", any("containerd.events.TaskStart", &api::TaskStart { container_id, pid: *pid }))
        }
        Happening::ExecAdded => (
            "/tasks/exec-added",
            any("containerd.events.TaskExecAdded", &api::TaskExecAdded { container_id, exec_id }),
        ),
        Happening::ExecStarted { pid } => {
            let started = api::TaskExecStarted { container_id, exec_id, pid: *pid };
            ("/tasks/exec-started", any("containerd.events.TaskExecStarted", &started))
        }
        Happening::Oom => ("/tasks/oom", any("containerd.events.TaskOOM", &api::TaskOom { container_id })),
        Happening::Exited { pid, ended } => {
            // A container's own process goes by the container's name.
            let id = event.target.exec.clone().unwrap_or_else(|| container_id.clone());
            let exit = api::TaskExit {
                container_id,
                id,
                pid: *pid,
                exit_status: exit_status(ended.exit_code),
                exited_at: Some(timestamp(ended.at)),
            };
            ("/tasks/exit", any("containerd.events.TaskExit", &exit))
        }
        Happening::Paused => {
            ("/tasks/paused", any("containerd.events.TaskPaused", &api::TaskPaused { container_id }))
        }
        Happening::Resumed => {
            ("/tasks/resumed", any("containerd.events.TaskResumed", &api::TaskResumed { container_id }))
        }
        Happening::Deleted { pid, ended } => {
            let delete = api::TaskDelete {
                container_id,
                pid: *pid,
                exit_status: exit_status(ended.exit_code),
                exited_at: Some(timestamp(ended.at)),
                id: exec_id,
            };
            ("/tasks/delete", any("containerd.events.TaskDelete", &delete))
        }
    }
}
