//! The Modbus client against peers that misbehave: never a wrong value, always a precise reason.

use std::sync::Arc;
use std::time::Duration;

use crate::peer::{Asked, Behaviour, Deed, Framing, Peer, framed, on_pty, on_tcp, register, truth, with_crc};
use lineside::config::{Accepted, Endpoint};
use lineside::modbus::client::OnClose;
use lineside::modbus::write::{WriteRequest, WriteWith};
use lineside::modbus::{Client, Mismatch, PollError};
use lineside::model::UnitId;
use lineside::profile::Table;

const TIMEOUT: Duration = Duration::from_millis(60);

fn unit(id: u8) -> UnitId {
    UnitId::tcp(id.into()).unwrap()
}

/// The same peer on all three kinds of link.
async fn everywhere(behaviour: Behaviour) -> [Peer; 3] {
    [
        on_tcp(Framing::Mbap, Arc::clone(&behaviour)).await,
        on_tcp(Framing::Rtu, Arc::clone(&behaviour)).await,
        on_pty(115_200, behaviour),
    ]
}

async fn connect(peer: &Peer) -> Client {
    Client::connect(&peer.endpoint, TIMEOUT).await.unwrap()
}

async fn read(client: &mut Client, id: u8, address: u16, count: u16) -> Result<Vec<u16>, PollError> {
    let mut words = Vec::new();
    client.read(unit(id), Table::HoldingRegisters, address, count, &mut words).await.map(|_| words)
}

fn registers(id: u8, address: u16, count: u16) -> Vec<u16> {
    (address..address + count).map(|address| register(id, address)).collect()
}

fn truthful() -> Behaviour {
    Arc::new(|asked| vec![Deed::Answer(asked.unit, truth(asked))])
}

/// Once `deeds`, the truth from then on.
fn first(deeds: impl Fn(Asked) -> Vec<Deed> + Send + Sync + 'static) -> Behaviour {
    Arc::new(move |asked| if asked.number == 0 { deeds(asked) } else { vec![Deed::Answer(asked.unit, truth(asked))] })
}

#[tokio::test]
async fn all_tables_are_read_on_every_kind_of_link() {
    for peer in everywhere(truthful()).await {
        let mut client = connect(&peer).await;
        let mut words = Vec::new();
        for (table, count) in [(Table::HoldingRegisters, 125), (Table::InputRegisters, 1)] {
            client.read(unit(2), table, 100, count, &mut words).await.unwrap();
            assert_eq!(words, registers(2, 100, count), "{}", peer.endpoint);
        }
        for (table, count) in [(Table::Coils, 2000), (Table::DiscreteInputs, 3)] {
            client.read(unit(2), table, 9, count, &mut words).await.unwrap();
            let bits: Vec<u16> = (9..9 + count).map(|address| u16::from(address % 3 == 0)).collect();
            assert_eq!(words, bits, "{}", peer.endpoint);
        }
    }
}

/// Asks a device whose every second answer comes up to one and a half timeouts late, for other registers each time, until so
/// many were late, and as many in time: a busy machine only makes it ask more often. In memory, with ten thousand of
/// them, this is tested in `poll::poller`.
async fn ask_a_late_device(mut peer: Peer, late: u64) {
    let mut client = connect(&peer).await;
    let (mut answered, mut timeouts, mut stale) = (0_u64, 0_u64, 0_u64);
    for address in (0..1000).cycle().take(5000) {
        match read(&mut client, 1, address, 2).await {
            // What comes is what was asked for.
            Ok(words) => {
                assert_eq!(words, registers(1, address, 2), "{}", peer.endpoint);
                answered += 1;
            }
            Err(PollError::NoAnswer { .. }) => timeouts += 1,
            Err(error) => panic!("{}: {error}", peer.endpoint),
        }
        stale += client.take_stale().count() as u64;
        if answered.min(stale) >= late {
            break;
        }
    }
    let asked = std::iter::from_fn(|| peer.asked.try_recv().ok()).count() as u64;
    println!("{}: {answered} answered, {timeouts} timeouts, {stale} dropped late", peer.endpoint);
    assert!(answered.min(stale) >= late, "{}: {answered} answered, {stale} dropped late", peer.endpoint);
    // Whatever was asked was answered or not, and what came late was one of those that were not.
    assert_eq!(asked, answered + timeouts, "{}", peer.endpoint);
    assert!(stale <= timeouts, "{}: {stale} dropped, {timeouts} timeouts", peer.endpoint);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_late_answers_on_each_kind_of_link_are_never_taken_for_the_next_one() {
    let late = Arc::new(|asked: Asked| {
        let wait = if asked.number % 2 == 1 { TIMEOUT * (11 + asked.number as u32 % 5) / 10 } else { Duration::ZERO };
        vec![Deed::Wait(wait), Deed::AnswerBy(asked.at + TIMEOUT * 16 / 10, asked.unit, truth(asked))]
    });
    let asking = everywhere(late).await.map(|peer| tokio::spawn(ask_a_late_device(peer, 200)));
    for asked in asking {
        asked.await.unwrap();
    }
}

#[tokio::test]
async fn a_late_answer_of_one_unit_does_not_spoil_the_answer_of_another() {
    // Given unit 1 that answers too late, in the middle of the wait for unit 2
    let slow = first(|asked| vec![Deed::Wait(TIMEOUT + TIMEOUT / 2), Deed::Answer(asked.unit, truth(asked))]);
    for peer in everywhere(slow).await {
        let mut client = connect(&peer).await;
        assert!(matches!(read(&mut client, 1, 7, 2).await, Err(PollError::NoAnswer { .. })));

        let other = read(&mut client, 2, 7, 2).await;

        assert_eq!(other.unwrap(), registers(2, 7, 2), "{}", peer.endpoint);
        assert_eq!(client.take_stale().collect::<Vec<u8>>(), [1], "{}", peer.endpoint);
        assert!(client.ready_at(unit(1)).is_none(), "the answer has come: nothing is owed");
        assert_eq!(read(&mut client, 1, 9, 2).await.unwrap(), registers(1, 9, 2));
    }
}

#[tokio::test]
async fn an_answer_that_stays_away_delays_only_its_own_unit() {
    let silent_once = first(|_| Vec::new());
    let peer = on_pty(115_200, silent_once);
    let mut client = connect(&peer).await;
    assert!(read(&mut client, 1, 0, 1).await.is_err());

    let begun = tokio::time::Instant::now();
    read(&mut client, 2, 0, 1).await.unwrap();
    assert!(begun.elapsed() < TIMEOUT / 2, "unit 2 waited {:?}", begun.elapsed());
    let owed_until = client.ready_at(unit(1)).unwrap();
    read(&mut client, 1, 0, 1).await.unwrap();
    assert!(tokio::time::Instant::now() >= owed_until);
}

#[tokio::test]
async fn each_kind_of_bad_answer_has_its_own_error_and_the_next_request_works() {
    type Case = (&'static str, fn(Asked) -> Vec<Deed>, fn(&PollError) -> bool);
    let cases: [Case; 6] = [
        (
            "exception",
            |asked| vec![Deed::Answer(asked.unit, vec![asked.function | 0x80, 2])],
            |error| matches!(error, PollError::Exception(2)),
        ),
        (
            "wrong unit",
            |asked| vec![Deed::Answer(asked.unit + 1, truth(asked))],
            |error| matches!(error, PollError::WrongUnit { answered: 2, .. }),
        ),
        (
            "wrong function",
            |asked| vec![Deed::Answer(asked.unit, truth(Asked { function: 4, ..asked }))],
            |error| matches!(error, PollError::WrongAnswer(Mismatch::Function { asked: 3, answered: 4 })),
        ),
        (
            "too long",
            |asked| vec![Deed::Answer(asked.unit, truth(Asked { count: 3, ..asked }))],
            |error| {
                matches!(error, PollError::WrongAnswer(Mismatch::Length { expected: 4, announced: 6, answered: 6 }))
            },
        ),
        (
            "too short",
            |asked| vec![Deed::Answer(asked.unit, truth(Asked { count: 1, ..asked }))],
            |error| {
                matches!(error, PollError::WrongAnswer(Mismatch::Length { expected: 4, announced: 2, answered: 2 }))
            },
        ),
        ("silent", |_| Vec::new(), |error| matches!(error, PollError::NoAnswer { .. })),
    ];
    for (name, deeds, is_expected) in cases {
        for peer in everywhere(first(deeds)).await {
            let mut client = connect(&peer).await;
            let error = read(&mut client, 1, 40, 2).await.unwrap_err();
            assert!(is_expected(&error), "{name}, {}: {error}", peer.endpoint);
            assert!(!error.ends_session());
            assert_eq!(read(&mut client, 1, 41, 2).await.unwrap(), registers(1, 41, 2), "{name}, {}", peer.endpoint);
        }
    }
}

#[tokio::test]
async fn noise_on_a_line_is_a_fault_and_the_next_request_works() {
    type Case = (&'static str, fn(Asked) -> Vec<u8>, fn(&PollError) -> bool);
    let cases: [Case; 4] = [
        (
            "bad checksum",
            |asked| {
                let mut frame = with_crc(&[&[asked.unit], &truth(asked)[..]].concat());
                frame[4] ^= 0x10;
                frame
            },
            |error| matches!(error, PollError::BadChecksum { .. }),
        ),
        ("garbage", |_| vec![0x55; 30], |error| matches!(error, PollError::Garbage { came } if came.bytes == 30)),
        (
            "broken off",
            |asked| with_crc(&[&[asked.unit], &truth(asked)[..]].concat())[..6].to_vec(),
            |error| matches!(error, PollError::BrokenOff { announced: 9, came: 6 }),
        ),
        (
            "two answers",
            |asked| with_crc(&[&[asked.unit], &truth(asked)[..]].concat()).repeat(2),
            |error| matches!(error, PollError::Garbage { came } if came.bytes == 18),
        ),
    ];
    for (name, bytes, is_expected) in cases {
        let behaviour = first(move |asked| vec![Deed::Raw(bytes(asked))]);
        for peer in [on_tcp(Framing::Rtu, Arc::clone(&behaviour)).await, on_pty(115_200, behaviour)] {
            let mut client = connect(&peer).await;
            let error = read(&mut client, 1, 40, 2).await.unwrap_err();
            assert!(is_expected(&error), "{name}, {}: {error}", peer.endpoint);
            assert!(error.is_bad_frame() && !error.ends_session());
            assert_eq!(read(&mut client, 1, 41, 2).await.unwrap(), registers(1, 41, 2), "{name}, {}", peer.endpoint);
        }
    }
}

#[tokio::test]
async fn a_tcp_stream_out_of_step_ends_the_session() {
    for bytes in [vec![0x55; 30], vec![0, 1, 0, 0, 0, 7, 1, 3, 4, 0]] {
        let peer = on_tcp(Framing::Mbap, Arc::new(move |_| vec![Deed::Raw(bytes.clone())])).await;
        let mut client = connect(&peer).await;

        let error = read(&mut client, 1, 40, 2).await.unwrap_err();

        assert!(matches!(error, PollError::OutOfStep { .. }), "{error}");
        assert!(error.ends_session());
    }
}

#[tokio::test]
async fn stray_bytes_around_a_frame_on_a_line_are_dropped_and_counted() {
    let answers = |pdu: fn(Asked) -> Vec<u8>, before: usize, behind: usize, stray: u8| -> Behaviour {
        Arc::new(move |asked| {
            let frame = with_crc(&[&[asked.unit], &pdu(asked)[..]].concat());
            vec![Deed::Raw([vec![stray; before], frame, vec![stray; behind]].concat())]
        })
    };
    let refusal = |asked: Asked| vec![asked.function | 0x80, 2];
    for stray in [0x00, 0xFF, 0x01] {
        for (before, behind) in [(1, 0), (0, 1), (1, 1), (2, 0), (0, 2), (3, 2)] {
            let good = answers(truth, before, behind, stray);
            for peer in [on_tcp(Framing::Rtu, Arc::clone(&good)).await, on_pty(115_200, good)] {
                let mut client = connect(&peer).await;
                for address in 40..45 {
                    let words = read(&mut client, 1, address, 2).await.unwrap();
                    assert_eq!(words, registers(1, address, 2), "{before} {behind} {stray:02x} {}", peer.endpoint);
                }
                // What stands behind the last answer has come by the time of the next request only.
                let seen = client.take_stray().bytes;
                let each = (before + behind) as u64;
                assert!((4 * each..=5 * each).contains(&seen), "{seen} of {each} each, {}", peer.endpoint);
            }
            let peer = on_pty(115_200, answers(refusal, before, behind, stray));
            let mut client = connect(&peer).await;
            for _ in 0..3 {
                let error = read(&mut client, 1, 40, 2).await.unwrap_err();
                assert!(matches!(error, PollError::Exception(2)), "{before} {behind} {stray:02x}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn a_late_answer_among_stray_bytes_is_still_not_taken_for_the_next_one() {
    let late = first(|asked| {
        let frame = with_crc(&[&[asked.unit], &truth(asked)[..]].concat());
        vec![Deed::Wait(TIMEOUT + TIMEOUT / 2), Deed::Raw([&[0][..], &frame, &[0]].concat())]
    });
    for peer in [on_tcp(Framing::Rtu, Arc::clone(&late)).await, on_pty(115_200, late)] {
        let mut client = connect(&peer).await;
        assert!(matches!(read(&mut client, 1, 7, 2).await, Err(PollError::NoAnswer { .. })));

        let next = read(&mut client, 1, 9, 2).await;

        assert_eq!(next.unwrap(), registers(1, 9, 2), "{}", peer.endpoint);
        assert_eq!(client.take_stale().collect::<Vec<u8>>(), [1], "{}", peer.endpoint);
    }
}

#[tokio::test]
async fn bytes_too_many_inside_or_behind_a_tcp_frame_are_dropped_and_counted() {
    for (inside, behind) in [(1, 0), (2, 0), (0, 1), (0, 2), (0, 7), (0, 40), (1, 1)] {
        for junk in [0x00, 0x5F] {
            let behaviour: Behaviour = Arc::new(move |asked| {
                let mut frame = framed(Framing::Mbap, asked.transaction, asked.unit, &truth(asked));
                frame[5] += inside;
                frame.extend(vec![junk; usize::from(inside) + behind]);
                vec![Deed::Raw(frame)]
            });
            let peer = on_tcp(Framing::Mbap, behaviour).await;
            let mut client = connect(&peer).await;
            for address in 0..300 {
                let words = read(&mut client, 1, address, 2).await.unwrap();
                assert_eq!(words, registers(1, address, 2), "{inside} inside, {behind} behind");
            }
            assert!(client.take_stray().bytes >= 299, "{inside} inside, {behind} behind");
        }
    }
}

#[tokio::test]
async fn an_answer_in_many_segments_is_put_together() {
    let behaviour: Behaviour = Arc::new(|asked| {
        let frame = framed(Framing::Mbap, asked.transaction, asked.unit, &truth(asked));
        frame.iter().flat_map(|byte| [Deed::Raw(vec![*byte]), Deed::Wait(Duration::from_micros(200))]).collect()
    });
    let peer = on_tcp(Framing::Mbap, behaviour).await;
    let mut client = Client::connect(&peer.endpoint, Duration::from_secs(5)).await.unwrap();
    for address in 0..5 {
        assert_eq!(read(&mut client, 1, address, 3).await.unwrap(), registers(1, address, 3));
    }
}

#[tokio::test]
async fn a_device_that_is_one_answer_behind_is_noticed_and_none_of_its_answers_is_taken() {
    let before = std::sync::Mutex::new(None);
    let behaviour: Behaviour = Arc::new(move |asked| {
        let frame = framed(Framing::Mbap, asked.transaction, asked.unit, &truth(asked));
        before.lock().unwrap().replace(frame).map(Deed::Raw).into_iter().collect()
    });
    let peer = on_tcp(Framing::Mbap, behaviour).await;
    let mut client = connect(&peer).await;
    for address in 0..4 {
        assert!(!client.is_behind(), "after {address} requests");
        assert!(matches!(read(&mut client, 1, address, 2).await, Err(PollError::NoAnswer { .. })));
    }
    assert!(client.is_behind());
    assert_eq!(client.take_stale().count(), 3);

    client.reopen().await.unwrap();

    assert!(!client.is_behind());
}

#[tokio::test]
async fn a_read_whose_connection_closed_before_its_answer_is_asked_once_more() {
    // Given a device that answers one request on a connection, or two, and closes it
    for answers in [1, 2] {
        let behaviour: Behaviour = Arc::new(move |asked| {
            let answer = Deed::Answer(asked.unit, truth(asked));
            if asked.number + 1 < answers { vec![answer] } else { vec![answer, Deed::Close] }
        });
        for framing in [Framing::Mbap, Framing::Rtu] {
            let peer = on_tcp(framing, Arc::clone(&behaviour)).await;
            let mut client = connect(&peer).await;
            client.on_close(OnClose::AskAgain);
            for address in 0..20 {
                assert_eq!(read(&mut client, 1, address, 2).await.unwrap(), registers(1, address, 2), "{framing:?}");
            }
            assert!(client.take_reopened() >= 9);
        }
    }
    // And one that closes before it answers
    let mut peer = on_tcp(Framing::Mbap, Arc::new(|_| vec![Deed::Close])).await;
    let mut client = connect(&peer).await;
    client.on_close(OnClose::AskAgain);
    assert!(matches!(read(&mut client, 1, 0, 1).await, Err(PollError::LinkDown(_))));
    let asked = std::iter::from_fn(|| peer.asked.try_recv().ok()).count();
    assert_eq!(asked, 2, "once more, and no more");
}

#[tokio::test]
async fn a_write_whose_connection_closed_is_never_asked_again() {
    let mut peer = on_tcp(Framing::Mbap, Arc::new(|_| vec![Deed::Close])).await;
    let mut client = connect(&peer).await;
    client.on_close(OnClose::AskAgain);
    let request = WriteRequest {
        unit: unit(1),
        table: Table::HoldingRegisters,
        address: 7,
        words: vec![5],
        with: WriteWith::Single,
    };

    assert!(matches!(client.write(&request).await, Err(PollError::LinkDown(_))));

    assert_eq!(std::iter::from_fn(|| peer.asked.try_recv().ok()).count(), 1);
}

#[tokio::test]
async fn a_gateway_with_numbers_of_its_own_is_named_and_understood_where_the_owner_says_so() {
    for (number, unit_id) in [(Some(0), 1), (Some(0x4242), 1), (None, 0), (None, 255), (Some(0), 0)] {
        let behaviour: Behaviour = Arc::new(move |asked| {
            vec![Deed::Raw(framed(Framing::Mbap, number.unwrap_or(asked.transaction), unit_id, &truth(asked)))]
        });
        let peer = on_tcp(Framing::Mbap, behaviour).await;
        let mut client = connect(&peer).await;
        let error = read(&mut client, 1, 7, 2).await.unwrap_err();
        match number {
            Some(number) => assert!(
                matches!(error, PollError::WrongTransaction { asked: 1, answered } if answered == number),
                "{error}"
            ),
            None => assert!(matches!(error, PollError::WrongUnit { answered, .. } if answered == unit_id), "{error}"),
        }

        let mut client = connect(&peer).await;
        client.accept(Accepted { any_transaction: number.is_some(), any_unit: unit_id != 1 });
        for address in 0..20 {
            assert_eq!(read(&mut client, 1, address, 2).await.unwrap(), registers(1, address, 2), "{number:?}");
        }
    }
}

#[tokio::test]
async fn a_late_answer_of_a_gateway_with_numbers_of_its_own_is_never_taken_for_the_next_one() {
    let behaviour = first(|asked| {
        let late = Deed::Raw(framed(Framing::Mbap, 0, asked.unit, &truth(asked)));
        vec![Deed::Wait(TIMEOUT + TIMEOUT / 2), late]
    });
    let peer = on_tcp(Framing::Mbap, behaviour).await;
    let mut client = connect(&peer).await;
    client.accept(Accepted { any_transaction: true, any_unit: false });
    assert!(matches!(read(&mut client, 1, 7, 2).await, Err(PollError::NoAnswer { .. })));

    assert!(client.check_open().is_err_and(|error| error.ends_session()));
    assert!(matches!(read(&mut client, 1, 9, 2).await, Err(PollError::LinkDown(_))));
}

#[tokio::test]
async fn reasons_name_what_came() {
    type Case = (fn(Asked) -> Vec<u8>, &'static str);
    let cases: [Case; 3] = [
        (
            |asked| framed(Framing::Mbap, asked.transaction, asked.unit, &[3, 74, 0, 1, 0, 2]),
            "4 data bytes were expected; it announces 74, 4 came",
        ),
        (
            |asked| framed(Framing::Mbap, asked.transaction, asked.unit, &truth(asked))[..11].to_vec(),
            "it announces 13 bytes, 11 came",
        ),
        (|asked| with_crc(&[&[asked.unit], &truth(asked)[..]].concat()), "which is rtu_over_tcp and not tcp"),
    ];
    for (bytes, expected) in cases {
        let peer = on_tcp(Framing::Mbap, Arc::new(move |asked| vec![Deed::Raw(bytes(asked))])).await;
        let error = read(&mut connect(&peer).await, 1, 40, 2).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn an_adapter_that_hears_itself_does_no_harm() {
    let echoing: Behaviour = Arc::new(|asked| {
        let [a0, a1] = asked.address.to_be_bytes();
        let [c0, c1] = asked.count.to_be_bytes();
        let echo = with_crc(&[asked.unit, asked.function, a0, a1, c0, c1]);
        let answer = if asked.address == 0x0302 { Vec::new() } else { vec![Deed::Answer(asked.unit, truth(asked))] };
        [vec![Deed::Raw(echo)], answer].concat()
    });
    let peer = on_pty(115_200, echoing);
    let mut client = connect(&peer).await;

    assert_eq!(read(&mut client, 1, 0x0401, 2).await.unwrap(), registers(1, 0x0401, 2));
    assert!(matches!(read(&mut client, 1, 0x0302, 1).await, Err(PollError::NoAnswer { .. })));
}

#[tokio::test]
async fn frames_on_a_slow_line_are_three_and_a_half_characters_apart() {
    let mut peer = on_pty(1200, truthful());
    let mut client = connect(&peer).await;
    for address in 0..3 {
        read(&mut client, 1, address, 1).await.unwrap();
    }

    let mut asked = Vec::new();
    while let Ok(request) = peer.asked.try_recv() {
        asked.push(request.at);
    }

    // 10 bits a character at 1,200 baud: 3.5 characters are 29.2 ms. The peer answers at once.
    assert_eq!(asked.len(), 3);
    for pair in asked.windows(2) {
        assert!(pair[1] - pair[0] >= Duration::from_micros(29_100), "{:?}", pair[1] - pair[0]);
    }
}

#[tokio::test]
async fn a_connection_that_closes_is_link_down() {
    for framing in [Framing::Mbap, Framing::Rtu] {
        let peer = on_tcp(framing, Arc::new(|_| vec![Deed::Close])).await;
        let mut client = connect(&peer).await;

        let error = read(&mut client, 1, 0, 1).await.unwrap_err();

        assert!(matches!(error, PollError::LinkDown(_)), "{error}");
        assert!(error.ends_session());
    }
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_link_down() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);

    let refused = Client::connect(&Endpoint::Tcp { host: "127.0.0.1".to_owned(), port }, TIMEOUT).await;

    assert!(refused.is_err_and(|error| matches!(error, PollError::LinkDown(_))));
}

#[tokio::test]
async fn more_than_one_answer_can_carry_is_refused_before_anything_is_sent() {
    let mut peer = on_tcp(Framing::Mbap, truthful()).await;
    let mut client = connect(&peer).await;

    assert!(matches!(read(&mut client, 1, 0, 126).await, Err(PollError::Refused { count: 126, limit: 125 })));
    assert!(peer.asked.try_recv().is_err());
}
