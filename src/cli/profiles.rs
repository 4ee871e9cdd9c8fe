//! `lineside profiles`: which device types there are, and what a profile says.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::table::Table;
use super::{ConfigOption, Exit, Failure, write_json, written};
use crate::config::{self, DEFAULT_PROFILES};
use crate::profile::{Profile, Protocol, file, shipped};

/// Show the profiles that devices can name: the shipped ones and those of the site.
#[derive(Debug, Args)]
pub(super) struct Profiles {
    #[command(subcommand)]
    subcommand: ProfilesSubcommand,
    #[command(flatten)]
    config: ConfigOption,
    /// Directory of own profiles; without it the one that the configuration names.
    #[arg(long, value_name = "DIRECTORY", global = true)]
    directory: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum ProfilesSubcommand {
    /// One line for each profile. Exit code 1 when one of the site has a fault, which is shown.
    List {
        /// One JSON array.
        #[arg(long)]
        json: bool,
    },
    /// The file of a profile as it is used, to read or to begin an own one with.
    Show {
        /// Name of the profile, such as eastron-sdm630.
        #[arg(value_name = "NAME")]
        name: String,
    },
}

#[derive(Serialize)]
struct Listed {
    name: String,
    manufacturer: String,
    model: String,
    protocol: &'static str,
    points: usize,
    /// `shipped`, `site`, or `site, instead of the shipped one`.
    origin: &'static str,
}

impl Profiles {
    pub fn run(self) -> Result<Exit, Failure> {
        let directory = self.directory();
        match self.subcommand {
            ProfilesSubcommand::List { json } => list(&directory, json),
            ProfilesSubcommand::Show { name } => show(&directory, &name),
        }
    }

    /// Where own profiles are. A configuration with faults does not stop a look at them.
    fn directory(&self) -> PathBuf {
        let configured = || config::load(&self.config.config).ok().map(|config| config.profiles);
        self.directory.clone().or_else(configured).unwrap_or_else(|| PathBuf::from(DEFAULT_PROFILES))
    }
}

fn list(directory: &Path, json: bool) -> Result<Exit, Failure> {
    let (profiles, faults) = file::all(directory);
    let mut listed: Vec<Listed> = profiles.iter().map(|profile| entry(directory, profile)).collect();
    listed.sort_by(|one, other| one.name.cmp(&other.name));
    let mut out = anstream::stdout().lock();
    written(match json {
        true => write_json(&mut out, &listed),
        false => {
            let mut table = Table::new(["profile", "manufacturer", "device", "points", "from"]);
            for Listed { name, manufacturer, model, points, origin, .. } in listed {
                table.row([name, manufacturer, model, points.to_string(), origin.to_owned()]);
            }
            table.write(&mut out, 0)
        }
    })?;
    faults.iter().for_each(|fault| eprintln!("{fault}"));
    Ok(if faults.is_empty() { Exit::Done } else { Exit::Findings })
}

fn entry(directory: &Path, profile: &Profile) -> Listed {
    let is_own = directory.join(format!("{}.toml", profile.id)).is_file();
    let (protocol, points) = match &profile.protocol {
        Protocol::Modbus(modbus) => ("modbus", modbus.points.len()),
        Protocol::Text(text) => ("text", text.points.len()),
    };
    let origin = match (is_own, profile.is_shipped()) {
        (false, _) => "shipped",
        (true, false) => "site",
        (true, true) => "site, instead of the shipped one",
    };
    let (name, manufacturer, model) = (profile.id.clone(), profile.manufacturer.clone(), profile.model.clone());
    Listed { name, manufacturer, model, protocol, points, origin }
}

fn show(directory: &Path, name: &str) -> Result<Exit, Failure> {
    // Says what there is instead when there is none, and never leads out of the directory.
    let loaded = file::load(directory, name);
    let own = directory.join(format!("{name}.toml"));
    let text = match (&loaded, shipped::text(name)) {
        (Ok(_), _) if own.is_file() => std::fs::read_to_string(&own).map_err(anyhow::Error::from)?,
        (_, Some(text)) if !own.is_file() => text.to_owned(),
        (Ok(_) | Err(_), _) => {
            let faults = loaded.err().unwrap_or_default();
            return Err(Failure::Refused(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")));
        }
    };
    written(std::io::stdout().lock().write_all(text.as_bytes()))?;
    Ok(Exit::Done)
}
