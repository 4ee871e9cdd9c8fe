//! Plans, by example and against every other way to divide the points.

use proptest::prelude::*;

use super::*;
use crate::profile::Encoding;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn point(table: Table, address: u16, encoding: Encoding) -> Point {
    Point::plain(format!("at_{address}"), table, address, encoding)
}

fn floats(addresses: impl IntoIterator<Item = u16>) -> Vec<Point> {
    addresses.into_iter().map(|address| point(Table::InputRegisters, address, Encoding::F32)).collect()
}

fn all(points: &[Point], interval: Duration) -> Vec<PlanPoint> {
    (0..points.len()).map(|point| PlanPoint { point, interval }).collect()
}

fn limits(registers: u16, gap: u16) -> Terms<'static> {
    Terms::fewest(ReadLimits { registers, bits: 2000, gap })
}

/// The requests of a plan as (address, count), over all groups.
fn requests(plan: &PollPlan) -> Vec<(u16, u16)> {
    plan.groups.iter().flat_map(|group| &group.blocks).map(|block| (block.address, block.count)).collect()
}

#[test]
fn neighbours_share_a_request() {
    let points = floats([0, 2, 4]);

    let plan = plan(&points, &all(&points, SECOND), &limits(125, 0)).unwrap();

    assert_eq!(requests(&plan), [(0, 6)]);
    let offsets: Vec<u16> = plan.groups[0].blocks[0].points.iter().map(|point| point.offset).collect();
    assert_eq!(offsets, [0, 2, 4]);
}

#[test]
fn a_gap_is_read_along_only_as_far_as_the_device_allows() {
    let points = floats([0, 6]);
    let requests_with = |gap| requests(&plan(&points, &all(&points, SECOND), &limits(125, gap)).unwrap());

    assert_eq!(requests_with(0), [(0, 2), (6, 2)]);
    assert_eq!(requests_with(3), [(0, 2), (6, 2)]);
    assert_eq!(requests_with(4), [(0, 8)]);
    assert_eq!(requests_with(u16::MAX), [(0, 8)]);
}

#[test]
fn a_point_is_never_split_at_the_limit() {
    let points = floats([0, 2, 4, 6]);

    let plan = plan(&points, &all(&points, SECOND), &limits(5, 0)).unwrap();

    assert_eq!(requests(&plan), [(0, 4), (4, 4)]);
}

#[test]
fn no_profile_can_lift_the_limit_of_the_protocol() {
    let points = floats((0..70).map(|index| 2 * index));

    let plan = plan(&points, &all(&points, SECOND), &limits(1000, 0)).unwrap();

    assert_eq!(requests(&plan), [(0, 124), (124, 16)]);
}

#[test]
fn points_in_the_same_register_share_it() {
    let mut points: Vec<Point> = (0..16).map(|bit| point(Table::HoldingRegisters, 7, Encoding::Bit(bit))).collect();
    points.push(point(Table::HoldingRegisters, 6, Encoding::U32));

    let plan = plan(&points, &all(&points, SECOND), &limits(125, 0)).unwrap();

    assert_eq!(requests(&plan), [(6, 2)]);
    assert_eq!(plan.groups[0].blocks[0].points.len(), 17);
}

#[test]
fn tables_and_intervals_are_read_apart() {
    let points = vec![
        point(Table::InputRegisters, 0, Encoding::U16),
        point(Table::HoldingRegisters, 1, Encoding::U16),
        point(Table::Coils, 2, Encoding::Bit(0)),
        point(Table::Coils, 3, Encoding::Bit(0)),
    ];
    let mut wanted = all(&points, SECOND);
    wanted[3].interval = MINUTE;

    let plan = plan(&points, &wanted, &limits(125, u16::MAX)).unwrap();

    let tables: Vec<Table> = plan.groups[0].blocks.iter().map(|block| block.table).collect();
    assert_eq!(tables, [Table::Coils, Table::HoldingRegisters, Table::InputRegisters]);
    assert_eq!(plan.groups.iter().map(|group| group.interval).collect::<Vec<_>>(), [SECOND, MINUTE]);
}

#[test]
fn two_thousand_bits_are_one_request() {
    let points: Vec<Point> = (0..2001).map(|address| point(Table::Coils, address, Encoding::Bit(0))).collect();

    let plan = plan(&points, &all(&points, SECOND), &limits(125, 0)).unwrap();

    assert_eq!(requests(&plan), [(0, 2000), (2000, 1)]);
}

#[test]
fn each_group_reads_the_scale_factors_it_needs() {
    let mut points = vec![
        point(Table::HoldingRegisters, 0, Encoding::I16),
        point(Table::HoldingRegisters, 1, Encoding::I16),
        point(Table::HoldingRegisters, 2, Encoding::I16),
    ];
    points[0].scale_factor = Some(2);
    points[1].scale_factor = Some(2);
    let wanted = [
        PlanPoint { point: 0, interval: SECOND },
        PlanPoint { point: 1, interval: MINUTE },
        PlanPoint { point: 2, interval: MINUTE },
    ];

    let plan = plan(&points, &wanted, &limits(125, 1)).unwrap();

    let read = |group: usize| -> Vec<(usize, bool)> {
        let points = plan.groups[group].blocks.iter().flat_map(|block| &block.points);
        points.map(|point| (point.point, point.wanted)).collect()
    };
    assert_eq!(read(0), [(0, true), (2, false)]);
    assert_eq!(read(1), [(1, true), (2, true)]);
}

#[test]
fn registers_that_go_together_are_asked_for_together() {
    let mut serial = point(Table::HoldingRegisters, 64012, Encoding::Text { registers: 8 });
    serial.read_whole = Some(Registers { address: 64001, count: 27 });
    let points = vec![serial];

    let plan = plan(&points, &all(&points, SECOND), &limits(125, 0)).unwrap();

    assert_eq!(requests(&plan), [(64001, 27)]);
    assert_eq!(plan.groups[0].blocks[0].points[0].offset, 11);
    assert_eq!(plan.probe.count, 27);
}

#[test]
fn the_probe_is_the_cheapest_wanted_point() {
    let points = vec![
        point(Table::InputRegisters, 10, Encoding::F32),
        point(Table::InputRegisters, 20, Encoding::U16),
        point(Table::InputRegisters, 0, Encoding::U16),
        point(Table::Coils, 5, Encoding::Bit(0)),
    ];

    let of_three = plan(&points, &all(&points[..3], SECOND), &limits(125, 0)).unwrap();
    let of_four = plan(&points, &all(&points, SECOND), &limits(125, 0)).unwrap();

    assert_eq!((of_three.probe.address, of_three.probe.count), (0, 1));
    assert_eq!(of_three.probe.points, [BlockPoint { point: 2, offset: 0, part: 0, wanted: true }]);
    assert_eq!(of_four.probe.table, Table::Coils);
}

#[test]
fn the_last_address_can_be_read() {
    let points = vec![point(Table::HoldingRegisters, 65534, Encoding::U32)];

    let plan = plan(&points, &all(&points, SECOND), &limits(125, u16::MAX)).unwrap();

    assert_eq!(requests(&plan), [(65534, 2)]);
}

#[test]
fn a_point_larger_than_a_request_is_refused_by_name() {
    let points = vec![point(Table::HoldingRegisters, 9, Encoding::F64)];

    let error = plan(&points, &all(&points, SECOND), &limits(2, 0)).unwrap_err();

    assert_eq!(error.to_string(), "at_9 needs 4 registers in one request, the device allows 2");
    assert_eq!(plan(&points, &[], &limits(2, 0)), Err(PlanError::NothingWanted));
}

/// The fewest blocks over all ways to divide `spans` (start, end) into sets: every set must fit into one request and
/// leave no gap beyond the limit, where registers of any point are no gap.
fn fewest(spans: &[(u32, u32)], sets: &mut Vec<Vec<(u32, u32)>>, limit: u32, gap: u32) -> usize {
    let Some((span, rest)) = spans.split_first() else {
        return if sets.iter().all(|set| is_request(set, limit, gap)) { sets.len() } else { usize::MAX };
    };
    let mut best = usize::MAX;
    for set in 0..=sets.len() {
        if set == sets.len() {
            sets.push(Vec::new());
        }
        sets[set].push(*span);
        best = best.min(fewest(rest, sets, limit, gap));
        sets[set].pop();
        if sets[set].is_empty() {
            sets.pop();
        }
    }
    best
}

fn is_request(set: &[(u32, u32)], limit: u32, gap: u32) -> bool {
    let mut sorted = set.to_vec();
    sorted.sort_unstable();
    let mut end = sorted[0].0;
    for span in &sorted {
        if span.0 > end + gap {
            return false;
        }
        end = end.max(span.1);
    }
    end - sorted[0].0 <= limit
}

fn any_encoding() -> impl Strategy<Value = Encoding> {
    prop_oneof![
        Just(Encoding::U16),
        Just(Encoding::F32),
        Just(Encoding::U64),
        (5u16..8).prop_map(|registers| Encoding::Text { registers })
    ]
}

proptest! {
    #[test]
    fn no_way_to_divide_the_points_needs_fewer_requests(
        spots in proptest::collection::vec((0u16..40, any_encoding()), 1..7),
        limit in 8u16..20,
        gap in 0u16..6,
    ) {
        let points: Vec<Point> =
            spots.iter().map(|(address, encoding)| point(Table::InputRegisters, *address, *encoding)).collect();
        let spans: Vec<(u32, u32)> = points
            .iter()
            .map(|point| (u32::from(point.address), u32::from(point.address + point.encoding.width())))
            .collect();

        let plan = plan(&points, &all(&points, SECOND), &limits(limit, gap)).unwrap();

        let best = fewest(&spans, &mut Vec::new(), u32::from(limit), u32::from(gap));
        prop_assert_eq!(plan.groups[0].blocks.len(), best);
    }

    #[test]
    fn every_point_is_read_once_and_whole(
        spots in proptest::collection::vec((0u16..300, any_encoding(), any::<bool>()), 1..60),
        limit in 8u16..140,
        gap in 0u16..20,
    ) {
        let points: Vec<Point> = spots
            .iter()
            .map(|(address, encoding, input)| {
                let table = if *input { Table::InputRegisters } else { Table::HoldingRegisters };
                point(table, *address, *encoding)
            })
            .collect();

        let plan = plan(&points, &all(&points, SECOND), &limits(limit, gap)).unwrap();

        let mut seen = vec![0; points.len()];
        for block in &plan.groups[0].blocks {
            prop_assert!(block.count <= limit.min(block.table.items_per_read()));
            for part in &block.points {
                let point = &points[part.point];
                prop_assert_eq!((point.table, point.address), (block.table, block.address + part.offset));
                prop_assert!(part.offset + point.encoding.width() <= block.count);
                seen[part.point] += 1;
            }
        }
        prop_assert!(seen.iter().all(|times| *times == 1));
    }
}

#[test]
fn registers_of_32_bits_are_asked_for_apart_and_at_most_62_at_once() {
    let long = |address| point(Table::HoldingRegisters32, address, Encoding::F32);
    let mut points: Vec<Point> = (0..63).map(|index| long(7000 + index)).collect();
    points.push(point(Table::HoldingRegisters, 7063, Encoding::U16));

    let plan = plan(&points, &all(&points, SECOND), &limits(125, 0)).unwrap();

    let blocks: Vec<(Table, u16, u16, u16)> =
        plan.groups[0].blocks.iter().map(|it| (it.table, it.address, it.count, it.data_bytes())).collect();
    assert_eq!(blocks.iter().map(|(.., count, _)| count).sum::<u16>(), 64);
    assert!(blocks.iter().all(|(table, _, count, bytes)| *bytes == 2 * table.item_words() * count && *bytes <= 250));
    let last = plan.groups[0].blocks.iter().rfind(|block| block.table == Table::HoldingRegisters32).unwrap();
    let place = last.points.last().unwrap();
    assert_eq!(place.offset, 2 * (7062 - last.address));
}

#[test]
fn scattered_registers_are_read_in_one_group_and_all_of_them_or_none() {
    let mut scattered = point(Table::HoldingRegisters, 10, Encoding::U32);
    scattered.scattered = [10, 400].into();
    let points = [scattered, point(Table::HoldingRegisters, 11, Encoding::U16)];

    let found = plan(&points, &all(&points, SECOND), &limits(125, 0)).unwrap();

    let places: Vec<(u16, u16, usize, u16, bool)> = found.groups[0]
        .blocks
        .iter()
        .flat_map(|block| {
            let place = |it: &BlockPoint| (block.address, it.offset, it.point, it.part, it.wanted);
            block.points.iter().map(place).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(places, [(10, 0, 0, 0, true), (10, 1, 1, 0, true), (400, 0, 0, 1, false)]);
}
