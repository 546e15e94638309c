//! What is wrong with a geometry, and at which byte of its text or WKB.

use std::error::Error;

use datafusion::common::DataFusionError;

use crate::error::OdpError;

/// A geometry that cannot be used; `offset` counts bytes from the start of its text or WKB.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {offset}")]
pub(crate) struct GeometryError {
    /// Byte of the fault.
    pub(crate) offset: usize,
    /// What was found and what was expected.
    pub(crate) reason: String,
}

/// A malformed geometry in a row; the source of an [`OdpError::InvalidData`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{source}")]
pub(crate) struct InvalidGeometryRow {
    /// The row, counted from 0 in the record batch that the function was given.
    pub(crate) row: usize,
    /// What is wrong with it.
    pub(crate) source: GeometryError,
}

impl InvalidGeometryRow {
    /// Finds what [`GeometryError::in_row`] made, under whatever DataFusion and Arrow wrapped around it.
    ///
    /// `None` where a wrapper keeps only the message: the Parquet decoder does, of the errors of its filters.
    pub(crate) fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }
}

impl GeometryError {
    pub(crate) fn new(offset: usize, reason: impl Into<String>) -> Self {
        Self { offset, reason: reason.into() }
    }

    /// The error for a constant in a query, written as WKT.
    pub(crate) fn in_text(self, text: &str) -> OdpError {
        OdpError::InvalidFilter { text: text.to_owned(), span: self.offset..self.offset, reason: self.reason }
    }

    /// The error for a constant in a query, given as WKB.
    pub(crate) fn in_wkb(self, bytes: &[u8]) -> OdpError {
        let text: String = bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        OdpError::InvalidFilter {
            text,
            span: 0..0,
            reason: format!("WKB geometry: {} at its byte {}; hex", self.reason, self.offset),
        }
    }

    /// The error for a value in row `row` of a record batch; see [`InvalidGeometryRow::find`].
    pub(crate) fn in_row(self, row: usize) -> OdpError {
        OdpError::InvalidData {
            location: format!("geometry in row {row} of the record batch"),
            source: Box::new(InvalidGeometryRow { row, source: self }),
        }
    }
}

impl From<GeometryError> for OdpError {
    fn from(error: GeometryError) -> Self {
        Self::InvalidData { location: "geometry".to_owned(), source: Box::new(error) }
    }
}

impl From<GeometryError> for DataFusionError {
    fn from(error: GeometryError) -> Self {
        OdpError::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::error::ArrowError;

    use super::*;

    #[test]
    fn the_row_is_found_under_every_wrapper() {
        let make = || DataFusionError::from(GeometryError::new(7, "found x").in_row(3));
        let arrow = ArrowError::from_external_error(Box::new(make()));
        let nested = DataFusionError::ArrowError(Box::new(arrow), None).context("here");
        for error in [
            make(),
            make().context("there"),
            nested,
            DataFusionError::Shared(Arc::new(make())),
            DataFusionError::Collection(vec![make()]),
            DataFusionError::External(Box::new(OdpError::DataFusion(make()))),
        ] {
            let found = InvalidGeometryRow::find(&error).unwrap_or_else(|| panic!("{error:?}"));
            assert_eq!((found.row, found.source.offset), (3, 7));
        }
        assert!(InvalidGeometryRow::find(&DataFusionError::Plan("row 3".into())).is_none());
        assert!(InvalidGeometryRow::find(&DataFusionError::from(GeometryError::new(0, "x"))).is_none());
    }
}
