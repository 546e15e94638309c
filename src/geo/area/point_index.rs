//! A raster over an area, for the many points of a column: most are answered by their cell.
//!
//! Cells that no edge meets lie wholly inside or outside. The others form runs along a row; a run knows the edges
//! that meet it, and what lies to the right of it. A point in a run is located by counting the crossings between it
//! and the right end of the run, which is the exact test of the whole ring cut short.
//!
//! **Why it is exact.** The cell of a point is found by a subtraction, a product and a cut, each monotone, so the
//! points of a cell are those of a rectangle. In units of cells, rounding moves a point by less than 1e-9; edges are
//! entered into every cell within [`MARGIN`] of them. So no edge comes near a cell that it is not entered into, and
//! neighbouring cells without edges lie alike.

use geo::Coord;

use crate::geo::area::{Area, BoxRelation, PointLocation, PointLocations};
use crate::geo::bounding_box::BoundingBox;
use crate::geo::chain::{Chain, ChainRole};

/// Cells per vertex wanted.
const CELLS_PER_VERTEX: usize = 4;
/// Cells at least: coarser rasters leave much of a simple area to the exact test.
const MIN_CELLS: usize = 64 * 64;
/// Cells of a fine raster, at least: 16 KiB. An edge that is long beside them meets a quarter of the share of all that it meets of
/// [`MIN_CELLS`], and as much less of the points is left to the exact test.
const MIN_FINE_CELLS: usize = 256 * 256;
/// Cells at most, four to a byte: they are to stay in the second-level cache.
const MAX_CELLS: usize = 1 << 20;
/// Cells along one side at most.
const MAX_SIDE: usize = 1 << 14;
/// Cells that edges may be entered into, per vertex; the raster is made coarser for areas of many long edges.
const MAX_ENTRIES_PER_VERTEX: usize = 4;
/// Edges are entered into all cells within this distance, in units of cells.
const MARGIN: f64 = 1e-6;
/// Runs with more edges are searched by the area's tree instead.
const MAX_RUN_EDGES: usize = 256;

/// The raster and its runs.
#[derive(Debug)]
pub(super) struct PointIndex {
    raster: Raster,
    /// Two bits a cell: [`OUTSIDE`], [`INSIDE`] or [`RUN`].
    cells: Vec<u8>,
    /// The cells at which runs begin, 64 at a time.
    starts: Vec<Starts>,
    /// In the order of cells.
    runs: Vec<Run>,
    pieces: Vec<Piece>,
}

/// Which of 64 cells a run begins at, and how many runs begin before them.
#[derive(Debug, Clone, Copy, Default)]
struct Starts {
    bits: u64,
    before: u32,
}

const OUTSIDE: u8 = 0;
const INSIDE: u8 = 1;
const RUN: u8 = 2;

/// Neighbouring cells of a row that edges meet.
#[derive(Debug)]
struct Run {
    /// Its first cell.
    first: u32,
    /// Where its pieces begin; they end where those of the next run begin.
    pieces: u32,
    test: RunTest,
}

/// How a point in a run is located.
#[derive(Debug, Clone, Copy)]
enum RunTest {
    /// All edges are of one ring. `odd`: whether the right end lies inside the ring.
    Ring { odd: bool, outside: PointLocation, boundary: PointLocation, inside: PointLocation },
    /// By the area's tree.
    Search,
}

/// Consecutive edges of a chain.
#[derive(Debug, Clone, Copy)]
struct Piece {
    chain: u32,
    first: u32,
    end: u32,
}

/// The mapping from coordinates to cells.
#[derive(Debug, Clone, Copy)]
struct Raster {
    bounds: BoundingBox,
    scale: (f64, f64),
    columns: usize,
    rows: usize,
}

impl PointIndex {
    /// Takes time and memory linear in the vertices. `None` where the area is empty, or too small in degrees to be
    /// divided.
    pub(super) fn new(area: &Area) -> Option<Self> {
        Self::of_cells(area, MIN_CELLS)
    }

    /// The same with more cells for an area of few vertices. `None` also where there are not at least four times as many.
    pub(super) fn fine(area: &Area) -> Option<Self> {
        let coarse = area.vertices.saturating_mul(CELLS_PER_VERTEX).max(MIN_CELLS);
        if coarse <= MIN_FINE_CELLS / 4 { Self::of_cells(area, MIN_FINE_CELLS) } else { None }
    }

    fn of_cells(area: &Area, least: usize) -> Option<Self> {
        let raster = Raster::for_chains(area.bounding_box?, &area.chains, least)?;
        let mut builder = Builder::new(area, raster);
        builder.mark_cells();
        builder.fill()?;
        builder.enter_edges()?;
        builder.finish()
    }

    /// Where those points lie, turned by `turn`, that `wanted` names and that are in the area's box, and which of them are for the
    /// tree.
    #[inline]
    pub(super) fn locate(
        &self,
        chains: &[Chain],
        (x, y): (&[f64], &[f64]),
        turn: f64,
        wanted: u64,
    ) -> (PointLocations, u64) {
        let point = |row: usize| Coord { x: x[row] + turn, y: y[row] };
        let mut found = PointLocations::default();
        // Without a branch, which the processor could not predict.
        let mut in_runs = 0;
        for row in rows_of(wanted) {
            let known = self.known(self.raster.number(point(row)));
            found.inside |= u64::from(known == INSIDE) << row;
            in_runs |= u64::from(known == RUN) << row;
        }
        let mut unknown = 0;
        for row in rows_of(in_runs) {
            let at = point(row);
            match self.locate_in_run(chains, at, self.raster.number(at)) {
                Some(PointLocation::Inside) => found.inside |= 1 << row,
                Some(PointLocation::Boundary) => found.boundary |= 1 << row,
                Some(PointLocation::Outside) => {}
                None => unknown |= 1 << row,
            }
        }
        (found, unknown)
    }

    /// What is known of a cell.
    #[inline]
    fn known(&self, cell: usize) -> u8 {
        self.cells[cell / 4] >> (cell % 4 * 2) & 3
    }

    /// What is known of all points of a box in the area's box, where it covers few cells and none of them has edges.
    pub(super) fn relate_box(&self, target: &BoundingBox) -> Option<BoxRelation> {
        const FEW: usize = 64;
        let (left, bottom) = self.raster.cell(Coord { x: target.xmin, y: target.ymin });
        let (right, top) = self.raster.cell(Coord { x: target.xmax, y: target.ymax });
        if (right - left + 1) * (top - bottom + 1) > FEW {
            return None;
        }
        let cell = |column, row| self.known(row * self.raster.columns + column);
        let first = cell(left, bottom);
        let alike = (bottom..=top).all(|row| (left..=right).all(|column| cell(column, row) == first));
        match first {
            OUTSIDE if alike => Some(BoxRelation::Outside),
            INSIDE if alike => Some(BoxRelation::Inside),
            _ => None,
        }
    }

    fn locate_in_run(&self, chains: &[Chain], at: Coord<f64>, cell: usize) -> Option<PointLocation> {
        let Starts { bits, before } = self.starts[cell / 64];
        let up_to = bits & (u64::MAX >> (63 - cell % 64));
        let run = (before as usize + up_to.count_ones() as usize).checked_sub(1)?;
        let RunTest::Ring { mut odd, outside, boundary, inside } = self.runs[run].test else { return None };
        let end = self.runs.get(run + 1).map_or(self.pieces.len(), |next| next.pieces as usize);
        for piece in &self.pieces[self.runs[run].pieces as usize..end] {
            let edges = piece.first as usize..piece.end as usize;
            match chains[piece.chain as usize].odd_crossings(edges, at) {
                Some(crossed) => odd ^= crossed,
                None => return Some(boundary),
            }
        }
        Some(if odd { inside } else { outside })
    }
}

impl Raster {
    /// Of so many cells at least, but for long edges.
    fn for_chains(bounds: BoundingBox, chains: &[Chain], least: usize) -> Option<Self> {
        let (width, height) = (bounds.xmax - bounds.xmin, bounds.ymax - bounds.ymin);
        let (mut edges, mut across, mut up) = (0, 0.0, 0.0);
        for edge in chains.iter().flat_map(|chain| chain.points().windows(2)) {
            edges += 1;
            across += share((edge[1].x - edge[0].x).abs(), width);
            up += share((edge[1].y - edge[0].y).abs(), height);
        }
        let cells = to_float((edges * CELLS_PER_VERTEX).clamp(least, MAX_CELLS));
        let side = to_float(MAX_SIDE);
        let mut columns =
            if height > 0.0 { (cells * (width / height)).sqrt().clamp(1.0, side) } else { side };
        columns = if width > 0.0 { columns } else { 1.0 };
        let mut rows = if height > 0.0 { (cells / columns).clamp(1.0, side) } else { 1.0 };
        // Each edge is entered into about one cell, and one more for each border that it crosses.
        let entries = columns * across + rows * up;
        let limit = to_float(MAX_ENTRIES_PER_VERTEX * edges + least);
        if entries > limit {
            columns = (columns * limit / entries).max(1.0);
            rows = (rows * limit / entries).max(1.0);
        }
        let (columns, rows) = (to_cell(columns), to_cell(rows));
        let scale = (to_float(columns) / width, to_float(rows) / height);
        let scale = (if width > 0.0 { scale.0 } else { 0.0 }, if height > 0.0 { scale.1 } else { 0.0 });
        let usable = scale.0.is_finite() && scale.1.is_finite();
        usable.then_some(Self { bounds, scale, columns, rows })
    }

    /// Column and row of a point in the box.
    #[inline]
    fn cell(&self, at: Coord<f64>) -> (usize, usize) {
        let at = self.in_cells(at);
        (to_cell(at.x).min(self.columns - 1), to_cell(at.y).min(self.rows - 1))
    }

    /// The number of the cell of a point in the box.
    #[inline]
    fn number(&self, at: Coord<f64>) -> usize {
        let (column, row) = self.cell(at);
        row * self.columns + column
    }

    /// A point in units of cells.
    #[inline]
    fn in_cells(&self, at: Coord<f64>) -> Coord<f64> {
        Coord { x: (at.x - self.bounds.xmin) * self.scale.0, y: (at.y - self.bounds.ymin) * self.scale.1 }
    }

    /// A point in the middle of a cell; `None` if coordinates are too coarse to name one.
    fn middle(&self, column: usize, row: usize) -> Option<Coord<f64>> {
        let along = |cell: usize, low: f64, high: f64, scale: f64| {
            if scale == 0.0 { low } else { (low + (to_float(cell) + 0.5) / scale).min(high) }
        };
        let bounds = &self.bounds;
        let x = along(column, bounds.xmin, bounds.xmax, self.scale.0);
        let y = along(row, bounds.ymin, bounds.ymax, self.scale.1);
        (self.cell(Coord { x, y }) == (column, row)).then_some(Coord { x, y })
    }

    /// The cells within [`MARGIN`] of an edge given in units of cells: rows in order, of each a range of columns.
    fn cells_of_edge(
        &self,
        start: Coord<f64>,
        end: Coord<f64>,
        mut visit: impl FnMut(usize, std::ops::RangeInclusive<usize>),
    ) {
        let cell = |value: f64, count: usize| to_cell(value).min(count - 1);
        let (left, right) = (start.x.min(end.x) - MARGIN, start.x.max(end.x) + MARGIN);
        let (bottom, top) = (start.y.min(end.y) - MARGIN, start.y.max(end.y) + MARGIN);
        let rise = end.y - start.y;
        let slope = (end.x - start.x) / rise;
        for row in cell(bottom, self.rows)..=cell(top, self.rows) {
            let (mut low, mut high) = (left, right);
            // Level edges are entered over their whole width: their slope is lost in rounding.
            if rise.abs() > 1e-3 {
                let from = (to_float(row) - MARGIN).max(bottom);
                let to = (to_float(row + 1) + MARGIN).min(top);
                let (a, b) = (start.x + (from - start.y) * slope, start.x + (to - start.y) * slope);
                low = low.max(a.min(b) - MARGIN);
                high = high.min(a.max(b) + MARGIN);
            }
            visit(row, cell(low, self.columns)..=cell(high, self.columns));
        }
    }
}

/// Makes the index in passes over cells and edges.
struct Builder<'a> {
    area: &'a Area,
    raster: Raster,
    /// One cell a byte, [`UNKNOWN`] at first.
    cells: Vec<u8>,
    runs: Vec<Run>,
    pieces: Vec<Piece>,
}

/// Not looked at yet; no edge meets it.
const UNKNOWN: u8 = 3;

impl<'a> Builder<'a> {
    fn new(area: &'a Area, raster: Raster) -> Self {
        let cells = vec![UNKNOWN; raster.columns * raster.rows];
        Self { area, raster, cells, runs: vec![], pieces: vec![] }
    }

    /// Calls `visit` with the number of a chain, the number of an edge, a row and a range of columns.
    fn for_each_entry(&self, mut visit: impl FnMut(usize, usize, usize, std::ops::RangeInclusive<usize>)) {
        for (chain, points) in self.area.chains.iter().map(Chain::points).enumerate() {
            let mut start = self.raster.in_cells(points[0]);
            for (edge, end) in points[1..].iter().enumerate() {
                let end = self.raster.in_cells(*end);
                self.raster.cells_of_edge(start, end, |row, columns| visit(chain, edge, row, columns));
                start = end;
            }
        }
    }

    fn mark_cells(&mut self) {
        let mut cells = std::mem::take(&mut self.cells);
        let width = self.raster.columns;
        self.for_each_entry(|_, _, row, columns| {
            cells[row * width + columns.start()..=row * width + columns.end()].fill(RUN);
        });
        self.cells = cells;
    }

    /// Tells the cells without edges apart. `None` if a cell cannot be told.
    fn fill(&mut self) -> Option<()> {
        let width = self.raster.columns;
        for cell in 0..self.cells.len() {
            if self.cells[cell] == RUN {
                continue;
            }
            let (column, row) = (cell % width, cell / width);
            let left = column.checked_sub(1).map(|_| self.cells[cell - 1]);
            let below = row.checked_sub(1).map(|_| self.cells[cell - width]);
            self.cells[cell] = match (left, below) {
                (Some(known @ (INSIDE | OUTSIDE)), _) | (_, Some(known @ (INSIDE | OUTSIDE))) => known,
                _ => match self.area.locate(self.raster.middle(column, row)?) {
                    PointLocation::Inside => INSIDE,
                    PointLocation::Outside => OUTSIDE,
                    PointLocation::Boundary => return None,
                },
            };
        }
        Some(())
    }

    /// Forms the runs and gives each its edges. `None` if there are too many to be numbered.
    fn enter_edges(&mut self) -> Option<()> {
        let width = self.raster.columns;
        let mut run_of = vec![0u32; self.cells.len()];
        for (cell, run) in run_of.iter_mut().enumerate() {
            let continues = cell % width > 0 && self.cells[cell - 1] == RUN;
            if self.cells[cell] == RUN && !continues {
                self.runs.push(Run { first: number(cell)?, pieces: 0, test: RunTest::Search });
            }
            *run = number(self.runs.len())?.wrapping_sub(1);
        }
        number(self.area.chains.iter().map(|chain| chain.points().len()).max()?)?;
        number(self.area.chains.len())?;

        // Pieces in the order of edges, then sorted by run.
        let mut found: Vec<(u32, Piece)> = vec![];
        let mut last = vec![None::<usize>; self.runs.len()];
        #[expect(clippy::cast_possible_truncation, reason = "checked above")]
        self.for_each_entry(|chain, edge, row, columns| {
            let run = run_of[row * width + columns.start()];
            let (chain, edge) = (chain as u32, edge as u32);
            let place = &mut last[run as usize];
            if let Some((_, piece)) = place.map(|place| &mut found[place])
                && piece.chain == chain
                && piece.end == edge
            {
                piece.end += 1;
                return;
            }
            *place = Some(found.len());
            found.push((run, Piece { chain, first: edge, end: edge + 1 }));
        });
        number(found.len())?;
        found.sort_by_key(|(run, _)| *run);
        let mut at = 0;
        for (index, run) in self.runs.iter_mut().enumerate() {
            run.pieces = number(at)?;
            while found.get(at).is_some_and(|(owner, _)| *owner as usize == index) {
                at += 1;
            }
        }
        self.pieces = found.into_iter().map(|(_, piece)| piece).collect();
        Some(())
    }

    /// Decides how points of each run are located, and packs the cells.
    fn finish(mut self) -> Option<PointIndex> {
        let mut starts = vec![Starts::default(); self.cells.len().div_ceil(64)];
        for run in 0..self.runs.len() {
            self.runs[run].test = self.test_of(run)?;
            let first = self.runs[run].first as usize;
            starts[first / 64].bits |= 1 << (first % 64);
        }
        let mut before = 0;
        for place in &mut starts {
            place.before = before;
            before += place.bits.count_ones();
        }
        let pack = |four: &[u8]| four.iter().rev().fold(0, |byte, cell| byte << 2 | cell);
        Some(PointIndex {
            raster: self.raster,
            cells: self.cells.chunks(4).map(pack).collect(),
            starts,
            runs: self.runs,
            pieces: self.pieces,
        })
    }

    fn test_of(&self, run: usize) -> Option<RunTest> {
        let end = self.runs.get(run + 1).map_or(self.pieces.len(), |next| next.pieces as usize);
        let pieces = &self.pieces[self.runs[run].pieces as usize..end];
        let edges: usize = pieces.iter().map(|piece| (piece.end - piece.first) as usize).sum();
        let Some(chain) = pieces.first().map(|piece| piece.chain as usize) else {
            return Some(RunTest::Search);
        };
        let is_one = pieces.iter().all(|piece| piece.chain as usize == chain);
        if !is_one || edges > MAX_RUN_EDGES || self.area.chains[chain].role == ChainRole::Line {
            return Some(RunTest::Search);
        }
        let first = self.runs[run].first as usize;
        let (column, row) = (first % self.raster.columns, first / self.raster.columns);
        let start = first - column;
        let after = (column..self.raster.columns).find(|column| self.cells[start + column] != RUN);
        if self.area.chains.len() == 1 {
            let odd = after.is_some_and(|column| self.cells[start + column] == INSIDE);
            let (outside, boundary, inside) =
                (PointLocation::Outside, PointLocation::Boundary, PointLocation::Inside);
            return Some(RunTest::Ring { odd, outside, boundary, inside });
        }
        let odd = match after {
            None => false,
            Some(column) => {
                let right = self.raster.middle(column, row)?;
                self.area.chains[chain].locate_in_ring(right) == PointLocation::Inside
            }
        };
        // The other rings lie alike all over the run.
        let at = self.raster.middle(column, row)?;
        let [outside, boundary, inside] =
            [PointLocation::Outside, PointLocation::Boundary, PointLocation::Inside]
                .map(|location| self.area.locate_where(at, Some((chain, location))));
        Some(RunTest::Ring { odd, outside, boundary, inside })
    }
}

/// The rows that `bits` names.
#[inline]
pub(super) fn rows_of(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let row = (bits != 0).then(|| bits.trailing_zeros() as usize);
        bits &= bits.wrapping_sub(1);
        row
    })
}

/// `part` as a share of `whole`; 0 where that is 0.
fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

fn number(count: usize) -> Option<u32> {
    u32::try_from(count).ok()
}

#[expect(clippy::cast_precision_loss, reason = "counts of cells and vertices")]
fn to_float(count: usize) -> f64 {
    count as f64
}

/// The cell of a coordinate in units of cells; 0 below the first.
#[inline]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn to_cell(value: f64) -> usize {
    value as u32 as usize
}
