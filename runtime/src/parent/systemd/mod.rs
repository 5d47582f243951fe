//! systemd's side of a container's cgroup: a scope around its first process, with its limits as properties; their change; its end.
//!
//! The files of the cgroup are written as well, by [`super::cgroup`]: not everything has a property.

mod connection;
mod wire;

use std::time::Duration;

use crate::error::{Context, Error, Kind, Result};
use crate::plan::cgroup::property::{Property, Value};
use connection::{Connection, Refusal, refused};
use wire::{Call, Message, Writer};

/// As runc: systemd may have much to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// systemd's main object; `member` is filled in.
const SYSTEMD: Call<'static> = Call {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
    member: "",
};

/// Properties that older systemds lack, for scopes at least, and whose effect is in a file that is written too: what is lost
/// without is that a `daemon-reload` leaves it alone.
const NEWER: [&str; 8] = [
    "CPUQuotaPeriodUSec",
    "AllowedCPUs",
    "AllowedMemoryNodes",
    "OOMPolicy",
    "MemoryZSwapMax",
    "MemoryMin",
    "IOWeight",
    "CPUWeight",
];

/// Starts a transient unit around `pid` and waits until it is there. Returns what was left out, to be shown.
pub fn start(unit: &str, properties: &[Property], pid: i32) -> Result<Vec<String>> {
    let what = || format!("start {unit} by systemd");
    let mut all = properties.to_vec();
    if !unit.ends_with(".slice") {
        all.push(Property { name: "PIDs".to_owned(), value: Value::Uint32s(vec![pid.cast_unsigned()]) });
    }
    let mut systemd = Connection::open(PATIENCE).what(what)?;
    start_on(&mut systemd, unit, all).what(what)
}

fn start_on(systemd: &mut Connection, unit: &str, mut properties: Vec<Property>) -> Result<Vec<String>> {
    subscribe(systemd)?;
    let mut warnings = Vec::new();
    let mut again = true;
    loop {
        let mut body = Writer::default();
        body.text(unit);
        body.text("replace");
        body.properties(properties.iter());
        body.array(8, |_| {}); // no further units
        match systemd.call(&method("StartTransientUnit"), "ssa(sv)a(sa(sv))", &body)? {
            Ok(reply) => {
                wait(systemd, &job(&reply)?, unit)?;
                return Ok(warnings);
            }
            // One that failed is kept until somebody has looked at it.
            Err(refusal) if refusal.name == "org.freedesktop.systemd1.UnitExists" && again => {
                again = false;
                let _ = reset_failed(systemd, unit)?;
            }
            Err(refusal) if refusal.name == "org.freedesktop.systemd1.UnitExists" => {
                return Err(refused(&refusal).with_kind(Kind::Exists).cure(
                    "another container uses it, or is not deleted yet: name another linux.cgroupsPath",
                ));
            }
            Err(refusal) => leave_out(&mut properties, &refusal, &mut warnings)?,
        }
    }
}

/// Changes properties of a unit, until it ends. Returns what was left out, to be shown.
pub fn change(unit: &str, properties: &[Property]) -> Result<Vec<String>> {
    if properties.is_empty() {
        return Ok(Vec::new());
    }
    let what = || format!("change {unit} by systemd");
    change_on(&mut Connection::open(PATIENCE).what(what)?, unit, properties.to_vec()).what(what)
}

fn change_on(systemd: &mut Connection, unit: &str, mut properties: Vec<Property>) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    loop {
        let mut body = Writer::default();
        body.text(unit);
        body.boolean(true); // runtime only
        body.properties(properties.iter());
        match systemd.call(&method("SetUnitProperties"), "sba(sv)", &body)? {
            Ok(_) => return Ok(warnings),
            Err(refusal) => leave_out(&mut properties, &refusal, &mut warnings)?,
        }
    }
}

/// Stops a unit and waits until it is gone. One that is gone already is no error.
pub fn stop(unit: &str) -> Result<()> {
    let what = || format!("stop {unit} by systemd");
    stop_on(&mut Connection::open(PATIENCE).what(what)?, unit).what(what)
}

fn stop_on(systemd: &mut Connection, unit: &str) -> Result<()> {
    subscribe(systemd)?;
    let mut body = Writer::default();
    body.text(unit);
    body.text("replace");
    match systemd.call(&method("StopUnit"), "ss", &body)? {
        Ok(reply) => wait(systemd, &job(&reply)?, unit)?,
        Err(refusal) if refusal.name == "org.freedesktop.systemd1.NoSuchUnit" => return Ok(()),
        Err(refusal) => return Err(refused(&refusal)),
    }
    // Killed processes count as a failure, and the unit would stay to tell of it.
    let _ = reset_failed(systemd, unit)?;
    Ok(())
}

const fn method(member: &'static str) -> Call<'static> {
    Call { member, ..SYSTEMD }
}

/// Without, signals come on the private socket only.
fn subscribe(systemd: &mut Connection) -> Result<()> {
    match systemd.call(&method("Subscribe"), "", &Writer::default())? {
        Ok(_) => Ok(()),
        Err(refusal) if refusal.name.ends_with("AlreadySubscribed") => Ok(()),
        Err(refusal) => Err(refused(&refusal)),
    }
}

fn reset_failed(systemd: &mut Connection, unit: &str) -> Result<Result<Message, Refusal>> {
    let mut body = Writer::default();
    body.text(unit);
    systemd.call(&method("ResetFailedUnit"), "s", &body)
}

/// The path of the job that a call queued.
fn job(reply: &Message) -> Result<String> {
    let path = (reply.signature == "o").then(|| reply.body().text()).flatten();
    path.ok_or_else(|| Error::new(Kind::Internal, "read systemd's answer: it names no job"))
}

/// JobRemoved: id, path of the job, unit, result.
fn wait(systemd: &mut Connection, job: &str, unit: &str) -> Result<()> {
    loop {
        let signal = systemd.signal()?;
        if signal.name != "JobRemoved" || signal.signature != "uoss" {
            continue;
        }
        let mut body = signal.body();
        let (_, path, _, result) = (body.uint32(), body.text(), body.text(), body.text());
        if path.as_deref() != Some(job) {
            continue;
        }
        return match result.unwrap_or_default().as_str() {
            "done" | "skipped" => Ok(()),
            result => Err(Error::new(Kind::Internal, format!("systemd's job ended as {result:?}"))
                .cure(format!("see `systemctl status {unit}` and systemd's log"))),
        };
    }
}

/// Takes out the property that a refusal names, if one can do without it.
fn leave_out(properties: &mut Vec<Property>, refusal: &Refusal, warnings: &mut Vec<String>) -> Result<()> {
    let named = properties.iter().position(|property| {
        refusal.text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == property.name)
    });
    match named {
        Some(at) if NEWER.contains(&properties[at].name.as_str()) => {
            let property = properties.remove(at);
            warnings.push(format!(
                "systemd does not take {} ({}): it is set in the cgroup alone, and `systemctl daemon-reload` may undo it",
                property.name, refusal.text
            ));
            Ok(())
        }
        _ => Err(refused(refusal)),
    }
}

#[cfg(test)]
mod tests;
