//! What the owner allows, as the configuration in force has it. Pure.

use super::basis::{Basis, Installation};
use super::sent::Sent;
use crate::config::{DeviceConfig, LinkConfig, WriteConfig, WriteFunction};
use crate::modbus::write::WriteWith;
use crate::model::{Name, UnitId};
use crate::profile::{Encoding, Point, Protocol, Table};

/// One tag that may be written, and whether it may be now.
#[derive(Debug, Clone)]
pub struct Permission {
    /// As the owner wrote it.
    pub config: WriteConfig,
    /// Where it is written; otherwise why not.
    pub place: Result<Place, String>,
    /// The pin that would put it in force, where it could be.
    pub pin: Option<String>,
}

/// The register that is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// Link of the device.
    pub link: Name,
    /// Address on the link.
    pub unit: UnitId,
    /// Index of the point in the profile.
    pub index: usize,
    /// The point.
    pub point: Point,
    /// With which function.
    pub with: WriteWith,
}

/// What may be written in this installation.
pub fn resolve(writes: &[WriteConfig], installation: &Installation<'_>) -> Vec<Permission> {
    writes.iter().map(|config| permission(config, installation)).collect()
}

/// Why `after` must not take the place of `before`: of each permission that is in force before, and would rest on
/// something else after, what that is. A device that is not there any more only puts its permissions out of force, unless
/// its tag is `leased` and has to return.
///
/// Refused, and not only put out of force: while such a configuration is in force the windows of interlocks fill with
/// what another register says, and they are not emptied when the one before comes back.
pub fn endangered(
    writes: &[WriteConfig],
    before: &Installation<'_>,
    after: &Installation<'_>,
    leased: &[String],
) -> Vec<(String, String)> {
    let mut endangered = Vec::new();
    for config in writes {
        let tag = format!("{}/{}", config.device, config.point);
        let Ok((_, basis)) = find(config, before) else { continue };
        if config.pin.as_ref() != Some(&basis.pin()) {
            continue;
        }
        let reason = match find(config, after) {
            Ok((_, now)) => basis.difference(&now),
            Err(Unfound::Device(_)) if leased.contains(&tag) => {
                Some("its device is not there any more, and a leased value has to return to its safe one".to_owned())
            }
            Err(Unfound::Device(_)) => basis.contradiction(&Basis::of_interlocks(after, config)),
            Err(Unfound::Point(reason)) => Some(reason),
        };
        endangered.extend(reason.map(|reason| (tag, reason)));
    }
    endangered
}

fn permission(config: &WriteConfig, installation: &Installation<'_>) -> Permission {
    let (place, pin) = match find(config, installation) {
        Err(Unfound::Device(reason) | Unfound::Point(reason)) => (Err(reason), None),
        Ok((place, basis)) => {
            let pin = basis.pin();
            let place = match &config.pin {
                Some(written) if *written == pin => Ok(place),
                Some(_) => Err(format!(
                    "revoked: endpoint, unit, register, encoding, scale or profile is another than when it was allowed, or \
                     an interlock looks at something else; the owner renews it on site with pin = \"{pin}\""
                )),
                None => Err(format!("not in force: the owner puts it in force on site with pin = \"{pin}\"")),
            };
            (place, Some(pin))
        }
    };
    Permission { config: config.clone(), place, pin }
}

/// Why a permission is about nothing.
enum Unfound {
    /// There is no such device.
    Device(String),
    /// The device has no such point, or none that can be written.
    Point(String),
}

fn find(config: &WriteConfig, installation: &Installation<'_>) -> Result<(Place, Basis), Unfound> {
    let found = installation.device(config.device.as_str());
    let (link, device) = found.ok_or_else(|| Unfound::Device(format!("there is no device {}", config.device)))?;
    let place = place(config, link, device).map_err(Unfound::Point)?;
    let basis = Basis::of_permission(installation, (link, device), place.index, place.with, config);
    Ok((place, basis))
}

fn place(config: &WriteConfig, link: &LinkConfig, device: &DeviceConfig) -> Result<Place, String> {
    let (Protocol::Modbus(modbus), Some(unit)) = (&device.profile.protocol, device.unit) else {
        return Err("text instruments cannot be written".to_owned());
    };
    let index = modbus.points.iter().position(|point| point.name == config.point);
    let index = index.ok_or_else(|| format!("the profile of {} has no point {:?}", device.name, config.point))?;
    let point = modbus.points[index].clone();
    check(&point, config.function)?;
    if let Some(lease) = config.lease {
        let safe = Sent::new(&point, lease.safe).and_then(|sent| sent.in_range(lease.safe, &point, config));
        safe.map_err(|reason| format!("its safe value cannot be written: {reason}"))?;
    }
    let with = match config.function {
        WriteFunction::Single if point.encoding.width() > 1 => WriteWith::Multiple,
        WriteFunction::Single => WriteWith::Single,
        WriteFunction::Multiple => WriteWith::Multiple,
        WriteFunction::Mask => WriteWith::Mask,
        WriteFunction::ReadModifyWrite => WriteWith::ReadModifyWrite,
        WriteFunction::ReadWrite => WriteWith::ReadWrite,
    };
    Ok(Place { link: link.name.clone(), unit, index, point, with })
}

/// Only what stands alone in its registers can be written without touching something else, unless the owner says how.
fn check(point: &Point, function: WriteFunction) -> Result<(), String> {
    if !matches!(point.table, Table::Coils | Table::HoldingRegisters) {
        return Err("it is in a table that cannot be written".to_owned());
    }
    let shares = point.encoding.is_part_of_register() && !point.table.holds_bits();
    match function {
        WriteFunction::Mask | WriteFunction::ReadModifyWrite if !shares => {
            return Err("this function is for bits of a register: leave it out".to_owned());
        }
        WriteFunction::ReadWrite if point.table.holds_bits() => {
            return Err("function 23 writes registers, not coils".to_owned());
        }
        WriteFunction::Single | WriteFunction::Multiple | WriteFunction::ReadWrite if shares => {
            return Err(
                "it shares its register with others: function = \"mask\" writes its bits alone (function 22), \
                        where the device can"
                    .to_owned(),
            );
        }
        WriteFunction::Single
        | WriteFunction::Multiple
        | WriteFunction::Mask
        | WriteFunction::ReadModifyWrite
        | WriteFunction::ReadWrite => {}
    }
    match point.encoding {
        Encoding::Text { .. } | Encoding::WideText { .. } => return Err("text cannot be written".to_owned()),
        Encoding::Clock(_) => return Err("the clock of a device cannot be set".to_owned()),
        Encoding::Bit(_)
        | Encoding::Bits { .. }
        | Encoding::SignedBits { .. }
        | Encoding::U16
        | Encoding::I16
        | Encoding::U32
        | Encoding::I32
        | Encoding::U48
        | Encoding::I48
        | Encoding::U64
        | Encoding::I64
        | Encoding::F16
        | Encoding::F32
        | Encoding::F64
        | Encoding::SignMagnitude { .. }
        | Encoding::Bcd { .. }
        | Encoding::Modulo10000 { .. } => {}
    }
    if !point.scattered.is_empty() {
        return Err("its registers do not lie one after the other: one request cannot write them all".to_owned());
    }
    if point.scale_factor.is_some() || point.computed {
        return Err("its scale is read from the device, or depends on the firmware".to_owned());
    }
    Ok(())
}
