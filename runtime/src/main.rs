//! `rt`, the program: hands the command line to the library and turns its answer into an exit code.
#![no_main]

/// A command lives for milliseconds: what it allocates is given back by its end.
#[global_allocator]
static MEMORY: runtime::sys::alloc::Bump = runtime::sys::alloc::Bump::new();

runtime::program!(runtime::cli::run);
