//! A selection's filter as text that another session reads as the same.

use datafusion::common::Result;
use datafusion::sql::unparser::expr_to_sql;

use super::settings::TicketSettings;
use super::text::fingerprint;
use crate::error::OdpError;
use crate::table::planned_filter::PlannedFilter;
use crate::table::selection::Selection;
use crate::table::selection_filter::{FilterSource, read_sql, reads_session};

/// A filter as text, and what it was planned as.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TicketFilter {
    All,
    /// In the ODP language, with its variables as JSON if it has any.
    Odp {
        text: String,
        variables: Option<String>,
        hash: u64,
    },
    Sql {
        text: String,
        hash: u64,
    },
}

/// What two plans of the same filter have in common.
pub(super) fn hash_of(filter: &PlannedFilter) -> u64 {
    match filter {
        PlannedFilter::All => fingerprint("all"),
        PlannedFilter::Never => fingerprint("never"),
        PlannedFilter::Where(expr) => fingerprint(&expr.to_string()),
    }
}

impl Selection {
    pub(super) fn ticket_filter(&self) -> Result<TicketFilter, OdpError> {
        let parts = self.parts();
        let hash = hash_of(&parts.filter);
        let Some(planned) = parts.filter.expr() else { return Ok(TicketFilter::All) };
        match &parts.source {
            FilterSource::All => return Ok(TicketFilter::All),
            FilterSource::Odp(text) => {
                let variables = (!parts.variables.is_empty()).then(|| parts.variables.to_json());
                return Ok(TicketFilter::Odp { text: text.clone(), variables, hash });
            }
            FilterSource::Sql(text)
                if !self.replans_differently(text)? && self.replan(text)? == parts.filter =>
            {
                return Ok(TicketFilter::Sql { text: text.clone(), hash });
            }
            FilterSource::Sql(_) | FilterSource::Expr(_) => {}
        }
        let unsupported = |why: String| OdpError::Unsupported {
            what: format!("a ticket for the filter {planned}: {why}; give it as text in the ODP language"),
        };
        let text = expr_to_sql(planned).map_err(|error| unsupported(error.to_string()))?.to_string();
        match self.replan(&text) {
            Ok(again) if again == parts.filter => Ok(TicketFilter::Sql { text, hash }),
            Ok(_) => Err(unsupported(format!("as SQL it is {text}, which reads back as another one"))),
            Err(error) => Err(unsupported(format!("as SQL it is {text}, which does not read back: {error}"))),
        }
    }

    /// Whether the text may be planned as something else in another session, or tomorrow.
    fn replans_differently(&self, text: &str) -> Result<bool, OdpError> {
        Ok(reads_session(&read_sql(self.state(), text, &self.snapshot().schema())?))
    }

    /// What who opens the ticket makes of the text.
    fn replan(&self, text: &str) -> Result<PlannedFilter> {
        let mut state = self.state().clone();
        TicketSettings::of(state.config_options()).apply(&mut state)?;
        let schema = self.snapshot().schema();
        let expr = read_sql(&state, text, &schema)?;
        PlannedFilter::try_new(&state, &schema, expr)
    }
}
