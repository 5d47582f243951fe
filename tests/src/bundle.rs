//! A bundle: a directory with a root filesystem (the probe in it) and a config that tests alter.
//!
//! It runs nothing.

use crate::{config, copy_program, probe, programs, write_program};
use serde_json::{Value, json};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A bundle under construction; `config` is public, tests write into it as they like.
pub struct Bundle {
    dir: PathBuf,
    id: String,
    /// What becomes config.json.
    pub config: Value,
}

/// See [`Bundle::hook_that_waits`].
pub struct WaitingHook {
    begun: PathBuf,
    go: PathBuf,
}

impl WaitingHook {
    /// Waits until it runs.
    #[track_caller]
    pub fn runs(&self) {
        crate::until("the hook runs", || self.begun.exists().then_some(()));
    }

    /// Lets it end.
    #[track_caller]
    pub fn let_go(&self) {
        std::fs::write(&self.go, "").expect("let the hook end");
    }
}

impl Bundle {
    /// A directory with a root filesystem and an engine's config.
    pub fn create(dir: &Path, id: String, cgroup: &str) -> Self {
        let rootfs = dir.join("rootfs");
        for part in ["dev", "etc", "proc", "run", "sys", "tmp"] {
            std::fs::create_dir_all(rootfs.join(part)).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        }
        copy_program(probe(), &rootfs.join("probe"));
        let mut config = config::engine();
        config["linux"]["cgroupsPath"] = json!(format!("{cgroup}/{id}"));
        Self { dir: dir.to_owned(), id, config }
    }

    /// The bundle's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The cgroup that the config names.
    pub fn cgroup(&self) -> &str {
        self.config["linux"]["cgroupsPath"].as_str().unwrap_or_default()
    }

    /// A path of the container, seen from the host.
    pub fn host_path(&self, path: &str) -> PathBuf {
        self.dir.join("rootfs").join(path.trim_start_matches('/'))
    }

    /// Adds a createRuntime hook that says that it runs, and goes on when it is told to; its files are in `dir`.
    pub fn hook_that_waits(&mut self, dir: &Path) -> WaitingHook {
        let hook = WaitingHook { begun: dir.join("begun"), go: dir.join("go") };
        let (begun, go) = (hook.begun.display(), hook.go.display());
        let script = format!("touch {begun}; until [ -e {go} ]; do sleep 0.02; done");
        self.config["hooks"] =
            json!({ "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", script] }] });
        hook
    }

    /// Sets the process's arguments.
    pub fn args<'a>(&mut self, args: impl IntoIterator<Item = &'a str>) -> &mut Self {
        self.config["process"]["args"] = json!(args.into_iter().collect::<Vec<_>>());
        self
    }

    /// A file in the root filesystem, with its parents.
    pub fn file(&mut self, path: &str, text: &str) -> &mut Self {
        let host = self.host_path(path);
        std::fs::create_dir_all(host.parent().expect("below the rootfs")).expect("make the file's directory");
        std::fs::write(&host, text).unwrap_or_else(|e| panic!("{}: {e}", host.display()));
        self
    }

    /// A directory in the root filesystem.
    pub fn directory(&mut self, path: &str) -> &mut Self {
        std::fs::create_dir_all(self.host_path(path)).expect("make a directory");
        self
    }

    /// A symbolic link in the root filesystem; what is there is removed.
    pub fn link(&mut self, path: &str, to: &str) -> &mut Self {
        let host = self.host_path(path);
        let _ = std::fs::remove_dir(&host);
        let _ = std::fs::remove_file(&host);
        symlink(to, &host).unwrap_or_else(|e| panic!("{}: {e}", host.display()));
        self
    }

    /// Mode bits of a file in the root filesystem. One that becomes executable is written once more, as a program has to be.
    pub fn mode(&mut self, path: &str, mode: u32) -> &mut Self {
        let host = self.host_path(path);
        if host.is_file() && mode & 0o111 != 0 {
            let text = std::fs::read(&host).expect("read the program");
            std::fs::remove_file(&host).expect("remove the file");
            write_program(&host, text);
        }
        std::fs::set_permissions(host, PermissionsExt::from_mode(mode)).expect("set the mode");
        self
    }

    /// Busybox with a shell and the usual small commands under /bin.
    pub fn with_busybox(&mut self) -> &mut Self {
        let busybox = programs::busybox().expect("apt-get install busybox-static");
        self.directory("/bin");
        copy_program(&busybox, &self.host_path("/bin/busybox"));
        for name in ["sh", "true", "false", "cat", "sleep", "echo", "id", "ls", "mount", "stty"] {
            self.link(&format!("/bin/{name}"), "busybox");
        }
        self
    }

    /// One more mount, after the others.
    pub fn mount(&mut self, mount: Value) -> &mut Self {
        self.config["mounts"].as_array_mut().expect("a list of mounts").push(mount);
        self
    }

    /// A bind mount with these options besides `bind`.
    pub fn bind(&mut self, from: &Path, to: &str, options: &[&str]) -> &mut Self {
        let options: Vec<&str> = ["bind"].iter().chain(options).copied().collect();
        self.mount(json!({ "destination": to, "type": "bind", "source": from, "options": options }))
    }

    /// The namespace of this type gets a path (to join it) or, without one, is new.
    pub fn namespace(&mut self, kind: &str, path: Option<&str>) -> &mut Self {
        self.without_namespace(kind);
        let entry = match path {
            Some(path) => json!({ "type": kind, "path": path }),
            None => json!({ "type": kind }),
        };
        self.config["linux"]["namespaces"].as_array_mut().expect("a list of namespaces").push(entry);
        self
    }

    /// No namespace of this type.
    pub fn without_namespace(&mut self, kind: &str) -> &mut Self {
        let list = self.config["linux"]["namespaces"].as_array_mut().expect("a list of namespaces");
        list.retain(|ns| ns["type"] != kind);
        self
    }

    /// A user namespace with one range of ids, and a rootfs that belongs to its root.
    pub fn user_namespace(&mut self, host: u32, size: u32) -> &mut Self {
        let range = json!([{ "containerID": 0, "hostID": host, "size": size }]);
        self.config["linux"]["uidMappings"] = range.clone();
        self.config["linux"]["gidMappings"] = range;
        own(&self.dir, host);
        self.namespace("user", None)
    }

    /// Gives capabilities in all sets that engines set.
    pub fn capabilities(&mut self, names: &[&str]) -> &mut Self {
        self.config["process"]["capabilities"] =
            json!({ "bounding": names, "effective": names, "permitted": names });
        self
    }

    /// Writes config.json; done by whatever runs the bundle.
    pub fn write(&self) {
        // A bundle whose config the test wrote itself (as text) has none here.
        if !self.config.is_null() {
            let text = serde_json::to_string_pretty(&self.config).expect("a JSON value");
            std::fs::write(self.dir.join("config.json"), text).expect("write config.json");
        }
    }
}

fn own(path: &Path, id: u32) {
    let _ = std::os::unix::fs::lchown(path, Some(id), Some(id));
    if path.is_dir() && !path.is_symlink() {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            own(&entry.path(), id);
        }
    }
}
