//! Rules whose expression is evaluated as a whole, and what rules make of each other.

use super::*;

fn outcome_of(engine: &mut Engine, second: i64, rows: &[Row]) -> Outcome {
    let mut outcome = Outcome::default();
    engine.take(rows, &mut outcome);
    engine.advance(Timestamp(second * 1000), &mut outcome);
    outcome
}

#[test]
fn any_expression_raises_and_clears_an_alarm() {
    let rule = alert("HotWhileRunning", "temperature_c > 80 and on (device) running == 1");
    let mut engine = engine(vec![with(rule, |spec| spec.policy.delay = 2 * SECOND)]);
    let mut announced = Vec::new();

    for second in 1..=8 {
        let running = f64::from(second < 6);
        let outcome =
            outcome_of(&mut engine, second, &[row(second, 0, 90.0), row(second, 1, 90.0), row(second, 2, running)]);
        announced.extend(outcome.alarms.into_iter().map(|alarm| (second, alarm.transition, alarm.labels, alarm.value)));
    }

    let labels =
        BTreeMap::from([("device", "press-1"), ("team", "mechanics")].map(|(a, b)| (a.to_owned(), b.to_owned())));
    // Nothing tells the value when the condition is gone: the last one that was known is said.
    assert_eq!(
        announced,
        [(3, Transition::Raised, labels.clone(), Some(90.0)), (6, Transition::Cleared, labels, Some(90.0))]
    );
}

#[test]
fn what_a_rule_no_longer_records_has_ended_for_the_rules_after_it() {
    let mut engine = engine(vec![record("hot", "temperature_c > 80"), alert("Hot", "absent(hot)")]);

    let first = outcome_of(&mut engine, 1, &[row(1, 0, 90.0)]);
    let second = outcome_of(&mut engine, 2, &[row(2, 0, 70.0)]);

    assert_eq!((first.recorded.len(), first.alarms.len()), (1, 0));
    assert_eq!((second.ended.len(), second.alarms.len()), (1, 1));
    assert_eq!(second.ended[0], first.recorded[0].labels);
}

#[test]
fn alarms_are_series_for_the_rules_that_ask_for_them() {
    let rules = vec![
        alert("Hot", "temperature_c > 80"),
        alert("Any", "count(ALERTS{alertname=\"Hot\",alertstate=\"firing\"}) > 1"),
    ];
    let mut engine = engine(rules);

    let one = outcome_of(&mut engine, 1, &[row(1, 0, 90.0), row(1, 1, 20.0)]);
    let both = outcome_of(&mut engine, 2, &[row(2, 0, 90.0), row(2, 1, 90.0)]);
    let none = outcome_of(&mut engine, 3, &[row(3, 0, 20.0), row(3, 1, 20.0)]);

    let names = |outcome: &Outcome| outcome.alarms.iter().map(|alarm| alarm.name.clone()).collect::<Vec<_>>();
    assert_eq!((names(&one), names(&both)), (vec!["Hot".to_owned()], vec!["Hot".to_owned(), "Any".to_owned()]));
    assert_eq!(names(&none).iter().filter(|name| *name == "Any").count(), 1);
}

#[test]
fn a_rule_without_a_result_leaves_its_alarms_as_they_are() {
    let rule = alert("Ratio", "temperature_c / on (team) temperature_c > 0");
    let mut failing = engine(vec![rule]);

    let outcome = outcome_of(&mut failing, 1, &[row(1, 0, 90.0), row(1, 1, 90.0)]);

    assert!(outcome.alarms.is_empty());
    let reasons = failing.failing();
    assert!(reasons[0].reason.contains("many-to-many matching not allowed"), "{reasons:?}");
    assert_eq!(failing.status().failures, 1);
}

#[test]
fn rules_that_depend_on_themselves_or_take_too_much_memory_are_refused() {
    let setup = |rules: Vec<RuleSpec>, memory_limit| {
        let spec = GroupSpec { name: "g".to_owned(), interval: SECOND, query_offset: Duration::ZERO, limit: 0, rules };
        let labels = [(NAME, "x")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let series = SeriesSpec {
            id: Some(SeriesId(0)),
            labels: Arc::new(labels.into()),
            scale: Scale::ONE,
            look_back: 3 * SECOND,
        };
        RuleSetup { groups: vec![spec], series: vec![series], memory_limit, ..RuleSetup::default() }
    };
    let refused = |rules, limit| Engine::new(setup(rules, limit), Timestamp(0)).err().unwrap_or_default();

    let cycle = refused(vec![record("a", "b + 1"), record("b", "sum(c)"), record("c", "a offset 1m")], None);
    let long = || vec![record("mean", "avg_over_time(x[30d])"), record("short", "avg_over_time(x[1h])")];

    assert_eq!(cycle.len(), 3, "{cycle:?}");
    assert!(refused(vec![record("a", "b + 1"), record("b", "x")], None).is_empty());
    assert!(refused(long(), Some(64 << 20)).is_empty());
    let errors = refused(long(), Some(16 << 20));
    let [error] = errors.as_slice() else { panic!("{errors:?}") };
    assert!(error.to_string().contains("rule mean of group g: its windows would take 31 MiB"), "{error}");
}
