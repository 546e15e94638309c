//! Positions on a Hilbert curve: places that are near on it are near on the map.

/// Cells along an axis: 2^32 over this many degrees. Of a square of 16 squares of 180 degrees, the world in either
/// convention of longitudes is the first three of the lowest row: cells are square in degrees, and the curve goes
/// through each of the three without leaving it.
const DEGREES: f64 = 720.0;

const CELLS_PER_DEGREE: f64 = 4_294_967_296.0 / DEGREES;

/// The position of a place on a Hilbert curve of order 32. Longitudes from -180 to 360, latitudes from -90 to 90; what
/// lies beyond is moved there. `None` for NaN.
pub(crate) fn position_of_degrees(longitude: f64, latitude: f64) -> Option<u64> {
    if longitude.is_nan() || latitude.is_nan() {
        return None;
    }
    let x = cell(longitude + 180.0, 540.0);
    let y = cell(latitude + 90.0, 180.0);
    Some(position(x, y))
}

/// The cell of a distance in degrees from the curve's western or southern edge, from 0 to less than `end`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits")]
fn cell(degrees: f64, end: f64) -> u32 {
    (degrees * CELLS_PER_DEGREE).clamp(0.0, end * CELLS_PER_DEGREE - 1.0) as u32
}

/// The position of a cell on a Hilbert curve of order 32, which begins at the origin and ends at the far end of x.
///
/// What the curve does to the quadrant at each level is a transformation that depends on the levels above: all levels
/// are combined at once by a parallel prefix scan, each round of which doubles the reach.
///
/// # Source
/// Rawrunprotected, "2D Hilbert curves in O(1)" (public domain,
/// <http://threadlocalmutex.com/?p=126>), here for 32 bits.
fn position(x: u32, y: u32) -> u64 {
    let (a, d) = (x ^ y, x & !y);
    let (b, c) = (!a, !(x | y));
    let (mut first, mut second) = (a | (b >> 1), (a >> 1) ^ a);
    let mut third = ((c >> 1) ^ (b & (d >> 1))) ^ c;
    let mut fourth = ((a & (c >> 1)) ^ (d >> 1)) ^ d;
    for shift in [2, 4, 8, 16] {
        let (a, b, c, d) = (first, second, third, fourth);
        first = (a & (a >> shift)) ^ (b & (b >> shift));
        second = (a & (b >> shift)) ^ (b & ((a ^ b) >> shift));
        third ^= (a & (c >> shift)) ^ (b & (d >> shift));
        fourth ^= (b & (c >> shift)) ^ ((a ^ b) & (d >> shift));
    }
    // The transformation of each level is that of the level above it.
    let (a, b) = (third ^ (third >> 1), fourth ^ (fourth >> 1));
    let low = x ^ y;
    let high = b | !(low | a);
    (spread(high) << 1) | spread(low)
}

/// The bits of a number, a zero before each.
fn spread(bits: u32) -> u64 {
    let mut bits = u64::from(bits);
    for (shift, mask) in [
        (16, 0x0000_ffff_0000_ffff),
        (8, 0x00ff_00ff_00ff_00ff),
        (4, 0x0f0f_0f0f_0f0f_0f0f),
        (2, 0x3333_3333_3333_3333),
        (1, 0x5555_5555_5555_5555),
    ] {
        bits = (bits | (bits << shift)) & mask;
    }
    bits
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// Level by level, from the textbook: <https://en.wikipedia.org/wiki/Hilbert_curve>.
    fn walked(order: u32, mut x: u64, mut y: u64) -> u64 {
        let mut position = 0;
        for level in (0..order).rev() {
            let side = 1u64 << level;
            let (right, up) = (u64::from(x & side != 0), u64::from(y & side != 0));
            position += side * side * ((3 * right) ^ up);
            if up == 0 {
                if right == 1 {
                    let last = (1u64 << order) - 1;
                    (x, y) = (last - x, last - y);
                }
                (x, y) = (y, x);
            }
        }
        position
    }

    #[test]
    fn positions_are_those_of_a_walk_level_by_level() {
        let mut random = StdRng::seed_from_u64(31);
        for _ in 0..10_000 {
            let (x, y): (u32, u32) = (random.random(), random.random());
            assert_eq!(position(x, y), walked(32, x.into(), y.into()), "{x} {y}");
        }
        for corner in [(0, 0), (u32::MAX, 0), (0, u32::MAX), (u32::MAX, u32::MAX)] {
            assert_eq!(position(corner.0, corner.1), walked(32, corner.0.into(), corner.1.into()));
        }
    }

    #[test]
    fn the_curve_visits_every_cell_once_and_goes_from_neighbour_to_neighbour() {
        const ORDER: u32 = 5;
        let side = 1u32 << ORDER;
        let at = |x: u32, y: u32| position(x << (32 - ORDER), y << (32 - ORDER)) >> (64 - 2 * ORDER);
        let mut cells: Vec<_> =
            (0..side).flat_map(|x| (0..side).map(move |y| (x, y))).map(|(x, y)| (at(x, y), x, y)).collect();
        cells.sort_unstable();
        for (index, (position, ..)) in cells.iter().enumerate() {
            assert_eq!(*position, index as u64);
        }
        for pair in cells.windows(2) {
            let ((_, x, y), (_, next_x, next_y)) = (pair[0], pair[1]);
            assert_eq!(x.abs_diff(next_x) + y.abs_diff(next_y), 1, "{pair:?}");
        }
    }

    #[test]
    fn both_conventions_of_longitudes_are_on_the_curve_and_each_half_world_is_a_run_of_it() {
        let half = |longitude: f64| position_of_degrees(longitude, 10.0).unwrap() >> 60;
        assert_eq!(half(-180.0), half(-0.001));
        assert_eq!(half(0.0), half(179.999));
        assert_eq!(half(180.0), half(360.0));
        assert_eq!([-1.0, 1.0, 181.0].map(half).len(), 3);
        assert!(half(-1.0) != half(1.0) && half(1.0) != half(181.0));
        let at = |x, y| position_of_degrees(x, y);
        assert_eq!(at(-1000.0, f64::NEG_INFINITY), at(-180.0, -90.0));
        assert_eq!(at(f64::INFINITY, 91.0), at(360.0, 90.0));
        assert_eq!((at(f64::NAN, 0.0), at(0.0, f64::NAN)), (None, None));
        assert_ne!(at(5.0, 60.0), at(5.000_001, 60.0));
    }

    #[test]
    fn sorted_points_make_runs_with_small_boxes() {
        let mut random = StdRng::seed_from_u64(7);
        let mut points: Vec<(u64, f64, f64)> = (0..64_000)
            .map(|_| {
                let (x, y) = (random.random_range(-180.0..180.0), random.random_range(-90.0..90.0));
                (position_of_degrees(x, y).unwrap(), x, y)
            })
            .collect();
        points.sort_unstable_by_key(|(position, ..)| *position);
        let span = |values: &mut dyn Iterator<Item = f64>| {
            let (low, high) = values.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
            high - low
        };
        let area: f64 = points
            .chunks(1000)
            .map(|run| span(&mut run.iter().map(|p| p.1)) * span(&mut run.iter().map(|p| p.2)))
            .sum();
        assert!(area < 2.0 * 360.0 * 180.0, "boxes of runs cover {} worlds", area / (360.0 * 180.0));
    }
}
