//! `cargo x VERB`: the checks of the repository and the run of all its tests.
//!
//! Does not build what users run (`hack/build`) and installs nothing (`hack/test` does before it calls this).

mod check;
mod console;
mod rust_text;
mod tally;
mod test;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
cargo x VERB

  check          fmt, clippy, layer order, crate order, unsafe, file sizes, docs, unit tests
  test [WHAT…]   all tests and one summary line; hack/test prepares the machine and calls this
                 WHAT: quick, native, vm, or names of tests
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let repository = repository();
    match arguments.split_first().map(|(verb, rest)| (verb.as_str(), rest)) {
        Some(("check", [])) => check::run(&repository),
        Some(("test", what)) => test::run(&repository, what),
        None | Some(("help" | "--help" | "-h", _)) => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Some((verb, _)) => {
            eprintln!("cargo x: unknown verb or too many arguments: {verb}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

/// The top of the checkout that this program was built in.
fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}
