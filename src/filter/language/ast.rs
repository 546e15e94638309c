//! The tree of a filter, as a list of nodes in which operands come before what is made of them.
//!
//! Nothing that walks a tree recurses: a pass is a loop over the list, and dropping it is dropping a list. The last
//! node is the root. Parentheses are not kept, so that equal lists are equal trees.

use std::ops::Range;

/// A node's place in its tree's list.
pub(crate) type NodeId = usize;

/// A parsed filter.
#[derive(Debug, Clone)]
pub(crate) struct Ast {
    /// In post-order; never empty.
    pub(crate) nodes: Vec<Node>,
    /// Where `and` and `or` first stand on one level without parentheses.
    pub(crate) mixed: Option<Range<usize>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    /// The bytes of the text that it was read from.
    pub(crate) span: Range<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum NodeKind {
    Binary(BinaryOperator, NodeId, NodeId),
    Not(NodeId),
    IsNull(NodeId),
    /// A column.
    Field(String),
    /// `base.name`: a column of that dotted name, or a member of a struct.
    Member(NodeId, String),
    /// `name(…)`, or `base.name(…)`.
    Call {
        base: Option<NodeId>,
        name: String,
        arguments: Vec<NodeId>,
    },
    /// As written, with its sign.
    Number(String),
    /// Without quotes and escapes.
    Text(String),
    /// A text whose escapes mean nothing: as written, and why.
    BadText(String, String),
    Boolean(bool),
    Null,
    /// `$name`.
    Named(String),
    /// `?`, numbered from 0: operands from left to right, the arguments of a method before what it is called on.
    Positional(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum BinaryOperator {
    And,
    Or,
    Equal,
    NotEqual,
    /// `~` between operands: the coarse test.
    Coarse,
    NotCoarse,
    Intersects,
    Within,
    Contains,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

/// How tightly an operator binds; a higher level binds tighter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// `and` and `or`, which are equal.
    Logic,
    /// Equality and geometry; a null test is its leftmost operand.
    Equality,
    Order,
    Sum,
    Product,
    /// `not`.
    Term,
    /// Names, literals, calls and what stands in parentheses.
    Atom,
}

impl BinaryOperator {
    pub(crate) fn level(self) -> Level {
        match self {
            Self::And | Self::Or => Level::Logic,
            Self::Equal
            | Self::NotEqual
            | Self::Coarse
            | Self::NotCoarse
            | Self::Intersects
            | Self::Within
            | Self::Contains => Level::Equality,
            Self::Less | Self::LessOrEqual | Self::Greater | Self::GreaterOrEqual => Level::Order,
            Self::Add | Self::Subtract => Level::Sum,
            Self::Multiply | Self::Divide | Self::Modulo => Level::Product,
        }
    }

    /// As the reference spells it.
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Self::And => "and",
            Self::Or => "or",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Coarse => "~",
            Self::NotCoarse => "!~",
            Self::Intersects => "intersect",
            Self::Within => "within",
            Self::Contains => "contains",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
        }
    }
}

impl Ast {
    pub(crate) fn root(&self) -> NodeId {
        self.nodes.len().saturating_sub(1)
    }

    pub(crate) fn kind(&self, id: NodeId) -> &NodeKind {
        &self.nodes[id].kind
    }

    /// Numbers the positional variables.
    pub(super) fn number_variables(&mut self) {
        let mut next = 0;
        let mut open = vec![self.root()];
        // What is pushed last comes out first: the rightmost operand is pushed first.
        while let Some(id) = open.pop() {
            match &mut self.nodes[id].kind {
                NodeKind::Positional(index) => {
                    *index = next;
                    next += 1;
                }
                NodeKind::Binary(_, left, right) => open.extend([*right, *left]),
                NodeKind::Not(inner) | NodeKind::IsNull(inner) | NodeKind::Member(inner, _) => {
                    open.push(*inner);
                }
                NodeKind::Call { base, arguments, .. } => {
                    open.extend(*base);
                    open.extend(arguments.iter().rev());
                }
                _ => {}
            }
        }
    }
}

/// Equal trees, wherever they were written.
impl PartialEq for Ast {
    fn eq(&self, other: &Self) -> bool {
        self.nodes.len() == other.nodes.len()
            && self.nodes.iter().zip(&other.nodes).all(|(a, b)| a.kind == b.kind)
    }
}

impl Eq for Ast {}
