//! The commands on a store by itself: nobody else may have it open.

use super::{Command, Line, bundle, print, user_and_password};
use crate::error::{Error, Result};
use crate::image::config::RegistryConfig;
use crate::image::store::{Credentials, Flaw, Store};
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
            for image in archive::load(&store, file)? {
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
        let pulled = store.pull_watched(reference, credentials.clone(), watcher).await;
        bars.finish();
        println!("{}", pulled?.id);
    }
    Ok(())
}

fn fsck(store: &Store, repair: bool) -> Result<()> {
    let flaws = store.check()?;
    for flaw in &flaws {
        println!("{flaw}");
    }
    let broken = flaws.iter().filter(|flaw| !matches!(flaw, Flaw::Unused(_))).count();
    if repair {
        store.repair(&flaws)?;
        println!("repaired; images that were forgotten can be pulled again");
        return Ok(());
    }
    match broken {
        0 => Ok(()),
        count => Err(Error::invalid(format!("check image store: {count} flaws")).cure("--repair")),
    }
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
