//! CRI's ImageService over the store. It holds no state but the store and what containers use.

use super::blocking::blocking;
use super::progress::{Logged, Progress, Unwatched};
use super::store::{Credentials, Store, Usage};
use super::{Image, Principal, UserSpec};
use crate::error::{Error, Result};
use crate::{api, bounds};
use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

/// Images in one message of the streamed list.
const BATCH: usize = 100;

/// Ids of the images that containers use.
pub type InUse = Arc<dyn Fn() -> HashSet<String> + Send + Sync>;

/// The service.
pub struct ImageRpc {
    store: Arc<Store>,
    in_use: InUse,
}

impl ImageRpc {
    /// Over `store`; `in_use` is asked when an image is removed.
    pub fn new(store: Arc<Store>, in_use: InUse) -> Self {
        Self { store, in_use }
    }

    fn fitting(&self, filter: Option<api::ImageFilter>) -> Vec<api::Image> {
        let mut images = self.listed(filter);
        bounds::fit("list images", &mut images, bounds::ANSWER);
        images
    }

    fn listed(&self, filter: Option<api::ImageFilter>) -> Vec<api::Image> {
        let wanted =
            filter.and_then(|filter| filter.image).map(|spec| spec.image).filter(|name| !name.is_empty());
        match wanted {
            Some(name) => self.store.find(&name).iter().map(|image| shown(image)).collect(),
            None => self.store.list().iter().map(|image| shown(image)).collect(),
        }
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl api::image_service_server::ImageService for ImageRpc {
    type StreamImagesStream = Answers<api::StreamImagesResponse>;

    async fn list_images(
        &self,
        request: Request<api::ListImagesRequest>,
    ) -> Result<Response<api::ListImagesResponse>, Status> {
        Ok(Response::new(api::ListImagesResponse { images: self.fitting(request.into_inner().filter) }))
    }

    async fn stream_images(
        &self,
        request: Request<api::StreamImagesRequest>,
    ) -> Result<Response<Self::StreamImagesStream>, Status> {
        let mut images = self.listed(request.into_inner().filter);
        for image in &mut images {
            bounds::fit("list images one by one", std::slice::from_mut(image), bounds::ANSWER);
        }
        let answers =
            bounds::pieces(images, BATCH).into_iter().map(|images| Ok(api::StreamImagesResponse { images }));
        Ok(Response::new(Box::pin(tokio_stream::iter(answers))))
    }

    async fn image_status(
        &self,
        request: Request<api::ImageStatusRequest>,
    ) -> Result<Response<api::ImageStatusResponse>, Status> {
        let request = request.into_inner();
        let name = named(request.image)?;
        let image = self.store.find(&name);
        let info = image.as_ref().filter(|_| request.verbose).map(|image| verbose(image)).unwrap_or_default();
        let mut image = image.as_deref().map(shown);
        bounds::fit("tell an image's status", image.as_mut_slice(), bounds::ANSWER);
        let info = bounds::info(info, image.as_ref().map_or(bounds::ANSWER, bounds::room_beside));
        Ok(Response::new(api::ImageStatusResponse { image, info }))
    }

    async fn pull_image(
        &self,
        request: Request<api::PullImageRequest>,
    ) -> Result<Response<api::PullImageResponse>, Status> {
        let request = request.into_inner();
        let name = named(request.image)?;
        let credentials = request.auth.and_then(credentials);
        let pulled = pull(&self.store, &name, credentials, Arc::new(Unwatched)).await?;
        Ok(Response::new(api::PullImageResponse { image_ref: pulled.id.clone() }))
    }

    async fn remove_image(
        &self,
        request: Request<api::RemoveImageRequest>,
    ) -> Result<Response<api::RemoveImageResponse>, Status> {
        let name = named(request.into_inner().image)?;
        let (store, in_use) = (self.store.clone(), (self.in_use)());
        blocking(move || store.remove(&name, &in_use)).await?;
        self.store.sweep_soon();
        Ok(Response::new(api::RemoveImageResponse {}))
    }

    async fn image_fs_info(
        &self,
        _: Request<api::ImageFsInfoRequest>,
    ) -> Result<Response<api::ImageFsInfoResponse>, Status> {
        let usage = filesystem(&self.store.fs_usage());
        // Writable layers lie on the same filesystem as images.
        let container_filesystems = vec![usage.clone()];
        Ok(Response::new(api::ImageFsInfoResponse { image_filesystems: vec![usage], container_filesystems }))
    }
}

/// A pull that is logged and counted.
pub async fn pull(
    store: &Arc<Store>,
    name: &str,
    credentials: Option<Credentials>,
    watcher: Arc<dyn Progress>,
) -> Result<Arc<Image>> {
    let started = std::time::Instant::now();
    let watcher = Arc::new(Logged::new(name, watcher));
    let pulled = store.pull_watched(name, credentials, watcher).await;
    crate::metrics::pull(pulled.is_ok(), started.elapsed());
    match &pulled {
        Ok(image) => {
            let milliseconds = started.elapsed().as_millis() as u64;
            tracing::info!(image = name, id = image.id, bytes = image.size, milliseconds, "image pulled");
        }
        Err(error) => tracing::debug!(image = name, %error, "image not pulled"),
    }
    pulled
}

fn named(spec: Option<api::ImageSpec>) -> Result<String> {
    let name = spec.map(|spec| spec.image).unwrap_or_default();
    if name.is_empty() { Err(Error::invalid("read request: it names no image")) } else { Ok(name) }
}

fn credentials(auth: api::AuthConfig) -> Option<Credentials> {
    let credentials = Credentials {
        username: auth.username,
        password: auth.password,
        auth: auth.auth,
        server_address: auth.server_address,
        identity_token: auth.identity_token,
        registry_token: auth.registry_token,
    };
    // kubelet sends an empty one for "none".
    let secrets =
        [&credentials.username, &credentials.auth, &credentials.identity_token, &credentials.registry_token];
    secrets.iter().any(|secret| !secret.is_empty()).then_some(credentials)
}

/// An image in CRI's words.
pub fn shown(image: &Image) -> api::Image {
    let user = image.config.config().as_ref().and_then(|config| config.user().clone()).unwrap_or_default();
    let (uid, username) = user_of(&user);
    let name = image.repo_tags.first().or(image.repo_digests.first()).cloned();
    let annotations = HashMap::new();
    api::Image {
        id: image.id.clone(),
        repo_tags: image.repo_tags.clone(),
        repo_digests: image.repo_digests.clone(),
        size: image.size,
        uid,
        username,
        spec: Some(api::ImageSpec {
            image: name.unwrap_or_else(|| image.id.clone()),
            annotations,
            ..Default::default()
        }),
        pinned: image.pinned,
    }
}

/// The user of the image's config, by number or by name; no user is root, who has neither here. What can't run is shown as it is
/// written, so that a client neither takes it for a number nor for root.
fn user_of(user: &str) -> (Option<api::Int64Value>, String) {
    match UserSpec::parse(user).map(|spec| spec.user) {
        Ok(None) => (None, String::new()),
        Ok(Some(Principal::Id(uid))) => (Some(api::Int64Value { value: uid.into() }), String::new()),
        Ok(Some(Principal::Name(name))) => (None, name.as_str().to_owned()),
        Err(_) => (None, user.to_owned()),
    }
}

/// For `crictl inspecti` and for our own command line.
fn verbose(image: &Image) -> HashMap<String, String> {
    let json = |value: serde_json::Value| value.to_string();
    let facts = serde_json::json!({
        "chain": image.layers,
        "imageSpec": serde_json::from_str::<serde_json::Value>(&image.config_json).unwrap_or_default(),
    });
    HashMap::from([("info".to_owned(), json(facts))])
}

fn filesystem(usage: &Usage) -> api::FilesystemUsage {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    api::FilesystemUsage {
        timestamp: i64::try_from(now.as_nanos()).unwrap_or(i64::MAX),
        fs_id: Some(api::FilesystemIdentifier {
            mountpoint: usage.mountpoint.to_string_lossy().into_owned(),
        }),
        used_bytes: Some(api::UInt64Value { value: usage.bytes }),
        inodes_used: Some(api::UInt64Value { value: usage.inodes }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_a_number_or_a_name() {
        for (text, uid, name) in [
            ("", None, ""),
            ("1002", Some(1002), ""),
            ("www-data:1004", None, "www-data"),
            ("1003:1004", Some(1003), ""),
            ("01000", Some(1000), ""),
            (":1004", None, ""),
            ("+1000", None, "+1000"),
            ("-1", None, "-1"),
            ("4294967295", None, "4294967295"),
            ("4294967296:7", None, "4294967296:7"),
            ("1000:+7", None, "1000:+7"),
            ("１０００", None, "１０００"),
        ] {
            let (found, found_name) = user_of(text);
            assert_eq!((found.map(|value| value.value), found_name.as_str()), (uid, name), "{text}");
        }
    }

    #[test]
    fn empty_credentials_are_none() {
        assert!(credentials(api::AuthConfig::default()).is_none());
        let some = api::AuthConfig { username: "u".into(), ..Default::default() };
        assert!(credentials(some).is_some());
    }
}
