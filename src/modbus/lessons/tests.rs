//! Searches against devices that refuse registers, reach and length.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::modbus::plan::Block;

/// A device with holes, with places over which it does not answer, and with a longest request.
struct Device {
    missing: BTreeSet<u16>,
    seams: Vec<u16>,
    longest: u16,
}

impl Device {
    fn answer(&self, address: u16, count: u16) -> Option<u8> {
        let has_hole = self.missing.range(address..address + count).next().is_some();
        let is_over = self.seams.iter().any(|seam| address < *seam && *seam < address + count);
        match (has_hole || is_over, count > self.longest) {
            (true, _) => Some(2),
            (false, true) => Some(3),
            (false, false) => None,
        }
    }
}

fn block(points: &[(u16, u16)]) -> (Block, Vec<u16>) {
    let address = points[0].0;
    let place = |(index, point): (usize, &(u16, u16))| BlockPoint {
        point: index,
        offset: point.0 - address,
        part: 0,
        wanted: true,
    };
    let count = points.iter().map(|point| point.0 + point.1).max().unwrap() - address;
    let points_of = points.iter().enumerate().map(place).collect();
    let block = Block { table: Table::HoldingRegisters, address, count, points: points_of };
    (block, points.iter().map(|point| point.1).collect())
}

/// Searches to the end; gives what was found and how often the device was asked.
fn search(device: &Device, points: &[(u16, u16)]) -> (Option<Lessons>, usize) {
    let (block, widths) = block(points);
    let code = device.answer(block.address, block.count).expect("a refused block");
    let mut search = Search::new(&block, code, |point| widths[point.point]);
    let mut asked = 0;
    while let Some((_, address, count)) = search.next() {
        asked += 1;
        assert!(asked < 2000, "the search does not end: {search:?}");
        search.take(device.answer(address, count));
    }
    (search.conclude(false), asked)
}

fn pairs(count: u16) -> Vec<(u16, u16)> {
    (0..count).map(|index| (100 + 2 * index, 2)).collect()
}

#[test]
fn one_illegal_register_among_forty_points_is_found_in_a_few_requests() {
    let device = Device { missing: [151].into(), seams: Vec::new(), longest: 125 };

    let (found, asked) = search(&device, &pairs(40));

    let refused = Refused { table: Table::HoldingRegisters, address: 150, count: 2, code: 2 };
    assert_eq!(found.unwrap(), Lessons { refused: vec![refused], ..Lessons::default() });
    assert!(asked <= 10, "{asked} requests");
}

#[test]
fn a_hole_between_two_points_is_a_place_not_to_read_over() {
    let device = Device { missing: [104].into(), seams: Vec::new(), longest: 125 };

    let (found, _) = search(&device, &[(100, 2), (102, 2), (106, 2), (108, 2)]);

    let seam = Seam { table: Table::HoldingRegisters, before: 103, behind: 106 };
    assert_eq!(found.unwrap(), Lessons { seams: vec![seam], ..Lessons::default() });
}

#[test]
fn a_block_that_is_too_long_teaches_the_longest() {
    let device = Device { missing: BTreeSet::new(), seams: Vec::new(), longest: 33 };

    let (found, asked) = search(&device, &pairs(40));

    assert_eq!(found.unwrap(), Lessons { registers_max: Some(32), ..Lessons::default() });
    assert!(asked <= 9, "{asked} requests");
}

#[test]
fn a_device_that_refuses_everything_teaches_nothing() {
    let device = Device { missing: (0..1000).collect(), seams: Vec::new(), longest: 125 };

    let (found, asked) = search(&device, &pairs(40));

    assert_eq!(found, None);
    assert!(asked <= 46, "{asked} requests");
}

#[test]
fn what_was_learned_adds_up_without_repeating_itself() {
    let refused = Refused { table: Table::Coils, address: 1, count: 1, code: 2 };
    let first = Lessons { registers_max: Some(60), refused: vec![refused], seams: Vec::new() };
    let mut all = first.clone();

    all.add(Lessons { registers_max: Some(64), ..first.clone() });
    assert_eq!(all, first);
    all.add(Lessons { registers_max: Some(20), ..Lessons::default() });

    assert_eq!(all.registers_max, Some(20));
}

proptest! {
    #[test]
    fn whatever_a_device_refuses_the_blocks_that_follow_are_accepted_and_nothing_legal_is_lost(
        spots in proptest::collection::btree_map(0u16..120, 1u16..4, 2..40),
        missing in proptest::collection::btree_set(0u16..120, 0..12),
        seams in proptest::collection::vec(1u16..120, 0..3),
        longest in 4u16..60,
    ) {
        let points: Vec<(u16, u16)> = spots.into_iter().collect();
        let device = Device { missing, seams, longest };
        let mut lessons = Lessons::default();
        // As the planner does: blocks within the lessons; a refused one is searched.
        for _ in 0..200 {
            let allowed: Vec<(u16, u16)> = points.iter().copied()
                .filter(|(address, count)| lessons.refusal(Table::HoldingRegisters, u32::from(*address), u32::from(address + count)).is_none())
                .collect();
            let mut blocks: Vec<Vec<(u16, u16)>> = Vec::new();
            for point in allowed {
                let fits = blocks.last().is_some_and(|block: &Vec<(u16, u16)>| {
                    let start = u32::from(block[0].0);
                    let end = block.iter().chain([&point]).map(|point| u32::from(point.0 + point.1)).max().unwrap();
                    end - start <= u32::from(lessons.registers_max.unwrap_or(125))
                        && lessons.allow(Table::HoldingRegisters, start, end)
                });
                if fits { blocks.last_mut().unwrap().push(point) } else { blocks.push(vec![point]) }
            }
            let refused = blocks.iter().find(|points| {
                let (block, _) = block(points);
                device.answer(block.address, block.count).is_some()
            });
            let Some(refused) = refused else {
                for (address, count) in &points {
                    let is_legal = device.answer(*address, *count).is_none();
                    let is_refused = lessons.refusal(Table::HoldingRegisters, u32::from(*address), u32::from(address + count)).is_some();
                    // What holds something illegal is refused; nothing else is.
                    prop_assert_eq!(is_legal, !is_refused, "{} {} {:?}", address, count, lessons);
                }
                return Ok(());
            };
            let (block, widths) = block(refused);
            let code = device.answer(block.address, block.count).unwrap();
            let mut search = Search::new(&block, code, |point| widths[point.point]);
            while let Some((_, address, count)) = search.next() {
                search.take(device.answer(address, count));
            }
            lessons.add(search.conclude(true).unwrap());
        }
        prop_assert!(false, "no end: {:?}", lessons);
    }
}
