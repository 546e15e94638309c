//! Prepared areas by the constants they come from, shared by all partitions of all queries of a session.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use datafusion::common::{Result as DataFusionResult, ScalarValue};

use crate::error::OdpError;
use crate::geo::area::Area;
use crate::geo::array::{GeometryArray, GeometryValue};
use crate::geo::geometry_error::GeometryError;
use crate::geo::wkb::to_wkb;

/// Areas kept at most.
const MAX_AREAS: usize = 64;
/// Text and WKB kept at most.
const MAX_BYTES: usize = 32 << 20;
/// The newest areas are kept whatever their size: a query with two large ones asks for them in turn.
const MIN_AREAS: usize = 2;

/// The areas used last. Geometries are taken as written.
#[derive(Debug, Default)]
pub(crate) struct AreaCache {
    constants: Entries,
    /// Of values in rows, of which a join may have many.
    rows: Entries,
}

/// Areas by their values, newest at the back.
#[derive(Debug, Default)]
struct Entries(RwLock<VecDeque<(Key, Arc<Slot>)>>);

/// Filled by whoever comes first; others that want the same area wait for it.
type Slot = OnceLock<Result<Arc<Area>, GeometryError>>;

#[derive(Debug)]
enum Key {
    Point(f64, f64),
    Wkb(Box<[u8]>),
    Wkt(Box<str>),
}

impl AreaCache {
    /// The prepared area of a constant argument; `None` for NULL.
    ///
    /// # Errors
    /// A plan error for a malformed geometry, and for a value that is no geometry.
    pub(crate) fn constant_area(&self, constant: &ScalarValue) -> DataFusionResult<Option<Arc<Area>>> {
        if let Some(value) = GeometryValue::of_scalar(constant) {
            return Ok(value.map(|value| self.area(value)).transpose()?);
        }
        let array = GeometryArray::try_new(&constant.to_array()?)?;
        Ok(array.value(0).map(|value| self.area(value)).transpose()?)
    }

    /// The prepared area of a constant.
    ///
    /// # Errors
    /// [`OdpError::InvalidFilter`] for a malformed constant.
    pub(crate) fn area(&self, constant: GeometryValue<'_>) -> Result<Arc<Area>, OdpError> {
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
        self.rows.area(value, &prepare)
    }
}

fn prepare(value: GeometryValue<'_>) -> Result<Area, GeometryError> {
    value.parse().and_then(Area::try_new)
}

impl Entries {
    /// Values are compared whole, not hashed: that is a `memcmp` per call, which usually fails at the length.
    fn area(
        &self,
        value: GeometryValue<'_>,
        prepare: &dyn Fn(GeometryValue<'_>) -> Result<Area, GeometryError>,
    ) -> Result<Arc<Area>, GeometryError> {
        if let GeometryValue::Nested(..) | GeometryValue::Box(_) = value {
            let wkb = value.parse().and_then(|geometry| to_wkb(&geometry))?;
            return self.area(GeometryValue::Wkb(&wkb), prepare);
        }
        let slot = self.slot(value);
        // Without the lock, which all other areas are found under.
        let area = slot.get_or_init(|| prepare(value).map(Arc::new)).clone();
        if area.is_err() {
            let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
            entries.retain(|(_, kept)| !Arc::ptr_eq(kept, &slot));
        }
        area
    }

    /// The place for the area of a value, which may be empty yet.
    fn slot(&self, value: GeometryValue<'_>) -> Arc<Slot> {
        let find = |entries: &VecDeque<(Key, Arc<Slot>)>| {
            entries.iter().rev().find(|(key, _)| key.value().same(&value)).map(|(_, slot)| Arc::clone(slot))
        };
        if let Some(slot) = find(&self.0.read().unwrap_or_else(PoisonError::into_inner)) {
            return slot;
        }
        let key = Key::new(value);
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = find(&entries) {
            return slot;
        }
        let slot = Arc::new(Slot::new());
        entries.extend(key.map(|key| (key, Arc::clone(&slot))));
        while entries.len() > MAX_AREAS
            || (entries.len() > MIN_AREAS
                && entries.iter().map(|(key, _)| key.size()).sum::<usize>() > MAX_BYTES)
        {
            entries.pop_front();
        }
        slot
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

    #[test]
    fn two_large_constants_keep_their_areas() {
        let cache = AreaCache::default();
        let texts = [1, 2].map(|x| format!("POINT({x} 2){}", " ".repeat(MAX_BYTES / 2 + 1)));
        let areas = texts.each_ref().map(|text| cache.area(GeometryValue::Wkt(text)).unwrap());
        for (text, area) in texts.iter().zip(&areas) {
            assert!(Arc::ptr_eq(area, &cache.area(GeometryValue::Wkt(text)).unwrap()));
        }
        cache.area(GeometryValue::Point(1.0, 2.0)).unwrap();
        assert_eq!(cache.constants.0.read().unwrap().len(), 2);
    }

    #[test]
    fn an_area_being_prepared_holds_up_only_those_who_want_it() {
        let entries = Entries::default();
        let (started, on_start) = std::sync::mpsc::channel();
        let (release, on_release) = std::sync::mpsc::channel::<()>();
        let (large, small) = (GeometryValue::Point(0.0, 0.0), GeometryValue::Point(1.0, 0.0));
        std::thread::scope(|scope| {
            let entries = &entries;
            let slow = scope.spawn(move || {
                entries.area(large, &|value| {
                    started.send(()).unwrap();
                    on_release.recv_timeout(std::time::Duration::from_secs(20)).expect("the other waits");
                    prepare(value)
                })
            });
            on_start.recv().unwrap();
            entries.area(small, &prepare).unwrap();
            release.send(()).unwrap();
            let prepared = slow.join().unwrap().unwrap();
            let again = entries.area(large, &|_| panic!("prepared twice")).unwrap();
            assert!(Arc::ptr_eq(&prepared, &again));
        });
    }

    #[test]
    fn a_malformed_value_is_not_kept() {
        let cache = AreaCache::default();
        assert!(cache.area(GeometryValue::Wkt("POINT(1")).is_err());
        assert!(cache.area_of_rows(GeometryValue::Wkt("POINT(1")).is_err());
        assert!(cache.constants.0.read().unwrap().is_empty() && cache.rows.0.read().unwrap().is_empty());
    }
}
