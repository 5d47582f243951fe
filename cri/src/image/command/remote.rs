//! The commands through a running server, over CRI.

use super::{Command, Line, bundle, print, user_and_password};
use crate::api::image_service_client::ImageServiceClient;
use crate::api::{self, ImageSpec};
use crate::error::{Context, Error, Kind, Result};
use std::path::PathBuf;
use tonic::transport::{Channel, Endpoint, Uri};

/// Does it.
pub async fn run(address: &str, command: &Command) -> Result<()> {
    let mut client = connect(address).await?;
    match command {
        Command::Pull { references, creds } => pull(&mut client, references, creds.as_deref()).await,
        Command::List { json } => list(&mut client, *json).await,
        Command::Remove { images } => {
            for image in images {
                client
                    .remove_image(api::RemoveImageRequest { image: spec(image) })
                    .await
                    .map_err(|status| answered(&status))?;
            }
            Ok(())
        }
        Command::Load { .. } | Command::Save { .. } | Command::Fsck { .. } => {
            let error = Error::unsupported("ask the server for this: it needs the store by itself");
            Err(error.cure("stop the server, then use --root"))
        }
        Command::Unpack { image, bundle } => {
            let request = api::ImageStatusRequest { image: spec(image), verbose: true };
            let answer = client.image_status(request).await.map_err(|status| answered(&status))?.into_inner();
            bundle::write(bundle, &source(image, &answer)?)
        }
    }
}

async fn connect(address: &str) -> Result<ImageServiceClient<Channel>> {
    let path: PathBuf = address.strip_prefix("unix://").unwrap_or(address).into();
    let endpoint = Endpoint::from_static("http://localhost");
    let shown = path.display().to_string();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
    });
    let channel = endpoint.connect_with_connector(connector).await;
    let channel = channel.map_err(|error| {
        let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        Error::new(Kind::Unavailable, format!("connect to {shown}: {why}"))
            .cure("start the server, or use its store with --root")
    })?;
    Ok(ImageServiceClient::new(channel).max_decoding_message_size(16 << 20))
}

async fn pull(
    client: &mut ImageServiceClient<Channel>,
    references: &[String],
    creds: Option<&str>,
) -> Result<()> {
    let auth = creds.map(user_and_password).transpose()?;
    let auth = auth.map(|(username, password)| api::AuthConfig { username, password, ..Default::default() });
    for reference in references {
        let request =
            api::PullImageRequest { image: spec(reference), auth: auth.clone(), sandbox_config: None };
        let answer = client.pull_image(request).await.map_err(|status| answered(&status))?;
        println!("{}", answer.into_inner().image_ref);
    }
    Ok(())
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
