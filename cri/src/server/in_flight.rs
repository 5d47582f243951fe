//! The bytes of all requests that are being received or worked on, and of the answers that wait for their clients: bounded together,
//! whatever each may have, so that a crowd of large ones is refused and does not take the machine's memory.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body as Boxed;

/// Sixteen of the largest messages. What a kubelet sends has some kilobytes, what it is answered a megabyte.
const MOST: usize = 256 << 20;

/// What all requests and answers have.
#[derive(Debug, Default)]
pub struct InFlight(AtomicUsize);

/// What one request has. Clones are of the same request; when the last is gone, its bytes count no more.
#[derive(Debug, Clone)]
pub struct Counted(Arc<One>);

#[derive(Debug)]
struct One {
    all: Arc<InFlight>,
    own: AtomicUsize,
}

impl InFlight {
    /// A request that has sent nothing yet.
    pub fn begin(self: &Arc<Self>) -> Counted {
        Counted(Arc::new(One { all: Arc::clone(self), own: AtomicUsize::new(0) }))
    }

    /// An answer's body: what it has counts with its request until it is sent, or until nobody wants it. `keep` goes then too.
    pub fn until_sent<T: Send + Unpin + 'static>(body: Boxed, counted: Counted, keep: T) -> Boxed {
        Boxed::new(Answering { body, counted, frame: 0, _keep: keep })
    }
}

impl Counted {
    /// The request's body.
    pub fn count<B>(&self, body: B) -> Counting<B> {
        Counting { body, counted: self.clone() }
    }

    fn add(&self, bytes: usize) -> Result<(), Status> {
        let before = self.0.all.0.fetch_add(bytes, Ordering::Relaxed);
        self.0.own.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes <= MOST {
            return Ok(());
        }
        let own = self.0.own.load(Ordering::Relaxed);
        Err(Status::resource_exhausted(format!(
            "receive or answer a request that has {own} bytes so far: all that are being worked on have more than {MOST} bytes together \
             (try again when fewer are)"
        )))
    }

    fn sub(&self, bytes: usize) {
        self.0.own.fetch_sub(bytes, Ordering::Relaxed);
        self.0.all.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.all.0.fetch_sub(*self.own.get_mut(), Ordering::Relaxed);
    }
}

/// A body whose bytes count.
pub struct Counting<B> {
    body: B,
    counted: Counted,
}

impl<B> Body for Counting<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(task).map(|frame| {
            let frame = frame?.map_err(|error| Status::from_error(error.into()));
            Some(frame.and_then(|frame| {
                self.counted.add(frame.data_ref().map_or(0, Bytes::len))?;
                Ok(frame)
            }))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

struct Answering<T> {
    body: Boxed,
    counted: Counted,
    /// The bytes of the frame that was given out last: who asks for the next has sent it.
    frame: usize,
    _keep: T,
}

impl<T: Unpin> Body for Answering<T> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let sent = std::mem::take(&mut self.frame);
        self.counted.sub(sent);
        Pin::new(&mut self.body).poll_frame(task).map(|frame| {
            let frame = frame?;
            Some(frame.and_then(|frame| {
                self.frame = frame.data_ref().map_or(0, Bytes::len);
                self.counted.add(self.frame)?;
                Ok(frame)
            }))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Full};

    #[tokio::test]
    async fn a_crowd_of_large_requests_is_refused_and_one_that_ends_makes_room() {
        let all = Arc::new(InFlight::default());
        let large = Bytes::from(vec![0; 16 << 20]);
        let receive = |counted: Counted| counted.count(Full::new(large.clone())).collect();
        let mut held = Vec::new();
        for _ in 0..MOST >> 24 {
            let counted = all.begin();
            receive(counted.clone()).await.expect("room");
            held.push(counted);
        }
        let refused = receive(all.begin()).await.expect_err("no room");
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        // What was refused counts no more either.
        assert_eq!(all.0.load(Ordering::Relaxed), MOST);
        held.pop();
        receive(all.begin()).await.expect("room again");
        drop(held);
        assert_eq!(all.0.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn answers_that_nobody_takes_count_until_they_are_given_up() {
        let all = Arc::new(InFlight::default());
        let large = Bytes::from(vec![0; 16 << 20]);
        let answer = || InFlight::until_sent(Boxed::new(Full::new(large.clone())), all.begin(), ());
        let mut held = Vec::new();
        for _ in 0..MOST >> 24 {
            let mut body = answer();
            body.frame().await.expect("a frame").expect("room");
            held.push(body);
        }
        let refused = answer().frame().await.expect("a frame").expect_err("no room");
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        // One is sent, and its stream is not over yet.
        assert!(held[0].frame().await.is_none());
        answer().frame().await.expect("a frame").expect("room again");
        drop(held);
        assert_eq!(all.0.load(Ordering::Relaxed), 0);
    }
}
