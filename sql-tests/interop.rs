//! What is written is read by other engines with the same rows. `ODP_PYTHON` names an interpreter with pyarrow, duckdb,
//! polars and geopandas, or some of them.

use std::path::Path;
use std::process::Command;

use datafusion_odp::{OdpTableProvider, WriteOdp, WriteOptions};

use crate::fixtures::{Result, session};

/// Prints `engine rows sum(id) NULL partitions`, or `engine missing`.
const READ: &str = r#"
import sys, importlib.util
root, flat = sys.argv[1], sys.argv[2]
def has(name):
    found = importlib.util.find_spec(name) is not None
    if not found: print(name, "missing")
    return found
if has("pyarrow"):
    import pyarrow.dataset as ds
    t = ds.dataset(root, partitioning="hive").to_table()
    print("pyarrow", t.num_rows, sum(t["id"].to_pylist()), t["part"].null_count)
if has("duckdb"):
    import duckdb
    q = f"SELECT count(*), sum(id), count(*) - count(part) FROM read_parquet('{root}/**/*.parquet', hive_partitioning=true)"
    print("duckdb", *[int(x) for x in duckdb.sql(q).fetchall()[0]])
if has("polars"):
    import polars as pl
    t = pl.scan_parquet(f"{root}/**/*.parquet", hive_partitioning=True).collect()
    print("polars", t.height, t["id"].sum(), t["part"].null_count())
if has("geopandas"):
    import geopandas, json, pyarrow.parquet as pq, glob
    file = glob.glob(f"{flat}/*.parquet")[0]
    g = geopandas.read_parquet(file)
    box = g.total_bounds.tolist()
    geo = json.loads(pq.ParquetFile(file).metadata.metadata[b"geo"])["columns"]["geometry"]
    inside = geopandas.read_parquet(file, bbox=(-10, -10, 10, 10))
    assert geo["bbox"] == box, (geo["bbox"], box)
    assert len(inside) == int(g.cx[-10:10, -10:10].shape[0])
    print("geopandas", len(g), int(g["id"].sum()), 0)
"#;

#[tokio::test]
#[ignore = "needs Python: ODP_PYTHON=… cargo test --features cli --test integration interop -- --ignored"]
async fn other_engines_read_the_rows_that_were_written() -> Result<()> {
    let python = std::env::var_os("ODP_PYTHON").ok_or("ODP_PYTHON names no interpreter")?;
    let dir = tempfile::tempdir()?;
    let (hive, flat) = (dir.path().join("hive"), dir.path().join("flat"));
    let ctx = session(2, &[])?;
    let rows = "SELECT value AS id,
                       CASE WHEN value % 7 = 0 THEN NULL ELSE 'p/' || (value % 3) END AS part,
                       (value * 37) % 360 - 180.0 AS longitude, (value * 11) % 180 - 90.0 AS latitude
                FROM generate_series(1, 5000)";
    let options = WriteOptions::default().with_partition_by(["part"]).with_option("batch_rows", "500")?;
    ctx.sql(rows).await?.write_odp(&text(&hive), options).await?;
    let options = WriteOptions::default().with_option("point", "longitude, latitude")?;
    ctx.sql(rows).await?.write_odp(&text(&flat), options).await?;
    assert_eq!(OdpTableProvider::open(&ctx, text(&hive)).await?.snapshot().num_rows(), 5000);
    let output = Command::new(python).args(["-c", READ]).args([&hive, &flat]).output()?;
    let (found, errors) =
        (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "{found}{errors}");
    let (sum, nulls) = (5000 * 5001 / 2, 5000 / 7);
    for line in found.lines().filter(|line| !line.ends_with("missing")) {
        let expected = if line.starts_with("geopandas") { 0 } else { nulls };
        let rest = line.split_once(' ').ok_or("no engine")?.1;
        assert_eq!(rest, format!("5000 {sum} {expected}"), "{line}");
    }
    assert!(found.lines().any(|line| !line.ends_with("missing")), "{found}");
    Ok(())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
