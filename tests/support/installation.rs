//! The real program in a directory of its own: configuration, profiles, store and socket.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use lineside::diagnostics::protocol::ShownReading;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

/// No fact that a test waits for takes this long on the slowest machine.
const CERTAIN: Duration = Duration::from_secs(60);

/// Where nobody listens: an agent that only polls needs no broker.
pub const NO_BROKER: &str = "mqtt://127.0.0.1:1";

/// A gateway as its owner set it up.
pub struct Installation {
    directory: TempDir,
}

impl Installation {
    /// Writes `profiles` (id and text) and a configuration that ends with `links`, its links and devices.
    pub fn new(mqtt_url: &str, profiles: &[(&str, &str)], links: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("lineside-test-").tempdir().unwrap();
        std::fs::create_dir(directory.path().join("profiles")).unwrap();
        for (id, text) in profiles {
            std::fs::write(directory.path().join(format!("profiles/{id}.toml")), text).unwrap();
        }
        let configuration = format!(
            "[gateway]\nsite = \"lyon\"\nid = \"gw-01\"\nsocket = \"lineside.sock\"\nprofiles = \"profiles\"\n\
             [store]\npath = \"store\"\n[mqtt]\nurl = \"{mqtt_url}\"\n{links}"
        );
        std::fs::write(directory.path().join("lineside.toml"), configuration).unwrap();
        Self { directory }
    }

    /// The configuration file.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("lineside.toml")
    }

    /// The directory of everything.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// `lineside` with `arguments` and this configuration, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lineside"));
        command.args(arguments).arg("--config").arg(self.file()).stdin(Stdio::null());
        command
    }

    /// Runs `lineside` to its end.
    pub async fn lineside(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
    }

    /// Starts the agent and waits until it answers on its socket.
    pub async fn start(&self) -> Agent<'_> {
        let log = std::fs::File::create(self.directory.path().join("agent.log")).unwrap();
        let process = self.command(&["run"]).stderr(log).spawn().unwrap();
        let mut agent = Agent { installation: self, process };
        let deadline = Instant::now() + CERTAIN;
        while std::os::unix::net::UnixStream::connect(self.directory.path().join("lineside.sock")).is_err() {
            agent.assert_running();
            assert!(Instant::now() < deadline, "the agent opens no socket:\n{}", agent.log());
            sleep(Duration::from_millis(20)).await;
        }
        agent
    }
}

/// A running `lineside run`. Killed when dropped.
pub struct Agent<'a> {
    installation: &'a Installation,
    process: Child,
}

impl Agent<'_> {
    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.installation.path().join("agent.log")).unwrap()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Fails the test with the log when the agent has ended.
    pub fn assert_running(&mut self) {
        let ended = self.process.try_wait().unwrap();
        assert!(ended.is_none(), "the agent has ended, {ended:?}:\n{}", self.log());
    }

    /// What `lineside tail` shows from now on.
    pub fn tail(&self) -> Tail {
        let command =
            self.installation.command(&["tail", "--json"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut process = command.unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (sender, readings) = mpsc::channel(10_000);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.blocking_send(serde_json::from_str(&line).unwrap()).is_err() {
                    // The test has seen enough.
                    return;
                }
            }
        });
        Tail { process, readings }
    }

    /// The snapshot that `lineside status` shows.
    pub async fn status(&self) -> serde_json::Value {
        let output = self.installation.lineside(&["status", "--json"]).await;
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}\n{}", self.log()))
    }

    /// SIGTERM, and the exit code it leads to.
    pub async fn stop(mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let deadline = Instant::now() + CERTAIN;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the agent does not stop:\n{}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        // It may have ended already.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// A running `lineside tail`. Killed when dropped.
pub struct Tail {
    process: Child,
    readings: mpsc::Receiver<ShownReading>,
}

impl Tail {
    /// The next reading.
    pub async fn next(&mut self) -> ShownReading {
        let next = tokio::time::timeout(CERTAIN, self.readings.recv()).await;
        next.expect("a reading in time").expect("lineside tail runs")
    }

    /// The next reading that fits; all others are passed over.
    pub async fn until(&mut self, what: &str, fits: impl Fn(&ShownReading) -> bool) -> ShownReading {
        let deadline = Instant::now() + CERTAIN;
        let mut last = None;
        while Instant::now() < deadline {
            let reading = self.next().await;
            if fits(&reading) {
                return reading;
            }
            last = Some(reading);
        }
        panic!("waited {CERTAIN:?} in vain for {what}; the last reading was {last:?}");
    }

    /// All readings of a span of time.
    pub async fn during(&mut self, span: Duration) -> Vec<ShownReading> {
        let mut readings = Vec::new();
        let end = Instant::now() + span;
        while let Ok(reading) = tokio::time::timeout_at(end, self.readings.recv()).await {
            readings.push(reading.expect("lineside tail runs"));
        }
        readings
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        // It may have ended already.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}
