//! Which request of its manager's a piece of work belongs to: an id that comes with a call's metadata, goes along from task to task, and
//! ends up in the lines of the log. Not an id of the protocol's: nothing depends on it.

use std::sync::Arc;

use crate::ttrpc::{Metadatum, Request};

/// The metadata's key.
pub const KEY: &str = "rt-request-id";

/// The variable in which `rt` gets it, for its own lines.
pub const VARIABLE: &str = "RT_REQUEST_ID";

/// Longer ones are cut: they are someone else's words in our log.
const MOST: usize = 64;

tokio::task_local! {
    static CURRENT: Option<Arc<str>>;
}

/// Of what is being done now.
pub fn current() -> Option<Arc<str>> {
    CURRENT.try_with(Clone::clone).ok().flatten()
}

/// Does this for a request.
pub async fn within<F: Future>(id: Option<Arc<str>>, work: F) -> F::Output {
    CURRENT.scope(id, work).await
}

/// Does this for a request, at once.
pub fn during<T>(id: Option<Arc<str>>, work: impl FnOnce() -> T) -> T {
    CURRENT.sync_scope(id, work)
}

/// What a caller sent.
pub fn of(request: &Request) -> Option<Arc<str>> {
    let found = request.metadata.iter().find(|one| one.key == KEY)?;
    Some(found.value.chars().filter(char::is_ascii_graphic).take(MOST).collect::<String>().into())
}

/// What a caller sends.
pub fn metadata() -> Vec<Metadatum> {
    current().map(|id| Metadatum { key: KEY.to_owned(), value: id.to_string() }).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn an_id_goes_along_and_is_sent() {
        assert_eq!((current(), metadata()), (None, Vec::new()));
        let sent = within(Some("a-1".into()), async {
            tokio::task::yield_now().await;
            during(current(), metadata)
        });
        let request = Request { metadata: sent.await, ..Default::default() };
        assert_eq!(of(&request).as_deref(), Some("a-1"));
        assert_eq!(of(&Request::default()), None);
    }
}
