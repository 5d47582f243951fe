//! How the process's descriptors are shared out, so that nobody outside can take those that CRI's own work needs: a quarter at most for
//! streaming sessions, one for forwarded connections, one for the files of cgroups. What is left is for CRI's socket, shims and images.

use rustix::process::{Resource, getrlimit};

/// A quarter of what the process may have.
pub fn share() -> usize {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(most / 4).unwrap_or(usize::MAX).max(16)
}
