use super::*;
use crate::config::Lease;
use crate::modbus::write::WriteWith;
use crate::model::{Name, UnitId};
use crate::profile::{Protocol, file};

const PROFILE: &str = r#"
manufacturer = "lineside"
model = "press"
modbus = { table = "holding", encoding = "i16" }
point = [{ name = "setpoint_c", address = 7, scale = 0.5 }]
"#;

fn guard(directory: &std::path::Path, change: impl FnOnce(&mut WriteConfig)) -> WriteGuard {
    let profile = file::parse("press.toml", "press", PROFILE).unwrap();
    let Protocol::Modbus(modbus) = profile.protocol else { panic!("a Modbus profile") };
    let mut config = WriteConfig {
        device: Name::new("press-1").unwrap(),
        point: "setpoint_c".to_owned(),
        pin: None,
        range: (10.0, 60.0),
        step: Some(5.0),
        interval: Duration::from_secs(10),
        role: Role::Engineer,
        interlocks: Vec::new(),
        tolerance: 0.0,
        lease: None,
        function: crate::config::WriteFunction::Single,
    };
    change(&mut config);
    let place = Place {
        link: Name::new("hall").unwrap(),
        unit: UnitId::tcp(1).unwrap(),
        index: 0,
        point: modbus.points[0].clone(),
        with: WriteWith::Single,
    };
    let mut guard = WriteGuard::new(WriteLock::in_directory(directory));
    guard.replace(vec![Permission { config, place: Ok(place), pin: None }]);
    guard
}

fn wish(value: f64) -> Wish {
    Wish { device: "press-1".to_owned(), point: "setpoint_c".to_owned(), value, dry_run: false, span: None }
}

const AFAR: Origin = Origin::Afar(Role::Engineer);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn only_what_is_allowed_passes_with_the_registers_it_takes() {
    let directory = tempfile::tempdir().unwrap();
    let mut guard = guard(directory.path(), |_| {});

    assert_eq!(guard.admit(&wish(20.5), AFAR, None, at(0)).unwrap().sent.words, [41]);
    guard.release(&wish(20.5));

    let other = Wish { point: "other".to_owned(), ..wish(20.0) };
    assert!(guard.admit(&other, AFAR, None, at(20)).unwrap_err().contains("does not allow"));
    for outside in [9.9, 60.1, f64::NAN, f64::INFINITY] {
        assert!(guard.admit(&wish(outside), AFAR, None, at(20)).unwrap_err().contains("must be 10 to 60"));
    }
    let operator = Origin::Afar(Role::Operator);
    assert!(guard.admit(&wish(20.0), operator, None, at(20)).unwrap_err().contains("needs the role engineer"));
}

#[test]
fn writes_keep_their_pace_and_do_not_overlap() {
    let directory = tempfile::tempdir().unwrap();
    let mut guard = guard(directory.path(), |_| {});
    guard.admit(&wish(20.0), AFAR, None, at(100)).unwrap();

    assert!(guard.admit(&wish(21.0), AFAR, None, at(200)).unwrap_err().contains("is being written"));
    guard.release(&wish(20.0));
    assert!(guard.admit(&wish(21.0), AFAR, None, at(109)).unwrap_err().contains("may be again in 1.0 s"));
    let dry = Wish { dry_run: true, ..wish(21.0) };
    guard.admit(&dry, AFAR, None, at(110)).unwrap();
    guard.release(&dry);
    assert!(guard.admit(&wish(21.0), AFAR, None, at(110)).is_ok());
}

#[test]
fn the_lock_holds_writes_from_afar_and_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    guard(directory.path(), |_| {}).lock().lock().unwrap();
    let mut guard = guard(directory.path(), |_| {});

    assert!(guard.admit(&wish(20.0), AFAR, None, at(0)).unwrap_err().contains("locked"));
    assert!(guard.admit(&wish(20.0), Origin::Here, None, at(0)).is_ok());
    guard.release(&wish(20.0));
    guard.lock().lift().unwrap();
    assert!(guard.admit(&wish(20.0), AFAR, None, at(20)).is_ok());
}

#[test]
fn a_lease_is_as_long_as_the_owner_allows() {
    let directory = tempfile::tempdir().unwrap();
    let lease = Lease { longest: at(600), safe: 15.0, without_broker: at(30) };
    let mut guard = guard(directory.path(), |config| config.lease = Some(lease));
    let leased = |span: u64| Wish { span: Some(Span(at(span))), ..wish(20.0) };

    assert!(guard.admit(&leased(601), AFAR, None, at(0)).unwrap_err().contains("for 10m at most"));
    assert_eq!(guard.admit(&leased(60), AFAR, None, at(0)).unwrap().lease, Some(at(60)));
    guard.release(&wish(20.0));
    assert_eq!(guard.admit(&wish(20.0), AFAR, None, at(20)).unwrap().lease, Some(at(600)));
    assert_eq!(guard.way_back("press-1", "setpoint_c").unwrap().sent.words, [30]);
}

#[test]
fn the_range_holds_for_what_is_sent() {
    let directory = tempfile::tempdir().unwrap();
    let mut guard = guard(directory.path(), |config| config.range = (10.2, 59.8));

    let refused = guard.admit(&wish(10.2), AFAR, None, at(0)).unwrap_err();
    assert_eq!(refused, "press-1/setpoint_c = 10.2 would be sent as 10: must be 10.2 to 59.8");
    assert!(guard.admit(&wish(59.8), AFAR, None, at(0)).unwrap_err().contains("would be sent as 60"));
}

#[test]
fn what_was_written_before_the_boot_counts_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let mut guard = guard(directory.path(), |_| {});
    guard.was_written("press-1/setpoint_c", at(6), at(2));

    assert!(guard.admit(&wish(20.0), AFAR, None, at(5)).unwrap_err().contains("written 9.0 s ago"));
    // Neither do older news make it longer ago.
    guard.was_written("press-1/setpoint_c", at(60), at(5));
    assert!(guard.admit(&wish(20.0), AFAR, None, at(5)).unwrap_err().contains("written 9.0 s ago"));
    assert!(guard.admit(&wish(20.0), AFAR, None, at(6)).is_ok());
}
