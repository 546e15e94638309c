//! The reference's cases of the ODP filter language, asked of a dataset through `select` and through `odp_select`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use datafusion_odp::{FilterVariables, OdpTableProvider};
use futures::TryStreamExt;
use serde_json::Value;

use crate::fixtures::{Result, session, write};

#[path = "../src/filter/cases.rs"]
mod cases;

/// Where the reference's cases lie: `../shared/odp`, or `ODP_CASES`.
fn cases_dir() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/odp");
    std::env::var_os("ODP_CASES").map_or_else(beside, PathBuf::from)
}

fn ids(batches: &[RecordBatch]) -> Vec<i64> {
    let mut ids: Vec<i64> = batches
        .iter()
        .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
        .collect();
    ids.sort_unstable();
    ids
}

/// The rows of a selection, and how many batches it keeps.
async fn through_select(
    ctx: &SessionContext,
    table: &OdpTableProvider,
    text: &str,
    variables: &str,
) -> Result<(Vec<i64>, usize), DataFusionError> {
    let variables = FilterVariables::from_json(variables)?;
    let selection = table.select(text).with_variables(variables).columns(["id"]).plan(ctx).await?;
    Ok((ids(&selection.execute().await?.try_collect::<Vec<_>>().await?), selection.batch_count()))
}

async fn through_sql(ctx: &SessionContext, text: &str, variables: &str) -> Result<Vec<i64>, DataFusionError> {
    let quoted = |text: &str| text.replace('\'', "''");
    let sql = format!("SELECT id FROM odp_select('t', '{}', '{}')", quoted(text), quoted(variables));
    Ok(ids(&ctx.sql(&sql).await?.collect().await?))
}

#[tokio::test]
#[cfg_attr(not(has_cases), ignore = "needs ../shared/odp, or ODP_CASES")]
async fn every_case_gives_the_same_rows_through_select_and_sql() -> Result<()> {
    let path = cases_dir().join("filter_cases.jsonl");
    let rows = cases::table(&fs::read_to_string(path.with_file_name("filter_table.json"))?);
    let dir = tempfile::tempdir()?;
    write(&dir.path().join("a.parquet"), &rows.slice(0, 7), 3)?;
    write(&dir.path().join("b.parquet"), &rows.slice(7, 5), 2)?;
    let cases = fs::read_to_string(path)?;
    let (mut answered, mut refused, mut skipped) = (0, 0, 0);
    for pruning in ["true", "false"] {
        let ctx = session(2, &[("odp.pruning", pruning)])?;
        let table = OdpTableProvider::open(&ctx, dir.path().display().to_string()).await?;
        assert_eq!(table.snapshot().num_batches(), 6);
        let table = Arc::new(table);
        ctx.register_table("t", Arc::<OdpTableProvider>::clone(&table))?;
        for line in cases.lines() {
            let case: Value = serde_json::from_str(line)?;
            let text = case["filter"].as_str().ok_or("no filter")?;
            let different = cases::DIFFERENT.iter().find(|(filter, _)| *filter == text);
            let of_ours = cases::ANSWERED.iter().find(|(filter, _)| *filter == text);
            let expected = match (different, of_ours) {
                (Some((_, expected)), _) => expected.ok().map(<[i64]>::to_vec),
                (_, Some((_, expected))) => Some(expected.to_vec()),
                _ => cases::expected(&case),
            };
            let variables = case["vars"].to_string();
            let selected = through_select(&ctx, &table, text, &variables).await;
            // Which batches are read is the same to both.
            let in_sql = match pruning {
                "true" => Some(through_sql(&ctx, text, &variables).await),
                _ => None,
            };
            let Some(expected) = expected else {
                for error in
                    std::iter::once(selected.map(|_| ())).chain(in_sql.map(|answer| answer.map(|_| ())))
                {
                    let error = error.err().ok_or_else(|| format!("{text}: is answered"))?;
                    assert!(error.to_string().contains("filter at line"), "{text}: {error}");
                }
                refused += 1;
                continue;
            };
            let (found, kept) = selected.map_err(|error| format!("{text}: {error}"))?;
            assert_eq!(found, expected, "{text}, pruning {pruning}");
            if let Some(found) = in_sql {
                assert_eq!(found.map_err(|error| format!("{text}: {error}"))?, expected, "{text}");
            }
            answered += 1;
            skipped += 6 - kept;
        }
    }
    let ctx = session(2, &[])?;
    let table = OdpTableProvider::open(&ctx, dir.path().display().to_string()).await?;
    // No NaN matches, so that bounds of floating-point columns tell.
    assert_eq!(through_select(&ctx, &table, "lat > 40", "null").await?, (vec![12], 1));
    assert_eq!(through_select(&ctx, &table, "lat <= -40", "null").await?, (vec![1, 2, 3], 1));
    assert_eq!((answered, refused), (2 * 184, 2 * 137));
    assert!(skipped > 100, "{skipped}");
    Ok(())
}

#[tokio::test]
async fn thousands_of_terms_pass_through_a_selection() -> Result<()> {
    let dir = tempfile::tempdir()?;
    crate::fixtures::write_observations(dir.path(), 1, 4, 50)?;
    let ctx = session(2, &[])?;
    let table = OdpTableProvider::open(&ctx, dir.path().display().to_string()).await?;
    // One list; its first number lies in the third of four batches.
    let many: Vec<String> = (0..20_000).map(|i| format!("id == {}", 102 + i * 3)).collect();
    let text = many.join(" or ");
    let every_third: Vec<i64> = (102..200).step_by(3).collect();
    assert_eq!(through_select(&ctx, &table, &text, "null").await?, (every_third, 2));
    for operator in [" or ", " and "] {
        let pairs: Vec<String> =
            (0..200).map(|i| format!("(id > {i} or depth < {} or temperature < {i}.5)", i % 50)).collect();
        let text = pairs.join(operator);
        let (found, _) = through_select(&ctx, &table, &text, "null").await?;
        assert!(!found.is_empty(), "{operator}");
    }
    Ok(())
}
