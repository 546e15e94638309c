//! The canonical text of a filter: one spelling of each operator, and parentheses wherever a reader may need them.

use std::fmt::{self, Display, Formatter};

use super::ast::{Ast, Level, NodeId, NodeKind};
use super::text::quote;

/// What is left to print.
enum Step<'a> {
    /// A node, in parentheses if it binds less tightly than this.
    Node(NodeId, Level),
    Text(&'a str),
}

/// Parses to the same tree again.
impl Display for Ast {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut steps = vec![Step::Node(self.root(), Level::Logic)];
        while let Some(step) = steps.pop() {
            let (id, needed) = match step {
                Step::Text(text) => {
                    f.write_str(text)?;
                    continue;
                }
                Step::Node(id, needed) => (id, needed),
            };
            let first = steps.len();
            let is_bare = self.level(id) >= needed;
            if !is_bare {
                steps.push(Step::Text("("));
            }
            self.node(id, &mut steps, f)?;
            if !is_bare {
                steps.push(Step::Text(")"));
            }
            // They are taken from the end.
            steps[first..].reverse();
        }
        Ok(())
    }
}

impl Ast {
    fn level(&self, id: NodeId) -> Level {
        match self.kind(id) {
            NodeKind::Binary(operator, ..) => operator.level(),
            NodeKind::IsNull(_) => Level::Equality,
            NodeKind::Not(inner) if matches!(self.kind(*inner), NodeKind::IsNull(_)) => Level::Equality,
            NodeKind::Not(_) => Level::Term,
            _ => Level::Atom,
        }
    }

    /// Whether a member can follow without parentheses.
    fn has_members(&self, id: NodeId) -> bool {
        matches!(
            self.kind(id),
            NodeKind::Field(_)
                | NodeKind::Member(..)
                | NodeKind::Call { .. }
                | NodeKind::Boolean(_)
                | NodeKind::Null
        )
    }

    /// The steps of a node, first one first. Single words are among them, so that their order is kept.
    fn node<'a>(&'a self, id: NodeId, steps: &mut Vec<Step<'a>>, f: &mut Formatter<'_>) -> fmt::Result {
        let base_steps = |base: NodeId, steps: &mut Vec<Step<'a>>| {
            if self.has_members(base) {
                steps.extend([Step::Node(base, Level::Logic), Step::Text(".")]);
            } else {
                steps.extend([
                    Step::Text("("),
                    Step::Node(base, Level::Logic),
                    Step::Text(")"),
                    Step::Text("."),
                ]);
            }
        };
        match self.kind(id) {
            NodeKind::Binary(operator, left, right) => {
                let level = operator.level();
                let next = match level {
                    Level::Logic => Level::Equality,
                    Level::Equality => Level::Order,
                    Level::Order => Level::Sum,
                    Level::Sum => Level::Product,
                    _ => Level::Term,
                };
                // `and` and `or` are equal to the parser, not to every reader.
                let is_mixed = level == Level::Logic
                    && matches!(self.kind(*left), NodeKind::Binary(inner, ..)
                        if inner.level() == Level::Logic && inner != operator);
                steps.extend([
                    Step::Node(*left, if is_mixed { Level::Atom } else { level }),
                    Step::Text(" "),
                    Step::Text(operator.symbol()),
                    Step::Text(" "),
                    // The right side of an equality is no null test, which its level excludes.
                    Step::Node(*right, next),
                ]);
            }
            NodeKind::IsNull(inner) => {
                steps.extend([Step::Node(*inner, Level::Sum), Step::Text(" is null")]);
            }
            NodeKind::Not(inner) => {
                if let NodeKind::IsNull(tested) = self.kind(*inner) {
                    steps.extend([Step::Node(*tested, Level::Sum), Step::Text(" is not null")]);
                } else {
                    steps.extend([Step::Text("not "), Step::Node(*inner, Level::Term)]);
                }
            }
            NodeKind::Member(base, name) => {
                base_steps(*base, steps);
                steps.push(Step::Text(name));
            }
            NodeKind::Call { base, name, arguments } => {
                if let Some(base) = base {
                    base_steps(*base, steps);
                }
                steps.extend([Step::Text(name), Step::Text("(")]);
                for (index, argument) in arguments.iter().enumerate() {
                    if index > 0 {
                        steps.push(Step::Text(", "));
                    }
                    steps.push(Step::Node(*argument, Level::Logic));
                }
                steps.push(Step::Text(")"));
            }
            NodeKind::Field(name) => steps.push(Step::Text(name)),
            NodeKind::Number(text) | NodeKind::BadText(text, _) => steps.push(Step::Text(text)),
            NodeKind::Boolean(true) => steps.push(Step::Text("true")),
            NodeKind::Boolean(false) => steps.push(Step::Text("false")),
            NodeKind::Null => steps.push(Step::Text("null")),
            NodeKind::Named(name) => steps.extend([Step::Text("$"), Step::Text(name)]),
            NodeKind::Positional(_) => steps.push(Step::Text("?")),
            // A leaf is never in parentheses: nothing is waiting to be printed before it.
            NodeKind::Text(text) => return f.write_str(&quote(text)),
        }
        Ok(())
    }
}
