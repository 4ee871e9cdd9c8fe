//! An instrument at the other end of a pipe, under a clock that stands still unless everybody waits.

use regex::Regex;
use tokio::io::{DuplexStream, duplex};
use tokio::time::sleep;

use super::*;
use crate::model::{BootId, ClockState, Observed, Scale, Value, ValueKind};
use crate::profile::text::{Checksum, LineMeaning, LinePattern, TextPoint, TextProfile};

const PATIENCE: Duration = Duration::from_millis(500);

/// Wall clock that shows the time of the paused runtime.
struct PausedClock(Instant);

impl Clock for PausedClock {
    fn wall(&self) -> Timestamp {
        Timestamp::default().after(self.monotonic())
    }
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
    fn state(&self) -> ClockState {
        ClockState::Synchronised
    }
    fn boot(&self) -> BootId {
        BootId([0; 16])
    }
}

fn scale() -> (Instrument<DuplexStream>, DuplexStream) {
    let profile = TextProfile {
        ask: Some(b"SI\r\n".to_vec()),
        frame_end: b"\r\n".to_vec(),
        frame_max: 40,
        checksum: Checksum::None,
        patterns: vec![
            LinePattern { expression: Regex::new(r"^S S +(?<weight_g>\S+) g$").unwrap(), meaning: LineMeaning::Good },
            LinePattern { expression: Regex::new("^I4 A").unwrap(), meaning: LineMeaning::Ignore },
        ],
        points: vec![TextPoint {
            name: "weight_g".to_owned(),
            kind: ValueKind::F64,
            scale: Scale::ONE,
            unit: "g".to_owned(),
            unit_group: None,
            range: None,
        }],
        interval: None,
    };
    let (near, far) = duplex(4096);
    let cutter = LineCutter::new(&profile.frame_end, profile.frame_max);
    let reader = Arc::new(LineReader::new(&profile));
    let clock = Arc::new(PausedClock(Instant::now()));
    (Instrument::over(near, Path::new("/dev/ttyS9"), cutter, reader, clock), far)
}

fn weight(grams: f64) -> LineReading {
    LineReading::Points { pattern: 0, observed: vec![Observed::Good(Value::F64(grams))] }
}

async fn expect_request(far: &mut DuplexStream) {
    let mut request = [0; 4];
    far.read_exact(&mut request).await.unwrap();
    assert_eq!(&request, b"SI\r\n");
}

#[tokio::test(start_paused = true)]
async fn the_time_of_an_answer_is_when_its_end_came() {
    let (mut scale, mut far) = scale();
    let device = async {
        expect_request(&mut far).await;
        far.write_all(b"S S   1.").await.unwrap();
        sleep(Duration::from_millis(200)).await;
        far.write_all(b"00 g\r\n").await.unwrap();
    };
    let (heard, ()) = tokio::join!(scale.ask(b"SI\r\n", PATIENCE), device);
    assert_eq!(heard.unwrap(), Heard { time: Timestamp(200), reading: weight(1.0), raw: None });
}

#[tokio::test(start_paused = true)]
async fn a_greeting_is_not_an_answer() {
    let (mut scale, mut far) = scale();
    let device = async {
        expect_request(&mut far).await;
        far.write_all(b"I4 A \"0123456789\"\r\nS S   2.00 g\r\n").await.unwrap();
    };
    let (heard, ()) = tokio::join!(scale.ask(b"SI\r\n", PATIENCE), device);
    assert_eq!(heard.unwrap().reading, weight(2.0));
}

#[tokio::test(start_paused = true)]
async fn what_lay_in_the_port_before_the_request_is_dropped() {
    let (mut scale, mut far) = scale();
    far.write_all(b"S S   9.99 g\r\nS S   9.9").await.unwrap();
    let device = async {
        expect_request(&mut far).await;
        far.write_all(b"S S   1.00 g\r\n").await.unwrap();
    };
    let (heard, ()) = tokio::join!(scale.ask(b"SI\r\n", PATIENCE), device);
    assert_eq!(heard.unwrap().reading, weight(1.0));
    assert_eq!(scale.take_late_lines(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_late_is_not_taken_for_the_next_one() {
    let (mut scale, mut far) = scale();
    // Given an instrument that answers its first request only after the wait for it was given up,
    let device = async {
        expect_request(&mut far).await;
        sleep(PATIENCE + Duration::from_millis(300)).await;
        far.write_all(b"S S   9.99 g\r\n").await.unwrap();
        expect_request(&mut far).await;
        far.write_all(b"S S   1.00 g\r\n").await.unwrap();
    };
    // when it is asked again at once,
    let asked = async {
        assert!(matches!(scale.ask(b"SI\r\n", PATIENCE).await, Err(InstrumentError::NoAnswer { .. })));
        scale.ask(b"SI\r\n", PATIENCE).await
    };
    let (heard, ()) = tokio::join!(asked, device);
    // then the second request went out after a time of quiet and got its own answer.
    assert_eq!(heard.unwrap(), Heard { time: Timestamp(1300), reading: weight(1.0), raw: None });
    assert_eq!(scale.take_late_lines(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_instrument_that_never_falls_silent_is_asked_all_the_same() {
    let (mut scale, mut far) = scale();
    let start = Instant::now();
    let device = tokio::spawn(async move {
        // Nothing but bytes without an end, ten a second.
        while far.write_all(b"~").await.is_ok() {
            sleep(Duration::from_millis(100)).await;
        }
    });
    assert!(matches!(scale.ask(b"SI\r\n", PATIENCE).await, Err(InstrumentError::NoAnswer { .. })));
    scale.settle(PATIENCE).await.unwrap();
    assert!(start.elapsed() <= PATIENCE * (1 + QUIET_WITHIN));
    drop(scale);
    device.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn too_many_bytes_without_an_end_are_garbage_and_the_next_line_is_read() {
    let (mut scale, mut far) = scale();
    far.write_all(&[b'U'; 3000]).await.unwrap();
    far.write_all(b"\r\nS S   3.00 g\r\n").await.unwrap();
    assert_eq!(scale.next().await.unwrap().reading, LineReading::Garbage);
    assert_eq!(scale.next().await.unwrap().reading, weight(3.0));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_port_ends_the_session() {
    let (mut scale, far) = scale();
    drop(far);
    let error = scale.next().await.unwrap_err();
    assert!(matches!(error, InstrumentError::Gone { .. }) && error.ends_session());
    assert_eq!(error.fault(), Fault::LinkDown);
}

#[tokio::test]
async fn a_port_that_is_not_there_is_named() {
    let (scale, _far) = scale();
    let settings = SerialSettings {
        port: "/dev/does-not-exist".into(),
        baud_rate: 9600,
        parity: Parity::Even,
        data_bits: 7,
        stop_bits: 2,
        rs485: false,
    };
    let opened = Instrument::open(&settings, b"\r\n", 40, Arc::clone(&scale.reader), Arc::clone(&scale.clock));
    let Err(error) = opened else { panic!("there is no such port") };
    assert!(error.to_string().starts_with("serial port /dev/does-not-exist cannot be opened: "), "{error}");
}
