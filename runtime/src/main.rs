//! `rt`, the program: hands the command line to the library and turns its answer into an exit code.

fn main() {
    std::process::exit(runtime::cli::run(std::env::args_os().skip(1)));
}
