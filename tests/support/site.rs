//! An installation in a directory of its own, and the agent as the service manager would start it: the real program.

use std::fmt::{Display, Write};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use lineside::buffer::{self, BufferSettings, ReadLimit, WhenFull};
use lineside::clock::SystemClock;
use lineside::model::{Commit, Lane, Sequence};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::sync::watch;

use super::{directory, within};

/// Below it are the topics of the gateway.
pub const BASE: &str = "lineside/v1/lyon/gw-01";

/// The directory of an installation.
pub struct Site {
    directory: TempDir,
}

impl Site {
    /// An installation that knows the given profiles, by name and text, and has no configuration yet.
    pub fn with_profiles(profiles: &[(&str, &str)]) -> Self {
        let site = Self { directory: directory() };
        std::fs::create_dir(site.path().join("profiles")).unwrap();
        for (name, text) in profiles {
            std::fs::write(site.path().join(format!("profiles/{name}.toml")), text).unwrap();
        }
        site
    }

    /// Where everything is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where the readings are kept.
    pub fn store(&self) -> PathBuf {
        self.path().join("store")
    }

    /// Writes the configuration file.
    pub fn configure(&self, configuration: &Configuration) {
        std::fs::write(self.path().join("lineside.toml"), &configuration.0).unwrap();
    }

    /// Starts the agent.
    pub fn start(&self) -> Agent {
        self.start_with(|command| command)
    }

    /// Starts the agent with more in its environment.
    pub fn start_with(&self, environment: impl FnOnce(&mut Command) -> &mut Command) -> Agent {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lineside"));
        command.arg("run").arg("--config").arg(self.path().join("lineside.toml"));
        for name in ["RUST_LOG", "NOTIFY_SOCKET", "WATCHDOG_USEC", "JOURNAL_STREAM", "LINESIDE_CONFIG"] {
            command.env_remove(name);
        }
        // As the service manager would: it keeps the directory when the process dies.
        command.env("RUNTIME_DIRECTORY", self.path());
        let mut process = environment(&mut command).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, log) = watch::channel(String::new());
        let lines = BufReader::new(process.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                sender.send_modify(|log| {
                    log.push_str(&line);
                    log.push('\n');
                });
            }
        });
        Agent { process, log }
    }

    /// What the running agent says about itself: `lineside status --json`.
    pub async fn status(&self) -> serde_json::Value {
        let (shown, error) = self.ask_status(&["--json"]).await;
        serde_json::from_str(&shown).unwrap_or_else(|_| panic!("no status: {error}"))
    }

    /// What `lineside status` shows a person.
    pub async fn shown(&self) -> String {
        self.ask_status(&[]).await.0
    }

    async fn ask_status(&self, arguments: &[&str]) -> (String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lineside"));
        command.arg("status").args(arguments).arg("--socket").arg(self.path().join("lineside.sock"));
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).into()
    }

    /// Runs `lineside` with this configuration to its end.
    pub async fn lineside(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lineside"));
        command.args(arguments).arg("--config").arg(self.path().join("lineside.toml")).stdin(Stdio::null());
        tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
    }

    /// Asks for the status again and again until it says so.
    pub async fn until(&self, what: &str, fact: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let asking = async {
            loop {
                let status = self.status().await;
                if fact(&status) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        within(what, asking).await
    }

    /// What the store still has to deliver. No agent may run.
    pub async fn undelivered(&self) -> Vec<Commit> {
        let settings = BufferSettings {
            path: self.store(),
            limit_bytes: 512 << 20,
            commit_interval: Duration::from_secs(1),
            commit_interval_max: Duration::from_secs(1),
            engine: Default::default(),
            when_full: WhenFull::Thin,
        };
        let (thread, store) = buffer::open(settings, Arc::new(SystemClock::new(true))).unwrap();
        let mut commits: Vec<Commit> = Vec::new();
        for lane in Lane::ALL {
            let mut from = Sequence::FIRST;
            loop {
                let read =
                    store.read(lane, from, ReadLimit { commits: usize::MAX, records: usize::MAX }).await.unwrap();
                let Some(last) = read.last() else { break };
                from = last.header.sequence.next();
                commits.extend(read);
            }
        }
        store.close().await.unwrap();
        thread.join().unwrap();
        commits
    }
}

/// The text of a configuration file, section by section.
#[derive(Clone)]
pub struct Configuration(String);

impl Configuration {
    /// A gateway that delivers to `url`; `mqtt` are further lines of that section.
    pub fn to(url: impl Display, mqtt: &str) -> Self {
        Self(format!(
            "[gateway]\nsite = \"lyon\"\nid = \"gw-01\"\nsocket = \"lineside.sock\"\nprofiles = \"profiles\"\n\n\
             [store]\npath = \"store\"\n\n[mqtt]\nurl = \"{url}\"\n{mqtt}\n"
        ))
    }

    /// As [`to`](Self::to), for a port on loopback.
    pub fn to_port(port: u16, mqtt: &str) -> Self {
        Self::to(format_args!("mqtt://127.0.0.1:{port}"), mqtt)
    }

    /// A configuration that somebody else wrote, with socket and profiles in the directory of the site.
    pub fn foreign(text: &str) -> Self {
        Self(text.replacen("[gateway]", "[gateway]\nsocket = \"lineside.sock\"\nprofiles = \"profiles\"", 1))
    }

    /// And a link; `more` are further lines of its section.
    pub fn link(mut self, name: &str, address: SocketAddr, more: &str) -> Self {
        writeln!(self.0, "\n[[link]]\nname = \"{name}\"\ntcp = \"{address}\"\n{more}").unwrap();
        self
    }

    /// And a device.
    pub fn device(mut self, name: &str, link: &str, unit: u8, profile: &str, interval: &str) -> Self {
        writeln!(
            self.0,
            "\n[[device]]\nname = \"{name}\"\nlink = \"{link}\"\nunit_id = {unit}\nprofile = \"{profile}\"\n\
             interval = \"{interval}\""
        )
        .unwrap();
        self
    }

    /// The text of the file.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// And lines in the section of the store.
    pub fn store(self, lines: &str) -> Self {
        Self(self.0.replacen("[store]", &format!("[store]\n{lines}"), 1))
    }

    /// And lines in the section of the broker.
    pub fn mqtt(self, lines: &str) -> Self {
        Self(self.0.replacen("[mqtt]", &format!("[mqtt]\n{lines}"), 1))
    }

    /// And lines as they are.
    pub fn lines(mut self, lines: &str) -> Self {
        writeln!(self.0, "{lines}").unwrap();
        self
    }
}

/// A running agent. Killed when dropped; a test that fails shows its log.
pub struct Agent {
    process: Child,
    log: watch::Receiver<String>,
}

impl Agent {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// SIGTERM: the service manager stops it.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGHUP: the configuration has changed.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub async fn exit(&mut self) -> ExitStatus {
        let mut log = self.log.clone();
        within("the agent to exit", async { while log.changed().await.is_ok() {} }).await;
        self.process.wait().unwrap()
    }

    /// Everything it logged.
    pub fn log(&self) -> String {
        self.log.borrow().clone()
    }

    /// Waits until it has logged `text`.
    pub async fn logged(&self, text: &str) {
        let mut log = self.log.clone();
        let seen = within(format!("{text:?} in the agent's log"), log.wait_for(|log| log.contains(text))).await.is_ok();
        assert!(seen, "the agent ended without {text:?} in its log");
    }

    /// Waits until it has logged `text` so many times.
    pub async fn logged_times(&self, text: &str, times: usize) {
        let mut log = self.log.clone();
        let fact = log.wait_for(|log| log.matches(text).count() >= times);
        let seen = within(format!("{text:?} {times} times in the agent's log"), fact).await.is_ok();
        assert!(seen, "the agent ended without {text:?} in its log");
    }

    /// Most memory it ever took, in bytes.
    pub fn memory_peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may be dead already.
        _ = self.process.kill();
        _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("---- log of the agent\n{}----", self.log());
        }
    }
}
