//! Who a container runs as: the request's users, groups and policy, or the image's, with the image's own passwd and group tables.
//! It opens no files.

use crate::api;
use crate::error::{Error, Result};
use crate::image::userspec::{self, LAST_ID, Resolved};
use crate::image::{UserSpec, Users};

/// What decides who a container runs as. SPEC: LinuxContainerSecurityContext
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// `run_as_user`
    pub uid: Option<i64>,
    /// `run_as_group`
    pub gid: Option<i64>,
    /// `run_as_username`; empty: none.
    pub username: &'a str,
    /// `supplemental_groups`
    pub groups: &'a [i64],
    /// `supplemental_groups_policy`
    pub policy: api::SupplementalGroupsPolicy,
    /// The image's `User`; empty: root.
    pub image: &'a str,
}

/// The ids of the first process. Its primary group is the first of its supplemental ones, as in containerd and in `id -G`.
pub fn resolve(wanted: &Wanted<'_>, tables: &Users) -> Result<api::LinuxContainerUser> {
    let Resolved { uid, gid, entry } = primary(wanted, tables)?;
    let mut groups = vec![gid];
    if wanted.policy == api::SupplementalGroupsPolicy::Merge
        && let Some(user) = entry
    {
        let others = tables.groups_of(&user.name).filter(|group| group.name != user.name);
        groups.extend(others.map(|group| group.gid));
    }
    for group in wanted.groups {
        groups.push(id("supplemental_groups", *group)?);
    }
    let mut known = Vec::with_capacity(groups.len());
    for group in groups.into_iter().map(i64::from) {
        if !known.contains(&group) {
            known.push(group);
        }
    }
    Ok(api::LinuxContainerUser { uid: uid.into(), gid: gid.into(), supplemental_groups: known })
}

/// User id, group id, and the name in the tables.
fn primary<'a>(wanted: &Wanted<'_>, tables: &'a Users) -> Result<Resolved<'a>> {
    let gid = wanted.gid.map(|gid| id("run_as_group", gid)).transpose()?;
    let user = match (wanted.uid, wanted.username) {
        (None, "") => {
            if let Some(gid) = gid {
                let text = format!("run_as_group {gid} without run_as_user or run_as_username");
                return Err(Error::invalid(text).cure("set the user too"));
            }
            return UserSpec::parse(wanted.image)?.resolve(tables);
        }
        (Some(uid), "") => userspec::by_id(id("run_as_user", uid)?, tables),
        // A number in the name's place is one, as for USER in a Dockerfile.
        (None, name) => userspec::alone("run_as_username", name, tables)?,
        (Some(uid), name) => {
            let text = format!("run_as_user {uid} and run_as_username {name:?} are both set");
            return Err(Error::invalid(text).cure("set one of them"));
        }
    };
    Ok(Resolved { gid: gid.unwrap_or(user.gid), ..user })
}

/// KERNEL: -1 is "no change" for setuid(2) and its kin, so the last id is none.
fn id(field: &str, value: i64) -> Result<u32> {
    u32::try_from(value)
        .ok()
        .filter(|id| *id <= LAST_ID)
        .ok_or_else(|| Error::invalid(format!("{field} {value} is not in 0..={LAST_ID}")))
}

#[cfg(test)]
mod tests;
