//! Values of the pod as the protocols write them. Pure.

use std::time::{Duration, SystemTime};

use prost::Message;
use prost_types::{Any, Timestamp};

use crate::api::containerd::types::Mount;
use crate::error::{Error, Result};
use crate::pod::{Fifos, RootfsMount, Stdio};

/// A time as protobuf has it.
pub(crate) fn timestamp(at: SystemTime) -> Timestamp {
    Timestamp::from(at)
}

/// A time in nanoseconds since the epoch, as the pod service has it.
pub(super) fn nanos(at: SystemTime) -> i64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// A duration in milliseconds; what is negative is none.
pub(super) fn millis(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// A message that says its own type. The url is the bare name, which is how containerd registers its types.
pub(crate) fn any(type_url: &str, message: &impl Message) -> Any {
    Any { type_url: type_url.to_owned(), value: message.encode_to_vec() }
}

/// The mounts of a root file system out of a create request.
pub(super) fn rootfs_mounts(mounts: Vec<Mount>) -> Result<Vec<RootfsMount>> {
    let convert = |mount: Mount| {
        if !mount.target.is_empty() && mount.target != "/" {
            let text = format!(
                "mount {} at {} in the root file system: only whole ones",
                mount.source, mount.target
            );
            return Err(Error::unsupported(text));
        }
        Ok(RootfsMount { kind: mount.r#type, source: mount.source, options: mount.options })
    };
    mounts.into_iter().map(convert).collect()
}

/// The same mounts, for the event.
pub(crate) fn mounts(mounts: Vec<RootfsMount>) -> Vec<Mount> {
    let convert = |mount: RootfsMount| Mount {
        r#type: mount.kind,
        source: mount.source,
        target: String::new(),
        options: mount.options,
    };
    mounts.into_iter().map(convert).collect()
}

/// A process's streams as containerd names them; of others there is nothing to name.
pub(crate) fn fifos(stdio: &Stdio) -> Fifos {
    match stdio {
        Stdio::Fifos(fifos) => fifos.clone(),
        Stdio::Null => Fifos::default(),
        Stdio::Log(log) => Fifos { terminal: log.terminal.is_some(), ..Fifos::default() },
        Stdio::Streams(streams) => Fifos { terminal: streams.terminal.is_some(), ..Fifos::default() },
    }
}
