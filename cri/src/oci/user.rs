//! Who a container runs as: the request's users, groups and policy, or the image's, with the image's own passwd and group tables.
//! It opens no files.

use crate::api;
use crate::error::{Error, Result};
use crate::image::Users;

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
    let (uid, gid, name) = primary(wanted, tables)?;
    let mut groups = vec![gid];
    if wanted.policy == api::SupplementalGroupsPolicy::Merge
        && let Some(name) = &name
    {
        let others = tables.groups_of(name).filter(|group| group.name != *name);
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
fn primary(wanted: &Wanted<'_>, tables: &Users) -> Result<(u32, u32, Option<String>)> {
    if wanted.uid.is_none() && wanted.username.is_empty() {
        if let Some(gid) = wanted.gid {
            return Err(Error::invalid(format!("run_as_group {gid} without run_as_user or run_as_username"))
                .cure("set the user too"));
        }
        return image_user(wanted.image, tables);
    }
    let gid = wanted.gid.map(|gid| id("run_as_group", gid)).transpose()?;
    let (uid, own, name) = match (wanted.username, wanted.uid) {
        ("", Some(uid)) => by_uid(id("run_as_user", uid)?, tables),
        // A number in the name's place is one, as for USER in a Dockerfile.
        (username, _) => named(username, tables).ok_or_else(|| no_user("run_as_username", username))?,
    };
    Ok((uid, gid.unwrap_or(own), name))
}

/// `USER[:GROUP]`, each a name or a number.
fn image_user(text: &str, tables: &Users) -> Result<(u32, u32, Option<String>)> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let (uid, own, name) = match user {
        "" => by_uid(0, tables),
        user => named(user, tables).ok_or_else(|| no_user("the image's USER", user))?,
    };
    let gid = match group {
        None => own,
        Some(group) => group_id(group, tables).ok_or_else(|| {
            Error::invalid(format!("find group {group:?} of the image's USER {text:?} in its /etc/group"))
                .cure("set run_as_user and run_as_group to numbers")
        })?,
    };
    Ok((uid, gid, name))
}

fn no_user(field: &str, name: &str) -> Error {
    Error::invalid(format!("find user {name:?} of {field} in the image's /etc/passwd"))
        .cure("set run_as_user to a number")
}

/// A user that the tables don't know has group 0 and no name.
fn by_uid(uid: u32, tables: &Users) -> (u32, u32, Option<String>) {
    match tables.user_of(uid) {
        Some(user) => (uid, user.gid, Some(user.name.clone())),
        None => (uid, 0, None),
    }
}

fn named(name: &str, tables: &Users) -> Option<(u32, u32, Option<String>)> {
    if let Some(user) = tables.user(name) {
        return Some((user.uid, user.gid, Some(user.name.clone())));
    }
    let uid = name.parse().ok().filter(|uid| *uid != u32::MAX)?;
    Some(by_uid(uid, tables))
}

fn group_id(name: &str, tables: &Users) -> Option<u32> {
    let named = tables.group(name).map(|group| group.gid);
    named.or_else(|| name.parse().ok().filter(|gid| *gid != u32::MAX))
}

/// KERNEL: -1 is "no change" for setuid(2) and its kin, so the last id is none.
fn id(field: &str, value: i64) -> Result<u32> {
    u32::try_from(value)
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| Error::invalid(format!("{field} {value} is not in 0..={}", u32::MAX - 1)))
}

#[cfg(test)]
mod tests;
