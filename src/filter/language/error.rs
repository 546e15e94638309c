//! What is wrong with a filter, and a picture of the place.

use std::ops::Range;

/// A filter that cannot be used. `span` is the byte range of its text at fault; empty where something is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilterError {
    /// What was found and what was expected.
    pub(crate) reason: String,
    /// `None` where no place of the text is to blame.
    pub(crate) span: Option<Range<usize>>,
}

/// Characters of the source line that are shown before and after the place.
const CONTEXT: usize = 48;

/// Carets drawn at most.
const MAX_CARETS: usize = 60;

impl FilterError {
    pub(crate) fn new(span: Range<usize>, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), span: Some(span) }
    }

    pub(crate) fn without_place(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), span: None }
    }

    /// " at line 1, column 1"; empty without a place.
    pub(crate) fn place(&self, text: &str) -> String {
        let Some(span) = &self.span else { return String::new() };
        let before = &text[..floor_boundary(text, span.start)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.matches('\n').count() + 1;
        let column = before[line_start..].chars().count() + 1;
        format!(" at line {line}, column {column}")
    }

    /// The source line around the place, and carets under it, each after a line break; empty without a place.
    pub(crate) fn diagram(&self, text: &str) -> String {
        let Some(span) = &self.span else { return String::new() };
        let start = floor_boundary(text, span.start);
        let end = floor_boundary(text, span.end).max(start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let before: Vec<char> = text[line_start..start].chars().collect();
        let marked = text[start..end.min(line_end)].chars().count();
        let hidden = before.len().saturating_sub(CONTEXT);
        let shown_marked = marked.clamp(1, MAX_CARETS);
        let mut rest = text[start..line_end].chars();
        let shown_rest: String = rest.by_ref().take(shown_marked + CONTEXT).map(visible).collect();

        let lead = if hidden > 0 { "…" } else { "" };
        let tail = if rest.next().is_some() { "…" } else { "" };
        let shown_before: String = before[hidden..].iter().copied().map(visible).collect();
        let blanks = " ".repeat(lead.chars().count() + shown_before.chars().count());
        let carets = "^".repeat(shown_marked);
        format!("\n  {lead}{shown_before}{shown_rest}{tail}\n  {blanks}{carets}")
    }
}

/// What a terminal shows in the room of one character; carets must stand under the right one.
fn visible(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '·',
        // Marks that change the direction of the text around them.
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '·',
        c => c,
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// At most `limit` characters of a text that a user wrote, for a message.
pub(crate) fn cut(text: &str, limit: usize) -> String {
    let mut characters = text.chars();
    let mut shown: String = characters.by_ref().take(limit).collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}
