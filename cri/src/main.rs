//! `rt-cri`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cri::cli::main()
}
