//! Running one CNI plugin: environment, configuration on stdin, result on stdout, a deadline that ends it.
//!
//! What goes into the configuration is decided by the caller.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::error::{Context, Error, Kind, Result};

/// What a plugin is told by its environment.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// `ADD`, `DEL`, `CHECK`, `STATUS` or `GC`.
    pub command: &'static str,
    /// The plugin's type.
    pub plugin: &'a str,
    /// The network's name, for errors.
    pub network: &'a str,
    /// The pod it is for, if it is for one.
    pub pod: Option<Place<'a>>,
    /// Where plugins are looked for.
    pub bin_dirs: &'a [PathBuf],
    /// How long it may take.
    pub deadline: Duration,
}

/// The pod's side of a call.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The sandbox id.
    pub id: &'a str,
    /// Its namespace; absent if it is gone.
    pub netns: Option<&'a Path>,
    /// The interface to make.
    pub interface: &'a str,
    /// `CNI_ARGS`
    pub arguments: &'a str,
}

/// Runs it. The answer is what it printed: a result, or nothing.
pub async fn run(call: &Call<'_>, config: &Value) -> Result<Option<Value>> {
    let what = || {
        let pod = call.pod.map(|pod| format!(" for pod {}", pod.id)).unwrap_or_default();
        format!("run CNI plugin {} ({}) of network {}{pod}", call.plugin, call.command, call.network)
    };
    let program = find(call).what(what)?;
    let mut command = command(call, &program);
    let mut child = command.spawn().what(|| format!("start {}", program.display())).what(what)?;
    let group = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    let stdin = child.stdin.take();
    let bytes = config.to_string();
    let finished = tokio::time::timeout(call.deadline, async move {
        if let Some(mut stdin) = stdin {
            // A plugin that does not read its configuration says why on its own.
            let _ = stdin.write_all(bytes.as_bytes()).await;
            drop(stdin);
        }
        child.wait_with_output().await
    });
    match finished.await {
        Ok(output) => answer(&output.what(what)?).map_err(|error| error.during(what())),
        Err(_) => {
            if let Some(group) = group {
                // Its children too: plugins start others.
                let _ = killpg(group, Signal::SIGKILL);
            }
            let limit = call.deadline.as_secs();
            Err(Error::new(Kind::Timeout, format!("no answer in {limit} s; it was killed"))
                .cure("see why it hangs, or raise cni.timeout")
                .during(what()))
        }
    }
}

fn command(call: &Call<'_>, program: &Path) -> Command {
    let mut command = Command::new(program);
    let path = std::env::join_paths(call.bin_dirs).unwrap_or_default();
    command.env("CNI_COMMAND", call.command).env("CNI_PATH", path);
    for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_NETNS_OVERRIDE"] {
        command.env_remove(name);
    }
    if let Some(pod) = call.pod {
        command
            .env("CNI_CONTAINERID", pod.id)
            .env("CNI_IFNAME", pod.interface)
            .env("CNI_ARGS", pod.arguments);
        command.env("CNI_NETNS", pod.netns.unwrap_or(Path::new("")));
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    command
}

fn find(call: &Call<'_>) -> Result<PathBuf> {
    let places = call.bin_dirs.iter().map(|folder| folder.join(call.plugin));
    places.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        let folders: Vec<_> = call.bin_dirs.iter().map(|folder| folder.display().to_string()).collect();
        Error::new(Kind::NotFound, format!("there is no program `{}` in {}", call.plugin, folders.join(", ")))
            .cure("install the plugin there, or set cni.bin_dirs")
    })
}

pub(super) fn answer(output: &std::process::Output) -> Result<Option<Value>> {
    let printed = serde_json::from_slice::<Value>(&output.stdout).ok();
    if output.status.success() {
        return match printed {
            None if output.stdout.trim_ascii().is_empty() => Ok(None),
            None => Err(Error::internal("it printed a result that is no JSON")),
            printed => Ok(printed),
        };
    }
    Err(said(printed.as_ref(), &output.stderr, output.status))
}

/// The error that a plugin printed.
fn said(printed: Option<&Value>, stderr: &[u8], status: std::process::ExitStatus) -> Error {
    let stderr = String::from_utf8_lossy(stderr);
    let field =
        |key: &str| printed.and_then(|value| value.get(key)).and_then(Value::as_str).unwrap_or_default();
    let mut words = match (field("msg"), stderr.trim()) {
        ("", "") => format!("it ended with {status} and said nothing"),
        ("", stderr) => last(stderr).to_owned(),
        (message, _) => message.to_owned(),
    };
    if !field("details").is_empty() {
        words = format!("{words}; {}", field("details"));
    }
    let code = printed.and_then(|value| value.get("code")).and_then(Value::as_u64).unwrap_or(0);
    // SPEC: CNI, error codes.
    let (kind, cure) = match code {
        1 => (
            Kind::Unsupported,
            "the plugin does not speak the network's cniVersion: update it, or lower cniVersion",
        ),
        2 | 6 | 7 => (Kind::Invalid, "correct the network's configuration"),
        11 => (Kind::Unavailable, "it asks to be called again later"),
        50 => (Kind::Unavailable, "the plugin can't serve pods now: look at its own logs"),
        51 => {
            (Kind::Unavailable, "existing pods may have limited connectivity: look at the plugin's own logs")
        }
        _ => return Error::new(Kind::Unavailable, words),
    };
    Error::new(kind, words).cure(cure)
}

/// The end of long output: a stack trace's first lines say little.
fn last(text: &str) -> &str {
    let start = text.char_indices().rev().nth(500).map_or(0, |(index, _)| index);
    &text[start..]
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{ExitStatus, Output};

    use super::*;

    fn ended(code: i32, stdout: &str, stderr: &str) -> Result<Option<Value>> {
        answer(&Output {
            status: ExitStatus::from_raw(code << 8),
            stdout: stdout.as_bytes().to_vec(),
            stderr: stderr.as_bytes().to_vec(),
        })
    }

    #[test]
    fn errors_are_the_plugins_own_words_with_their_cure() {
        let error = ended(1, r#"{"code":7,"msg":"no subnet","details":"ipam"}"#, "log").unwrap_err();
        assert_eq!(
            (error.kind, error.to_string().as_str()),
            (Kind::Invalid, "no subnet; ipam (correct the network's configuration)")
        );
        assert_eq!(ended(1, "", " boom \n").unwrap_err().to_string(), "boom");
        assert!(ended(2, "", "").unwrap_err().to_string().contains("said nothing"));
        assert_eq!(ended(0, " \n", "").unwrap(), None);
        assert!(ended(0, "x", "").is_err());
    }
}
