"""One file per claim: `python -m benchmarks.NAME` prints a table, `--json` one object."""
