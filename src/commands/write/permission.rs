//! What the owner allows, as the configuration in force has it. Pure.

use crate::commands::signature::digest;
use crate::config::{LinkConfig, WriteConfig};
use crate::modbus::write::WriteWith;
use crate::model::{Name, UnitId};
use crate::profile::{Encoding, Point, Protocol, Table};

/// Hexadecimal digits of a pin: enough that nobody finds another register with the same.
const PIN_DIGITS: usize = 16;

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

/// What may be written with these links.
pub fn resolve(writes: &[WriteConfig], links: &[&LinkConfig]) -> Vec<Permission> {
    writes.iter().map(|config| permission(config, links)).collect()
}

fn permission(config: &WriteConfig, links: &[&LinkConfig]) -> Permission {
    let (place, pin) = match find(config, links) {
        Err(reason) => (Err(reason), None),
        Ok((place, pin)) => {
            let place = match &config.pin {
                Some(written) if *written == pin => Ok(place),
                Some(_) => Err(format!(
                    "revoked: endpoint, unit, register, encoding or scale is another than when it was allowed; the owner \
                     renews it on site with pin = \"{pin}\""
                )),
                None => Err(format!("not in force: the owner puts it in force on site with pin = \"{pin}\"")),
            };
            (place, Some(pin))
        }
    };
    Permission { config: config.clone(), place, pin }
}

fn find(config: &WriteConfig, links: &[&LinkConfig]) -> Result<(Place, String), String> {
    let pairs = links.iter().copied().flat_map(|link| link.devices.iter().map(move |device| (link, device)));
    let (link, device) = pairs
        .into_iter()
        .find(|(_, device)| device.name == config.device)
        .ok_or_else(|| format!("there is no device {}", config.device))?;
    let (Protocol::Modbus(modbus), Some(unit)) = (&device.profile.protocol, device.unit) else {
        return Err("text instruments cannot be written".to_owned());
    };
    let index = modbus.points.iter().position(|point| point.name == config.point);
    let index = index.ok_or_else(|| format!("the profile of {} has no point {:?}", device.name, config.point))?;
    let point = modbus.points[index].clone();
    check(&point)?;
    let with = if config.multiple || point.encoding.width() > 1 { WriteWith::Multiple } else { WriteWith::Single };
    let pin = pin(link, unit, &point, with);
    Ok((Place { link: link.name.clone(), unit, index, point, with }, pin))
}

/// Only what stands alone in its registers can be written without touching something else.
fn check(point: &Point) -> Result<(), String> {
    if !matches!(point.table, Table::Coils | Table::HoldingRegisters) {
        return Err("it is in a table that cannot be written".to_owned());
    }
    match point.encoding {
        Encoding::Text { .. } => return Err("text cannot be written".to_owned()),
        Encoding::Bits { .. } => return Err("it shares its register with others".to_owned()),
        Encoding::Bit(_) if !point.table.holds_bits() => return Err("it shares its register with others".to_owned()),
        Encoding::Bit(_)
        | Encoding::U16
        | Encoding::I16
        | Encoding::U32
        | Encoding::I32
        | Encoding::U64
        | Encoding::I64
        | Encoding::F32
        | Encoding::F64 => {}
    }
    if point.scale_factor.is_some() || point.computed {
        return Err("its scale is read from the device, or depends on the firmware".to_owned());
    }
    Ok(())
}

fn pin(link: &LinkConfig, unit: UnitId, point: &Point, with: WriteWith) -> String {
    let scale = point.scale;
    let facts = format!(
        "{}|{unit}|{}|{}|{:?}|{:?}|{}/{}+{}|{with:?}",
        link.endpoint,
        point.table.read_function(),
        point.address,
        point.encoding,
        point.word_order,
        scale.multiplier,
        scale.divisor,
        scale.offset
    );
    digest(facts.as_bytes())[..PIN_DIGITS].to_owned()
}
