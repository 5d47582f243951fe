//! CRI's RuntimeService: each RPC is one call of what does it. It decides nothing.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use prost::Message;
use tonic::{Request, Response};

use super::answer::{Answer, Items, answer, chunks};
use super::condition;
use crate::api;
use crate::api::runtime_service_server::RuntimeService;
use crate::bounds;
use crate::error::Error;
use crate::node::Node;
use crate::{container, sandbox, stats};

/// The service.
pub struct Service {
    node: Arc<Node>,
    streams: Arc<crate::stream::Server>,
}

impl Service {
    /// For a node that is recovered.
    pub fn new(node: Arc<Node>, streams: Arc<crate::stream::Server>) -> Self {
        Self { node, streams }
    }
}

/// CRIU would have to work with the runtime, and `rt` has no checkpoint.
fn no_checkpoints(what: &str) -> Error {
    Error::unsupported(format!("{what}: rt can't checkpoint or restore processes, with CRIU or without"))
        .cure("run it anew: nothing was changed")
}

#[tonic::async_trait]
impl RuntimeService for Service {
    type StreamPodSandboxesStream = Items<api::StreamPodSandboxesResponse>;
    type StreamContainersStream = Items<api::StreamContainersResponse>;
    type StreamContainerStatsStream = Items<api::StreamContainerStatsResponse>;
    type StreamPodSandboxStatsStream = Items<api::StreamPodSandboxStatsResponse>;
    type StreamPodSandboxMetricsStream = Items<api::StreamPodSandboxMetricsResponse>;
    type GetContainerEventsStream = Items<api::ContainerEventResponse>;

    async fn version(&self, _: Request<api::VersionRequest>) -> Answer<api::VersionResponse> {
        Ok(Response::new(api::VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: "rt".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_api_version: "v1".to_owned(),
        }))
    }

    async fn status(&self, request: Request<api::StatusRequest>) -> Answer<api::StatusResponse> {
        Ok(Response::new(condition::status(&self.node, request.get_ref().verbose)))
    }

    async fn runtime_config(
        &self,
        _: Request<api::RuntimeConfigRequest>,
    ) -> Answer<api::RuntimeConfigResponse> {
        Ok(Response::new(condition::runtime_config(&self.node)))
    }

    async fn update_runtime_config(
        &self,
        request: Request<api::UpdateRuntimeConfigRequest>,
    ) -> Answer<api::UpdateRuntimeConfigResponse> {
        let network = request.into_inner().runtime_config.and_then(|config| config.network_config);
        let ranges = network.map(|network| network.pod_cidr).unwrap_or_default();
        let ranges = ranges.split(',').map(str::trim).filter(|range| !range.is_empty());
        let set = self.node.network.set_ranges(ranges.map(str::to_owned).collect());
        answer(async { set.map(|()| api::UpdateRuntimeConfigResponse {}) }).await
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<api::RunPodSandboxRequest>,
    ) -> Answer<api::RunPodSandboxResponse> {
        answer(async {
            let pod_sandbox_id = sandbox::run::run(&self.node, request.into_inner()).await?;
            Ok(api::RunPodSandboxResponse { pod_sandbox_id })
        })
        .await
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<api::StopPodSandboxRequest>,
    ) -> Answer<api::StopPodSandboxResponse> {
        answer(async {
            sandbox::stop::stop(&self.node, &request.get_ref().pod_sandbox_id).await?;
            Ok(api::StopPodSandboxResponse {})
        })
        .await
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<api::RemovePodSandboxRequest>,
    ) -> Answer<api::RemovePodSandboxResponse> {
        answer(async {
            sandbox::remove::remove(&self.node, &request.get_ref().pod_sandbox_id).await?;
            Ok(api::RemovePodSandboxResponse {})
        })
        .await
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<api::PodSandboxStatusRequest>,
    ) -> Answer<api::PodSandboxStatusResponse> {
        answer(async { sandbox::status::answer(&self.node, request.get_ref()) }).await
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<api::ListPodSandboxRequest>,
    ) -> Answer<api::ListPodSandboxResponse> {
        let items = sandbox::list::fitting(&self.node, request.get_ref().filter.as_ref());
        Ok(Response::new(api::ListPodSandboxResponse { items }))
    }

    async fn stream_pod_sandboxes(
        &self,
        request: Request<api::StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        let items = sandbox::list::list(&self.node, request.get_ref().filter.as_ref());
        chunks(items, |pod_sandboxes| api::StreamPodSandboxesResponse { pod_sandboxes })
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<api::UpdatePodSandboxResourcesRequest>,
    ) -> Answer<api::UpdatePodSandboxResourcesResponse> {
        answer(async {
            sandbox::update::update(&self.node, request.into_inner()).await?;
            Ok(api::UpdatePodSandboxResourcesResponse {})
        })
        .await
    }

    async fn create_container(
        &self,
        request: Request<api::CreateContainerRequest>,
    ) -> Answer<api::CreateContainerResponse> {
        answer(async {
            let container_id = container::create::create(&self.node, request.into_inner()).await?;
            Ok(api::CreateContainerResponse { container_id })
        })
        .await
    }

    async fn start_container(
        &self,
        request: Request<api::StartContainerRequest>,
    ) -> Answer<api::StartContainerResponse> {
        answer(async {
            container::start::start(&self.node, &request.get_ref().container_id).await?;
            Ok(api::StartContainerResponse {})
        })
        .await
    }

    async fn stop_container(
        &self,
        request: Request<api::StopContainerRequest>,
    ) -> Answer<api::StopContainerResponse> {
        answer(async {
            let request = request.get_ref();
            container::stop::stop(&self.node, &request.container_id, request.timeout).await?;
            Ok(api::StopContainerResponse {})
        })
        .await
    }

    async fn remove_container(
        &self,
        request: Request<api::RemoveContainerRequest>,
    ) -> Answer<api::RemoveContainerResponse> {
        answer(async {
            container::remove::remove(&self.node, &request.get_ref().container_id).await?;
            Ok(api::RemoveContainerResponse {})
        })
        .await
    }

    async fn list_containers(
        &self,
        request: Request<api::ListContainersRequest>,
    ) -> Answer<crate::encoded::Encoded> {
        Ok(Response::new(container::list::encoded(&self.node, request.get_ref().filter.as_ref())))
    }

    async fn stream_containers(
        &self,
        request: Request<api::StreamContainersRequest>,
    ) -> Answer<Self::StreamContainersStream> {
        let items = container::list::list(&self.node, request.get_ref().filter.as_ref());
        chunks(items, |containers| api::StreamContainersResponse { containers })
    }

    async fn container_status(
        &self,
        request: Request<api::ContainerStatusRequest>,
    ) -> Answer<api::ContainerStatusResponse> {
        answer(async { container::status::answer(&self.node, request.get_ref()) }).await
    }

    async fn update_container_resources(
        &self,
        request: Request<api::UpdateContainerResourcesRequest>,
    ) -> Answer<api::UpdateContainerResourcesResponse> {
        answer(async {
            container::update::update(&self.node, request.into_inner()).await?;
            Ok(api::UpdateContainerResourcesResponse {})
        })
        .await
    }

    async fn reopen_container_log(
        &self,
        request: Request<api::ReopenContainerLogRequest>,
    ) -> Answer<api::ReopenContainerLogResponse> {
        answer(async {
            container::log::reopen(&self.node, &request.get_ref().container_id).await?;
            Ok(api::ReopenContainerLogResponse {})
        })
        .await
    }

    async fn exec_sync(&self, request: Request<api::ExecSyncRequest>) -> Answer<api::ExecSyncResponse> {
        answer(container::exec::sync(&self.node, request.into_inner())).await
    }

    async fn exec(&self, request: Request<api::ExecRequest>) -> Answer<api::ExecResponse> {
        answer(async { crate::stream::rpc::exec(&self.node, &self.streams, request.into_inner()) }).await
    }

    async fn attach(&self, request: Request<api::AttachRequest>) -> Answer<api::AttachResponse> {
        answer(async { crate::stream::rpc::attach(&self.node, &self.streams, request.get_ref()) }).await
    }

    async fn port_forward(
        &self,
        request: Request<api::PortForwardRequest>,
    ) -> Answer<api::PortForwardResponse> {
        answer(async { crate::stream::rpc::forward(&self.node, &self.streams, request.get_ref()) }).await
    }

    async fn container_stats(
        &self,
        request: Request<api::ContainerStatsRequest>,
    ) -> Answer<api::ContainerStatsResponse> {
        let asked = request.into_inner().container_id;
        answer(async {
            Ok(api::ContainerStatsResponse { stats: Some(stats::container(&self.node, &asked).await?) })
        })
        .await
    }

    async fn list_container_stats(
        &self,
        request: Request<api::ListContainerStatsRequest>,
    ) -> Answer<crate::encoded::Listed> {
        let filter = request.into_inner().filter;
        answer(async {
            let encode = |stats: api::ContainerStats| Bytes::from(stats.encode_to_vec());
            let items = stats::containers(&self.node, filter.as_ref(), encode).await?;
            if items.iter().map(|item| item.len() + 8).sum::<usize>() <= bounds::ANSWER {
                return Ok(crate::encoded::Listed { items });
            }
            let mut all = stats::containers(&self.node, filter.as_ref(), std::convert::identity).await?;
            bounds::fit("list statistics of containers", &mut all, bounds::ANSWER);
            Ok(crate::encoded::Listed { items: all.into_iter().map(encode).collect() })
        })
        .await
    }

    async fn stream_container_stats(
        &self,
        request: Request<api::StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        let filter = request.into_inner().filter;
        let all = stats::containers(&self.node, filter.as_ref(), std::convert::identity).await?;
        chunks(all, |container_stats| api::StreamContainerStatsResponse { container_stats })
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<api::PodSandboxStatsRequest>,
    ) -> Answer<api::PodSandboxStatsResponse> {
        let asked = request.into_inner().pod_sandbox_id;
        answer(async {
            let mut stats = stats::sandbox(&self.node, &asked).await?;
            bounds::fit("tell statistics of a sandbox", std::slice::from_mut(&mut stats), bounds::ANSWER);
            Ok(api::PodSandboxStatsResponse { stats: Some(stats) })
        })
        .await
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<api::ListPodSandboxStatsRequest>,
    ) -> Answer<api::ListPodSandboxStatsResponse> {
        let filter = request.into_inner().filter;
        answer(async {
            let mut stats = stats::sandboxes(&self.node, filter.as_ref()).await?;
            bounds::fit("list statistics of sandboxes", &mut stats, bounds::ANSWER);
            Ok(api::ListPodSandboxStatsResponse { stats })
        })
        .await
    }

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<api::StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        let all = stats::sandboxes(&self.node, request.into_inner().filter.as_ref()).await?;
        chunks(all, |pod_sandbox_stats| api::StreamPodSandboxStatsResponse { pod_sandbox_stats })
    }

    async fn checkpoint_container(
        &self,
        request: Request<api::CheckpointContainerRequest>,
    ) -> Answer<api::CheckpointContainerResponse> {
        answer(async {
            let container = self.node.container(&request.get_ref().container_id)?;
            Err(no_checkpoints(&format!("checkpoint container {}", container.id)))
        })
        .await
    }

    async fn checkpoint_pod(
        &self,
        request: Request<api::CheckpointPodRequest>,
    ) -> Answer<api::CheckpointPodResponse> {
        answer(async {
            let sandbox = self.node.sandbox(&request.get_ref().pod_sandbox_id)?;
            Err(no_checkpoints(&format!("checkpoint pod {}", sandbox.id)))
        })
        .await
    }

    async fn restore_pod(&self, _: Request<api::RestorePodRequest>) -> Answer<api::RestorePodResponse> {
        answer(async { Err(no_checkpoints("restore a pod")) }).await
    }

    async fn get_container_events(
        &self,
        _: Request<api::GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        let node = Arc::clone(&self.node);
        let standing = move || sandbox::status::standing(&node);
        Ok(Response::new(Arc::clone(&self.node.events).follow(standing).map(Ok).boxed()))
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<api::ListMetricDescriptorsRequest>,
    ) -> Answer<api::ListMetricDescriptorsResponse> {
        Ok(Response::new(api::ListMetricDescriptorsResponse { descriptors: stats::descriptors() }))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<api::ListPodSandboxMetricsRequest>,
    ) -> Answer<api::ListPodSandboxMetricsResponse> {
        answer(async {
            let mut pod_metrics = stats::pod_metrics(&self.node).await?;
            bounds::fit("list metrics of sandboxes", &mut pod_metrics, bounds::ANSWER);
            Ok(api::ListPodSandboxMetricsResponse { pod_metrics })
        })
        .await
    }

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<api::StreamPodSandboxMetricsRequest>,
    ) -> Answer<Self::StreamPodSandboxMetricsStream> {
        let all = stats::pod_metrics(&self.node).await?;
        chunks(all, |pod_sandbox_metrics| api::StreamPodSandboxMetricsResponse { pod_sandbox_metrics })
    }
}
