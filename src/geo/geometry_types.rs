//! Which types of geometry there are among some, as GeoParquet names them.

use crate::geo::wkb::wkb_type;

/// In the order of their WKB numbers, from 1.
const NAMES: [&str; 7] =
    ["Point", "LineString", "Polygon", "MultiPoint", "MultiLineString", "MultiPolygon", "GeometryCollection"];

/// A set of geometry types, each with its dimensions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct GeometryTypes {
    /// Bit `n - 1` for WKB number `n`: two dimensions, with Z, and with M whatever else.
    flat: u8,
    with_z: u8,
    with_m: u8,
}

impl GeometryTypes {
    /// Points of longitude and latitude.
    pub(crate) const POINTS: Self = Self { flat: 1, with_z: 0, with_m: 0 };

    /// One type by its WKB number; none if there is no such.
    pub(crate) fn of_number(number: u32, has_z: bool, has_m: bool) -> Self {
        let bit = match number {
            1..=7 => 1u8 << (number - 1),
            _ => 0,
        };
        match (has_z, has_m) {
            (_, true) => Self { with_m: bit, ..Self::default() },
            (true, false) => Self { with_z: bit, ..Self::default() },
            (false, false) => Self { flat: bit, ..Self::default() },
        }
    }

    /// One type by the name that GeoParquet and GeoArrow have for its encoding: `point`.
    pub(crate) fn of_encoding(encoding: &str, has_z: bool, has_m: bool) -> Self {
        let number = (1..).zip(NAMES).find(|(_, name)| name.eq_ignore_ascii_case(encoding));
        Self::of_number(number.map_or(0, |(number, _)| number), has_z, has_m)
    }

    /// That of a geometry in WKB, which is well formed.
    pub(crate) fn of_wkb(bytes: &[u8]) -> Self {
        wkb_type(bytes)
            .map_or(Self::default(), |(number, has_z, has_m)| Self::of_number(number, has_z, has_m))
    }

    #[must_use]
    pub(crate) fn union(self, other: Self) -> Self {
        Self {
            flat: self.flat | other.flat,
            with_z: self.with_z | other.with_z,
            with_m: self.with_m | other.with_m,
        }
    }

    /// Whether there is nothing but single and multiple points, which have no edges.
    pub(crate) fn has_no_edges(self) -> bool {
        const POINTS: u8 = 0b1001;
        (self.flat | self.with_z | self.with_m) & !POINTS == 0
    }

    /// As GeoParquet lists them: `Point`, `MultiPolygon Z`. Empty if it has no name for one of them, as with M.
    pub(crate) fn names(self) -> Vec<String> {
        if self.with_m != 0 {
            return Vec::new();
        }
        let named = |set: u8, dimensions: &'static str| {
            let is_there = move |(bit, _): &(usize, &str)| set & (1 << *bit) != 0;
            NAMES.into_iter().enumerate().filter(is_there).map(move |(_, name)| format!("{name}{dimensions}"))
        };
        named(self.flat, "").chain(named(self.with_z, " Z")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_the_names_of_geoparquet_and_none_with_m() {
        let points = GeometryTypes::of_encoding("point", false, false);
        assert_eq!(points, GeometryTypes::POINTS);
        let areas = GeometryTypes::of_number(6, true, false);
        assert_eq!(points.union(areas).names(), ["Point", "MultiPolygon Z"]);
        assert!(points.has_no_edges() && !points.union(areas).has_no_edges());
        let measured = GeometryTypes::of_number(1, true, true);
        assert!(measured.has_no_edges() && measured.union(points).names().is_empty());
        assert_eq!(GeometryTypes::of_number(8, false, false), GeometryTypes::default());
    }

    #[test]
    fn the_header_of_wkb_tells_its_type() {
        for (bytes, name) in [
            ([1, 1, 0, 0, 0], "Point"),
            ([0, 0, 0, 3, 0xeb], "Polygon Z"),
            ([1, 7, 0, 0, 0x80], "GeometryCollection Z"),
            ([1, 4, 0, 0, 0x20], "MultiPoint"),
        ] {
            let bytes = if name == "Polygon Z" { [0, 0, 0, 3, 0xeb] } else { bytes };
            assert_eq!(GeometryTypes::of_wkb(&bytes).names(), [name]);
        }
        assert_eq!(GeometryTypes::of_wkb(&[1, 1]), GeometryTypes::default());
    }
}
