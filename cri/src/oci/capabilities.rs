//! Capabilities of a container: the default set, what is added to it and dropped from it. SPEC: Capability
//!
//! It does not know which of them a user that is not root keeps: that is the kernel's rule.

use std::collections::HashSet;
use std::str::FromStr;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};

use super::{Host, empty};
use crate::api;
use crate::error::{Error, Result};

/// What a container has that asks for nothing: containerd's and docker's set.
pub const DEFAULT: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// The five sets of an ordinary container. `ALL` comes first, on either side; then a name that is added, then one that is dropped.
pub fn of_container(wanted: Option<&api::Capability>, host: &Host) -> Result<LinuxCapabilities> {
    let default = DEFAULT.iter().copied().filter(|capability| host.capabilities.contains(capability));
    let mut set: HashSet<Capability> = default.collect();
    let none = api::Capability::default();
    let wanted = wanted.unwrap_or(&none);
    if wanted.add_capabilities.iter().any(|name| is_all(name)) {
        set.clone_from(&host.capabilities);
    }
    if wanted.drop_capabilities.iter().any(|name| is_all(name)) {
        set.clear();
    }
    let added = named("add_capabilities", &wanted.add_capabilities)?;
    let ambient = if wanted.add_ambient_capabilities.iter().any(|name| is_all(name)) {
        host.capabilities.iter().copied().collect()
    } else {
        named("add_ambient_capabilities", &wanted.add_ambient_capabilities)?
    };
    for capability in added.iter().chain(&ambient) {
        if !host.capabilities.contains(capability) {
            return Err(Error::unsupported(format!("capability {capability} can't be given on this host"))
                .cure("the kernel doesn't know it, or the server itself lacks it"));
        }
        set.insert(*capability);
    }
    let dropped = named("drop_capabilities", &wanted.drop_capabilities)?;
    set.retain(|capability| !dropped.contains(capability));
    let ambient: HashSet<Capability> =
        ambient.into_iter().filter(|capability| set.contains(capability)).collect();
    Ok(sets(&set, &ambient))
}

/// Everything that there is.
pub fn privileged(host: &Host) -> LinuxCapabilities {
    sets(&host.capabilities, &HashSet::new())
}

/// CVE-2022-24769: nothing is inheritable but what is ambient, for which it must be.
fn sets(set: &HashSet<Capability>, ambient: &HashSet<Capability>) -> LinuxCapabilities {
    let of = |set: &HashSet<Capability>| -> Option<Capabilities> { Some(set.iter().copied().collect()) };
    let mut sets = empty::capabilities();
    sets.set_bounding(of(set)).set_effective(of(set)).set_permitted(of(set));
    if !ambient.is_empty() {
        sets.set_inheritable(of(ambient)).set_ambient(of(ambient));
    }
    sets
}

fn is_all(name: &str) -> bool {
    name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL")
}

/// Names with or without `CAP_`, in any case; `ALL` is left out.
fn named(field: &str, names: &[String]) -> Result<Vec<Capability>> {
    let one = |name: &String| {
        let upper = name.to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        Capability::from_str(short)
            .map_err(|_| Error::invalid(format!("capabilities.{field}: unknown capability {name:?}")))
    };
    names.iter().filter(|name| !is_all(name)).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn bounding(add: &[&str], drop: &[&str]) -> Result<Vec<String>> {
        let words = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect();
        let wanted = api::Capability {
            add_capabilities: words(add),
            drop_capabilities: words(drop),
            add_ambient_capabilities: Vec::new(),
        };
        let sets = of_container(Some(&wanted), &testing::host())?;
        assert_eq!(sets.bounding(), sets.permitted());
        assert_eq!(sets.bounding(), sets.effective());
        assert_eq!(sets.inheritable(), &None);
        let mut names: Vec<_> = sets.bounding().iter().flatten().map(ToString::to_string).collect();
        names.sort();
        Ok(names)
    }

    #[test]
    fn all_comes_first_then_what_is_added_then_what_is_dropped() {
        assert_eq!(bounding(&[], &[]).unwrap().len(), DEFAULT.len());
        assert_eq!(bounding(&["NET_ADMIN"], &["ALL"]).unwrap(), ["NET_ADMIN"]);
        assert_eq!(bounding(&["cap_net_admin", "all"], &["all"]).unwrap(), ["NET_ADMIN"]);
        assert_eq!(bounding(&["ALL"], &["CHOWN"]).unwrap().len(), testing::host().capabilities.len() - 1);
        assert_eq!(bounding(&["CHOWN"], &["CAP_CHOWN"]).unwrap().len(), DEFAULT.len() - 1);
    }

    #[test]
    fn ambient_ones_are_inheritable_too() {
        let wanted = api::Capability {
            add_ambient_capabilities: vec!["NET_ADMIN".into(), "CHOWN".into()],
            drop_capabilities: vec!["CHOWN".into()],
            ..Default::default()
        };
        let sets = of_container(Some(&wanted), &testing::host()).unwrap();
        let only: Option<Capabilities> = Some([Capability::NetAdmin].into());
        assert_eq!((sets.ambient(), sets.inheritable()), (&only, &only));
        assert!(sets.permitted().as_ref().unwrap().contains(&Capability::NetAdmin));
    }

    #[test]
    fn mistakes_are_named() {
        for (add, drop, message) in [
            (&["FLY"][..], &[][..], "capabilities.add_capabilities: unknown capability \"FLY\""),
            (&[], &["NET_RAV"], "capabilities.drop_capabilities: unknown capability \"NET_RAV\""),
            (
                &["MAC_ADMIN"],
                &[],
                "capability MAC_ADMIN can't be given on this host (the kernel doesn't know it, or the server itself lacks it)",
            ),
        ] {
            assert_eq!(bounding(add, drop).unwrap_err().to_string(), message);
        }
    }
}
