//! Extents that no footer tells: learnt while rows are read, kept as long as the snapshot.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use crate::geo::{ExtentFacts, SpatialTarget};

/// Chunks kept at most, of all targets; some 64 bytes each.
const MAX_CHUNKS: usize = 4 << 20;

/// What was learnt of a run of rows of a row group.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Chunk {
    /// Rows, counted from the first row of the row group.
    pub(crate) rows: Range<u64>,
    /// Where their geometries lie.
    pub(crate) facts: ExtentFacts,
}

/// A row group of a dataset: positions of the file and of the row group in it.
pub(crate) type RowGroupId = (usize, usize);

/// What is known of row groups, in their order.
pub(crate) type LearntRowGroups = Vec<(RowGroupId, Arc<[Chunk]>)>;

/// Learnt extents by target. Files do not change under a snapshot, so nothing here grows old.
#[derive(Debug, Default)]
pub(crate) struct LearntExtents {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    targets: HashMap<SpatialTarget, HashMap<RowGroupId, Arc<[Chunk]>>>,
    chunks: usize,
}

impl LearntExtents {
    /// What is known of a row group, as far as it was read: chunks in order, apart from each other.
    pub(crate) fn chunks(&self, target: &SpatialTarget, row_group: RowGroupId) -> Option<Arc<[Chunk]>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.targets.get(target)?.get(&row_group).map(Arc::clone)
    }

    /// All that is known, target by target, in order of row groups.
    pub(crate) fn all(&self) -> Vec<(SpatialTarget, LearntRowGroups)> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let groups = |known: &HashMap<RowGroupId, Arc<[Chunk]>>| {
            let mut groups: Vec<_> = known.iter().map(|(id, chunks)| (*id, Arc::clone(chunks))).collect();
            groups.sort_by_key(|(id, _)| *id);
            groups
        };
        state.targets.iter().map(|(target, known)| (target.clone(), groups(known))).collect()
    }

    /// Whether anything is known of the target.
    pub(crate) fn knows(&self, target: &SpatialTarget) -> bool {
        self.state.read().unwrap_or_else(PoisonError::into_inner).targets.contains_key(target)
    }

    /// What is known of `rows` of a row group together; `None` unless all of them were read.
    pub(crate) fn facts(
        &self,
        target: &SpatialTarget,
        row_group: RowGroupId,
        rows: Range<u64>,
    ) -> Option<ExtentFacts> {
        let chunks = self.chunks(target, row_group)?;
        let mut facts = ExtentFacts::NO_ROWS;
        let mut next = rows.start;
        for chunk in chunks.iter().filter(|c| c.rows.end > rows.start && c.rows.start < rows.end) {
            if chunk.rows.start > next {
                return None;
            }
            facts = facts.union(chunk.facts);
            next = chunk.rows.end;
        }
        (next >= rows.end).then_some(facts)
    }

    /// Adds chunks of a row group, in order and apart; those that overlap what is known are dropped.
    pub(crate) fn record(&self, target: &SpatialTarget, row_group: RowGroupId, learnt: Vec<Chunk>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.chunks + learnt.len() > MAX_CHUNKS {
            return;
        }
        let groups = match state.targets.get_mut(target) {
            Some(groups) => groups,
            None => state.targets.entry(target.clone()).or_default(),
        };
        let known = groups.get(&row_group).map_or(&[][..], |chunks| chunks);
        let is_new = |chunk: &Chunk| {
            let after = known.partition_point(|k| k.rows.end <= chunk.rows.start);
            known.get(after).is_none_or(|next| next.rows.start >= chunk.rows.end)
        };
        let mut chunks: Vec<Chunk> = learnt.into_iter().filter(is_new).collect();
        let added = chunks.len();
        if added == 0 {
            return;
        }
        chunks.extend_from_slice(known);
        chunks.sort_by_key(|chunk| chunk.rows.start);
        groups.insert(row_group, chunks.into());
        state.chunks += added;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::{BoundingBox, Extent};

    fn chunk(rows: Range<u64>) -> Chunk {
        let at = rows.start as f64;
        let facts = ExtentFacts {
            extent: Extent::Within(BoundingBox { xmin: at, ymin: 0.0, xmax: at + 1.0, ymax: 1.0 }),
            may_be_null: false,
            may_be_empty: false,
            may_be_malformed: false,
        };
        Chunk { rows, facts }
    }

    #[test]
    fn facts_are_known_of_what_was_read_whole() {
        let target = SpatialTarget::Geometry { path: vec!["g".to_owned()].into() };
        let learnt = LearntExtents::default();
        assert!(learnt.facts(&target, (0, 0), 0..10).is_none());
        learnt.record(&target, (0, 0), vec![chunk(20..30)]);
        learnt.record(&target, (0, 0), vec![chunk(0..10), chunk(25..40)]);
        assert_eq!(learnt.chunks(&target, (0, 0)).unwrap().as_ref(), [chunk(0..10), chunk(20..30)]);
        assert!(learnt.facts(&target, (0, 0), 0..30).is_none());
        assert_eq!(learnt.facts(&target, (0, 0), 2..9), Some(chunk(0..10).facts));
        learnt.record(&target, (0, 0), vec![chunk(10..20)]);
        let all = learnt.facts(&target, (0, 0), 0..30).unwrap();
        assert_eq!(all.extent, Extent::Within(BoundingBox { xmin: 0.0, ymin: 0.0, xmax: 21.0, ymax: 1.0 }));
        assert!(learnt.facts(&target, (0, 0), 0..31).is_none());
        assert!(learnt.facts(&target, (0, 1), 0..1).is_none());
    }
}
