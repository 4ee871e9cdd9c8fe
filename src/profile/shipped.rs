//! The profiles of `firmware-profiles/`, compiled in so that the binary works alone.

/// Each shipped profile: its id and the text of its file, in alphabetical order.
const SHIPPED: &[(&str, &str)] = &[
    ("abb-b23", include_str!("../../firmware-profiles/abb-b23.toml")),
    ("banner-qm42vt2", include_str!("../../firmware-profiles/banner-qm42vt2.toml")),
    ("carlogavazzi-em340", include_str!("../../firmware-profiles/carlogavazzi-em340.toml")),
    ("eastron-sdm630", include_str!("../../firmware-profiles/eastron-sdm630.toml")),
    ("generic-nmea0183", include_str!("../../firmware-profiles/generic-nmea0183.toml")),
    ("mettler-mt-sics", include_str!("../../firmware-profiles/mettler-mt-sics.toml")),
    ("schneider-iem3155", include_str!("../../firmware-profiles/schneider-iem3155.toml")),
    ("siemens-pac3200", include_str!("../../firmware-profiles/siemens-pac3200.toml")),
];

/// Names of all shipped profiles, in alphabetical order.
pub fn ids() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|(id, _)| *id)
}

/// The file of the shipped profile `id`.
pub fn text(id: &str) -> Option<&'static str> {
    SHIPPED.iter().find(|(shipped, _)| *shipped == id).map(|(_, text)| *text)
}
