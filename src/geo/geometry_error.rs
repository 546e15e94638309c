//! What is wrong with a geometry, and at which byte of its text or WKB.

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

    /// The error for a value in row `row` of a record batch.
    pub(crate) fn in_row(self, row: usize) -> OdpError {
        OdpError::InvalidData {
            location: format!("geometry in row {row} of the record batch"),
            source: Box::new(self),
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
