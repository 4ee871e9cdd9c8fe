//! Profile files: one TOML file per device type.
//!
//! A file holds `manufacturer` and `model`, then either `[modbus]` with `[[point]]`s in registers, or `[text]` with
//! `[[text.pattern]]`s and `[[point]]`s in lines. A key that means nothing is refused, so that a typing error cannot
//! pass for a setting. A Modbus device may have `[identification]`, how it is recognised and where its firmware
//! version stands, and `[[variant]]`s, what differs from the points of the file for some versions or models. A device
//! that lays out its map itself has `[[sunspec]]` models instead of points.

use std::path::Path;

use super::modbus_file::{self, Parts};
use super::{Profile, Protocol, shipped, text_file};
use crate::settings::{FileFault, Section, Source, canonical, nearest, read_text};

/// The profile `id`: `<directory>/<id>.toml`, or else the one that was compiled in.
///
/// # Errors
///
/// All faults of the file at once, or that there is no such profile.
pub fn load(directory: &Path, id: &str) -> Result<Profile, Vec<FileFault>> {
    let path = directory.join(format!("{id}.toml"));
    let file = path.display().to_string();
    if !is_file_stem(id) {
        let file = directory.display().to_string();
        return Err(vec![FileFault::of_file(&file, "no such profile: a name has letters, digits, '-', '_' and '.'")]);
    }
    match read_text(&path)? {
        Some(text) => parse(&file, id, &text),
        None => match shipped::text(id) {
            Some(text) => parse(&format!("firmware-profiles/{id}.toml"), id, text),
            None => Err(vec![FileFault::of_file(&file, no_such_profile(id))]),
        },
    }
}

/// The faults of all profiles in `directory`, where there is one.
pub fn faults_in(directory: &Path) -> Vec<FileFault> {
    ids_in(directory).into_iter().filter_map(|id| load(directory, &id).err()).flatten().collect()
}

/// Names of the profiles in `directory`, in alphabetical order, with faults or without.
pub fn ids_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = entries.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    let mut ids: Vec<String> =
        files.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).filter(|id| is_file_stem(id)).collect();
    ids.sort();
    ids
}

/// Every profile there is, those of `directory` first and each only once, and the faults of those that cannot be used.
pub fn all(directory: &Path) -> (Vec<Profile>, Vec<FileFault>) {
    let mut ids = ids_in(directory);
    ids.extend(
        shipped::ids().filter(|shipped| !ids.iter().any(|id| id == shipped)).map(str::to_owned).collect::<Vec<_>>(),
    );
    let (mut profiles, mut faults) = (Vec::new(), Vec::new());
    for id in ids {
        match load(directory, &id) {
            Ok(profile) => profiles.push(profile),
            Err(found) => faults.extend(found),
        }
    }
    (profiles, faults)
}

/// The profile `id` that `text` describes; `file` is what messages call it.
///
/// # Errors
///
/// All faults at once, in the order of the file.
pub fn parse(file: &str, id: &str, text: &str) -> Result<Profile, Vec<FileFault>> {
    let source = Source::new(file, text);
    let profile = source.root().and_then(|root| read(root, id));
    match (profile, source.into_faults()) {
        (Some(profile), faults) if faults.is_empty() => Ok(Profile { content: canonical(text), ..profile }),
        (_, faults) => Err(faults),
    }
}

/// A profile that is no file of its own: an instrument whose lines `text` describes, with its points. `None` when it
/// has faults, which were noted where it stands.
pub fn of_lines(id: &str, text: Section<'_, '_>, points: Vec<Section<'_, '_>>) -> Option<Profile> {
    let protocol = Protocol::Text(text_file::read(text, points)?);
    // What is sent and how lines are understood is nowhere else: permissions that rest on it see it change.
    let content = format!("{protocol:?}");
    let manufacturer = "as configured".to_owned();
    Some(Profile { id: id.to_owned(), manufacturer, model: id.to_owned(), protocol, content })
}

/// A profile that is no file of its own: the register map `points` with what they have in common in `modbus`. `None`
/// when it has faults, which were noted where it stands.
pub fn of_map(id: &str, modbus: Section<'_, '_>, points: Vec<Section<'_, '_>>) -> Option<Profile> {
    let parts = Parts { identification: None, variants: Vec::new(), sunspec: Vec::new(), points };
    let protocol = Protocol::Modbus(modbus_file::read(modbus, parts)?);
    Some(Profile {
        id: id.to_owned(),
        manufacturer: "as configured".to_owned(),
        model: id.to_owned(),
        protocol,
        content: String::new(),
    })
}

fn read(mut root: Section<'_, '_>, id: &str) -> Option<Profile> {
    let manufacturer = root.require("manufacturer", "who makes it, text").and_then(|item| item.text());
    let model = root.require("model", "what it is called, text").and_then(|item| item.text());
    let modbus = root.has("modbus").then(|| root.section("modbus"));
    let text = root.take("text");
    let identification = root.take("identification");
    let variants = root.sections("variant");
    let sunspec = root.sections("sunspec");
    let points = root.sections("point");
    if points.is_empty() && sunspec.is_empty() {
        root.missing("point", "at least one [[point]] with a name");
    }
    let protocol = match (modbus, text) {
        (Some(modbus), None) => {
            let parts = Parts { identification, variants, sunspec, points };
            modbus_file::read(modbus, parts).map(Protocol::Modbus)
        }
        (None, Some(text)) => {
            if let Some(item) = identification {
                item.fault("a text instrument is not identified");
            }
            variants.iter().for_each(|variant| variant.fault("a text instrument has no variants"));
            sunspec.iter().for_each(|model| model.fault("a text instrument has no SunSpec models"));
            text.section().and_then(|text| text_file::read(text, points)).map(Protocol::Text)
        }
        (Some(modbus), Some(text)) => {
            text.fault("[modbus] and [text] exclude each other");
            check_registers(modbus, Parts { identification, variants, sunspec, points });
            None
        }
        (None, None) => {
            root.fault("needs a section [modbus] or [text]");
            check_registers(root.section("modbus").excused(), Parts { identification, variants, sunspec, points });
            None
        }
    };
    root.finish();
    Some(Profile {
        id: id.to_owned(),
        manufacturer: manufacturer?,
        model: model?,
        protocol: protocol?,
        content: String::new(),
    })
}

/// Notes what is wrong with points in registers although the file as a whole cannot be used.
fn check_registers(modbus: Section<'_, '_>, parts: Parts<'_, '_>) {
    let in_registers = |point: &Section<'_, '_>| point.has("address") || point.has("addresses");
    if parts.points.iter().any(in_registers) {
        let _unused = modbus_file::read(modbus, parts);
    }
}

/// Names with a path in them, or hidden ones, never lead to a file.
fn is_file_stem(id: &str) -> bool {
    let all_allowed = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    all_allowed && !id.is_empty() && !id.starts_with('.')
}

fn no_such_profile(id: &str) -> String {
    if let Some(near) = nearest(shipped::ids(), id) {
        return format!("no such profile; did you mean {near:?}?");
    }
    let maker = id.split('-').next().unwrap_or_default();
    let same_maker: Vec<&str> = shipped::ids().filter(|known| known.split('-').next() == Some(maker)).collect();
    let shown = if same_maker.is_empty() { shipped::ids().collect() } else { same_maker };
    format!("no such profile (shipped are {})", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_site_goes_before_the_shipped_one() {
        let site = tempfile::tempdir().unwrap();
        let own = shipped::text("banner-qm42vt2").unwrap().replace("Banner", "Banner, our map");
        std::fs::write(site.path().join("banner-qm42vt2.toml"), own).unwrap();

        let with_own = load(site.path(), "banner-qm42vt2").unwrap();
        let without = load(Path::new("/nonexistent"), "banner-qm42vt2").unwrap();

        assert_eq!(with_own.manufacturer, "Banner, our map");
        assert_eq!(without.manufacturer, "Banner");
    }

    #[test]
    fn the_content_is_what_a_profile_says_and_not_how_it_is_laid_out() {
        let text = shipped::text("abb-b23").unwrap();
        let content = |text: &str| parse("a.toml", "a", text).unwrap().content;
        let laid_out = text.replace('\n', "  # spaced\n\n");
        let other = text.replacen("address = 0x5000", "address = 0x5001", 1);

        assert_eq!(content(text), content(&laid_out));
        assert_ne!(content(text), content(&other));
    }

    #[test]
    fn all_profiles_are_those_of_the_site_and_the_shipped_ones() {
        let site = tempfile::tempdir().unwrap();
        std::fs::write(site.path().join("own.toml"), shipped::text("banner-qm42vt2").unwrap()).unwrap();
        std::fs::write(site.path().join("broken.toml"), "nonsense").unwrap();

        let (profiles, faults) = all(site.path());

        assert_eq!(profiles.len(), shipped::ids().count() + 1);
        assert_eq!((profiles[0].id.as_str(), faults.len()), ("own", 1));
    }

    #[test]
    fn a_profile_that_does_not_exist_is_named_with_those_that_do() {
        let faults = load(Path::new("profiles"), "acme-pm5").unwrap_err();

        assert!(
            faults[0]
                .to_string()
                .starts_with("profiles/acme-pm5.toml: no such profile (shipped are abb-acs580, abb-b23, ")
        );
    }

    #[test]
    fn an_id_cannot_lead_out_of_the_directory() {
        for id in ["../secret", "", ".hidden", "a/b"] {
            assert!(load(Path::new("profiles"), id).is_err(), "{id}");
        }
    }
}
