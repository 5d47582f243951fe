//! What exists, by id and by the name that its metadata makes. Each call is one short look under a lock; nothing here waits.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Kind, Result};
use crate::record::Changes;

/// Objects of one kind.
#[derive(Debug)]
pub struct Table<T> {
    kind: &'static str,
    most: usize,
    inner: Mutex<Inner<T>>,
    changes: Changes,
}

#[derive(Debug)]
struct Inner<T> {
    by_id: BTreeMap<String, Arc<T>>,
    by_name: HashMap<String, String>,
}

impl<T> Table<T> {
    /// An empty table; `kind` is what messages call its objects, of which clients may make so many that all of them fit into a list.
    pub fn new(kind: &'static str, most: usize) -> Self {
        let inner = Inner { by_id: BTreeMap::new(), by_name: HashMap::new() };
        Self { kind, most, inner: Mutex::new(inner), changes: Changes::default() }
    }

    /// Objects that come and go, and what changes of them, if it is told to count here.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has this name already, or else what `make` makes with its id, entered under both. True when it is new.
    pub fn claim(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<(String, Arc<T>)>,
    ) -> Result<(Arc<T>, bool)> {
        let mut inner = self.lock();
        if let Some(there) = inner.by_name.get(name).and_then(|id| inner.by_id.get(id)) {
            return Ok((Arc::clone(there), false));
        }
        if inner.by_id.len() >= self.most {
            let why = format!("there are {} of {} already, as many as may be", inner.by_id.len(), self.kind);
            return Err(Error::new(Kind::Unavailable, why).cure("remove those that have ended"));
        }
        let (id, object) = make()?;
        inner.by_name.insert(name.to_owned(), id.clone());
        inner.by_id.insert(id, Arc::clone(&object));
        self.changes.add();
        Ok((object, true))
    }

    /// Enters what recovery found.
    pub fn insert(&self, name: &str, id: &str, object: Arc<T>) {
        let mut inner = self.lock();
        inner.by_name.insert(name.to_owned(), id.to_owned());
        inner.by_id.insert(id.to_owned(), object);
        self.changes.add();
    }

    /// Takes out what is removed.
    pub fn remove(&self, name: &str, id: &str) {
        let mut inner = self.lock();
        if inner.by_name.get(name).is_some_and(|owner| owner == id) {
            inner.by_name.remove(name);
        }
        inner.by_id.remove(id);
        self.changes.add();
    }

    /// Gives the name up, so that it can be claimed anew while what is left of its owner is still being undone.
    pub fn release(&self, name: &str, id: &str) {
        let mut inner = self.lock();
        if inner.by_name.get(name).is_some_and(|owner| owner == id) {
            inner.by_name.remove(name);
        }
    }

    /// By its id or a prefix that no other id has.
    pub fn find(&self, id: &str) -> Result<Option<Arc<T>>> {
        if id.is_empty() {
            return Err(Error::invalid(format!("the {} id is empty", self.kind)));
        }
        let inner = self.lock();
        if let Some(object) = inner.by_id.get(id) {
            return Ok(Some(Arc::clone(object)));
        }
        let mut matches = inner.by_id.range(id.to_owned()..).take_while(|(key, _)| key.starts_with(id));
        match (matches.next(), matches.next()) {
            (Some((_, object)), None) => Ok(Some(Arc::clone(object))),
            (None, _) => Ok(None),
            (Some(_), Some(_)) => {
                Err(Error::invalid(format!("more than one {} id begins with {id:?}", self.kind))
                    .cure("give more of it"))
            }
        }
    }

    /// As [`Self::find`]; what is not there is an error.
    pub fn get(&self, id: &str) -> Result<Arc<T>> {
        self.find(id)?.ok_or_else(|| Error::not_found(format!("{} {} does not exist", self.kind, shown(id))))
    }

    /// All, in the order of their ids.
    pub fn all(&self) -> Vec<Arc<T>> {
        self.lock().by_id.values().cloned().collect()
    }
}

/// A client's text in our messages: bounded, and on one line.
pub fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(100).flat_map(char::escape_debug).collect();
    if text.chars().nth(100).is_some() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_by_a_prefix_that_is_unique() {
        let table = Table::new("container", 9);
        for id in ["abc1", "abd2"] {
            table.insert(id, id, Arc::new(id));
        }
        assert_eq!(*table.get("abc").expect("found"), "abc1");
        assert!(table.find("ab").is_err());
        assert!(table.find("").is_err());
        assert!(table.find("x").expect("no error").is_none());
        table.remove("abc1", "abc1");
        assert_eq!(*table.get("ab").expect("found"), "abd2");
    }

    #[test]
    fn there_is_an_end_to_how_many_are_made_but_those_that_were_recorded_are_all_taken() {
        let table = Table::new("sandbox", 2);
        for id in ["1", "2", "3"] {
            table.insert(id, id, Arc::new(id));
        }
        let error = table.claim("n", || Ok(("4".to_owned(), Arc::new("4")))).expect_err("no room");
        assert!(error.to_string().contains("3 of sandbox"), "{error}");
        assert!(!table.claim("1", || panic!("it is there")).expect("joined").1);
        table.remove("1", "1");
        table.remove("2", "2");
        assert!(table.claim("n", || Ok(("4".to_owned(), Arc::new("4")))).expect("room").1);
    }

    #[test]
    fn a_name_is_claimed_once_and_free_after_removal() {
        let table = Table::new("sandbox", 9);
        let make = |id: &str| Ok((id.to_owned(), Arc::new(id.to_owned())));
        assert!(table.claim("n", || make("1")).expect("claim").1);
        let (there, new) = table.claim("n", || make("2")).expect("claim");
        assert!(!new && *there == "1");
        table.remove("n", "1");
        assert!(table.claim("n", || make("3")).expect("claim").1);
    }
}
