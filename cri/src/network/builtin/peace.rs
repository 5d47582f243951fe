//! Peace with other firewalls: docker (and many an administrator) sets the policy of iptables' FORWARD to drop, which would end
//! the pods' traffic however much our own table accepts, because a packet has to pass all tables.
//!
//! Where the policy is drop, rules that accept the bridge's traffic are appended to FORWARD: after all that others put there,
//! so that only the policy is overruled. Where it is accept, nothing is touched.

use std::fs;
use std::process::{Command, Stdio};

use super::super::nft::{Family, Is, Rule, Side, Table, Verdict};
use super::super::socket::Socket;
use super::super::wire::{attribute, text};
use crate::error::{Context, Error, Result};

const COMMENT: &str = "rt-cri: pods";

/// Sees to it that forwarded packets of a bridge pass. Cheap where nothing is to be done.
pub fn keep(socket: &mut Socket, bridge: &str) -> Result<()> {
    for family in [Family::Ip, Family::Ip6] {
        let table = Table { family, name: "filter" };
        if drops(socket, table)? && !accepted(socket, table, bridge)? {
            accept(socket, table, bridge)?;
        }
    }
    for (names, program) in LEGACY {
        let used = fs::read_to_string(names).unwrap_or_default();
        if used.lines().any(|table| table == "filter") {
            accept_legacy(program, bridge)?;
        }
    }
    Ok(())
}

/// Where the kernel says which tables the older iptables uses, and the program that speaks with it.
const LEGACY: [(&str, &str); 2] = [
    ("/proc/thread-self/net/ip_tables_names", "iptables-legacy"),
    ("/proc/thread-self/net/ip6_tables_names", "ip6tables-legacy"),
];

fn drops(socket: &mut Socket, table: Table<'_>) -> Result<bool> {
    const POLICY: u16 = 5;
    let mut drops = false;
    let asked = socket.ask(&table.get_chain("FORWARD"), |_, payload| {
        let policy = payload.get(4..).and_then(|rest| attribute(rest, POLICY));
        drops = policy.is_some_and(|code| code == [0; 4]);
    })?;
    // No such chain or table: nobody drops. No nf_tables in the kernel: neither.
    Ok(asked.is_ok() && drops)
}

fn accepted(socket: &mut Socket, table: Table<'_>, bridge: &str) -> Result<bool> {
    const NOTE: u16 = 7;
    let mut found = false;
    let mark = comment(bridge);
    socket
        .ask(&table.get_rules("FORWARD"), |_, payload| {
            let note = payload.get(4..).and_then(|rest| attribute(rest, NOTE)).and_then(|note| note.get(2..));
            found |= note.is_some_and(|note| text(note) == mark);
        })?
        .map_err(|refusal| refusal.during("list the rules of FORWARD"))?;
    Ok(found)
}

fn accept(socket: &mut Socket, table: Table<'_>, bridge: &str) -> Result<()> {
    let rules = [Side::Source, Side::Destination].map(|side| {
        let rule = Rule::new().link(side, Is::Same, bridge).count().then(Verdict::Accept);
        table.add_rule("FORWARD", &rule.comment(comment(bridge)))
    });
    socket.commit(rules.into())?.map_err(|refusal| refusal.during("accept the bridge's traffic in FORWARD"))
}

fn comment(bridge: &str) -> String {
    format!("{COMMENT} of {bridge}")
}

/// By its own program: its rules are no netlink objects.
fn accept_legacy(program: &str, bridge: &str) -> Result<()> {
    let policy = run(program, &["-w", "5", "-S", "FORWARD"])?;
    if !policy.stdout.starts_with(b"-P FORWARD DROP") {
        return Ok(());
    }
    for side in ["-i", "-o"] {
        let rule = ["FORWARD", side, bridge, "-m", "comment", "--comment", COMMENT, "-j", "ACCEPT"];
        let with = |verb| ["-w", "5", verb].into_iter().chain(rule).collect::<Vec<_>>();
        if !run(program, &with("-C"))?.status.success() {
            let added = run(program, &with("-A"))?;
            if !added.status.success() {
                let words = String::from_utf8_lossy(&added.stderr).trim().to_owned();
                return Err(Error::internal(words).during(format!("{program} {}", with("-A").join(" "))));
            }
        }
    }
    Ok(())
}

fn run(program: &str, arguments: &[&str]) -> Result<std::process::Output> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    output.what(|| format!("run {program}")).map_err(|error| {
        error.cure("install iptables: its policy for forwarded packets may end the pods' traffic")
    })
}
