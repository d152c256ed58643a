//! The uniform grid over polygons.

use super::{Edge, IndexSize, Point, Polygon};

/// Cells are at most 2^19 units (0.052 degrees): measured best for national airspace, where a cell
/// then crosses a handful of borders.
const CELL_SHIFT_MAX: u32 = 19;
/// and at least 2^12 units (45 m): a city's zones need no finer ones.
const CELL_SHIFT_MIN: u32 = 12;
/// The least number of cells across the longer side for which cells are made smaller.
const CELLS_ACROSS_MIN: i64 = 256;
/// Most cells, 8 bytes each: a set that spans the Earth gets coarser cells, not more memory.
pub(super) const CELLS_MAX: i64 = 4_000_000;

/// High bit of a border entry's zone: the south-west corner of the cell is inside.
const CORNER_INSIDE: u32 = 1 << 31;

#[derive(Debug)]
pub(super) struct Grid {
    origin: Point,
    shift: u32,
    columns: u32,
    rows: u32,
    /// Per cell, where its lists begin; they end where the next cell's begin.
    cells: Vec<Lists>,
    /// Zones that cover a cell whole.
    inside: Vec<u32>,
    /// Zones whose border crosses a cell.
    border: Vec<Border>,
    edges: Vec<Edge>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Lists {
    inside: u32,
    border: u32,
}

#[derive(Debug, Clone, Copy)]
struct Border {
    /// The zone; [`CORNER_INSIDE`] beside it.
    zone: u32,
    /// Its edges in this cell begin here; they end where the next entry's begin.
    edges: u32,
}

/// What one polygon says of one cell, before cells are laid end to end.
struct Entry {
    cell: u32,
    zone: u32,
    /// Edges of the polygon that touch the cell, as a range of `Builder::edges`; empty: whole.
    edges: std::ops::Range<u32>,
}

impl Grid {
    pub(super) fn build(polygons: &[Polygon], cells_max: i64) -> Self {
        let Some((min, max)) = bounds(polygons) else {
            return Self {
                origin: Point { x: 0, y: 0 },
                shift: 0,
                columns: 0,
                rows: 0,
                cells: vec![Lists::default()],
                inside: Vec::new(),
                border: Vec::new(),
                edges: Vec::new(),
            };
        };
        let shift = cell_shift(min, max, cells_max);
        let columns = ((i64::from(max.x) - i64::from(min.x)) >> shift) as u32 + 1;
        let rows = ((i64::from(max.y) - i64::from(min.y)) >> shift) as u32 + 1;
        let mut builder =
            Builder { origin: min, shift, columns, entries: Vec::new(), edges: Vec::new() };
        for polygon in polygons {
            builder.add(polygon);
        }
        builder.finish(rows)
    }

    /// Calls `hit` for each polygon that holds the point and whose zone `wants` it.
    ///
    /// `wants` (the altitude) is asked before edges are walked: it is the cheaper of the two.
    #[inline]
    pub(super) fn visit(
        &self,
        point: Point,
        wants: impl Fn(u32) -> bool,
        mut hit: impl FnMut(u32),
    ) {
        let east = i64::from(point.x) - i64::from(self.origin.x);
        let north = i64::from(point.y) - i64::from(self.origin.y);
        // A negative distance becomes a huge column, so one comparison covers both sides.
        let (column, row) = ((east >> self.shift) as u64, (north >> self.shift) as u64);
        if column >= u64::from(self.columns) || row >= u64::from(self.rows) {
            return;
        }
        let cell = row as usize * self.columns as usize + column as usize;
        let (from, to) = (self.cells[cell], self.cells[cell + 1]);
        for zone in &self.inside[from.inside as usize..to.inside as usize] {
            if wants(*zone) {
                hit(*zone);
            }
        }
        let corner_x = i64::from(self.origin.x) + ((column as i64) << self.shift);
        let corner_y = i64::from(self.origin.y) + ((row as i64) << self.shift);
        for at in from.border as usize..to.border as usize {
            let (entry, next) = (self.border[at], self.border[at + 1]);
            let zone = entry.zone & !CORNER_INSIDE;
            if !wants(zone) {
                continue;
            }
            let edges = &self.edges[entry.edges as usize..next.edges as usize];
            let corner_inside = entry.zone & CORNER_INSIDE != 0;
            if walk(edges, corner_inside, corner_x, corner_y, point) {
                hit(zone);
            }
        }
    }

    pub(super) fn size(&self) -> IndexSize {
        IndexSize {
            cells: self.cells.len() - 1,
            inside_entries: self.inside.len(),
            border_entries: self.border.len().saturating_sub(1),
            edges: self.edges.len(),
            bytes: size_of_val(&self.cells[..])
                + size_of_val(&self.inside[..])
                + size_of_val(&self.border[..])
                + size_of_val(&self.edges[..]),
        }
    }
}

/// Whether the point is inside, known whether the corner is, by the crossings on the way north along
/// the cell's west side and then east to the point.
///
/// The corner stands for a point a hair `e` east and a hair `f` north of it, with `f` far greater
/// than `e`, so that the way never touches a vertex. All comparisons below follow from that: an edge
/// that meets the turn exactly lies east of it only if it leans east.
#[inline]
fn walk(edges: &[Edge], corner_inside: bool, corner_x: i64, corner_y: i64, point: Point) -> bool {
    let (x, y) = (i64::from(point.x), i64::from(point.y));
    let mut inside = corner_inside;
    for edge in edges {
        let (dx, dy) =
            (i64::from(edge.b.x) - i64::from(edge.a.x), i64::from(edge.b.y) - i64::from(edge.a.y));
        let rise = dx * (y - i64::from(edge.a.y));
        let run = dy * (x - i64::from(edge.a.x));
        if rise == run && edge.holds(point) {
            return true;
        }
        let run_at_corner = dy * (corner_x - i64::from(edge.a.x));
        if edge.straddles_x(corner_x) {
            let rise_at_corner = dx * (corner_y - i64::from(edge.a.y));
            // An edge is above a point if the point is east of it and it leans east, or west and west.
            let (above_corner, above_turn) = if dx > 0 {
                (rise_at_corner < run_at_corner, rise < run_at_corner)
            } else {
                (rise_at_corner > run_at_corner, rise > run_at_corner)
            };
            inside ^= above_corner && !above_turn;
        }
        if edge.straddles_y(y) {
            let east_of_turn = rise > run_at_corner || (rise == run_at_corner && dx > 0);
            inside ^= east_of_turn && rise <= run;
        }
    }
    inside
}

fn bounds(polygons: &[Polygon]) -> Option<(Point, Point)> {
    polygons.iter().map(|polygon| (polygon.min, polygon.max)).reduce(|(min, max), (low, high)| {
        (
            Point { x: min.x.min(low.x), y: min.y.min(low.y) },
            Point { x: max.x.max(high.x), y: max.y.max(high.y) },
        )
    })
}

fn cell_shift(min: Point, max: Point, cells_max: i64) -> u32 {
    let width = i64::from(max.x) - i64::from(min.x);
    let height = i64::from(max.y) - i64::from(min.y);
    let mut shift = CELL_SHIFT_MAX;
    while shift > CELL_SHIFT_MIN && (width.max(height) >> shift) < CELLS_ACROSS_MIN {
        shift -= 1;
    }
    while ((width >> shift) + 1) * ((height >> shift) + 1) > cells_max {
        shift += 1;
    }
    shift
}

struct Builder {
    origin: Point,
    shift: u32,
    columns: u32,
    entries: Vec<Entry>,
    edges: Vec<Edge>,
}

impl Builder {
    fn add(&mut self, polygon: &Polygon) {
        let mut touched: Vec<(u32, Edge)> = Vec::new();
        for edge in &polygon.edges {
            self.rasterise(*edge, &mut touched);
        }
        touched.sort_unstable();
        let columns = self.column(polygon.min.x)..self.column(polygon.max.x) + 1;
        let mut at = 0;
        for row in self.row(polygon.min.y)..=self.row(polygon.max.y) {
            let corners = self.corners_inside(polygon, row, columns.clone());
            for (column, corner_inside) in columns.clone().zip(corners) {
                let cell = row * self.columns + column;
                let start = self.edges.len() as u32;
                while let Some((_, edge)) = touched.get(at).filter(|(other, _)| *other == cell) {
                    self.edges.push(*edge);
                    at += 1;
                }
                let edges = start..self.edges.len() as u32;
                let flag = if corner_inside && !edges.is_empty() { CORNER_INSIDE } else { 0 };
                if corner_inside || !edges.is_empty() {
                    self.entries.push(Entry { cell, zone: polygon.zone | flag, edges });
                }
            }
        }
        assert!(at == touched.len(), "an edge lies outside its polygon's cells");
    }

    /// Lists every cell that the edge touches; a cell too many on either side does no harm.
    fn rasterise(&self, edge: Edge, touched: &mut Vec<(u32, Edge)>) {
        let (west, east) = (edge.a.x.min(edge.b.x), edge.a.x.max(edge.b.x));
        let (dx, dy) = (
            i128::from(edge.b.x) - i128::from(edge.a.x),
            i128::from(edge.b.y) - i128::from(edge.a.y),
        );
        let x_at = |y: i64| -> i32 {
            if dy == 0 {
                return edge.a.x;
            }
            let x =
                i128::from(edge.a.x) + (dx * (i128::from(y) - i128::from(edge.a.y))).div_euclid(dy);
            x.clamp(i128::from(west), i128::from(east)) as i32
        };
        for row in self.row(edge.a.y)..=self.row(edge.b.y) {
            let south = i64::from(self.origin.y) + (i64::from(row) << self.shift);
            let north = south + (1 << self.shift);
            let (from, to) = if dy == 0 {
                (west, east)
            } else {
                let (p, q) = (x_at(south), x_at(north));
                (p.min(q), p.max(q))
            };
            // `x_at` rounds down; cells begin at whole units, so the column is the right one all the same.
            for column in self.column(from.max(west))..=self.column(to) {
                touched.push((row * self.columns + column, edge));
            }
        }
    }

    /// For each column, whether the south-west corner of the cell in this row is inside, by the same
    /// rule as `walk`: the corner stands for a point a hair east and far more than that north.
    fn corners_inside(
        &self,
        polygon: &Polygon,
        row: u32,
        columns: std::ops::Range<u32>,
    ) -> Vec<bool> {
        let y = i64::from(self.origin.y) + (i64::from(row) << self.shift);
        let mut crossings = vec![false; columns.len() + 1];
        for edge in polygon.edges.iter().filter(|edge| edge.straddles_y(y)) {
            let west_of = self.corners_west_of(*edge, y);
            let at =
                west_of.saturating_sub(i128::from(columns.start)).clamp(0, columns.len() as i128);
            crossings[at as usize] ^= true;
        }
        // A crossing with k corners to its west lies east of the corners 0..k.
        let mut inside = false;
        let mut corners = vec![false; columns.len()];
        for column in (0..columns.len()).rev() {
            inside ^= crossings[column + 1];
            corners[column] = inside;
        }
        corners
    }

    /// How many corners of the row at `y`, counted from the grid's west, lie west of the edge.
    fn corners_west_of(&self, edge: Edge, y: i64) -> i128 {
        let (ax, ay) = (i128::from(edge.a.x), i128::from(edge.a.y));
        let (dx, dy) = (i128::from(edge.b.x) - ax, i128::from(edge.b.y) - ay);
        let numerator = (ax - i128::from(self.origin.x)) * dy + dx * (i128::from(y) - ay);
        let denominator = dy << self.shift;
        // Corner i lies west if i < numerator / denominator, or equal and the edge leans east.
        let floor = numerator.div_euclid(denominator);
        let exact = numerator.rem_euclid(denominator) == 0;
        if exact && dx <= 0 {
            floor
        } else {
            floor + 1
        }
    }

    fn column(&self, x: i32) -> u32 {
        ((i64::from(x) - i64::from(self.origin.x)) >> self.shift) as u32
    }

    fn row(&self, y: i32) -> u32 {
        ((i64::from(y) - i64::from(self.origin.y)) >> self.shift) as u32
    }

    fn finish(mut self, rows: u32) -> Grid {
        // Stable, so that zones stay in order within a cell.
        self.entries.sort_by_key(|entry| entry.cell);
        let cell_count = rows as usize * self.columns as usize;
        let mut grid = Grid {
            origin: self.origin,
            shift: self.shift,
            columns: self.columns,
            rows,
            cells: Vec::with_capacity(cell_count + 1),
            inside: Vec::new(),
            border: Vec::new(),
            edges: Vec::with_capacity(self.edges.len()),
        };
        let mut entries = self.entries.iter().peekable();
        for cell in 0..cell_count as u32 {
            grid.cells
                .push(Lists { inside: grid.inside.len() as u32, border: grid.border.len() as u32 });
            while let Some(entry) = entries.next_if(|entry| entry.cell == cell) {
                if entry.edges.is_empty() {
                    grid.inside.push(entry.zone);
                } else {
                    grid.border.push(Border { zone: entry.zone, edges: grid.edges.len() as u32 });
                    let range = entry.edges.start as usize..entry.edges.end as usize;
                    grid.edges.extend_from_slice(&self.edges[range]);
                }
            }
        }
        grid.cells
            .push(Lists { inside: grid.inside.len() as u32, border: grid.border.len() as u32 });
        grid.border.push(Border { zone: 0, edges: grid.edges.len() as u32 });
        grid
    }
}
