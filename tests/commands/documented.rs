//! The command lines of the documents do what stands there: each is run, in the order of its file, on a gateway with the
//! broker, the access rules and the rules that they speak of.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::Plant;
use super::support::commander::Signer;
use super::support::within;

/// Lines that another test runs, and which.
const RUN_ELSEWHERE: [(&str, &str); 5] = [
    ("cargo run --release --features demo -- demo", "tests/demo.rs"),
    ("tests/run", "the tests that run now"),
    ("cargo bench --bench store_figures", "a benchmark, for figures"),
    ("LINESIDE_ENGINE=sled benches/scenario plant 200", "a benchmark, for figures"),
    ("cargo test --features demo --test power_cut --test io_errors --test damage --test segments", "tests/run"),
];

/// Rules that raise the alarm of the examples on the counter of the plant.
const RULES: &str = "groups:\n  - name: presses\n    interval: 1s\n    rules:\n      - alert: BearingHot\n        \
                     expr: answers >= 0\n        edge: { acknowledge: true }\n";
const RULES_TEST: &str = "rule_files: [rules.yml]\ntests:\n  - interval: 1m\n    input_series:\n      - series: \
                          'answers{device=\"press-1\"}'\n        values: '1x5'\n    alert_rule_test:\n      - \
                          eval_time: 1m\n        alertname: BearingHot\n        exp_alerts: [{ exp_labels: { device: \
                          press-1 } }]\n";

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Every document that a user reads.
fn documents() -> Vec<PathBuf> {
    let below = |folder: &str| -> Vec<PathBuf> {
        let files = std::fs::read_dir(project(folder)).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|file| file.extension().is_some_and(|ending| ending == "md")).collect()
    };
    let folders = ["deploy", "deploy/rules", "docs", "firmware-profiles"];
    let mut all: Vec<PathBuf> = folders.into_iter().flat_map(below).collect();
    all.push(project("README.md"));
    all.sort();
    all
}

/// The lines of the blocks marked `sh`, without their comments.
fn commands(text: &str) -> Vec<String> {
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(str::lines).map(|line| line.split(" #").next().unwrap_or_default().trim().to_owned());
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// A place where the files lie that the examples name.
struct Desk {
    directory: tempfile::TempDir,
    environment: Vec<(&'static str, PathBuf)>,
}

impl Desk {
    fn of(plant: &Plant, keys: &[&Signer]) -> Self {
        let directory = super::support::directory();
        let at = |file: &str| directory.path().join(file);
        for key in keys {
            key.store(&at(&format!("{}.key", key.name)));
        }
        std::fs::write(at("rules.yml"), RULES).unwrap();
        std::fs::write(at("rules.test.yml"), RULES_TEST).unwrap();
        std::fs::create_dir(at("plant")).unwrap();
        std::fs::write(at("plant/configuration.toml"), "[mqtt]\nkeep_alive = \"20s\"\n").unwrap();
        std::os::unix::fs::symlink(project("deploy"), at("deploy")).unwrap();
        let tls = plant.settings.tls.clone().unwrap();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let own = Path::new(env!("CARGO_BIN_EXE_lineside")).parent().unwrap().to_owned();
        let path = std::env::join_paths(std::iter::once(own).chain(std::env::split_paths(&path))).unwrap();
        let environment = vec![
            ("PATH", path.into()),
            ("LINESIDE_CONFIG", plant.site.path().join("lineside.toml")),
            ("LINESIDE_CA_FILE", tls.ca_file.unwrap()),
            ("LINESIDE_CERT_FILE", tls.cert_file.unwrap()),
            ("LINESIDE_KEY_FILE", tls.key_file.unwrap()),
        ];
        Self { directory, environment }
    }

    /// Runs one line as a shell does. The broker and the agent of the examples are those of this test.
    async fn run(&self, line: &str, plant: &Plant) -> Output {
        let line = line
            .replace("mqtts://broker.example", &format!("mqtts://localhost:{}", plant.broker.tls_port()))
            .replace("$(pidof lineside)", &plant.agent.id().to_string());
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &line]).stdin(Stdio::null()).current_dir(self.directory.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value.as_os_str())));
        within(format!("the end of {line}"), tokio::task::spawn_blocking(move || command.output()))
            .await
            .unwrap()
            .unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_line_of_the_documents_is_taken_as_it_is_written() {
    // Given the gateway of the examples, its broker with the shipped access rules, and the keys that they name.
    let [anna, eve] = [("anna", "operator"), ("eve", "engineer")].map(|(name, role)| Signer::new(name, role));
    let lines = format!("[rules]\nfiles = [\"rules.yml\"]\n{}{}", anna.section(), eve.section());
    let plant = Plant::with_files(&lines, &[("rules.yml", RULES)]).await;
    let desk = Desk::of(&plant, &[&anna, &eve]);
    plant.site.until("an active alarm", |status| status["rules"]["active"].as_u64() > Some(0)).await;

    let mut run = 0;
    for document in documents() {
        for line in commands(&std::fs::read_to_string(&document).unwrap()) {
            if RUN_ELSEWHERE.iter().any(|(elsewhere, _)| *elsewhere == line) {
                continue;
            }
            // A key is made once: the examples go on with it.
            let made = line.starts_with("lineside command keygen anna");
            if made {
                std::fs::rename(desk.directory.path().join("anna.key"), desk.directory.path().join("kept")).unwrap();
            }

            let output = desk.run(&line, &plant).await;

            // 1 says that there are findings; 2 and above, that the line is not what the program takes, or reaches nobody.
            let said = [output.stdout, output.stderr].concat();
            assert!(
                output.status.code().is_some_and(|code| code <= 1),
                "{}: {line}: {}\n{}",
                document.display(),
                output.status,
                String::from_utf8_lossy(&said)
            );
            if made {
                std::fs::rename(desk.directory.path().join("kept"), desk.directory.path().join("anna.key")).unwrap();
            }
            run += 1;
        }
    }
    println!("{run} command lines");

    // Then the certificate that was made names the gateway as the access rules want it.
    let subject = desk.run("openssl x509 -in gw-01.pem -noout -subject -nameopt RFC2253", &plant).await;
    assert_eq!(String::from_utf8_lossy(&subject.stdout).trim(), "subject=CN=lyon/gw-01");
}

/// Commands within sentences and tables: `` `lineside store export --from 2h` ``.
fn mentioned(text: &str) -> Vec<String> {
    let spans = text.split('`').skip(1).step_by(2);
    spans.filter(|span| span.starts_with("lineside ") && !span.contains('\n')).map(str::to_owned).collect()
}

/// The help of the longest subcommand that `span` begins with.
fn help(span: &str) -> Option<String> {
    let is_word =
        |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') && !word.starts_with('-');
    let words: Vec<&str> = span.split_whitespace().skip(1).take_while(is_word).collect();
    (1..=words.len()).rev().find_map(|count| {
        let output = Command::new(env!("CARGO_BIN_EXE_lineside")).args(&words[..count]).arg("--help").output().unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    })
}

#[test]
fn every_command_and_option_that_the_documents_mention_exists() {
    let mut seen = 0;
    for document in documents() {
        for span in mentioned(&std::fs::read_to_string(&document).unwrap()) {
            let help = help(&span).unwrap_or_else(|| panic!("{}: {span}: no such command", document.display()));
            for option in span.split_whitespace().filter(|word| word.starts_with("--")) {
                let option = option.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
                assert!(help.contains(option), "{}: {span}: no {option}", document.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen}");
}
