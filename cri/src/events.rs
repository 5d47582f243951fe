//! Container events, for GetContainerEvents: each once, in the order in which things happened, with statuses of that moment.
//!
//! A reader that falls behind loses events and nobody waits for it. It is told so, and how things stand instead: a resync, whose
//! events carry `run.rt.events-lost` among the annotations of their sandbox status, and CONTAINER_DELETED for what it knew and is gone.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::Stream;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::api::{ContainerEventResponse as Event, ContainerEventType as What, PodSandboxStatus};
use crate::paths;

/// `[events]`
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Events that a reader may be behind.
    pub buffer: std::num::NonZeroUsize,
}

/// What a kubelet with a full node makes in one breath.
const BUFFER: std::num::NonZeroUsize = std::num::NonZeroUsize::new(1024).unwrap();

impl Default for Config {
    fn default() -> Self {
        Self { buffer: BUFFER }
    }
}

/// The largest buffer: it is there from the beginning, and what is in it is kept for all readers.
pub const BUFFER_MAX: usize = 1 << 20;

/// The annotation that says how many events were lost before the one that has it.
pub const LOST: &str = "run.rt.events-lost";

/// Who listens, and what was told last of each sandbox and container.
#[derive(Debug)]
pub struct Events {
    sender: broadcast::Sender<Arc<Event>>,
    told: Mutex<HashMap<String, What>>,
}

impl Events {
    /// Nobody listens yet.
    pub fn new(config: &Config) -> Self {
        Self { sender: broadcast::Sender::new(config.buffer.get()), told: Mutex::default() }
    }

    fn told(&self) -> MutexGuard<'_, HashMap<String, What>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what a reader may know already: after a restart.
    pub fn recover(&self, id: &str, what: What) {
        self.told().insert(id.to_owned(), what);
    }

    /// Tells all, unless it was told already. `event` has the statuses; it is asked only if anybody listens. `was_started` says
    /// whether an end that comes before its start was told has that start before it: who starts and who sees the end are two tasks.
    pub fn tell(&self, id: &str, what: What, was_started: bool, event: impl Fn() -> Event) {
        // Held over all of it, so that later events have later statuses.
        let mut told = self.told();
        let last = told.get(id).copied();
        if last.is_some_and(|last| last as i32 >= what as i32)
            || (last.is_none() && what == What::ContainerStartedEvent)
        {
            return;
        }
        if what == What::ContainerDeletedEvent {
            told.remove(id);
        } else {
            told.insert(id.to_owned(), what);
        }
        if self.sender.receiver_count() == 0 {
            return;
        }
        let starts =
            last == Some(What::ContainerCreatedEvent) && was_started && what != What::ContainerStartedEvent;
        let at = paths::now();
        for what in [starts.then_some(What::ContainerStartedEvent), Some(what)].into_iter().flatten() {
            let event = Event {
                container_id: id.to_owned(),
                container_event_type: what as i32,
                created_at: at,
                ..event()
            };
            // Nobody listening any more is fine.
            let _ = self.sender.send(Arc::new(event));
        }
    }

    /// From now on, for ever. `standing` gives an event for each sandbox and container that there is, with the type of its last.
    pub fn follow(
        self: Arc<Self>,
        standing: impl Fn() -> Vec<Event> + Send + 'static,
    ) -> impl Stream<Item = Event> + Send {
        let reader = Reader {
            receiver: self.sender.subscribe(),
            events: self,
            waiting: VecDeque::new(),
            known: HashMap::new(),
            standing,
        };
        futures_util::stream::unfold(reader, |mut reader| async {
            reader.next().await.map(|event| (event, reader))
        })
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::new(&Config::default())
    }
}

struct Reader<Standing> {
    events: Arc<Events>,
    receiver: broadcast::Receiver<Arc<Event>>,
    waiting: VecDeque<Event>,
    /// What it was told of and is not deleted, with the sandbox as it was then.
    known: HashMap<String, Option<PodSandboxStatus>>,
    standing: Standing,
}

impl<Standing: Fn() -> Vec<Event>> Reader<Standing> {
    async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.waiting.pop_front() {
            return Some(event);
        }
        loop {
            match self.receiver.recv().await {
                Ok(event) => {
                    self.know(&event);
                    return Some(Event::clone(&event));
                }
                Err(RecvError::Lagged(lost)) => {
                    self.resync(lost);
                    if let Some(event) = self.waiting.pop_front() {
                        return Some(event);
                    }
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn know(&mut self, event: &Event) {
        if event.container_event_type == What::ContainerDeletedEvent as i32 {
            self.known.remove(&event.container_id);
        } else {
            self.known.insert(event.container_id.clone(), event.pod_sandbox_status.clone());
        }
    }

    /// How things stand, and from exactly then on what happens.
    fn resync(&mut self, lost: u64) {
        let standing = {
            let _told = self.events.told();
            self.receiver = self.events.sender.subscribe();
            (self.standing)()
        };
        tracing::warn!(lost, "a reader of container events is too slow: it is told how things stand");
        crate::metrics::events_lost(lost);
        let before = std::mem::take(&mut self.known);
        for event in &standing {
            self.know(event);
        }
        let gone =
            before.into_iter().filter(|(id, _)| !self.known.contains_key(id)).map(|(id, sandbox)| Event {
                container_id: id,
                container_event_type: What::ContainerDeletedEvent as i32,
                pod_sandbox_status: sandbox,
                ..Event::default()
            });
        let at = paths::now();
        self.waiting = gone.collect::<Vec<_>>().into_iter().chain(standing).collect();
        for event in &mut self.waiting {
            event.created_at = at;
            let sandbox = event.pod_sandbox_status.get_or_insert_default();
            sandbox.annotations.insert(LOST.to_owned(), lost.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, StreamExt};

    const CREATED: What = What::ContainerCreatedEvent;
    const STARTED: What = What::ContainerStartedEvent;
    const STOPPED: What = What::ContainerStoppedEvent;
    const DELETED: What = What::ContainerDeletedEvent;

    fn plain(id: &str, what: What) -> Event {
        Event { container_id: id.to_owned(), container_event_type: what as i32, ..Event::default() }
    }

    /// All that has been told so far.
    fn heard(stream: &mut (impl Stream<Item = Event> + Unpin)) -> Vec<(String, What, bool)> {
        let mut heard = Vec::new();
        while let Some(Some(event)) = stream.next().now_or_never() {
            let lost =
                event.pod_sandbox_status.as_ref().is_some_and(|status| status.annotations.contains_key(LOST));
            heard.push((event.container_id.clone(), event.container_event_type(), lost));
        }
        heard
    }

    #[test]
    fn an_end_that_is_seen_before_its_start_comes_after_it_and_nothing_comes_twice() {
        let events = Arc::new(Events::default());
        let mut stream = Box::pin(events.clone().follow(Vec::new));
        for (what, was_started) in [
            (CREATED, false),
            (STOPPED, true),
            (STARTED, true),
            (STOPPED, true),
            (DELETED, true),
            (STARTED, true),
        ] {
            events.tell("a", what, was_started, Event::default);
        }
        events.tell("b", CREATED, false, Event::default);
        events.tell("b", STOPPED, false, Event::default);
        let told: Vec<_> = heard(&mut stream).into_iter().map(|(id, what, _)| (id, what)).collect();
        let expected =
            [("a", CREATED), ("a", STARTED), ("a", STOPPED), ("a", DELETED), ("b", CREATED), ("b", STOPPED)];
        assert_eq!(told, expected.map(|(id, what)| (id.to_owned(), what)));
    }

    #[test]
    fn a_slow_reader_is_told_and_gets_how_things_stand_and_then_what_happens() {
        let events = Arc::new(Events::default());
        let standing = || vec![plain("b", STARTED), plain("c", STOPPED)];
        let mut slow = Box::pin(events.clone().follow(standing));
        let mut quick = Box::pin(events.clone().follow(Vec::new));
        events.tell("a", CREATED, false, Event::default);
        assert_eq!(heard(&mut slow), [("a".to_owned(), CREATED, false)]);
        let mut by_quick = heard(&mut quick).len();
        for number in 0..BUFFER.get() * 2 {
            events.tell(&number.to_string(), CREATED, false, Event::default);
            by_quick += heard(&mut quick).len();
        }
        assert_eq!(by_quick, 1 + BUFFER.get() * 2, "others have lost nothing");
        events.tell("d", CREATED, false, Event::default);
        let resync = [
            ("a".to_owned(), DELETED, true),
            ("b".to_owned(), STARTED, true),
            ("c".to_owned(), STOPPED, true),
        ];
        assert_eq!(heard(&mut slow), resync);
        events.tell("e", CREATED, false, Event::default);
        assert_eq!(heard(&mut slow), [("e".to_owned(), CREATED, false)]);
    }
}
