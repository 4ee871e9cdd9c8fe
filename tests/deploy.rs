//! What `deploy/` promises about the service.

#![cfg(test)]

use std::path::Path;
use std::process::Command;

fn systemd_analyze(arguments: &[&str]) -> (bool, String) {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/lineside.service");
    let output = Command::new("systemd-analyze").args(arguments).arg(&unit).output();
    let output = output
        .unwrap_or_else(|error| panic!("cannot run systemd-analyze: {error}; tests/run installs what the tests need"));
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn the_service_is_confined_to_an_exposure_of_1_3() {
    let (within, report) = systemd_analyze(&["security", "--offline=true", "--threshold=13", "--no-pager"]);

    assert!(report.contains("Overall exposure level"), "{report}");
    assert!(within, "{report}");
}

#[test]
fn the_service_still_reaches_serial_ports_and_the_network() {
    let unit = include_str!("../deploy/lineside.service");
    let line = |wanted: &str| unit.lines().any(|line| line.trim() == wanted);

    for device in ["char-ttyUSB", "char-ttyACM", "char-ttyS"] {
        assert!(line(&format!("DeviceAllow={device} rw")), "{device}");
    }
    let families = unit.lines().find(|line| line.starts_with("RestrictAddressFamilies=")).unwrap_or_default();
    for family in ["AF_INET", "AF_INET6", "AF_UNIX"] {
        assert!(families.split([' ', '=']).any(|word| word == family), "{family} in {families:?}");
    }
    assert!(!line("PrivateNetwork=yes") && !line("PrivateDevices=yes"));
}
