//! What a write does about geometries.

use std::fmt;
use std::str::FromStr;

use crate::error::OdpError;

/// What a write does about geometries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GeometryOptions {
    /// A column with each geometry's box is added where there is none.
    pub(crate) covering: bool,
    pub(crate) encoding: GeometryEncoding,
    /// Whether the files may have other columns than the rows, and geometries another type; not where the schema of a
    /// table is fixed.
    pub(crate) may_add_columns: bool,
    /// Columns of longitude and latitude that a column `geometry` of points is made from.
    pub(crate) point_from: Option<(String, String)>,
}

impl Default for GeometryOptions {
    fn default() -> Self {
        Self { covering: true, encoding: GeometryEncoding::Wkb, may_add_columns: true, point_from: None }
    }
}

/// How Parquet has geometries in WKB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum GeometryEncoding {
    /// As plain binary, which every reader of Parquet knows.
    #[default]
    Wkb,
    /// As Parquet's logical type `GEOMETRY`, or `GEOGRAPHY` where edges are not straight.
    Parquet,
}

impl fmt::Display for GeometryEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wkb => "wkb",
            Self::Parquet => "parquet",
        })
    }
}

impl FromStr for GeometryEncoding {
    type Err = OdpError;

    fn from_str(text: &str) -> Result<Self, OdpError> {
        match text.to_ascii_lowercase().as_str() {
            "wkb" => Ok(Self::Wkb),
            "parquet" => Ok(Self::Parquet),
            _ => Err(OdpError::InvalidOption {
                key: "geometry_encoding".into(),
                value: text.into(),
                expected: "wkb or parquet".into(),
            }),
        }
    }
}
