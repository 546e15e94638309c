//! Prepared areas by the constants they come from, shared by all partitions of all queries of a session.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};

use crate::error::OdpError;
use crate::geo::area::Area;
use crate::geo::area::antimeridian::unwrap_crossings;
use crate::geo::array::GeometryValue;
use crate::geo::geometry_error::GeometryError;
use crate::geo::wkb::to_wkb;

/// Areas kept at most.
const MAX_AREAS: usize = 64;
/// Text and WKB kept at most; the newest area is kept whatever its size.
const MAX_BYTES: usize = 32 << 20;

/// The areas used last.
#[derive(Debug, Default)]
pub(crate) struct AreaCache {
    constants: Entries,
    /// Of values in rows, which are never unwrapped.
    rows: Entries,
}

/// Areas by their values, newest at the back.
#[derive(Debug, Default)]
struct Entries(RwLock<VecDeque<(Key, Arc<Area>)>>);

#[derive(Debug)]
enum Key {
    Point(f64, f64),
    Wkb(Box<[u8]>),
    Wkt(Box<str>),
}

impl AreaCache {
    /// The prepared area of a constant.
    ///
    /// # Errors
    /// [`OdpError::InvalidFilter`] for a malformed constant.
    pub(crate) fn area(&self, constant: GeometryValue<'_>) -> Result<Arc<Area>, OdpError> {
        let prepare = || constant.parse().map(unwrap_crossings).and_then(Area::try_new);
        self.constants.area(constant, &prepare).map_err(|error| match constant {
            GeometryValue::Wkt(text) => error.in_text(text),
            GeometryValue::Wkb(bytes) => error.in_wkb(bytes),
            _ => error.into(),
        })
    }

    /// The prepared area of a value that many rows share.
    ///
    /// # Errors
    /// [`GeometryError`] for a malformed value.
    pub(crate) fn area_of_rows(&self, value: GeometryValue<'_>) -> Result<Arc<Area>, GeometryError> {
        self.rows.area(value, &|| value.parse().and_then(Area::try_new))
    }
}

impl Entries {
    /// Values are compared whole, not hashed: that is a `memcmp` per call, which usually fails at the length.
    fn area(
        &self,
        value: GeometryValue<'_>,
        prepare: &dyn Fn() -> Result<Area, GeometryError>,
    ) -> Result<Arc<Area>, GeometryError> {
        if let GeometryValue::Nested(..) | GeometryValue::Box(_) = value {
            let wkb = value.parse().and_then(|geometry| to_wkb(&geometry))?;
            return self.area(GeometryValue::Wkb(&wkb), prepare);
        }
        let find = |entries: &VecDeque<(Key, Arc<Area>)>| {
            entries.iter().rev().find(|(key, _)| key.value().same(&value)).map(|(_, area)| Arc::clone(area))
        };
        if let Some(area) = find(&self.0.read().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(area);
        }
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(area) = find(&entries) {
            return Ok(area);
        }
        let area = Arc::new(prepare()?);
        entries.extend(Key::new(value).map(|key| (key, Arc::clone(&area))));
        while entries.len() > MAX_AREAS
            || (entries.len() > 1 && entries.iter().map(|(key, _)| key.size()).sum::<usize>() > MAX_BYTES)
        {
            entries.pop_front();
        }
        Ok(area)
    }
}

impl Key {
    /// `None` for values that are not kept as they are.
    fn new(value: GeometryValue<'_>) -> Option<Self> {
        match value {
            GeometryValue::Point(x, y) => Some(Self::Point(x, y)),
            GeometryValue::Wkb(bytes) => Some(Self::Wkb(bytes.into())),
            GeometryValue::Wkt(text) => Some(Self::Wkt(text.into())),
            GeometryValue::Nested(..) | GeometryValue::Box(_) => None,
        }
    }

    fn value(&self) -> GeometryValue<'_> {
        match self {
            Self::Point(x, y) => GeometryValue::Point(*x, *y),
            Self::Wkb(bytes) => GeometryValue::Wkb(bytes),
            Self::Wkt(text) => GeometryValue::Wkt(text),
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Point(..) => 16,
            Self::Wkb(bytes) => bytes.len(),
            Self::Wkt(text) => text.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_is_prepared_once_and_old_ones_go() {
        let cache = AreaCache::default();
        let first = cache.area(GeometryValue::Wkt("POINT(1 2)")).unwrap();
        assert!(Arc::ptr_eq(&first, &cache.area(GeometryValue::Wkt("POINT(1 2)")).unwrap()));
        for x in 0..MAX_AREAS {
            cache.area(GeometryValue::Point(x as f64, 0.0)).unwrap();
        }
        assert!(!Arc::ptr_eq(&first, &cache.area(GeometryValue::Wkt("POINT(1 2)")).unwrap()));
        assert_eq!(cache.constants.0.read().unwrap().len(), MAX_AREAS);
    }
}
