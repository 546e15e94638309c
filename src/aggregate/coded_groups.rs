//! Groups of text, found by the codes of its dictionaries, and how many rows each has.

use std::mem::size_of;

use datafusion::arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, DictionaryArray, UInt16Array, new_null_array,
};
use datafusion::arrow::compute::{cast, take};
use datafusion::arrow::datatypes::{DataType, UInt16Type};
use datafusion::common::{Result, internal_datafusion_err, internal_err};
use datafusion::physical_expr_common::binary_map::OutputType;
use datafusion::physical_expr_common::binary_view_map::ArrowBytesViewMap;

use super::group_of_row::GroupOfRow;

/// Of a code that no row has had yet. Accumulators are told of a group with its first row: they take it that it has some.
const UNSEEN: usize = usize::MAX;
/// Of one that is given a group with others.
const FOUND: usize = usize::MAX - 1;

/// The texts that rows had so far, NULL among them; each is a group, by its position.
pub(super) struct CodedGroups {
    /// Of the column that is grouped by.
    data_type: DataType,
    texts: ArrowBytesViewMap<usize>,
    len: usize,
    /// Of each code of the last dictionary.
    groups: Vec<usize>,
    /// Codes of it that are still [`UNSEEN`].
    unseen: usize,
    /// Of each code, those that were met since there is this dictionary.
    rows_of_codes: Vec<u64>,
    null: Option<usize>,
    /// Of each group, but for those of codes.
    rows: Vec<u64>,
    /// Kept, so that no other can be where it is.
    dictionary: Option<ArrayData>,
}

/// What reading one record batch took.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lookups {
    pub(super) dictionaries: usize,
    /// Texts that were compared.
    pub(super) texts: usize,
}

impl CodedGroups {
    /// Gives groups as `data_type`, which is one of text.
    pub(super) fn new(data_type: DataType) -> Self {
        Self {
            data_type,
            texts: ArrowBytesViewMap::new(OutputType::Utf8View),
            len: 0,
            groups: vec![],
            unseen: 0,
            rows_of_codes: vec![],
            null: None,
            rows: vec![],
            dictionary: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Finds the group of each row of `codes`, which is an array of codes of text, and counts it.
    ///
    /// # Errors
    /// If it is not.
    pub(super) fn of_rows<'a>(&'a mut self, codes: &'a ArrayRef) -> Result<(Lookups, GroupOfRow<'a>)> {
        let codes = codes
            .as_dictionary_opt::<UInt16Type>()
            .ok_or_else(|| internal_datafusion_err!("{} are no codes", codes.data_type()))?;
        let mut lookups = Lookups::default();
        let dictionary = codes.values().to_data();
        if !self.dictionary.as_ref().is_some_and(|known| known.ptr_eq(&dictionary)) {
            self.note_rows()?;
            self.unseen = dictionary.len();
            self.groups.resize(self.unseen, UNSEEN);
            self.rows_of_codes.resize(self.unseen, 0);
            self.dictionary = Some(dictionary);
            lookups.dictionaries = 1;
        }

        let (keys, nulls) = (codes.keys().values(), codes.keys().nulls());
        let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
        match nulls {
            None => self.count(keys.iter().copied())?,
            // What stands where there is NULL means nothing.
            Some(nulls) => {
                let there = keys.iter().zip(nulls).filter(|(_, is_there)| *is_there);
                self.count(there.map(|(&key, _)| key))?;
            }
        }
        lookups.texts = self.meet(codes)?;
        let groups = match nulls {
            None => GroupOfRow::coded(keys, &self.groups, self.len),
            Some(nulls) => {
                let null = self.count_null(nulls.null_count());
                let groups = keys.iter().zip(nulls).map(|(&key, is_there)| match is_there {
                    true => self.groups[usize::from(key)],
                    false => null,
                });
                GroupOfRow::listed(groups.collect(), self.len)
            }
        };
        Ok((lookups, groups))
    }

    fn count(&mut self, keys: impl Iterator<Item = u16>) -> Result<()> {
        let rows = self.rows_of_codes.as_mut_slice();
        let mut are_known = true;
        keys.for_each(|key| match rows.get_mut(usize::from(key)) {
            Some(rows) => *rows += 1,
            None => are_known = false,
        });
        if are_known { Ok(()) } else { internal_err!("a code is not in its dictionary") }
    }

    /// Gives a group to those of `codes` that have none yet; how many texts that took. They were counted, and are in the dictionary.
    fn meet(&mut self, codes: &DictionaryArray<UInt16Type>) -> Result<usize> {
        if self.unseen == 0 {
            return Ok(0);
        }
        let mut found: Vec<u16> = vec![];
        for key in codes.keys().iter().flatten() {
            let group = &mut self.groups[usize::from(key)];
            if *group == UNSEEN {
                *group = FOUND;
                found.push(key);
            }
        }
        let found = UInt16Array::from(found);
        if !found.is_empty() {
            let texts = cast(&take(codes.values().as_ref(), &found, None)?, &DataType::Utf8View)?;
            let groups = self.groups_of(&texts);
            for (&key, group) in found.values().iter().zip(groups) {
                self.groups[usize::from(key)] = group;
            }
            self.unseen -= found.len();
        }
        Ok(found.len())
    }

    /// The group of NULL, with so many more rows.
    fn count_null(&mut self, rows: usize) -> usize {
        let null = match self.null {
            Some(null) => null,
            None => self.groups_of(&new_null_array(&DataType::Utf8View, 1))[0],
        };
        self.null = Some(null);
        self.rows.resize(self.len, 0);
        self.rows[null] += rows as u64;
        null
    }

    /// Adds the rows of codes to those of their groups, and forgets the codes.
    fn note_rows(&mut self) -> Result<()> {
        self.rows.resize(self.len, 0);
        let of_codes = self.groups.drain(..).zip(self.rows_of_codes.drain(..));
        for (group, of_code) in of_codes.filter(|(group, _)| *group != UNSEEN) {
            let Some(rows) = self.rows.get_mut(group) else {
                return internal_err!("rows of no group are counted");
            };
            *rows += of_code;
        }
        self.dictionary = None;
        Ok(())
    }

    fn groups_of(&mut self, texts: &ArrayRef) -> Vec<usize> {
        let mut groups = Vec::with_capacity(texts.len());
        let len = &mut self.len;
        let next = |_: Option<&[u8]>| {
            *len += 1;
            *len - 1
        };
        self.texts.insert_if_new(texts, next, |group| groups.push(group));
        groups
    }

    /// The texts of all groups, which are forgotten, and how many rows each has.
    ///
    /// # Errors
    /// None but those of a cast between types of text.
    pub(super) fn take(&mut self) -> Result<(ArrayRef, Vec<u64>)> {
        self.note_rows()?;
        let texts = self.texts.take().into_state();
        self.len = 0;
        self.null = None;
        (self.groups, self.rows_of_codes) = (vec![], vec![]);
        Ok((cast(&texts, &self.data_type)?, std::mem::take(&mut self.rows)))
    }

    /// Bytes of memory.
    pub(super) fn size(&self) -> usize {
        self.texts.size()
            + size_of::<usize>() * self.groups.capacity()
            + size_of::<u64>() * (self.rows_of_codes.capacity() + self.rows.capacity())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::StringArray;

    use super::*;

    fn coded(keys: Vec<Option<u16>>, texts: &ArrayRef) -> ArrayRef {
        Arc::new(DictionaryArray::new(UInt16Array::from(keys), Arc::clone(texts)))
    }

    fn texts(texts: &[Option<&str>]) -> ArrayRef {
        Arc::new(StringArray::from_iter(texts.iter().copied()))
    }

    /// What it took, and the group of each row, coded or listed.
    fn found(groups: &mut CodedGroups, rows: &ArrayRef) -> Result<(Lookups, Vec<usize>)> {
        let (lookups, groups) = groups.of_rows(rows)?;
        Ok((lookups, groups.list().to_vec()))
    }

    #[test]
    fn rows_of_equal_text_are_one_group_in_whatever_dictionary() -> Result<()> {
        let mut groups = CodedGroups::new(DataType::Utf8);
        let first = texts(&[Some("unused"), Some("b"), Some("a longer text than fits into a view")]);
        let rows = coded(vec![Some(2), Some(1), Some(2)], &first);
        assert_eq!(found(&mut groups, &rows)?, (Lookups { dictionaries: 1, texts: 2 }, vec![0, 1, 0]));
        assert_eq!(groups.len(), 2, "groups have rows");
        // The same dictionary is not looked at again, but for a text that no row has had.
        let rows = coded(vec![Some(2), Some(0)], &first);
        assert_eq!(found(&mut groups, &rows)?, (Lookups { dictionaries: 0, texts: 1 }, vec![0, 2]));
        assert_eq!(found(&mut groups, &rows)?, (Lookups::default(), vec![0, 2]));
        // NULL is a group, as key and as text; what its key is says nothing.
        let other = texts(&[Some("c"), None, Some("b")]);
        let rows = coded(vec![None, Some(1), Some(2), Some(0)], &other);
        assert_eq!(found(&mut groups, &rows)?, (Lookups { dictionaries: 1, texts: 3 }, vec![3, 3, 1, 4]));
        assert_eq!(groups.len(), 5);
        let expected =
            [Some("a longer text than fits into a view"), Some("b"), Some("unused"), None, Some("c")];
        let (texts_of_groups, rows_of_groups) = groups.take()?;
        assert_eq!(texts_of_groups.as_string::<i32>(), &StringArray::from_iter(expected));
        assert_eq!(rows_of_groups, [4, 2, 2, 2, 1]);
        assert_eq!((groups.len(), groups.size()), (0, CodedGroups::new(DataType::Utf8).size()));
        let rows = coded(vec![None, Some(1)], &first);
        assert_eq!(found(&mut groups, &rows)?.1, [1, 0]);
        let empty = coded(vec![None, None], &texts(&[]));
        assert_eq!(found(&mut groups, &empty)?.1, [1, 1]);
        assert!(groups.of_rows(&first).is_err());
        assert_eq!(groups.take()?.1, [1, 3]);
        // A text that a dictionary has twice.
        let twice = coded(vec![Some(0), Some(1), Some(2)], &texts(&[Some("a"), Some("b"), Some("a")]));
        assert_eq!(found(&mut groups, &twice)?.1, [0, 1, 0]);
        assert_eq!(groups.take()?.1, [2, 1]);
        Ok(())
    }
}
