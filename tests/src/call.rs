//! One call of a program: arguments, input, a deadline; and what came of it.
//!
//! Output goes to files, not pipes: a container that outlives the call holds the other end.

use crate::wait::{DEADLINE, within};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// A call that is being put together.
pub struct Call {
    command: Command,
    input: Option<Vec<u8>>,
    terminal: Option<File>,
    stdin: Option<OwnedFd>,
    deadline: Duration,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Call {
    /// A call of `program` whose output goes to `PREFIX.out` and `PREFIX.err`.
    pub fn new(program: &Path, prefix: &Path) -> Self {
        let at = |end: &str| PathBuf::from(format!("{}.{end}", prefix.display()));
        let command = Command::new(program);
        Self {
            command,
            input: None,
            terminal: None,
            stdin: None,
            deadline: DEADLINE,
            stdout: at("out"),
            stderr: at("err"),
        }
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// More arguments.
    pub fn args<A: AsRef<std::ffi::OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// A variable in the program's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// The directory it starts in.
    pub fn cwd(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// What it reads on stdin; without this it reads nothing.
    pub fn input(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.input = Some(text.into());
        self
    }

    /// Its descriptor 0, whatever that is.
    pub fn stdin(mut self, stdin: impl Into<OwnedFd>) -> Self {
        self.stdin = Some(stdin.into());
        self
    }

    /// A terminal for its stdin, stdout and stderr.
    pub fn terminal(mut self, terminal: File) -> Self {
        self.terminal = Some(terminal);
        self
    }

    /// How long it may take.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs it to its end.
    pub fn run(self) -> Output {
        self.spawn().wait()
    }

    /// Starts it.
    pub fn spawn(mut self) -> Started {
        let create = |path: &Path| File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let input = if self.input.is_some() { Stdio::piped() } else { Stdio::null() };
        self.command.stdin(input).stdout(create(&self.stdout)).stderr(create(&self.stderr));
        if let Some(stdin) = self.stdin.take() {
            self.command.stdin(stdin);
        }
        if let Some(terminal) = self.terminal.take() {
            let copy = || terminal.try_clone().expect("copy the terminal's descriptor");
            self.command.stdin(copy()).stdout(copy()).stderr(copy());
        }
        let line = format!("{:?}", self.command);
        let mut child = self.command.spawn().unwrap_or_else(|e| panic!("{line}: {e}"));
        if let (Some(mut pipe), Some(text)) = (child.stdin.take(), self.input.take()) {
            // The program may end without reading; that is for the test to judge by its output.
            let _ = pipe.write_all(&text);
        }
        Started { child, line, deadline: self.deadline, stdout: self.stdout, stderr: self.stderr }
    }
}

/// A call that is under way.
pub struct Started {
    child: Child,
    line: String,
    deadline: Duration,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Started {
    /// Its process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("pids are small")
    }

    /// What it has written to stdout so far.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Sends it a signal and waits for its end.
    #[track_caller]
    pub fn end(self, signal: nix::sys::signal::Signal) -> Output {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal);
        self.wait()
    }

    /// Waits for its end; past the deadline it is killed and the test fails.
    pub fn wait(mut self) -> Output {
        let ended = within(self.deadline, || self.child.try_wait().expect("our own child"));
        let Some(status) = ended else {
            let _ = self.child.kill();
            let _ = self.child.wait();
            panic!("{} hung for {:?}\n{}{}", self.line, self.deadline, self.stdout(), self.stderr());
        };
        Output { line: self.line, status, stdout: read(&self.stdout), stderr: read(&self.stderr) }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// What a finished call left.
#[derive(Clone, Debug)]
pub struct Output {
    line: String,
    status: ExitStatus,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
}

impl Output {
    /// The exit code; 128+n after signal n, as a shell says it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// The output, having made sure that the call succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// The output, having made sure of the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "{self}");
        self
    }

    /// The output, having made sure that it failed and said all of these words on stderr.
    #[track_caller]
    pub fn fails(self, words: &[&str]) -> Self {
        assert_ne!(self.code(), 0, "{self}");
        for word in words {
            assert!(self.stderr.contains(word), "stderr lacks {word:?}: {self}");
        }
        self
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\nended with {}\nstdout: {}\nstderr: {}",
            self.line, self.status, self.stdout, self.stderr
        )
    }
}
