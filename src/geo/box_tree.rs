//! A packed tree of boxes over a sequence, in the order of the sequence.

use std::ops::Range;

use crate::geo::bounding_box::BoundingBox;

/// Children per node.
const FANOUT: usize = 8;

/// Boxes over items `0..n`, eight to a node, up to one root.
#[derive(Debug)]
pub(crate) struct BoxTree {
    /// `levels[0]` holds one box per item; each further level one box per eight of the level below.
    levels: Vec<Vec<BoundingBox>>,
}

impl BoxTree {
    pub(crate) fn new(items: Vec<BoundingBox>) -> Self {
        let mut levels = vec![items];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let level = below.chunks(FANOUT).filter_map(union_all).collect();
            levels.push(level);
        }
        Self { levels }
    }

    /// The box of all items; `None` without items.
    pub(crate) fn bounding_box(&self) -> Option<BoundingBox> {
        self.levels.last()?.first().copied()
    }

    /// The box of an item.
    pub(crate) fn item(&self, item: usize) -> &BoundingBox {
        &self.levels[0][item]
    }

    /// Visits nodes in the order of their items, parents first. `enter` gets a node's box, its items, and
    /// whether it is an item itself; it says whether to visit the node's children.
    pub(crate) fn walk(&self, mut enter: impl FnMut(&BoundingBox, Range<usize>, bool) -> bool) {
        self.walk_level(self.levels.len() - 1, 0..1, &mut enter);
    }

    /// Whether `test` holds for an item whose box meets `target`.
    pub(crate) fn any(&self, target: &BoundingBox, mut test: impl FnMut(Range<usize>) -> bool) -> bool {
        let mut found = false;
        self.walk(|bounds, items, is_item| {
            if found || !bounds.intersects(target) {
                return false;
            }
            if is_item {
                found = test(items);
            }
            true
        });
        found
    }

    fn walk_level(
        &self,
        level: usize,
        nodes: Range<usize>,
        enter: &mut impl FnMut(&BoundingBox, Range<usize>, bool) -> bool,
    ) {
        let items_per_node = FANOUT.pow(u32::try_from(level).unwrap_or(u32::MAX));
        let boxes = &self.levels[level];
        let end = nodes.end.min(boxes.len());
        for (node, bounds) in (nodes.start..end).zip(&boxes[nodes.start..end]) {
            let items = node * items_per_node..((node + 1) * items_per_node).min(self.levels[0].len());
            if enter(bounds, items, level == 0) && level > 0 {
                self.walk_level(level - 1, node * FANOUT..(node + 1) * FANOUT, enter);
            }
        }
    }
}

/// The union of boxes; `None` without boxes.
pub(crate) fn union_all(boxes: &[BoundingBox]) -> Option<BoundingBox> {
    boxes.iter().copied().reduce(|left, right| left.union(&right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walk_visits_every_item_once_and_in_order() {
        for n in [0usize, 1, 7, 8, 9, 64, 65, 1000] {
            let tree = BoxTree::new((0..n).map(|i| BoundingBox::of_point(i as f64, 0.0)).collect());
            let mut seen = vec![];
            tree.walk(|bounds, items, is_item| {
                assert_eq!(bounds.xmin, items.start as f64);
                assert_eq!(bounds.xmax, (items.end - 1) as f64);
                if is_item {
                    seen.push(items.start);
                }
                true
            });
            assert_eq!(seen, (0..n).collect::<Vec<_>>());
        }
    }
}
