//! The one door for files that a request or a configuration names: whatever lies at the path, reading it ends soon and costs no more
//! than was said. It blocks on the disk only.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::{Context, Error, Kind, Result};

/// Of a profile, a specification or a list that somebody wrote: more than any has.
pub const MOST: u64 = 4 << 20;

/// Reads a regular file of at most `most` bytes. A FIFO would never end, a device neither.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    bounded(path, most).what(|| format!("read {}", path.display()))
}

/// The same of a file that a configuration names: one that is not there is a mistake in it, and says nothing of what is asked for.
pub fn named(path: &Path, most: u64) -> Result<Vec<u8>> {
    read(path, most).map_err(|error| match error.kind() {
        Kind::NotFound => Error::invalid(error.to_string()),
        _ => error,
    })
}

/// The same, of UTF-8.
pub fn text(path: &Path, most: u64) -> Result<String> {
    let text = String::from_utf8(read(path, most)?);
    text.map_err(|_| Error::invalid("it is not UTF-8").during(format!("read {}", path.display())))
}

fn bounded(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // Its size is what is read: /proc has files of none, and a file can grow.
    open(path)?.take(most + 1).read_to_end(&mut bytes).what(|| "read it")?;
    if bytes.len() as u64 > most {
        return Err(Error::invalid(format!("it has more than {most} bytes")));
    }
    Ok(bytes)
}

fn open(path: &Path) -> Result<File> {
    // Looked at before it is opened to be read: opening a device can already do something.
    let place = match OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::not_found("it does not exist"));
        }
        place => place.what(|| "open it")?,
    };
    if !place.metadata().what(|| "look at it")?.is_file() {
        return Err(Error::invalid("it is no regular file"));
    }
    // /proc/kmsg says that it is one, and makes who reads it wait.
    let by_handle = format!("/proc/self/fd/{}", place.as_raw_fd());
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(by_handle).what(|| "open it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_of_some_size_is_read() {
        let dir = std::env::temp_dir().join(format!("rt-document-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (fifo, file, link) = (dir.join("fifo"), dir.join("file"), dir.join("link"));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::write(&file, "12345").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(text(&link, 5).unwrap(), "12345");
        let flags = rustix::fs::fcntl_getfl(open(&file).unwrap()).unwrap();
        assert!(flags.contains(rustix::fs::OFlags::NONBLOCK), "{flags:?}");
        for (path, most, word) in [
            (fifo.as_path(), 5, "no regular file"),
            (Path::new("/dev/zero"), 5, "no regular file"),
            (dir.as_path(), 5, "no regular file"),
            (file.as_path(), 4, "more than 4 bytes"),
        ] {
            let error = read(path, most).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid, "{error}");
            assert!(error.to_string().contains(word), "{error}");
        }
        assert_eq!(read(&dir.join("none"), 5).unwrap_err().kind(), Kind::NotFound);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
