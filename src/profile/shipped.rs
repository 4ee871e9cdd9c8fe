//! The profiles of `firmware-profiles/`, compiled in so that the binary works alone.

/// Each shipped profile: its id and the text of its file, in alphabetical order.
const SHIPPED: &[(&str, &str)] = &[
    ("abb-acs580", include_str!("../../firmware-profiles/abb-acs580.toml")),
    ("abb-b23", include_str!("../../firmware-profiles/abb-b23.toml")),
    ("banner-qm42vt2", include_str!("../../firmware-profiles/banner-qm42vt2.toml")),
    ("bender-cc612", include_str!("../../firmware-profiles/bender-cc612.toml")),
    ("carlogavazzi-em24-e1", include_str!("../../firmware-profiles/carlogavazzi-em24-e1.toml")),
    ("carlogavazzi-em24-rs485", include_str!("../../firmware-profiles/carlogavazzi-em24-rs485.toml")),
    ("carlogavazzi-em340", include_str!("../../firmware-profiles/carlogavazzi-em340.toml")),
    ("danfoss-fc102", include_str!("../../firmware-profiles/danfoss-fc102.toml")),
    ("eastron-sdm120", include_str!("../../firmware-profiles/eastron-sdm120.toml")),
    ("eastron-sdm630", include_str!("../../firmware-profiles/eastron-sdm630.toml")),
    ("eastron-sdm72dm-v1", include_str!("../../firmware-profiles/eastron-sdm72dm-v1.toml")),
    ("eastron-sdm72dm-v2", include_str!("../../firmware-profiles/eastron-sdm72dm-v2.toml")),
    ("generic-nmea0183", include_str!("../../firmware-profiles/generic-nmea0183.toml")),
    ("generic-xy-md02", include_str!("../../firmware-profiles/generic-xy-md02.toml")),
    ("huawei-sun2000", include_str!("../../firmware-profiles/huawei-sun2000.toml")),
    ("janitza-umg604", include_str!("../../firmware-profiles/janitza-umg604.toml")),
    ("janitza-umg96rme", include_str!("../../firmware-profiles/janitza-umg96rme.toml")),
    ("keba-kecontact", include_str!("../../firmware-profiles/keba-kecontact.toml")),
    ("kostal-ksem", include_str!("../../firmware-profiles/kostal-ksem.toml")),
    ("lambda-eu-l", include_str!("../../firmware-profiles/lambda-eu-l.toml")),
    ("mettler-mt-sics", include_str!("../../firmware-profiles/mettler-mt-sics.toml")),
    ("moxa-iologik-e1214", include_str!("../../firmware-profiles/moxa-iologik-e1214.toml")),
    ("phoenixcontact-eem", include_str!("../../firmware-profiles/phoenixcontact-eem.toml")),
    ("schneider-iem3155", include_str!("../../firmware-profiles/schneider-iem3155.toml")),
    ("schneider-pm5560", include_str!("../../firmware-profiles/schneider-pm5560.toml")),
    ("siemens-pac3200", include_str!("../../firmware-profiles/siemens-pac3200.toml")),
    ("socomec-countis-e34", include_str!("../../firmware-profiles/socomec-countis-e34.toml")),
    ("solaredge-se", include_str!("../../firmware-profiles/solaredge-se.toml")),
    ("sungrow-sh", include_str!("../../firmware-profiles/sungrow-sh.toml")),
    ("sunspec-inverter", include_str!("../../firmware-profiles/sunspec-inverter.toml")),
    ("sunspec-meter", include_str!("../../firmware-profiles/sunspec-meter.toml")),
    ("wago-879-3000", include_str!("../../firmware-profiles/wago-879-3000.toml")),
];

/// Names of all shipped profiles, in alphabetical order.
pub fn ids() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|(id, _)| *id)
}

/// The file of the shipped profile `id`.
pub fn text(id: &str) -> Option<&'static str> {
    SHIPPED.iter().find(|(shipped, _)| *shipped == id).map(|(_, text)| *text)
}
