//! Small numbers as Parquet has them in pages, of as many bits as the largest needs: runs of one, and groups of eight.

use parquet::errors::{ParquetError, Result};

/// Bits of a number, at most.
const MOST_BITS: u8 = 32;

const GROUP: usize = 8;

/// Numbers of a page that were not read yet.
#[derive(Debug, Default)]
pub(super) struct CodeRuns {
    /// Of a number.
    bits: u8,
    /// Where in the page the run after this one begins.
    next: usize,
    run: Run,
}

#[derive(Debug)]
enum Run {
    Repeated {
        code: u32,
        left: usize,
    },
    /// Groups from a place in the page on; of their numbers so many were read, of so many.
    Packed {
        start: usize,
        read: usize,
        all: usize,
    },
}

impl Default for Run {
    fn default() -> Self {
        Self::Repeated { code: 0, left: 0 }
    }
}

impl CodeRuns {
    /// Of a page that has them from `start` on, behind how many bits they have.
    ///
    /// # Errors
    /// If the page ends before, or they have too many.
    pub(super) fn try_new(page: &[u8], start: usize) -> Result<Self> {
        match page.get(start) {
            Some(&bits) if bits <= MOST_BITS => Ok(Self { bits, next: start + 1, run: Run::default() }),
            _ => Err(invalid("does not say how many bits its codes have")),
        }
    }

    /// Appends the next `count` of `page`, which is that of before, to `codes`.
    ///
    /// # Errors
    /// If it has fewer.
    pub(super) fn append(&mut self, page: &[u8], count: usize, codes: &mut Vec<u32>) -> Result<()> {
        let mut missing = count;
        while missing > 0 {
            missing -= match &mut self.run {
                Run::Repeated { left: 0, .. } => {
                    self.run = self.next_run(page)?;
                    0
                }
                Run::Repeated { code, left } => {
                    let taken = missing.min(*left);
                    codes.resize(codes.len() + taken, *code);
                    *left -= taken;
                    taken
                }
                Run::Packed { read, all, .. } if read == all => {
                    self.run = self.next_run(page)?;
                    0
                }
                Run::Packed { start, read, all } => {
                    let taken = missing.min(*all - *read);
                    append_packed(&page[*start..], self.bits, *read, taken, codes);
                    *read += taken;
                    taken
                }
            };
        }
        Ok(())
    }

    fn next_run(&mut self, page: &[u8]) -> Result<Run> {
        let cut = || invalid("ends within its codes");
        let bits = usize::from(self.bits);
        let rest = page.get(self.next..).ok_or_else(cut)?;
        let (header, body) = varint(rest).ok_or_else(cut)?;
        let length = usize::try_from(u32::try_from(header)? >> 1)?;
        if length == 0 {
            return Err(invalid("has an empty run of codes"));
        }
        let start = page.len() - body.len();
        let (run, bytes) = match header & 1 {
            0 => {
                let bytes = bits.div_ceil(8);
                let stored = body.get(..bytes).ok_or_else(cut)?;
                let code = stored.iter().rev().fold(0, |code, &byte| code << 8 | u32::from(byte));
                (Run::Repeated { code, left: length }, bytes)
            }
            _ => {
                let (all, bytes) = (length.saturating_mul(GROUP), length.saturating_mul(bits));
                // Some writers cut the last group behind its last number.
                let there = (8 * body.len()).checked_div(bits).unwrap_or(all);
                (Run::Packed { start, read: 0, all: all.min(there) }, bytes.min(body.len()))
            }
        };
        self.next = start + bytes;
        Ok(run)
    }
}

/// Appends `count` numbers of `bits` from the one at `first` on. There may be more behind them.
fn append_packed(mut packed: &[u8], bits: u8, first: usize, count: usize, codes: &mut Vec<u32>) {
    packed = &packed[first / GROUP * usize::from(bits)..];
    let mut missing = count;
    let append_part = |packed: &[u8], from: usize, missing: usize, codes: &mut Vec<u32>| {
        let mut group = [[0; GROUP]];
        unpack(packed, bits, &mut group);
        let taken = missing.min(GROUP - from);
        codes.extend_from_slice(&group[0][from..from + taken]);
        taken
    };
    if !first.is_multiple_of(GROUP) {
        missing -= append_part(packed, first % GROUP, missing, codes);
        packed = packed.get(usize::from(bits)..).unwrap_or_default();
    }
    let whole = missing / GROUP;
    let start = codes.len();
    codes.resize(start + whole * GROUP, 0);
    unpack(packed, bits, codes[start..].as_chunks_mut().0);
    missing -= whole * GROUP;
    if missing > 0 {
        append_part(packed.get(whole * usize::from(bits)..).unwrap_or_default(), 0, missing, codes);
    }
}

/// Fills `groups` from the first bytes of `packed`.
fn unpack(packed: &[u8], bits: u8, groups: &mut [[u32; GROUP]]) {
    match bits {
        0 => groups.fill([0; GROUP]),
        1 => unpack_narrow::<1>(packed, groups),
        2 => unpack_narrow::<2>(packed, groups),
        3 => unpack_narrow::<3>(packed, groups),
        4 => unpack_narrow::<4>(packed, groups),
        5 => unpack_narrow::<5>(packed, groups),
        6 => unpack_narrow::<6>(packed, groups),
        7 => unpack_narrow::<7>(packed, groups),
        8 => unpack_narrow::<8>(packed, groups),
        9 => unpack_wide::<9>(packed, groups),
        10 => unpack_wide::<10>(packed, groups),
        11 => unpack_wide::<11>(packed, groups),
        12 => unpack_wide::<12>(packed, groups),
        13 => unpack_wide::<13>(packed, groups),
        14 => unpack_wide::<14>(packed, groups),
        15 => unpack_wide::<15>(packed, groups),
        16 => unpack_wide::<16>(packed, groups),
        _ => unpack_any(packed, usize::from(bits), groups),
    }
}

/// Of up to eight bits, and so many bytes a group.
#[expect(clippy::cast_possible_truncation, reason = "masked")]
fn unpack_narrow<const BITS: usize>(packed: &[u8], groups: &mut [[u32; GROUP]]) {
    let mask = (1 << BITS) - 1;
    for (at, group) in groups.iter_mut().enumerate() {
        // What follows the group does not matter.
        let word = u64::from_le_bytes(bytes_from(packed, at * BITS));
        *group = std::array::from_fn(|nth| (word >> (nth * BITS)) as u32 & mask);
    }
}

/// Of up to 16 bits.
#[expect(clippy::cast_possible_truncation, reason = "masked")]
fn unpack_wide<const BITS: usize>(packed: &[u8], groups: &mut [[u32; GROUP]]) {
    let mask = (1 << BITS) - 1;
    for (at, group) in groups.iter_mut().enumerate() {
        let word = u128::from_le_bytes(bytes_from(packed, at * BITS));
        *group = std::array::from_fn(|nth| (word >> (nth * BITS)) as u32 & mask);
    }
}

/// Of up to 32 bits.
#[expect(clippy::cast_possible_truncation, reason = "masked")]
fn unpack_any(packed: &[u8], bits: usize, groups: &mut [[u32; GROUP]]) {
    for (at, code) in groups.as_flattened_mut().iter_mut().enumerate() {
        let bit = at * bits;
        let word = u64::from_le_bytes(bytes_from(packed, bit / 8)) >> (bit % 8);
        *code = (word & ((1 << bits) - 1)) as u32;
    }
}

/// `N` bytes of `packed` from the one at `start` on, zeros behind its end.
fn bytes_from<const N: usize>(packed: &[u8], start: usize) -> [u8; N] {
    let rest = packed.get(start..).unwrap_or_default();
    match rest.first_chunk() {
        Some(bytes) => *bytes,
        None => std::array::from_fn(|at| rest.get(at).copied().unwrap_or(0)),
    }
}

/// An unsigned number, seven bits to a byte, and what follows it.
pub(super) fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

fn invalid(what: &str) -> ParquetError {
    ParquetError::General(format!("a page {what}"))
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "the bits that are left are what is meant")]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn push_varint(page: &mut Vec<u8>, mut value: usize) {
        while value >= 0x80 {
            page.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        page.push(value as u8);
    }

    /// Runs of both kinds, bit by bit.
    fn page(bits: u8, random: &mut StdRng) -> (Vec<u8>, Vec<u32>) {
        let (mut page, mut codes) = (vec![9, 9, bits], vec![]);
        let code = |random: &mut StdRng| match bits {
            0 => 0,
            _ => random.random::<u32>() >> (32 - u32::from(bits)),
        };
        for _ in 0..30 {
            let groups = random.random_range(1..200_usize);
            if random.random_bool(0.5) {
                let code = code(random);
                push_varint(&mut page, groups << 1);
                page.extend_from_slice(&code.to_le_bytes()[..usize::from(bits).div_ceil(8)]);
                codes.resize(codes.len() + groups, code);
            } else {
                push_varint(&mut page, groups << 1 | 1);
                let of_run: Vec<u32> = (0..8 * groups).map(|_| code(random)).collect();
                let of_bit = |bit: usize| of_run[bit / usize::from(bits)] >> (bit % usize::from(bits)) & 1;
                let byte = |at: usize| (0..8).fold(0, |byte, bit| byte | (of_bit(8 * at + bit) as u8) << bit);
                page.extend((0..groups * usize::from(bits)).map(byte));
                codes.extend(of_run);
            }
        }
        (page, codes)
    }

    fn read(page: &[u8], counts: impl IntoIterator<Item = usize>) -> Result<Vec<u32>> {
        let (mut runs, mut codes) = (CodeRuns::try_new(page, 2)?, vec![]);
        for count in counts {
            runs.append(page, count, &mut codes)?;
        }
        Ok(codes)
    }

    #[test]
    fn codes_of_all_widths_are_read_in_turns_of_any_size() {
        let random = &mut StdRng::seed_from_u64(3);
        for bits in 0..=32 {
            let (page, codes) = page(bits, random);
            assert_eq!(read(&page, [codes.len()]).unwrap(), codes, "{bits} bits");
            let (mut counts, mut left) = (vec![], codes.len());
            while left > 0 {
                counts.push(random.random_range(0..=left.min(70)));
                left -= counts[counts.len() - 1];
            }
            assert_eq!(read(&page, counts).unwrap(), codes, "{bits} bits");
            assert!(read(&page, [codes.len() + 1]).is_err(), "one more");
        }
    }

    #[test]
    fn a_page_that_lies_is_an_error() {
        let (page, codes) = page(5, &mut StdRng::seed_from_u64(4));
        for length in 0..page.len() {
            assert!(read(&page[..length], [codes.len()]).is_err(), "{length} bytes");
        }
        assert!(read(&[9, 9, 33, 4, 1], [1]).is_err(), "33 bits");
        assert!(read(&[9, 9, 3, 0, 1, 4, 1], [1]).is_err(), "an empty run");
        assert!(read(&[9, 9, 3, 1, 4, 1], [1]).is_err(), "an empty run");
        assert!(read(&[9, 9, 8, 0xff, 0xff, 0xff, 0xff, 0x7f, 1], [1]).is_err(), "groups without end");
        assert!(read(&[9, 9, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 1], [1]).is_err(), "no number");
        // The last group is cut behind the third number of five bits.
        assert_eq!(read(&[9, 9, 5, 3, 0b0100_0001, 0b0000_1100], [3]).unwrap(), [1, 2, 3]);
        assert!(read(&[9, 9, 5, 3, 0b0100_0001, 0b0000_1100], [4]).is_err());
        // As many as there may be, of one that takes no bytes.
        assert_eq!(read(&[9, 9, 0, 0xfe, 0xff, 0xff, 0xff, 0x0f], [3]).unwrap(), [0; 3]);
    }
}
