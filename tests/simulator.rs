//! The simulated plant, seen by clients that are not ours: mbpoll, and bytes written by hand.

#![cfg(test)]

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use lineside::profile::{Encoding, Point, ReadLimits, Table};
use lineside::simulator::{
    Device, Endpoint, Framing, Instrument, Keep, LineFormat, Misbehaviour, Outage, Pace, Plant, PlantLink, PlantSpec,
    Quantity, Servers, TextMisbehaviour, WeatherSensor, WeighingScale,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_serial::{SerialPortBuilderExt, SerialStream};

/// Longest wait for something that must come.
const SOON: Duration = Duration::from_secs(10);
/// How long nothing must come before it counts as silence.
const SILENCE: Duration = Duration::from_millis(250);
/// Reads holding registers 10 and 11 of unit 7, framed for TCP with transaction 0x0102.
const TCP_REQUEST: [u8; 12] = [1, 2, 0, 0, 0, 6, 7, 3, 0, 10, 0, 2];
/// What they hold.
const TCP_ANSWER: [u8; 13] = [1, 2, 0, 0, 0, 7, 7, 3, 4, 0x12, 0x34, 0x56, 0x78];
/// The same framed for a serial line.
const RTU_REQUEST: [u8; 8] = [7, 3, 0, 10, 0, 2, 0xe4, 0x6f];

fn registers(address: u16, count: u16) -> Point {
    Point::plain("registers", Table::HoldingRegisters, address, Encoding::Text { registers: count })
}

/// Unit 7 with 0x1234 and 0x5678 in the holding registers 10 and 11, and 100 more from 100 on.
fn device() -> Device {
    let limits = ReadLimits { registers: 125, bits: 2000, gap: 0 };
    let mut device = Device::new(7, vec![registers(10, 2), registers(100, 100)], limits);
    device.set("registers", Quantity::Text("\u{12}4Vx")).expect("text fits text");
    device
}

async fn tcp_endpoint(servers: &mut Servers) -> Endpoint {
    servers.tcp(Framing::Tcp, vec![device()], Keep::Answers).await.expect("a free port")
}

fn open(port: &Path) -> SerialStream {
    tokio_serial::new(port.to_string_lossy(), 9600).open_native_async().expect("the port opens")
}

/// Everything that arrives until nothing does for a while, or the end.
async fn all_that_comes(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let (mut bytes, mut wait) = (Vec::new(), Duration::from_secs(2));
    while let Ok(Ok(length)) = tokio::time::timeout(wait, stream.read_buf(&mut bytes)).await
        && length > 0
    {
        wait = SILENCE;
    }
    bytes
}

async fn exactly(stream: &mut (impl AsyncReadExt + Unpin), length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    tokio::time::timeout(SOON, stream.read_exact(&mut bytes)).await.expect("an answer in time").expect("no end");
    bytes
}

fn mbpoll(arguments: &[&str]) -> Output {
    let started = Command::new("timeout").arg("20").arg("mbpoll").args(arguments).output();
    let output = started.expect("timeout(1) runs");
    assert_ne!(output.status.code(), Some(127), "mbpoll is missing: tests/run installs it");
    output
}

/// The values in the output of mbpoll: lines such as `[10]: 4660`.
fn values(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    let values: Vec<String> = text
        .lines()
        .filter(|line| line.starts_with('['))
        .filter_map(|line| line.split(':').nth(1))
        .map(|value| value.split_whitespace().next().unwrap_or_default().to_owned())
        .collect();
    assert!(!values.is_empty(), "mbpoll read nothing: {text}{}", String::from_utf8_lossy(&output.stderr));
    values
}

async fn mbpoll_values(arguments: Vec<String>) -> Vec<String> {
    let run = tokio::task::spawn_blocking(move || mbpoll(&arguments.iter().map(String::as_str).collect::<Vec<_>>()));
    values(&run.await.expect("mbpoll ran"))
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[tokio::test]
async fn mbpoll_reads_registers_over_tcp() {
    let mut servers = Servers::default();
    let endpoint = tcp_endpoint(&mut servers).await;

    let port = endpoint.address().port();
    let read = mbpoll_values(words(&format!("-m tcp -p {port} -0 -1 -a 7 -t 4 -r 10 -c 2 127.0.0.1"))).await;

    assert_eq!(read, ["4660", "22136"]);
    let log = endpoint.log().await.unwrap();
    assert_eq!(log.iter().map(|answer| answer.words.to_vec()).collect::<Vec<_>>(), [[0x1234, 0x5678]]);
}

#[tokio::test]
async fn mbpoll_reads_registers_over_a_serial_line() {
    let mut servers = Servers::default();
    let format = LineFormat::plain(19_200, Pace::Real);
    let endpoint = servers.rtu(format, vec![device()], Keep::Answers).unwrap();

    let port = endpoint.port().display().to_string();
    let read = mbpoll_values(words(&format!("-m rtu -b 19200 -P none -0 -1 -a 7 -t 4 -r 10 -c 2 {port}"))).await;

    assert_eq!(read, ["4660", "22136"]);
    assert_eq!(endpoint.log().await.unwrap().len(), 1);
}

#[tokio::test]
async fn mbpoll_reads_live_values_of_the_plant() {
    let plant = Plant::start(PlantSpec::default()).await.unwrap();

    let port = plant.endpoint(PlantLink::HallA).address().port();
    let volts = words(&format!("-m tcp -p {port} -0 -1 -B -a 1 -t 4:float -r 1 -c 3 127.0.0.1"));
    let port = plant.endpoint(PlantLink::HallB).port().display().to_string();
    let hertz = words(&format!("-m rtu -b 19200 -P none -0 -1 -B -a 2 -t 3:float -r 70 -c 1 {port}"));

    for volt in mbpoll_values(volts).await {
        let volt: f64 = volt.parse().unwrap();
        assert!((220.0..240.0).contains(&volt), "{volt} V");
    }
    let hertz: f64 = mbpoll_values(hertz).await[0].parse().unwrap();
    assert!((49.0..51.0).contains(&hertz), "{hertz} Hz");
    plant.stop().await;
}

#[tokio::test]
async fn requests_in_one_piece_or_many_get_one_answer_each() {
    let mut servers = Servers::default();
    let endpoint = tcp_endpoint(&mut servers).await;
    let mut client = TcpStream::connect(endpoint.address()).await.unwrap();
    client.set_nodelay(true).unwrap();

    client.write_all(&[TCP_REQUEST, TCP_REQUEST].concat()).await.unwrap();
    assert_eq!(exactly(&mut client, 26).await, [TCP_ANSWER, TCP_ANSWER].concat());

    client.write_all(&TCP_REQUEST[..9]).await.unwrap();
    endpoint.wait_for(|counters| counters.bytes_in == 33).await;
    client.write_all(&TCP_REQUEST[9..]).await.unwrap();
    assert_eq!(exactly(&mut client, 13).await, TCP_ANSWER);
    assert_eq!(endpoint.counters().answers, 3);
}

#[tokio::test]
async fn several_clients_are_served_at_once_and_can_be_thrown_out() {
    let mut servers = Servers::default();
    let endpoint = tcp_endpoint(&mut servers).await;
    let mut first = TcpStream::connect(endpoint.address()).await.unwrap();
    let mut second = TcpStream::connect(endpoint.address()).await.unwrap();

    second.write_all(&TCP_REQUEST).await.unwrap();
    assert_eq!(exactly(&mut second, 13).await, TCP_ANSWER);
    first.write_all(&TCP_REQUEST).await.unwrap();
    assert_eq!(exactly(&mut first, 13).await, TCP_ANSWER);

    endpoint.disconnect().await.unwrap();
    assert!(all_that_comes(&mut first).await.is_empty());
    servers.stop().await;
    assert!(TcpStream::connect(endpoint.address()).await.is_err());
}

#[tokio::test]
async fn every_misbehaviour_shows_on_tcp() {
    use Misbehaviour::*;
    let mut servers = Servers::default();
    let endpoint = tcp_endpoint(&mut servers).await;
    let hand = |bytes: &[u8]| bytes.to_vec();
    let cases = [
        (Silent, hand(&[])),
        (Disconnect, hand(&[])),
        (Slow(Duration::from_millis(20)), hand(&TCP_ANSWER)),
        (Late(Duration::from_millis(20)), hand(&TCP_ANSWER)),
        (Exception(6), hand(&[1, 2, 0, 0, 0, 3, 7, 0x83, 6])),
        (WrongUnit, hand(&[1, 2, 0, 0, 0, 7, 8, 3, 4, 0x12, 0x34, 0x56, 0x78])),
        (WrongFunction, hand(&[1, 2, 0, 0, 0, 7, 7, 4, 4, 0x12, 0x34, 0x56, 0x78])),
        (WrongLength, hand(&[1, 2, 0, 0, 0, 5, 7, 3, 2, 0x12, 0x34])),
        (BadCrc, hand(&[1, 2, 0x55, 0, 0, 7, 7, 3, 4, 0x12, 0x34, 0x56, 0x78])),
        (Truncated, hand(&TCP_ANSWER[..6])),
        (Echo, [&TCP_REQUEST[..], &TCP_ANSWER[..]].concat()),
    ];
    for (misbehaviour, expected) in cases {
        let mut client = TcpStream::connect(endpoint.address()).await.unwrap();
        endpoint.misbehave(7, Some(misbehaviour)).await.unwrap();
        client.write_all(&TCP_REQUEST).await.unwrap();
        assert_eq!(all_that_comes(&mut client).await, expected, "{misbehaviour:?}");
    }

    let mut client = TcpStream::connect(endpoint.address()).await.unwrap();
    endpoint.misbehave(7, Some(Garbage)).await.unwrap();
    client.write_all(&TCP_REQUEST).await.unwrap();
    let garbage = all_that_comes(&mut client).await;
    assert!(garbage.len() == TCP_ANSWER.len() && garbage[2..4] != [0, 0], "{garbage:?}");

    endpoint.misbehave(7, None).await.unwrap();
    client.write_all(&TCP_REQUEST).await.unwrap();
    assert_eq!(exactly(&mut client, 13).await, TCP_ANSWER);
    let counters = endpoint.counters();
    assert_eq!((counters.answers, counters.exceptions, counters.spoiled, counters.unanswered), (4, 1, 6, 2));
    assert_eq!(endpoint.log().await.unwrap().len(), 4);
}

#[tokio::test]
async fn every_misbehaviour_shows_on_a_serial_line() {
    use Misbehaviour::*;
    let mut servers = Servers::default();
    let endpoint = servers.rtu(LineFormat::plain(9600, Pace::Free), vec![device()], Keep::Answers).unwrap();
    let mut client = open(&endpoint.port());
    client.write_all(&RTU_REQUEST).await.unwrap();
    let good = exactly(&mut client, 9).await;
    assert_eq!(good[..7], [7, 3, 4, 0x12, 0x34, 0x56, 0x78]);
    let bad_crc = [&good[..8], &[good[8] ^ 0xff]].concat();

    let cases = [
        (Silent, vec![]),
        (Disconnect, vec![]),
        (Slow(Duration::from_millis(20)), good.clone()),
        (Late(Duration::from_millis(20)), good.clone()),
        (Exception(2), vec![7, 0x83, 2, 0x20, 0xf0]),
        (BadCrc, bad_crc),
        (Truncated, good[..4].to_vec()),
        (Echo, [&RTU_REQUEST[..], &good[..]].concat()),
    ];
    for (misbehaviour, expected) in cases {
        endpoint.misbehave(7, Some(misbehaviour)).await.unwrap();
        client.write_all(&RTU_REQUEST).await.unwrap();
        assert_eq!(all_that_comes(&mut client).await, expected, "{misbehaviour:?}");
    }
    for (misbehaviour, head) in [(WrongUnit, [8, 3, 4]), (WrongFunction, [7, 4, 4]), (WrongLength, [7, 3, 2])] {
        endpoint.misbehave(7, Some(misbehaviour)).await.unwrap();
        client.write_all(&RTU_REQUEST).await.unwrap();
        let frame = all_that_comes(&mut client).await;
        assert_eq!(frame[..3], head, "{misbehaviour:?}");
        let crc = lineside::simulator::wire::crc16(&frame[..frame.len() - 2]);
        assert_eq!(crc.to_le_bytes(), frame[frame.len() - 2..], "{misbehaviour:?} has a good CRC");
    }
}

#[tokio::test]
async fn a_late_answer_comes_after_that_of_the_next_request() {
    let mut servers = Servers::default();
    let endpoint = tcp_endpoint(&mut servers).await;
    let mut client = TcpStream::connect(endpoint.address()).await.unwrap();
    endpoint.misbehave(7, Some(Misbehaviour::Late(Duration::from_millis(300)))).await.unwrap();
    client.write_all(&TCP_REQUEST).await.unwrap();
    endpoint.wait_for(|counters| counters.requests == 1).await;

    endpoint.misbehave(7, None).await.unwrap();
    endpoint.write(7, Table::HoldingRegisters, 10, &[1, 2]).await.unwrap();
    client.write_all(&TCP_REQUEST).await.unwrap();

    assert_eq!(exactly(&mut client, 13).await[9..], [0, 1, 0, 2]);
    assert_eq!(exactly(&mut client, 13).await, TCP_ANSWER);
    let log = endpoint.log().await.unwrap();
    let logged: Vec<(u16, bool)> =
        log.iter().map(|answer| (answer.words[0], answer.after >= Duration::from_millis(300))).collect();
    assert_eq!(logged, [(1, false), (0x1234, true)]);
}

#[tokio::test]
async fn a_device_that_died_returns() {
    let mut mortal = device();
    mortal.outages = vec![Outage { from: Duration::ZERO, until: Duration::from_millis(400) }];
    let mut servers = Servers::default();
    let endpoint = servers.tcp(Framing::Tcp, vec![mortal], Keep::Counters).await.unwrap();
    let mut client = TcpStream::connect(endpoint.address()).await.unwrap();

    let mut answer = Vec::new();
    let deadline = Instant::now() + SOON;
    while answer.is_empty() && Instant::now() < deadline {
        client.write_all(&TCP_REQUEST).await.unwrap();
        let _still_dead = tokio::time::timeout(SILENCE, client.read_buf(&mut answer)).await;
    }

    assert_eq!(answer, TCP_ANSWER);
    assert!(endpoint.counters().unanswered >= 1);
}

#[tokio::test]
async fn who_is_not_there_does_not_answer() {
    let mut servers = Servers::default();
    let tcp = tcp_endpoint(&mut servers).await;
    let rtu = servers.rtu(LineFormat::plain(9600, Pace::Free), vec![device()], Keep::Answers).unwrap();
    let mut client = TcpStream::connect(tcp.address()).await.unwrap();
    let mut serial = open(&rtu.port());

    client.write_all(&[0, 1, 0, 0, 0, 6, 9, 3, 0, 10, 0, 2]).await.unwrap();
    assert_eq!(exactly(&mut client, 9).await, [0, 1, 0, 0, 0, 3, 9, 0x83, 11]);

    serial.write_all(&[8, 3, 0, 10, 0, 2, 0xe4, 0x90]).await.unwrap();
    let counters = rtu.wait_for(|counters| counters.requests + counters.garbage == 1).await;
    assert_eq!((counters.requests, counters.unanswered, counters.bytes_out), (1, 1, 0));
}

#[tokio::test]
async fn serial_frames_are_answered_over_tcp_and_broken_ones_are_passed_over() {
    let mut servers = Servers::default();
    let endpoint = servers.tcp(Framing::Rtu, vec![device()], Keep::Answers).await.unwrap();
    let mut client = TcpStream::connect(endpoint.address()).await.unwrap();

    client.write_all(&[7, 3, 0, 10, 0, 2, 0, 0]).await.unwrap();
    endpoint.wait_for(|counters| counters.garbage == 1).await;
    client.write_all(&RTU_REQUEST).await.unwrap();

    assert_eq!(exactly(&mut client, 9).await[..7], [7, 3, 4, 0x12, 0x34, 0x56, 0x78]);
}

/// Bytes take the time that they take on a wire: never less, and little more for a client that does not hesitate.
#[tokio::test]
async fn a_paced_line_is_as_fast_as_its_baud_rate() {
    const REQUESTS: u32 = 25;
    let mut servers = Servers::default();
    let format = LineFormat::modbus(9600, Pace::Real);
    let endpoint = servers.rtu(format, vec![device()], Keep::Counters).unwrap();
    let mut client = open(&endpoint.port());
    let mut request = vec![];
    Framing::Rtu.frame(0, 7, &[3, 0, 100, 0, 30], &mut request);

    let started = Instant::now();
    for _ in 0..REQUESTS {
        client.write_all(&request).await.unwrap();
        exactly(&mut client, 5 + 60).await;
    }
    let elapsed = started.elapsed();

    let counters = endpoint.wait_for(|counters| counters.answers == u64::from(REQUESTS)).await;
    let character = format.settings(endpoint.port()).character_time();
    let on_wire = REQUESTS * (character * (8 + 5 + 60) + character * 7);
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
    assert!((0.99..1.01).contains(&ratio(counters.busy, on_wire)), "{:?} busy for {on_wire:?}", counters.busy);
    assert!((0.98..1.3).contains(&ratio(elapsed, on_wire)), "{elapsed:?} for {on_wire:?} on the wire");
}

#[tokio::test]
async fn the_scale_answers_commands_and_refuses_others() {
    let mut servers = Servers::default();
    let scale = Instrument::Scale(WeighingScale::new(1));
    let port = servers.text(LineFormat::plain(9600, Pace::Free), scale).unwrap();
    let mut client = open(&port.settings().port);

    client.write_all(b"SI\r\n").await.unwrap();
    let answer = String::from_utf8(exactly(&mut client, 18).await).unwrap();
    assert!(answer.starts_with("S S ") && answer.ends_with(" g\r\n"), "{answer:?}");

    client.write_all(b"WHAT\r\n").await.unwrap();
    assert_eq!(exactly(&mut client, 4).await, b"ES\r\n");

    port.misbehave(Some(TextMisbehaviour::Overload)).await.unwrap();
    client.write_all(b"SI\r\n").await.unwrap();
    assert_eq!(exactly(&mut client, 5).await, b"S +\r\n");
    let log = port.log().await.unwrap();
    assert_eq!(log.lines.iter().map(|(_, line)| line.as_str()).collect::<Vec<_>>(), [answer.trim_end(), "ES", "S +"]);
}

#[tokio::test]
async fn the_weather_sensor_talks_and_its_log_holds_what_was_heard() {
    let mut servers = Servers::default();
    let sensor = Instrument::Weather(WeatherSensor::new(Duration::from_millis(50), 1));
    let port = servers.text(LineFormat::plain(4800, Pace::Free), sensor).unwrap();

    // Nobody listens: what is said is lost, and not in the log.
    port.wait_for(|counters| counters.unread >= 4).await;
    let mut client = open(&port.settings().port);
    let mut heard = Vec::new();
    while heard.iter().filter(|byte| **byte == b'\n').count() < 12 {
        tokio::time::timeout(SOON, client.read_buf(&mut heard)).await.expect("sentences in time").unwrap();
    }

    let heard = String::from_utf8(heard).unwrap();
    let heard: Vec<&str> = heard.split_inclusive("\r\n").filter_map(|line| line.strip_suffix("\r\n")).collect();
    let log = port.log().await.unwrap();
    let logged: Vec<&str> = log.lines.iter().map(|(_, line)| line.as_str()).collect();
    assert!(logged.windows(heard.len()).any(|window| window == heard), "{heard:?} in {logged:?}");
}
