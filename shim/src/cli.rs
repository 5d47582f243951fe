//! The command line, in the two ways in which it is used: containerd's flags around `start` and `delete`, and our own `serve`.
//!
//! Reads it, no more. Flags are Go's: one dash or two, the value after `=` or as the next argument.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::{Error, Result};

/// What the shim was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `-v`: prints the version.
    Version,
    /// `-info`: prints what this runtime is, as containerd's RuntimeInfo.
    About,
    /// `start`: makes sure that a shim serves this container's pod, prints its address.
    Start(Caller),
    /// `delete`: removes what a dead shim left of a container, prints how it ended.
    Delete(Caller),
    /// `serve`: is a pod's shim, until it is told to end.
    Serve(Serve),
}

/// containerd's flags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// containerd's namespace.
    pub namespace: String,
    /// Its gRPC socket.
    pub address: String,
    /// The container.
    pub id: String,
    /// Its bundle; empty: the working directory.
    pub bundle: PathBuf,
    /// Whether debug messages are wanted.
    pub debug: bool,
}

/// How the shim serves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Serve {
    /// Of the pod.
    pub id: String,
    /// The shim's own directory; made if it is not there.
    pub dir: PathBuf,
    /// The runtime's program; empty: `rt` beside this program, or in PATH.
    pub rt: PathBuf,
    /// Its `--root`.
    pub rt_root: PathBuf,
    /// Whether cgroups are made by systemd.
    pub systemd_cgroup: bool,
    /// error, warn, info, debug or trace; empty: info.
    pub log_level: String,
    /// The descriptor of the listening socket: 3 or 0. None: 3.
    pub listen: Option<u32>,
    /// The socket's path, which is removed at the end.
    pub socket: PathBuf,
    /// containerd's namespace, for its events; empty: no events.
    pub namespace: String,
    /// Where its events go: a ttrpc socket.
    pub events: PathBuf,
}

/// Shown for what is not understood.
const USAGE: &str = "usage: containerd-shim-rt-v2 [-namespace N] [-address A] [-publish-binary P] [-id ID] [-bundle B] [-debug] start|delete
       containerd-shim-rt-v2 -v | -info
       containerd-shim-rt-v2 serve --id ID --dir DIR --rt-root DIR [--rt PATH] [--systemd-cgroup] [--log-level L] [--listen 0|3]
                                   [--socket PATH] [--namespace N --events SOCKET]";

/// Reads the arguments after the program's name.
///
/// # Errors
/// Invalid, with the usage.
pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Command> {
    let mut words = Vec::new();
    for argument in arguments {
        let word = argument.into_string();
        words.push(word.map_err(|word| Error::invalid(format!("read argument {word:?}: not UTF-8")))?);
    }
    let read = if words.first().is_some_and(|word| word == "serve") {
        serve(&words[1..])
    } else {
        containerd(&words)
    };
    read.map_err(|what| Error::invalid(format!("{what}\n{USAGE}")))
}

fn containerd(words: &[String]) -> Result<Command, String> {
    let mut caller = Caller::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(flag) = Flag::of(word) else {
            // Go stops at the first argument that is no flag.
            return match (word.as_str(), caller.id.is_empty()) {
                ("start" | "delete", true) => Err(format!("{word}: no -id")),
                ("start", false) => Ok(Command::Start(caller)),
                ("delete", false) => Ok(Command::Delete(caller)),
                _ => Err(format!("unknown command {word:?}")),
            };
        };
        match flag.name {
            "v" | "version" => return Ok(Command::Version),
            "info" => return Ok(Command::About),
            "debug" => caller.debug = flag.switch()?,
            "namespace" => caller.namespace = flag.value(&mut words)?,
            "address" => caller.address = flag.value(&mut words)?,
            "id" => caller.id = flag.value(&mut words)?,
            "bundle" => caller.bundle = flag.value(&mut words)?.into(),
            // Events go over ttrpc, never through a program; sockets are where containerd's state is.
            "publish-binary" | "socket" => drop(flag.value(&mut words)?),
            name => return Err(format!("unknown flag -{name}")),
        }
    }
    Err("no command".to_owned())
}

fn serve(words: &[String]) -> Result<Command, String> {
    let mut serve = Serve::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let flag = Flag::of(word).ok_or_else(|| format!("unknown argument {word:?}"))?;
        match flag.name {
            "id" => serve.id = flag.value(&mut words)?,
            "dir" => serve.dir = flag.value(&mut words)?.into(),
            "rt" => serve.rt = flag.value(&mut words)?.into(),
            "rt-root" => serve.rt_root = flag.value(&mut words)?.into(),
            "systemd-cgroup" => serve.systemd_cgroup = flag.switch()?,
            "log-level" => serve.log_level = flag.value(&mut words)?,
            "socket" => serve.socket = flag.value(&mut words)?.into(),
            "namespace" => serve.namespace = flag.value(&mut words)?,
            "events" => serve.events = flag.value(&mut words)?.into(),
            "listen" => {
                let text = flag.value(&mut words)?;
                let number = text.parse().ok().filter(|number| [0, 3].contains(number));
                serve.listen = Some(number.ok_or_else(|| format!("--listen {text}: 0 or 3"))?);
            }
            name => return Err(format!("unknown flag --{name}")),
        }
    }
    for (name, missing) in [
        ("id", serve.id.is_empty()),
        ("dir", serve.dir.as_os_str().is_empty()),
        ("rt-root", serve.rt_root.as_os_str().is_empty()),
    ] {
        if missing {
            return Err(format!("serve: no --{name}"));
        }
    }
    Ok(Command::Serve(serve))
}

struct Flag<'a> {
    name: &'a str,
    attached: Option<&'a str>,
}

impl<'a> Flag<'a> {
    fn of(word: &'a str) -> Option<Self> {
        let rest =
            word.strip_prefix("--").or_else(|| word.strip_prefix('-')).filter(|rest| !rest.is_empty())?;
        Some(match rest.split_once('=') {
            Some((name, value)) => Self { name, attached: Some(value) },
            None => Self { name: rest, attached: None },
        })
    }

    fn value(&self, words: &mut std::slice::Iter<'_, String>) -> Result<String, String> {
        let next = || words.next().cloned().ok_or_else(|| format!("-{} needs a value", self.name));
        self.attached.map_or_else(next, |value| Ok(value.to_owned()))
    }

    fn switch(&self) -> Result<bool, String> {
        match self.attached {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(format!("-{} {other}: true or false", self.name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Command> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn containerds_flags_are_understood() {
        let line = "-namespace k8s.io -address /run/c.sock -publish-binary /bin/c -id a -debug start";
        let caller = Caller {
            namespace: "k8s.io".into(),
            address: "/run/c.sock".into(),
            id: "a".into(),
            bundle: PathBuf::new(),
            debug: true,
        };
        assert_eq!(read(line).ok(), Some(Command::Start(caller)));
        assert!(
            matches!(read("--id=a -bundle /b delete").ok(), Some(Command::Delete(caller)) if caller.bundle == *"/b")
        );
        assert_eq!(read("-v").ok(), Some(Command::Version));
        assert_eq!(read("-info").ok(), Some(Command::About));
        for wrong in ["", "start", "-id", "-id a", "-id a stop", "-what start", "-id a -debug=maybe start"] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn serve_needs_an_id_and_two_directories() {
        let Ok(Command::Serve(serve)) =
            read("serve --id a --dir /d --rt-root /r --systemd-cgroup --listen 0")
        else {
            panic!("not understood");
        };
        assert!(serve.systemd_cgroup && serve.listen == Some(0) && serve.dir == *"/d");
        for wrong in
            ["serve", "serve --id a --dir /d", "serve --id a --dir /d --rt-root /r --listen 9", "serve x"]
        {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
