//! `rt list`: prints all containers. One that can't be read is named in a warning and left out.

use std::fmt::Write;

use super::options::{Format, Global, List, Origin};
use super::stdout;
use crate::error::{Error, Kind, Result, visible};
use crate::state::{Container, Record, Report, StateDir, Status, user_name};

/// Prints a table, JSON, or ids.
pub fn list(global: &Global, options: List) -> Result<i32> {
    let containers = read_all(global)?;
    let reports: Vec<Report<'_>> =
        containers.iter().map(|(container, status)| report(container.record(), *status)).collect();
    let text = match (options.quiet, options.format) {
        (true, _) => {
            reports.iter().fold(String::new(), |all, report| all + report.id.as_str() + "\n").into_bytes()
        }
        (false, Format::Json) => json(&reports)?,
        (false, Format::Table) => table(&reports).into_bytes(),
    };
    stdout::print(&text)?;
    Ok(0)
}

fn report(record: &Record, status: Status) -> Report<'_> {
    Report { owner: user_name(record.owner), ..record.report(status) }
}

fn read_all(global: &Global) -> Result<Vec<(Container, Status)>> {
    let dir = StateDir::new(&global.root);
    let ids = match dir.list() {
        // Nobody has made a container yet.
        Err(error) if error.kind() == Kind::NotFound && global.root_origin == Origin::Default => Vec::new(),
        ids => ids?,
    };
    let mut all = Vec::with_capacity(ids.len());
    for id in ids {
        match dir.open(&id).and_then(|container| container.status().map(|status| (container, status))) {
            Ok(found) => all.push(found),
            // Deleted since the directory was read, or not written yet.
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => tracing::warn!("list container {id}: {error}"),
        }
    }
    Ok(all)
}

fn json(reports: &[Report<'_>]) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec(reports)
        .map_err(|error| Error::new(Kind::Internal, format!("print as JSON: {error}")))?;
    text.push(b'\n');
    Ok(text)
}

const HEAD: [&str; 6] = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];
/// As runc's columns: at least so wide, with this space to the next one.
const NARROWEST: usize = 12;
const SPACE: usize = 3;

fn table(reports: &[Report<'_>]) -> String {
    let rows: Vec<[String; 6]> = std::iter::once(HEAD.map(str::to_owned))
        .chain(reports.iter().map(|report| {
            [
                report.id.to_string(),
                report.pid.to_string(),
                report.status.to_string(),
                visible(&report.bundle.display().to_string()).into_owned(),
                report.created.to_owned(),
                report.owner.clone(),
            ]
        }))
        .collect();
    let width = |column: usize| {
        let widest = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        (widest + SPACE).max(NARROWEST)
    };
    let widths: Vec<usize> = (0..HEAD.len() - 1).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a String can't fail.
            let _ = write!(text, "{cell:width$}");
        }
        text.push_str(&row[HEAD.len() - 1]);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Id;
    use crate::state::ProcessId;

    #[test]
    fn the_table_is_runcs() {
        let mut record =
            Record::new(Id::parse("a-container-with-a-name").unwrap(), "/b".into(), "/b/rootfs".into());
        record.created = "2026-11-21T04:05:48.000000001Z".into();
        record.init = Some(ProcessId { pid: 42, start_time: 7 });
        record.owner = 0;
        let mut other = record.clone();
        other.id = Id::parse("b").unwrap();
        other.bundle = "/a\n\u{1b}/path".into();
        let text = table(&[report(&record, Status::Running), report(&other, Status::Stopped)]);
        let expected = "\
ID                        PID         STATUS      BUNDLE            CREATED                          OWNER
a-container-with-a-name   42          running     /b                2026-11-21T04:05:48.000000001Z   root
b                         0           stopped     /a\\n\\u{1b}/path   2026-11-21T04:05:48.000000001Z   root
";
        assert_eq!(text, expected);
        assert_eq!(table(&[]), "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n");
    }
}
