//! Commissioning with a laptop: who is there, what is it, where is the number that the display shows? The real program
//! against simulated lines and networks.

#![cfg(test)]

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};

use lineside::config::Parity;
use lineside::profile::Table;
use lineside::simulator::{Device, Endpoint, Framing, Keep, LineFormat, Misbehaviour, Pace, Place, Servers};
use support::installation::{Installation, NO_BROKER};
use support::meters;

/// Runs the program, which needs no configuration here.
async fn lineside(arguments: &[&str]) -> Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lineside"));
    command.args(arguments).stdin(std::process::Stdio::null());
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

fn text(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn place(endpoint: &Endpoint) -> String {
    match endpoint.place() {
        Place::Tcp(address) => address.to_string(),
        Place::Serial(settings) => settings.port.display().to_string(),
    }
}

/// A SENTRON PAC3200 as far as it says who it is.
fn pac3200(unit: u8) -> Device {
    // The manufacturer, and further on the version of the firmware.
    let mut words = [0_u16; 27];
    (words[0], words[20], words[21]) = (42, 0x0204, 0x0000);
    Device::of_registers(unit, [(Table::HoldingRegisters, 64_001, &words[..])]).identified([
        (0, "SIEMENS"),
        (1, "SENTRON PAC3200"),
        (2, "V2.4.0"),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_is_scanned_at_the_usual_settings_until_somebody_answers() {
    // Given a line at the second of the usual settings, where a byte at another baud rate is garbage, with a meter that says who it is and one that does not
    let mut servers = Servers::default();
    let format = LineFormat { parity: Parity::Even, ..LineFormat::plain(19_200, Pace::Real) };
    let endpoint = servers.rtu(format, vec![pac3200(3), meters::device(17, 2)], Keep::Counters).unwrap();

    let scan = lineside(&["scan", "--serial", &place(&endpoint), "--units", "1,3,16-18", "--timeout", "200ms"]).await;

    let (found, said) = text(&scan);
    assert_eq!(scan.status.code(), Some(0), "{found}{said}");
    assert!(said.contains("14 settings x 5 unit ids") && said.contains("at most"), "{said}");
    assert!(found.contains("[[link]]\nname = \"link-1\"\nrtu = { port = \""), "{found}");
    assert!(found.contains("baud_rate = 19200, parity = \"even\"") && !found.contains("9600"), "{found}");
    assert!(found.contains("unit_id = 3\nprofile = \"siemens-pac3200\""), "{found}");
    assert!(found.contains("# SIEMENS SENTRON PAC3200 V2.4.0"), "{found}");
    assert!(found.contains("# unit_id = 17\n# profile = \"...\""), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_scan_prints_is_a_configuration_that_runs() {
    // Given a gateway with two devices, one of which is not there
    let mut servers = Servers::default();
    let devices = vec![pac3200(1), pac3200(7), pac3200(9)];
    let endpoint = servers.tcp(Framing::Tcp, devices, Keep::Counters).await.unwrap();
    endpoint.misbehave(9, Some(Misbehaviour::Exception(11))).await.unwrap();

    let scan = lineside(&["scan", "--tcp", &place(&endpoint), "--units", "1-10", "--timeout", "200ms"]).await;
    let (found, said) = text(&scan);
    assert_eq!(scan.status.code(), Some(0), "{found}{said}");
    assert_eq!(found.matches("[[device]]").count(), 2, "{found}");

    // Then the blocks it prints are taken as they are
    let installation = Installation::new(NO_BROKER, &[], &found);
    let check = installation.lineside(&["check"]).await;
    assert_ne!(check.status.code(), Some(2), "{found}\n{}{}", text(&check).0, text(&check).1);
    assert!(text(&check).0.contains("siemens-pac3200-7"), "{}", text(&check).0);
    let json = lineside(&["scan", "--json", "--tcp", &place(&endpoint), "--units", "7", "--timeout", "200ms"]).await;
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json[0]["unit_id"], &json[0]["matches"][0]["profile"]), (&7.into(), &"siemens-pac3200".into()));
    let nobody = lineside(&["scan", "--tcp", &place(&endpoint), "--units", "100", "--timeout", "50ms"]).await;
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
    let no_host = lineside(&["scan", "--tcp", "127.0.0.1:1"]).await;
    assert_eq!(no_host.status.code(), Some(3), "{no_host:?}");
    assert!(text(&no_host).1.contains("tcp 127.0.0.1:1: link down: "), "{no_host:?}");
    // One that is there does not hide one that is not.
    let both = format!("{},127.0.0.1:1", place(&endpoint));
    let both = lineside(&["scan", "--tcp", &both, "--units", "7", "--timeout", "200ms"]).await;
    assert_eq!(both.status.code(), Some(0), "{both:?}");
    assert!(text(&both).1.contains("tcp 127.0.0.1:1: link down: "), "{both:?}");
}

#[tokio::test]
async fn what_would_have_no_effect_or_no_meaning_is_refused() {
    for (arguments, why) in [
        (&["read", "press-1", "--unit", "3"][..], "cannot be used with"),
        (&["read", "press-1", "--address", "3"], "cannot be used with"),
        (&["read", "press-1", "--count", "3"], "cannot be used with"),
        (&["read", "press-1", "--timeout", "1s"], "required arguments were not provided"),
        (&["read", "--link", "hall", "--timeout", "1s"], "required arguments were not provided"),
        (&["read", "--tcp", "127.0.0.1", "--baud", "9600"], "cannot be used with"),
        (&["read", "--tcp", "127.0.0.1", "--serial", "/dev/null"], "cannot be used with"),
        (&["read", "--tcp", "127.0.0.1", "--address", "0x10000"], "from 0x0 to 0xffff"),
        (&["read", "--tcp", "127.0.0.1", "--timeout", "0s"], "from 1ms to 1h"),
        (&["read", "--tcp", "127.0.0.1", "--timeout", "999999999h"], "from 1ms to 1h"),
        (&["identify", "press-1", "--unit", "3"], "cannot be used with"),
        (
            &["identify", "--tcp", "127.0.0.1", "--profiles", "/no/such/place"],
            "--profiles /no/such/place: No such file",
        ),
        (&["scan", "--tcp", "127.0.0.1", "--profiles", "/no/such/place"], "--profiles /no/such/place: No such file"),
        (&["guess", "5", "--tcp", "127.0.0.1", "--tolerance", "-1"], "0 or more"),
        (&["guess", "5", "--tcp", "127.0.0.1", "--tolerance", "nan"], "0 or more"),
    ] {
        let refused = lineside(arguments).await;
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {refused:?}");
        assert!(text(&refused).1.contains(why), "{arguments:?}: {}", text(&refused).1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_identified_over_tcp_and_on_a_serial_line() {
    let mut servers = Servers::default();
    let tcp = servers.tcp(Framing::Tcp, vec![pac3200(1)], Keep::Counters).await.unwrap();
    let line = servers.rtu(LineFormat::plain(19_200, Pace::Real), vec![pac3200(1)], Keep::Counters).unwrap();
    let (address, port) = (place(&tcp), place(&line));
    let ways = [vec!["identify", "--tcp", &address], vec!["identify", "--serial", &port, "--parity", "none"]];

    for way in ways {
        let identified = lineside(&way).await;
        let (said, error) = text(&identified);
        assert_eq!(identified.status.code(), Some(0), "{said}{error}");
        assert!(said.contains("SENTRON PAC3200") && said.contains("siemens-pac3200"), "{said}");
    }
    let hexadecimal = lineside(&["read", "--tcp", &address, "--address", "0xfa01", "--json"]).await;
    assert!(text(&hexadecimal).0.contains(r#"{"address":64001,"#), "{hexadecimal:?}");
    let nobody = lineside(&["identify", "--tcp", &address, "--unit", "2", "--timeout", "50ms"]).await;
    assert_eq!(nobody.status.code(), Some(3), "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_register_behind_a_number_is_found() {
    // Given a meter that shows 1003.5, with registers that are not there on the way
    let mut servers = Servers::default();
    let [high, low] = [(1003.5_f32.to_bits() >> 16) as u16, 1003.5_f32.to_bits() as u16];
    let registers = [(Table::InputRegisters, 5, &[1, 2, 3][..]), (Table::InputRegisters, 120, &[7, low, high, 9][..])];
    let device = Device::of_registers(1, registers);
    let endpoint = servers.tcp(Framing::Tcp, vec![device], Keep::Counters).await.unwrap();

    let place = place(&endpoint);
    let guess = lineside(&["guess", "1003.5", "--tcp", &place, "--table", "input", "--to", "150"]).await;

    let (said, error) = text(&guess);
    assert_eq!(guess.status.code(), Some(0), "{said}{error}");
    let best = said.lines().nth(1).unwrap();
    assert!(best.starts_with("121") || best.trim_start().starts_with("121"), "{said}");
    assert!(best.contains("f32") && best.contains("low-first"), "{said}");
    assert!(best.contains("address = 121, encoding = \"f32\", word_order = \"low-first\""), "{said}");
    let nothing = lineside(&["guess", "77.7", "--tcp", &place, "--table", "input", "--to", "150"]).await;
    assert_eq!(nothing.status.code(), Some(1), "{nothing:?}");
    let zero = lineside(&["guess", "0", "--tcp", &place]).await;
    assert_eq!(zero.status.code(), Some(2), "{zero:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_shows_every_frame_in_words_and_what_is_wrong() {
    let mut servers = Servers::default();
    let endpoint = servers.tcp(Framing::Tcp, vec![meters::device(1, 2)], Keep::Counters).await.unwrap();
    let place = place(&endpoint);

    let good = lineside(&["read", "--tcp", &place, "--count", "2", "--trace"]).await;
    let (_, trace) = text(&good);
    assert!(trace.contains("->") && trace.contains("unit 1: read 2 holding registers from 0"), "{trace}");
    assert!(trace.contains("<-") && trace.contains("unit 1: 2 registers: "), "{trace}");

    let refused = lineside(&["read", "--tcp", &place, "--address", "900", "--trace"]).await;
    let (_, trace) = text(&refused);
    assert_eq!(refused.status.code(), Some(3));
    assert!(trace.contains("unit 1: exception 2 (illegal data address)"), "{trace}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_lends_its_port_and_has_it_back() {
    // Given an agent that polls a meter on a line
    let mut servers = Servers::default();
    let format = LineFormat::plain(19_200, Pace::Free);
    let endpoint = servers.rtu(format, vec![meters::device(1, 3), meters::device(7, 2)], Keep::Counters).unwrap();
    let links =
        meters::link("hall-a", &endpoint, Framing::Rtu, "500ms") + &meters::meter(1, "hall-a", "meter", "200ms");
    let installation = Installation::new(NO_BROKER, &[("meter", &meters::profile(3))], &links);
    let agent = installation.start().await;
    let mut tail = agent.tail();
    let port = place(&endpoint);
    let line = ["--serial", &port, "--baud", "19200", "--parity", "none"];

    // When its port is needed: to scan, to read, to guess, to see frames
    let scan: &[&str] = &["scan", "--units", "1-8", "--timeout", "300ms"];
    let read: &[&str] = &["read", "--unit", "7", "--count", "4"];
    let guess: &[&str] = &["guess", "7000.5", "--unit", "7", "--to", "3"];
    let traced: &[&str] = &["read", "meter-1", "--raw", "--trace"];
    for (command, on_line, shows) in
        [(scan, true, "unit_id = 7"), (read, true, "7000.5"), (guess, true, "f32"), (traced, false, "1000.5")]
    {
        tail.until("the meter", |reading| reading.quality == "good").await;
        let command = if on_line { [command, &line].concat() } else { command.to_vec() };
        let lent = installation.lineside(&command).await;

        // Then it is there, with a warning, and the agent goes on afterwards
        let (shown, said) = text(&lent);
        assert_eq!(lent.status.code(), Some(0), "{command:?}: {shown}{said}");
        assert!(shown.contains(shows), "{command:?}: {shown}");
        assert!(said.contains("warning: link hall-a is borrowed from the running agent"), "{command:?}: {said}");
        assert!(on_line || said.contains("unit 1: read"), "{said}");
        tail.until("what was not polled", |reading| reading.quality == "bad: link down").await;
    }
    tail.until("the meter", |reading| reading.quality == "good").await;

    // But an agent that cannot be asked holds its port, and is named
    let held = lineside(&[scan, &line, &["--socket", "/nonexistent/lineside.sock"]].concat()).await;
    let (_, said) = text(&held);
    assert_eq!(held.status.code(), Some(3), "{said}");
    assert!(said.contains("the port is held by") && said.contains("lineside (process"), "{said}");
    assert_eq!(agent.stop().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_watched_and_its_registers_are_shown() {
    let mut servers = Servers::default();
    let endpoint = servers.tcp(Framing::Tcp, vec![meters::device(1, 3)], Keep::Counters).await.unwrap();
    let links = meters::link("hall-a", &endpoint, Framing::Tcp, "500ms") + &meters::meter(1, "hall-a", "meter", "1s");
    let installation = Installation::new(NO_BROKER, &[("meter", &meters::profile(3))], &links);

    let raw = installation.lineside(&["read", "meter-1", "--raw"]).await;
    let (shown, error) = text(&raw);
    assert_eq!(raw.status.code(), Some(0), "{shown}{error}");
    assert!(shown.contains("6 holding from 0") && shown.contains("1000.5"), "{shown}");

    // Watching goes on until nobody reads it any more, through the agent as without it
    let _agent = installation.start().await;
    for form in [&[][..], &["--json"]] {
        let mut command = installation.command(&[&["read", "meter-1", "--watch=100ms"], form].concat());
        let mut watching = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
        let rounds = tokio::task::spawn_blocking(move || {
            let rounds = lines.by_ref().map_while(Result::ok).filter(|line| line.contains("value_2"));
            (rounds.take(3).count(), lines)
        });
        let (rounds, lines) = support::within("three rounds", rounds).await.unwrap();
        assert_eq!(rounds, 3);
        assert!(watching.try_wait().unwrap().is_none(), "it goes on");
        drop(lines);
        let ended = tokio::task::spawn_blocking(move || watching.wait_with_output().unwrap());
        let ended = support::within("its end", ended).await.unwrap();
        assert_eq!((ended.status.code(), text(&ended).1.as_str()), (Some(0), ""), "{form:?}");
    }
}

/// One device on its own endpoint, its map in the configuration.
async fn with_map(servers: &mut Servers, device: Device, common: &str, points: &str) -> Installation {
    let endpoint = servers.tcp(Framing::Tcp, vec![device], Keep::Counters).await.unwrap();
    let links = format!(
        "[clock]\ntrust = \"local\"\n[[link]]\nname = \"hall\"\ntcp = \"{}\"\ntimeout = \"5s\"\n[[device]]\nname = \"meter\"\n\
         link = \"hall\"\nunit_id = 1\nprofile = \"generic\"\ninterval = \"500ms\"\nmodbus = {{ {common} }}\npoint = [\n{points}]\n",
        place(&endpoint)
    );
    Installation::new(NO_BROKER, &[], &links)
}

#[tokio::test(flavor = "multi_thread")]
async fn registers_of_every_form_are_read_and_a_value_is_whole_or_bad() {
    // Given what struct.pack and the manuals of such devices give
    let mut servers = Servers::default();
    let words: [(Table, u16, &[u16]); 9] = [
        (Table::HoldingRegisters, 0, &[0x6947, 0x6874, 0x6275, 0, 0x0053, 0x004E, 0x0034, 0x0032]),
        (Table::HoldingRegisters, 20, &[0x6643, 0x33B3]),
        (Table::HoldingRegisters, 30, &[0x0012, 0x3456, 12, 3456, 789, 0x84D2, 0xF612, 0x4D33]),
        (Table::HoldingRegisters, 40, &[0x2402, 0x2912, 0x3456, 0x2413, 0x2912, 0x3456]),
        (Table::HoldingRegisters, 50, &[1]),
        (Table::HoldingRegisters, 200, &[2]),
        (Table::HoldingRegisters, 60, &[1, 2, 3]),
        (Table::HoldingRegisters32, 5001, &[1, 2, 3, 4]),
        (Table::HoldingRegisters32, 7001, &[0x4366, 0xB333]),
    ];
    let points = r#"
  { name = "swapped", address = 0, encoding = "string", registers = 4, byte_order = "low-first" },
  { name = "wide", address = 4, encoding = "wide-string", registers = 4 },
  { name = "narrow", address = 4, encoding = "string", registers = 4 },
  { name = "badc", address = 20, encoding = "f32", byte_order = "low-first" },
  { name = "bcd", address = 30, encoding = "bcd32" },
  { name = "decimal", address = 32, encoding = "u48-m10k" },
  { name = "signed", address = 35, encoding = "sm16" },
  { name = "half", address = 36, bits = "8..15", signed = true },
  { name = "float", address = 37, encoding = "f16" },
  { name = "time", address = 40, layout = "YM Dh ms", digits = "bcd" },
  { name = "no_time", address = 43, layout = "YM Dh ms", digits = "bcd" },
  { name = "apart", addresses = [50, 200], encoding = "u32" },
  { name = "half_there", addresses = [50, 300], encoding = "u32" },
  { name = "long", address = 60, encoding = "u48" },
  { name = "enron", table = "holding32", address = 5002, encoding = "u32" },
  { name = "enron_float", table = "holding32", address = 7001, encoding = "f32" },
"#;
    let device = Device::of_registers(1, words);
    let installation = with_map(&mut servers, device, "table = \"holding\", encoding = \"u16\"", points).await;

    let read = installation.lineside(&["read", "meter", "--json"]).await;

    let (found, said) = text(&read);
    let shown: std::collections::BTreeMap<String, String> = found
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| {
            let value = if line["value"].is_null() { line["quality"].to_string() } else { line["value"].to_string() };
            (line["point"].as_str().unwrap().to_owned(), value)
        })
        .collect();
    let expected = [
        ("swapped", "\"Github\""),
        ("wide", "\"SN42\""),
        ("narrow", "\"bad: garbage\""),
        ("badc", "230.7"),
        ("bcd", "123456"),
        ("decimal", "1234560789"),
        ("signed", "-1234"),
        ("half", "-10"),
        ("float", "20.796875"),
        ("time", "1709210096"),
        ("no_time", "\"bad: out of range\""),
        ("apart", "65538"),
        ("half_there", "\"bad: exception 2 (illegal data address)\""),
        ("long", "4295098371"),
        ("enron", "196612"),
        ("enron_float", "230.7"),
    ];
    for (point, value) in expected {
        let number = |text: &str| text.parse::<f64>().ok();
        let same = shown[point] == value || number(&shown[point]).is_some_and(|read| number(value) == Some(read));
        assert!(same, "{point}: {} and not {value}\n{said}", shown[point]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_out_of_a_manual_is_taken_where_that_is_said_and_explained_where_it_is_refused() {
    let mut servers = Servers::default();
    let words: [(Table, u16, &[u16]); 2] =
        [(Table::HoldingRegisters, 0, &[0x4366, 0xB333]), (Table::InputRegisters, 12, &[7])];
    let points = r#"
  { name = "voltage_v", address = 40001, encoding = "f32" },
  { name = "current_a", address = 30013, table = "input" },
"#;
    let device = || Device::of_registers(1, words);

    let said = with_map(&mut servers, device(), "encoding = \"u16\", addressing = \"modicon\"", points).await;
    let unsaid = with_map(&mut servers, device(), "encoding = \"u16\", table = \"holding\"", points).await;
    let wrong = points.replace(", table = \"input\"", "");
    let in_wrong_table = with_map(&mut servers, device(), "encoding = \"u16\", table = \"holding\"", &wrong).await;

    let (read, _) = text(&said.lineside(&["read", "meter"]).await);
    assert!(read.contains("230.7") && !read.contains("note"), "{read}");
    let refused = unsaid.lineside(&["read", "meter"]).await;
    let (read, _) = text(&refused);
    assert!(read.contains("voltage_v at 40001: if the manual counts from 40001, this is address 0"), "{read}");
    assert!(read.contains("current_a at 30013: if the manual counts from 30001, this is address 12"), "{read}");
    let (checked, _) = text(&in_wrong_table.lineside(&["check"]).await);
    assert!(checked.contains("warning: device meter: current_a at 30013"), "{checked}");
    assert!(checked.contains("this is input register address 12"), "{checked}");
    let agent = unsaid.start().await;
    let problem = loop {
        let status = agent.status().await;
        let problems = status["problems"].as_array().cloned().unwrap_or_default();
        let refuses = problems.into_iter().find(|problem| problem["key"] == "device-refuses/meter");
        match refuses {
            Some(problem) => break problem["text"].as_str().unwrap().to_owned(),
            None => tokio::task::yield_now().await,
        }
    };
    assert!(problem.contains("if the manual counts from 40001, this is address 0"), "{problem}");
    assert_eq!(agent.stop().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_are_listed_and_shown_and_lines_of_text_may_be_described_in_the_configuration() {
    let own = "manufacturer = \"Acme\"\nmodel = \"PM5\"\nmodbus = { table = \"input\", encoding = \"u16\" }\n\
               point = [{ name = \"a_v\", address = 0 }]\n";
    let links = "[[link]]\nname = \"scale\"\ntext = { port = \"/dev/ttyS0\" }\n[[device]]\nname = \"balance\"\n\
                 link = \"scale\"\nprofile = \"generic\"\n[device.text]\nask = \"S\\r\\n\"\n[[device.text.pattern]]\n\
                 expression = '''^S S +(?<weight_g>[0-9.]+) g$'''\n[[device.point]]\nname = \"weight_g\"\nunit = \"g\"\n";
    let installation = Installation::new(NO_BROKER, &[("acme-pm5", own)], links);

    let (checked, said) = text(&installation.lineside(&["check"]).await);
    assert!(checked.contains("no faults; 1 link, 1 device, 1 tag"), "{checked}{said}");
    let listed = installation.lineside(&["profiles", "list"]).await;
    let (list, said) = text(&listed);
    assert_eq!(listed.status.code(), Some(0), "{list}{said}");
    assert!(list.lines().any(|line| line.starts_with("acme-pm5") && line.ends_with("site")), "{list}");
    assert!(list.lines().any(|line| line.starts_with("eastron-sdm630") && line.ends_with("shipped")), "{list}");
    let (shown, _) = text(&installation.lineside(&["profiles", "show", "acme-pm5"]).await);
    assert_eq!(shown, own);
    let (shown, _) = text(&installation.lineside(&["profiles", "show", "eastron-sdm630"]).await);
    assert_eq!(Some(shown.as_str()), lineside::profile::shipped::text("eastron-sdm630"));
    let missing = installation.lineside(&["profiles", "show", "eastron-sdm63"]).await;
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing).1.contains("did you mean \"eastron-sdm630\"?"), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sunspec_device_is_proposed_with_the_profile_that_reads_its_models() {
    let mut servers = Servers::default();
    // Marker, then the common model with its 66 registers.
    let mut common = vec![0_u16; 70];
    common[..4].copy_from_slice(&[0x5375, 0x6E53, 1, 66]);
    let mut inverter = vec![0_u16; 54];
    (inverter[0], inverter[1], inverter[52]) = (103, 50, 0xFFFF);
    let words: [(Table, u16, &[u16]); 2] =
        [(Table::HoldingRegisters, 40000, &common), (Table::HoldingRegisters, 40070, &inverter)];
    let device = Device::of_registers(1, words);
    let endpoint = servers.tcp(Framing::Tcp, vec![device], Keep::Counters).await.unwrap();

    let scan = lineside(&["scan", "--tcp", &place(&endpoint), "--units", "1", "--timeout", "2s"]).await;
    let identify = lineside(&["identify", "--tcp", &place(&endpoint)]).await;

    let (found, said) = text(&scan);
    assert!(found.contains("unit_id = 1\nprofile = \"sunspec-inverter\""), "{found}{said}");
    assert!(text(&identify).0.contains("sunspec-inverter"), "{identify:?}");
    assert_eq!(identify.status.code(), Some(0));
}
