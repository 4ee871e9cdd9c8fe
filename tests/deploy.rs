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

#[test]
fn the_rules_to_start_from_can_be_put_in_force_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/rules");
    let config = directory.path().join("lineside.toml");
    let text = format!(
        "[gateway]\nsite = \"lyon\"\nid = \"gw-01\"\n[store]\npath = \"store\"\n[mqtt]\nurl = \"mqtt://broker.example\"\n\
         [rules]\nfiles = [{rules:?}]\n[[link]]\nname = \"panel\"\ntcp = \"10.0.0.5:502\"\n[[device]]\n\
         name = \"incomer\"\nlink = \"panel\"\nunit_id = 1\nprofile = \"siemens-pac3200\"\nlabels = {{ role = \"incomer\" }}\n"
    );
    std::fs::write(&config, text).unwrap();

    let output = Command::new(env!("CARGO_BIN_EXE_lineside")).args(["check", "--json"]).arg(&config).output().unwrap();

    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["ok"] == true && report["faults"].as_array().is_some_and(Vec::is_empty), "{report:#}");
    // What a plant does not have is warned of, and what it has is not.
    let warnings: Vec<&str> = report["warnings"].as_array().unwrap().iter().filter_map(|it| it.as_str()).collect();
    assert!(warnings.iter().any(|warning| warning.contains("AirLeak") && warning.contains("air_flow_m3_per_h")));
    assert!(
        !warnings.iter().any(|it| it.contains("DemandExceeded") || it.contains("rule DeviceUnsteady")),
        "{warnings:#?}"
    );
}
