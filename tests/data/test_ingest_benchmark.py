"""The ingest benchmark runs and prints what it promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_the_benchmark_prints_one_json_object() -> None:
    command = [sys.executable, "-m", "benchmarks.ingest", "--rows", "2000", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    result = json.loads(done.stdout)
    assert result["rows"] == 1998 and result["refused"] == 2 and result["duplicates"] > 0
    assert result["seconds"] > 0 and 10 < result["peak_mb"] < 1500
