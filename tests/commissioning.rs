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
