//! Gives a cgroup to the root of a container's user namespace, so that it can make cgroups below. Its limits stay the host's:
//! their files are not given away.

use rustix::fs::{AtFlags, Gid, Uid};

use super::Cgroup;
use crate::error::{Context, Result};

impl Cgroup {
    /// SPEC: config-linux.md#cgroup-ownership. Only for a container with a cgroup namespace of its own and a writable mount of it.
    /// KERNEL(4.15): /sys/kernel/cgroup/delegate lists the files.
    pub fn delegate(&self, uid: u32) -> Result<()> {
        let what = |name: &str| format!("give {name} of cgroup {} to user {uid}", self.site.show());
        let own = |name: &str, flags| {
            rustix::fs::chownat(&self.dir, name, Some(Uid::from_raw(uid)), None::<Gid>, flags)
        };
        let files = std::fs::read_to_string("/sys/kernel/cgroup/delegate")
            .unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".to_owned());
        own("", AtFlags::EMPTY_PATH).what(|| what("the directory"))?;
        for file in files.lines().filter(|file| !file.is_empty() && !file.contains('/')) {
            match own(file, AtFlags::SYMLINK_NOFOLLOW) {
                // Of a controller that the cgroup does not have.
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                refused => refused.what(|| what(file))?,
            }
        }
        Ok(())
    }
}
