//! The order of files: as a person would number them.

use std::cmp::Ordering;

/// Compares paths so that runs of digits compare as numbers: `part-9` before `part-10`.
///
/// A total order: names that are equal this way (`1`, `01`) compare by their bytes.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.as_bytes(), b.as_bytes());
    while let (Some(&x), Some(&y)) = (left.first(), right.first()) {
        let order = if x.is_ascii_digit() && y.is_ascii_digit() {
            let (m, left_rest) = split_number(left);
            let (n, right_rest) = split_number(right);
            (left, right) = (left_rest, right_rest);
            m.len().cmp(&n.len()).then_with(|| m.cmp(n))
        } else {
            (left, right) = (&left[1..], &right[1..]);
            // A directory's files come before those of a longer name: `a/x` before `a-b/x`.
            (x != b'/').cmp(&(y != b'/')).then(x.cmp(&y))
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    left.len().cmp(&right.len()).then_with(|| a.cmp(b))
}

/// The leading digits without leading zeros, and what follows them.
fn split_number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|c| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let zeros = number.iter().position(|&c| c != b'0').unwrap_or(number.len());
    (&number[zeros..], rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_compare_as_numbers() {
        let mut names =
            vec!["p10", "p9", "p2/x10", "p2/x9", "p02/x1", "p", "p2-b/x", "p99999999999999999999999"];
        names.sort_by(|a, b| compare(a, b));
        assert_eq!(
            names,
            ["p", "p02/x1", "p2/x9", "p2/x10", "p2-b/x", "p9", "p10", "p99999999999999999999999"]
        );
    }

    #[test]
    fn the_order_is_total() {
        let names = ["1", "01", "a1b", "a01b", "a", "", "a/", "a-"];
        for a in names {
            for b in names {
                assert_eq!(compare(a, b), compare(b, a).reverse());
                assert_eq!(compare(a, b) == Ordering::Equal, a == b);
            }
        }
    }
}
