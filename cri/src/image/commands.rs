//! The service behind `rt-cri images --address`: pulls with progress, archives, proof of the store. CRI's own calls are in `service`.

use super::Digest;
use super::archive;
use super::blocking::blocking;
use super::progress::{Event, Progress};
use super::registry::Credentials;
use super::service::{self, InUse};
use super::store::Store;
use super::unpack::Cancel;
use crate::api::images as api;
use crate::error::Error;
use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Messages that wait for a slow client; what is more is not told, since each has the whole number.
const WAITING: usize = 64;

/// The service.
pub struct CommandRpc {
    store: Arc<Store>,
    in_use: InUse,
}

impl CommandRpc {
    /// Over `store`; images in use are not repaired.
    pub fn new(store: Arc<Store>, in_use: InUse) -> Self {
        Self { store, in_use }
    }
}

type Told = Result<api::PullProgress, Status>;

#[tonic::async_trait]
impl api::images_server::Images for CommandRpc {
    type PullStream = Pin<Box<dyn Stream<Item = Told> + Send>>;

    async fn pull(&self, request: Request<api::PullRequest>) -> Result<Response<Self::PullStream>, Status> {
        let api::PullRequest { image, username, password } = request.into_inner();
        let credentials =
            (!username.is_empty()).then(|| Credentials { username, password, ..Default::default() });
        let (told, messages) = mpsc::channel(WAITING);
        let store = self.store.clone();
        tokio::spawn(async move {
            let watcher = Arc::new(Telling { told: told.clone(), layers: Mutex::default() });
            let last = tokio::select! {
                pulled = service::pull(&store, &image, credentials, watcher) => pulled,
                () = told.closed() => return,
            };
            let last = last.map(|image| api::PullProgress { id: image.id.clone(), ..Default::default() });
            // Nobody may be left to hear it.
            let _ = told.send(last.map_err(Status::from)).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }

    async fn load(&self, request: Request<api::LoadRequest>) -> Result<Response<api::LoadResponse>, Status> {
        let path = absolute(request.into_inner().path)?;
        let store = self.store.clone();
        let cancel = Cancel::default();
        let _waiting = cancel.on_drop();
        let loaded = blocking(move || archive::load(&store, &path, &cancel)).await?;
        let name = |image: &Arc<super::Image>| image.repo_tags.first().unwrap_or(&image.id).clone();
        Ok(Response::new(api::LoadResponse { images: loaded.iter().map(name).collect() }))
    }

    async fn save(&self, request: Request<api::SaveRequest>) -> Result<Response<api::SaveResponse>, Status> {
        let api::SaveRequest { images, path } = request.into_inner();
        let path = absolute(path)?;
        let store = self.store.clone();
        blocking(move || archive::save(&store, &images, &path)).await?;
        Ok(Response::new(api::SaveResponse {}))
    }

    async fn check(
        &self,
        request: Request<api::CheckRequest>,
    ) -> Result<Response<api::CheckResponse>, Status> {
        let repair = request.into_inner().repair;
        let (store, in_use) = (self.store.clone(), self.in_use.clone());
        let cancel = Cancel::default();
        let _waiting = cancel.on_drop();
        let answer = blocking(move || {
            let flaws = store.check(&cancel)?;
            let broken = flaws.iter().filter(|flaw| flaw.breaks()).count();
            let kept = if repair { store.repair(&flaws, &in_use())? } else { Vec::new() };
            Ok(api::CheckResponse {
                flaws: flaws.iter().map(ToString::to_string).collect(),
                broken: u32::try_from(broken).unwrap_or(u32::MAX),
                kept,
            })
        });
        Ok(Response::new(answer.await?))
    }
}

fn absolute(path: String) -> Result<PathBuf, Error> {
    let path = PathBuf::from(path);
    match path.is_absolute() {
        true => Ok(path),
        false => Err(Error::invalid(format!("use {}: the server needs an absolute path", path.display()))),
    }
}

/// Tells a client of each layer, in whole numbers.
struct Telling {
    told: mpsc::Sender<Told>,
    layers: Mutex<HashMap<Digest, api::PullProgress>>,
}

impl Progress for Telling {
    fn layer(&self, digest: &Digest, event: Event) {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let layer = layers
            .entry(digest.clone())
            .or_insert_with(|| api::PullProgress { layer: digest.to_string(), ..Default::default() });
        match event {
            Event::Waiting(size) => layer.size = size,
            Event::Received(bytes) => layer.received += bytes,
            Event::Done => layer.done = true,
        }
        let _ = self.told.try_send(Ok(layer.clone()));
    }
}
