//! `rt`, the program: hands the command line to the library and turns its answer into an exit code.

/// A command lives for milliseconds: what it allocates is given back by its end.
#[global_allocator]
static MEMORY: runtime::sys::alloc::Bump = runtime::sys::alloc::Bump::new();

fn main() {
    std::process::exit(runtime::cli::run(std::env::args_os().skip(1)));
}
