//! Any text is parsed or refused, with a place that lies in it; operands come before what is made of them.
#![no_main]

#[expect(dead_code, unused_imports, reason = "other targets use the rest")]
#[path = "../../src/filter/language/mod.rs"]
mod language;

use language::ast::NodeKind;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let ast = match language::parse(text) {
        Ok(ast) => ast,
        Err(error) => {
            let diagram = error.diagram(text);
            assert!(error.reason.len() + diagram.len() < 2000, "{}{diagram}", error.reason);
            if let Some(span) = error.span {
                assert!(text.get(span.clone()).is_some(), "{span:?}");
            }
            return;
        }
    };
    for (id, node) in ast.nodes.iter().enumerate() {
        assert!(text.get(node.span.clone()).is_some(), "{:?}", node.span);
        let operands = match &node.kind {
            NodeKind::Binary(_, left, right) => vec![*left, *right],
            NodeKind::Not(inner) | NodeKind::IsNull(inner) | NodeKind::Member(inner, _) => vec![*inner],
            NodeKind::Call { base, arguments, .. } => base.iter().chain(arguments).copied().collect(),
            _ => vec![],
        };
        assert!(operands.iter().all(|operand| *operand < id), "{ast:?}");
    }
});
