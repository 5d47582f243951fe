//! The container's cgroup: where it is, which files get which values, which devices may be used.
//!
//! It knows cgroup2 only and does not look at the host: what a host lacks is found out when the plan is applied.

mod convert;
mod devices;
mod limits;
mod place;
pub mod property;
mod resources;
pub mod unit;
mod variant;

use serde::Serialize;

use crate::error::Result;
use crate::spec::{Annotations, Resources};

pub use devices::DeviceProgram;
pub use limits::{Need, OnError, Write};
pub use place::Place;

/// Who makes the cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// mkdir in the cgroup2 file system.
    Cgroupfs,
    /// systemd, as a scope.
    Systemd,
}

/// What the limits are for.
#[derive(Debug, Clone, Copy)]
pub enum Purpose<'a> {
    /// A new container: what is not given has the kernel's default.
    Create,
    /// A running one: only what is given is changed. Values that depend on each other are completed from the limits in force.
    Update(Option<&'a Resources>),
}

/// What the plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The container's id.
    pub id: &'a str,
    /// `linux.cgroupsPath`.
    pub cgroups_path: Option<&'a str>,
    /// `linux.resources`.
    pub resources: Option<&'a Resources>,
    /// `org.systemd.property.*` are the systemd driver's.
    pub annotations: Option<&'a Annotations>,
    /// Who makes the cgroup.
    pub driver: Driver,
    /// What the limits are for.
    pub purpose: Purpose<'a>,
}

/// What is done about the cgroup.
#[derive(Debug, Clone, Serialize)]
pub struct CgroupPlan {
    /// Where it is.
    pub place: Place,
    /// In the order in which they are made.
    pub writes: Vec<Write>,
    /// Who may use which device; `None`: not changed (an update without device rules).
    pub devices: Option<DeviceProgram>,
    /// Refuse memory limits below what is used now.
    pub memory_check: Option<MemoryCheck>,
    /// Properties of the systemd unit; empty with cgroupfs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<property::Property>,
    /// What is ignored here, to be shown.
    pub warnings: Vec<String>,
}

/// Bytes that a memory limit must be above of, in files of the cgroup. SPEC: config-linux.md#memory, checkBeforeUpdate
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryCheck {
    /// Compared with memory.current.
    pub limit: Option<u64>,
    /// Compared with memory.current + memory.swap.current.
    pub limit_and_swap: Option<u64>,
}

/// Makes the plan. SPEC: config-linux.md#control-groups
pub fn plan(request: &Request<'_>) -> Result<CgroupPlan> {
    let none = Resources::default();
    let resources = request.resources.unwrap_or(&none);
    let mut warnings = Vec::new();
    let place = place::plan(request, &mut warnings)?;
    let mut limits = resources::plan(resources, request.purpose, &mut warnings)?;
    let devices = match request.purpose {
        Purpose::Update(_) if resources.devices.is_empty() => None,
        _ => Some(DeviceProgram::compile(&resources.devices)?),
    };
    let properties = match request.driver {
        Driver::Cgroupfs => Vec::new(),
        Driver::Systemd => {
            unit::round_quota(&mut limits.writes);
            unit::properties(request, &limits.writes, &place)?
        }
    };
    Ok(CgroupPlan {
        place,
        writes: limits.writes,
        devices,
        memory_check: limits.memory_check,
        properties,
        warnings,
    })
}
