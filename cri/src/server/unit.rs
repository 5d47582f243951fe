//! What the unit may say: nothing that containers would inherit.

/// The unit, with whatever is said of it.
const UNIT: &str = include_str!("../../../hack/rt-cri.service");

/// Beginnings of options that a process hands down to all that it executes, or that make a mount namespace.
const INHERITED: [&str; 19] = [
    "NoNewPrivileges",
    "SystemCall",
    "Restrict",
    "Protect",
    "Private",
    "ReadOnly",
    "ReadWrite",
    "Inaccessible",
    "Exec",
    "NoExec",
    "Temporary",
    "Bind",
    "Root",
    "CapabilityBoundingSet",
    "AmbientCapabilities",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "DynamicUser",
    "Mount",
];

#[test]
fn the_unit_gives_containers_no_restriction_that_their_pods_have_not_asked_for() {
    for line in UNIT.lines().filter(|line| !line.starts_with('#')) {
        let option = line.split('=').next().unwrap_or_default();
        let is_command = ["ExecStart", "ExecStartPre"].contains(&option);
        // Of /var/lib/rt and /run/rt: systemd makes them, and no namespace.
        let bad = INHERITED.iter().find(|beginning| option.starts_with(*beginning) && !is_command);
        assert_eq!(bad, None, "{line}: shims and containers inherit it");
    }
}

#[test]
fn what_is_made_before_the_server_starts_is_roots_alone_and_outlives_it() {
    for line in [
        "StateDirectoryMode=0700",
        "RuntimeDirectoryMode=0700",
        "RuntimeDirectoryPreserve=yes",
        "KillMode=process",
    ] {
        assert!(UNIT.lines().any(|there| there == line), "{line} is not there");
    }
    let socket = include_str!("../../../hack/rt-cri.socket");
    assert!(socket.lines().any(|line| line == "DirectoryMode=0700"), "{socket}");
}
