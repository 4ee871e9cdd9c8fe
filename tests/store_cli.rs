//! `lineside store` as operators use it: on files without an agent, and through the agent that runs.

#![cfg(test)]
#![allow(clippy::unwrap_used, reason = "what panics here is a test")]

#[path = "support/store.rs"]
mod store;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::SystemTime;

use lineside::database::{Database, EngineKind};
use lineside::model::{Fault, Lane, Observed, Row, Scale, SeriesId, SeriesInfo, Timestamp, Value, ValueKind};
use serde_json::Value as Json;
use store::Store;
use support::broker::Broker;
use support::consumer::Consumer;
use support::installation::{Installation, NO_BROKER};
use support::site::{Configuration, Site};
use support::{directory, within};

const LIMIT: u64 = 64 << 20;

/// 2023-11-14T22:14:00Z: a full minute, which no commit crosses.
const BEGIN: i64 = 1_700_000_040_000;

/// A device that never answers, and is asked once: every agent needs one.
const SILENT: &str = "[[link]]\nname = \"hall\"\ntcp = \"127.0.0.1:1\"\n[[device]]\nname = \"silent\"\nlink = \"hall\"\n\
                      unit_id = 1\nprofile = \"eastron-sdm120\"\ninterval = \"1h\"\n";

/// What a command said.
#[derive(Debug)]
struct Said {
    exit: i32,
    out: Vec<u8>,
    err: String,
}

impl Said {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }

    fn json(&self) -> Json {
        serde_json::from_slice(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// One line, which says why, and nothing else.
    fn assert_refused(&self, exit: i32, why: &str) {
        assert_eq!((self.exit, self.out.len(), self.err.lines().count()), (exit, 0, 1), "{self:?}");
        assert!(self.err.contains(why), "{self:?}");
    }
}

async fn say(arguments: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lineside"));
    command
        .arg("store")
        .args(arguments)
        .env_remove("LINESIDE_SOCKET")
        .env("LINESIDE_CONFIG", "/nonexistent/lineside.toml");
    command.stdin(Stdio::null());
    let output = within(format!("store {arguments:?}"), tokio::task::spawn_blocking(move || command.output()));
    let output = output.await.unwrap().unwrap();
    Said { exit: output.status.code().unwrap(), out: output.stdout, err: String::from_utf8(output.stderr).unwrap() }
}

fn series(name: &str, device: &str, kind: ValueKind, scale: Scale) -> SeriesInfo {
    let labels =
        BTreeMap::from([("device".to_owned(), device.to_owned()), ("line".to_owned(), "press, old".to_owned())]);
    SeriesInfo {
        name: name.to_owned(),
        labels: Arc::new(labels),
        unit: "W".to_owned(),
        kind,
        scale,
        states: BTreeMap::from([(1, "on".to_owned())]),
    }
}

/// A store of two devices: 300 rows of power (tenths), a text and a bit, one second apart, each tenth bad; an alarm;
/// the first
/// `delivered` commits delivered.
async fn filled(path: &Path, engine: EngineKind, delivered: u64) {
    let store = Store::open_engine(path, LIMIT, engine);
    let infos = vec![
        series("power_w", "press-1", ValueKind::Int, Scale::new(0.1, 0.0)),
        series("label", "press-1", ValueKind::Text, Scale::ONE),
        series("power_w", "press-2", ValueKind::F32, Scale::ONE),
        series("running", "press-2", ValueKind::Bool, Scale::ONE),
    ];
    let ids: Arc<[SeriesId]> = store.handle.register(infos).await.unwrap().into();
    for number in 0..300 {
        let power = if number % 10 == 0 { Observed::Bad(Fault::Timeout) } else { Observed::Good(Value::Int(number)) };
        let observed = vec![
            power,
            Observed::Good(Value::Text(format!("say \"{number}\"").as_str().into())),
            Observed::Good(Value::F32(0.1)),
            Observed::Good(Value::Bool(number % 2 == 1)),
        ];
        let row = Row { series: ids.clone(), time: Timestamp(BEGIN + number * 1000), observed };
        store.handle.append(vec![row]).await.unwrap();
        if number % 30 == 29 {
            store.handle.flush().await.unwrap();
        }
    }
    store.handle.append_alarms(vec![store::alarm(BEGIN + 5)]).await.unwrap();
    if delivered > 0 {
        store.deliver(Lane::Telemetry, 1, delivered).await;
    }
    store.handle.flush().await.unwrap();
    store.close().await;
}

/// Every file with its length and time of change.
fn everything(path: &Path) -> BTreeMap<String, (u64, SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
        let (name, metadata) = (entry.path().display().to_string(), entry.metadata().unwrap());
        found.insert(name, (metadata.len(), metadata.modified().unwrap()));
        if metadata.is_dir() {
            found.extend(everything(&entry.path()));
        }
    }
    found
}

#[tokio::test]
async fn without_an_agent_stats_verify_and_export_read_the_files_and_change_nothing() {
    for engine in EngineKind::ALL {
        let place = directory();
        let path = place.path().join("store");
        filled(&path, engine, 4).await;
        let before = everything(&path);
        let store = path.to_str().unwrap();

        let stats = say(&["stats", "--store", store, "--json"]).await.json();
        let verified = say(&["verify", "--store", store]).await;
        let exported = say(&["export", "--store", store, "power_w{device=\"press-1\"}"]).await;

        assert_eq!(stats["engine"], engine.word());
        let telemetry = &stats["lanes"][1];
        assert_eq!((&telemetry["first"], &telemetry["last"]), (&1.into(), &10.into()), "{stats}");
        assert_eq!(telemetry["stored"]["records"], 1200);
        assert_eq!(telemetry["delivered"], serde_json::json!([[1, 4]]));
        assert_eq!(telemetry["pending"]["commits"], 6);
        assert_eq!(telemetry["first_time"], BEGIN);
        assert_eq!(verified.exit, 0, "{verified:?}");
        assert!(verified.text().contains("everything is there"), "{verified:?}");
        let lines: Vec<&str> = exported.text().lines().collect();
        assert_eq!(
            lines[0],
            "time,name,device,line,value,unit,state,quality,window_s,count,min,max,clock,correction_ms,sequence,index,epoch"
        );
        assert!(
            lines[1].starts_with(
                "2023-11-14T22:14:00.000Z,power_w,press-1,\"press, old\",,W,,bad: timeout,,,,,local,,1,0,"
            )
        );
        assert!(
            lines[24]
                .starts_with("2023-11-14T22:14:23.000Z,power_w,press-1,\"press, old\",2.3,W,,good,,,,,local,,1,92,")
        );
        assert_eq!(lines.len(), 301);
        assert_eq!(everything(&path), before, "{engine}");
    }
}

#[tokio::test]
async fn a_directory_that_is_no_store_a_newer_format_and_an_empty_range_get_one_line_each() {
    let place = directory();
    let (path, output) = (place.path().join("store"), place.path().join("out.csv"));
    let (store, output) = (path.to_str().unwrap(), output.to_str().unwrap());
    for deed in ["stats", "verify", "export"] {
        say(&[deed, "--store", store]).await.assert_refused(2, "no store of lineside");
    }
    assert!(!path.exists());
    filled(&path, EngineKind::Sled, 4).await;

    let range = ["export", "--store", store, "--from", "2024-01-01", "--output", output];
    say(&range).await.assert_refused(1, "the store holds nothing of that time");
    say(&["export", "--store", store, "nothing_like_it", "--output", output])
        .await
        .assert_refused(1, "no stored series");
    say(&["export", "--store", store, "--from", "2024-01-01", "--until", "2023-01-01"])
        .await
        .assert_refused(2, "not before");
    assert!(!Path::new(output).exists());
    say(&["export", "--store", store, "--output", "out.xlsx"]).await.assert_refused(2, "the name tells no format");
    fs::write(path.join("format"), "lineside store 2 2\n").unwrap();
    for deed in ["stats", "verify", "export"] {
        say(&[deed, "--store", store]).await.assert_refused(2, "format 2 of a newer release");
    }
    fs::remove_file(path.join("format")).unwrap();
    say(&["stats", "--store", store]).await.assert_refused(2, "no store of lineside");
    say(&["stats"]).await.assert_refused(2, "--store DIRECTORY");
}

#[tokio::test]
async fn a_flipped_bit_is_found() {
    let place = directory();
    let path = place.path().join("store");
    filled(&path, EngineKind::Segments, 4).await;
    let segment = fs::read_dir(path.join("database")).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    let file = fs::File::options().read(true).write(true).open(segment).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 4], middle).unwrap();

    let verified = say(&["verify", "--store", path.to_str().unwrap(), "--json"]).await;

    assert_eq!(verified.exit, 1, "{verified:?}");
    assert!(!verified.json()["findings"].as_array().unwrap().is_empty());
}

/// Damage to what was delivered and to what was not: all of it is found without an agent, and the rest is read.
#[tokio::test]
async fn what_damage_has_left_is_exported_and_what_is_gone_is_found_also_of_the_history() {
    let found =
        |said: &Said| said.json()["findings"].as_array().unwrap().iter().map(Json::to_string).collect::<Vec<_>>();
    for engine in EngineKind::ALL {
        let place = directory();
        let path = place.path().join("store");
        filled(&path, engine, 4).await;
        let store = path.to_str().unwrap();
        let whole = say(&["export", "--store", store]).await.text().lines().count();

        // Given that one delivered commit of the history, and one that waits, have a wrong bit.
        let mut hit = Vec::new();
        for sequence in [3_u64, 7] {
            let key = [&[b'c', 1][..], &sequence.to_be_bytes()].concat();
            let database = Database::open(&path.join("database"), engine).unwrap();
            hit.push(database.get(&key).unwrap().unwrap());
            database.close().unwrap();
        }
        for file in store::files(&path.join("database")) {
            let mut bytes = fs::read(&file).unwrap();
            for value in &hit {
                let places = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(value)).collect::<Vec<_>>();
                places.iter().for_each(|at| bytes[at + value.len() / 2] ^= 4);
            }
            fs::write(&file, bytes).unwrap();
        }
        let before = everything(&path);

        let verified = say(&["verify", "--store", store, "--json"]).await;
        let exported = say(&["export", "--store", store]).await;

        assert_eq!(
            (verified.exit, exported.exit),
            (1, 0),
            "{} {} {}",
            verified.text(),
            exported.text().len(),
            exported.err
        );
        let findings = found(&verified);
        // What sled refuses to open is gone through only for what is to be delivered.
        let (gone, left) = match engine {
            EngineKind::Segments => ("telemetry 3: delivered, and gone from the local history", 8),
            EngineKind::Sled => ("4 delivered commits gone from the local history", 5),
        };
        assert!(findings.iter().any(|it| it.contains(gone)), "{engine}: {findings:?}");
        assert!(findings.iter().any(|it| it.contains("telemetry 7: given before")), "{engine}: {findings:?}");
        assert!(!findings.iter().any(|it| it.contains("/lineside")), "no path of a copy: {findings:?}");
        assert_eq!(exported.text().lines().count(), whole - (10 - left) * 120, "{engine}");
        assert_eq!(everything(&path), before, "{engine}");

        // And when the database is gone, that is what is found.
        fs::remove_dir_all(path.join("database")).unwrap();
        let verified = say(&["verify", "--store", store, "--json"]).await;
        let findings = found(&verified);
        assert_eq!(verified.exit, 1);
        assert!(findings.iter().any(|it| it.contains("there is no database")), "{findings:?}");
        assert!(findings.iter().any(|it| it.contains("telemetry 5 to 10: given before")), "{findings:?}");
    }
}

#[tokio::test]
async fn an_export_is_read_by_others_in_every_format() {
    const CHECK: &str = "
import csv, json, sys
import pyarrow.parquet
directory = sys.argv[1]
table = pyarrow.parquet.read_table(directory + '/out.parquet')
assert str(table.schema.field('time').type) == 'timestamp[ms, tz=UTC]', table.schema
columns = table.to_pylist()
lines = [json.loads(line) for line in open(directory + '/out.jsonl')]
rows = list(csv.DictReader(open(directory + '/out.csv', newline='')))
assert len(columns) == len(lines) == len(rows) == 1200, (len(columns), len(lines), len(rows))
for parquet, line, row in zip(columns, lines, rows):
    assert parquet['time'].isoformat(timespec='milliseconds')[:23] + 'Z' == line['time'] == row['time']
    for name in ('name', 'device', 'line', 'unit', 'quality', 'clock', 'epoch', 'state'):
        assert (parquet[name] or '') == line.get(name, '') == row[name], (name, parquet, line, row)
    for name in ('sequence', 'index'):
        assert parquet[name] == line[name] == int(row[name])
    value = line.get('value')
    if isinstance(value, str):
        assert parquet['value_text'] == value == row['value'] and parquet['value'] is None
    elif value is None:
        assert parquet['value'] is None and row['value'] == '' and line['quality'] == 'bad: timeout'
    else:
        assert parquet['value'] == value and row['value'] == json.dumps(value), (parquet, line, row)
assert sorted({(line['sequence'], line['index']) for line in lines})[-1] == (10, 119)
";
    let place = directory();
    let path = place.path().join("store");
    filled(&path, EngineKind::Sled, 4).await;
    for format in ["csv", "jsonl", "parquet"] {
        let file = place.path().join(format!("out.{format}"));
        let said = say(&["export", "--store", path.to_str().unwrap(), "--output", file.to_str().unwrap()]).await;
        assert_eq!((said.exit, said.out.len()), (0, 0), "{said:?}");
        assert!(said.err.contains("1200 rows in"), "{said:?}");
    }

    let python = std::env::var("LINESIDE_TEST_PYTHON").expect("LINESIDE_TEST_PYTHON: use tests/run");
    support::run(&python, &["-c", CHECK, place.path().to_str().unwrap()]);
}

#[tokio::test]
async fn alarms_and_spans_of_time_are_exported() {
    let place = directory();
    let path = place.path().join("store");
    filled(&path, EngineKind::Sled, 4).await;
    let store = path.to_str().unwrap();

    let alarms = say(&["export", "--store", store, "--alarms", "--format", "jsonl"]).await;
    let span = ["--from", "2023-11-14T22:14:10Z", "--until", "2023-11-14T22:14:20Z"];
    let some = say(&[&["export", "--store", store, "running", "-f", "jsonl"][..], &span[..]].concat()).await;

    let alarm: Json = serde_json::from_str(alarms.text().trim_end()).unwrap();
    assert_eq!((&alarm["name"], &alarm["transition"]), (&"Test".into(), &"raised".into()));
    let some: Vec<Json> = some.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(some.len(), 10);
    assert_eq!((&some[0]["time"], &some[0]["value"]), (&"2023-11-14T22:14:10.000Z".into(), &false.into()));
    assert_eq!((&some[9]["value"], &some[9]["state"]), (&true.into(), &"on".into()));
}

#[tokio::test]
async fn while_the_agent_runs_it_is_asked_and_the_files_are_in_use() {
    let installation = Installation::new(NO_BROKER, &[], SILENT);
    filled(&installation.path().join("store"), EngineKind::Sled, 4).await;
    let agent = installation.start().await;

    let stats = installation.lineside(&["store", "stats", "--json"]).await;
    let verified = installation.lineside(&["store", "verify"]).await;
    let exported = installation.lineside(&["store", "export", "running"]).await;
    let in_use = say(&["stats", "--store", installation.path().join("store").to_str().unwrap()]).await;

    let stats: Json = serde_json::from_slice(&stats.stdout).unwrap();
    assert!(stats["source"].as_str().unwrap().starts_with("agent on"), "{stats}");
    assert!(stats["lanes"][1]["stored"]["records"].as_u64() >= Some(1200), "{stats}");
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    assert_eq!(String::from_utf8(exported.stdout).unwrap().lines().count(), 301);
    in_use.assert_refused(4, "in use by another process");
    assert!(agent.stop().await.success());
}

#[tokio::test]
async fn what_was_delivered_goes_out_again_under_its_old_sequences_also_after_a_kill() {
    let mut broker = Broker::start().await;
    let mut consumer = Consumer::start(&broker).await;
    let site = Site::with_profiles(&[]);
    site.configure(&Configuration::to_port(broker.port(), "batch = { max_age = \"1s\" }").lines(SILENT));
    filled(&site.store(), EngineKind::Sled, 0).await;
    let socket = site.path().join("lineside.sock");
    let socket = socket.to_str().unwrap();
    let mut agent = site.start();
    consumer.until("everything", |harvest| harvest.readings.len() >= 1200).await;
    site.until("everything to be delivered", |status| status["lanes"]["telemetry"]["pending_commits"] == 0).await;

    // While the broker is away somebody asks, and the agent is killed.
    broker.kill();
    site.until("the broker to be gone", |status| status["mqtt"]["state"] != "connected").await;
    let said = say(&["resend", "--socket", socket, "--last", "6", "--json"]).await.json();
    agent.kill();
    // A broker that forgot everything would let the gateway speak to nobody: the consumer has to be there first.
    broker.restart().await;
    consumer.subscribed(&broker).await;
    let mut agent = site.start();
    consumer.until("what was asked for", |harvest| harvest.repeats >= 720).await;
    site.until("all of it", |status| status["lanes"]["telemetry"]["resend_commits"] == 0).await;

    assert_eq!(said, serde_json::json!({ "runs": [[1, 6]], "records": 720, "commits": 6, "undelivered": 0 }));
    let telemetry = &say(&["stats", "--socket", socket, "--json"]).await.json()["lanes"][1];
    assert_eq!(
        (&telemetry["delivered"][0][0], &telemetry["pending"]["commits"]),
        (&1.into(), &0.into()),
        "{telemetry}"
    );
    consumer.harvest.assert_sound();
    assert_eq!(consumer.harvest.repeats, 720, "{}", consumer.harvest.summary());
    let out_of_range = ["resend", "--socket", socket, "--until", "2023-01-01"];
    say(&out_of_range).await.assert_refused(1, "nothing to send again");
    say(&["resend", "--socket", socket]).await.assert_refused(2, "which part?");
    agent.terminate();
    assert!(agent.exit().await.success());
    say(&["resend", "--socket", socket, "--last", "6"]).await.assert_refused(3, "no agent answers");
}
