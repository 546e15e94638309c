//! Variables, up to the first line break of the input, are read, written and read again, and bound to the filter in the
//! rest of it.
#![no_main]

#[expect(dead_code, unused_imports, reason = "other targets use the rest")]
#[path = "../../src/filter/language/mod.rs"]
mod language;

use language::FilterVariables;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (json, filter) = text.split_once('\n').unwrap_or((text, "a == $a and b == ?"));
    let variables = match FilterVariables::read(json) {
        Ok(variables) => variables,
        Err(reason) => {
            assert!(reason.len() < 1000, "{reason}");
            FilterVariables::default()
        }
    };
    let written = variables.to_json();
    match FilterVariables::read(&written) {
        // By its text: NaN is unequal to itself.
        Ok(again) => assert_eq!(again.to_json(), written),
        Err(reason) => panic!("{written}: {reason}"),
    }
    let Ok(ast) = language::parse(filter) else { return };
    match language::bind(&ast, &variables) {
        Ok(bound) => {
            for id in 0..ast.nodes.len() {
                if let Some(language::Constant::Number(number)) = bound.constant(id) {
                    assert!(number.double.is_finite());
                    for scale in [-40, -1, 0, 3, 38] {
                        number.in_units(scale);
                    }
                }
            }
        }
        Err(error) => assert!(error.reason.len() + error.diagram(filter).len() < 2000, "{}", error.reason),
    }
});
