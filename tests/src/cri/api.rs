//! CRI spoken directly, for what crictl can't say: broken messages, clients that go away, many calls at once.
//!
//! It checks nothing; answers are for the tests to judge.

use prost::Message;
use prost::bytes::{Buf, BufMut, Bytes};
use std::future::Future;
use std::time::Duration;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// CRI's messages and clients.
#[allow(missing_docs, clippy::all, rust_2018_idioms, rustdoc::all, deprecated)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}

use v1::image_service_client::ImageServiceClient;
use v1::runtime_service_client::RuntimeServiceClient;

/// More than any answer has.
const MOST: usize = 64 << 20;

/// A connection, and the thread-bound runtime that it works on: the socket is in the test's own `/run`.
pub struct Client {
    runtime: tokio::runtime::Runtime,
    channel: Channel,
}

/// A call that was refused: the code, and what was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// gRPC's.
    pub code: Code,
    /// The server's words.
    pub message: String,
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self { code: status.code(), message: status.message().to_owned() }
    }
}

impl Client {
    /// Connects with the first call, and anew when the server has been away.
    pub(super) fn new(path: &'static str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime on this thread");
        let _inside = runtime.enter();
        let connect = tower::service_fn(move |_| async move {
            let stream = tokio::net::UnixStream::connect(path).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        });
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = endpoint.connect_with_connector_lazy(connect);
        drop(_inside);
        Self { runtime, channel }
    }

    /// Runs calls to their end.
    pub fn wait<T>(&self, calls: impl Future<Output = T>) -> T {
        self.runtime.block_on(calls)
    }

    /// Runs calls for so long, and then goes away.
    pub fn abandon<T>(&self, after: Duration, calls: impl Future<Output = T>) -> Option<T> {
        self.runtime.block_on(async { tokio::time::timeout(after, calls).await.ok() })
    }

    /// RuntimeService.
    pub fn cri(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone()).max_decoding_message_size(MOST)
    }

    /// ImageService.
    pub fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(MOST)
    }

    /// Calls any method (`RuntimeService/Version`) with any bytes; its answer, or of a stream the first.
    pub fn raw(&self, method: &str, bytes: impl Into<Bytes>) -> Result<Bytes, Refused> {
        let path = format!("/runtime.v1.{method}").parse().expect("a method's path");
        let request = Request::new(tokio_stream::once(bytes.into()));
        self.wait(async {
            let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(MOST);
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let answers = grpc.streaming(request, path, Plain).await?;
            Ok(answers.into_inner().message().await?.unwrap_or_default())
        })
        .map_err(|status: Status| Refused::from(status))
    }

    /// Calls a method with a message.
    pub fn ask<A: Message + Default>(&self, method: &str, message: &impl Message) -> Result<A, Refused> {
        let answer = self.raw(method, message.encode_to_vec())?;
        Ok(A::decode(answer).expect("an answer of the method's type"))
    }
}

/// Bytes as they are.
#[derive(Debug, Clone, Copy)]
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
