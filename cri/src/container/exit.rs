//! How a container ended: the shim's words become CRI's. It ends nothing.

use std::sync::Arc;

use shim::api::pod;

use crate::api;
use crate::error::Result;
use crate::node::{Container, Node};
use crate::paths;
use crate::record::{ContainerStage, ContainerStatus};

/// The exit code of what could not be started.
pub const START_FAILED: i32 = 128;
/// The exit code of what was ended by SIGKILL, and of what was lost.
pub const KILLED: i32 = 137;

/// Records an end, once. True if it is news.
pub async fn record(node: &Arc<Node>, container: &Arc<Container>, ended: &pod::Ended) -> Result<bool> {
    let is_news = container.status.change(|status| {
        if status.stage == ContainerStage::Exited {
            return false;
        }
        fill(status, ended);
        true
    });
    if is_news {
        tracing::info!(container = container.id, exit_code = ended.exit_code, "exited");
        container.status.save().await?;
        super::status::tell(node, container, api::ContainerEventType::ContainerStoppedEvent);
    }
    Ok(is_news)
}

/// Records that it could not be started.
pub async fn record_start_error(node: &Arc<Node>, container: &Arc<Container>, why: &str) -> Result<()> {
    container
        .status
        .set(|status| {
            status.stage = ContainerStage::Exited;
            status.pid = 0;
            status.exit_code = START_FAILED;
            status.finished_at = paths::now();
            status.reason = "StartError".to_owned();
            status.message = why.to_owned();
        })
        .await?;
    super::status::tell(node, container, api::ContainerEventType::ContainerStoppedEvent);
    Ok(())
}

/// Records that nobody knows how it ended.
pub async fn record_lost(node: &Arc<Node>, container: &Arc<Container>, why: &str) -> Result<bool> {
    let lost =
        pod::Ended { exit_code: KILLED, at: paths::now(), reason: why.to_owned(), ..Default::default() };
    record(node, container, &lost).await
}

fn fill(status: &mut ContainerStatus, ended: &pod::Ended) {
    status.stage = ContainerStage::Exited;
    status.pid = 0;
    status.exit_code = ended.exit_code;
    status.finished_at = if ended.at == 0 { paths::now() } else { ended.at };
    status.reason = match (ended.oom_killed, ended.exit_code) {
        (true, _) => "OOMKilled",
        (false, 0) => "Completed",
        (false, _) => "Error",
    }
    .to_owned();
    status.message = match (ended.reason.as_str(), ended.oom_cgroup.as_str()) {
        ("", "") => String::new(),
        (reason, "") => reason.to_owned(),
        ("", cgroup) => format!("out of memory in cgroup {cgroup}"),
        (reason, cgroup) => format!("{reason}; out of memory in cgroup {cgroup}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_has_the_reason_that_the_kubelet_looks_for() {
        for (exit_code, oom_killed, reason) in
            [(0, false, "Completed"), (3, false, "Error"), (137, true, "OOMKilled"), (0, true, "OOMKilled")]
        {
            let mut status = ContainerStatus::new();
            fill(&mut status, &pod::Ended { exit_code, oom_killed, at: 5, ..Default::default() });
            assert_eq!(
                (status.reason.as_str(), status.exit_code, status.finished_at),
                (reason, exit_code, 5)
            );
        }
    }
}
