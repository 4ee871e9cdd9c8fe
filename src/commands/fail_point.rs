//! Where a test lets the process die, to see that nothing is done twice. Not in release builds.

/// Dies here, as by a power cut, when `LINESIDE_FAIL_POINT` names this place.
#[cfg(debug_assertions)]
pub fn reached(place: &str) {
    if std::env::var("LINESIDE_FAIL_POINT").is_ok_and(|wanted| wanted == place) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::thread::sleep(std::time::Duration::from_secs(60));
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub fn reached(_place: &str) {}
