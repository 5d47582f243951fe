//! Small files of a layer, made by two threads: the one that reads the archive, and another one. To make a file costs the kernel more
//! than it costs to read its entry, and a layer of many small files would keep one core busy and leave the others idle.
//!
//! It decides nothing: which files may be made later, and when all must be there, is the tree's to say.

use super::archive::Entry;
use super::attributes::{attributes, create, times};
use super::place::split;
use crate::error::{Context, Result};
use std::collections::HashSet;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread::Scope;

/// Files handed over at a time: enough that handing over costs nothing beside making them.
const BATCH: usize = 32;
/// Files that may be unmade at a time, and bytes of their paths.
const MOST: usize = 4096;
const PATHS: usize = 1 << 20;

/// A file whose name is free, and its content.
pub struct Job {
    /// Where.
    pub directory: Arc<OwnedFd>,
    /// Clean path in the layer; its last part is the name.
    pub path: Vec<u8>,
    /// Its attributes.
    pub entry: Entry,
    /// All of it.
    pub content: Vec<u8>,
}

/// Makes it, on whichever thread.
pub fn make(job: &Job) -> Result<()> {
    let done = || {
        let made = create(&job.directory, split(&job.path).1, &job.entry).what(|| "make file")?;
        let file = File::from(made);
        file.write_all_at(&job.content, 0).what(|| "write content")?;
        attributes(file.as_fd(), &job.entry)?;
        rustix::fs::futimens(&file, &times(&job.entry)).what(|| "set times")
    };
    done().what(|| format!("unpack {:?}", String::from_utf8_lossy(&job.path)))
}

/// How one is made.
pub type Make = fn(&Job) -> Result<()>;

/// Both threads' work.
pub struct Creators {
    make: Make,
    batch: Vec<Job>,
    /// Paths of files that may be unmade.
    unmade: HashSet<Vec<u8>>,
    /// Their bytes.
    paths: usize,
    batches: SyncSender<Vec<Job>>,
    results: Receiver<Result<()>>,
    /// Batches without a result.
    away: usize,
}

impl Creators {
    /// The other thread begins; it ends when this is dropped.
    pub fn new<'scope>(scope: &'scope Scope<'scope, '_>, make: Make) -> Self {
        let (batches, take) = sync_channel::<Vec<Job>>(1);
        let (say, results): (Sender<Result<()>>, _) = channel();
        scope.spawn(move || {
            for batch in take {
                if say.send(batch.iter().try_for_each(make)).is_err() {
                    break;
                }
            }
        });
        Self { make, batch: Vec::new(), unmade: HashSet::new(), paths: 0, batches, results, away: 0 }
    }

    /// Whether something at this path, or a part of it, may be one of the files.
    pub fn concern(&self, path: &[u8]) -> bool {
        if self.unmade.is_empty() {
            return false;
        }
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        ends.chain([path.len()]).any(|end| self.unmade.contains(&path[..end]))
    }

    /// One more file.
    pub fn add(&mut self, job: Job) {
        self.paths += job.path.len();
        self.unmade.insert(job.path.clone());
        self.batch.push(job);
    }

    /// Has files made when there are enough of them; says what became of earlier ones.
    pub fn hand_over(&mut self) -> Result<()> {
        if self.unmade.len() >= MOST || self.paths >= PATHS {
            return self.settle();
        }
        if self.batch.len() < BATCH {
            return Ok(());
        }
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        match self.batches.try_send(batch) {
            Ok(()) => self.away += 1,
            // The other thread has enough to do; gone it is only after a panic, which shows when it is joined.
            Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => {
                batch.iter().try_for_each(self.make)?;
            }
        }
        while let Ok(result) = self.results.try_recv() {
            self.away -= 1;
            result?;
        }
        Ok(())
    }

    /// All files are made when this returns.
    pub fn settle(&mut self) -> Result<()> {
        let own = std::mem::take(&mut self.batch).iter().try_for_each(self.make);
        while self.away > 0 {
            let Ok(result) = self.results.recv() else { break };
            self.away -= 1;
            result?;
        }
        self.unmade.clear();
        self.paths = 0;
        own
    }
}

#[cfg(test)]
mod tests {
    use super::super::archive::Kind;
    use super::*;
    use crate::error::Error;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static MADE: AtomicUsize = AtomicUsize::new(0);

    fn job(path: &str) -> Job {
        let directory = Arc::new(std::fs::File::open("/").expect("the root").into());
        let (path, content) = (path.as_bytes().to_vec(), Vec::new());
        let entry = Entry {
            path: path.clone(),
            link: Vec::new(),
            kind: Kind::File,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            device: (0, 0),
            xattrs: Vec::new(),
            size: 0,
            sparse: None,
        };
        Job { directory, path, entry, content }
    }

    #[test]
    fn all_are_made_once_and_known_until_then() {
        let count = |_: &Job| {
            MADE.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        std::thread::scope(|scope| {
            let mut creators = Creators::new(scope, count);
            for number in 0..10_000 {
                creators.add(job(&format!("a/{number}")));
                creators.hand_over().expect("no error");
            }
            creators.add(job("b/c"));
            assert!(creators.concern(b"b/c") && creators.concern(b"b/c/d") && !creators.concern(b"b"));
            creators.settle().expect("no error");
            assert!(!creators.concern(b"b/c"));
        });
        assert_eq!(MADE.load(Ordering::SeqCst), 10_001);
    }

    #[test]
    fn an_error_is_told_by_whichever_thread_it_was() {
        let refuse = |job: &Job| match job.path.as_slice() {
            b"bad" => Err(Error::invalid("bad")),
            _ => Ok(()),
        };
        for before in [0, BATCH - 1, 5 * BATCH] {
            std::thread::scope(|scope| {
                let mut creators = Creators::new(scope, refuse);
                let paths = (0..before).map(|number| number.to_string()).chain(["bad".into()]);
                let early = paths.into_iter().try_for_each(|path| {
                    creators.add(job(&path));
                    creators.hand_over()
                });
                early.and_then(|()| creators.settle()).expect_err("one is bad");
            });
        }
    }
}
