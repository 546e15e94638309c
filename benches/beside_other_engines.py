#!/usr/bin/env python3
"""How long, and in how much memory, do the same questions take in other engines?

Data: observations that gen.py of the peers folder makes; its README says how, and how to install the engines. This runs
peers.py of that folder (a copy, in which our engine writes by STORED AS ODP), reads the lines of JSON that it leaves, and
writes the table between two comments of README.md anew:

    cargo build --release --features cli
    benches/beside_other_engines.py --data ~/.cache/odp-peers/10m --venvs ~/.cache/odp-peers

Without running anything, from lines that are there:

    benches/beside_other_engines.py --from results.jsonl

--stdout prints the table instead. A time is the median of the runs, of the first query of a process, without starting it and
opening tables; memory is the largest peak of a process. A tuned form of an engine counts as that engine, where it is faster.
Result: the table in README.md.
"""
import argparse
import datetime
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
BEGIN, END = "<!-- table: beside other engines -->\n", "<!-- end of table -->\n"

# Workloads of the table, in its order, and what they are called there. {rows}, {groups} and {files} are what was found.
TITLES = {
    "W1": "`count(*)`",
    "W2": "means by station",
    "W3": "sums of three months",
    "W4y": "counts by year",
    "W4m": "counts by year and month",
    "W5c": "{groups} groups by cell",
    "W5m": "{groups} groups by minute",
    "W6": "three regions",
    "W7a": "polygon of 100 vertices",
    "W7b": "polygon of 10,000 vertices",
    "W8": "species by footprint within a region",
    "W9": "top 10 with a filter",
    "W10": "filter to one file, in order ({rows} rows)",
    "W10g": "polygon to one GeoParquet file, in order ({rows} rows)",
    "W11": "hive directories by year and month, {files} files",
    "W12": "100 rows of a polygon",
    "W13": "distinct stations of three regions",
}
DEFAULT_WORKLOADS = "W1,W2,W3,W4y,W4m,W5c,W5m,W9,W10,W10g,W11"
OURS_THAT_WRITE = ("W10", "W10g", "W11")

NAMES = {
    "ours": "datafusion-odp",
    "polars": "Polars",
    "duckdb": "DuckDB",
    "duckdb15": "DuckDB",
    "datafusion": "DataFusion",
    "sedonadb": "SedonaDB",
    "pyarrow": "PyArrow",
    "dask": "Dask",
    "geopandas": "GeoPandas",
}
FORMS = re.compile(r"_(tuned|st|dist)$")


def cpu_model():
    """The processor's name, or an empty text."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def run_peers(arguments, results):
    """Runs peers.py in a copy of its folder, in which our engine writes by STORED AS ODP."""
    with tempfile.TemporaryDirectory() as folder:
        for source in arguments.peers.glob("*.py"):
            shutil.copyfile(source, Path(folder, source.name))
        path = Path(folder, "workloads.py")
        shared, ours = path.read_text().split("\nOURS = {", 1)
        path.write_text(shared + "\nOURS = {" + ours.replace("STORED AS PARQUET", "STORED AS ODP"))
        check = f"import workloads as w; assert all('STORED AS ODP' in w.OURS[k] for k in {OURS_THAT_WRITE})"
        subprocess.run([sys.executable, "-c", check], cwd=folder, check=True)
        command = [sys.executable, "peers.py", "run", "--data", arguments.data.resolve(), "--ours", arguments.odp.resolve(),
                   "--ours-elapsed", "--workloads", arguments.workloads, "--engines", arguments.engines,
                   "--runs", str(arguments.runs), "--results", results]
        environment = dict(os.environ, PEERS_VENVS=str(arguments.venvs.resolve()))
        # The report on standard output is left out: the table says what matters of it.
        subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True)
    records = [json.loads(line) for line in results.read_text().splitlines()]
    for record in records:
        record["host"].setdefault("cpu_model", cpu_model())
    results.write_text("".join(json.dumps(record) + "\n" for record in records))


def measured(records, workload, form):
    """Seconds of each counted run, peak MB, and what else is to be said; None if it has no answer."""
    of_form = [record for record in records if (record["workload"], record["engine"]) == (workload, form)]
    counted = [record for record in of_form if not record["warmup"] and record.get("answer") is not None
               and not record.get("error") and record.get("query_s")]
    if not counted:
        return None
    peak = max(max(record["maxrss_kb"], record["tree_rss_kb"]) for record in counted) / 1024
    flags = [record.get("flags") or {} for record in counted]
    is_ordered = all(of_run.get(key, True) for of_run in flags for key in ("ordered", "ordered_in_partitions"))
    times = [record["query_s"][0] for record in counted]
    return {"times": times, "time": statistics.median(times), "mb": peak, "is_ordered": is_ordered}


def column_name(records, engine):
    """The name of an engine and its version, without patch level."""
    versions = [record.get("version") or "" for record in records if FORMS.sub("", record["engine"]) == engine]
    version = next((found for found in versions if re.match(r"\d", found)), "")
    return " ".join([NAMES.get(engine, engine), ".".join(version.split(".")[:2])]).strip()


def title(records, workload):
    """What a workload is called, with what was found."""
    answered = [record for record in records if record["workload"] == workload and record.get("answer")]
    number = answered[0]["answer"][0][0] if answered else None
    files = next((record["flags"]["files"] for record in answered if "files" in (record.get("flags") or {})), None)
    is_many = isinstance(number, int) and number >= 100_000
    return TITLES[workload].format(
        rows=f"{number / 1e6:.2f} M" if is_many else number,
        groups=f"{number / 1e6:.2g} million" if is_many else number,
        files=files)


def said_of_answers(checks, titles):
    """Whether all engines gave the same answers."""
    different = [f"{of_workload} ({' / '.join(', '.join(group['engines']) for group in checks[workload])})"
                 for workload, of_workload in titles.items() if len(checks[workload]) > 1]
    return "Answers differ: " + "; ".join(different) + "." if different else "All gave the same answers."


def said_of_spread(cells):
    """By how much runs of the same differ."""
    spreads = [((max(cell["times"]) - min(cell["times"])) / cell["time"], where) for where, cell in cells if cell["time"] > 0]
    if not spreads:
        return ""
    middle, (largest, (of_workload, name)) = statistics.median(spread for spread, _ in spreads), max(spreads)
    return (f"Runs of the same differ by {middle:.0%} of their median in the middle of all, by {largest:.0%} at most "
            f"({of_workload}, {name}).").replace("%", " %")


def table(records, checks):
    """What stands between the comments."""
    titles = {workload: title(records, workload) for workload in TITLES
              if any(record["workload"] == workload for record in records)}
    engines = dict.fromkeys(FORMS.sub("", record["engine"]) for record in records)
    engines = sorted(engines, key=lambda engine: list(NAMES).index(engine) if engine in NAMES else len(NAMES))
    names = {engine: column_name(records, engine) for engine in engines}
    rows, cells = [], []
    for workload, of_workload in titles.items():
        row = {}
        for engine in engines:
            forms = dict.fromkeys(record["engine"] for record in records if FORMS.sub("", record["engine"]) == engine)
            found = [cell for form in forms if (cell := measured(records, workload, form))]
            row[engine] = min(found, key=lambda cell: cell["time"], default=None)
            if row[engine]:
                cells.append(((of_workload, names[engine]), row[engine]))
        fastest = min((cell["time"] for cell in row.values() if cell), default=None)
        texts = []
        for cell in row.values():
            if cell is None:
                texts.append("-")
                continue
            time = f"{cell['time']:.3f} s"
            time = f"**{time}**" if cell["time"] == fastest else time
            texts.append(f"{time}, {cell['mb']:,.0f} MB" + ("" if cell["is_ordered"] else ", order lost"))
        others = [cell["time"] for engine, cell in row.items() if cell and engine != "ours"]
        ours = row.get("ours")
        ratio = f"{ours['time'] / min(others):.2f}" if ours and others and min(others) > 0 else "-"
        rows.append(f"| {of_workload} | {' | '.join(texts)} | {ratio} |")
    head = [f"| | {' | '.join(names.values())} | ours against the fastest |", "|---" * (len(engines) + 2) + "|"]
    return "\n".join([head_line(records, titles, checks, cells), "", *head, *rows, ""])


def head_line(records, titles, checks, cells):
    """Data, machine, date, number of runs, spread, answers."""
    data = {}
    for record in records:
        data.update(record["dataset"])
    sizes = "; ".join(f"`{name}`: {of['rows']:,} rows in {of['files']} files, {of['bytes'] / 1e6:,.0f} MB"
                      for name, of in data.items())
    host = records[-1]["host"]
    model = host.get("cpu_model")
    machine = f"{len(host['cpus'])} processors" + (f" ({model})" if model else "")
    runs = sorted({len(cell["times"]) for _, cell in cells})
    runs = f"{runs[0]}" if len(runs) == 1 else f"{runs[0]} to {runs[-1]}" if runs else "0"
    date = datetime.date.fromtimestamp(max(record["time"] for record in records))
    return (f"{sizes}; {host['threads']} threads; median of {runs} runs, {date}, {machine}. "
            f"{said_of_answers(checks, titles)} {said_of_spread(cells)}").rstrip()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, default=HERE / "../../shared/peers", help="the folder with peers.py")
    parser.add_argument("--venvs", type=Path, default=os.environ.get("PEERS_VENVS"), help="where its engines are installed")
    parser.add_argument("--data", type=Path, help="what its gen.py made")
    parser.add_argument("--odp", type=Path, default=HERE / "../target/release/odp", help="our binary")
    parser.add_argument("--engines", default="polars,duckdb", help="as peers.py takes them")
    parser.add_argument("--workloads", default=DEFAULT_WORKLOADS)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--results", type=Path, help="keep the lines of JSON here; must not exist")
    parser.add_argument("--from", type=Path, nargs="+", dest="existing", help="lines of JSON of earlier runs; runs nothing")
    parser.add_argument("--readme", type=Path, default=HERE / "README.md")
    parser.add_argument("--stdout", action="store_true", help="print the table, and leave the file as it is")
    arguments = parser.parse_args()

    text = arguments.readme.read_text()
    if not arguments.stdout and (text.count(BEGIN) != 1 or text.count(END) != 1):
        sys.exit(f"{arguments.readme} does not have the two comments around a table")
    with tempfile.TemporaryDirectory() as folder:
        files = arguments.existing
        if files is None:
            if arguments.data is None or arguments.venvs is None:
                parser.error("--data and --venvs are needed to run, --from to run nothing")
            results = (arguments.results or Path(folder, "results.jsonl")).resolve()
            if results.exists():
                parser.error(f"{results} exists")
            run_peers(arguments, results)
            files = [results]
        records = [json.loads(line) for file in files for line in file.read_text().splitlines()]

    sys.dont_write_bytecode = True
    sys.path.insert(0, str(arguments.peers))
    import peers
    made = table(records, peers.cross_check(records))
    if arguments.stdout:
        print(made, end="")
        return
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    arguments.readme.write_text(before + BEGIN + made + END + after)


if __name__ == "__main__":
    main()
