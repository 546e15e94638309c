//! The canonical text of a filter parses to the same tree, and is its own canonical text.
#![no_main]

#[expect(dead_code, unused_imports, reason = "other targets use the rest")]
#[path = "../../src/filter/language/mod.rs"]
mod language;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(ast) = language::parse(text) else { return };
    let printed = ast.to_string();
    match language::parse(&printed) {
        Ok(again) => {
            assert!(again == ast, "{text:?} became {printed:?}");
            assert_eq!(again.to_string(), printed);
            assert!(again.mixed.is_none(), "{printed:?}");
        }
        // Blanks and quotes that are put in can take a text over the limit.
        Err(error) => assert!(printed.len() > language::MAX_TEXT_BYTES, "{printed:?}: {}", error.reason),
    }
});
