//! A weather sensor that streams NMEA 0183 sentences: wind (`MWV`) and water temperature (`MTW`).

use std::time::Duration;

use super::text::{TextMisbehaviour, Utterance};
use super::values::{Course, Values};

/// Wind and water, a round of sentences each period.
#[derive(Debug, Clone)]
pub struct WeatherSensor {
    period: Duration,
    values: Values,
}

impl WeatherSensor {
    /// A sensor that talks each `period`; the same seed gives the same weather.
    pub fn new(period: Duration, seed: u64) -> Self {
        let courses = vec![
            Course::Sine { mean: 214.0, amplitude: 35.0, period: Duration::from_secs(90), noise: 2.0 },
            Course::Walk { mean: 5.2, spread: 0.7, memory: Duration::from_secs(20) },
            Course::Walk { mean: 17.9, spread: 0.2, memory: Duration::from_secs(300) },
        ];
        Self { period, values: Values::new(courses, seed) }
    }

    /// Time between two rounds of sentences.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// The sentences of the next round.
    pub(super) fn sentences(&mut self, misbehaviour: Option<TextMisbehaviour>) -> Vec<Utterance> {
        self.values.step(self.period, 0);
        let [angle, speed, water] = self.values.now() else { return Vec::new() };
        let bodies = [
            format!("WIMWV,{:.1},R,{:.1},M,A", angle.rem_euclid(359.9), speed.max(0.0)),
            format!("YXMTW,{water:.1},C"),
        ];
        let say = |text: String, spoiled| Utterance { text, delay: Duration::ZERO, spoiled };
        match misbehaviour {
            Some(TextMisbehaviour::Silent) => Vec::new(),
            Some(TextMisbehaviour::BadChecksum) => {
                bodies.iter().map(|body| say(format!("${body}*{:02X}", checksum(body) ^ 0x11), true)).collect()
            }
            Some(TextMisbehaviour::Garbage) => vec![say("$WI\u{7f}W~,,;0*".to_owned(), true)],
            Some(TextMisbehaviour::Busy | TextMisbehaviour::Overload | TextMisbehaviour::Underload) | None => {
                bodies.iter().map(|body| say(format!("${body}*{:02X}", checksum(body)), false)).collect()
            }
        }
    }
}

/// Exclusive or of all bytes between `$` and `*` (NMEA 0183).
fn checksum(body: &str) -> u8 {
    body.bytes().fold(0, |sum, byte| sum ^ byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sentence with its checksum as printed in many receivers' manuals.
    #[test]
    fn the_checksum_is_the_one_of_nmea_0183() {
        assert_eq!(checksum("GPGLL,5300.97914,N,00259.98174,E,125926,A"), 0x28);
    }

    #[test]
    fn each_round_tells_wind_and_water() {
        let mut sensor = WeatherSensor::new(Duration::from_secs(1), 1);
        let round: Vec<String> = sensor.sentences(None).into_iter().map(|sentence| sentence.text).collect();

        assert!(round[0].starts_with("$WIMWV,") && round[0].contains(",M,A*"), "{}", round[0]);
        assert!(round[1].starts_with("$YXMTW,1") && round[1].contains(",C*"), "{}", round[1]);
        assert_ne!(sensor.sentences(None)[0].text, round[0]);
    }

    #[test]
    fn a_bad_checksum_is_bad_and_silence_is_silent() {
        let mut sensor = WeatherSensor::new(Duration::from_secs(1), 1);
        let bad = sensor.sentences(Some(TextMisbehaviour::BadChecksum));
        let (body, digits) = bad[0].text[1..].split_once('*').unwrap();

        assert!(bad[0].spoiled);
        assert_ne!(u8::from_str_radix(digits, 16), Ok(checksum(body)));
        assert_eq!(sensor.sentences(Some(TextMisbehaviour::Silent)), []);
    }
}
