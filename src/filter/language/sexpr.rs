//! The tree as the reference's case file writes it. For tests.

use super::ast::{Ast, NodeId, NodeKind};

enum Step {
    Node(NodeId),
    Text(String),
}

/// The S-expression of a filter.
pub(crate) fn sexpr(ast: &Ast) -> String {
    let mut written = String::new();
    let mut steps = vec![Step::Node(ast.root())];
    while let Some(step) = steps.pop() {
        let id = match step {
            Step::Text(text) => {
                written.push_str(&text);
                continue;
            }
            Step::Node(id) => id,
        };
        let form = |head: String, operands: &[NodeId], tail: &str| {
            let mut form = vec![Step::Text(format!("({head}"))];
            for operand in operands {
                form.extend([Step::Text(" ".to_owned()), Step::Node(*operand)]);
            }
            form.push(Step::Text(format!("{tail})")));
            form
        };
        let parts = match ast.kind(id) {
            NodeKind::Binary(operator, left, right) => {
                form(operator.symbol().to_owned(), &[*left, *right], "")
            }
            NodeKind::Not(inner) => form("not".to_owned(), &[*inner], ""),
            NodeKind::IsNull(inner) => form("is-null".to_owned(), &[*inner], ""),
            NodeKind::Member(base, name) => form("member".to_owned(), &[*base], &format!(" {}", json(name))),
            NodeKind::Call { base: None, name, arguments } => {
                form(format!("call {}", json(name)), arguments, "")
            }
            NodeKind::Call { base: Some(base), name, arguments } => {
                let mut parts = form("method".to_owned(), &[*base], "");
                parts.pop();
                parts.push(Step::Text(format!(" {}", json(name))));
                parts.extend(form(String::new(), arguments, "").into_iter().skip(1));
                parts
            }
            NodeKind::Field(name) => form(format!("field {}", json(name)), &[], ""),
            NodeKind::Number(text) => form(format!("num {}", json(text)), &[], ""),
            NodeKind::Text(text) => form(format!("str {}", json(text)), &[], ""),
            NodeKind::BadText(text, _) => form(format!("badstr {}", json(text)), &[], ""),
            NodeKind::Boolean(value) => form(format!("bool {value}"), &[], ""),
            NodeKind::Null => form("null".to_owned(), &[], ""),
            NodeKind::Named(name) => form(format!("bind {}", json(name)), &[], ""),
            NodeKind::Positional(index) => form(format!("bind {index}"), &[], ""),
        };
        steps.extend(parts.into_iter().rev());
    }
    written
}

/// As Python's `json.dumps`: everything beyond ASCII is escaped.
fn json(text: &str) -> String {
    let mut written = String::new();
    for c in serde_json::Value::from(text).to_string().chars() {
        if c.is_ascii() {
            written.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                written.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    written
}
