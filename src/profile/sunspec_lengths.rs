//! How long the models of SunSpec are. Pure.

/// Models of one length: id and registers behind id and length (github.com/sunspec/models, json/model_*.json as in
/// pysunspec2 1.3.7). The models from 700 on changed their lengths between revisions, and those from 64000 on are up
/// to their makers: both are left out.
const FIXED: [(u16, u16); 41] = [
    (2, 14),
    (10, 4),
    (11, 13),
    (12, 98),
    (13, 174),
    (14, 52),
    (15, 24),
    (16, 52),
    (17, 12),
    (18, 22),
    (19, 30),
    (101, 50),
    (102, 50),
    (103, 50),
    (111, 60),
    (112, 60),
    (113, 60),
    (120, 26),
    (121, 30),
    (122, 44),
    (123, 24),
    (124, 24),
    (125, 8),
    (127, 10),
    (128, 14),
    (145, 8),
    (201, 105),
    (202, 105),
    (203, 105),
    (204, 105),
    (211, 124),
    (212, 124),
    (213, 124),
    (214, 124),
    (305, 36),
    (306, 4),
    (307, 11),
    (308, 4),
    (501, 31),
    (502, 28),
    (802, 62),
];

/// Models with a part that repeats: id, registers before it, registers of it once.
const REPEATING: [(u16, u16, u16); 9] = [
    (126, 10, 54),
    (129, 10, 50),
    (130, 10, 50),
    (160, 8, 20),
    (401, 14, 8),
    (402, 20, 14),
    (403, 16, 8),
    (404, 25, 14),
    (803, 26, 32),
];

/// What a model may be long, in words; `None` when it may be of this length, or nothing is known about it.
pub fn expected_instead(id: u16, length: u16) -> Option<String> {
    // The common model has a register that fills it up, which many leave out.
    if id == 1 {
        return (!matches!(length, 65 | 66)).then(|| "65 or 66".to_owned());
    }
    if let Some((_, known)) = FIXED.iter().find(|(known, _)| *known == id) {
        return (length != *known).then(|| known.to_string());
    }
    let (_, first, repeated) = REPEATING.iter().find(|(known, ..)| *known == id)?;
    let fits = length.checked_sub(*first).is_some_and(|rest| rest.is_multiple_of(*repeated));
    (!fits).then(|| format!("{first} and {repeated} for each repetition"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_of_a_known_id_has_one_of_its_lengths() {
        for (id, length) in [(1, 65), (1, 66), (103, 50), (160, 8), (160, 48), (803, 58), (64_999, 1), (701, 137)] {
            assert_eq!(expected_instead(id, length), None, "{id}");
        }
        assert_eq!(expected_instead(1, 68).as_deref(), Some("65 or 66"));
        assert_eq!(expected_instead(103, 65_000).as_deref(), Some("50"));
        assert_eq!(expected_instead(123, 2302).as_deref(), Some("24"));
        assert_eq!(expected_instead(160, 49).as_deref(), Some("8 and 20 for each repetition"));
        assert_eq!(expected_instead(160, 0).as_deref(), Some("8 and 20 for each repetition"));
    }
}
