//! A weighing scale that speaks MT-SICS (Mettler-Toledo Standard Interface Command Set, level 0: `S` and `SI`).

use std::time::Duration;

use fastrand::Rng;

use super::text::{TextMisbehaviour, Utterance};

/// Smallest step of the display, in grams.
const STEP_G: f64 = 0.01;
/// How fast the display follows a load: the difference falls to a third in this time.
const SETTLING: Duration = Duration::from_millis(150);

/// Loads are put on, settle, stay a while and are taken off.
#[derive(Debug, Clone)]
pub struct WeighingScale {
    random: Rng,
    /// Weight before the last change.
    before_g: f64,
    /// Weight on the pan.
    load_g: f64,
    changed_at: Duration,
    changes_next: Duration,
}

impl WeighingScale {
    /// An empty scale; the same seed gives the same loads at the same times.
    pub fn new(seed: u64) -> Self {
        Self {
            random: Rng::with_seed(seed),
            before_g: 0.0,
            load_g: 0.0,
            changed_at: Duration::ZERO,
            changes_next: Duration::from_secs(1),
        }
    }

    /// The answer to one command, without its end; `now` counts from the start and must not go back.
    pub(super) fn answer(
        &mut self,
        command: &str,
        now: Duration,
        misbehaviour: Option<TextMisbehaviour>,
    ) -> Option<Utterance> {
        self.advance(now);
        let wants_stable = command == "S";
        let (text, spoiled) = match (command, misbehaviour) {
            (_, Some(TextMisbehaviour::Silent)) => return None,
            (_, Some(TextMisbehaviour::Garbage)) => ("\u{1b}S\u{7f}~~ 0,0;".to_owned(), true),
            ("S" | "SI", Some(TextMisbehaviour::Busy)) => ("S I".to_owned(), false),
            ("S" | "SI", Some(TextMisbehaviour::Overload)) => ("S +".to_owned(), false),
            ("S" | "SI", Some(TextMisbehaviour::Underload)) => ("S -".to_owned(), false),
            ("S" | "SI", Some(TextMisbehaviour::BadChecksum) | None) => return Some(self.weight(now, wants_stable)),
            (_, _) => ("ES".to_owned(), false),
        };
        Some(Utterance { text, delay: Duration::ZERO, spoiled })
    }

    /// `S S     100.00 g`: stable, `S D` still moving; the weight stands right in ten characters.
    fn weight(&self, now: Duration, wants_stable: bool) -> Utterance {
        let settled_in = (self.changed_at + self.settling()).saturating_sub(now);
        let delay = if wants_stable { settled_in } else { Duration::ZERO };
        let state = if wants_stable || settled_in.is_zero() { 'S' } else { 'D' };
        let weight_g = if state == 'S' { self.load_g } else { self.weight_at(now) };
        let shown = (weight_g / STEP_G).round() * STEP_G;
        // No negative zero on a display.
        let text = format!("S {state} {:>10.2} g", shown + 0.0);
        Utterance { text, delay, spoiled: false }
    }

    /// How long after a change less than half a step is missing.
    fn settling(&self) -> Duration {
        let steps = (self.load_g - self.before_g).abs() / (STEP_G / 2.0);
        SETTLING.mul_f64(steps.max(1.0).ln())
    }

    fn weight_at(&self, now: Duration) -> f64 {
        let since = now.saturating_sub(self.changed_at).as_secs_f64() / SETTLING.as_secs_f64();
        self.load_g + (self.before_g - self.load_g) * (-since).exp()
    }

    /// Puts loads on and takes them off as time passes.
    fn advance(&mut self, now: Duration) {
        while self.changes_next <= now {
            self.before_g = self.weight_at(self.changes_next);
            self.load_g = if self.load_g == 0.0 { 150.0 + 700.0 * self.random.f64() } else { 0.0 };
            self.changed_at = self.changes_next;
            self.changes_next += Duration::from_millis(self.random.u64(3000..7000));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(scale: &mut WeighingScale, command: &str, millis: u64) -> Utterance {
        scale.answer(command, Duration::from_millis(millis), None).unwrap()
    }

    #[test]
    fn an_empty_scale_is_stable_at_zero() {
        assert_eq!(ask(&mut WeighingScale::new(1), "SI", 500).text, "S S       0.00 g");
    }

    #[test]
    fn a_load_moves_first_and_then_stands() {
        let mut scale = WeighingScale::new(1);
        let moving = ask(&mut scale, "SI", 1100);
        let standing = ask(&mut scale, "SI", 3900);

        assert!(moving.text.starts_with("S D "), "{}", moving.text);
        assert!(standing.text.starts_with("S S "), "{}", standing.text);
        assert_eq!(standing.text.len(), "S S     100.00 g".len());
    }

    #[test]
    fn who_asks_for_a_stable_weight_waits_for_it() {
        let mut scale = WeighingScale::new(1);
        let stable = ask(&mut scale, "S", 1100);

        assert!(stable.text.starts_with("S S ") && stable.delay > Duration::from_millis(500), "{stable:?}");
        assert_eq!(stable.text, ask(&mut scale, "SI", 3900).text);
    }

    #[test]
    fn what_the_scale_cannot_do_is_said_in_its_own_words() {
        let mut scale = WeighingScale::new(1);
        let mut say = |command, misbehaviour| {
            scale.answer(command, Duration::from_millis(500), misbehaviour).map(|answer| answer.text)
        };
        assert_eq!(say("XYZ", None).as_deref(), Some("ES"));
        assert_eq!(say("SI", Some(TextMisbehaviour::Busy)).as_deref(), Some("S I"));
        assert_eq!(say("SI", Some(TextMisbehaviour::Overload)).as_deref(), Some("S +"));
        assert_eq!(say("S", Some(TextMisbehaviour::Underload)).as_deref(), Some("S -"));
        assert_eq!(say("SI", Some(TextMisbehaviour::Silent)), None);
    }
}
