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

/// A code that no row has had yet.
const UNSEEN: usize = usize::MAX;
/// One that a row of the record batch at hand is the first to have.
const FOUND: usize = usize::MAX - 1;

/// The texts that rows had so far, NULL among them; each is a group, by its position.
pub(super) struct CodedGroups {
    /// Of the column that is grouped by.
    data_type: DataType,
    texts: ArrowBytesViewMap<usize>,
    len: usize,
    /// Each code of the last dictionary.
    codes: Vec<Code>,
    null: Code,
    /// Rows of each group, but for those that its code knows.
    rows: Vec<u64>,
    /// Kept, so that no other can be where it is.
    dictionary: Option<ArrayData>,
    /// Of each row of a record batch.
    groups: Vec<usize>,
}

/// What is known of a code. Rows are counted where their group is found, not in a pass of their own.
#[derive(Debug, Clone, Copy)]
struct Code {
    group: usize,
    rows: u64,
}

impl Code {
    const UNSEEN: Self = Self { group: UNSEEN, rows: 0 };

    /// The group of one more row.
    fn next(&mut self) -> usize {
        self.rows += 1;
        self.group
    }
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
            codes: vec![],
            null: Code::UNSEEN,
            rows: vec![],
            dictionary: None,
            groups: vec![],
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The groups of the rows that [`Self::of_rows`] was given last.
    pub(super) fn last(&self) -> &[usize] {
        &self.groups
    }

    /// Finds the group of each row of `codes`, which is an array of codes of text.
    ///
    /// # Errors
    /// If it is not.
    pub(super) fn of_rows(&mut self, codes: &ArrayRef) -> Result<Lookups> {
        let codes = codes
            .as_dictionary_opt::<UInt16Type>()
            .ok_or_else(|| internal_datafusion_err!("{} are no codes", codes.data_type()))?;
        let mut lookups = Lookups::default();
        let dictionary = codes.values().to_data();
        if !self.dictionary.as_ref().is_some_and(|known| known.ptr_eq(&dictionary)) {
            self.note_rows()?;
            self.codes.clear();
            self.codes.resize(dictionary.len(), Code::UNSEEN);
            self.dictionary = Some(dictionary);
            lookups.dictionaries = 1;
        }

        if !self.look_up(codes.keys()) {
            self.forget_rows(codes.keys());
            lookups.texts = self.meet(codes)?;
            if !self.look_up(codes.keys()) {
                return internal_err!("codes of text have no group");
            }
        }
        Ok(lookups)
    }

    /// Notes the group of each of `keys`, and counts it; whether all have one.
    fn look_up(&mut self, keys: &UInt16Array) -> bool {
        let codes = self.codes.as_mut_slice();
        let mut most = 0;
        let mut of_key = |key: u16| {
            let group = codes.get_mut(usize::from(key)).map_or(UNSEEN, Code::next);
            most = most.max(group);
            group
        };
        self.groups.clear();
        match keys.nulls().filter(|nulls| nulls.null_count() > 0) {
            None => self.groups.extend(keys.values().iter().map(|&key| of_key(key))),
            Some(nulls) => {
                let null = &mut self.null;
                let keys = keys.values().iter().zip(nulls);
                self.groups
                    .extend(keys.map(|(&key, is_there)| if is_there { of_key(key) } else { null.next() }));
                most = most.max(null.group);
            }
        }
        most < FOUND
    }

    /// Takes back that `keys` were counted.
    fn forget_rows(&mut self, keys: &UInt16Array) {
        for (row, &key) in keys.values().iter().enumerate() {
            match keys.is_valid(row) {
                true => self.codes.get_mut(usize::from(key)).into_iter().for_each(|code| code.rows -= 1),
                false => self.null.rows -= 1,
            }
        }
    }

    /// Adds the rows that codes know to those of their groups.
    fn note_rows(&mut self) -> Result<()> {
        self.rows.resize(self.len, 0);
        for code in self.codes.iter_mut().chain([&mut self.null]).filter(|code| code.rows > 0) {
            let Some(rows) = self.rows.get_mut(code.group) else {
                return internal_err!("rows of no group are counted");
            };
            *rows += std::mem::take(&mut code.rows);
        }
        Ok(())
    }

    /// Gives a group to all that `codes` have and that has none; how many texts that took.
    fn meet(&mut self, codes: &DictionaryArray<UInt16Type>) -> Result<usize> {
        let keys = codes.keys();
        let mut found: Vec<u16> = vec![];
        for (row, _) in self.groups.iter().enumerate().filter(|(_, group)| **group == UNSEEN) {
            // What stands where there is NULL means nothing.
            if keys.is_valid(row) {
                let key = keys.value(row);
                let Some(code) = self.codes.get_mut(usize::from(key)) else {
                    return internal_err!("code {key} is not in its dictionary");
                };
                if code.group == UNSEEN {
                    code.group = FOUND;
                    found.push(key);
                }
            }
        }
        let texts = found.len();
        if texts > 0 {
            self.intern(codes.values(), found)?;
        }
        if keys.null_count() > 0 && self.null.group == UNSEEN {
            self.null.group = self.groups_of(&new_null_array(&DataType::Utf8View, 1))[0];
        }
        Ok(texts)
    }

    /// Notes the groups of the codes `found` of `dictionary`.
    fn intern(&mut self, dictionary: &ArrayRef, found: Vec<u16>) -> Result<()> {
        let found = UInt16Array::from(found);
        let texts = cast(&take(dictionary.as_ref(), &found, None)?, &DataType::Utf8View)?;
        let groups = self.groups_of(&texts);
        for (&key, group) in found.values().iter().zip(groups) {
            self.codes[usize::from(key)].group = group;
        }
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
        self.codes = vec![];
        self.null = Code::UNSEEN;
        self.dictionary = None;
        Ok((cast(&texts, &self.data_type)?, std::mem::take(&mut self.rows)))
    }

    /// Bytes of memory.
    pub(super) fn size(&self) -> usize {
        self.texts.size()
            + size_of::<Code>() * self.codes.capacity()
            + size_of::<usize>() * self.groups.capacity()
            + size_of::<u64>() * self.rows.capacity()
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

    #[test]
    fn rows_of_equal_text_are_one_group_in_whatever_dictionary() -> Result<()> {
        let mut groups = CodedGroups::new(DataType::Utf8);
        let first = texts(&[Some("unused"), Some("b"), Some("a longer text than fits into a view")]);
        let rows = coded(vec![Some(1), Some(2), Some(1)], &first);
        assert_eq!(groups.of_rows(&rows)?, Lookups { dictionaries: 1, texts: 2 });
        assert_eq!(groups.last(), [0, 1, 0]);
        // The same dictionary is not looked at again, but for a text that no row has had.
        let rows = coded(vec![Some(2), Some(0)], &first);
        assert_eq!(groups.of_rows(&rows)?, Lookups { dictionaries: 0, texts: 1 });
        assert_eq!(groups.last(), [1, 2]);
        let rows = coded(vec![Some(2), Some(0)], &first);
        assert_eq!(groups.of_rows(&rows)?, Lookups::default());
        assert_eq!(groups.last(), [1, 2]);
        // NULL is a group, as key and as text; what its key is says nothing.
        let other = texts(&[Some("c"), None, Some("b")]);
        let rows = coded(vec![None, Some(1), Some(2), Some(0)], &other);
        assert_eq!(groups.of_rows(&rows)?, Lookups { dictionaries: 1, texts: 3 });
        assert_eq!(groups.last(), [3, 3, 0, 4]);
        assert_eq!(groups.len(), 5);
        let expected =
            [Some("b"), Some("a longer text than fits into a view"), Some("unused"), None, Some("c")];
        let (texts_of_groups, rows_of_groups) = groups.take()?;
        assert_eq!(texts_of_groups.as_string::<i32>(), &StringArray::from_iter(expected));
        assert_eq!(rows_of_groups, [3, 3, 2, 2, 1]);
        assert_eq!(groups.len(), 0);
        let rows = coded(vec![None, Some(1)], &first);
        groups.of_rows(&rows)?;
        assert_eq!(groups.last(), [1, 0]);
        let empty = coded(vec![None, None], &texts(&[]));
        groups.of_rows(&empty)?;
        assert_eq!(groups.last(), [1, 1]);
        assert!(groups.of_rows(&first).is_err());
        assert_eq!(groups.take()?.1, [1, 3]);
        Ok(())
    }
}
