//! Values that drift, count and switch like real ones; the same seed gives the same course.

use std::time::Duration;

use fastrand::Rng;

/// How one value moves.
#[derive(Debug, Clone, PartialEq)]
pub enum Course {
    /// Never changes.
    Constant(f64),
    /// Wanders around `mean`; spends most of its time within `spread` of it and comes back over `memory`.
    Walk {
        /// Where it is drawn back to.
        mean: f64,
        /// Standard deviation in the long run.
        spread: f64,
        /// How long it takes to forget where it was; more than zero.
        memory: Duration,
    },
    /// A sine with noise on top.
    Sine {
        /// Middle.
        mean: f64,
        /// Half the distance between crest and trough.
        amplitude: f64,
        /// Time of one round; more than zero.
        period: Duration,
        /// Standard deviation of the noise.
        noise: f64,
    },
    /// Another value times a factor, with noise: a phase power beside its current.
    Follow {
        /// Index of the value it follows; it must come earlier.
        source: usize,
        /// Factor.
        factor: f64,
        /// Standard deviation of the noise.
        noise: f64,
    },
    /// An energy counter: adds up `source * per_hour` over time and never goes back.
    Counter {
        /// Reading at the start.
        start: f64,
        /// Index of the value it integrates; it must come earlier. Negative values do not count.
        source: usize,
        /// What one unit of the source adds in an hour: 0.001 for kWh from W.
        per_hour: f64,
    },
    /// One of some states; stays in each for `dwell` on average (exponentially spread).
    Switch {
        /// The states; at least one. It starts in the first.
        states: Vec<f64>,
        /// Average stay; more than zero.
        dwell: Duration,
    },
    /// How many requests the device has answered: each answer carries another number.
    Requests,
}

/// The values of one device, in step.
#[derive(Debug, Clone)]
pub struct Values {
    courses: Vec<Course>,
    now: Vec<f64>,
    elapsed: Duration,
    random: Rng,
}

impl Values {
    /// Values at the start of their courses.
    ///
    /// # Panics
    /// When a course follows a value that does not come earlier.
    pub fn new(courses: Vec<Course>, seed: u64) -> Self {
        let mut values = Self {
            now: Vec::with_capacity(courses.len()),
            courses,
            elapsed: Duration::ZERO,
            random: Rng::with_seed(seed),
        };
        for index in 0..values.courses.len() {
            let first = values.first(index);
            values.now.push(first);
        }
        values
    }

    /// All values now, in the order of their courses.
    pub fn now(&self) -> &[f64] {
        &self.now
    }

    /// Lets `span` pass. `requests` is how many requests the device has answered so far.
    pub fn step(&mut self, span: Duration, requests: u64) {
        self.elapsed += span;
        for index in 0..self.courses.len() {
            self.now[index] = self.next(index, span.as_secs_f64(), requests);
        }
    }

    fn first(&mut self, index: usize) -> f64 {
        match &self.courses[index] {
            Course::Constant(value) => *value,
            Course::Walk { mean, .. } | Course::Sine { mean, .. } => *mean,
            Course::Follow { source, factor, .. } => self.now[*source] * factor,
            Course::Counter { start, source, .. } => {
                assert!(*source < index, "a counter integrates a value that comes earlier");
                *start
            }
            Course::Switch { states, .. } => states.first().copied().unwrap_or(0.0),
            Course::Requests => 0.0,
        }
    }

    fn next(&mut self, index: usize, seconds: f64, requests: u64) -> f64 {
        let now = self.now[index];
        match &self.courses[index] {
            Course::Constant(value) => *value,
            Course::Walk { mean, spread, memory } => {
                let kept = (-seconds / memory.as_secs_f64()).exp();
                let push = spread * (1.0 - kept * kept).sqrt();
                mean + (now - mean) * kept + push * normal(&mut self.random)
            }
            Course::Sine { mean, amplitude, period, noise } => {
                let turns = self.elapsed.as_secs_f64() / period.as_secs_f64();
                mean + amplitude * (std::f64::consts::TAU * turns).sin() + noise * normal(&mut self.random)
            }
            Course::Follow { source, factor, noise } => self.now[*source] * factor + noise * normal(&mut self.random),
            Course::Counter { source, per_hour, .. } => now + self.now[*source].max(0.0) * per_hour * seconds / 3600.0,
            Course::Switch { states, dwell } => {
                let stays = (-seconds / dwell.as_secs_f64()).exp();
                if states.len() < 2 || self.random.f64() < stays {
                    return now;
                }
                let others = states.iter().filter(|state| **state != now);
                others.copied().nth(self.random.usize(..states.len() - 1)).unwrap_or(now)
            }
            Course::Requests => requests as f64,
        }
    }
}

/// A normally distributed number with mean 0 and deviation 1, close enough: twelve uniform ones (Irwin and Hall)
/// never stray beyond 6, so no value leaves its register.
fn normal(random: &mut Rng) -> f64 {
    // One draw of 64 bits gives four of 16; three draws make twelve.
    let sum: u32 = (0..3)
        .map(|_| {
            let bits = random.u64(..);
            (0..4).map(|quarter| u32::from((bits >> (16 * quarter)) as u16)).sum::<u32>()
        })
        .sum();
    f64::from(sum) / 65_536.0 - 6.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn courses() -> Vec<Course> {
        vec![
            Course::Walk { mean: 2000.0, spread: 100.0, memory: Duration::from_secs(10) },
            Course::Sine { mean: 50.0, amplitude: 5.0, period: Duration::from_secs(60), noise: 0.1 },
            Course::Counter { start: 7.0, source: 0, per_hour: 0.001 },
            Course::Switch { states: vec![0.0, 1.0, 4.0], dwell: Duration::from_secs(5) },
            Course::Constant(3.5),
            Course::Follow { source: 0, factor: 0.5, noise: 0.0 },
            Course::Requests,
        ]
    }

    fn course_of(seed: u64, seconds: u64) -> Vec<Vec<f64>> {
        let mut values = Values::new(courses(), seed);
        (0..seconds)
            .map(|second| {
                values.step(SECOND, second);
                values.now().to_vec()
            })
            .collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_course() {
        assert_eq!(course_of(1, 100), course_of(1, 100));
        assert_ne!(course_of(1, 100), course_of(2, 100));
    }

    #[test]
    fn a_walk_stays_around_its_mean_and_moves() {
        let walk: Vec<f64> = course_of(3, 20_000).iter().map(|values| values[0]).collect();
        let mean = walk.iter().sum::<f64>() / walk.len() as f64;
        let deviation = (walk.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / walk.len() as f64).sqrt();
        assert!((mean - 2000.0).abs() < 15.0, "mean {mean}");
        assert!((deviation - 100.0).abs() < 15.0, "deviation {deviation}");
        assert!(walk.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn an_energy_counter_counts_what_the_power_gives_and_never_goes_back() {
        let course = course_of(4, 3600);
        let energy = course.last().unwrap()[2] - 7.0;
        let power = course.iter().map(|values| values[0]).sum::<f64>() / 3600.0;
        assert!((energy - power / 1000.0).abs() < 1e-6, "{energy} kWh from {power} W in an hour");
        assert!(course.windows(2).all(|pair| pair[0][2] <= pair[1][2]));
    }

    #[test]
    fn a_switch_visits_all_its_states_and_stays_a_while_in_each() {
        let states: Vec<f64> = course_of(5, 5000).iter().map(|values| values[3]).collect();
        let changes = states.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!([0.0, 1.0, 4.0].iter().all(|state| states.contains(state)));
        assert!((600..1400).contains(&changes), "{changes} changes in 5000 s at 5 s each");
    }

    #[test]
    fn some_values_follow_count_requests_or_stand_still() {
        let course = course_of(6, 50);
        assert!(course.iter().all(|values| values[5] == values[0] * 0.5 && values[4] == 3.5));
        assert_eq!(course[49][6], 49.0);
    }
}
