//! Many pods on one machine: all are reachable over their addresses, and when they are removed nothing is left.
//!
//! `RT_CRI_PODS` says how many (12; `hack/soak cri` takes 500).

use crate::surroundings;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};
use tests::cri::api::v1;
use tests::cri::{BUSYBOX, Surroundings};
use tokio::task::JoinSet;
use tonic::Status;

type Calls = v1::runtime_service_client::RuntimeServiceClient<tonic::transport::Channel>;

/// How many are made or removed at a time.
const AT_ONCE: usize = 8;
const PORT: u16 = 8080;

fn sandbox(here: &Surroundings, number: usize) -> v1::PodSandboxConfig {
    let (name, uid) = (format!("pod-{number}"), format!("uid-{number}"));
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata { name, uid, namespace: "n".into(), attempt: 0 }),
        hostname: format!("pod-{number}"),
        log_directory: here.case().dir().join("logs").to_string_lossy().into_owned(),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: here.case().cgroup().to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A pod with a container that answers its hostname by HTTP; the pod's id and address.
async fn one(mut cri: Calls, config: v1::PodSandboxConfig) -> Result<(String, String, IpAddr), Status> {
    let request = v1::RunPodSandboxRequest { config: Some(config.clone()), ..Default::default() };
    let id = cri.run_pod_sandbox(request).await?.into_inner().pod_sandbox_id;
    let serve = format!("hostname >/tmp/index.html && exec httpd -f -p {PORT} -h /tmp");
    let container = v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "web".into(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: BUSYBOX.into(), ..Default::default() }),
        command: vec!["sh".into(), "-c".into(), serve],
        log_path: format!("{}.log", config.hostname),
        ..Default::default()
    };
    let hostname = config.hostname.clone();
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: id.clone(),
        config: Some(container),
        sandbox_config: Some(config),
    };
    let container_id = cri.create_container(request).await?.into_inner().container_id;
    cri.start_container(v1::StartContainerRequest { container_id }).await?;
    let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: false };
    let status = cri.pod_sandbox_status(request).await?.into_inner().status.unwrap_or_default();
    let ip = status.network.unwrap_or_default().ip;
    let ip = ip.parse().map_err(|_| Status::internal(format!("pod {id} has the address {ip:?}")))?;
    Ok((id, hostname, ip))
}

/// Does all of it, a few at a time.
async fn each<T, F>(work: impl Iterator<Item = F>) -> Vec<T>
where
    F: std::future::Future<Output = Result<T, Status>> + Send + 'static,
    T: Send + 'static,
{
    let (mut done, mut running) = (Vec::new(), JoinSet::new());
    for one in work {
        if running.len() == AT_ONCE {
            done.extend(running.join_next().await);
        }
        running.spawn(one);
    }
    while let Some(result) = running.join_next().await {
        done.push(result);
    }
    done.into_iter().map(|result| result.expect("no panic").expect("the call succeeds")).collect()
}

/// What is served at an address, if anything is yet.
fn get(ip: IpAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(ip, PORT), Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.rsplit("\r\n\r\n").next()?.trim().to_owned())
}

#[test]
fn many_pods_are_all_reachable_and_leave_nothing() {
    let count: usize = std::env::var("RT_CRI_PODS").map_or(12, |text| text.parse().expect("RT_CRI_PODS"));
    let here = surroundings!();
    let client = here.client();
    let begin = Instant::now();
    let pods = client.wait(each((0..count).map(|number| one(client.cri(), sandbox(&here, number)))));
    let made = begin.elapsed();
    let addresses: BTreeSet<IpAddr> = pods.iter().map(|(_, _, ip)| *ip).collect();
    assert_eq!(addresses.len(), count, "two pods have one address");
    for (id, hostname, ip) in &pods {
        let said = tests::until(&format!("pod {id} answers at {ip}"), || get(*ip));
        assert_eq!(said, *hostname, "somebody else answers at {ip}");
    }
    let begin = Instant::now();
    client.wait(each(pods.into_iter().map(|(id, _, _)| {
        let mut cri = client.cri();
        async move { cri.remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: id }).await }
    })));
    println!("{count} pods: made in {made:?}, removed in {:?}", begin.elapsed());
    assert_eq!(here.remains(), Vec::<String>::new());
    // The kernel takes the interfaces of a network namespace away behind its end.
    tests::until("no interface is left", || {
        let links = Command::new("ip").args(["-oneline", "link"]).output().expect("ip runs").stdout;
        let links = String::from_utf8(links).expect("text");
        links.lines().all(|link| link.contains(": lo:") || link.contains(": rt0:")).then_some(())
    });
}
