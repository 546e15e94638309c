//! The area of the benchmarks that ask for one.

use std::f64::consts::TAU;

/// A star of 100 vertices around the middle of the data.
pub(crate) fn star() -> String {
    let mut ring: Vec<String> = (0..100)
        .map(|i| {
            let (turn, long) = (TAU * f64::from(i) / 100.0, f64::from(6 + 6 * (i % 2)));
            format!("{:.6} {:.6}", 10.0 + long * turn.cos(), 63.0 + long / 2.0 * turn.sin())
        })
        .collect();
    ring.extend(ring.first().cloned());
    format!("POLYGON (({}))", ring.join(", "))
}
