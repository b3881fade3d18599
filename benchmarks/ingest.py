"""Claim: a million rows (1 GB of JSON Lines) load within 90 s and 1.5 GB of memory on two cores.

`python -m benchmarks.ingest` writes such a file to a temporary folder, loads it in a fresh process and measures that
process; `--rows` makes it smaller, `--json` prints one JSON object.  Rows are Alpaca records of about 1 kB; one in
fifty is an exact copy of another and one in a thousand has an empty output.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

SECONDS, MEGABYTES, CLAIMED_ROWS = 90.0, 1500.0, 1_000_000

_CHILD = """
import json, resource, sys, time
from pathlib import Path
from delift_core.data import load
start, cpu = time.perf_counter(), time.process_time()
report = load(sys.argv[1], Path(sys.argv[2])).report
seconds = time.perf_counter() - start
unit = 1024 if sys.platform != "darwin" else 1024 * 1024
print(json.dumps({"rows": report.rows, "refused": report.refused, "duplicates": report.duplicates,
                  "seconds": round(seconds, 2), "cpu_seconds": round(time.process_time() - cpu, 2),
                  "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)}))
"""


def write_rows(path: Path, rows: int, seed: int = 0) -> int:
    """Write `rows` Alpaca records to `path`; the number of bytes written."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyzäé", k=rng.randint(2, 9))) for _ in range(5000)]
    texts = [" ".join(rng.choices(words, k=60)) for _ in range(2000)]
    with path.open("w", encoding="utf-8") as stream:
        for number in range(rows):
            source = number if number % 50 else rng.randrange(max(1, number))
            a, b, c = texts[source % 2000], texts[source * 7 % 2000], texts[source * 13 % 1999]
            output = "" if number % 1000 == 999 else f'{a[:330]}\n{source}. "{c[:250]}"'
            record = {
                "id": f"row-{number}",
                "instruction": f"Task {source}: {b[:170]}",
                "input": c[-190:],
                "output": output,
                "topic": words[source % 40],
            }
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")
    return path.stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=CLAIMED_ROWS)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="delift-ingest-") as folder:
        source = Path(folder) / "pool.jsonl"
        size = write_rows(source, args.rows)
        command = [sys.executable, "-c", _CHILD, str(source), str(Path(folder) / "datasets")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    if done.returncode:
        sys.exit(done.stderr)
    result = json.loads(done.stdout)
    result["bytes"] = size
    if args.json:
        print(json.dumps(result))
    else:
        print(
            f"{result['rows']:,} rows ({size / 1e6:,.0f} MB) in {result['seconds']:.1f} s, "
            f"peak memory {result['peak_mb']:,.0f} MB"
        )
        print(f"{result['refused']:,} refused, {result['duplicates']:,} exact copies")
    if args.rows >= CLAIMED_ROWS and (result["seconds"] > SECONDS or result["peak_mb"] > MEGABYTES):
        sys.exit(f"the claim is {SECONDS:g} s and {MEGABYTES:g} MB")


if __name__ == "__main__":
    main()
