//! A row group cut into runs of rows by what is known of where their geometries lie.

use std::collections::BTreeMap;
use std::ops::Range;

use parquet::file::metadata::ParquetMetaData;

use super::file_extents::FileExtents;
use crate::dataset::{Chunk, LearntExtents, RowGroupId};
use crate::geo::{Extent, ExtentFacts, Outcomes, SpatialConjunct, SpatialTarget};
use crate::scan::page_bounds::page_starts;
use crate::scan::row_intervals::{Action, Interval};

/// What is known of a run of rows and one target.
#[derive(Debug)]
struct Part {
    rows: Range<u64>,
    facts: ExtentFacts,
    /// It is known of these rows, not of the row group around them.
    is_own: bool,
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
    /// Coordinates hold no NaN, and geometries are neither empty nor malformed.
    pub(super) is_finite: bool,
    /// Skip and keep by extents.
    pub(super) prunes: bool,
}

impl IntervalPlanner<'_> {
    /// The runs of rows of a row group, in order, of the rows in `span`; what lies before and after is skipped.
    pub(super) fn plan(&self, group: usize, span: &Range<u64>) -> Vec<Interval> {
        if !self.prunes {
            return vec![Interval { rows: span.clone(), action: Action::Test, teaches: false }];
        }
        // The whole row group first: it costs less than its pages.
        let whole = self.whole_group_facts(group, span);
        let action = self.action(|target| whole[target]);
        if matches!(action, Action::Skip | Action::Keep) {
            return vec![Interval { rows: span.clone(), action, teaches: false }];
        }
        let parts: Vec<Vec<Part>> = self
            .targets
            .iter()
            .zip(&whole)
            .map(|(target, whole)| self.parts_of_group(target, group, span, *whole))
            .collect();
        let mut cuts: Vec<u64> = vec![span.start, span.end];
        for (target, parts) in self.targets.iter().zip(&parts) {
            cuts.extend(parts.iter().flat_map(|part| [part.rows.start, part.rows.end]));
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
            let part = |target: usize| {
                let parts: &[Part] = &parts[target];
                let next = parts.partition_point(|part| part.rows.start <= rows.start);
                next.checked_sub(1).map(|at| &parts[at]).filter(|part| part.rows.end >= rows.end)
            };
            let facts = |target: usize| part(target).map_or(whole[target], |part| part.facts);
            let action = self.action(facts);
            // Where all is known of the very rows, nothing is learnt of those at the boundary.
            let is_known = |target: usize| part(target).is_some_and(|part| part.is_own) || rows == *span;
            let teaches = match action {
                Action::Skip | Action::Keep => false,
                Action::Confirm => true,
                Action::Test => (0..self.targets.len())
                    .any(|target| !is_known(target) || facts(target).extent == Extent::Unknown),
            };
            intervals.push(Interval { rows, action, teaches });
        }
        intervals
    }

    fn action(&self, facts: impl Fn(usize) -> ExtentFacts) -> Action {
        let facts_of = |target: &SpatialTarget| {
            self.targets.iter().position(|known| known.target == *target).map_or(ExtentFacts::UNKNOWN, &facts)
        };
        let all = |facts_of: &dyn Fn(&SpatialTarget) -> ExtentFacts| {
            let outcomes = self.conjuncts.iter().map(|conjunct| conjunct.outcomes(facts_of));
            outcomes.fold(Outcomes::TRUE, Outcomes::and)
        };
        let outcomes = all(&facts_of);
        if !outcomes.may_match() {
            return Action::Skip;
        }
        if outcomes.all_match() {
            return Action::Keep;
        }
        let if_present = |target: &SpatialTarget| ExtentFacts {
            may_be_null: false,
            may_be_empty: false,
            may_be_malformed: false,
            ..facts_of(target)
        };
        if all(&if_present).all_match() { Action::Confirm } else { Action::Test }
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
    ) -> Vec<Part> {
        let pages = target.extents.as_ref().and_then(|extents| extents.page_facts(self.footer, group));
        let part = |(rows, facts): (Range<u64>, ExtentFacts)| match facts.extent {
            Extent::Unknown => Part { rows, facts: whole, is_own: false },
            _ => Part { rows, facts: self.trusted(facts), is_own: true },
        };
        let pages: Vec<Part> = pages.into_iter().flatten().map(part).collect();
        let Some(chunks) = self.learnt.chunks(&target.target, self.id(group)) else { return pages };
        // Learnt chunks know more; where there is none, the page index does.
        let learnt = |chunk: &Chunk| Part { rows: chunk.rows.clone(), facts: chunk.facts, is_own: true };
        let mut parts: Vec<Part> = chunks.iter().map(learnt).collect();
        let mut next = span.start;
        let mut gaps = vec![];
        for chunk in chunks.iter() {
            gaps.push(next..chunk.rows.start.max(next));
            next = next.max(chunk.rows.end);
        }
        gaps.push(next..span.end.max(next));
        for gap in gaps.into_iter().filter(|gap| gap.start < gap.end) {
            if pages.is_empty() {
                parts.push(Part { rows: gap, facts: whole, is_own: false });
                continue;
            }
            parts.extend(pages.iter().filter_map(|page| {
                let rows = page.rows.start.max(gap.start)..page.rows.end.min(gap.end);
                (rows.start < rows.end).then_some(Part { rows, ..*page })
            }));
        }
        parts.sort_by_key(|part| part.rows.start);
        parts
    }

    fn trusted(&self, facts: ExtentFacts) -> ExtentFacts {
        ExtentFacts {
            may_be_empty: facts.may_be_empty && !self.is_finite,
            may_be_malformed: facts.may_be_malformed && !self.is_finite,
            ..facts
        }
    }

    fn id(&self, group: usize) -> RowGroupId {
        (self.file_index, group)
    }
}
