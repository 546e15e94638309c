//! The one error type of the crate, and how it crosses the DataFusion boundary.

use std::fmt;
use std::ops::Range;

use datafusion::common::{DataFusionError, plan_datafusion_err};

/// What went wrong, as something a caller can act on.
///
/// Inside DataFusion it travels as [`DataFusionError`]: requests that can never succeed (bad text, unknown
/// options, missing features) become planning, configuration and not-implemented errors; everything else is
/// `External` and can be downcast back to this type.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum OdpError {
    /// A filter, or a geometry inside it, is malformed; `span` is the byte range of `text` at fault.
    #[error("{reason} at byte {} of {}", .span.start, excerpt(.text, .span))]
    InvalidFilter {
        /// The text as the user wrote it.
        text: String,
        /// Byte range of the fault; empty when something is missing there.
        span: Range<usize>,
        /// What was found and what was expected.
        reason: String,
    },
    /// The text of an ODP filter, or one of its variables, cannot be used.
    #[error("filter{place}: {reason}{diagram}")]
    Filter {
        /// What was found and what was expected.
        reason: String,
        /// Byte range of the filter's text at fault; empty where something is missing. `None` for variables.
        span: Option<Range<usize>>,
        /// ` at line 1, column 5`; empty without a place.
        place: String,
        /// The line of the filter, and carets under what is wrong; empty without a place.
        diagram: String,
    },
    /// An option has a key or a value that is not known.
    #[error("invalid option {key} = {value:?}: expected {expected}")]
    InvalidOption {
        /// The option's key as given.
        key: String,
        /// The value as given.
        value: String,
        /// The values or keys that are valid.
        expected: String,
    },
    /// A valid request that this version does not support.
    #[error("not supported: {what}")]
    Unsupported {
        /// The request.
        what: String,
    },
    /// A dataset holds nothing that can be read.
    #[error("no Parquet files in {location}: {reason}")]
    EmptyDataset {
        /// The dataset's location, without credentials.
        location: String,
        /// What was found instead.
        reason: String,
    },
    /// Two files of one dataset do not fit together.
    #[error("files {first} and {second} do not fit together: {reason}")]
    SchemaMismatch {
        /// The file that came first.
        first: String,
        /// The file that disagrees with it.
        second: String,
        /// The column and the two types, or the two sets of partition columns.
        reason: String,
    },
    /// A file, or a value in it, breaks its format.
    #[error("invalid data in {location}: {source}")]
    InvalidData {
        /// File, and row group, batch or row where known.
        location: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file is no longer the version that was planned.
    #[error("file {path} changed since the dataset was opened; open it again to read the new version")]
    Changed {
        /// The file's path in its object store.
        path: String,
    },
    /// A text is not a ticket, or not one that this version can open.
    #[error("invalid ticket: {reason}")]
    InvalidTicket {
        /// What was found and what was expected.
        reason: String,
    },
    /// The storage refused or failed.
    #[error("cannot read {location}: {source}")]
    Storage {
        /// The object or prefix, without credentials.
        location: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The storage refused what was to be written, or it could not be made.
    #[error("cannot write {location}: {source}")]
    Write {
        /// The object, without credentials.
        location: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another writer committed first, and both cannot hold.
    #[error("conflict in {location}: {reason}; nothing was written, try again")]
    Conflict {
        /// The dataset's location, without credentials.
        location: String,
        /// What the other writer did.
        reason: String,
    },
    /// There is something where a write is to create a dataset or file.
    #[error("cannot write {location}: {reason}")]
    Exists {
        /// The location, without credentials.
        location: String,
        /// What is there, and how to write all the same.
        reason: String,
    },
    /// DataFusion failed on our behalf.
    #[error(transparent)]
    DataFusion(#[from] DataFusionError),
}

/// As the message: DataFusion prints the errors of filters in its Parquet decoder with `Debug`.
impl fmt::Debug for OdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OdpError({self})")
    }
}

/// At most 40 characters of `text` around `span`, quoted.
fn excerpt(text: &str, span: &Range<usize>) -> String {
    const CONTEXT: usize = 20;
    let floor = |at: usize| (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    let start = floor(span.start.saturating_sub(CONTEXT));
    let end = floor(span.start.saturating_add(CONTEXT));
    let before = if start > 0 { "…" } else { "" };
    let after = if end < text.len() { "…" } else { "" };
    format!("{before}{:?}{after}", &text[start..end])
}

impl From<OdpError> for DataFusionError {
    fn from(error: OdpError) -> Self {
        match error {
            OdpError::InvalidFilter { .. } | OdpError::Filter { .. } => plan_datafusion_err!("{error}"),
            OdpError::InvalidOption { .. } => Self::Configuration(error.to_string()),
            OdpError::Unsupported { what } => Self::NotImplemented(what),
            OdpError::DataFusion(inner) => inner,
            other => Self::External(Box::new(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpt_keeps_character_boundaries() {
        let text = "é".repeat(60);
        let error = OdpError::InvalidFilter { text, span: 61..61, reason: "bad".into() };
        assert!(error.to_string().contains('…'));
    }

    #[test]
    fn a_changed_file_can_be_downcast_from_datafusion() {
        let error: DataFusionError = OdpError::Changed { path: "a.parquet".into() }.into();
        let DataFusionError::External(inner) = error else { panic!("not external") };
        assert!(inner.downcast_ref::<OdpError>().is_some());
    }
}
