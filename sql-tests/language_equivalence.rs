//! Random filters in the ODP language over columns of every type that it compares: a selection holds the rows that an
//! evaluator of three-valued logic, which knows nothing of DataFusion, finds.
//!
//! `ODP_LANGUAGE_CASES` sets the number of filters per dataset; a failure prints the seed and the filter.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Float64Array,
    Int8Array, Int64Array, LargeStringArray, RecordBatch, StringArray, StringViewArray,
    Time64MicrosecondArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
    UInt32Array, UInt64Array,
};
use datafusion::arrow::datatypes::Int32Type;
use datafusion_odp::{BatchTicket, BatchUnit, FilterVariables, OdpTableProvider};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

use crate::fixtures::{Result, random_properties, session, write_with};
use crate::selection::{ids, random_session, read, text};

/// Of exact numbers one is so many units: four decimal places.
const UNIT: i128 = 10_000;

const NANOS: i128 = 1_000_000_000;

/// What an expression is in a row.
#[derive(Debug, Clone, PartialEq)]
enum Known {
    Null,
    Boolean(bool),
    /// Whole numbers and decimals, in units.
    Exact(i128),
    Double(f64),
    Text(String),
    /// Nanoseconds since 1970.
    Instant(i128),
    /// Nanoseconds since midnight.
    Clock(i128),
}

impl Known {
    fn of<T>(value: Option<T>, known: impl Fn(T) -> Self) -> Self {
        value.map_or(Self::Null, known)
    }

    fn double(&self) -> Option<f64> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "the nearest double is wanted")]
            Self::Exact(units) if units % UNIT == 0 => Some((units / UNIT) as f64),
            #[expect(clippy::cast_precision_loss, reason = "few digits")]
            Self::Exact(units) => Some(*units as f64 / UNIT as f64),
            Self::Double(double) => Some(*double),
            _ => None,
        }
    }
}

type Row = BTreeMap<&'static str, Known>;

/// Columns by family; those of one are compared with each other.
const EXACT: [&str; 6] = ["n", "u", "b", "w", "d", "k"];
const DOUBLE: [&str; 2] = ["f", "g"];
const TEXT: [&str; 4] = ["s", "v", "l", "y"];
const INSTANT: [&str; 4] = ["t", "z", "o", "day"];

fn pick<T: Clone>(random: &mut StdRng, from: &[T]) -> T {
    from[random.random_range(0..from.len())].clone()
}

fn some<T>(random: &mut StdRng, value: T) -> Option<T> {
    random.random_bool(0.88).then_some(value)
}

/// Rows of one file, as Arrow and as the evaluator has them.
#[expect(clippy::cast_possible_truncation, reason = "the nearest is wanted")]
fn file(first: i64, rows: usize, random: &mut StdRng) -> Result<(RecordBatch, Vec<Row>)> {
    let center: i64 = random.random_range(-6..7);
    let is_constant = random.random_bool(0.2);
    let ends = random.random_bool(0.3);
    let near = |random: &mut StdRng| match is_constant {
        true => center,
        false => center + random.random_range(-3..4),
    };
    macro_rules! column {
        ($value:expr) => {{
            let mut values = Vec::with_capacity(rows);
            for _ in 0..rows {
                let value = $value(&mut *random);
                values.push(some(random, value));
            }
            values
        }};
    }
    let n = column!(|random: &mut StdRng| match random.random_range(0..12) {
        0 if ends => i64::MIN,
        1 if ends => i64::MAX,
        2 if ends => (1 << 53) + 1,
        _ => near(random),
    });
    let u = column!(|random: &mut StdRng| match random.random_range(0..12) {
        0 if ends => u64::MAX,
        1 if ends => 1u64 << 63,
        _ => near(random).unsigned_abs(),
    });
    let b = column!(|random: &mut StdRng| match random.random_range(0..12) {
        0 if ends => i8::MIN,
        1 if ends => i8::MAX,
        _ => near(random) as i8,
    });
    let w = column!(|random: &mut StdRng| match random.random_range(0..12) {
        0 if ends => u32::MAX,
        _ => near(random).unsigned_abs() as u32,
    });
    // Hundredths, and whole numbers of twenty digits.
    let d = column!(|random: &mut StdRng| i128::from(near(random)) * 100 + random.random_range(-2..3) * 25);
    let k = column!(|random: &mut StdRng| match random.random_range(0..12) {
        0 if ends => 10i128.pow(20) - 1,
        _ => i128::from(near(random)),
    });
    let f = column!(|random: &mut StdRng| match random.random_range(0..14) {
        0 if ends => f64::NAN,
        1 if ends => -f64::NAN,
        2 if ends => f64::INFINITY,
        3 if ends => f64::NEG_INFINITY,
        4 => -0.0,
        5 => near(random) as f64 + 0.1,
        _ => near(random) as f64,
    });
    let g = column!(|random: &mut StdRng| match random.random_range(0..10) {
        0 if ends => f32::NAN,
        1 => -0.0,
        2 => near(random) as f32 + 0.1,
        _ => near(random) as f32,
    });
    let word = |random: &mut StdRng| match random.random_range(0..8) {
        0 => String::new(),
        1 => "zz".repeat(40),
        _ => format!("{}{}", pick(random, &["a", "b", "ø", "'"]), near(random)),
    };
    let (s, v, l, y) = (column!(word), column!(word), column!(word), column!(word));
    let flag = column!(|random: &mut StdRng| random.random_bool(if is_constant { 1.0 } else { 0.5 }));
    // About noon of a day in 2024, or before 1970.
    let second = |random: &mut StdRng| match random.random_range(0..8) {
        0 if ends => -1,
        _ => 1_704_067_200 + near(random) * 43_200,
    };
    let t = column!(|random: &mut StdRng| second(random) * 1_000_000 + random.random_range(-1..2));
    let z = column!(|random: &mut StdRng| second(random) * 1_000_000_000 + random.random_range(-1..2));
    let o = column!(|random: &mut StdRng| second(random) * 1000 + random.random_range(-1..2));
    let day = column!(|random: &mut StdRng| 19_723 + near(random) as i32);
    let clock =
        column!(|random: &mut StdRng| (near(random) + 20) * 1_800_000_000 + random.random_range(-1..2));

    let mut known = Vec::with_capacity(rows);
    for i in 0..rows {
        let exact = |value: i128| Known::Exact(value * UNIT);
        known.push(Row::from([
            ("n", Known::of(n[i], |value| exact(value.into()))),
            ("u", Known::of(u[i], |value| exact(value.into()))),
            ("b", Known::of(b[i], |value| exact(value.into()))),
            ("w", Known::of(w[i], |value| exact(value.into()))),
            ("d", Known::of(d[i], |value| Known::Exact(value * 100))),
            ("k", Known::of(k[i], exact)),
            ("f", Known::of(f[i], Known::Double)),
            ("g", Known::of(g[i], |value| Known::Double(value.into()))),
            ("s", Known::of(s[i].clone(), Known::Text)),
            ("v", Known::of(v[i].clone(), Known::Text)),
            ("l", Known::of(l[i].clone(), Known::Text)),
            ("y", Known::of(y[i].clone(), Known::Text)),
            ("flag", Known::of(flag[i], Known::Boolean)),
            ("t", Known::of(t[i], |value| Known::Instant(i128::from(value) * 1000))),
            ("z", Known::of(z[i], |value| Known::Instant(value.into()))),
            ("o", Known::of(o[i], |value| Known::Instant(i128::from(value) * 1_000_000))),
            ("day", Known::of(day[i], |value| Known::Instant(i128::from(value) * 86_400 * NANOS))),
            ("clock", Known::of(clock[i], |value| Known::Clock(i128::from(value) * 1000))),
        ]));
    }
    let dictionary: DictionaryArray<Int32Type> = y.iter().map(|value| value.as_deref()).collect();
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int64Array::from_iter_values((first..).take(rows))) as ArrayRef, false),
        ("n", Arc::new(Int64Array::from(n)), true),
        ("u", Arc::new(UInt64Array::from(u)), true),
        ("b", Arc::new(Int8Array::from(b)), true),
        ("w", Arc::new(UInt32Array::from(w)), true),
        ("d", Arc::new(Decimal128Array::from(d).with_precision_and_scale(10, 2)?), true),
        ("k", Arc::new(Decimal128Array::from(k).with_precision_and_scale(20, 0)?), true),
        ("f", Arc::new(Float64Array::from(f)), true),
        ("g", Arc::new(Float32Array::from(g)), true),
        ("s", Arc::new(StringArray::from(s)), true),
        ("v", Arc::new(StringViewArray::from_iter(v)), true),
        ("l", Arc::new(LargeStringArray::from(l)), true),
        ("y", Arc::new(dictionary), true),
        ("flag", Arc::new(BooleanArray::from(flag)), true),
        ("t", Arc::new(TimestampMicrosecondArray::from(t)), true),
        ("z", Arc::new(TimestampNanosecondArray::from(z).with_timezone("UTC")), true),
        ("o", Arc::new(TimestampMillisecondArray::from(o).with_timezone("+02:00")), true),
        ("day", Arc::new(Date32Array::from(day)), true),
        ("clock", Arc::new(Time64MicrosecondArray::from(clock)), true),
    ])?;
    Ok((batch, known))
}

#[derive(Debug, Clone)]
enum Node {
    Column(&'static str),
    /// As it is written, and what it is.
    Constant(String, Known),
    Compare(Box<Self>, &'static str, Box<Self>),
    Arithmetic(Box<Self>, char, Box<Self>),
    IsNull(Box<Self>, bool),
    Not(Box<Self>),
    /// `and` if true.
    Chain(Vec<Self>, bool),
}

/// A filter in the making.
struct Maker<'a> {
    random: &'a mut StdRng,
    named: Map<String, Value>,
}

impl Maker<'_> {
    fn number(&mut self) -> Node {
        let random = &mut *self.random;
        let (written, units): (String, i128) = match random.random_range(0..26) {
            0 => ("9223372036854775807".into(), i128::from(i64::MAX) * UNIT),
            1 => ("9223372036854775808".into(), (i128::from(i64::MAX) + 1) * UNIT),
            2 => ("-9223372036854775808".into(), i128::from(i64::MIN) * UNIT),
            3 => ("-9223372036854775808.5".into(), i128::from(i64::MIN) * UNIT - UNIT / 2),
            4 => ("18446744073709551615".into(), i128::from(u64::MAX) * UNIT),
            5 => ("18446744073709551615.5".into(), i128::from(u64::MAX) * UNIT + UNIT / 2),
            6 => ("9007199254740993".into(), ((1 << 53) + 1) * UNIT),
            7 => ("1e25".into(), 10i128.pow(25) * UNIT),
            8 => ("-1e25".into(), -10i128.pow(25) * UNIT),
            9 => ("0.005".into(), 50),
            10 => ("-0.0".into(), 0),
            11 => ("127.5".into(), 127 * UNIT + UNIT / 2),
            12 => ("0.1".into(), 1000),
            13..16 => {
                let whole = random.random_range(-8..9);
                (
                    format!("{whole}.25"),
                    if whole < 0 { whole * UNIT - UNIT / 4 } else { whole * UNIT + UNIT / 4 },
                )
            }
            _ => {
                let whole = random.random_range(-8..9);
                (whole.to_string(), whole * UNIT)
            }
        };
        let is_small = units.abs() < 100 * UNIT;
        if is_small && random.random_bool(0.2) {
            let name = format!("v{}", self.named.len());
            let double: f64 = written.parse().unwrap_or_default();
            let value = match units % UNIT == 0 && !written.contains('.') {
                true => json!({ "type": "integer", "value": units / UNIT }),
                false => json!(double),
            };
            self.named.insert(name.clone(), value);
            return Node::Constant(format!("${name}"), Known::Exact(units));
        }
        Node::Constant(written, Known::Exact(units))
    }

    fn word(&mut self) -> Node {
        let word = match self.random.random_range(0..8) {
            0 => String::new(),
            1 => "zz".repeat(self.random.random_range(39..42)),
            _ => format!("{}{}", pick(self.random, &["a", "b", "ø", "'"]), self.random.random_range(-8..9)),
        };
        if self.random.random_bool(0.3) {
            let name = format!("v{}", self.named.len());
            self.named.insert(name.clone(), json!(word));
            return Node::Constant(format!("${name}"), Known::Text(word));
        }
        Node::Constant(json!(word).to_string(), Known::Text(word))
    }

    fn instant(&mut self) -> Node {
        let halves = self.random.random_range(-10..11i64);
        let (seconds, fraction) =
            (1_704_067_200 + halves * 43_200, pick(self.random, &["", ".000001", ".0000005"]));
        let nanos = match fraction {
            "" => 0,
            ".000001" => 1000,
            _ => 500,
        };
        // Of December.
        let day = (seconds.div_euclid(86_400) - 19_723) + 32;
        let hour = seconds.rem_euclid(86_400) / 3600;
        let date = match day {
            ..=31 => format!("2023-12-{day:02}"),
            _ => format!("2024-01-{:02}", day - 31),
        };
        let (date, hour, zone) = match self.random.random_range(0..3) {
            0 => (date, hour, "Z"),
            // Of the same day.
            1 => (date, hour + 1, "+01:00"),
            _ => (date, hour, ""),
        };
        let written = format!("{date}T{hour:02}:00:00{fraction}{zone}");
        let known = Known::Instant(i128::from(seconds) * NANOS + nanos);
        if self.random.random_bool(0.5) {
            let name = format!("v{}", self.named.len());
            self.named.insert(name.clone(), json!({ "type": "datetime", "value": written }));
            return Node::Constant(format!("${name}"), known);
        }
        Node::Constant(format!("'{written}'"), known)
    }

    fn clock(&mut self) -> Node {
        let halves = self.random.random_range(10..32i128);
        let written = format!("'{:02}:{:02}:00'", halves / 2, halves % 2 * 30);
        Node::Constant(written, Known::Clock(halves * 1800 * NANOS))
    }

    fn comparison(&mut self) -> Node {
        let column = |name: &'static str| Node::Column(name);
        let is_constant = self.random.random_bool(0.75);
        let (left, right) = match self.random.random_range(0..11) {
            0..4 => {
                let left = column(pick(self.random, &EXACT));
                let right = match self.random.random_range(0..2) {
                    _ if is_constant => self.number(),
                    0 => column(pick(self.random, &EXACT)),
                    _ => column(pick(self.random, &DOUBLE)),
                };
                (left, right)
            }
            4..6 => {
                let left = column(pick(self.random, &DOUBLE));
                (left, if is_constant { self.number() } else { column(pick(self.random, &DOUBLE)) })
            }
            6 => self.arithmetic(),
            7..9 => {
                let left = column(pick(self.random, &TEXT));
                (left, if is_constant { self.word() } else { column(pick(self.random, &TEXT)) })
            }
            9 => {
                let left = column(pick(self.random, &INSTANT));
                (left, if is_constant { self.instant() } else { column(pick(self.random, &INSTANT)) })
            }
            _ => (column("clock"), self.clock()),
        };
        let operator = pick(self.random, &["==", "=", "!=", "<", "<=", ">", ">="]);
        match self.random.random_bool(0.2) {
            true => Node::Compare(Box::new(right), operator, Box::new(left)),
            false => Node::Compare(Box::new(left), operator, Box::new(right)),
        }
    }

    fn arithmetic(&mut self) -> (Node, Node) {
        let column = |name: &'static str| Box::new(Node::Column(name));
        let whole = |random: &mut StdRng| {
            let whole: i128 = random.random_range(0..5);
            Box::new(Node::Constant(whole.to_string(), Known::Exact(whole * UNIT)))
        };
        let random = &mut *self.random;
        let left = column(pick(random, &["n", "b", "w", "d", "k", "f", "u"]));
        let operator = pick(random, &['+', '-', '*', '/', '%']);
        let right = if random.random_bool(0.6) { whole(random) } else { column(pick(random, &["b", "w"])) };
        (Node::Arithmetic(left, operator, right), self.number())
    }

    fn filter(&mut self, depth: u32) -> Node {
        if depth == 0 || self.random.random_bool(0.3) {
            return match self.random.random_range(0..12) {
                0 => Node::Column("flag"),
                1 => {
                    let named = [EXACT.as_slice(), &DOUBLE, &TEXT, &INSTANT, &["flag", "clock"]].concat();
                    Node::IsNull(
                        Box::new(Node::Column(pick(self.random, &named))),
                        self.random.random_bool(0.5),
                    )
                }
                2 => Node::IsNull(Box::new(self.comparison()), self.random.random_bool(0.5)),
                3 => self.list(),
                _ => self.comparison(),
            };
        }
        match self.random.random_range(0..5) {
            0 => Node::Not(Box::new(self.filter(depth - 1))),
            kind => {
                let count = self.random.random_range(2..4);
                Node::Chain((0..count).map(|_| self.filter(depth - 1)).collect(), kind < 3)
            }
        }
    }

    /// One of many values, or none of them.
    fn list(&mut self) -> Node {
        let count = pick(self.random, &[2, 5, 30]);
        let kind = self.random.random_range(0..3);
        let column = match kind {
            0 => pick(self.random, &EXACT),
            1 => pick(self.random, &DOUBLE),
            _ => pick(self.random, &TEXT),
        };
        let is_negated = self.random.random_bool(0.3);
        let operator = if is_negated { "!=" } else { "==" };
        let parts = (0..count).map(|_| {
            let value = if kind < 2 { self.number() } else { self.word() };
            Node::Compare(Box::new(Node::Column(column)), operator, Box::new(value))
        });
        Node::Chain(parts.collect(), is_negated)
    }
}

impl Node {
    fn written(&self) -> String {
        match self {
            Self::Column(name) => (*name).to_owned(),
            Self::Constant(written, _) => written.clone(),
            Self::Compare(left, operator, right) => {
                format!("{} {operator} {}", left.operand(), right.operand())
            }
            Self::Arithmetic(left, operator, right) => {
                format!("{} {operator} {}", left.operand(), right.operand())
            }
            Self::IsNull(inner, is_null) => {
                format!("{} is {}null", inner.operand(), if *is_null { "" } else { "not " })
            }
            Self::Not(inner) => format!("not ({})", inner.written()),
            Self::Chain(parts, is_and) => {
                let parts: Vec<String> = parts.iter().map(Self::operand).collect();
                parts.join(if *is_and { " and " } else { " or " })
            }
        }
    }

    fn operand(&self) -> String {
        match self {
            Self::Column(_) | Self::Constant(..) => self.written(),
            _ => format!("({})", self.written()),
        }
    }

    fn known(&self, row: &Row) -> Known {
        match self {
            Self::Column(name) => row[name].clone(),
            Self::Constant(_, known) => known.clone(),
            Self::Compare(left, operator, right) => compared(&left.known(row), operator, &right.known(row)),
            Self::Arithmetic(left, operator, right) => {
                calculated(&left.known(row), *operator, &right.known(row))
            }
            Self::IsNull(inner, is_null) => Known::Boolean((inner.known(row) == Known::Null) == *is_null),
            Self::Not(inner) => match inner.known(row) {
                Known::Boolean(value) => Known::Boolean(!value),
                _ => Known::Null,
            },
            Self::Chain(parts, is_and) => {
                let parts: Vec<Known> = parts.iter().map(|part| part.known(row)).collect();
                match (parts.contains(&Known::Boolean(!is_and)), parts.contains(&Known::Null)) {
                    (true, _) => Known::Boolean(!is_and),
                    (false, true) => Known::Null,
                    (false, false) => Known::Boolean(*is_and),
                }
            }
        }
    }
}

fn compared(left: &Known, operator: &str, right: &Known) -> Known {
    let ordering = match (left, right) {
        (Known::Null, _) | (_, Known::Null) => return Known::Null,
        (Known::Exact(a), Known::Exact(b)) | (Known::Instant(a), Known::Instant(b)) => Some(a.cmp(b)),
        (Known::Clock(a), Known::Clock(b)) => Some(a.cmp(b)),
        (Known::Text(a), Known::Text(b)) => Some(a.cmp(b)),
        (Known::Boolean(a), Known::Boolean(b)) => Some(a.cmp(b)),
        (a, b) => match (a.double(), b.double()) {
            (Some(a), Some(b)) => a.partial_cmp(&b),
            _ => None,
        },
    };
    Known::Boolean(match operator {
        "==" | "=" => ordering == Some(Ordering::Equal),
        "!=" => ordering != Some(Ordering::Equal),
        "<" => ordering == Some(Ordering::Less),
        "<=" => matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
        ">" => ordering == Some(Ordering::Greater),
        _ => matches!(ordering, Some(Ordering::Greater | Ordering::Equal)),
    })
}

fn calculated(left: &Known, operator: char, right: &Known) -> Known {
    match (left, right) {
        (Known::Null, _) | (_, Known::Null) => Known::Null,
        (Known::Exact(a), Known::Exact(b)) if operator != '/' => match operator {
            '+' => Known::Exact(a + b),
            '-' => Known::Exact(a - b),
            '*' => Known::Exact(a * (b / UNIT)),
            _ if *b == 0 => Known::Null,
            _ => Known::Exact(a % b),
        },
        (a, b) => match (a.double(), b.double()) {
            (Some(a), Some(b)) => match operator {
                '+' => Known::Double(a + b),
                '-' => Known::Double(a - b),
                '*' => Known::Double(a * b),
                '/' => Known::Double(a / b),
                _ if b == 0.0 => Known::Null,
                _ => Known::Double(a % b),
            },
            _ => Known::Null,
        },
    }
}

/// Batches that were skipped, counts of rows that were known, and rows found.
async fn compare(seed: u64, cases: usize) -> Result<[usize; 3]> {
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir()?;
    let mut rows: Vec<Row> = vec![];
    for index in 0..random.random_range(2..5) {
        let count = random.random_range(1..30);
        let (batch, known) = file(i64::try_from(rows.len())?, count, &mut random)?;
        write_with(&dir.path().join(format!("f{index}.parquet")), &batch, random_properties(&mut random))?;
        rows.extend(known);
    }
    let elsewhere = session(2, &[])?;
    let [mut skipped, mut proven, mut matched] = [0; 3];
    let mut ctx = random_session(&mut random)?;
    let mut opened = None;
    for case in 0..cases {
        if case % 8 == 0 {
            ctx = random_session(&mut random)?;
            let unit = pick(&mut random, &[BatchUnit::RowGroup, BatchUnit::RowGroup, BatchUnit::Rows(7)]);
            let table = OdpTableProvider::builder(text(dir.path())?).with_batch_unit(unit).open(&ctx).await?;
            let table = Arc::new(table);
            ctx.register_table("t", Arc::clone(&table) as _)?;
            opened = Some(table);
        }
        let Some(table) = &opened else { continue };
        let depth = pick(&mut random, &[0, 0, 1, 2, 3]);
        let mut maker = Maker { random: &mut random, named: Map::new() };
        let filter = maker.filter(depth);
        let (written, variables) = (filter.written(), Value::Object(maker.named).to_string());
        let name = format!("seed {seed}, case {case}: {written} with {variables}");
        let expected: Vec<i64> = (0..)
            .zip(&rows)
            .filter(|(_, row)| filter.known(row) == Known::Boolean(true))
            .map(|(id, _)| id)
            .collect();
        let found = async {
            let variables = FilterVariables::from_json(&variables)?;
            let selection =
                table.select(&written).with_variables(variables).columns(["id"]).plan(&ctx).await?;
            let mut one_by_one = vec![];
            for batch in selection.batches() {
                let found = ids(&read(selection.batch(batch.position).await?).await?);
                let count = found.len() as u64;
                assert!(batch.rows.min <= count && count <= batch.rows.max, "{name}: {count} of {batch:?}");
                if case % 4 == 0 {
                    let ticket: BatchTicket = selection.ticket(batch.position)?.to_string().parse()?;
                    assert_eq!(ids(&read(ticket.open(&elsewhere).await?).await?), found, "{name}: ticket");
                }
                proven += usize::from(batch.rows.is_exact());
                one_by_one.extend(found);
            }
            skipped += selection.total_batches() - selection.batch_count();
            let ordered = ids(&read(selection.execute().await?).await?);
            Result::<_>::Ok((one_by_one, ordered))
        };
        let (one_by_one, ordered) = found.await.map_err(|error| format!("{name}: {error}"))?;
        let differs = (0..).zip(&rows).find(|(id, _)| one_by_one.contains(id) != expected.contains(id));
        assert_eq!(one_by_one, expected, "{name}: batch by batch; the first that differs: {differs:?}");
        assert_eq!(ordered, expected, "{name}: execute");
        let quoted = |text: &str| text.replace('\'', "''");
        let sql = format!(
            "SELECT id FROM odp_select('t', '{}', '{}') ORDER BY id",
            quoted(&written),
            quoted(&variables)
        );
        let in_sql = ctx.sql(&sql).await?.collect().await.map_err(|error| format!("{name}: {error}"))?;
        assert_eq!(ids(&in_sql), expected, "{name}: odp_select");
        matched += expected.len();
    }
    Ok([skipped, proven, matched])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_filters_in_the_language_find_the_rows_of_three_valued_logic() -> Result<()> {
    let cases = std::env::var("ODP_LANGUAGE_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(15);
    let first: u64 = std::env::var("ODP_LANGUAGE_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut sums = [0; 3];
    for seed in first..first + 10 {
        for (sum, more) in sums.iter_mut().zip(compare(seed, cases).await?) {
            *sum += more;
        }
    }
    assert!(sums.iter().all(|sum| *sum > 15), "{sums:?}: batches skipped, counts proven, rows found");
    Ok(())
}
