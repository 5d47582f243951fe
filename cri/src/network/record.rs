//! What each pod was given, on disk, so that it can be taken back after a crash: one file per pod, written before anything is
//! made and again when all is. They may outlive a boot: plugins keep addresses on disk, and DEL gives those back.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::builtin::Lease;
use super::cni::Joined;
use super::pod::{Attachment, PodNetwork};
use crate::error::{Context, Error, Result};

/// One pod's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// As it was asked for.
    pub pod: PodNetwork,
    /// Who gives it.
    pub by: By,
    /// What it got; none while it is in the making.
    pub attachment: Option<Attachment>,
}

/// Who gives a pod its network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The built-in bridge.
    Builtin(Lease),
    /// CNI plugins: one entry for each network.
    Cni(Vec<Joined>),
}

/// The records of all pods, in memory and on disk.
#[derive(Debug)]
pub struct Records {
    folder: PathBuf,
    all: Mutex<HashMap<String, Arc<Record>>>,
}

impl Records {
    /// Reads what is there. A torn file is dropped: it was never complete, so nothing was made after it.
    pub fn open(folder: &Path) -> Result<Self> {
        crate::paths::own_dir(folder)?;
        let mut all = HashMap::new();
        for entry in fs::read_dir(folder).what(|| format!("list {}", folder.display()))?.flatten() {
            let path = entry.path();
            let record = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
            match record {
                Some(record) if path.extension().is_some_and(|extension| extension == "json") => {
                    all.insert(record.pod.id.clone(), Arc::new(record));
                }
                _ => {
                    tracing::warn!(path = %path.display(), "a torn network record is dropped");
                    let _ = fs::remove_file(&path);
                }
            }
        }
        Ok(Self { folder: folder.to_owned(), all: Mutex::new(all) })
    }

    /// One pod's.
    pub fn find(&self, id: &str) -> Option<Arc<Record>> {
        self.lock().get(id).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Record>> {
        self.lock().values().cloned().collect()
    }

    /// Writes one down.
    pub fn save(&self, record: Record) -> Result<Arc<Record>> {
        let path = self.path(&record.pod.id);
        let what = || format!("write {}", path.display());
        let part = path.with_extension("part");
        let bytes =
            serde_json::to_vec(&record).map_err(|error| Error::internal(error.to_string()).during(what()))?;
        crate::paths::write_own(&part, &bytes).what(what)?;
        fs::rename(&part, &path).what(what)?;
        let record = Arc::new(record);
        self.lock().insert(record.pod.id.clone(), record.clone());
        Ok(record)
    }

    /// Forgets one.
    pub fn remove(&self, id: &str) -> Result<()> {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).what(|| format!("remove {}", path.display()));
            }
            _ => {}
        }
        self.lock().remove(id);
        Ok(())
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Record>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
