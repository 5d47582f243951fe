//! `containerd-shim-rt-v2`: reads the command line, does what it asks for, prints an error once.

use std::io::Write;
use std::process::ExitCode;

use shim::cli::{self, Command};
use shim::{about, leftover, serve, start};

fn main() -> ExitCode {
    let done = cli::parse(std::env::args_os().skip(1)).and_then(|command| match command {
        Command::Version => Ok(about::version().into_bytes()),
        Command::About => about::run(),
        Command::Start(caller) => start::run(&caller),
        Command::Delete(caller) => leftover::run(&caller),
        Command::Serve(options) => serve::run(&options).map(|()| Vec::new()),
    });
    let written = match done {
        Ok(answer) => std::io::stdout().write_all(&answer).and_then(|()| std::io::stdout().flush()),
        Err(error) => {
            eprintln!("containerd-shim-rt-v2: {error}");
            return ExitCode::FAILURE;
        }
    };
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
