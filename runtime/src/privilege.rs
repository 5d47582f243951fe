//! What this process is to the host: its root, root of a user namespace (as under rootless podman), or an ordinary user.

use std::path::PathBuf;

/// Set for the second life, as root of a user namespace: the id of the user who called.
pub const MARK: &str = "_RT_ROOTLESS";

/// The host's user namespace. KERNEL: USER_NS_INIT_INO of include/uapi/linux/nsfs.h (6.18), the same since 3.8.
const HOSTS: u64 = 0xEFFF_FFFD;

/// Whether this is another user namespace than the host's.
pub fn in_user_namespace() -> bool {
    rustix::fs::stat("/proc/self/ns/user").is_ok_and(|namespace| namespace.st_ino != HOSTS)
}

/// Whether this process lacks the rights of the host's root.
pub fn is_rootless() -> bool {
    !rustix::process::geteuid().is_root() || in_user_namespace()
}

/// Where a user without the rights of the host's root keeps what lives as long as his session. SPEC: XDG base directories: absolute, or ignored
pub fn runtime_dir() -> Option<PathBuf> {
    std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute())
}

/// The user who called, as he himself knows his id.
pub fn caller() -> u32 {
    reborn().unwrap_or_else(|| rustix::process::geteuid().as_raw())
}

/// In the second life: the id of the user who called.
pub fn reborn() -> Option<u32> {
    std::env::var(MARK).ok()?.parse().ok()
}
