//! A real Mosquitto for one test, and subscribers to see what arrived at it.

use std::fmt::Write;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

use super::certificates::Certificates;
use super::{directory, run, within};

/// Who may read and write everything, whatever the access rules say.
const OBSERVER: &str = "observer";

/// How a broker is set up. The default takes anybody.
#[derive(Default)]
pub struct Setup<'a> {
    /// Further lines of `mosquitto.conf`, for the listener without TLS where they are about a listener.
    pub lines: &'a [&'a str],
    /// Further lines for the listener with TLS.
    pub tls_lines: &'a [&'a str],
    /// Access rules for everybody but the observer; `None` allows everything.
    pub access: Option<&'a str>,
    /// Users and passwords; without any, no user name is needed.
    pub users: &'a [(&'a str, &'a str)],
    /// With these, there is a TLS listener too, which demands a client certificate.
    pub certificates: Option<&'a Certificates>,
}

/// A running Mosquitto. Killed when dropped.
pub struct Broker {
    process: Child,
    port: u16,
    tls_port: u16,
    directory: TempDir,
    log: watch::Receiver<String>,
}

impl Broker {
    /// A broker that takes anybody.
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    /// A broker set up as asked, on free ports, ready for connections.
    pub async fn with(setup: Setup<'_>) -> Self {
        let directory = directory();
        // Another program may take a free port between our look and the broker's: then look again.
        loop {
            let (port, tls_port) = (free_port(), free_port());
            let configuration = configuration(&setup, &directory, port, tls_port);
            std::fs::write(directory.path().join("mosquitto.conf"), configuration).unwrap();
            let (process, mut log) = spawn(&directory);
            if is_up(&mut log).await {
                return Self { process, port, tls_port, directory, log };
            }
        }
    }

    /// Port without TLS.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Port with TLS.
    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// SIGKILL, as a power cut would.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts again on the same ports, with the same configuration and what it had saved.
    pub async fn restart(&mut self) {
        let (process, log) = spawn(&self.directory);
        (self.process, self.log) = (process, log);
        assert!(is_up(&mut self.log).await, "broker did not start again:\n{}", self.log());
    }

    /// Replaces the access rules of a broker that has some, without a restart.
    pub async fn change_access(&self, rules: &str) {
        write_access(&self.directory, rules);
        kill_process(Pid::from_child(&self.process), Signal::HUP).unwrap();
        self.logged("Reloading config").await;
    }

    /// Everything the broker logged since its last start.
    pub fn log(&self) -> String {
        self.log.borrow().clone()
    }

    /// Waits until the broker has logged `text`.
    pub async fn logged(&self, text: &str) {
        let mut log = self.log.clone();
        within(format!("{text:?} in the broker's log"), log.wait_for(|log| log.contains(text))).await.unwrap();
    }

    /// Subscribes to `filter` as the observer; what is published from now on will be received.
    pub async fn subscribe(&self, filter: &str) -> Subscriber {
        let client = format!("observer-{:08x}", fastrand::u32(..));
        let process = self.spawn_subscriber(&client, &["-V", "5", "-t", filter, "-F", "%r\t%t\t%C\t%E\t%p"]);
        let subscriber = Subscriber::new(process);
        self.logged(&format!("Sending SUBACK to {client}")).await;
        subscriber
    }

    /// Starts `mosquitto_sub` as the observer, with QoS 1.
    pub fn spawn_subscriber(&self, client: &str, arguments: &[&str]) -> Child {
        Command::new("mosquitto_sub")
            .args(["-q", "1", "-i", client])
            .args(arguments)
            .args(self.address_of_observer())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run mosquitto_sub: {error}; tests/run installs it"))
    }

    /// Publishes as the observer and waits until the broker has it.
    pub fn publish(&self, topic: &str, payload: &str) {
        let address = self.address_of_observer();
        let address: Vec<_> = address.iter().map(String::as_str).collect();
        run("mosquitto_pub", &[&address[..], &["-q", "1", "-t", topic, "-m", payload]].concat());
    }

    /// The same with further arguments of `mosquitto_pub`, over MQTT 5.
    pub fn publish_with(&self, topic: &str, payload: &str, arguments: &[&str]) {
        let address = self.address_of_observer();
        let address: Vec<_> = address.iter().map(String::as_str).collect();
        let own = ["-V", "5", "-q", "1", "-t", topic, "-m", payload];
        run("mosquitto_pub", &[&address[..], &own, arguments].concat());
    }

    /// Waits until the broker has logged `text` so many times.
    pub async fn logged_times(&self, text: &str, times: usize) {
        let mut log = self.log.clone();
        let fact = log.wait_for(|log| log.matches(text).count() >= times);
        within(format!("{text:?} {times} times in the broker's log"), fact).await.unwrap();
    }

    fn address_of_observer(&self) -> [String; 8] {
        let port = self.port.to_string();
        ["-h", "127.0.0.1", "-p", &port, "-u", OBSERVER, "-P", OBSERVER].map(str::to_owned)
    }
}

/// `false` when a port was taken.
async fn is_up(log: &mut watch::Receiver<String>) -> bool {
    let running = within("the broker to start", log.wait_for(|log| log.contains(" running"))).await.is_ok();
    let log = log.borrow().clone();
    assert!(running || log.contains("already in use"), "broker does not start:\n{log}");
    running
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may be dead already.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn configuration(setup: &Setup<'_>, directory: &TempDir, port: u16, tls_port: u16) -> String {
    let path = |name: &str| directory.path().join(name);
    let mut text = "user root\nlog_dest stderr\nlog_type all\npersistence true\n".to_owned();
    // An observer that is slow for a while must miss nothing: from a thousand messages on it would. Without any limit, 0,
    // Mosquitto 2.0.11 closes the connection of whoever publishes what he may not.
    text += "max_queued_messages 1000000\n";
    writeln!(text, "persistence_location {}/", directory.path().display()).unwrap();
    writeln!(text, "allow_anonymous {}", setup.users.is_empty()).unwrap();
    writeln!(text, "password_file {}", passwords(path("passwords"), setup.users).display()).unwrap();
    if let Some(access) = setup.access {
        write_access(directory, access);
        writeln!(text, "acl_file {}", path("access").display()).unwrap();
    }
    writeln!(text, "listener {port} 127.0.0.1").unwrap();
    for line in setup.lines {
        writeln!(text, "{line}").unwrap();
    }
    if let Some(certificates) = setup.certificates {
        let (certificate, key) = certificates.server();
        writeln!(text, "listener {tls_port} 127.0.0.1\ncafile {}", certificates.ca().display()).unwrap();
        writeln!(text, "certfile {}\nkeyfile {}", certificate.display(), key.display()).unwrap();
        writeln!(text, "require_certificate true").unwrap();
        for line in setup.tls_lines {
            writeln!(text, "{line}").unwrap();
        }
    }
    text
}

fn write_access(directory: &TempDir, rules: &str) {
    let rules = format!("{rules}\nuser {OBSERVER}\ntopic readwrite #\n");
    std::fs::write(directory.path().join("access"), rules).unwrap();
}

fn passwords(file: PathBuf, users: &[(&str, &str)]) -> PathBuf {
    let path = file.to_str().unwrap();
    run("mosquitto_passwd", &["-c", "-b", path, OBSERVER, OBSERVER]);
    for (user, password) in users {
        run("mosquitto_passwd", &["-b", path, user, password]);
    }
    file
}

fn spawn(directory: &TempDir) -> (Child, watch::Receiver<String>) {
    let mut process = Command::new("mosquitto")
        .arg("-c")
        .arg(directory.path().join("mosquitto.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run mosquitto: {error}; tests/run installs it"));
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
    (process, log)
}

/// A `mosquitto_sub` that is connected and subscribed.
pub struct Subscriber {
    process: Child,
    messages: mpsc::Receiver<Seen>,
}

/// A message as a subscriber sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub retained: bool,
    pub topic: String,
    pub content_type: String,
    /// Seconds; empty without.
    pub expiry: String,
    pub payload: String,
}

impl Subscriber {
    fn new(mut process: Child) -> Self {
        let lines = BufReader::new(process.stdout.take().unwrap());
        let (sender, messages) = mpsc::channel(1000);
        std::thread::spawn(move || read(lines, &sender));
        Self { process, messages }
    }

    /// The next message.
    pub async fn next(&mut self) -> Seen {
        within("a message at the subscriber", self.messages.recv()).await.expect("mosquitto_sub runs")
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // It may be dead already.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

fn read(lines: BufReader<impl Read>, messages: &mpsc::Sender<Seen>) {
    for line in lines.lines().map_while(Result::ok) {
        let mut parts = line.splitn(5, '\t').map(str::to_owned);
        let mut part = || parts.next().expect("five parts, as the format asks for");
        let seen =
            Seen { retained: part() == "1", topic: part(), content_type: part(), expiry: part(), payload: part() };
        if messages.blocking_send(seen).is_err() {
            return;
        }
    }
}
