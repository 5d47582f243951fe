//! Names of hosts to addresses, for connections to registries. A name that somebody else than the user gave (a redirect, a token server)
//! leads to no address of this machine or its link: that is decided of the very addresses that are connected to, so a name that changes
//! its meaning in between gains nothing. Addresses in place of names are judged by [`super::follow`].

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Amazon's instance metadata.
const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Where names led that the user gave: to this machine and its link alone, or elsewhere.
#[derive(Debug, Default)]
pub struct Near(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    near: BTreeSet<String>,
    /// Ever: whoever answers from there may speak after the name has been given another meaning.
    elsewhere: BTreeSet<String>,
}

impl Near {
    /// Whether this one did, and never led elsewhere.
    pub fn has(&self, name: &str) -> bool {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.near.contains(name) && !seen.elsewhere.contains(name)
    }

    /// Notes what was found, and gives what is connected to: of a name that has addresses of both kinds those elsewhere, since who
    /// answers there is not near.
    fn taken(&self, name: &str, found: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let (near, elsewhere): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| is_near(found.ip()));
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if elsewhere.is_empty() {
            if !near.is_empty() {
                seen.near.insert(name.to_owned());
            }
            return near;
        }
        seen.elsewhere.insert(name.to_owned());
        elsewhere
    }
}

/// Looks up names that the user gave.
pub struct Named(pub Arc<Near>);

/// Looks up names that others gave.
pub struct Led {
    /// The user's own after all: proxies of the environment, which are asked in place of the host.
    pub proxies: BTreeSet<String>,
}

/// What a name led to is not connected to.
#[derive(Debug)]
pub struct Inward;

impl fmt::Display for Inward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its name leads to what only this machine reaches, and somebody elsewhere gave it")
    }
}

impl Error for Inward {}

impl Resolve for Named {
    fn resolve(&self, name: Name) -> Resolving {
        let near = self.0.clone();
        Box::pin(async move {
            let found = near.taken(name.as_str(), look_up(name.as_str()).await?);
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl Resolve for Led {
    fn resolve(&self, name: Name) -> Resolving {
        let is_ours = self.proxies.contains(name.as_str());
        Box::pin(async move {
            let mut found = look_up(name.as_str()).await?;
            let some = !found.is_empty();
            found.retain(|address| is_ours || !is_near(address.ip()));
            if some && found.is_empty() {
                return Err(Inward.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

async fn look_up(name: &str) -> Result<Vec<SocketAddr>, std::io::Error> {
    Ok(tokio::net::lookup_host((name, 0)).await?.collect())
}

/// Loopback, the unspecified (which the kernel takes for it), or this link, where clouds have their credentials: also at the one address of
/// such a service that is not of the link.
pub fn is_near(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.octets()[0] == 0,
        IpAddr::V6(v6) => {
            v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified() || v6 == METADATA
        }
    }
}

/// The names of the proxies that the environment gives.
pub fn proxies() -> BTreeSet<String> {
    let variables = ["http_proxy", "https_proxy", "all_proxy"];
    let given = variables.into_iter().flat_map(|name| {
        [name.to_owned(), name.to_ascii_uppercase()].into_iter().filter_map(|name| std::env::var(name).ok())
    });
    let host = |text: String| {
        let whole = if text.contains("://") { text } else { format!("http://{text}") };
        reqwest::Url::parse(&whole).ok()?.host_str().map(str::to_owned)
    };
    given.filter_map(host).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leads_elsewhere_too_is_not_near_whatever_it_leads_to_later() {
        let near = Near::default();
        let address = |text: &str| SocketAddr::new(text.parse().unwrap(), 0);
        let (here, link, away) = (address("127.0.0.1"), address("169.254.169.254"), address("192.0.2.1"));
        assert_eq!(near.taken("own", vec![here, link]), [here, link]);
        assert!(near.has("own"));
        assert_eq!(near.taken("both", vec![here, away, link]), [away]);
        assert!(!near.has("both"));
        assert_eq!(near.taken("both", vec![here]), [here], "the user named it");
        assert!(!near.has("both"), "an answer from elsewhere may come yet");
        assert!(near.taken("none", vec![]).is_empty() && !near.has("none"));
    }
    use std::str::FromStr;

    async fn found(by: &dyn Resolve, name: &str) -> Result<Vec<SocketAddr>, String> {
        let name = Name::from_str(name).expect("a name");
        by.resolve(name).await.map(Iterator::collect).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_name_that_another_gave_leads_to_no_address_of_this_machine() {
        let near = Arc::new(Near::default());
        let (named, led) = (Named(near.clone()), Led { proxies: BTreeSet::new() });
        for name in [
            "localhost",
            "127.0.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "::1",
            "::ffff:127.0.0.1",
            "169.254.169.254",
            "fd00:ec2::254",
        ] {
            let own = found(&named, name).await.expect("the user may");
            assert!(!own.is_empty() && near.has(name), "{name}");
            let by_another = found(&led, name).await;
            assert_eq!(by_another, Err(Inward.to_string()), "somebody else gave the name {name}");
        }
        for name in ["192.0.2.1", "10.0.0.1", "2001:db8::1"] {
            let all = found(&named, name).await.expect("addresses");
            assert_eq!(found(&led, name).await, Ok(all), "{name}");
            assert!(!near.has(name), "{name}");
        }
        let proxy = Led { proxies: BTreeSet::from(["localhost".to_owned()]) };
        assert!(found(&proxy, "localhost").await.is_ok(), "the user gave it");
    }
}
