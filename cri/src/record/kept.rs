//! A status in memory with its copy on disk: changed at once, saved after, never overwritten by an older version. It does not know what
//! the status means.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::file;
use crate::error::{Error, Result};

/// What is on disk: the status and how many changes led to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Versioned<S> {
    /// Rises with each change.
    pub version: u64,
    /// The status.
    pub status: S,
}

/// How often anything has changed that counts here. Clones share the count.
#[derive(Debug, Clone, Default)]
pub struct Changes(Arc<AtomicU64>);

impl Changes {
    /// So far.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// One more, to be said when it can be seen.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// The status of one object.
#[derive(Debug)]
pub struct Kept<S> {
    path: PathBuf,
    boot: String,
    now: watch::Sender<Versioned<S>>,
    /// The version on disk, locked while it is written.
    written: Mutex<u64>,
    changes: Changes,
}

impl<S: Serialize + Clone + Send + Sync + 'static> Kept<S> {
    /// A status that is saved at `path`, and whose changes count in `changes`.
    pub fn new(path: PathBuf, boot: &str, now: Versioned<S>, changes: &Changes) -> Arc<Self> {
        let (written, changes) = (Mutex::new(0), changes.clone());
        Arc::new(Self { path, boot: boot.to_owned(), now: watch::Sender::new(now), written, changes })
    }

    /// Looks at the status.
    pub fn look<T>(&self, look: impl FnOnce(&S) -> T) -> T {
        look(&self.now.borrow().status)
    }

    /// A copy of the status.
    pub fn get(&self) -> S {
        self.look(S::clone)
    }

    /// Changes the status in memory, where lists see it at once.
    pub fn change<T>(&self, change: impl FnOnce(&mut S) -> T) -> T {
        let mut answer = None;
        self.now.send_modify(|now| {
            now.version += 1;
            answer = Some(change(&mut now.status));
        });
        self.changes.add();
        match answer {
            Some(answer) => answer,
            None => unreachable!("send_modify calls its closure"),
        }
    }

    /// Waits until the status is as wanted.
    pub async fn until(&self, wanted: impl Fn(&S) -> bool) {
        // It can't be closed: the sender is in self.
        let _ = self.now.subscribe().wait_for(|now| wanted(&now.status)).await;
    }

    /// Brings the newest version to disk.
    pub async fn save(self: &Arc<Self>) -> Result<()> {
        let this = Arc::clone(self);
        tokio::task::spawn_blocking(move || this.write())
            .await
            .map_err(|error| Error::internal(format!("save a status: {error}")))?
    }

    /// Changes the status and brings it to disk.
    pub async fn set(self: &Arc<Self>, change: impl FnOnce(&mut S)) -> Result<()> {
        self.change(change);
        self.save().await
    }

    /// Brings a change to disk before anybody sees it. `change` is called twice.
    pub fn set_saved_first(&self, change: impl Fn(&mut S)) -> Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = self.now.borrow().clone();
        next.version += 1;
        change(&mut next.status);
        file::write(&self.path, &self.boot, &next)?;
        *written = next.version;
        self.now.send_modify(|now| {
            now.version += 1;
            change(&mut now.status);
        });
        self.changes.add();
        Ok(())
    }

    fn write(&self) -> Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.now.borrow().clone();
        if now.version > *written {
            file::write(&self.path, &self.boot, &now)?;
            *written = now.version;
        }
        Ok(())
    }
}
