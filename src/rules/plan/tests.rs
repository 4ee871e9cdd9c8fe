use promql_parser::parser;

use super::*;
use crate::model::{Scale, SeriesId};
use crate::rules::live::SeriesSpec;
use crate::rules::ring::Sample;

/// Two presses and a mill, a sample each second whose value is the second, doubled for the second press.
fn table_and_plan(expression: &str) -> (LiveTable, Plan) {
    let mut table = LiveTable::default();
    let planner = Planner { owner: 0, query_offset: Duration::ZERO, step: Duration::from_secs(60) };
    let plan = planner.plan(&parser::parse(expression).unwrap(), &mut table).unwrap();
    for (id, (device, line)) in (0..).zip([("press-1", "a"), ("press-2", "a"), ("mill", "b")]) {
        let labels = [(NAME, "power_w"), ("device", device), ("line", line)];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let look_back = Duration::from_secs(3);
        table.add(SeriesSpec { id: Some(SeriesId(id)), labels: Arc::new(labels.into()), scale: Scale::ONE, look_back });
    }
    for second in 1..=100 {
        for position in 0..table.all().len() {
            let factor = if position == 1 { 2.0 } else { 1.0 };
            table.push(position, Sample { time: Timestamp(second * 1000), value: factor * second as f64 });
        }
    }
    (table, plan)
}

fn evaluated(expression: &str, second: i64) -> Vec<(String, f64)> {
    let (mut table, mut plan) = table_and_plan(expression);
    let mut cells = Vec::new();
    plan.evaluate(&mut table, Timestamp(second * 1000), &mut cells);
    let shown = |cell: &Cell| {
        let labels = plan.labels(&table, cell.of);
        let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        (labels.join(","), cell.value)
    };
    cells.iter().map(shown).collect()
}

fn result(labels: &str, value: f64) -> (String, f64) {
    (labels.to_owned(), value)
}

#[test]
fn frequent_forms_give_what_prometheus_gives() {
    let cases = [
        ("power_w{device=\"mill\"}", result("__name__=power_w,device=mill,line=b", 100.0)),
        ("power_w{device=\"mill\"} > 50", result("__name__=power_w,device=mill,line=b", 100.0)),
        ("power_w{device=\"mill\"} > bool 50", result("device=mill,line=b", 1.0)),
        ("2 * power_w{device=\"mill\"} - 1", result("device=mill,line=b", 199.0)),
        ("avg_over_time(power_w{device=\"mill\"}[10s])", result("device=mill,line=b", 95.5)),
        ("avg_over_time(power_w{device=\"mill\"}[10s] offset 10s)", result("device=mill,line=b", 85.5)),
        ("last_over_time(power_w{device=\"mill\"}[10s])", result("__name__=power_w,device=mill,line=b", 100.0)),
        ("count_over_time(power_w{device=\"mill\"}[10s])", result("device=mill,line=b", 10.0)),
        ("rate(power_w{device=\"mill\"}[10s])", result("device=mill,line=b", 1.0)),
        ("increase(power_w{device=\"mill\"}[10s])", result("device=mill,line=b", 10.0)),
        ("deriv(power_w{device=\"mill\"}[10s])", result("device=mill,line=b", 1.0)),
        ("predict_linear(power_w{device=\"mill\"}[10s], 60)", result("device=mill,line=b", 160.0)),
        ("stdvar_over_time(power_w{device=\"mill\"}[3s])", result("device=mill,line=b", 2.0 / 3.0)),
        ("changes(power_w{device=\"mill\"}[10s])", result("device=mill,line=b", 9.0)),
        ("sum(power_w)", result("", 400.0)),
        ("sum by (line) (power_w) > 250", result("line=a", 300.0)),
        ("max without (device) (avg_over_time(power_w[1m])) < 100", result("line=b", 70.5)),
        ("count(power_w > 150)", result("", 1.0)),
    ];
    for (expression, expected) in cases {
        let found = evaluated(expression, 100);
        assert_eq!(found.len(), 1, "{expression}: {found:?}");
        assert_eq!(found[0].0, expected.0, "{expression}");
        assert!((found[0].1 - expected.1).abs() < 1e-9, "{expression}: {found:?}");
    }
}

#[test]
fn a_sample_stands_for_its_series_only_so_long() {
    assert_eq!(evaluated("power_w", 102).len(), 3);
    assert!(evaluated("power_w", 103).is_empty());
}

#[test]
fn other_forms_have_no_plan() {
    let mut table = LiveTable::default();
    let planner = Planner { owner: 0, query_offset: Duration::ZERO, step: Duration::from_secs(60) };
    for expression in ["a + b", "a and b", "topk(1, a)", "a @ 5", "absent(a)", "max_over_time(rate(a[5m])[1h:])", "1"] {
        let parsed = parser::parse(expression).unwrap();
        assert!(planner.plan(&parsed, &mut table).is_none(), "{expression}");
    }
}
