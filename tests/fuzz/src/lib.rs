//! What strangers send, to the code that reads it: one target for each kind of input, with what must hold of every input.
//!
//! A target takes any bytes. It panics where something doesn't hold that must: besides panics of the code itself, an input that is
//! understood in two ways, more memory or time than the input has paid for, a change outside of where it may change something.
//! `hack/fuzz` builds the program of `main.rs`, in which libFuzzer chooses inputs by what code they reach; the tests here
//! try every input that is kept in `corpus` and `found`.

mod bundle;
mod frames;
mod image;
mod layer;
mod meter;
pub mod mutate;
mod network;
mod registry;
mod requests;
mod stream;
mod surroundings;
#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{fs, io};

pub use meter::within;
pub use mutate::Form;

#[global_allocator]
static MEMORY: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

/// What became of an input; both are as good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was understood.
    Taken,
    /// It ended in an error.
    Refused,
}

impl<T, E: Display> From<&Result<T, E>> for Outcome {
    fn from(result: &Result<T, E>) -> Self {
        let Err(error) = result else { return Self::Taken };
        if is_told() {
            println!("refused: {error}");
        }
        Self::Refused
    }
}

/// Whether what becomes of each input is printed: `RT_FUZZ_TELL`.
fn is_told() -> bool {
    static TOLD: OnceLock<bool> = OnceLock::new();
    *TOLD.get_or_init(|| std::env::var_os("RT_FUZZ_TELL").is_some())
}

/// One kind of input.
pub struct Target {
    /// Its name, and its folder's in `corpus` and `found`.
    pub name: &'static str,
    /// Tries one input.
    pub run: fn(&[u8]) -> Outcome,
    /// Good inputs: a name, and what must be taken.
    pub seeds: fn() -> Vec<(&'static str, Vec<u8>)>,
    /// How inputs are altered.
    pub form: Form,
    /// Bytes of memory that an input may cost: in any case, and for each of its own bytes.
    pub memory: (usize, usize),
}

/// All of them.
pub static TARGETS: [Target; 15] = [
    bundle::CONFIG,
    bundle::PROCESS,
    image::MANIFEST,
    image::CONFIG,
    layer::TAR,
    layer::UNPACK,
    registry::HOSTS,
    registry::ANSWERS,
    network::CNI,
    network::CDI,
    requests::REQUESTS,
    stream::SPDY,
    stream::WEBSOCKET,
    frames::CALLS,
    frames::ANSWERS,
];

/// A folder of this crate for a target: `corpus` or `found`.
pub fn folder(kind: &str, target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(kind).join(target.name)
}

/// Writes the good inputs of a target into its corpus.
///
/// # Errors
/// A file can't be written.
pub fn write_seeds(target: &Target) -> io::Result<()> {
    let folder = folder("corpus", target);
    fs::create_dir_all(&folder)?;
    (target.seeds)().into_iter().try_for_each(|(name, bytes)| fs::write(folder.join(name), bytes))
}

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
