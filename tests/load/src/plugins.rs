//! The CNI plugins of a network configuration, executed in order as a CNI server does: the time that no server can save.

use crate::cri::Result;
use crate::rounds::ms;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// A network configuration and where its plugins are.
pub struct Plugins {
    bin: PathBuf,
    config: Value,
}

const NETNS: &str = "/run/netns/cri-load";

impl Plugins {
    /// Reads a conflist.
    pub fn read(bin: &Path, conflist: &Path) -> Result<Self> {
        let text = std::fs::read(conflist).map_err(|e| format!("read {}: {e}", conflist.display()))?;
        let config =
            serde_json::from_slice(&text).map_err(|e| format!("read {}: {e}", conflist.display()))?;
        Ok(Self { bin: bin.to_owned(), config })
    }

    /// ADD of all plugins, into a network namespace that is there already.
    pub fn add(&self) -> Result<f64> {
        run(Command::new("ip").args(["netns", "add", "cri-load"]), &[])?;
        let begin = Instant::now();
        let mut result = Value::Null;
        for plugin in self.plugins() {
            result = self.call("ADD", plugin, &result)?;
        }
        Ok(ms(begin))
    }

    /// DEL of all, backwards; then the namespace goes.
    pub fn del(&self) -> Result<()> {
        for plugin in self.plugins().iter().rev() {
            self.call("DEL", plugin, &Value::Null)?;
        }
        run(Command::new("ip").args(["netns", "delete", "cri-load"]), &[]).map(drop)
    }

    fn plugins(&self) -> &[Value] {
        self.config["plugins"].as_array().map_or(&[], Vec::as_slice)
    }

    fn call(&self, verb: &str, plugin: &Value, previous: &Value) -> Result<Value> {
        let mut config = plugin.clone();
        config["cniVersion"] = self.config["cniVersion"].clone();
        config["name"] = self.config["name"].clone();
        if !previous.is_null() {
            config["prevResult"] = previous.clone();
        }
        if plugin["capabilities"]["portMappings"] == json!(true) {
            config["runtimeConfig"] = json!({ "portMappings": [] });
        }
        let name = plugin["type"].as_str().unwrap_or_default();
        let mut command = Command::new(self.bin.join(name));
        command.env_clear().envs([
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", "cri-load"),
            ("CNI_NETNS", NETNS),
            ("CNI_IFNAME", "eth0"),
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        ]);
        command.env("CNI_PATH", &self.bin);
        let answer = run(&mut command, config.to_string().as_bytes())?;
        Ok(serde_json::from_slice(&answer).unwrap_or(Value::Null))
    }
}

fn run(command: &mut Command, input: &[u8]) -> Result<Vec<u8>> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let output = command.spawn().and_then(|mut child| {
        // Dropped after it: the plugin reads to the end.
        child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input))?;
        child.wait_with_output()
    });
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stdout)))
}
