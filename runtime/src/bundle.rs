//! A bundle on disk: its config, read and parsed, with errors that say where. What it means is the plan's business.

use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use crate::error::{Context, Error, Result};
use crate::spec::Spec;

/// The largest config that is read. Engines write some 10 KiB; 10 000 mounts are 2 MiB.
const MAX_CONFIG: u64 = 256 << 20;

/// A bundle.
#[derive(Debug)]
pub struct Bundle {
    /// Absolute.
    pub path: PathBuf,
    /// Its config.
    pub spec: Spec,
}

impl Bundle {
    /// Reads `config.json` of the bundle, or the file that is given instead.
    pub fn load(path: &Path, config: Option<&Path>) -> Result<Self> {
        let path = std::path::absolute(path).what(|| format!("find bundle {}", path.display()))?;
        let file = config.map_or_else(|| path.join("config.json"), Path::to_owned);
        let text = read(&file).map_err(|error| bundle_first(&path, error))?;
        let spec = parse(&text, &file)?;
        Ok(Self { path, spec })
    }
}

/// Where the bundle itself is the trouble, that is what to tell.
fn bundle_first(path: &Path, error: Error) -> Error {
    match std::fs::metadata(path) {
        Err(cause) => {
            Error::os(cause.raw_os_error().unwrap_or(libc::EIO), format!("open bundle {}", path.display()))
                .cure("a bundle is a directory with a config.json; name it with --bundle")
        }
        Ok(found) if !found.is_dir() => Error::os(libc::ENOTDIR, format!("open bundle {}", path.display()))
            .cure("a bundle is a directory with a config.json; name it with --bundle"),
        Ok(_) => error,
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let what = || format!("read config {}", file.display());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened =
        rustix::fs::open(file, flags, Mode::empty()).what(what).map_err(|error| match error.errno() {
            Some(libc::ENOENT) => error.cure("`rt spec` writes one to start from"),
            _ => error,
        })?;
    let stat = rustix::fs::fstat(&opened).what(what)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::invalid(format!("{}: it is not a regular file", what())));
    }
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if size > MAX_CONFIG {
        return Err(Error::invalid(format!("{}: {size} bytes, the limit is {MAX_CONFIG}", what())));
    }
    // One byte more than there is: a read that leaves room has met the end of the file.
    let mut text = Vec::with_capacity(size as usize + 1);
    while text.len() < text.capacity() {
        let room = text.capacity() - text.len();
        let read = || rustix::io::read(&opened, rustix::buffer::spare_capacity(&mut text));
        if rustix::io::retry_on_intr(read).what(what)? < room {
            break;
        }
    }
    Ok(text)
}

fn parse(text: &[u8], file: &Path) -> Result<Spec> {
    serde_json::from_slice(text).map_err(|error| {
        let what = if error.is_data() { "understand" } else { "parse" };
        Error::invalid(format!("{what} config {}: {error}", file.display()))
    })
}
