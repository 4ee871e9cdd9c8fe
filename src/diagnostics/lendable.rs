//! Which link of the agent leads to a port or host that a diagnostic command names in its own words.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

use crate::config::Endpoint;
use crate::poll::LinkHandle;

/// Longest wait for the addresses of a name.
const LOOKUP_MAX: Duration = Duration::from_secs(2);

/// The link that has this serial port open, by whatever name.
pub(super) fn link_with_port<'l>(
    links: &'l HashMap<String, LinkHandle>,
    port: &Path,
) -> Option<(&'l String, &'l LinkHandle)> {
    let uses = |endpoint: &Endpoint| match endpoint {
        Endpoint::Rtu(settings) | Endpoint::Text(settings) => {
            settings.port == port || settings.port.canonicalize().is_ok_and(|own| own == port)
        }
        Endpoint::Tcp { .. } | Endpoint::RtuOverTcp { .. } => false,
    };
    links.iter().find(|(_, handle)| uses(handle.endpoint()))
}

/// The link that leads to this TCP endpoint: by the same name, or by another one of the same address.
pub(super) async fn link_with_host<'l>(
    links: &'l HashMap<String, LinkHandle>,
    host: &str,
    port: u16,
) -> Option<(&'l String, &'l LinkHandle)> {
    let candidates =
        || links.iter().filter_map(|(name, handle)| Some((name, handle, host_of(handle.endpoint(), port)?)));
    if let Some((name, handle, _)) = candidates().find(|(.., own)| own.eq_ignore_ascii_case(host)) {
        return Some((name, handle));
    }
    let wanted = addresses(host, port).await;
    for (name, handle, own) in candidates() {
        let own = addresses(own, port).await;
        if own.iter().any(|address| wanted.contains(address)) {
            return Some((name, handle));
        }
    }
    None
}

/// The host of a TCP endpoint with this port.
fn host_of(endpoint: &Endpoint, wanted: u16) -> Option<&str> {
    match endpoint {
        Endpoint::Tcp { host, port } | Endpoint::RtuOverTcp { host, port } => (*port == wanted).then_some(host),
        Endpoint::Rtu(_) | Endpoint::Text(_) => None,
    }
}

/// Every address of a host; none where its name is not known.
async fn addresses(host: &str, port: u16) -> Vec<IpAddr> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return vec![address.to_canonical()];
    }
    match timeout(LOOKUP_MAX, lookup_host((host, port))).await {
        Ok(Ok(found)) => found.map(|address| address.ip().to_canonical()).collect(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}
