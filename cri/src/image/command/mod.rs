//! `rt-cri images …`: the store by itself (`--root`) or through a running server (`--address`). It prints results, not errors.

mod bundle;
mod local;
mod remote;
mod watch;

use crate::config::{self, Config};
use crate::error::{Context, Error, Result};
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};

/// Where a server listens unless it is told otherwise.
const SOCKET: &str = "/run/rt/cri.sock";

/// Pull, list, remove, unpack images.
#[derive(Debug, Args)]
pub struct Options {
    /// The server's directory, whose images are used without the server.
    #[arg(long, value_name = "DIR", conflicts_with = "address", global = true)]
    root: Option<PathBuf>,
    /// The running server's address; without --root, the usual one if it is there.
    #[arg(long, value_name = "unix://PATH", global = true)]
    address: Option<String>,
    /// The server's configuration; without it, /etc/rt/cri.toml if that exists.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Bring images from their registries; print their ids.
    Pull {
        /// What registries call it: docker.io/library/busybox:1.36
        #[arg(required = true, value_name = "REFERENCE")]
        references: Vec<String>,
        /// Credentials for the registry.
        #[arg(long, value_name = "USER:PASSWORD")]
        creds: Option<String>,
    },
    /// Show what is there.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove images with all their names.
    Remove {
        /// A name, an id, or its beginning.
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
    /// Read images from a docker-archive, an OCI archive or an OCI layout; print their ids.
    Load {
        /// A tar file, or a layout's directory.
        file: PathBuf,
    },
    /// Write images to an OCI archive; their compressed layers must have been kept (keep_blobs).
    Save {
        /// A name, an id, or its beginning.
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
        /// The archive.
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
    /// Look for what is not as it should be; say so by exit code 1.
    Fsck {
        /// Forget what is broken and what nothing has.
        #[arg(long)]
        repair: bool,
    },
    /// Make a bundle of an image that `rt run` runs; its layers stay in the store.
    Unpack {
        /// A name, an id, or its beginning.
        image: String,
        /// A directory that does not exist yet.
        bundle: PathBuf,
    },
}

/// Does it.
pub fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.what(|| "start threads")?;
    let config = match &options.config {
        Some(path) => Config::read(path)?,
        None if Path::new(config::FILE).exists() => Config::read(Path::new(config::FILE))?,
        None => Config::default(),
    };
    match place(options, &config) {
        Place::Server(address) => runtime.block_on(remote::run(&address, &options.command)),
        Place::Store(root) => {
            let root = root.join("images");
            runtime.block_on(local::run(&root, &config.registry, &options.command))
        }
    }
}

enum Place {
    Server(String),
    Store(PathBuf),
}

fn place(options: &Options, config: &Config) -> Place {
    match (&options.address, &options.root) {
        (Some(address), _) => Place::Server(address.clone()),
        (None, Some(root)) => Place::Store(root.clone()),
        (None, None) if Path::new(SOCKET).exists() => Place::Server(format!("unix://{SOCKET}")),
        (None, None) => Place::Store(config.root.clone()),
    }
}

/// What fsck found.
struct Found {
    flaws: Vec<String>,
    broken: usize,
    kept: Vec<String>,
}

impl Found {
    /// Prints it; what is broken and not repaired is an error.
    fn tell(&self, repair: bool) -> Result<()> {
        for line in self.flaws.iter().chain(&self.kept) {
            println!("{line}");
        }
        match (repair, self.broken, self.kept.len()) {
            (false, 0, _) => Ok(()),
            (false, count, _) => {
                Err(Error::invalid(format!("check image store: {count} flaws")).cure("--repair"))
            }
            (true, _, 0) => {
                println!("repaired; images that were forgotten can be pulled again");
                Ok(())
            }
            (true, _, count) => Err(Error::invalid(format!("repair image store: {count} images are in use"))),
        }
    }
}

/// A line of the list.
struct Line {
    id: String,
    size: u64,
    names: Vec<String>,
}

/// Prints the list: a line for each name.
fn print(lines: &[Line]) {
    println!("{:<72} {:<12} {:>9}", "IMAGE", "ID", "SIZE");
    for line in lines {
        let digits = line.id.trim_start_matches("sha256:").get(..12).unwrap_or(&line.id);
        for name in &line.names {
            println!("{name:<72} {digits:<12} {:>9}", readable(line.size));
        }
    }
}

/// `12.3 MB`
fn readable(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// `USER:PASSWORD`
fn user_and_password(text: &str) -> Result<(String, String)> {
    let (user, password) =
        text.split_once(':').ok_or_else(|| Error::invalid("read --creds: it has no colon"))?;
    Ok((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        for (bytes, text) in
            [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (12_345_678, "12.3 MB"), (5 << 40, "5.5 TB")]
        {
            assert_eq!(readable(bytes), text);
        }
    }
}
