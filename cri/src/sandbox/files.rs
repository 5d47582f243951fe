//! A pod's files on the host: resolv.conf, hosts, hostname and the directory of its /dev/shm. Containers get them by bind mounts, and can
//! write into them: so all of them are on one tmpfs of the pod's own, which ends at the size that /dev/shm has. What a container makes of
//! them costs its own memory (the kernel accounts it there) and never the host's /run.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::spec;
use crate::api;
use crate::document;
use crate::error::{Context, Error, Kind, Result};
use crate::node::{Node, Sandbox};
use crate::paths;

/// Where a pod's files are.
#[derive(Debug, Clone)]
pub struct Files {
    /// `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// `/etc/hostname`.
    pub hostname: PathBuf,
    /// `/etc/hosts`, for clients that mount none: a kubelet mounts its own.
    pub hosts: PathBuf,
    /// `/dev/shm`; none: the host's.
    pub shm: Option<PathBuf>,
}

/// What /dev/shm has with other engines too. The three files have some kilobytes of it.
const BYTES: usize = 64 << 20;
/// Of a pod that has the host's /dev/shm; more where the host's own /etc/hosts has more.
const BYTES_OF_FILES: usize = 1 << 20;
/// With a page of memory each, these are as much again at most. Programs have some hundred files in /dev/shm.
const FILES: usize = 64 << 10;
const FEW_FILES: usize = 16;

impl Files {
    /// Of a sandbox.
    pub fn of(sandbox: &Sandbox) -> Self {
        let (on_host_ipc, own) = (sandbox.is_on_host_ipc(), paths::pod_files(sandbox.dir()));
        // Pods of an earlier version have them in their directory.
        let dir = if own.exists() { own.as_path() } else { sandbox.dir() };
        let shm = (!on_host_ipc).then(|| dir.join("shm"));
        Self {
            resolv_conf: dir.join("resolv.conf"),
            hostname: dir.join("hostname"),
            hosts: dir.join("hosts"),
            shm,
        }
    }
}

/// Makes them. What reads and writes files is done away from the threads that answer; the mount is not, so that whoever undoes this after
/// its time finds it made or not at all.
pub async fn create(node: &Arc<Node>, sandbox: &Arc<Sandbox>) -> Result<()> {
    let place = paths::pod_files(sandbox.dir());
    paths::own_dir(&place)?;
    let (bytes, files) = match sandbox.is_on_host_ipc() {
        false => (BYTES, FILES),
        true => {
            let long = blocking(node, sandbox, hosts).await?.len();
            (BYTES_OF_FILES + 2 * long, FEW_FILES)
        }
    };
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let options = format!("mode=0700,size={bytes},nr_inodes={files}");
    mount(Some("shm"), &place, Some("tmpfs"), flags, Some(options.as_str()))
        .what(|| format!("mount tmpfs at {}", place.display()))?;
    blocking(node, sandbox, fill).await
}

/// Writes what depends on the pod's network: resolv.conf and hosts.
pub async fn write_network_files(node: &Arc<Node>, sandbox: &Arc<Sandbox>) -> Result<()> {
    blocking(node, sandbox, network_files).await
}

async fn blocking<T: Send + 'static>(
    node: &Arc<Node>,
    sandbox: &Arc<Sandbox>,
    work: fn(&Node, &Sandbox) -> Result<T>,
) -> Result<T> {
    let (node, sandbox) = (node.clone(), sandbox.clone());
    let done = tokio::task::spawn_blocking(move || work(&node, &sandbox)).await;
    done.map_err(|error| Error::internal(format!("make a pod's files: {error}")))?
}

fn fill(node: &Node, sandbox: &Sandbox) -> Result<()> {
    let files = Files::of(sandbox);
    let owner = spec::root_of(&sandbox.config);
    network_files(node, sandbox)?;
    write(&files.hostname, format!("{}\n", hostname(node, sandbox)).as_bytes(), owner)?;
    if let Some(shm) = &files.shm {
        paths::own_dir(shm)?;
        std::os::unix::fs::chown(shm, Some(owner.0), Some(owner.1))
            .and_then(|()| std::fs::set_permissions(shm, std::fs::Permissions::from_mode(0o1777)))
            .what(|| format!("open {} to the pod", shm.display()))?;
    }
    Ok(())
}

fn network_files(node: &Node, sandbox: &Sandbox) -> Result<()> {
    let (files, owner) = (Files::of(sandbox), spec::root_of(&sandbox.config));
    write(&files.resolv_conf, resolv_conf(node, sandbox)?.as_bytes(), owner)?;
    write(&files.hosts, hosts(node, sandbox)?.as_bytes(), owner)
}

/// The host's on its network, else the loopback and the pod itself.
fn hosts(node: &Node, sandbox: &Sandbox) -> Result<String> {
    if sandbox.is_on_host_network() {
        return read("/etc/hosts");
    }
    let ips = sandbox.status.look(|status| status.ips.clone());
    Ok(of_hosts(&ips, &hostname(node, sandbox)))
}

fn of_hosts(ips: &[String], hostname: &str) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    for ip in ips {
        text.push_str(&format!("{ip}\t{hostname}\n"));
    }
    text
}

/// A file of the host's; one that is not there is empty.
fn read(path: &str) -> Result<String> {
    match document::text(Path::new(path), document::MOST) {
        Err(error) if error.kind() == Kind::NotFound => Ok(String::new()),
        text => text,
    }
}

/// Unmounts what was mounted; the files go with the pod's directory.
pub fn unmount(node: &Node, id: &str) -> Result<()> {
    // The second is that of an earlier version.
    for place in [paths::pod_files(&node.paths.pod(id)), node.paths.pod(id).join("shm")] {
        loop {
            match umount2(&place, MntFlags::MNT_DETACH) {
                // There may be one over the other, of a server that was killed between two steps.
                Ok(()) => {}
                Err(Errno::EINVAL | Errno::ENOENT) => break,
                Err(errno) => return Err(errno).what(|| format!("unmount {}", place.display())),
            }
        }
    }
    Ok(())
}

/// The name that the pod's UTS namespace has.
pub fn hostname(node: &Node, sandbox: &Sandbox) -> String {
    match sandbox.config.hostname.as_str() {
        "" if sandbox.is_on_host_network() => node.host().hostname.clone(),
        "" => sandbox.id.chars().take(12).collect(),
        name => name.to_owned(),
    }
}

fn resolv_conf(node: &Node, sandbox: &Sandbox) -> Result<String> {
    if let Some(dns) = &sandbox.config.dns_config {
        return Ok(of_dns(dns));
    }
    if let Some(dns) = node.network.attachment(&sandbox.id).map(|attachment| attachment.dns)
        && !dns.servers.is_empty()
    {
        return Ok(of_dns(&api::DnsConfig {
            servers: dns.servers,
            searches: dns.searches,
            options: dns.options,
        }));
    }
    read("/etc/resolv.conf")
}

fn of_dns(dns: &api::DnsConfig) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    text
}

fn write(path: &Path, text: &[u8], (uid, gid): (u32, u32)) -> Result<()> {
    std::fs::write(path, text).what(|| format!("write {}", path.display()))?;
    std::os::unix::fs::chown(path, Some(uid), Some(gid))
        .what(|| format!("change the owner of {}", path.display()))?;
    // Whatever the umask is: processes of all users read it.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))
        .what(|| format!("set the mode of {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_has_what_the_request_says_and_nothing_else() {
        let dns = api::DnsConfig {
            servers: vec!["10.0.0.10".to_owned(), "fd00::a".to_owned()],
            searches: vec!["a.svc".to_owned(), "svc".to_owned()],
            options: vec!["ndots:5".to_owned()],
        };
        let expected = "search a.svc svc\nnameserver 10.0.0.10\nnameserver fd00::a\noptions ndots:5\n";
        assert_eq!(of_dns(&dns), expected);
        assert_eq!(of_dns(&api::DnsConfig::default()), "");
    }

    #[test]
    fn hosts_has_the_loopback_and_each_of_the_pods_addresses() {
        let ips = ["10.90.0.5".to_owned(), "fd00::5".to_owned()];
        let expected =
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n10.90.0.5\tweb\nfd00::5\tweb\n";
        assert_eq!(of_hosts(&ips, "web"), expected);
    }
}
