//! `linux.memoryPolicy` → the numbers of set_mempolicy(2). SPEC: config-linux.md#memory-policy

use serde::Serialize;

use super::scheduling::numbers;
use crate::error::{Error, Result};
use crate::spec;

/// set_mempolicy(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryPolicy {
    /// `MPOL_*`, with its `MPOL_F_*` flags.
    pub mode: u32,
    /// Nodes as a bit mask.
    pub nodes: Vec<u64>,
}

/// KERNEL: include/uapi/linux/mempolicy.h
pub const MODES: [(&str, u32); 7] = [
    ("MPOL_DEFAULT", 0),
    ("MPOL_PREFERRED", 1),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];
/// KERNEL: include/uapi/linux/mempolicy.h
pub const FLAGS: [(&str, u32); 3] = [
    ("MPOL_F_STATIC_NODES", 1 << 15),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
];

/// Checks names and the node list.
pub fn plan(policy: &spec::MemoryPolicy) -> Result<MemoryPolicy> {
    let find = |table: &[(&str, u32)], name: &str| {
        table.iter().find(|(known, _)| *known == name).map(|(_, value)| *value).ok_or_else(|| {
            let known: Vec<_> = table.iter().map(|(known, _)| *known).collect();
            Error::invalid(format!("linux.memoryPolicy: unknown value {name:?}"))
                .cure(format!("it is one of {}", known.join(", ")))
        })
    };
    let mut mode = find(&MODES, &policy.mode)?;
    for flag in &policy.flags {
        mode |= find(&FLAGS, flag)?;
    }
    let mut nodes = Vec::new();
    if let Some(list) = policy.nodes.as_deref().filter(|list| !list.is_empty()) {
        let all = numbers(list).ok_or_else(|| {
            Error::invalid(format!("linux.memoryPolicy.nodes: {list:?} is not a list of nodes"))
                .cure("write it as in \"0-3,7\"")
        })?;
        nodes.resize(all.iter().max().map_or(0, |most| *most as usize / 64 + 1), 0);
        for node in all {
            nodes[node as usize / 64] |= 1 << (node % 64);
        }
    }
    Ok(MemoryPolicy { mode, nodes })
}
