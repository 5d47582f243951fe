//! Capability names → bit masks. What the host lacks is dropped later, in the parent, which can see it.

use std::str::FromStr;

use serde::Serialize;

use crate::spec;

/// `CAP_SYS_ADMIN` as a bit mask.
pub const SYS_ADMIN: u64 = 1 << 21;

/// The five sets as bit masks; bit n is capability number n.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// Upper bound for what execve(2) can give.
    pub bounding: u64,
    /// In force.
    pub effective: u64,
    /// Handed on by execve(2).
    pub inheritable: u64,
    /// May be put into force.
    pub permitted: u64,
    /// Survives execve(2).
    pub ambient: u64,
}

/// The masks, and the names that nobody knows: they are ignored with a warning, as runc does.
pub fn plan(sets: &spec::Capabilities) -> (Capabilities, Vec<String>) {
    let mut unknown = Vec::new();
    let mut mask = |names: &[String]| {
        let mut bits = 0;
        for name in names {
            match number(name) {
                Some(number) => bits |= 1 << number,
                None if unknown.contains(name) => {}
                None => unknown.push(name.clone()),
            }
        }
        bits
    };
    let capabilities = Capabilities {
        bounding: mask(&sets.bounding),
        effective: mask(&sets.effective),
        inheritable: mask(&sets.inheritable),
        permitted: mask(&sets.permitted),
        ambient: mask(&sets.ambient),
    };
    (capabilities, unknown)
}

/// `CAP_NET_RAW`, in any case → its number.
pub fn number(name: &str) -> Option<u8> {
    let known =
        caps::Capability::from_str(name).or_else(|_| caps::Capability::from_str(&name.to_ascii_uppercase()));
    known.ok().map(|capability| capability.index())
}

/// The names of the bits of a mask, as configs write them.
pub fn each(mask: u64) -> impl Iterator<Item = String> {
    caps::all().into_iter().filter(move |c| mask >> c.index() & 1 == 1).map(|c| c.to_string())
}

/// The same for messages.
pub fn names(mask: u64) -> String {
    each(mask).collect::<Vec<_>>().join(", ")
}

impl Capabilities {
    /// Without the bits that are not in `possible`.
    #[must_use]
    pub fn within(self, possible: u64) -> Self {
        Self {
            bounding: self.bounding & possible,
            effective: self.effective & possible,
            inheritable: self.inheritable & possible,
            permitted: self.permitted & possible,
            ambient: self.ambient & possible,
        }
    }

    /// Every capability that is in some set.
    pub fn any(self) -> u64 {
        self.bounding | self.effective | self.inheritable | self.permitted | self.ambient
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_bits_and_strangers_are_reported_once() {
        let list: spec::List<String> =
            ["CAP_CHOWN", "cap_sys_admin", "CAP_FLY"].map(String::from).into_iter().collect();
        let (sets, unknown) =
            plan(&spec::Capabilities { bounding: list.clone(), permitted: list, ..Default::default() });
        assert_eq!(sets.bounding, 1 | 1 << 21);
        assert_eq!(sets.permitted, sets.bounding);
        assert_eq!(unknown, ["CAP_FLY"]);
        assert_eq!(names(1 << 40), "CAP_CHECKPOINT_RESTORE");
    }
}
