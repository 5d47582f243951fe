//! Configurations of pods and containers as crictl takes them, altered by tests, and their first steps.
//!
//! It knows the API's fields; the server's answers are for the tests to judge.

use super::{BUSYBOX, Surroundings};
use serde_json::{Value, json};
use std::path::PathBuf;

/// A pod that is described, and perhaps runs.
pub struct Pod<'a> {
    place: &'a Surroundings,
    /// PodSandboxConfig.
    pub config: Value,
    id: String,
}

impl<'a> Pod<'a> {
    /// A pod with its own network, in the test's cgroup.
    pub(super) fn new(place: &'a Surroundings, name: &str) -> Self {
        let logs = place.case().dir().join("logs").join(name);
        std::fs::create_dir_all(&logs).expect("make a directory for logs");
        let config = json!({
            "metadata": { "name": name, "namespace": "default", "uid": format!("uid-{name}"), "attempt": 0 },
            "hostname": name,
            "log_directory": logs,
            "labels": { "test": name },
            "linux": { "cgroup_parent": place.case().cgroup(), "security_context": { "namespace_options": {} } },
        });
        Self { place, config, id: String::new() }
    }

    /// On the host's network (which is the test's own).
    pub fn on_host_network(mut self) -> Self {
        // NODE
        self.config["linux"]["security_context"]["namespace_options"]["network"] = json!(2);
        self
    }

    /// Runs it.
    #[track_caller]
    pub fn run(mut self) -> Self {
        let output = self.place.crictl(["runp"]).arg(self.file()).run().ok();
        self.id = output.stdout.trim().to_owned();
        assert!(!self.id.is_empty(), "no id: {output}");
        self
    }

    /// Its id, once it runs.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where its containers' logs go.
    pub fn logs(&self) -> PathBuf {
        PathBuf::from(self.config["log_directory"].as_str().unwrap_or_default())
    }

    /// `inspectp`.
    #[track_caller]
    pub fn inspect(&self) -> Value {
        self.place.json(["inspectp", &self.id])
    }

    /// Its configuration as a file.
    pub fn file(&self) -> PathBuf {
        let name = self.config["metadata"]["name"].as_str().unwrap_or("pod");
        write(self.place, &format!("pod-{name}"), &self.config)
    }

    /// A busybox container in it that runs these words.
    pub fn container<'p>(&'p self, name: &str, words: &[&str]) -> Container<'p> {
        let config = json!({
            "metadata": { "name": name, "attempt": 0 },
            "image": { "image": BUSYBOX },
            "command": words,
            "log_path": format!("{name}.log"),
            "linux": { "security_context": {} },
        });
        Container { pod: self, config, id: String::new() }
    }

    /// A container in it that runs this script of busybox's shell.
    pub fn script<'p>(&'p self, name: &str, script: &str) -> Container<'p> {
        self.container(name, &["sh", "-c", script])
    }
}

/// A container that is described, and perhaps is there.
pub struct Container<'p> {
    pod: &'p Pod<'p>,
    /// ContainerConfig.
    pub config: Value,
    id: String,
}

impl Container<'_> {
    /// Creates it.
    #[track_caller]
    pub fn create(mut self) -> Self {
        let pod = self.pod;
        let output =
            pod.place.crictl(["create", "--no-pull", &pod.id]).arg(self.file()).arg(pod.file()).run().ok();
        self.id = output.stdout.trim().to_owned();
        assert!(!self.id.is_empty(), "no id: {output}");
        self
    }

    /// Its configuration as a file.
    pub fn file(&self) -> PathBuf {
        let name = self.config["metadata"]["name"].as_str().unwrap_or("container");
        write(self.pod.place, &format!("container-{name}"), &self.config)
    }

    /// Neither its creation nor its start succeeds, and the error has these words.
    #[track_caller]
    pub fn refused(self, words: &[&str]) {
        let pod = self.pod;
        let file = self.file();
        let created = pod.place.crictl(["create", "--no-pull", &pod.id]).arg(file).arg(pod.file()).run();
        if created.code() != 0 {
            created.fails(words);
            return;
        }
        let id = created.stdout.trim().to_owned();
        pod.place.crictl(["start", &id]).run().fails(words);
        pod.place.crictl(["rm", "--force", &id]).run().ok();
    }

    /// Creates and starts it.
    #[track_caller]
    pub fn run(self) -> Self {
        let made = self.create();
        made.pod.place.crictl(["start", &made.id]).run().ok();
        made
    }

    /// Its id, once it is there.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `inspect`.
    #[track_caller]
    pub fn inspect(&self) -> Value {
        self.pod.place.json(["inspect", &self.id])
    }

    /// `CONTAINER_CREATED`, `CONTAINER_RUNNING`, `CONTAINER_EXITED`.
    #[track_caller]
    pub fn state(&self) -> String {
        self.inspect()["status"]["state"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until it has ended; its status.
    #[track_caller]
    pub fn wait(&self) -> Value {
        crate::until(&format!("{} ends", self.id), || {
            let status = self.inspect()["status"].clone();
            (status["state"] == "CONTAINER_EXITED").then_some(status)
        })
    }

    /// Its log file, as the server writes it.
    pub fn log(&self) -> String {
        let path = self.pod.logs().join(self.config["log_path"].as_str().unwrap_or_default());
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// Runs words in it by ExecSync.
    pub fn exec(&self, words: &[&str]) -> crate::Output {
        self.pod.place.crictl(["exec", "--sync", &self.id]).args(words).run()
    }
}

fn write(place: &Surroundings, name: &str, config: &Value) -> PathBuf {
    let path = place.case().dir().join(format!("{name}.json"));
    std::fs::write(&path, config.to_string()).expect("write a configuration");
    path
}
