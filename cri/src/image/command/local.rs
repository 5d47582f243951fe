//! The commands on a store by itself: nobody else may have it open.

use super::{Command, Found, Line, bundle, print, user_and_password};
use crate::error::{Error, Kind, Result};
use crate::image::config::RegistryConfig;
use crate::image::store::{Credentials, Store};
use crate::image::unpack::Cancel;
use crate::image::{Image, archive, progress};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

/// Does it.
pub async fn run(root: &Path, registry: &RegistryConfig, command: &Command) -> Result<()> {
    let store = Store::open(root, registry)?;
    match command {
        Command::Pull { references, creds } => pull(&store, references, creds.as_deref()).await,
        Command::List { json } => list(&store, *json),
        Command::Remove { images } => {
            images.iter().try_for_each(|image| store.remove(image, &HashSet::new()))?;
            store.disk.sweep()
        }
        Command::Load { file } => {
            for image in archive::load(&store, file, &Cancel::default())? {
                println!("{}", image.repo_tags.first().unwrap_or(&image.id));
            }
            Ok(())
        }
        Command::Save { images, output } => archive::save(&store, images, output),
        Command::Fsck { repair } => fsck(&store, *repair),
        Command::Unpack { image, bundle } => {
            let found = store.find(image).ok_or_else(|| Error::not_found(format!("find image {image}")));
            let found = found.map_err(|error| error.cure("pull it first"))?;
            bundle::write(bundle, &bundle::Source::of(&found))
        }
    }
}

async fn pull(store: &Arc<Store>, references: &[String], creds: Option<&str>) -> Result<()> {
    let credentials = creds.map(user_and_password).transpose()?;
    let credentials =
        credentials.map(|(username, password)| Credentials { username, password, ..Default::default() });
    for reference in references {
        let bars = super::watch::Bars::new();
        let watcher: Arc<dyn progress::Progress> = bars.clone();
        let pulled = tokio::select! {
            pulled = store.pull_watched(reference, credentials.clone(), watcher) => pulled,
            signal = stopped() => {
                store.flights.given_up().await;
                Err(Error::new(Kind::Unavailable, format!("pull image {reference}: stopped by {signal}")))
            }
        };
        bars.finish();
        println!("{}", pulled?.id);
    }
    Ok(())
}

/// Until somebody wants this program to end.
async fn stopped() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    // Where a handler can't be set, the signal ends the program by itself.
    let sent = async |kind: SignalKind| match signal(kind) {
        Ok(mut signals) => _ = signals.recv().await,
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = sent(SignalKind::interrupt()) => "SIGINT",
        () = sent(SignalKind::terminate()) => "SIGTERM",
    }
}

fn fsck(store: &Arc<Store>, repair: bool) -> Result<()> {
    // Who gives up ends this program.
    let flaws = store.check(&Cancel::default())?;
    let found = Found {
        flaws: flaws.iter().map(ToString::to_string).collect(),
        broken: flaws.iter().filter(|flaw| flaw.breaks()).count(),
        kept: if repair { store.repair(&flaws, &HashSet::new())? } else { Vec::new() },
    };
    found.tell(repair)
}

fn list(store: &Store, json: bool) -> Result<()> {
    let images = store.list();
    if json {
        let each = |image: &Arc<Image>| {
            serde_json::json!({"id": image.id, "repoTags": image.repo_tags, "repoDigests": image.repo_digests,
                "size": image.size, "pinned": image.pinned, "layers": image.layers})
        };
        println!("{}", serde_json::Value::from(images.iter().map(each).collect::<Vec<_>>()));
        return Ok(());
    }
    let line = |image: &Arc<Image>| {
        let names = if image.repo_tags.is_empty() { &image.repo_digests } else { &image.repo_tags };
        Line { id: image.id.clone(), size: image.size, names: names.clone() }
    };
    print(&images.iter().map(line).collect::<Vec<_>>());
    Ok(())
}
