//! The commands through a running server, over CRI and what it lacks (`images.proto`).

use super::watch::Bars;
use super::{Command, Found, Line, bundle, print, user_and_password};
use crate::api::image_service_client::ImageServiceClient;
use crate::api::images::images_client::ImagesClient;
use crate::api::{self, ImageSpec, images};
use crate::error::{Context, Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::progress::{Event, Progress};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tonic::transport::{Channel, Endpoint, Uri};

/// Does it.
pub async fn run(address: &str, command: &Command) -> Result<()> {
    let channel = connect(address).await?;
    let mut client = ImageServiceClient::new(channel.clone()).max_decoding_message_size(16 << 20);
    let mut images = ImagesClient::new(channel).max_decoding_message_size(16 << 20);
    match command {
        Command::Pull { references, creds } => pull(&mut images, references, creds.as_deref()).await,
        Command::List { json } => list(&mut client, *json).await,
        Command::Remove { images } => {
            for image in images {
                let request = api::RemoveImageRequest { image: spec(image) };
                client.remove_image(request).await.map_err(|status| answered(&status))?;
            }
            Ok(())
        }
        Command::Load { file } => {
            let request = images::LoadRequest { path: absolute(file)? };
            let answer = images.load(request).await.map_err(|status| answered(&status))?.into_inner();
            answer.images.iter().for_each(|name| println!("{name}"));
            Ok(())
        }
        Command::Save { images: names, output } => {
            let request = images::SaveRequest { images: names.clone(), path: absolute(output)? };
            images.save(request).await.map(drop).map_err(|status| answered(&status))
        }
        Command::Fsck { repair } => {
            let request = images::CheckRequest { repair: *repair };
            let answer = images.check(request).await.map_err(|status| answered(&status))?.into_inner();
            Found { flaws: answer.flaws, broken: answer.broken as usize, kept: answer.kept }.tell(*repair)
        }
        Command::Unpack { image, bundle } => {
            let request = api::ImageStatusRequest { image: spec(image), verbose: true };
            let answer = client.image_status(request).await.map_err(|status| answered(&status))?.into_inner();
            bundle::write(bundle, &source(image, &answer)?)
        }
    }
}

/// The server's working directory is another.
fn absolute(path: &Path) -> Result<String> {
    let whole = std::path::absolute(path).what(|| format!("look at {}", path.display()))?;
    let text = whole.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::invalid(format!("use {}: it is not UTF-8", path.display())))
}

async fn connect(address: &str) -> Result<Channel> {
    let path: PathBuf = address.strip_prefix("unix://").unwrap_or(address).into();
    let endpoint = Endpoint::from_static("http://localhost");
    let shown = path.display().to_string();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
    });
    let channel = endpoint.connect_with_connector(connector).await;
    channel.map_err(|error| {
        let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        Error::new(Kind::Unavailable, format!("connect to {shown}: {why}"))
            .cure("start the server, or use its store with --root")
    })
}

async fn pull(client: &mut ImagesClient<Channel>, references: &[String], creds: Option<&str>) -> Result<()> {
    let (username, password) = creds.map(user_and_password).transpose()?.unwrap_or_default();
    for reference in references {
        let request = images::PullRequest {
            image: reference.clone(),
            username: username.clone(),
            password: password.clone(),
        };
        let bars = Bars::new();
        let pulled = watched(client, request, &bars).await;
        bars.finish();
        println!("{}", pulled?);
    }
    Ok(())
}

/// Draws what the server tells until the image's id comes.
async fn watched(
    client: &mut ImagesClient<Channel>,
    request: images::PullRequest,
    bars: &Bars,
) -> Result<String> {
    let mut told = client.pull(request).await.map_err(|status| answered(&status))?.into_inner();
    let mut before: HashMap<String, u64> = HashMap::new();
    while let Some(now) = told.message().await.map_err(|status| answered(&status))? {
        if !now.id.is_empty() {
            return Ok(now.id);
        }
        let digest = Digest::parse(&now.layer)?;
        let received = before.entry(now.layer).or_insert_with(|| {
            bars.layer(&digest, Event::Waiting(now.size));
            0
        });
        bars.layer(&digest, Event::Received(now.received.saturating_sub(*received)));
        *received = now.received;
        if now.done {
            bars.layer(&digest, Event::Done);
        }
    }
    Err(Error::new(Kind::Unavailable, "ask server: it hung up before the image was there"))
}

async fn list(client: &mut ImageServiceClient<Channel>, json: bool) -> Result<()> {
    let answer = client
        .list_images(api::ListImagesRequest { filter: None })
        .await
        .map_err(|status| answered(&status))?;
    let images = answer.into_inner().images;
    if json {
        let each = |image: &api::Image| {
            serde_json::json!({"id": image.id, "repoTags": image.repo_tags, "repoDigests": image.repo_digests,
                "size": image.size, "pinned": image.pinned})
        };
        println!("{}", serde_json::Value::from(images.iter().map(each).collect::<Vec<_>>()));
        return Ok(());
    }
    let line = |image: api::Image| {
        let names = if image.repo_tags.is_empty() { image.repo_digests } else { image.repo_tags };
        Line { id: image.id, size: image.size, names }
    };
    print(&images.into_iter().map(line).collect::<Vec<_>>());
    Ok(())
}

/// What a bundle needs, from the verbose status of a server on this machine.
fn source(image: &str, answer: &api::ImageStatusResponse) -> Result<bundle::Source> {
    if answer.image.is_none() {
        return Err(Error::not_found(format!("find image {image}")).cure("pull it first"));
    }
    let text = answer.info.get("info").map(String::as_str).unwrap_or_default();
    let what = || format!("read server's status of image {image}");
    serde_json::from_str(text).what(what)
}

fn spec(image: &str) -> Option<ImageSpec> {
    Some(ImageSpec { image: image.to_owned(), ..Default::default() })
}

/// The server's error is whole already.
fn answered(status: &tonic::Status) -> Error {
    Error::internal(format!("ask server: {}", status.message()))
}
