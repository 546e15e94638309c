//! A row group cut into runs of rows: those to skip, those to keep without a test, and those to test.

use std::collections::BTreeMap;
use std::ops::Range;

use parquet::file::metadata::ParquetMetaData;

use super::file_extents::{FileExtents, page_starts};
use crate::dataset::{Chunk, LearntExtents, RowGroupId};
use crate::geo::{Extent, ExtentFacts, SpatialConjunct, SpatialTarget};

/// What to do with a run of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::scan) enum Action {
    /// No row matches.
    Skip,
    /// Every row matches.
    Keep,
    /// Some may match.
    Test,
}

/// A run of rows of a row group, counted from its first row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::scan) struct Interval {
    pub(in crate::scan) rows: Range<u64>,
    pub(in crate::scan) action: Action,
}

impl Interval {
    pub(in crate::scan) fn len(&self) -> u64 {
        self.rows.end - self.rows.start
    }
}

/// A target of a filter's predicates, as one file holds it.
#[derive(Debug)]
pub(super) struct FileTarget {
    pub(super) target: SpatialTarget,
    /// Where it lies; `None` = only reading tells.
    pub(super) extents: Option<FileExtents>,
    /// Leaf columns of the target itself, where pages to learn of may start.
    pub(super) own_leaves: Vec<usize>,
    /// What the snapshot tells of row groups, by their positions.
    pub(super) declared: BTreeMap<usize, ExtentFacts>,
}

/// Decides about the rows of a file's row groups.
pub(super) struct IntervalPlanner<'a> {
    pub(super) conjuncts: &'a [SpatialConjunct],
    pub(super) targets: &'a [FileTarget],
    pub(super) footer: &'a ParquetMetaData,
    pub(super) learnt: &'a LearntExtents,
    pub(super) file_index: usize,
    /// Coordinates hold no NaN, and geometries are not empty.
    pub(super) is_finite: bool,
    /// Skip and keep by extents.
    pub(super) prunes: bool,
}

impl IntervalPlanner<'_> {
    /// The runs of rows of a row group, in order, of the rows in `span`; what lies before and after is skipped.
    pub(super) fn plan(&self, group: usize, span: &Range<u64>) -> Vec<Interval> {
        if !self.prunes {
            return vec![Interval { rows: span.clone(), action: Action::Test }];
        }
        // The whole row group first: it costs less than its pages.
        let whole = self.whole_group_facts(group, span);
        let action = self.action(|target| whole[target]);
        if action != Action::Test {
            return vec![Interval { rows: span.clone(), action }];
        }
        let parts: Vec<Vec<(Range<u64>, ExtentFacts)>> = self
            .targets
            .iter()
            .zip(&whole)
            .map(|(target, whole)| self.parts_of_group(target, group, span, *whole))
            .collect();
        let mut cuts: Vec<u64> = vec![span.start, span.end];
        for (target, parts) in self.targets.iter().zip(&parts) {
            cuts.extend(parts.iter().flat_map(|(rows, _)| [rows.start, rows.end]));
            for leaf in &target.own_leaves {
                cuts.extend(page_starts(self.footer, group, *leaf));
            }
        }
        cuts.retain(|cut| span.start <= *cut && *cut <= span.end);
        cuts.sort_unstable();
        cuts.dedup();
        let mut intervals: Vec<Interval> = vec![];
        for pair in cuts.windows(2) {
            let rows = pair[0]..pair[1];
            let action = self.action(|target| {
                let parts = &parts[target];
                let next = parts.partition_point(|(part, _)| part.start <= rows.start);
                match next.checked_sub(1).map(|at| &parts[at]) {
                    Some((part, facts)) if part.end >= rows.end => *facts,
                    _ => whole[target],
                }
            });
            intervals.push(Interval { rows, action });
        }
        intervals
    }

    fn action(&self, facts: impl Fn(usize) -> ExtentFacts) -> Action {
        let facts_of = |target: &SpatialTarget| {
            self.targets.iter().position(|known| known.target == *target).map_or(ExtentFacts::UNKNOWN, &facts)
        };
        let outcomes = self.conjuncts.iter().map(|conjunct| conjunct.outcomes(facts_of));
        let mut action = Action::Keep;
        for outcome in outcomes {
            if !outcome.may_match() {
                return Action::Skip;
            }
            if !outcome.all_match() {
                action = Action::Test;
            }
        }
        action
    }

    fn whole_group_facts(&self, group: usize, span: &Range<u64>) -> Vec<ExtentFacts> {
        let facts = |target: &FileTarget| {
            let learnt = self.learnt.facts(&target.target, self.id(group), span.clone());
            if let Some(facts) = learnt {
                return facts;
            }
            let extents = target.extents.as_ref();
            let told = extents.map_or(ExtentFacts::UNKNOWN, |e| e.row_group_facts(self.footer, group));
            let facts = match (told.extent, target.declared.get(&group)) {
                (Extent::Unknown, Some(declared)) => *declared,
                _ => told,
            };
            self.trusted(facts)
        };
        self.targets.iter().map(facts).collect()
    }

    /// What is known of runs of rows of the group: learnt, or told by the page index.
    fn parts_of_group(
        &self,
        target: &FileTarget,
        group: usize,
        span: &Range<u64>,
        whole: ExtentFacts,
    ) -> Vec<(Range<u64>, ExtentFacts)> {
        let pages = target.extents.as_ref().and_then(|extents| extents.page_facts(self.footer, group));
        let mut pages = pages.unwrap_or_default();
        for (_, facts) in &mut pages {
            *facts = if facts.extent == Extent::Unknown { whole } else { self.trusted(*facts) };
        }
        let Some(chunks) = self.learnt.chunks(&target.target, self.id(group)) else { return pages };
        // Learnt chunks know more; where there is none, the page index does.
        let mut parts: Vec<(Range<u64>, ExtentFacts)> =
            chunks.iter().map(|Chunk { rows, facts }| (rows.clone(), *facts)).collect();
        let mut next = span.start;
        let mut gaps = vec![];
        for chunk in chunks.iter() {
            gaps.push(next..chunk.rows.start.max(next));
            next = next.max(chunk.rows.end);
        }
        gaps.push(next..span.end.max(next));
        for gap in gaps.into_iter().filter(|gap| gap.start < gap.end) {
            if pages.is_empty() {
                parts.push((gap, whole));
                continue;
            }
            parts.extend(pages.iter().filter_map(|(rows, facts)| {
                let part = rows.start.max(gap.start)..rows.end.min(gap.end);
                (part.start < part.end).then_some((part, *facts))
            }));
        }
        parts.sort_by_key(|(rows, _)| rows.start);
        parts
    }

    fn trusted(&self, facts: ExtentFacts) -> ExtentFacts {
        ExtentFacts { may_be_empty: facts.may_be_empty && !self.is_finite, ..facts }
    }

    fn id(&self, group: usize) -> RowGroupId {
        (self.file_index, group)
    }
}
