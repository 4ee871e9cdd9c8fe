//! Where a scan looks: settings of a line, hosts of a network, unit ids.

use std::net::Ipv4Addr;
use std::path::Path;

use super::super::target::{MODBUS_PORT, ParityWord};
use crate::config::{Endpoint, Parity, SerialSettings, host_and_port};
use crate::model::UnitId;

/// More hosts than these are a typing error.
const HOSTS_MOST: u32 = 4096;

/// What devices are set to, the likeliest first.
const USUAL: [(u32, Parity); 14] = [
    (9600, Parity::None),
    (19_200, Parity::Even),
    (19_200, Parity::None),
    (9600, Parity::Even),
    (38_400, Parity::None),
    (115_200, Parity::None),
    (38_400, Parity::Even),
    (57_600, Parity::None),
    (115_200, Parity::Even),
    (57_600, Parity::Even),
    (4800, Parity::None),
    (4800, Parity::Even),
    (2400, Parity::None),
    (2400, Parity::Even),
];

/// The settings to try, in this order; those that are named, or the usual ones.
pub(super) fn serial_settings(port: &Path, bauds: &[u32], parities: &[ParityWord]) -> Vec<SerialSettings> {
    let settings = |(baud_rate, parity): (u32, Parity)| SerialSettings {
        port: port.to_owned(),
        baud_rate,
        parity,
        data_bits: 8,
        stop_bits: 1,
        rs485: false,
    };
    let is_wanted = |parity: Parity| parities.is_empty() || parities.iter().any(|word| word.parity() == parity);
    if bauds.is_empty() && !parities.contains(&ParityWord::Odd) {
        return USUAL.into_iter().filter(|(_, parity)| is_wanted(*parity)).map(settings).collect();
    }
    let usual_bauds = [9600, 19_200, 38_400, 115_200, 57_600, 4800, 2400];
    let bauds = if bauds.is_empty() { &usual_bauds[..] } else { bauds };
    let parities = [Parity::None, Parity::Even, Parity::Odd].into_iter();
    let parities: Vec<Parity> = parities.filter(|parity| is_wanted(*parity)).collect();
    bauds.iter().flat_map(|baud| parities.iter().map(move |parity| (*baud, *parity))).map(settings).collect()
}

/// `1-20,100` as unit ids.
pub(super) fn units(text: &str) -> Result<Vec<UnitId>, String> {
    let refused = |part: &str| format!("--units = {part}: must be ids from 0 to 247 or 255, such as 1-20,100");
    let mut units: Vec<UnitId> = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<u8>().ok().filter(|id| UnitId::tcp((*id).into()).is_ok());
        let (Some(from), Some(to)) = (number(from), number(to)) else { return Err(refused(part)) };
        if from > to {
            return Err(refused(part));
        }
        let ids = (from..=to).filter_map(|id| UnitId::tcp(id.into()).ok());
        units.extend(ids.filter(|id| !units.contains(id)).collect::<Vec<UnitId>>());
    }
    Ok(units)
}

/// Hosts, addresses and networks as endpoints, each once.
pub(super) fn hosts(texts: &[String]) -> Result<Vec<Endpoint>, String> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for text in texts {
        let found = match text.split_once('/') {
            Some((address, length)) => network(address, length).ok_or_else(|| {
                format!("--tcp = {text}: must be a network of at most {HOSTS_MOST} hosts, such as 10.0.0.0/24")
            })?,
            None => {
                let (host, port) = host_and_port(text, Some(MODBUS_PORT)).ok_or_else(|| {
                    format!("--tcp = {text}: must be host, host:port or a network such as 10.0.0.0/24")
                })?;
                vec![Endpoint::Tcp { host, port }]
            }
        };
        endpoints.extend(found.into_iter().filter(|new| !endpoints.contains(new)).collect::<Vec<Endpoint>>());
    }
    Ok(endpoints)
}

fn network(address: &str, length: &str) -> Option<Vec<Endpoint>> {
    let (length, port) = length.split_once(':').map_or((length, Some(MODBUS_PORT)), |(l, p)| (l, p.parse().ok()));
    let (address, length, port): (Ipv4Addr, u32, u16) = (address.parse().ok()?, length.parse().ok()?, port?);
    let count = 1_u32.checked_shl(32_u32.checked_sub(length)?).filter(|count| *count <= HOSTS_MOST)?;
    let first = u32::from(address) & !(count - 1);
    // The first and the last address of a network are no hosts, except in the smallest ones.
    let hosts = if count > 2 { first + 1..=first + count - 2 } else { first..=first + count - 1 };
    let endpoint = |host: u32| Endpoint::Tcp { host: Ipv4Addr::from(host).to_string(), port };
    Some(hosts.map(endpoint).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_ids_are_lists_and_ranges() {
        let ids = |text| units(text).map(|units| units.iter().map(|unit| unit.get()).collect::<Vec<u8>>());

        assert_eq!(ids("1-3, 100,2"), Ok(vec![1, 2, 3, 100]));
        assert_eq!(ids("245-247,255").unwrap().len(), 4);
        assert!(ids("256").is_err() && ids("3-1").is_err() && ids("").is_err() && ids("1-300").is_err());
    }

    #[test]
    fn networks_are_their_hosts() {
        let all = |text: &str| {
            hosts(&[text.to_owned()]).map(|hosts| hosts.iter().map(ToString::to_string).collect::<Vec<_>>())
        };

        assert_eq!(all("10.0.0.8/30").unwrap(), ["tcp 10.0.0.9:502", "tcp 10.0.0.10:502"]);
        assert_eq!(all("10.0.0.8/31:1502").unwrap(), ["tcp 10.0.0.8:1502", "tcp 10.0.0.9:1502"]);
        assert_eq!(all("10.0.0.77/24").unwrap().len(), 254);
        assert_eq!(all("meter.local").unwrap(), ["tcp meter.local:502"]);
        assert!(all("10.0.0.0/8").is_err() && all("10.0.0.0/33").is_err() && all("10.0.0/24").is_err());
    }

    #[test]
    fn the_usual_settings_come_first() {
        let port = Path::new("/dev/ttyUSB0");

        let usual = serial_settings(port, &[], &[]);
        assert_eq!((usual.len(), usual[0].baud_rate, usual[0].parity), (14, 9600, Parity::None));
        assert_eq!(serial_settings(port, &[], &[ParityWord::Even]).len(), 7);
        assert_eq!(serial_settings(port, &[1200], &[]).len(), 3);
        assert_eq!(serial_settings(port, &[1200, 300], &[ParityWord::Odd]).len(), 2);
    }
}
