//! The `odp` binary: what it writes to stdout and stderr, and its exit codes.

#![cfg(feature = "cli")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// `odp` in the directory `home`, which is its home too: no rc file, settings or history from outside.
fn odp(home: &TempDir, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_odp"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DATAFUSION_"))
    {
        command.env_remove(name);
    }
    command.args(args).current_dir(home.path()).env("HOME", home.path()).env_remove("RUST_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Exit code, stdout and stderr of `odp` with `args`.
fn run(home: &TempDir, args: &[&str]) -> io::Result<(Option<i32>, String, String)> {
    Ok(texts(&odp(home, args).output()?))
}

fn run_with_stdin(home: &TempDir, args: &[&str], input: &str) -> io::Result<(Option<i32>, String, String)> {
    let mut child = odp(home, args).stdin(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    Ok(texts(&child.wait_with_output()?))
}

fn texts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Three files of 250, 100 and 150 rows in `home/points/`, in row groups of 40: `x` runs from 0 to 499 in the
/// order of files, and falls and rises within them.
fn write_points(home: &TempDir) -> io::Result<()> {
    let parts = [("a", 0, 250), ("b", 250, 100), ("c", 350, 150)];
    let copies = parts.map(|(name, first, rows)| {
        format!(
            "COPY (SELECT {first} + (value * 7) % {rows} AS x FROM generate_series(0, {rows} - 1)) \
             TO 'points/{name}.parquet' OPTIONS ('format.max_row_group_size' 40);"
        )
    });
    let (code, stdout, stderr) = run(home, &["-q", "--format", "csv", "-c", &copies.concat()])?;
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    Ok(())
}

/// The values of `x` in the order that [`write_points`] wrote them, as CSV.
fn points_in_source_order() -> String {
    let rows = [(0, 250), (250, 100), (350, 150)]
        .into_iter()
        .flat_map(|(first, rows)| (0..rows).map(move |i| format!("{}\n", first + (i * 7) % rows)));
    std::iter::once("x\n".to_owned()).chain(rows).collect()
}

const POINTS: &str = "CREATE EXTERNAL TABLE t STORED AS ODP LOCATION 'points/';";

#[test]
fn quiet_csv_prints_only_the_result_of_the_select() {
    let home = TempDir::new().unwrap();
    write_points(&home).unwrap();
    let sql = format!("{POINTS} SELECT count(*) FROM t");
    let (code, stdout, stderr) = run(&home, &["-q", "--format", "csv", "-c", &sql]).unwrap();
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "count(*)\n500\n", ""));
}

#[test]
fn without_quiet_banner_and_times_are_printed_and_stderr_stays_empty() {
    let home = TempDir::new().unwrap();
    let (code, stdout, stderr) = run(&home, &["-c", "SELECT 1 AS a; SELECT 2 AS b"]).unwrap();
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let banner = format!("odp v{} (DataFusion 55.2)\n", env!("CARGO_PKG_VERSION"));
    assert!(stdout.starts_with(&banner), "{stdout}");
    let times = stdout.lines().filter(|line| line.starts_with("Elapsed ") && line.ends_with(" seconds."));
    assert_eq!(times.count(), 2, "{stdout}");
}

#[test]
fn long_query_without_a_terminal_shows_no_progress() {
    let home = TempDir::new().unwrap();
    let start = Instant::now();
    // As many rows as it takes for a second draw to be due.
    let mut rows = 1_000_000_u64;
    while start.elapsed() < Duration::from_secs(2) {
        rows *= 4;
        let sql = format!("SELECT count(*) FROM generate_series(1, {rows}) AS t(x) WHERE x % 3 = 1");
        let (code, stdout, stderr) = run(&home, &["--format", "csv", "-c", &sql]).unwrap();
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        assert!(!stdout.contains('\u{1b}') && !stdout.contains('\r'), "{stdout:?}");
    }
}

#[test]
fn failed_query_is_reported_on_stderr_with_exit_code_1() {
    let home = TempDir::new().unwrap();
    let (code, stdout, stderr) = run(&home, &["-q", "-c", "SELECT missing"]).unwrap();
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.starts_with("Error: ") && stderr.contains("missing"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn second_statement_that_fails_ends_the_command_with_exit_code_1() {
    let home = TempDir::new().unwrap();
    let sql = "SELECT 1 AS a; SELECT missing; SELECT 3 AS c";
    let (code, stdout, stderr) = run(&home, &["-q", "--format", "csv", "-c", sql]).unwrap();
    assert_eq!((code, stdout.as_str()), (Some(1), "a\n1\n"));
    assert!(stderr.contains("missing"), "{stderr}");
}

#[test]
fn missing_directory_is_named_in_the_error() {
    let home = TempDir::new().unwrap();
    let (code, stdout, stderr) = run(&home, &["-q", "-c", POINTS]).unwrap();
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.starts_with("Error: ") && stderr.contains("points"), "{stderr}");
}

#[test]
fn unknown_table_option_error_names_the_valid_ones() {
    let home = TempDir::new().unwrap();
    write_points(&home).unwrap();
    let sql = "CREATE EXTERNAL TABLE t STORED AS ODP LOCATION 'points/' OPTIONS ('bach_rows' '5')";
    let (code, stdout, stderr) = run(&home, &["-q", "-c", sql]).unwrap();
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    for name in ["bach_rows", "batch_rows", "batch", "file_extension", "hive_partitions"] {
        assert!(stderr.contains(name), "{name}: {stderr}");
    }
}

#[test]
fn table_options_are_read_in_every_spelling() {
    let home = TempDir::new().unwrap();
    write_points(&home).unwrap();
    let rows_of_batches = |options: &str| {
        let sql = format!(
            "CREATE EXTERNAL TABLE t STORED AS ODP LOCATION 'points/' OPTIONS ({options}); \
             SELECT count(*) AS n FROM odp_batches('t'); SELECT 'it''s; OPTIONS (a, b)' AS s"
        );
        run(&home, &["-q", "--format", "csv", "-c", &sql]).unwrap()
    };
    for options in [
        "'batch' 'file'",
        "batch file",
        "'format.batch' file, hive_partitions 'false'",
        "format.batch file",
        "odp.batch 'file'",
        "\"batch\" 'file', 'file_extension' '.parquet'",
    ] {
        let (code, stdout, stderr) = rows_of_batches(options);
        let expected = "n\n3\ns\n\"it's; OPTIONS (a, b)\"\n";
        assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), expected, ""), "{options}");
    }
}

#[test]
fn wrong_usage_ends_with_exit_code_2() {
    let home = TempDir::new().unwrap();
    for args in [
        &["--no-such-flag"][..],
        &["--format", "xml", "-c", "SELECT 1"],
        &["--threads", "0", "-c", "SELECT 1"],
        &["--memory-limit", "10 apples", "-c", "SELECT 1"],
        &["--memory-limit", "99999999999t", "-c", "SELECT 1"],
        &["-f", "missing.sql"],
        &["-p", "missing", "-c", "SELECT 1"],
        &["-c", ""],
    ] {
        let (code, stdout, stderr) = run(&home, args).unwrap();
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{args:?}: {stderr}");
        assert!(stderr.starts_with("error: "), "{args:?}: {stderr}");
    }
}

/// Reads one line of the output of `args`, closes it, and returns that line, the exit code and stderr.
fn read_one_line(home: &TempDir, args: &[&str]) -> io::Result<(String, Option<i32>, String)> {
    let mut child = odp(home, args).spawn()?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::with_capacity(1, stdout).read_line(&mut line)?;
    }
    let output = child.wait_with_output()?;
    Ok((line, output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

#[test]
fn closed_pipe_ends_quietly_with_exit_code_0() {
    let home = TempDir::new().unwrap();
    for format in ["csv", "tsv", "json", "nd-json", "table"] {
        let sql = "SELECT value FROM generate_series(1, 100000)";
        let args = ["-q", "--format", format, "--maxrows", "inf", "-c", sql];
        let (line, code, stderr) = read_one_line(&home, &args).unwrap();
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{format}");
        assert!(!line.is_empty(), "{format}");
    }
}

#[test]
fn closed_pipe_ends_a_query_that_would_take_for_ever() {
    let home = TempDir::new().unwrap();
    let sql = "SELECT value FROM generate_series(1, 1000000000000000)";
    let (line, code, stderr) = read_one_line(&home, &["-q", "--format", "csv", "-c", sql]).unwrap();
    assert_eq!((line.as_str(), code, stderr.as_str()), ("value\n", Some(0), ""));
}

#[test]
fn pipe_closed_before_the_banner_ends_quietly_with_exit_code_0() {
    let home = TempDir::new().unwrap();
    let mut child = odp(&home, &["-c", "SELECT 1", "SELECT 2"]).spawn().unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn row_formats_print_every_row_whatever_maxrows_says() {
    let home = TempDir::new().unwrap();
    let sql = "SELECT value FROM generate_series(1, 50000)";
    for (format, lines) in [("csv", 50_001), ("tsv", 50_001), ("nd-json", 50_000)] {
        let (code, stdout, _) = run(&home, &["-q", "--format", format, "--maxrows", "5", "-c", sql]).unwrap();
        assert_eq!((code, stdout.lines().count()), (Some(0), lines), "{format}");
    }
    let (_, stdout, _) = run(&home, &["-q", "--format", "json", "-c", sql]).unwrap();
    assert!(stdout.starts_with("[{") && stdout.ends_with("}]\n") && stdout.contains("50000"));
    let (_, stdout, _) = run(&home, &["-q", "--maxrows", "5", "-c", sql]).unwrap();
    assert!(stdout.lines().count() < 20, "{stdout}");
}

#[test]
fn aggregates_and_sorts_of_a_ticket_have_rows_in_every_format() {
    let home = TempDir::new().unwrap();
    write_points(&home).unwrap();
    let sql = format!("{POINTS} SELECT ticket FROM odp_tickets('t', 'x >= 490')");
    let (_, stdout, stderr) = run(&home, &["-q", "--format", "csv", "-c", &sql]).unwrap();
    let ticket = stdout.lines().nth(1).unwrap_or_else(|| panic!("{stdout}{stderr}"));
    for format in ["csv", "tsv", "nd-json", "json", "table"] {
        for query in [
            "SELECT count(*) >= 0 AS ok FROM TICKET",
            "SELECT x >= 490 AS ok FROM TICKET ORDER BY x DESC LIMIT 1",
        ] {
            let sql = query.replace("TICKET", &format!("odp_ticket('{ticket}')"));
            let (code, stdout, stderr) = run(&home, &["-q", "--format", format, "-c", &sql]).unwrap();
            assert_eq!((code, stderr.as_str()), (Some(0), ""), "{format}: {query}");
            assert!(stdout.contains("true"), "{format}: {query}: {stdout}");
        }
    }
}

#[test]
fn a_table_that_is_not_there_is_said_not_to_exist() {
    let home = TempDir::new().unwrap();
    for _ in 0..5 {
        let sql = "SELECT * FROM odp_select('nowhere', 'x > 1')";
        let (code, _, stderr) = run(&home, &["-q", "-c", sql]).unwrap();
        assert_eq!(code, Some(1));
        assert!(stderr.contains("table nowhere does not exist"), "{stderr}");
    }
}

#[test]
fn explain_and_null_read_as_in_datafusion_cli() {
    let home = TempDir::new().unwrap();
    write_points(&home).unwrap();
    let sql =
        format!("{POINTS} EXPLAIN SELECT x FROM t; EXPLAIN FORMAT INDENT SELECT x FROM t; SELECT NULL AS n");
    let (code, stdout, _) = run(&home, &["-q", "-c", &sql]).unwrap();
    assert_eq!(code, Some(0));
    assert!(stdout.contains("┌──") && stdout.contains("| NULL |"), "{stdout}");
    assert!(stdout.contains("DataSourceExec") && !stdout.contains("RootExec"), "{stdout}");
}

#[test]
fn script_runs_its_statements_up_to_the_first_that_fails() {
    let home = TempDir::new().unwrap();
    let script =
        "#!/usr/bin/env odp\n-- a comment; not the end\nSELECT 1\n  AS a;\nSELECT missing;\nSELECT 3 AS c\n";
    std::fs::write(home.path().join("s.sql"), script).unwrap();
    let (code, stdout, stderr) = run(&home, &["-q", "--format", "csv", "-f", "s.sql"]).unwrap();
    assert_eq!((code, stdout.as_str()), (Some(1), "a\n1\n"));
    assert!(stderr.contains("missing"), "{stderr}");
}

#[test]
fn script_that_is_not_text_is_named_in_the_error() {
    let home = TempDir::new().unwrap();
    std::fs::write(home.path().join("s.sql"), [0xff, 0xfe, b'\n']).unwrap();
    let (code, stdout, stderr) = run(&home, &["-q", "-f", "s.sql"]).unwrap();
    assert_eq!((code, stdout.as_str(), stderr.lines().count()), (Some(1), "", 1), "{stderr}");
}

#[test]
fn rows_printed_as_they_come_are_those_of_every_kind_of_query() {
    let home = TempDir::new().unwrap();
    write_points(&home).unwrap();
    for (query, expected) in [
        ("SELECT (SELECT max(x) FROM t) AS m, x FROM t WHERE x < 1", "m,x\n499,0\n"),
        ("SELECT x FROM t WHERE x IN (SELECT max(x) FROM t)", "x\n499\n"),
        (
            "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT n FROM r",
            "n\n1\n2\n3\n",
        ),
        ("SELECT a.x FROM t a JOIN t b ON a.x = b.x + 499", "x\n499\n"),
        ("SELECT x FROM t UNION ALL SELECT 500 ORDER BY x DESC LIMIT 2", "x\n500\n499\n"),
        ("SELECT x FROM t WHERE x > 1000", ""),
        ("VALUES (1), (2)", "column1\n1\n2\n"),
        ("CREATE VIEW v AS SELECT count(*) AS n FROM t; SELECT n FROM v", "n\n500\n"),
        ("PREPARE p AS SELECT min(x) AS n FROM t; EXECUTE p", "n\n0\n"),
    ] {
        let sql = format!("{POINTS} {query}");
        let (code, stdout, stderr) = run(&home, &["-q", "--format", "csv", "-c", &sql]).unwrap();
        assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), expected, ""), "{query}");
    }
}

#[test]
fn scripts_run_before_commands_and_keep_their_tables() {
    let home = TempDir::new().unwrap();
    write_points(&home).unwrap();
    std::fs::write(home.path().join("create.sql"), POINTS).unwrap();
    let (code, stdout, stderr) =
        run(&home, &["-q", "--format", "csv", "-f", "create.sql", "-c", "SELECT min(x), max(x) FROM t"])
            .unwrap();
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "min(t.x),max(t.x)\n0,499\n", ""));
}

#[test]
fn the_shell_reads_local_files_as_fast_as_a_session_does() {
    let home = TempDir::new().unwrap();
    let sql =
        "COPY (SELECT random() AS x FROM generate_series(1, 600000)) TO 'numbers.parquet' STORED AS ODP \
               OPTIONS ('batch_rows' '10000');
               CREATE EXTERNAL TABLE t STORED AS ODP LOCATION 'numbers.parquet';
               SET odp.max_partitions = 1;
               EXPLAIN ANALYZE SELECT x FROM t;";
    let (code, stdout, stderr) = run(&home, &["-q", "--format", "csv", "-c", sql]).unwrap();
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    // Its stores count requests, around those of the file system.
    let at_once = stdout.split("reads_at_once=").nth(1).and_then(|rest| rest.split([',', ']']).next());
    let at_once: usize = at_once.unwrap().parse().unwrap();
    assert_eq!(at_once > 0, cfg!(unix), "{stdout}");
}

#[test]
fn data_path_moves_relative_locations_but_not_the_script() {
    let home = TempDir::new().unwrap();
    write_points(&home).unwrap();
    let sql = "CREATE EXTERNAL TABLE t STORED AS ODP LOCATION 'a.parquet'; SELECT count(*) AS n FROM t";
    std::fs::write(home.path().join("count.sql"), sql).unwrap();
    let args = ["-q", "--format", "csv", "-p", "points", "-f", "count.sql"];
    let (code, stdout, stderr) = run(&home, &args).unwrap();
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "n\n250\n", ""));
}

#[test]
fn piped_statements_and_commands_run_like_a_script() {
    let home = TempDir::new().unwrap();
    let input = "SELECT 1\nAS a;\n\\pset format nd-json\nSELECT 2 AS b;\nSELECT 3 AS c";
    let (code, stdout, stderr) = run_with_stdin(&home, &["-q", "--format", "csv"], input).unwrap();
    let expected = "a\n1\nOutput format is NdJson.\n{\"b\":2}\n{\"c\":3}\n";
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), expected, ""));

    let input = "SELECT 1 AS a;\n\\q\nSELECT missing;\n";
    let (code, stdout, stderr) = run_with_stdin(&home, &["-q", "--format", "csv"], input).unwrap();
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "a\n1\n", ""));

    let (code, stdout, stderr) = run_with_stdin(&home, &["-q"], "SELECT missing;\nSELECT 1;\n").unwrap();
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("missing"), "{stderr}");
    assert!(!home.path().join(".history").exists(), "history is for what is typed");
}

#[test]
fn piped_data_is_a_table_where_statements_come_as_arguments() {
    let home = TempDir::new().unwrap();
    let sql = "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/dev/stdin'; SELECT sum(a) AS s FROM t";
    let (code, stdout, stderr) =
        run_with_stdin(&home, &["-q", "--format", "csv", "-c", sql], "a\n1\n2\n").unwrap();
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "s\n3\n", ""));
}

#[test]
fn rc_file_runs_first_and_its_errors_do_not_end_the_session() {
    let home = TempDir::new().unwrap();
    std::fs::write(home.path().join(".datafusionrc"), "SELECT missing;\nCREATE TABLE r AS SELECT 7 AS a;\n")
        .unwrap();
    let (code, stdout, stderr) =
        run_with_stdin(&home, &["-q", "--format", "csv"], "SELECT a FROM r;").unwrap();
    assert_eq!((code, stdout.as_str()), (Some(0), "a\n7\n"));
    assert!(stderr.contains("missing"), "{stderr}");
    let args = ["-q", "--format", "csv", "-c", "SELECT a FROM r"];
    assert_eq!(run(&home, &args).unwrap().0, Some(1), "commands do without the rc file");
}

#[test]
fn sort_above_the_memory_limit_fails_and_says_so() {
    let home = TempDir::new().unwrap();
    let sql = "SELECT md5(value::varchar) AS m FROM generate_series(1, 300000) ORDER BY m";
    for pool in ["greedy", "fair"] {
        let args = ["-q", "--format", "csv", "--memory-limit", "1m", "--mem-pool-type", pool, "-c", sql];
        let (code, stdout, stderr) = run(&home, &args).unwrap();
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{pool}");
        assert!(stderr.contains("Resources exhausted"), "{pool}: {stderr}");
    }
    let (code, _, stderr) = run(&home, &["-q", "--memory-limit", "1g", "-c", sql]).unwrap();
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
}

#[test]
fn footers_have_room_where_memory_is_not_bounded() {
    let home = TempDir::new().unwrap();
    let sql = "SELECT value FROM information_schema.df_settings WHERE name = 'datafusion.runtime.metadata_cache_limit'";
    for (bounded, expected) in [(&[][..], "256M"), (&["--memory-limit", "1g"], "50M")] {
        let args = [bounded, &["-q", "--format", "csv", "-c", sql]].concat();
        let (code, rows, stderr) = run(&home, &args).unwrap();
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        assert_eq!(rows.lines().last(), Some(expected), "{bounded:?}");
    }
}

#[test]
fn select_without_order_by_gives_rows_in_source_order() {
    let home = TempDir::new().unwrap();
    write_points(&home).unwrap();
    let sql = format!("{POINTS} SELECT * FROM t");
    for threads in ["1", "3"] {
        let args = ["-q", "--format", "csv", "--threads", threads, "-b", "33", "-c", &sql];
        let (code, stdout, stderr) = run(&home, &args).unwrap();
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        assert_eq!(stdout, points_in_source_order(), "{threads} threads");
    }
}

#[test]
fn queries_over_a_ticket_are_answered_as_those_over_a_table() {
    let home = TempDir::new().unwrap();
    write_points(&home).unwrap();
    let csv = ["-q", "--format", "csv", "-c"];
    let tickets = format!("{POINTS} SELECT ticket FROM odp_tickets('t', 'x > 245 and x < 260');");
    let (code, tickets, stderr) = run(&home, &[csv.as_slice(), &[&tickets]].concat()).unwrap();
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let mut sums = vec![];
    for ticket in tickets.lines().skip(1) {
        for (select, expected) in [
            ("count(*), min(x)", None),
            ("x", None),
            ("DISTINCT x", None),
            ("sum(x) AS sum", Some(&mut sums)),
        ] {
            let query = format!("SELECT {select} FROM odp_ticket('{ticket}');");
            let (code, stdout, stderr) = run(&home, &[csv.as_slice(), &[&query]].concat()).unwrap();
            assert_eq!((code, stderr.as_str()), (Some(0), ""), "{select}");
            if let Some(sums) = expected {
                sums.extend(stdout.lines().skip(1).filter_map(|sum| sum.parse::<i64>().ok()));
            }
        }
    }
    assert!(sums.len() > 1, "{sums:?}");
    assert_eq!(sums.iter().sum::<i64>(), (246..260).sum::<i64>());
}

#[test]
fn no_source_order_gives_the_same_rows() {
    let home = TempDir::new().unwrap();
    write_points(&home).unwrap();
    let sql = format!("{POINTS} SELECT * FROM t");
    let args = ["-q", "--format", "csv", "--no-source-order", "-c", &sql];
    let (code, stdout, stderr) = run(&home, &args).unwrap();
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().skip(1).map(String::from).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&stdout), sorted(&points_in_source_order()));
    let sql = "SELECT value FROM information_schema.df_settings WHERE name LIKE '%source_order'";
    let (_, stdout, _) = run(&home, &["-q", "--format", "csv", "--no-source-order", "-c", sql]).unwrap();
    assert_eq!(stdout, "value\nfalse\n");
}

#[test]
fn settings_come_from_flags_and_from_the_environment() {
    let home = TempDir::new().unwrap();
    let show = "SHOW datafusion.execution.target_partitions; SHOW datafusion.execution.batch_size";
    let output = odp(&home, &["-q", "--format", "csv", "--threads", "3", "-c", show])
        .env("DATAFUSION_EXECUTION_BATCH_SIZE", "77")
        .output()
        .unwrap();
    let (code, stdout, _) = texts(&output);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("target_partitions,3") && stdout.contains("batch_size,77"), "{stdout}");
}

#[test]
fn written_and_created_tables_hold_all_rows_in_any_format() {
    let home = TempDir::new().unwrap();
    for format in ["csv", "table"] {
        let sql = "CREATE TABLE m AS SELECT value FROM generate_series(1, 20000); INSERT INTO m SELECT 7; \
                   COPY m TO 'copy.parquet'; SELECT count(*) AS n FROM 'copy.parquet'";
        let (code, stdout, stderr) = run(&home, &["-q", "--format", format, "-c", sql]).unwrap();
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
        assert!(stdout.contains("20001"), "{format}: {stdout}");
        assert!(Path::new(&home.path().join("copy.parquet")).exists());
        std::fs::remove_file(home.path().join("copy.parquet")).unwrap();
    }
}
