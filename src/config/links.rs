//! The sections `[[link]]`.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::link::{Accepted, Endpoint, LinkConfig, Parity, SerialSettings};
use super::site::{host_and_port, name};
use crate::settings::{Item, Section};

/// Who switches the direction of a half-duplex transceiver: the adapter by itself, or the driver by RTS.
const DIRECTIONS: &[(&str, bool)] = &[("adapter", false), ("driver", true)];
/// Which answers are taken for what was asked: those that carry the number of the request, or any.
const ACCEPTED: &[(&str, bool)] = &[("asked", false), ("any", true)];
const PARITIES: &[(&str, Parity)] = &[("none", Parity::None), ("even", Parity::Even), ("odd", Parity::Odd)];

/// A `[[link]]` with a name, whatever else is wrong with it: devices may refer to it.
pub(super) struct Declared<'s, 'i> {
    /// Its name, with its place.
    pub(super) name: Item<'s, 'i>,
    /// `None` when it has a fault, which was noted.
    pub(super) link: Option<LinkConfig>,
    /// Devices that name it, with faults or without.
    pub(super) devices: usize,
}

impl Declared<'_, '_> {
    /// True when a device means this link.
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.name.as_word() == Some(name)
    }
}

/// All links that have a name, without their devices.
pub(super) fn read<'s, 'i>(sections: Vec<Section<'s, 'i>>) -> Vec<Declared<'s, 'i>> {
    let mut links = Vec::new();
    for section in sections {
        links.extend(link(section, &links));
    }
    links
}

fn link<'s, 'i>(mut section: Section<'s, 'i>, others: &[Declared<'_, '_>]) -> Option<Declared<'s, 'i>> {
    let item = section.require("name", "a name for the link");
    let name = item.as_ref().and_then(|item| {
        let name = name(item)?;
        if others.iter().any(|other| other.is_called(name.as_str())) {
            item.fault("another link has this name");
            return None;
        }
        section.call(name.as_str());
        Some(name)
    });
    let endpoint = endpoint(&mut section, others);
    let timeout = section.duration("timeout", Duration::from_millis(10)..=Duration::from_secs(60));
    let timeout_min = section.take("timeout_min");
    let accepted = accepted(&mut section, endpoint.as_ref());
    section.finish();
    let timeout = timeout.unwrap_or(Duration::from_millis(500));
    let timeout_min =
        timeout_min.and_then(|item| item.duration(Duration::from_millis(10)..=timeout)).unwrap_or(timeout);
    let name = name?;
    let link =
        endpoint.map(|endpoint| LinkConfig { name, endpoint, timeout, timeout_min, accepted, devices: Vec::new() });
    Some(Declared { name: item?, link, devices: 0 })
}

/// What may stand in an answer in place of what was asked. Only Modbus TCP has a transaction id, and only there a wrong
/// unit id is known to be that of a gateway.
fn accepted(section: &mut Section<'_, '_>, endpoint: Option<&Endpoint>) -> Accepted {
    let mut any = |key: &'static str| {
        let Some(item) = section.take(key) else { return false };
        match endpoint {
            Some(Endpoint::RtuOverTcp { .. } | Endpoint::Rtu(_) | Endpoint::Text(_)) => {
                item.fault("only a link with tcp has it: on a serial line unit id and time tell whose answer it is");
                false
            }
            Some(Endpoint::Tcp { .. }) | None => item.choice(ACCEPTED).unwrap_or(false),
        }
    };
    Accepted { any_transaction: any("accept_transaction_id"), any_unit: any("accept_unit_id") }
}

/// The one of the four that is given.
fn endpoint(section: &mut Section<'_, '_>, others: &[Declared<'_, '_>]) -> Option<Endpoint> {
    const ONE_OF: &str = "exactly one of tcp, rtu, rtu_over_tcp, text";
    let given = ["tcp", "rtu_over_tcp", "rtu", "text"].map(|key| section.take(key).map(|item| (key, item)));
    let mut given = given.into_iter().flatten();
    let Some((key, item)) = given.next() else {
        section.missing("tcp", ONE_OF);
        return None;
    };
    let mut too_many = false;
    for (_, item) in given {
        item.fault(format!("must be {ONE_OF}"));
        too_many = true;
    }
    let address = || item.check(host_and_port(&item.text()?, None).ok_or("must be \"host:port\""));
    let serial = |baud_rate, parity, data_bits| serial_settings(item.clone().section()?, baud_rate, parity, data_bits);
    let endpoint = match key {
        "tcp" => address().map(|(host, port)| Endpoint::Tcp { host, port }),
        "rtu_over_tcp" => address().map(|(host, port)| Endpoint::RtuOverTcp { host, port }),
        // Modbus over Serial Line 1.02, 2.5.1: 19,200 baud and even parity are the default mode, RTU has 8 bits.
        "rtu" => serial(19_200, Parity::Even, 8..=8).map(Endpoint::Rtu),
        _ => serial(9_600, Parity::None, 7..=8).map(Endpoint::Text),
    }?;
    let same_place = |other: &&LinkConfig| place(&other.endpoint) == place(&endpoint);
    if let Some(other) = others.iter().filter_map(|other| other.link.as_ref()).find(same_place) {
        item.fault(format!(
            "link {:?} leads to the same place ({}); use one link",
            other.name.as_str(),
            other.endpoint
        ));
        return None;
    }
    (!too_many).then_some(endpoint)
}

/// Where an endpoint leads, whatever is spoken there. Two names of one serial port are one place.
fn place(endpoint: &Endpoint) -> (PathBuf, u16) {
    match endpoint {
        Endpoint::Tcp { host, port } | Endpoint::RtuOverTcp { host, port } => (host.into(), *port),
        Endpoint::Rtu(serial) | Endpoint::Text(serial) => {
            (std::fs::canonicalize(&serial.port).unwrap_or_else(|_| serial.port.clone()), 0)
        }
    }
}

fn serial_settings(
    mut section: Section<'_, '_>,
    baud_rate: i64,
    parity: Parity,
    data_bits: RangeInclusive<i64>,
) -> Option<SerialSettings> {
    let port = section.require("port", "a serial port, best below /dev/serial/by-id").and_then(|item| item.path());
    let baud_rate = section.integer("baud_rate", 300..=4_000_000).unwrap_or(baud_rate);
    let parity = section.choice("parity", PARITIES).unwrap_or(parity);
    let data_bits = section.integer("data_bits", data_bits).unwrap_or(8);
    let stop_bits = section.integer("stop_bits", 1..=2).unwrap_or(1);
    let rs485 = section.choice("rs485", DIRECTIONS).unwrap_or(false);
    section.finish();
    Some(SerialSettings {
        port: port?,
        baud_rate: u32::try_from(baud_rate).unwrap_or(u32::MAX),
        parity,
        data_bits: u8::try_from(data_bits).unwrap_or(8),
        stop_bits: u8::try_from(stop_bits).unwrap_or(1),
        rs485,
    })
}
