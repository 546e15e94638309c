//! From text to tree, with a stack of open operators in place of recursion.

use std::ops::Range;

use super::ast::{Ast, BinaryOperator, Level, Node, NodeId, NodeKind};
use super::error::FilterError;
use super::text::{decode_double, decode_single};
use super::token::{FollowToken, Lexer, OperandToken};
use super::{MAX_DEPTH, MAX_OPERANDS, MAX_TEXT_BYTES};

/// Reads a filter.
///
/// # Errors
/// A text that is no filter, or that is beyond one of the limits.
pub(crate) fn parse(text: &str) -> Result<Ast, FilterError> {
    if text.len() > MAX_TEXT_BYTES {
        let reason = format!(
            "the filter is {} bytes long, expected at most {MAX_TEXT_BYTES}; large values belong in variables",
            text.len()
        );
        return Err(FilterError::without_place(reason));
    }
    let mut parser = Parser::new(text);
    parser.run()?;
    let mut ast = Ast { nodes: parser.nodes, mixed: parser.mixed };
    ast.number_variables();
    Ok(ast)
}

/// Something that waits for its right side.
#[derive(Debug)]
enum Open {
    Binary {
        operator: BinaryOperator,
        left: NodeId,
    },
    /// Where it starts.
    Not(usize),
    /// Where it starts.
    Parenthesis(usize),
    Call {
        base: Option<NodeId>,
        name: String,
        arguments: Vec<NodeId>,
        start: usize,
        span: Range<usize>,
    },
}

/// What the last operand read may be followed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operand {
    /// A name, a call or parentheses: members too.
    WithMembers,
    Plain,
    /// A null test: equality and logic only.
    NullTest,
}

#[derive(Debug)]
struct Parser<'a> {
    lexer: Lexer<'a>,
    nodes: Vec<Node>,
    /// For each node, how deep it is; a chain of one of `and` and `or` counts once.
    depths: Vec<usize>,
    open: Vec<Open>,
    /// How many of `open` are no binary operators.
    nesting: usize,
    operands: usize,
    /// The logic operator last seen on each level of parentheses that is open, the text's own first.
    logic: Vec<Option<BinaryOperator>>,
    mixed: Option<Range<usize>>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            lexer: Lexer::new(text),
            nodes: vec![],
            depths: vec![],
            open: vec![],
            nesting: 0,
            operands: 0,
            logic: vec![None],
            mixed: None,
        }
    }

    fn run(&mut self) -> Result<(), FilterError> {
        loop {
            let Some((mut id, mut operand)) = self.operand()? else { continue };
            loop {
                let (token, span) = self.lexer.follow()?;
                match token {
                    FollowToken::Dot if operand == Operand::WithMembers => match self.member(id)? {
                        Some(member) => id = member,
                        None => break,
                    },
                    FollowToken::Is if operand != Operand::NullTest => {
                        id = self.null_test(id, &span)?;
                        operand = Operand::NullTest;
                    }
                    FollowToken::Binary(operator)
                        if operand != Operand::NullTest || operator.level() <= Level::Equality =>
                    {
                        self.binary(operator, id, span)?;
                        break;
                    }
                    FollowToken::Comma => {
                        self.comma(id, span)?;
                        break;
                    }
                    FollowToken::Close => {
                        id = self.close(id, span)?;
                        operand = Operand::WithMembers;
                    }
                    FollowToken::End => return self.end(id),
                    FollowToken::Dot | FollowToken::Is | FollowToken::Binary(_) => {
                        let reason = match token {
                            FollowToken::Dot => {
                                "expected an operator or the end, found `.`: only columns, calls \
                                                 and parentheses have members"
                            }
                            FollowToken::Is => "expected an operator or the end, found a second `is`",
                            _ => "a null test can only be compared by equality: put it into parentheses",
                        };
                        return Err(FilterError::new(span, reason));
                    }
                }
            }
        }
    }

    /// Reads the start of an operand. `None` where that was an opening, and an operand comes next.
    fn operand(&mut self) -> Result<Option<(NodeId, Operand)>, FilterError> {
        let (token, span) = self.lexer.operand()?;
        let (kind, operand) = match token {
            OperandToken::Not => {
                self.nest(Open::Not(span.start), &span)?;
                return Ok(None);
            }
            OperandToken::Open => {
                self.nest(Open::Parenthesis(span.start), &span)?;
                self.logic.push(None);
                return Ok(None);
            }
            OperandToken::Name(name) => {
                if self.lexer.open_call() {
                    return self.open_call(None, name, span.start, span);
                }
                let kind = match name {
                    "True" | "true" => NodeKind::Boolean(true),
                    "False" | "false" => NodeKind::Boolean(false),
                    "NULL" | "null" | "None" => NodeKind::Null,
                    name => NodeKind::Field(name.to_owned()),
                };
                (kind, Operand::WithMembers)
            }
            OperandToken::Number(number) => (NodeKind::Number(number.to_owned()), Operand::Plain),
            OperandToken::Double(quoted) => (text_kind(quoted, decode_double(quoted)), Operand::Plain),
            OperandToken::Single(quoted) => (text_kind(quoted, decode_single(quoted)), Operand::Plain),
            OperandToken::Named(name) => (NodeKind::Named(name.to_owned()), Operand::Plain),
            // Numbered when all are known.
            OperandToken::Positional => (NodeKind::Positional(0), Operand::Plain),
        };
        Ok(Some((self.push(kind, span)?, operand)))
    }

    /// Reads `name`, or `name(`, after the dot.
    fn member(&mut self, base: NodeId) -> Result<Option<NodeId>, FilterError> {
        let (name, span) = self.lexer.name("the name of a member after `.`")?;
        let start = self.nodes[base].span.start;
        if self.lexer.open_call() {
            if ["add", "add_checked", "subtract_checked"].contains(&name) {
                return Err(FilterError::new(span, format!("`{name}` is no member")));
            }
            return Ok(self.open_call(Some(base), name, start, span)?.map(|(id, _)| id));
        }
        if ["True", "true", "False", "false", "NULL", "null", "None"].contains(&name) {
            return Err(FilterError::new(span, format!("expected the name of a member, found `{name}`")));
        }
        let whole = start..span.end;
        self.push(NodeKind::Member(base, name.to_owned()), whole).map(Some)
    }

    fn open_call(
        &mut self,
        base: Option<NodeId>,
        name: &str,
        start: usize,
        span: Range<usize>,
    ) -> Result<Option<(NodeId, Operand)>, FilterError> {
        if let Some(close) = self.lexer.close() {
            let whole = start..close.end;
            return Ok(Some((self.call(base, name, vec![], whole, &span)?, Operand::WithMembers)));
        }
        let at = span.clone();
        self.nest(Open::Call { base, name: name.to_owned(), arguments: vec![], start, span }, &at)?;
        self.logic.push(None);
        Ok(None)
    }

    /// Makes the node of a call; some names mean an operator.
    fn call(
        &mut self,
        base: Option<NodeId>,
        name: &str,
        arguments: Vec<NodeId>,
        whole: Range<usize>,
        span: &Range<usize>,
    ) -> Result<NodeId, FilterError> {
        let kind = match (base, name, arguments.as_slice()) {
            (None, "add" | "add_checked", [left, right]) => {
                NodeKind::Binary(BinaryOperator::Add, *left, *right)
            }
            (None, "subtract_checked", [left, right]) => {
                NodeKind::Binary(BinaryOperator::Subtract, *left, *right)
            }
            (None, "add" | "add_checked" | "subtract_checked", _) => {
                let reason = format!("`{name}` has {} arguments, expected 2", arguments.len());
                return Err(FilterError::new(span.clone(), reason));
            }
            (None, "is_null", [inner]) => NodeKind::IsNull(*inner),
            _ => NodeKind::Call { base, name: name.to_owned(), arguments },
        };
        self.push(kind, whole)
    }

    fn null_test(&mut self, operand: NodeId, span: &Range<usize>) -> Result<NodeId, FilterError> {
        let tested = self.reduce(operand, Level::Sum)?;
        if let Some(Open::Binary { operator, .. }) = self.open.last()
            && operator.level() > Level::Logic
        {
            let reason = format!(
                "a null test cannot stand on the right of `{}`: put it into parentheses",
                operator.symbol()
            );
            return Err(FilterError::new(span.clone(), reason));
        }
        let (is_negated, end) = self.lexer.null_test()?;
        let whole = self.nodes[tested].span.start..end;
        let test = self.push(NodeKind::IsNull(tested), whole.clone())?;
        if is_negated { self.push(NodeKind::Not(test), whole) } else { Ok(test) }
    }

    fn binary(
        &mut self,
        operator: BinaryOperator,
        operand: NodeId,
        span: Range<usize>,
    ) -> Result<(), FilterError> {
        let left = self.reduce(operand, operator.level())?;
        if operator.level() == Level::Logic
            && let Some(last) = self.logic.last_mut()
        {
            if last.is_some_and(|last| last != operator) && self.mixed.is_none() {
                self.mixed = Some(span);
            }
            *last = Some(operator);
        }
        self.open.push(Open::Binary { operator, left });
        Ok(())
    }

    /// Closes the operators above the innermost parenthesis or call that bind at least as tightly as `level`.
    fn reduce(&mut self, operand: NodeId, level: Level) -> Result<NodeId, FilterError> {
        let mut id = operand;
        loop {
            match self.open.last() {
                Some(Open::Not(start)) => {
                    let span = *start..self.nodes[id].span.end;
                    self.open.pop();
                    self.nesting -= 1;
                    id = self.push(NodeKind::Not(id), span)?;
                }
                Some(Open::Binary { operator, left, .. }) if operator.level() >= level => {
                    let kind = NodeKind::Binary(*operator, *left, id);
                    let span = self.nodes[*left].span.start..self.nodes[id].span.end;
                    self.open.pop();
                    id = self.push(kind, span)?;
                }
                _ => return Ok(id),
            }
        }
    }

    fn comma(&mut self, operand: NodeId, span: Range<usize>) -> Result<(), FilterError> {
        let argument = self.reduce(operand, Level::Logic)?;
        match self.open.last_mut() {
            Some(Open::Call { arguments, .. }) => arguments.push(argument),
            _ => return Err(FilterError::new(span, "found `,` outside the arguments of a function")),
        }
        if let Some(last) = self.logic.last_mut() {
            *last = None;
        }
        Ok(())
    }

    fn close(&mut self, operand: NodeId, span: Range<usize>) -> Result<NodeId, FilterError> {
        let inner = self.reduce(operand, Level::Logic)?;
        let opening = self.open.pop();
        if opening.is_some() {
            self.nesting -= 1;
            self.logic.pop();
        }
        match opening {
            Some(Open::Parenthesis(start)) => {
                // The parentheses are part of what a message points at, and of what is on their left.
                self.nodes[inner].span = start..span.end;
                Ok(inner)
            }
            Some(Open::Call { base, name, mut arguments, start, span: name_span }) => {
                arguments.push(inner);
                self.call(base, &name, arguments, start..span.end, &name_span)
            }
            _ => Err(FilterError::new(span, "found `)` without a `(` before it")),
        }
    }

    fn end(&mut self, operand: NodeId) -> Result<(), FilterError> {
        self.reduce(operand, Level::Logic)?;
        match self.open.last() {
            Some(Open::Parenthesis(start)) => {
                Err(FilterError::new(*start..*start + 1, "the `(` here has no `)` after it"))
            }
            Some(Open::Call { span, .. }) => {
                Err(FilterError::new(span.clone(), "the call that starts here has no `)` after it"))
            }
            _ => Ok(()),
        }
    }

    fn nest(&mut self, open: Open, span: &Range<usize>) -> Result<(), FilterError> {
        self.nesting += 1;
        if self.nesting > MAX_DEPTH {
            return Err(too_deep(span));
        }
        self.open.push(open);
        Ok(())
    }

    fn push(&mut self, kind: NodeKind, span: Range<usize>) -> Result<NodeId, FilterError> {
        let depth = match &kind {
            NodeKind::Binary(operator, left, right) => [*left, *right]
                .into_iter()
                .map(|side| {
                    let is_chain = operator.level() == Level::Logic
                        && matches!(&self.nodes[side].kind, NodeKind::Binary(inner, ..) if inner == operator);
                    self.depths[side] + usize::from(!is_chain)
                })
                .max()
                .unwrap_or(1),
            NodeKind::Not(inner) | NodeKind::IsNull(inner) | NodeKind::Member(inner, _) => {
                self.depths[*inner] + 1
            }
            NodeKind::Call { base, arguments, .. } => {
                // One without arguments is a leaf.
                self.operands += usize::from(arguments.is_empty());
                let deepest = base.iter().chain(arguments).map(|id| self.depths[*id]).max();
                deepest.unwrap_or(0) + 1
            }
            _ => {
                self.operands += 1;
                1
            }
        };
        if depth > MAX_DEPTH {
            return Err(too_deep(&span));
        }
        if self.operands > MAX_OPERANDS {
            let reason = format!("the filter has more than {MAX_OPERANDS} columns, values and variables");
            return Err(FilterError::new(span, reason));
        }
        self.depths.push(depth);
        self.nodes.push(Node { kind, span });
        Ok(self.nodes.len() - 1)
    }
}

fn too_deep(span: &Range<usize>) -> FilterError {
    let reason = format!(
        "the filter is nested more than {MAX_DEPTH} levels deep here; a chain of `and`, or of `or`, is one level"
    );
    FilterError::new(span.clone(), reason)
}

fn text_kind(quoted: &str, decoded: Result<String, String>) -> NodeKind {
    match decoded {
        Ok(text) => NodeKind::Text(text),
        Err(reason) => NodeKind::BadText(quoted.to_owned(), reason),
    }
}
