//! One object of a name at a time: who asks for it makes it, joins its making, or gets what is there. What making means, the caller knows.

use std::future::Future;
use std::sync::Arc;

use crate::error::Result;
use crate::jobs::Jobs;
use crate::table::Table;

/// Gives the object called `name`: what `fits` says is finished, what is being made once it is, or a `new` one once `make` has made it.
/// `key` names the work on it.
pub async fn one<T, F>(
    (table, jobs): (&Table<T>, &Jobs<()>),
    name: &str,
    new: impl Fn() -> Result<(String, Arc<T>)>,
    fits: impl Fn(&T) -> Result<bool>,
    (key, make): (impl Fn(&T) -> String, impl Fn(Arc<T>) -> F),
) -> Result<Arc<T>>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    loop {
        let (object, is_new) = table.claim(name, &new)?;
        if is_new {
            // ORDER: no await between the claim and this, or a client that goes away would leave a claim that nobody works on.
            jobs.join(key(&object), || make(Arc::clone(&object))).await?;
            return Ok(object);
        }
        if fits(&object)? {
            return Ok(object);
        }
        if let Some(made) = jobs.end_of(&key(&object)).await {
            return made.map(|()| object);
        }
        // It was finished since the claim, or its making failed and was undone: then the name is free, and what was claimed is
        // nobody's any more.
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn what_was_undone_between_claim_and_join_is_made_anew_not_worked_on() {
        let (table, jobs) = (Table::new("sandbox", 9), Jobs::new());
        let ids = AtomicU32::new(0);
        let new = || {
            let id = ids.fetch_add(1, Ordering::SeqCst).to_string();
            Ok((id.clone(), Arc::new(id)))
        };
        // Somebody's, in the making.
        let (theirs, _) = table.claim("name", new).expect("claim");
        let worked_on = Arc::new(std::sync::Mutex::new(Vec::new()));
        let fits = |object: &String| {
            // That fails here, and is undone.
            table.remove("name", object);
            Ok(false)
        };
        let make = |object: Arc<String>| {
            worked_on.lock().expect("lock").push(Arc::clone(&object));
            async { Ok(()) }
        };
        let made = one((&table, &jobs), "name", new, fits, (|id: &String| format!("run {id}"), make)).await;
        let made = made.expect("made");
        assert_ne!(made, theirs);
        assert_eq!(*worked_on.lock().expect("lock"), [made]);
    }

    #[tokio::test]
    async fn who_joins_gets_the_error_of_who_makes() {
        let (table, jobs) = (Table::new("sandbox", 9), Jobs::<()>::new());
        let (object, _) = table.claim("name", || Ok(("1".to_owned(), Arc::new(1)))).expect("claim");
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let work = jobs.join("run 1".to_owned(), || async {
            let _ = wait.await;
            Err(Error::internal("no luck"))
        });
        let new = || panic!("it is claimed: {object}");
        let key = |_: &i32| "run 1".to_owned();
        let make = |_| async { panic!("somebody makes it") };
        let joins = one((&table, &jobs), "name", new, |_| Ok(false), (key, make));
        let (_, joined, _) = tokio::join!(work, joins, async { go.send(()) });
        assert_eq!(joined.expect_err("the maker's error").to_string(), "no luck");
    }
}
