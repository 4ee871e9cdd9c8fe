//! Quantiles and fractions of classic histograms, whose buckets are series with a label `le`.

use std::collections::HashMap;

use super::labels::left_out;
use super::math::is_almost;
use super::{Element, unnamed};
use crate::rules::live::Labels;

/// Counts of neighbouring buckets that differ by less are taken for equal, as Prometheus does.
const TOLERANCE: f64 = 1e-12;

#[derive(Debug, Clone, Copy)]
struct Bucket {
    upper: f64,
    count: f64,
}

/// What `value` says of each histogram among the elements; what has no bound is passed over.
fn each(elements: Vec<Element>, value: impl Fn(Vec<Bucket>) -> f64) -> Vec<Element> {
    let mut known: HashMap<Labels, usize> = HashMap::new();
    let mut histograms: Vec<(Labels, Vec<Bucket>)> = Vec::new();
    for element in elements {
        let bound = element.labels.get("le").and_then(|bound| bound.parse::<f64>().ok());
        let Some(upper) = bound else { continue };
        let key = left_out(&element.labels, &["le".to_owned()], false);
        let histogram = *known.entry(key.clone()).or_insert_with(|| {
            histograms.push((key, Vec::new()));
            histograms.len() - 1
        });
        histograms[histogram].1.push(Bucket { upper, count: element.value });
    }
    histograms.into_iter().map(|(labels, buckets)| unnamed(&labels, value(buckets))).collect()
}

pub(super) fn quantiles(quantile: f64, elements: Vec<Element>) -> Vec<Element> {
    each(elements, |buckets| quantile_of(quantile, buckets))
}

pub(super) fn fractions(lower: f64, upper: f64, elements: Vec<Element>) -> Vec<Element> {
    each(elements, |buckets| fraction_of(lower, upper, buckets))
}

/// Buckets in order, those of the same bound as one; nothing when there is none for everything.
fn ordered(mut buckets: Vec<Bucket>) -> Option<Vec<Bucket>> {
    buckets.sort_by(|a, b| a.upper.total_cmp(&b.upper));
    buckets.dedup_by(|next, kept| {
        let is_same = next.upper == kept.upper;
        if is_same {
            kept.count += next.count;
        }
        is_same
    });
    (buckets.last()?.upper == f64::INFINITY).then_some(buckets)
}

fn quantile_of(quantile: f64, buckets: Vec<Bucket>) -> f64 {
    if quantile.is_nan() {
        return f64::NAN;
    }
    if !(0.0..=1.0).contains(&quantile) {
        return if quantile < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    let Some(mut buckets) = ordered(buckets) else { return f64::NAN };
    make_rise(&mut buckets);
    let observations = buckets.last().map_or(0.0, |bucket| bucket.count);
    if buckets.len() < 2 || observations == 0.0 || observations.is_nan() {
        return f64::NAN;
    }
    let last = buckets.len() - 1;
    let rank = quantile * observations;
    let found = buckets[..last].iter().position(|bucket| bucket.count >= rank).unwrap_or(last);
    if found == last {
        return buckets[last - 1].upper;
    }
    let Bucket { upper, count } = buckets[found];
    match found.checked_sub(1) {
        None if upper <= 0.0 => upper,
        None => upper * (rank / count),
        Some(before) => {
            let before = buckets[before];
            before.upper + (upper - before.upper) * ((rank - before.count) / (count - before.count))
        }
    }
}

/// Counts of buckets never fall; where they do, or rise by less than rounding, the greater bucket is as great as the
/// one before.
fn make_rise(buckets: &mut [Bucket]) {
    let mut before = buckets.first().map_or(0.0, |bucket| bucket.count);
    for bucket in buckets.iter_mut().skip(1) {
        if bucket.count < before || is_almost(before, bucket.count, TOLERANCE) {
            bucket.count = before;
        } else {
            before = bucket.count;
        }
    }
}

fn fraction_of(lower: f64, upper: f64, buckets: Vec<Bucket>) -> f64 {
    let Some(buckets) = ordered(buckets) else { return f64::NAN };
    let total = buckets.last().map_or(0.0, |bucket| bucket.count);
    if total == 0.0 || total.is_nan() || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (below(upper, &buckets).min(total) - below(lower, &buckets).min(total)) / total
}

/// How many observations are below a bound, in proportion where it lies within a bucket.
fn below(bound: f64, buckets: &[Bucket]) -> f64 {
    let mut before = Bucket { upper: if buckets[0].upper > 0.0 { 0.0 } else { f64::NEG_INFINITY }, count: 0.0 };
    for bucket in buckets {
        if before.upper >= bound {
            return before.count;
        }
        if bucket.upper > bound {
            let share = (bound - before.upper) / (bucket.upper - before.upper);
            // Within a bucket without bounds nobody knows where observations lie: all are at its known end.
            return match (before.upper.is_finite(), bucket.upper.is_finite()) {
                (true, true) => before.count + (bucket.count - before.count) * share,
                (true, false) => before.count,
                (false, _) => bucket.count,
            };
        }
        before = *bucket;
    }
    before.count
}
