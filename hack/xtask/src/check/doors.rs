//! Where runtime may open a file to write to, make one, or give one a name: each place is a door of its own, with what makes it safe.
//!
//! Whoever can write to the directory that a name is in chooses what the name means (R5 in runtime/README.md). What has a name from
//! outside goes through `outfile`.

use super::sources::Source;

/// What opens, makes, names or changes by a name.
const WORDS: [&str; 20] = [
    "OFlags::WRONLY",
    "OFlags::RDWR",
    "OFlags::APPEND",
    "OFlags::CREATE",
    "OFlags::TMPFILE",
    "OpenOptions",
    "File::create",
    "File::options",
    "fs::write(",
    "fs::copy(",
    "fs::rename(",
    "fs::hard_link(",
    "fs::set_permissions(",
    "fs::chmod(",
    "fs::chown(",
    "fs::linkat(",
    "fs::renameat",
    "os::unix::fs::symlink",
    "UnixDatagram::bind(",
    "UnixListener::bind(",
];

/// Files in which such words may stand, and why.
const DOORS: [(&str, &str); 16] = [
    ("init/copy_up.rs", "new files, below the handle of a tmpfs that is attached nowhere"),
    ("init/devices.rs", "a handle's own name in the host's /proc, before Linux 6.6"),
    ("init/proc.rs", "parameters and labels, below the handle of the host's procfs"),
    ("init/terminal.rs", "the container's own multiplexer, which was looked at"),
    ("ops/notify.rs", "a socket in the container's state directory, by its handle"),
    ("ops/rootless.rs", "the process's own files in /proc"),
    ("ops/sealed.rs", "a file without a name, in a tmpfs that is attached nowhere"),
    ("ops/spec.rs", "config.json that a user asks for, which must not be there yet"),
    ("ops/start.rs", "the start FIFO, through the state directory"),
    ("ops/streams.rs", "the host's /dev/null, by the handle of a mount of its own"),
    ("outfile.rs", "the door for all names that came from outside"),
    ("parent/cgroup/files.rs", "files of cgroups, which are the kernel's, by handle"),
    ("parent/occupants.rs", "files of cgroups, which are the kernel's, by handle"),
    ("parent/place.rs", "a child's own files in /proc"),
    ("spawn.rs", "the process's own files in /proc"),
    ("state/place.rs", "files of the state directory, below its handle, that nobody else may write to"),
];

/// Words outside the doors, and doors that are none any more.
pub fn written_files(all: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut used = Vec::new();
    for source in all {
        let Some(path) = source.path.strip_prefix("runtime/src/").filter(|path| !path.ends_with("tests.rs"))
        else {
            continue;
        };
        let lines = source.code.lines().enumerate();
        let found = lines.flat_map(|(at, line)| {
            WORDS.iter().filter(move |word| line.contains(**word)).map(move |word| (at + 1, *word))
        });
        let door = DOORS.iter().any(|(door, _)| *door == path);
        for (line, word) in found {
            if door {
                used.push(path);
            } else {
                wrong.push(format!(
                    "{}:{line}: {word}: files are written through outfile, or a door named in hack/xtask/src/check/doors.rs",
                    source.path
                ));
            }
        }
    }
    let unused = DOORS.iter().filter(|(door, _)| !used.contains(door));
    wrong.extend(unused.map(|(door, reason)| format!("runtime/src/{door}: no door any more ({reason})")));
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, code: &str) -> Source {
        Source { path: path.to_owned(), text: String::new(), code: code.to_owned() }
    }

    #[test]
    fn a_file_that_is_written_elsewhere_is_named() {
        let doors = DOORS.iter().map(|(door, _)| source(&format!("runtime/src/{door}"), "OFlags::WRONLY"));
        let mut all: Vec<_> = doors.collect();
        assert!(written_files(&all).is_empty());
        all.push(source("runtime/src/log.rs", "fn a() {}\nstd::fs::write(path, text)"));
        all.push(source("runtime/src/state/tests.rs", "std::fs::write(path, text)"));
        all.push(source("shim/src/log.rs", "std::fs::write(path, text)"));
        let wrong = written_files(&all);
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(wrong[0].starts_with("runtime/src/log.rs:2: fs::write("), "{wrong:?}");
    }

    #[test]
    fn a_door_that_is_not_used_is_named() {
        assert_eq!(written_files(&[]).len(), DOORS.len());
    }
}
