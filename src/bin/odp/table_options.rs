//! Carries the options of ODP tables through `datafusion_cli`.
//!
//! Before it runs `CREATE EXTERNAL TABLE` or `COPY`, `datafusion_cli` checks the options against DataFusion's own formats. An
//! option without a namespace counts as one of the format, and with `STORED AS ODP` every such option is refused.
//! So `batch_rows` is written as `odp.batch_rows`, a namespace that is let through here; the table's factory reads
//! both, and is the one to refuse options that it does not know.

use std::any::Any;

use datafusion::common::Result;
use datafusion::common::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::sql::sqlparser::dialect::dialect_from_str;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// Takes every option in the namespace `odp`, and keeps none.
#[derive(Debug, Clone, Default)]
pub(crate) struct OdpNamespace;

impl ConfigExtension for OdpNamespace {
    const PREFIX: &'static str = "odp";
}

impl ExtensionOptions for OdpNamespace {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, _key: &str, _value: &str) -> Result<()> {
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        vec![]
    }
}

/// `sql` with the format options of ODP tables in the namespace `odp`. Text that is not SQL stays as it is.
pub(crate) fn in_odp_namespace(sql: String, dialect: &str) -> String {
    let lower = sql.to_ascii_lowercase();
    if !(lower.contains("options") && lower.contains("odp")) {
        return sql;
    }
    let Some(dialect) = dialect_from_str(dialect) else { return sql };
    // Escapes stay as written, so that the tokens put together are the text again.
    let Ok(mut tokens) = Tokenizer::new(dialect.as_ref(), &sql).with_unescape(false).tokenize() else {
        return sql;
    };
    for statement in tokens.split_mut(|token| *token == Token::SemiColon) {
        rename_options(statement);
    }
    tokens.iter().map(Token::to_string).collect()
}

fn rename_options(statement: &mut [Token]) {
    let at: Vec<usize> =
        (0..statement.len()).filter(|&i| !matches!(statement[i], Token::Whitespace(_))).collect();
    let word = |statement: &[Token], i: usize, expected: &str| match at.get(i).map(|&i| &statement[i]) {
        Some(Token::Word(word)) => word.value.eq_ignore_ascii_case(expected),
        _ => false,
    };
    let is_odp = (word(statement, 0, "create") || word(statement, 0, "copy"))
        && (1..at.len()).any(|i| {
            word(statement, i, "stored") && word(statement, i + 1, "as") && word(statement, i + 2, "odp")
        });
    let list = (0..at.len()).find(|&i| {
        word(statement, i, "options") && at.get(i + 1).is_some_and(|&i| statement[i] == Token::LParen)
    });
    let (true, Some(list)) = (is_odp, list) else { return };
    for i in list + 2..at.len() {
        match &statement[at[i - 1]] {
            Token::LParen | Token::Comma => {
                let is_path = at.get(i + 1).is_some_and(|&i| statement[i] == Token::Period);
                rename_key(&mut statement[at[i]], is_path);
            }
            Token::RParen => return,
            _ => {}
        }
    }
}

/// Renames the option `key`; `is_path` if `key` is only its first word.
fn rename_key(key: &mut Token, is_path: bool) {
    match key {
        Token::SingleQuotedString(text) | Token::DoubleQuotedString(text) => match text.split_once('.') {
            None => *text = format!("odp.{text}"),
            Some(("format", name)) => *text = format!("odp.{name}"),
            Some(("write", _)) => *text = format!("odp.{text}"),
            Some(_) => {}
        },
        Token::Word(word) if !is_path => *key = Token::SingleQuotedString(format!("odp.{}", word.value)),
        Token::Word(word) if word.value.eq_ignore_ascii_case("format") => "odp".clone_into(&mut word.value),
        _ => {}
    }
}
