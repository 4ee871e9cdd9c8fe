//! Files that a configuration names: certificates that expire, files that the service may not read, values that look as
//! if a shell should fill them in.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::config::Config;
use crate::model::Timestamp;
use crate::mqtt::expiry_warnings;

/// The user that the service runs as (deploy/lineside.service).
const SERVICE_USER: &str = "lineside";

/// Everything that is likely to go wrong with files, for people.
pub(super) fn warnings(file: &Path, config: &Config, now: Timestamp) -> Vec<String> {
    let mut warnings = unfilled(file);
    warnings.extend(certificates(config, now));
    warnings.extend(unreadable(file, config));
    warnings
}

/// Values with `${...}` in the file at `path`: nothing fills them in.
pub(super) fn unfilled(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with('#'));
    let found = lines.filter_map(|(number, line)| {
        let begin = line.find("${")?;
        let length = line[begin..].find('}')?;
        let variable = &line[begin..=begin + length];
        Some(format!(
            "{}:{}: {variable} is taken as it stands, nothing fills in environment variables: write the value, or name \
             a file where a key for one is offered",
            path.display(),
            number + 1
        ))
    });
    found.collect()
}

fn certificates(config: &Config, now: Timestamp) -> Vec<String> {
    let Some(tls) = &config.mqtt.tls else { return Vec::new() };
    let authorities = tls.ca_file.iter().flat_map(|file| expiry_warnings("mqtt.ca_file", file, now));
    let own = tls.client.iter().flat_map(|(file, _)| expiry_warnings("mqtt.cert_file", file, now));
    authorities.chain(own).collect()
}

/// Files that root can read and the user of the service cannot: `sudo lineside check` would find nothing wrong.
fn unreadable(file: &Path, config: &Config) -> Vec<String> {
    if !rustix::process::geteuid().is_root() {
        return Vec::new();
    }
    let Some(user) = User::named(SERVICE_USER) else { return Vec::new() };
    let mut files: Vec<(&str, &Path)> = vec![("the configuration", file)];
    if let Some(tls) = &config.mqtt.tls {
        files.extend(tls.ca_file.iter().map(|file| ("mqtt.ca_file", file.as_path())));
        if let Some((certificate, key)) = &tls.client {
            files.extend([("mqtt.cert_file", certificate.as_path()), ("mqtt.key_file", key.as_path())]);
        }
    }
    let password = config.mqtt.credentials.as_ref().and_then(|credentials| credentials.password_file.as_deref());
    files.extend(password.map(|file| ("mqtt.password_file", file)));
    files.extend(config.rules.files.iter().map(|file| ("rules.files", file.as_path())));
    let hidden = files.into_iter().filter(|(_, file)| !user.may_read(file));
    let told = hidden.map(|(key, file)| {
        format!(
            "{key}: user {SERVICE_USER}, as whom the service runs, may not read {}: chgrp {SERVICE_USER} and mode 0640",
            file.display()
        )
    });
    told.collect()
}

/// A user and its groups, as /etc/passwd and /etc/group have them.
struct User {
    id: u32,
    groups: Vec<u32>,
}

impl User {
    fn named(name: &str) -> Option<Self> {
        let users = std::fs::read_to_string("/etc/passwd").ok()?;
        let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
        Self::parse(name, &users, &groups)
    }

    /// From lines `name:x:id:group:...` and `name:x:id:member,member` (passwd(5), group(5)).
    fn parse(name: &str, users: &str, groups: &str) -> Option<Self> {
        let fields: Vec<&str> =
            users.lines().map(|line| line.split(':').collect()).find(|fields: &Vec<&str>| fields[0] == name)?;
        let (id, own) = (fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
        let of_member = groups.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let is_member = fields.get(3)?.split(',').any(|member| member == name);
            fields.get(2)?.parse().ok().filter(|_| is_member)
        });
        Some(Self { id, groups: std::iter::once(own).chain(of_member).collect() })
    }

    /// By owner, group and mode of the file and of the directories above it.
    fn may_read(&self, file: &Path) -> bool {
        let Ok(file) = file.canonicalize() else { return true };
        let may = |path: &Path, wanted: u32| {
            std::fs::metadata(path).map_or(true, |found| self.has(wanted, found.uid(), found.gid(), found.mode()))
        };
        may(&file, 0o4) && file.ancestors().skip(1).all(|directory| may(directory, 0o1))
    }

    fn has(&self, wanted: u32, owner: u32, group: u32, mode: u32) -> bool {
        let shift = match (owner == self.id, self.groups.contains(&group)) {
            (true, _) => 6,
            (false, true) => 3,
            (false, false) => 0,
        };
        self.id == 0 || mode >> shift & wanted == wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_reads_what_owner_group_and_mode_allow() {
        let users = "root:x:0:0::/root:/bin/sh\nlineside:x:998:997::/var/lib/lineside:/usr/sbin/nologin\n";
        let user = User::parse("lineside", users, "dialout:x:20:anna,lineside\nadm:x:4:anna\n").unwrap();

        assert_eq!((user.id, user.groups.as_slice()), (998, &[997, 20][..]));
        assert!(user.has(4, 0, 997, 0o100_640) && user.has(4, 0, 20, 0o100_640) && user.has(4, 0, 0, 0o100_644));
        assert!(!user.has(4, 0, 0, 0o100_640) && !user.has(4, 0, 4, 0o100_640) && !user.has(4, 998, 0, 0o100_044));
        assert!(User::parse("lineside", "root:x:0:0::/root:/bin/sh\n", "").is_none());
    }

    #[test]
    fn a_variable_that_nothing_fills_in_is_named_with_its_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# ${COMMENT}\n[mqtt]\nurl = \"mqtt://${BROKER}:1883\"\nusername = \"a$b\"\n")
            .unwrap();

        let found = unfilled(file.path());

        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(":3: ${BROKER} is taken as it stands"), "{found:?}");
    }
}
