//! A hundred pods, a thousand containers: what they cost at rest and how fast they are listed.

use crate::api;
use crate::cri::{Net, Result, Server};
use crate::report::{Report, Side};
use crate::rounds::{SLEEPER, end, ms};
use prost::Message;
use prost::bytes::Bytes;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How many pods, and how many containers each of them gets.
pub const PODS: usize = 100;
pub const CONTAINERS: usize = 10;
/// How long nothing is asked while the CPU time is watched: longer than any period of either server (ours asks each shim once a minute).
const REST: Duration = Duration::from_secs(61);
/// Questions of each kind.
const QUESTIONS: usize = 100;

/// Our server `pid` with its crowd, which is removed again.
pub async fn ours(server: &Server, pid: u32, report: &mut Report) -> Result<()> {
    let pods = make(server, Net::Own).await?;
    rest(pid, Side::Ours, report).await?;
    fill(server, &pods).await?;
    questions(server, report).await?;
    report.note("memory of the server at 1000 containers", Side::Ours, resident(pid)?);
    let pods = pods.into_iter().map(|pod| pod.id).collect();
    for time in remove(server, pods).await? {
        report.note("Stop + Remove pod of ten containers, 4 at once", Side::Ours, time);
    }
    Ok(())
}

/// Containerd with as many pods, at rest only.
pub async fn theirs(server: &Server, pid: u32, report: &mut Report) -> Result<()> {
    let pods = make(server, Net::Host).await?;
    rest(pid, Side::Theirs, report).await?;
    remove(server, pods.into_iter().map(|pod| pod.id).collect()).await.map(drop)
}

/// Pods with a running container each, four at once.
async fn make(server: &Server, net: Net) -> Result<Vec<crate::cri::Pod>> {
    let mut pods = Vec::new();
    while pods.len() < PODS {
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            let server = server.clone();
            tasks.spawn(async move {
                let pod = server.run_pod(net).await?;
                let container = server.create(&pod, &SLEEPER).await?;
                server.start(&container).await?;
                Ok::<_, String>(pod)
            });
        }
        while let Some(pod) = tasks.join_next().await {
            pods.push(pod.map_err(|error| error.to_string())??);
        }
    }
    Ok(pods)
}

/// Memory, and CPU time while nobody asks anything.
async fn rest(pid: u32, side: Side, report: &mut Report) -> Result<()> {
    // What was begun by the last request comes to its end.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let shims = shims()?;
    let mut private: Vec<f64> = shims.iter().filter_map(|&shim| private_memory(shim)).collect();
    private.drain(..).for_each(|size| report.note("memory of a pod's shim (private)", side, size));
    let before = (cpu_time(pid), shims.iter().map(|&shim| cpu_time(shim)).sum::<u64>());
    let begin = Instant::now();
    tokio::time::sleep(REST).await;
    let time = begin.elapsed().as_nanos() as f64;
    report.note("memory of the server at 100 pods", side, resident(pid)?);
    let after = (cpu_time(pid), shims.iter().map(|&shim| cpu_time(shim)).sum::<u64>());
    let percent = |nanoseconds: u64| nanoseconds as f64 / time * 100.0;
    let server = after.0.saturating_sub(before.0);
    report.note("idle at 100 pods, the server", side, percent(server));
    let all = server + after.1.saturating_sub(before.1);
    report.note("idle at 100 pods, with its shims", side, percent(all));
    Ok(())
}

/// The rest of the containers of each pod, started.
async fn fill(server: &Server, pods: &[crate::cri::Pod]) -> Result<()> {
    let mut pods = pods.iter().cloned().peekable();
    while pods.peek().is_some() {
        let mut tasks = JoinSet::new();
        for pod in pods.by_ref().take(4) {
            let server = server.clone();
            tasks.spawn(async move {
                for _ in 1..CONTAINERS {
                    let container = server.create(&pod, &SLEEPER).await?;
                    server.start(&container).await?;
                }
                Ok::<_, String>(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.map_err(|error| error.to_string())??;
        }
    }
    Ok(())
}

async fn questions(server: &Server, report: &mut Report) -> Result<()> {
    let all = PODS * CONTAINERS;
    for _ in 0..QUESTIONS {
        let begin = Instant::now();
        let listed = server.list("ListContainers").await?;
        report.note("ListContainers of 1000", Side::Ours, ms(begin));
        expect(listed.len(), all, "ListContainers")?;
        let begin = Instant::now();
        expect(server.pods().await?.len(), PODS, "ListPodSandbox")?;
        report.note("ListPodSandbox of 100", Side::Ours, ms(begin));
    }
    for _ in 0..QUESTIONS {
        let begin = Instant::now();
        let listed = server.list("ListContainerStats").await?;
        report.note("ListContainerStats of 1000", Side::Ours, ms(begin));
        let told =
            |item: &Bytes| api::ContainerStats::decode(item.clone()).is_ok_and(|stats| stats.cpu.is_some());
        expect(listed.iter().filter(|item| told(item)).count(), all, "ListContainerStats")?;
        // As a kubelet, not as a loop: what is cached for a moment has to be read again.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn expect(seen: usize, expected: usize, call: &str) -> Result<()> {
    if seen == expected {
        return Ok(());
    }
    Err(format!("{call} tells of {seen}, not of {expected}"))
}

/// Ends pods, four at once.
async fn remove(server: &Server, pods: Vec<String>) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    let mut pods = pods.into_iter().peekable();
    while pods.peek().is_some() {
        let mut tasks = JoinSet::new();
        for pod in pods.by_ref().take(4) {
            let server = server.clone();
            tasks.spawn(async move { end(&server, &pod).await });
        }
        while let Some(time) = tasks.join_next().await {
            times.push(time.map_err(|error| error.to_string())??);
        }
    }
    Ok(times)
}

/// Resident memory in MB.
fn resident(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("read {path}: {error}"))?;
    field(&text, "VmRSS:").ok_or_else(|| format!("no VmRSS in {path}"))
}

/// What no other process has of its memory, in MB.
fn private_memory(pid: u32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    Some(field(&text, "Private_Clean:")? + field(&text, "Private_Dirty:")?)
}

/// A field that is in kB, as MB.
fn field(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1000.0)
}

/// Nanoseconds that all threads of a process have run; 0 if it is gone.
fn cpu_time(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let run = |task: PathBuf| {
        let text = std::fs::read_to_string(task.join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    tasks.filter_map(|task| run(task.path())).sum()
}

/// All shims here: the room has no others than those of the server that has pods.
fn shims() -> Result<Vec<u32>> {
    let all = std::fs::read_dir("/proc").map_err(|error| format!("read /proc: {error}"))?;
    let is_shim = |dir: &Path| {
        std::fs::read_to_string(dir.join("comm")).is_ok_and(|name| name.starts_with("containerd-shim"))
    };
    let number = |dir: &Path| dir.file_name()?.to_str()?.parse().ok();
    Ok(all
        .flatten()
        .map(|entry| entry.path())
        .filter(|dir| is_shim(dir))
        .filter_map(|dir| number(&dir))
        .collect())
}
