//! Aggregates over scans that know more of their columns than DataFusion's operators are told.

mod coded_groups;
mod float_states;
mod group_by_codes;
mod group_by_codes_rule;
mod group_of_row;
mod group_states;
mod groups_apart_rule;
mod rows_of_groups;

pub(crate) use group_by_codes_rule::GroupByCodesRule;
pub(crate) use groups_apart_rule::GroupsApartRule;
