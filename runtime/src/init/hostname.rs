//! Names of the UTS namespace.

use crate::error::{Context, Result};
use crate::plan::Surroundings;

/// Sets them; that the namespace is not the runtime's own was made sure before.
pub fn set(around: &Surroundings) -> Result<()> {
    if let Some(name) = &around.hostname {
        rustix::system::sethostname(name.to_bytes()).what(|| "set the host name")?;
    }
    if let Some(name) = &around.domainname {
        rustix::system::setdomainname(name.to_bytes()).what(|| "set the domain name")?;
    }
    Ok(())
}
