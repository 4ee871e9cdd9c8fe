//! `lineside simulate`: a simulated plant without agent, for tests and measurements.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::{Exit, Failure, runtime};
use crate::logging;
use crate::simulator::Keep;
use crate::simulator::plant::{Plant, PlantSpec};
use crate::simulator::uniform::{Endpoints, UniformSpec, serve_uniform};

/// Simulate a plant and write a configuration that reads it. Ends on Ctrl-C.
///
/// Without --devices it is the plant of the demonstration; with it, equal devices on Modbus TCP for load measurements.
#[derive(Debug, Args)]
#[command(hide = true)]
pub(super) struct Simulate {
    /// Where to write lineside.toml and the profile it needs.
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
    /// Broker that the configuration names.
    #[arg(long, default_value = "mqtt://127.0.0.1:1883")]
    mqtt: String,
    /// Equal devices.
    #[arg(long, value_name = "1..247")]
    devices: Option<u8>,
    /// Points of each, of single precision.
    #[arg(long, default_value_t = 50)]
    points: u16,
    /// Each device behind an endpoint of its own.
    #[arg(long)]
    own_endpoints: bool,
    /// Polling interval of the configuration.
    #[arg(long, default_value = "1s")]
    interval: String,
    /// How often values change, in milliseconds; 0: with each request.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    renewal: u64,
}

impl Simulate {
    pub fn run(self) -> Result<Exit, Failure> {
        logging::start("warn");
        runtime()?.block_on(self.serve())?;
        Ok(Exit::Done)
    }

    async fn serve(self) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.directory)?;
        // Beside the configuration, where relative paths begin.
        let store = Path::new("store");
        match self.devices {
            None => {
                let plant = Plant::start(PlantSpec { keep: Keep::Counters, ..PlantSpec::default() }).await?;
                self.announce(&plant.configuration(store, &self.mqtt))?;
                tokio::signal::ctrl_c().await?;
                plant.stop().await;
            }
            Some(devices) => {
                let endpoints = if self.own_endpoints { Endpoints::Own } else { Endpoints::Shared };
                let renewal = Duration::from_millis(self.renewal);
                let spec =
                    UniformSpec { devices, points: self.points, endpoints, renewal, seed: 1, keep: Keep::Counters };
                std::fs::create_dir_all(self.directory.join("profiles"))?;
                std::fs::write(self.directory.join("profiles/uniform.toml"), spec.profile())?;
                let plant = serve_uniform(spec).await?;
                let configuration = plant.configuration(store, &self.mqtt, &self.interval);
                self.announce(&configuration.replacen("[gateway]", "[gateway]\nprofiles = \"profiles\"", 1))?;
                tokio::signal::ctrl_c().await?;
                plant.stop().await;
            }
        }
        Ok(())
    }

    /// Writes the configuration, then a line that says so: whoever started this waits for it.
    fn announce(&self, configuration: &str) -> anyhow::Result<()> {
        let file = self.directory.join("lineside.toml");
        std::fs::write(&file, configuration.replacen("[gateway]", "[gateway]\nsocket = \"lineside.sock\"", 1))?;
        let mut out = std::io::stdout();
        writeln!(out, "{}", file.display())?;
        out.flush()?;
        Ok(())
    }
}
