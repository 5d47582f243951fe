//! Images in files: docker-archive, OCI archive, OCI layout, read into the store; OCI archives written from it.

mod files;
mod load;
mod save;

pub use load::load;
pub use save::save;
