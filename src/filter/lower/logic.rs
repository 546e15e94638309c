//! `and` and `or` of many operands: as balanced trees, and equal comparisons of one column as a list.

use std::collections::HashMap;
use std::collections::HashSet;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, lit};
use datafusion::scalar::ScalarValue;

use crate::filter::language::FilterError;
use crate::filter::language::ast::{BinaryOperator, NodeId};
use crate::filter::lower::{Lowering, Operand};

/// Longer lists than this DataFusion does not prune by; their bounds it does.
const LONGEST_PRUNING_LIST: usize = 20;

/// Parts at the outermost `and` that DataFusion may see; see [`limit_conjuncts`]. The chain that it makes of four times
/// as many takes more than 2 MiB of stack in a build without optimisation.
const MAX_CONJUNCTS: usize = 256;

/// Operands of one logic operator, in order.
#[derive(Debug)]
pub(super) struct Chain {
    operator: BinaryOperator,
    parts: Vec<Expr>,
}

impl Lowering<'_> {
    pub(super) fn logic(
        &mut self,
        operator: BinaryOperator,
        left: NodeId,
        right: NodeId,
    ) -> Result<Operand, FilterError> {
        let mut parts = self.parts(operator, left)?;
        parts.append(&mut self.parts(operator, right)?);
        Ok(Operand::Chain(Chain { operator, parts }))
    }

    fn parts(&mut self, operator: BinaryOperator, side: NodeId) -> Result<Vec<Expr>, FilterError> {
        if matches!(&self.operands[side], Some(Operand::Chain(chain)) if chain.operator == operator)
            && let Operand::Chain(chain) = self.take(side)?
        {
            return Ok(chain.parts);
        }
        Ok(vec![self.boolean(side, &format!("`{}`", operator.symbol()))?])
    }
}

impl Chain {
    /// One expression, of a depth that grows with the logarithm of the number of operands.
    pub(super) fn into_expr(self) -> Expr {
        let operator = if self.operator == BinaryOperator::And { Operator::And } else { Operator::Or };
        balanced(operator, fold_lists(operator, self.parts))
    }
}

/// The whole filter, as DataFusion can take it apart: it splits a filter at `and`, after it has turned `not (a or b)`
/// into `not a and not b`, and puts the parts together as a chain, which it evaluates and drops by recursion. Where
/// there are more than [`MAX_CONJUNCTS`] of them, they go into as many groups that it does not split.
///
/// # Errors
/// The same inside the filter, as in `(a and b and …) == true`: DataFusion may simplify it until it is outermost, and a
/// group there would make false of NULL.
pub(super) fn limit_conjuncts(expr: Expr) -> Result<Expr, FilterError> {
    check_inner_chains(&expr)?;
    if conjuncts(&expr, false) <= MAX_CONJUNCTS {
        return Ok(expr);
    }
    let mut parts = vec![];
    let mut open = vec![expr];
    while let Some(expr) = open.pop() {
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => open.extend([*right, *left]),
            part => parts.push(part),
        }
    }
    let size = parts.len().div_ceil(MAX_CONJUNCTS);
    let mut rest = parts.into_iter();
    let mut groups = Vec::with_capacity(MAX_CONJUNCTS);
    loop {
        let group: Vec<Expr> = rest.by_ref().take(size).collect();
        if group.is_empty() {
            return Ok(balanced(Operator::And, groups));
        }
        // NULL and false are the same to the whole filter, and here it does not matter which it is.
        let group = Box::new(balanced(Operator::And, group));
        let is_true = BinaryExpr::new(group, Operator::IsNotDistinctFrom, Box::new(lit(true)));
        groups.push(Expr::BinaryExpr(is_true));
    }
}

/// What may become of an inner expression: it stays as it is, it is negated, or either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Plain,
    Negated,
    Either,
}

/// Whether each `and` inside the filter, and each `or` that is negated, has few enough parts.
fn check_inner_chains(filter: &Expr) -> Result<(), FilterError> {
    let mut open = vec![(filter, Sign::Plain, true)];
    while let Some((expr, sign, is_outermost)) = open.pop() {
        let is_long = |negated: bool| conjuncts(expr, negated) > MAX_CONJUNCTS;
        if !is_outermost
            && ((sign != Sign::Negated && is_long(false)) || (sign != Sign::Plain && is_long(true)))
        {
            return Err(FilterError::without_place(format!(
                "more than {MAX_CONJUNCTS} conditions are joined by `and`, or by a negated `or`, inside the filter: only \
                 at its outermost `and` there may be more"
            )));
        }
        match expr {
            Expr::BinaryExpr(BinaryExpr { op: chain @ (Operator::And | Operator::Or), .. }) => {
                // The parts of the outermost `and` are outermost themselves: `not (a or b)` among them is two of them.
                let is_outermost = is_outermost
                    && matches!((chain, sign), (Operator::And, Sign::Plain) | (Operator::Or, Sign::Negated));
                let mut parts = vec![expr];
                while let Some(part) = parts.pop() {
                    match part {
                        Expr::BinaryExpr(BinaryExpr { left, op, right }) if op == chain => {
                            parts.extend([right.as_ref(), left.as_ref()]);
                        }
                        part => open.push((part, sign, is_outermost)),
                    }
                }
            }
            Expr::Not(inner) => {
                let sign = match sign {
                    Sign::Plain => Sign::Negated,
                    Sign::Negated => Sign::Plain,
                    Sign::Either => Sign::Either,
                };
                open.push((inner, sign, is_outermost));
            }
            other => {
                let visited = other.apply_children(|child| {
                    open.push((child, Sign::Either, false));
                    Ok(TreeNodeRecursion::Continue)
                });
                visited.map_err(|error| FilterError::without_place(error.to_string()))?;
            }
        }
    }
    Ok(())
}

/// How many parts a filter, or its negation, falls into at its outermost `and`.
fn conjuncts(expr: &Expr, is_negated: bool) -> usize {
    let mut count = 0;
    let mut open = vec![(expr, is_negated)];
    while let Some((expr, is_negated)) = open.pop() {
        match expr {
            Expr::Not(inner) => open.push((inner, !is_negated)),
            Expr::BinaryExpr(BinaryExpr { left, op, right })
                if *op == if is_negated { Operator::Or } else { Operator::And } =>
            {
                open.extend([(right.as_ref(), is_negated), (left, is_negated)]);
            }
            _ => count += 1,
        }
    }
    count
}

fn balanced(operator: Operator, mut parts: Vec<Expr>) -> Expr {
    while parts.len() > 1 {
        let mut rest = parts.into_iter();
        let mut joined = Vec::with_capacity(rest.len().div_ceil(2));
        while let Some(left) = rest.next() {
            joined.push(match rest.next() {
                Some(right) => Expr::BinaryExpr(BinaryExpr::new(Box::new(left), operator, Box::new(right))),
                None => left,
            });
        }
        parts = joined;
    }
    // Of no operands it is true or false; a chain has two at least.
    parts.pop().unwrap_or_else(|| lit(operator == Operator::And))
}

/// Values that one expression is compared with.
struct List {
    values: Vec<Expr>,
    seen: HashSet<ScalarValue>,
    /// Where the first of them stood.
    place: usize,
}

/// Makes `x IN (…)` of `x == a or x == b`, and `x NOT IN (…)` of `x != a and x != b`.
fn fold_lists(operator: Operator, parts: Vec<Expr>) -> Vec<Expr> {
    let is_negated = operator == Operator::And;
    let mut lists: HashMap<Expr, List> = HashMap::new();
    let mut kept: Vec<Option<Expr>> = Vec::with_capacity(parts.len());
    for part in parts {
        let (subject, values) = match into_membership(part, is_negated) {
            Ok(membership) => membership,
            Err(other) => {
                kept.push(Some(other));
                continue;
            }
        };
        let list = lists.entry(subject).or_insert_with(|| {
            kept.push(None);
            List { values: vec![], seen: HashSet::new(), place: kept.len() - 1 }
        });
        for value in values {
            if let Expr::Literal(constant, _) = &value
                && list.seen.insert(constant.clone())
            {
                list.values.push(value);
            }
        }
    }
    for (subject, list) in lists {
        kept[list.place] = Some(membership(subject, list.values, is_negated));
    }
    kept.into_iter().flatten().collect()
}

/// An expression and the constants that it is, or is not, one of.
fn into_membership(part: Expr, is_negated: bool) -> Result<(Expr, Vec<Expr>), Expr> {
    let wanted = if is_negated { Operator::NotEq } else { Operator::Eq };
    match part {
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if op == wanted && matches!(*right, Expr::Literal(..)) && !matches!(*left, Expr::Literal(..)) =>
        {
            Ok((*left, vec![*right]))
        }
        Expr::InList(InList { expr, list, negated })
            if negated == is_negated && list.iter().all(|value| matches!(value, Expr::Literal(..))) =>
        {
            Ok((*expr, list))
        }
        other => Err(other),
    }
}

/// `subject IN (values)`, or the negation.
pub(super) fn membership(subject: Expr, mut values: Vec<Expr>, is_negated: bool) -> Expr {
    if values.len() == 1
        && let Some(value) = values.pop()
    {
        return if is_negated { subject.not_eq(value) } else { subject.eq(value) };
    }
    let bounds = bounds(&values).filter(|_| !is_negated && values.len() > LONGEST_PRUNING_LIST);
    let list = subject.clone().in_list(values, is_negated);
    match bounds {
        Some((least, greatest)) => {
            let range = subject.clone().gt_eq(lit(least)).and(subject.lt_eq(lit(greatest)));
            range.and(list)
        }
        None => list,
    }
}

/// The least and the greatest of some constants, if they can be ordered.
fn bounds(values: &[Expr]) -> Option<(ScalarValue, ScalarValue)> {
    let mut bounds: Option<(&ScalarValue, &ScalarValue)> = None;
    for value in values {
        let Expr::Literal(value, _) = value else { return None };
        let (least, greatest) = bounds.unwrap_or((value, value));
        bounds = Some((
            if value.partial_cmp(least)?.is_lt() { value } else { least },
            if value.partial_cmp(greatest)?.is_gt() { value } else { greatest },
        ));
    }
    bounds.map(|(least, greatest)| (least.clone(), greatest.clone()))
}
