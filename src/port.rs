//! Why a serial port cannot be opened, and what to do: who else has it, which others there are, which group is missing.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// `error`, with the name of the port and what can be done.
pub fn explained(port: &Path, error: &io::Error) -> io::Error {
    let (name, advice) = (port.display(), advice(port, error));
    let text = error.to_string();
    let reason = text.split(" (os error").next().unwrap_or(&text).to_lowercase();
    io::Error::new(error.kind(), format!("serial port {name} cannot be opened: {reason}{advice}"))
}

fn advice(port: &Path, error: &io::Error) -> String {
    let Ok(file) = fs::metadata(port) else {
        return match ports().as_slice() {
            [] => "; there is no serial adapter".to_owned(),
            ports => format!("; there are {}", ports.join(", ")),
        };
    };
    let holders = holders(port);
    if !holders.is_empty() {
        return format!(
            "; the port is held by {}: end that, or name the socket of that agent with --socket",
            holders.join(" and ")
        );
    }
    let may_open = access(port, Access::READ_OK | Access::WRITE_OK).is_ok();
    if may_open && error.kind() != io::ErrorKind::PermissionDenied {
        return String::new();
    }
    let (group, mode) = (group_name(file.gid()), file.mode());
    match group {
        Some(group) if mode & 0o060 == 0o060 => {
            format!("; it takes the members of group {group}: `sudo usermod -aG {group} USER`, then log in again")
        }
        Some(_) | None => format!("; its mode {:03o} lets no group in", mode & 0o777),
    }
}

fn group_name(wanted: u32) -> Option<String> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    let found = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (id.parse() == Ok(wanted)).then(|| name.to_owned())
    });
    Some(found.unwrap_or_else(|| wanted.to_string()))
}

/// Serial adapters, by the names that stay the same; where the system gives none, as they are.
fn ports() -> Vec<String> {
    let below = |directory: &str, begin: &[&str]| {
        let files = fs::read_dir(directory).into_iter().flatten().flatten().map(|file| file.path());
        let fits = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            begin.iter().any(|begin| name.starts_with(begin))
        };
        let mut ports: Vec<String> = files.filter(fits).map(|path| path.display().to_string()).collect();
        ports.sort();
        ports
    };
    let named = below("/dev/serial/by-id", &[""]);
    if named.is_empty() { below("/dev", &["ttyUSB", "ttyACM", "ttyAMA", "ttymxc"]) } else { named }
}

/// Other processes that have the file at `path` open, as far as this user may see.
fn holders(path: &Path) -> Vec<String> {
    let Ok(port) = path.canonicalize() else { return Vec::new() };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let others = processes.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
    let has_it = |process: &u32| {
        let files = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
        files.into_iter().any(|file| fs::read_link(file.path()).is_ok_and(|target| target == port))
    };
    let others = others.filter(|process| *process != std::process::id()).filter(has_it);
    let named = |process| {
        let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        format!("{} (process {process})", name.trim_end())
    };
    others.map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_may_not_be_opened_names_its_group() {
        let denied = io::Error::from_raw_os_error(13);
        let text = explained(Path::new("/dev/tty"), &denied).to_string();

        assert!(text.starts_with("serial port /dev/tty cannot be opened: permission denied"), "{text}");
        assert!(group_name(0).is_some_and(|name| name == "root"));
        let missing = explained(Path::new("/no/such/port"), &io::Error::from_raw_os_error(2)).to_string();
        assert!(missing.contains("/no/such/port") && missing.contains("; there"), "{missing}");
    }
}
