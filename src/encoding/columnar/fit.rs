//! One column of integers as a few parameters and small residuals.
//!
//! `number[i] = base + multiple * (slope * i + r[i])`, or with the running sum of r: whichever leaves fewer bits. A
//! clock tick or a steady counter leaves nothing at all, a noisy measurement its noise, a counter its increments.

/// Parameters of a column, as in `deploy/lineside.proto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fit {
    pub base: i64,
    pub slope: i64,
    pub multiple: i64,
    pub cumulative: bool,
}

/// How many residuals there are of each width in bits (0 to 64, zigzag).
pub(super) type Widths = [u32; 65];

/// Increments looked at to find the usual one.
const INCREMENTS_SAMPLED: usize = 63;

/// Bits that `residual` needs as a zigzag number.
pub(super) fn width(residual: i64) -> usize {
    let zigzag = (residual << 1) ^ (residual >> 63);
    (u64::BITS - zigzag.cast_unsigned().leading_zeros()) as usize
}

/// Replaces `numbers` by their residuals.
pub(super) fn fit(numbers: &mut [i64]) -> Fit {
    let Some(&first) = numbers.first() else {
        return Fit { base: 0, slope: 0, multiple: 1, cumulative: false };
    };
    let multiple = common_multiple(numbers, first);
    if multiple == 0 {
        numbers.fill(0);
        return Fit { base: first, slope: 0, multiple: 1, cumulative: false };
    }
    for number in numbers.iter_mut() {
        *number = number.wrapping_sub(first);
    }
    if multiple > 1 {
        numbers.iter_mut().for_each(|number| *number /= multiple);
    }
    let (shape, shift) = best_shape(numbers);
    shape.subtract(numbers, shift);
    Fit {
        base: first.wrapping_add(multiple.wrapping_mul(shift)),
        slope: shape.slope,
        multiple,
        cumulative: shape.cumulative,
    }
}

/// The largest number that divides every distance from `first`; zero when all numbers are equal.
fn common_multiple(numbers: &[i64], first: i64) -> i64 {
    let mut common = 0_u64;
    for number in numbers {
        common = greatest_common_divisor(common, number.wrapping_sub(first).unsigned_abs());
        if common == 1 {
            break;
        }
    }
    // 2^63, which no i64 holds, is a multiple of one.
    i64::try_from(common).unwrap_or(1)
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[derive(Clone, Copy)]
struct Shape {
    slope: i64,
    cumulative: bool,
}

impl Shape {
    fn residuals(self, numbers: &[i64], shift: i64) -> impl Iterator<Item = i64> {
        let (mut line, mut previous) = (0_i64, None);
        numbers.iter().map(move |number| {
            if self.cumulative {
                let step = previous.map_or(0, |before| number.wrapping_sub(before).wrapping_sub(self.slope));
                previous = Some(*number);
                step
            } else {
                let residual = number.wrapping_sub(line).wrapping_sub(shift);
                line = line.wrapping_add(self.slope);
                residual
            }
        })
    }

    fn subtract(self, numbers: &mut [i64], shift: i64) {
        let (mut line, mut previous) = (0_i64, numbers[0]);
        if self.cumulative {
            previous = previous.wrapping_sub(self.slope);
            for number in numbers {
                let step = number.wrapping_sub(previous).wrapping_sub(self.slope);
                previous = *number;
                *number = step;
            }
        } else {
            for number in numbers {
                *number = number.wrapping_sub(line).wrapping_sub(shift);
                line = line.wrapping_add(self.slope);
            }
        }
    }

    /// The shift that centres the residuals on zero, and the bits they then need.
    fn cost(self, numbers: &[i64]) -> (i64, usize) {
        let shift = if self.cumulative { 0 } else { mean(self.residuals(numbers, 0), numbers.len()) };
        (shift, self.residuals(numbers, shift).map(width).sum())
    }
}

/// The shape with the smallest residuals, and its shift. `numbers` begin with 0.
fn best_shape(numbers: &[i64]) -> (Shape, i64) {
    let flat = Shape { slope: 0, cumulative: false };
    let (shift, bits) = flat.cost(numbers);
    let mut best = (flat, shift, bits);

    let steps = i64::try_from(numbers.len()).unwrap_or(i64::MAX) - 1;
    let rising = numbers.last().map_or(0, |last| rounded_division(i128::from(*last), i128::from(steps.max(1))));
    let straight = (rising != 0).then_some(Shape { slope: rising, cumulative: false });
    let increments = Shape { slope: usual_increment(numbers), cumulative: true };
    for shape in straight.into_iter().chain([increments]) {
        let (shift, bits) = shape.cost(numbers);
        // Sums of two noises spread wider than the mean of their widths tells.
        let bits = if shape.cumulative { bits + numbers.len() / 4 } else { bits };
        if bits < best.2 {
            best = (shape, shift, bits);
        }
    }
    (best.0, best.1)
}

/// The median of some of the increments.
fn usual_increment(numbers: &[i64]) -> i64 {
    let stride = (numbers.len() / INCREMENTS_SAMPLED).max(1);
    let mut sample = [0_i64; INCREMENTS_SAMPLED];
    let mut taken = 0;
    for (slot, pair) in sample.iter_mut().zip(numbers.windows(2).step_by(stride)) {
        *slot = pair[1].wrapping_sub(pair[0]);
        taken += 1;
    }
    let sample = &mut sample[..taken];
    if sample.is_empty() { 0 } else { *sample.select_nth_unstable(taken / 2).1 }
}

fn mean(numbers: impl Iterator<Item = i64>, count: usize) -> i64 {
    let sum: i128 = numbers.map(i128::from).sum();
    rounded_division(sum, i128::try_from(count).unwrap_or(1))
}

fn rounded_division(sum: i128, count: i128) -> i64 {
    let half = if sum < 0 { -count / 2 } else { count / 2 };
    i64::try_from((sum + half) / count).unwrap_or(0)
}

/// The numbers that `fit` was made from.
pub(super) fn unfit(fit: Fit, residuals: &mut [i64]) {
    let (mut line, mut sum) = (0_i64, 0_i64);
    for number in residuals {
        let residual = if fit.cumulative {
            sum = sum.wrapping_add(*number);
            sum
        } else {
            *number
        };
        *number = fit.base.wrapping_add(fit.multiple.wrapping_mul(line.wrapping_add(residual)));
        line = line.wrapping_add(fit.slope);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fitted(numbers: &[i64]) -> (Fit, Vec<i64>) {
        let mut residuals = numbers.to_vec();
        let fit = fit(&mut residuals);
        (fit, residuals)
    }

    #[test]
    fn a_steady_counter_leaves_nothing() {
        let (fit, residuals) = fitted(&[500, 510, 520, 530]);

        assert_eq!(fit.slope * fit.multiple, 10);
        assert_eq!(residuals, [0; 4]);
    }

    #[test]
    fn a_noisy_measurement_leaves_its_noise() {
        let (fit, residuals) = fitted(&[2300, 2303, 2298, 2301, 2299]);

        assert!(!fit.cumulative);
        assert!(residuals.iter().all(|residual| residual.abs() <= 3), "{residuals:?}");
    }

    #[test]
    fn an_uneven_counter_leaves_its_increments() {
        let increments = [7, 0, 9, 1, 8, 0, 0, 9, 9, 9, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0];
        let counter: Vec<i64> = increments
            .iter()
            .scan(1_000_000, |sum, step| {
                *sum += step;
                Some(*sum)
            })
            .collect();

        let (fit, residuals) = fitted(&counter);

        assert!(fit.cumulative);
        assert!(residuals.iter().all(|residual| residual.abs() <= 9), "{residuals:?}");
    }

    proptest! {
        #[test]
        fn any_numbers_come_back(
            numbers in prop::collection::vec(prop_oneof![any::<i64>(), -300_i64..300, Just(i64::MIN)], 0..80)
        ) {
            let (fit, mut residuals) = fitted(&numbers);

            unfit(fit, &mut residuals);

            prop_assert_eq!(residuals, numbers);
        }
    }
}
