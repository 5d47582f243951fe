//! What RPCs answer: a message, a status that is logged once, or a list in pieces.

use std::future::Future;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tonic::{Response, Status};

use crate::bounds::{self, Shrink};
use crate::error::Result;

/// Of an RPC that answers with one message.
pub type Answer<T> = Result<Response<T>, Status>;
/// Messages one after the other.
pub type Items<T> = BoxStream<'static, Result<T, Status>>;

/// How many items one message of a streamed list has.
const CHUNK: usize = 200;

/// Logs what went wrong, once, and turns it into a status.
pub async fn answer<T>(work: impl Future<Output = Result<T>>) -> Answer<T> {
    let began = Instant::now();
    let result = work.await;
    let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    match result {
        Ok(message) => {
            tracing::debug!(took_us, "done");
            Ok(Response::new(message))
        }
        Err(error) => {
            let status = Status::from(error);
            tracing::warn!(took_us, code = ?status.code(), "{}", status.message());
            Err(status)
        }
    }
}

/// A list in messages of `CHUNK` items, fewer where they are large.
pub fn chunks<T, M>(mut items: Vec<T>, message: impl Fn(Vec<T>) -> M + Send + 'static) -> Answer<Items<M>>
where
    T: Shrink + Send + 'static,
    M: Send + 'static,
{
    for item in &mut items {
        bounds::fit("list one by one", std::slice::from_mut(item), bounds::ANSWER);
    }
    let chunks = stream::iter(bounds::pieces(items, CHUNK)).map(move |items| Ok(message(items)));
    Ok(Response::new(chunks.boxed()))
}
