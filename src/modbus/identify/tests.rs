use std::collections::HashMap;
use std::sync::Arc;

use super::*;
use crate::profile::{Profile, Protocol, file};

const PROFILE: &str = r#"
manufacturer = "Test"
model = "Meter"
modbus = { table = "holding", encoding = "u16" }
point = [{ name = "power_w", address = 0, unit = "W" }]
[identification]
model = [
  { name = "M1", object = "product", starts = "meter" },
  { name = "M1", address = 100, number = [40, 42] },
  { name = "M2", address = 100, number = 50 },
]
version = [{ object = "revision" }, { address = 200, registers = 2, encoding = "string" }]
[[variant]]
versions = "2.0..3.0"
change = [{ name = "power_w", scale = 0.1 }]
"#;

fn profile() -> Profile {
    file::parse("test", "test", PROFILE).unwrap()
}

/// A device that says these things and refuses all else.
struct Device {
    registers: HashMap<u16, Vec<u16>>,
    objects: Option<Vec<(u8, String)>>,
    asked: Vec<Ask>,
}

impl Device {
    fn new(registers: &[(u16, &[u16])], objects: Option<&[(u8, &str)]>) -> Self {
        let objects = objects.map(|list| list.iter().map(|(number, text)| (*number, (*text).to_owned())).collect());
        let registers = registers.iter().map(|(address, words)| (*address, words.to_vec())).collect();
        Self { registers, objects, asked: Vec::new() }
    }
}

impl Asker for Device {
    async fn ask(&mut self, ask: Ask) -> Result<Reply, PollError> {
        self.asked.push(ask);
        match ask {
            Ask::Registers { address, .. } => {
                self.registers.get(&address).cloned().map(Reply::Words).ok_or(PollError::Exception(2))
            }
            Ask::Objects { .. } => {
                let objects = self.objects.clone().ok_or(PollError::Exception(1))?;
                Ok(Reply::Objects(Objects { objects, next: None }))
            }
        }
    }
}

async fn identify(device: &mut Device) -> Identity {
    let Protocol::Modbus(modbus) = profile().protocol else { panic!("speaks Modbus") };
    let mut inquiry = Inquiry::new(&modbus.identification, None);
    while let Some(ask) = inquiry.next() {
        let reply = device.ask(ask).await;
        inquiry.take(ask, reply.as_ref().cloned());
    }
    inquiry.conclude(&modbus.maps)
}

#[tokio::test]
async fn objects_tell_model_and_firmware_with_one_question() {
    let mut device = Device::new(&[], Some(&[(0, "Test"), (1, "Meter 7"), (2, "V2.1")]));

    let identity = identify(&mut device).await;

    assert_eq!(identity.model.as_deref(), Some("M1"));
    assert_eq!((identity.chosen.map, identity.verdict), (1, Verdict::Accepted));
    assert_eq!(device.asked.len(), 1);
}

#[tokio::test]
async fn a_device_that_refuses_objects_is_asked_for_registers() {
    let mut device = Device::new(&[(100, &[50]), (200, &[0x312E, 0x3900])], None);

    let identity = identify(&mut device).await;

    assert_eq!((identity.model.as_deref(), identity.version.unwrap().to_string().as_str()), (Some("M2"), "1.9"));
    assert_eq!((identity.chosen.map, identity.verdict), (0, Verdict::Accepted));
}

#[tokio::test]
async fn a_firmware_that_no_variant_covers_after_the_last_is_the_base_map_without_a_base_range() {
    let mut device = Device::new(&[(100, &[41]), (200, &[0x332E, 0x3000])], None);

    assert_eq!(identify(&mut device).await.chosen.map, 0);
}

#[tokio::test]
async fn another_device_is_told_with_what_it_says() {
    let mut device = Device::new(&[(100, &[7])], None);

    let identity = identify(&mut device).await;

    assert_eq!(identity.verdict, Verdict::WrongDevice("says 7, which is not M1".to_owned()));
}

#[tokio::test]
async fn a_device_that_says_nothing_has_an_unknown_firmware() {
    let mut device = Device::new(&[], None);

    assert_eq!(identify(&mut device).await.verdict, Verdict::UnknownFirmware);
}

#[tokio::test]
async fn a_survey_names_the_profiles_that_fit_and_asks_nothing_twice() {
    let mut device = Device::new(&[(100, &[50])], Some(&[(0, "Test"), (1, "Thing"), (2, "V2.1")]));

    let found = survey(&mut device, &[Arc::new(profile()), Arc::new(profile())]).await.unwrap();

    assert_eq!(found.vendor.as_deref(), Some("Test"));
    assert_eq!(found.version.as_deref(), Some("V2.1"));
    assert_eq!(found.matches.len(), 2);
    assert_eq!((found.matches[0].model.as_str(), found.matches[0].is_known), ("M2", true));
    let once: std::collections::HashSet<Ask> = device.asked.iter().copied().collect();
    assert_eq!(once.len(), device.asked.len());
}

/// A SunSpec device whose chain has these models.
fn sunspec(models: &[(u16, u16)]) -> Device {
    let mut common = vec![0; 52];
    common[..2].copy_from_slice(&[0x5375, 0x6E53]);
    common[2..4].copy_from_slice(&[models[0].0, models[0].1]);
    let mut device = Device::new(&[(40000, &common)], None);
    let mut at = 40002;
    for (id, length) in models.iter().chain(&[(0xFFFF, 0)]) {
        device.registers.entry(at).or_insert_with(|| vec![*id, *length]);
        at += 2 + length;
    }
    device
}

fn shipped(id: &str) -> Arc<Profile> {
    let text = crate::profile::shipped::text(id).unwrap();
    Arc::new(file::parse(id, id, text).unwrap())
}

#[tokio::test]
async fn a_chain_of_models_proposes_the_profile_that_reads_most_of_it() {
    let profiles = ["sunspec-inverter", "sunspec-meter", "eastron-sdm630"].map(shipped);

    let proposed = async |models: &[(u16, u16)]| -> Vec<String> {
        let found = survey(&mut sunspec(models), &profiles).await.unwrap();
        found.matches.into_iter().map(|found| found.profile).collect()
    };

    let inverter = proposed(&[(1, 66), (103, 50), (203, 105), (203, 105)]).await;
    assert_eq!(inverter, ["sunspec-inverter", "sunspec-meter"]);
    assert_eq!(proposed(&[(1, 65), (213, 124)]).await, ["sunspec-meter"]);
    assert_eq!(proposed(&[(1, 65), (203, 105)]).await.first().map(String::as_str), Some("sunspec-meter"));
    assert!(proposed(&[(1, 66), (64_000, 7)]).await.is_empty());
}

#[tokio::test]
async fn a_chain_that_is_not_plausible_is_said_and_not_read() {
    let Protocol::Modbus(modbus) = &shipped("sunspec-inverter").protocol else { panic!("speaks Modbus") };
    let conclude = async |models: &[(u16, u16)]| {
        let mut device = sunspec(models);
        let mut inquiry = Inquiry::new(&modbus.identification, None);
        while let Some(ask) = inquiry.next() {
            let reply = device.ask(ask).await;
            inquiry.take(ask, reply.as_ref().cloned());
        }
        inquiry.conclude(&modbus.maps)
    };

    let first_is_wrong = conclude(&[(1, 68), (103, 50)]).await;
    assert!(matches!(&first_is_wrong.verdict, Verdict::WrongDevice(why) if why.contains("not plausible")));
    assert!(first_is_wrong.models.is_empty());
    let later_is_wrong = conclude(&[(1, 66), (103, 50), (123, 2302)]).await;
    assert_eq!((later_is_wrong.verdict, later_is_wrong.models.len()), (Verdict::Accepted, 2));
    assert!(later_is_wrong.remark.unwrap().contains("model 123 at 40122 says 2302 registers, it has 24"));
}
