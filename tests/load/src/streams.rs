//! What a person and a kubelet's client see of a server's streams.

use crate::cri::{Net, Result, Server};
use crate::report::{Report, Side};
use crate::rounds::{Limit, SLEEPER, end, ms};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// On a pod of each side, in turn.
pub async fn measure(
    servers: [(Side, &Server); 2],
    sockets: &[(Side, PathBuf); 2],
    crictl: &Path,
    report: &mut Report,
    limit: Limit,
) -> Result<()> {
    let mut places = Vec::new();
    for ((side, server), (_, socket)) in servers.into_iter().zip(sockets) {
        let pod = server.run_pod(Net::Host).await?;
        let container = server.create(&pod, &SLEEPER).await?;
        server.start(&container).await?;
        places.push((side, server, socket, pod, container));
    }
    let begin = Instant::now();
    for _ in 0..limit.rounds {
        for (side, _, socket, _, container) in &places {
            report.note("crictl exec, first byte", *side, first_byte(crictl, socket, container)?);
        }
        if begin.elapsed() > limit.time {
            break;
        }
    }
    for (_, server, _, pod, _) in &places {
        end(server, &pod.id).await?;
    }
    Ok(())
}

/// From the start of crictl to the first byte that it prints.
fn first_byte(crictl: &Path, socket: &Path, container: &str) -> Result<f64> {
    let address = format!("unix://{}", socket.display());
    let mut command = Command::new(crictl);
    command.args(["--runtime-endpoint", &address, "exec", container, "echo", "x"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let begin = Instant::now();
    let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
    let mut byte = [0];
    let read = child.stdout.take().map(|mut stdout| stdout.read_exact(&mut byte));
    let time = ms(begin);
    let status = child.wait().map_err(|error| format!("{command:?}: {error}"))?;
    match read {
        Some(Ok(())) if status.success() => Ok(time),
        _ => Err(format!("{command:?}: {status}, nothing printed")),
    }
}
