//! The cases of the reference, and trees made at random.

use std::fs;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use super::ast::{Ast, BinaryOperator, Node, NodeKind};
use super::*;

/// Texts of the case file that its reference refuses, and that are read here as the live service reads them.
pub(crate) const EXTENSIONS: [&str; 12] = [
    "name IS NOT NULL",
    "depth IS NOT NULL AND depth > 100",
    "name Is Null",
    "name is NULL",
    "name is Not null",
    "geom intersects 'POLYGON ((0 0, 10 0, 10 10, 0 10, 0 0))'",
    "n = 1",
    "NOT ok",
    "ok AND NOT nothing",
    "scientificName IS NOT NULL AND minimumDepthInMeters IS NOT NULL",
    "footprintWKT IS NOT NULL",
    "category_name = 'Marine Protected Area' AND iucn_category = 'Ia'",
];

/// A file of the reference's cases, in `../shared/odp` or `ODP_CASES`.
pub(crate) fn cases_file(name: &str) -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/odp");
    std::env::var_os("ODP_CASES").map_or_else(beside, PathBuf::from).join(name)
}

fn cases() -> Vec<Value> {
    let text = fs::read_to_string(cases_file("filter_cases.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
#[cfg_attr(not(has_cases), ignore = "needs ../shared/odp, or ODP_CASES")]
fn the_cases_of_the_reference_are_read_as_it_reads_them() {
    let cases = cases();
    for ast in cases.iter().filter_map(|case| parse(case["filter"].as_str().unwrap()).ok()) {
        assert!(parse(&ast.to_string()).unwrap() == ast, "{ast}");
    }
    let (mut valid, mut invalid, mut extensions) = (0, 0, 0);
    for case in &cases {
        let text = case["filter"].as_str().unwrap();
        match (parse(text), case["valid"].as_bool().unwrap()) {
            (Ok(ast), true) => {
                assert_eq!(sexpr(&ast), case["sexpr"].as_str().unwrap(), "{text}");
                valid += 1;
            }
            (Err(_), false) => invalid += 1,
            (Ok(_), false) => {
                assert!(EXTENSIONS.contains(&text), "{text:?} is read, and should not be");
                extensions += 1;
            }
            (Err(error), true) => panic!("{text:?}: {}{}", error.reason, error.diagram(text)),
        }
    }
    assert_eq!((valid, invalid, extensions), (231, 78, 12));
}

fn reason(text: &str) -> String {
    let error = parse(text).map(|_| ()).expect_err("refused");
    format!("{}:{}{}", error.place(text), error.reason, error.diagram(text))
}

fn tree(text: &str) -> String {
    sexpr(&parse(text).unwrap_or_else(|error| panic!("{text:?}: {}", error.reason)))
}

#[test]
fn what_the_live_service_has_beyond_the_reference_is_read_like_what_it_resembles() {
    for (extended, plain) in [
        ("n = 1", "n == 1"),
        ("name IS NOT NULL", "name is not null"),
        ("name Is Not nULL", "name is not null"),
        ("name ISNULL == True", "name is null == true"),
        ("NOT ok", "not ok"),
        ("Not (n = 1)", "not (n == 1)"),
        ("ok AND NOT ok == ok", "ok and (not ok) == ok"),
        ("g intersects h", "g intersect h"),
        ("g intersects(h)", "g intersect (h)"),
        ("g intersect s", "g intersect s"),
        // Only as a word: a column `sea`.
        ("g intersectsea", "g intersect sea"),
    ] {
        assert_eq!(tree(extended), tree(plain), "{extended}");
    }
    for text in ["name is NONE", "g INTERSECTS h", "g Within h", "n == 1 And ok", "n == == 1", "n = = 1"] {
        reason(text);
    }
}

#[test]
fn variables_are_numbered_as_the_tree_is_read() {
    assert_eq!(tree("? == ?"), "(== (bind 0) (bind 1))");
    // Arguments come before what a method is called on.
    assert_eq!(tree("(?).f(?, ?) == ?"), "(== (method (bind 2) \"f\" (bind 0) (bind 1)) (bind 3))");
    assert_eq!(tree("f(?) == (?)"), "(== (call \"f\" (bind 0)) (bind 1))");
}

#[test]
fn texts_have_the_escapes_of_their_quotes() {
    let text = |quoted: &str| match &parse(quoted).unwrap().nodes[0].kind {
        NodeKind::Text(text) => text.clone(),
        NodeKind::BadText(..) => "BAD".to_owned(),
        other => panic!("{other:?}"),
    };
    for (quoted, expected) in [
        (r#""a\"b\\\/\u00e9\ud83d\udc1f""#, "a\"b\\/é🐟"),
        (r#""\ud83d""#, "BAD"),
        (r#""\x41""#, "BAD"),
        ("\"a\tb\"", "BAD"),
        (r"'\x41\101\u00e9\U0001f41f\n\q\7'", "AAé🐟\n\\q\x07"),
        (r"'a\'", "BAD"),
        (r"'\x4'", "BAD"),
        (r"'\ud800'", "BAD"),
        (r"'\N{DASH}'", "BAD"),
        ("'a\nb'", "BAD"),
        ("'a\\\nb'", "ab"),
        ("'a\\\r\nb'", "ab"),
        ("'a\0'", "BAD"),
        ("'a\\\0'", "BAD"),
    ] {
        assert_eq!(text(quoted), expected, "{quoted}");
    }
    // Broken escapes are no fault of the grammar; they are found when the text is needed.
    let ast = parse(r"n == 'a\'").unwrap();
    let error = bind(&ast, &FilterVariables::default()).unwrap_err();
    assert_eq!(error.span, Some(5..9));
    assert_eq!(sexpr(&ast), r#"(== (field "n") (badstr "'a\\'"))"#);
}

#[test]
fn an_error_points_at_its_place() {
    assert_eq!(
        reason("n == 1 and\n  (depth >> 3)"),
        " at line 2, column 11:expected a column, number, text, variable or `(`, found `>`\n    (depth >> 3)\n            ^"
    );
    let long = format!("{}a oops {}", "a == 1 or ".repeat(500), "or b == 2".repeat(500));
    let shown = reason(&long);
    assert!(shown.len() < 400 && shown.contains("…") && shown.contains("column 5003"), "{shown}");
    // Characters, not bytes; and none that would move the carets.
    assert!(reason("'é\u{202e}' \t§").ends_with("\n  'é·'  §\n        ^"), "{}", reason("'é\u{202e}' \t§"));
    for (text, hint) in [
        ("a <> 1", "!="),
        ("a && b", "`and`"),
        ("!a", "`not`"),
        ("a == -b", "digits"),
        ("[a] == 1", "without quotes"),
        ("a == “x”", "between"),
        ("g CONTAINS h", "`contains`"),
        ("(a == 1", "no `)`"),
        ("f(a", "no `)`"),
        ("x.true", "member"),
        ("add(1)", "expected 2"),
    ] {
        assert!(reason(text).contains(hint), "{}", reason(text));
    }
}

#[test]
fn a_mixture_of_and_and_or_is_noticed_where_no_parentheses_tell() {
    for (text, is_mixed) in [
        ("a or b and c", true),
        ("(a or b) and c", false),
        ("a and (b or c and d)", true),
        ("f(a and b, c or d)", false),
        ("f(a and b or c)", true),
        ("a and b and c AND d", false),
    ] {
        assert_eq!(parse(text).unwrap().mixed.is_some(), is_mixed, "{text}");
    }
    assert_eq!(parse("a or b and c").unwrap().to_string(), "(a or b) and c");
}

/// Runs where there is no more stack than a small thread has.
fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(128 << 10).spawn(test).unwrap();
    thread.join().unwrap();
}

#[test]
fn what_is_too_large_is_refused_and_takes_no_stack() {
    on_a_small_stack(|| {
        let many = |part: &str, count: usize| part.repeat(count);
        for (text, words) in [
            (many("(", 1_000_000), "levels deep"),
            (many("not ", 200_000), "levels deep"),
            (many("~", 1_000_000), "levels deep"),
            (many("f(", 500_000), "levels deep"),
            (format!("a{}", many(".b", 500_000)), "levels deep"),
            (format!("1{}", many("+1", 500_000)), "levels deep"),
            (format!("a{}", many(" or b and c", 90_000)), "levels deep"),
            (format!("a{}", many("==b", 300_000)), "levels deep"),
            (format!("a{}", many(" or a", 200_000)), "more than 100000 columns"),
            (format!("f(1{})", many(",1", 500_000)), "more than 100000 columns"),
            (format!("f(1{})", many(",g()", 200_000)), "more than 100000 columns"),
            (format!("a{}", many(" or a == 1", 1_000_000)), "bytes long"),
            (format!("a == '{}'", many("x", 1 << 20)), "bytes long"),
            (format!("a == 1e{}", many("9", 1_000_000)), "beyond the range"),
            (format!("a == {}", many("9", 1_000_000)), "beyond the range"),
            (format!("a == \"{}", many("\\", 1_000_000)), "no closing"),
            (many("$", 1_000_000), "name of a variable"),
        ] {
            let shown: String = text.chars().take(20).collect();
            let bound = parse(&text).and_then(|ast| bind(&ast, &FilterVariables::default()).map(|_| ()));
            let error = bound.expect_err(&shown);
            assert!(error.reason.contains(words), "{shown}: {}", error.reason);
            assert!(error.reason.len() + error.diagram(&text).len() < 1000);
        }
        for text in [
            format!("{}a{}", many("(", MAX_DEPTH), many(")", MAX_DEPTH)),
            format!("{}a", many("not ", MAX_DEPTH - 1)),
            format!("a == 1{}", many(" or a == 1", 20_000)),
            format!("a == 1{}", many(" and (b or c)", 20_000)),
        ] {
            let ast = parse(&text).unwrap();
            assert!(ast == parse(&ast.to_string()).unwrap());
            assert!(sexpr(&ast).len() > 10);
        }
    });
}

#[test]
fn texts_of_variables_are_shared_and_counted() {
    let mut variables = FilterVariables::default();
    variables.set("area", "x".repeat(1 << 20));
    let ast = parse(&format!("a == $area{}", " or a == $area".repeat(300))).unwrap();
    let error = bind(&ast, &variables).unwrap_err();
    assert!(error.reason.contains("bytes"), "{}", error.reason);
}

/// A tree of random operators over random leaves, with at most so many levels.
fn random_tree(random: &mut StdRng, levels: usize, nodes: &mut Vec<Node>) -> usize {
    const NAMES: [&str; 14] = [
        "a",
        "n_1",
        "_",
        "or",
        "and",
        "is",
        "within",
        "intersects",
        "contains",
        "s",
        "nothing",
        "h3",
        "None1",
        "is_nullx",
    ];
    let name = |random: &mut StdRng| (*NAMES.choose(random).unwrap()).to_owned();
    let choice = if levels <= 1 { random.random_range(0..9) } else { random.random_range(0..24) };
    let kind = match choice {
        0 | 1 => NodeKind::Field(name(random)),
        2 => {
            let number = ["1", "-5", "+2.50", ".5", "7.", "1e-3", "9007199254740993"].choose(random).unwrap();
            NodeKind::Number((*number).to_owned())
        }
        3 => {
            let length = random.random_range(0..8);
            let letters = ['a', '\'', '"', '\\', '\n', '\0', 'é', '🐟', '\u{7f}', '$', ' '];
            NodeKind::Text((0..length).map(|_| *letters.choose(random).unwrap()).collect())
        }
        4 => NodeKind::Boolean(random.random()),
        5 => NodeKind::Null,
        6 => NodeKind::Named(["not", "a", "or"].choose(random).unwrap().to_string()),
        7 => NodeKind::Positional(0),
        8 => NodeKind::Call { base: None, name: name(random), arguments: vec![] },
        9 => NodeKind::Not(random_tree(random, levels - 1, nodes)),
        10 => NodeKind::IsNull(random_tree(random, levels - 1, nodes)),
        11 => {
            let test = NodeKind::IsNull(random_tree(random, levels - 1, nodes));
            nodes.push(Node { kind: test, span: 0..0 });
            NodeKind::Not(nodes.len() - 1)
        }
        12 => NodeKind::Member(random_tree(random, levels - 1, nodes), "not".to_owned()),
        13 => {
            let base = random.random_bool(0.5).then(|| random_tree(random, levels - 1, nodes));
            let count = random.random_range(0..3);
            let arguments = (0..count).map(|_| random_tree(random, levels - 1, nodes)).collect();
            NodeKind::Call { base, name: name(random), arguments }
        }
        _ => {
            use BinaryOperator::*;
            let operators = [
                And,
                Or,
                Equal,
                NotEqual,
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
            ];
            let left = random_tree(random, levels - 1, nodes);
            let right = random_tree(random, levels - 1, nodes);
            NodeKind::Binary(*operators.choose(random).unwrap(), left, right)
        }
    };
    nodes.push(Node { kind, span: 0..0 });
    nodes.len() - 1
}

#[test]
fn the_printed_form_of_any_tree_parses_to_the_same_tree() {
    let mut random = StdRng::seed_from_u64(4);
    let mut longest = 0;
    for round in 0..20_000 {
        let mut nodes = vec![];
        random_tree(&mut random, 1 + round % 7, &mut nodes);
        let mut ast = Ast { nodes, mixed: None };
        ast.number_variables();
        let printed = ast.to_string();
        let again = parse(&printed).unwrap_or_else(|error| panic!("{printed}: {}", error.reason));
        assert_eq!(sexpr(&again), sexpr(&ast), "{printed}");
        assert!(again == ast && again.mixed.is_none(), "{printed}");
        longest = longest.max(printed.len());
    }
    assert!(longest > 200, "{longest}");
}

#[test]
fn variables_are_read_in_the_forms_of_the_service() {
    let read = |json: &str| FilterVariables::read(json);
    let variables = read(
        r#"{"a": {"type": "string", "value": "x"}, "b": {"type": "integer", "value": true},
            "c": {"type": "float", "value": 3}, "d": {"type": "datetime", "value": "2024-01-02T03:04:05.000006+01:00"},
            "e": {"type": "date", "value": "2024-01-02"}, "f": {"type": "time", "value": "03:04:05"},
            "g": {"type": "boolean", "value": false}, "h": 18446744073709551615, "i": -3, "j": 0.5, "k": "2024",
            "l": null, "m": true, "n": {"type": "integer", "value": "9007199254740993"}}"#,
    )
    .unwrap();
    for (name, value) in [
        ("a", FilterValue::from("x")),
        ("b", true.into()),
        ("c", 3.0.into()),
        ("d", FilterTimestamp::read("2024-01-02T03:04:05.000006+01:00").unwrap().into()),
        ("e", FilterDate::read("2024-01-02").unwrap().into()),
        ("f", FilterTime::read("03:04:05").unwrap().into()),
        ("g", false.into()),
        ("h", u64::MAX.into()),
        ("i", (-3).into()),
        ("j", 0.5f32.into()),
        ("k", "2024".to_owned().into()),
        ("l", FilterValue::Null),
        ("m", true.into()),
        ("n", 9_007_199_254_740_993i64.into()),
    ] {
        assert_eq!(variables.named[name], value, "{name}");
    }
    assert_eq!(read(&variables.to_json()).unwrap(), variables);
    let positional = read(r#"[500, {"type": "integer", "value": 2000}]"#).unwrap();
    assert_eq!(positional.positional, [500.into(), 2000.into()]);
    assert_eq!(read(&positional.to_json()).unwrap(), positional);
    let mut both = positional.clone();
    both.set("a", 1).push(f64::INFINITY);
    assert_eq!(read(&both.to_json()).unwrap(), both);
    assert!(
        read("null").unwrap().is_empty() && read("{}").unwrap().is_empty() && read("[]").unwrap().is_empty()
    );
    // The nearest double, as wherever else numbers are read, and the same again from another process.
    for text in
        ["6e49", "57.123456789012345", "0.1", "1e-320", "444444.4", "123456789012345678901234567890e0"]
    {
        let value: f64 = text.parse().unwrap();
        let variables = read(&format!("[{text}]")).unwrap();
        assert_eq!(variables.positional, [value.into()], "{text}");
        assert_eq!(read(&variables.to_json()).unwrap(), variables);
    }
    // A whole number that none of its kind can hold is not another one.
    assert!(read("[123456789012345678901234567890]").is_err());
    let escaped =
        read(r#" { "a\u00e9" : "\"\ud83d\udc1f", "b":{"value":"x","type":"string"}, "c": -0.5e+1 } "#)
            .unwrap();
    assert_eq!(escaped.named["aé"], "\"🐟".into());
    assert_eq!((&escaped.named["b"], &escaped.named["c"]), (&"x".into(), &(-5.0).into()));
    for json in [
        "{",
        "[",
        "[1",
        "[1,",
        "[1,]",
        "[1 2]",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,}",
        "{a:1}",
        "{1:1}",
        "[01]",
        "[1.]",
        "[.5]",
        "[+1]",
        "[1e]",
        "[--1]",
        "[1e999]",
        "[nul]",
        "[True]",
        "[\"a]",
        "[\"\\x41\"]",
        "[\"\\ud83d\"]",
        "[\"\n\"]",
        "[1]]",
        "[1] x",
        "{\"a\": é}",
        "\u{feff}[]",
    ] {
        let reason = read(json).expect_err(json);
        assert!(reason.contains("no JSON"), "{json}: {reason}");
    }
    for (json, words) in [
        ("", "no JSON"),
        ("{\"a\": NaN}", "no JSON"),
        ("3", "an object or an array"),
        (r#"{"a": [1]}"#, "variable \"a\""),
        (r#"[1, {"type": "integer"}]"#, "variable 1"),
        (r#"{"a": {"type": "integer", "value": 1.5}}"#, "of type integer"),
        (r#"{"a": {"type": "string", "value": 1}}"#, "of type string"),
        (r#"{"a": {"type": "bytes", "value": "x"}}"#, "one of the types"),
        (r#"{"a": {"type": "datetime", "value": "yesterday"}}"#, "2024-01-31T12:00:00Z"),
        (r#"{"a": {"type": "date", "value": "2024-02-30"}}"#, "2024-01-31"),
        (r#"{"1": 5}"#, "no variable 0"),
    ] {
        let reason = read(json).unwrap_err();
        assert!(reason.contains(words), "{json}: {reason}");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(read(&deep).is_err());
}

#[test]
fn a_name_that_no_filter_can_use_is_not_written() {
    let mut variables = FilterVariables::default();
    variables.push(5).push(6).set("0", 7).set("9", 8).set("x", 9);
    let again = FilterVariables::read(&variables.to_json()).unwrap();
    assert_eq!(again.positional, variables.positional);
    assert_eq!(again.named.keys().collect::<Vec<_>>(), ["x"]);
    let mut only_numbers = FilterVariables::default();
    only_numbers.set("5", 1);
    assert!(FilterVariables::read(&only_numbers.to_json()).unwrap().is_empty());
}

#[test]
fn a_variable_without_a_value_is_an_error_that_names_it() {
    let bound = |text: &str, json: &str| {
        let ast = parse(text).unwrap();
        bind(&ast, &FilterVariables::read(json).unwrap()).map(|_| ()).map_err(|error| error.reason)
    };
    assert!(bound("a == $x and b == $x", r#"{"x": 1, "unused": null}"#).is_ok());
    assert!(bound("a == ?", "[1, 2]").is_ok());
    for (text, json, words) in [
        ("a == $x", "{}", "no variables are given"),
        ("a == $x", r#"{"y": 1}"#, "given are $y"),
        ("a == $x", "[1]", "have no names"),
        ("a == ? and b == ?", "[1]", "number 2 has no value: 1 positional"),
        ("a == ?", r#"{"y": 1}"#, "have names"),
        ("a == $x", r#"{"x": null}"#, "is null"),
        ("a == $x", r#"{"x": {"type": "float", "value": "NaN"}}"#, "`$x`: NaN"),
    ] {
        let reason = bound(text, json).unwrap_err();
        assert!(reason.contains(words), "{text}: {reason}");
    }
}
