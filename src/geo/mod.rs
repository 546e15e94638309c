//! placeholder
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoundingBox { pub xmin: f64, pub ymin: f64, pub xmax: f64, pub ymax: f64 }
