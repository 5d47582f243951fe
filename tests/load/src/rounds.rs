//! A pod's and a container's life, timed: one after the other with the sides in turn, and many at once.

use crate::cri::{Net, Result, Server};
use crate::plugins::Plugins;
use crate::report::{Report, Side};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Runs until it is killed.
pub const SLEEPER: [&str; 2] = ["sleep", "100000"];
/// ExecSync's in each life.
const EXECS: usize = 3;

/// Milliseconds since `begin`.
pub fn ms(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}

/// The times of one life.
#[derive(Default)]
struct Life {
    run: f64,
    create_start: f64,
    execs: Vec<f64>,
    end: f64,
}

async fn live(server: &Server, net: Net) -> Result<Life> {
    let mut life = Life::default();
    let begin = Instant::now();
    let pod = server.run_pod(net).await?;
    life.run = ms(begin);
    let begin = Instant::now();
    let container = server.create(&pod, &SLEEPER).await?;
    server.start(&container).await?;
    life.create_start = ms(begin);
    for _ in 0..EXECS {
        let begin = Instant::now();
        server.exec(&container, &["true"]).await?;
        life.execs.push(ms(begin));
    }
    life.end = end(server, &pod.id).await?;
    Ok(life)
}

/// Stops and removes a pod.
pub async fn end(server: &Server, pod: &str) -> Result<f64> {
    let begin = Instant::now();
    server.stop_pod(pod).await?;
    server.remove_pod(pod).await?;
    Ok(ms(begin))
}

/// On the host's network, one after the other.
pub async fn serial(servers: [(Side, &Server); 2], report: &mut Report, limit: Limit) -> Result<()> {
    let begin = Instant::now();
    for round in 0..limit.rounds {
        for index in [round % 2, (round + 1) % 2] {
            let (side, server) = servers[index];
            let start = Instant::now();
            let pod = server.run_pod(Net::Host).await?;
            report.note("RunPodSandbox, host network", side, ms(start));
            report.note("Stop + Remove pod, host network", side, end(server, &pod.id).await?);
            let life = live(server, Net::Host).await?;
            report.note("RunPodSandbox, host network", side, life.run);
            report.note("Create + Start", side, life.create_start);
            life.execs.iter().for_each(|time| report.note("ExecSync true", side, *time));
            report.note("Stop + Remove pod with a container", side, life.end);
        }
        if begin.elapsed() > limit.time {
            break;
        }
    }
    Ok(())
}

/// Pods with networks of their own: the plugins alone, both servers with them, ours with its own network; in turn.
pub async fn networks(
    (ours_cni, ours, theirs): (&Server, &Server, &Server),
    plugins: &Plugins,
    report: &mut Report,
    limit: Limit,
) -> Result<()> {
    let begin = Instant::now();
    for _ in 0..limit.rounds {
        let alone = plugins.add()?;
        plugins.del()?;
        report.note("the CNI plugins alone", Side::Ours, alone);
        report.note("the CNI plugins alone", Side::Theirs, alone);
        for (side, server) in [(Side::Ours, ours_cni), (Side::Theirs, theirs)] {
            let start = Instant::now();
            let pod = server.run_pod(Net::Own).await?;
            let (run, ended) = (ms(start), end(server, &pod.id).await?);
            report.note("RunPodSandbox, same CNI plugins", side, run);
            report.note("Stop + Remove pod, same CNI plugins", side, ended);
            if side == Side::Theirs {
                report.note("RunPodSandbox, built-in network; bridge plugin", side, run);
                report.note("Stop + Remove pod, built-in network; bridge plugin", side, ended);
            }
        }
        let start = Instant::now();
        let pod = ours.run_pod(Net::Own).await?;
        report.note("RunPodSandbox, built-in network; bridge plugin", Side::Ours, ms(start));
        let ended = end(ours, &pod.id).await?;
        report.note("Stop + Remove pod, built-in network; bridge plugin", Side::Ours, ended);
        if begin.elapsed() > limit.time {
            break;
        }
    }
    above_the_plugins(report);
    Ok(())
}

/// Each sample less the plugins' median.
fn above_the_plugins(report: &mut Report) {
    let alone = crate::report::Figures::of(report.samples("the CNI plugins alone", Side::Ours));
    let Some(alone) = alone else { return };
    for side in [Side::Ours, Side::Theirs] {
        let above: Vec<f64> = report
            .samples("RunPodSandbox, same CNI plugins", side)
            .iter()
            .map(|time| time - alone.median)
            .collect();
        above.into_iter().for_each(|time| report.note("what of it is above the plugins", side, time));
    }
}

/// The names of the rows of lives that are lived at once.
pub struct Names {
    pub run: &'static str,
    pub create_start: &'static str,
    pub exec: &'static str,
    pub end: &'static str,
}

/// Four at once.
pub const FOUR: Names = Names {
    run: "4 at once: RunPodSandbox",
    create_start: "4 at once: Create + Start",
    exec: "4 at once: ExecSync true",
    end: "4 at once: Stop + Remove pod",
};
/// Thirty-two at once.
pub const THIRTY_TWO: Names = Names {
    run: "32 at once: RunPodSandbox",
    create_start: "32 at once: Create + Start",
    exec: "32 at once: ExecSync true",
    end: "32 at once: Stop + Remove pod",
};

/// `width` lives at once, on the host's network, the sides in turn; each of `width` goes through `row` lives one after the other.
pub async fn parallel(
    servers: [(Side, &Server); 2],
    (width, row): (usize, usize),
    names: &Names,
    report: &mut Report,
    limit: Limit,
) -> Result<()> {
    let begin = Instant::now();
    for round in 0..limit.rounds {
        for index in [round % 2, (round + 1) % 2] {
            let (side, server) = servers[index];
            let mut tasks = JoinSet::new();
            for _ in 0..width {
                let server = server.clone();
                tasks.spawn(async move {
                    let mut lives = Vec::new();
                    for _ in 0..row {
                        lives.push(live(&server, Net::Host).await?);
                    }
                    Ok::<_, String>(lives)
                });
            }
            while let Some(lives) = tasks.join_next().await {
                for life in lives.map_err(|error| error.to_string())?? {
                    report.note(names.run, side, life.run);
                    report.note(names.create_start, side, life.create_start);
                    life.execs.iter().for_each(|time| report.note(names.exec, side, *time));
                    report.note(names.end, side, life.end);
                }
            }
        }
        if begin.elapsed() > limit.time {
            break;
        }
    }
    Ok(())
}

/// How long a part may take: whichever is reached first.
#[derive(Clone, Copy)]
pub struct Limit {
    pub rounds: usize,
    pub time: Duration,
}
