//! What a write makes of rows that are there already.

use std::fmt;
use std::str::FromStr;

use crate::error::OdpError;

/// What a write makes of rows that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WriteMode {
    /// Adds to them. PyArrow's `overwrite_or_ignore`, without overwriting.
    Append,
    /// Replaces all of them.
    Overwrite,
    /// Replaces those of the partitions that get rows, and leaves other partitions. PyArrow's `delete_matching`.
    OverwritePartitions,
    /// Fails if there are any. PyArrow's `error`.
    ErrorIfExists,
    /// Does nothing if there are any.
    Ignore,
}

impl WriteMode {
    pub(super) const EXPECTED: &'static str =
        "one of append, overwrite, overwrite_partitions, error_if_exists, ignore";
}

impl fmt::Display for WriteMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Append => "append",
            Self::Overwrite => "overwrite",
            Self::OverwritePartitions => "overwrite_partitions",
            Self::ErrorIfExists => "error_if_exists",
            Self::Ignore => "ignore",
        })
    }
}

impl FromStr for WriteMode {
    type Err = OdpError;

    fn from_str(text: &str) -> Result<Self, OdpError> {
        match text.to_ascii_lowercase().as_str() {
            "append" => Ok(Self::Append),
            "overwrite" => Ok(Self::Overwrite),
            "overwrite_partitions" | "delete_matching" => Ok(Self::OverwritePartitions),
            "error_if_exists" | "error" => Ok(Self::ErrorIfExists),
            "ignore" => Ok(Self::Ignore),
            _ => Err(OdpError::InvalidOption {
                key: "mode".into(),
                value: text.into(),
                expected: Self::EXPECTED.into(),
            }),
        }
    }
}
