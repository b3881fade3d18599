"""The two shipped encoders on real rows: how fast each is, and how far their nearest neighbours agree.

    python -m benchmarks.embedding [--rows 2000] [--json]

`speedup` is rows per second of `fast` over `minilm`; `neighbour_agreement` is the mean share of a row's 10 nearest
neighbours by cosine that both name (random neighbours would agree in 10 / rows).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from delift_core.models.encoder import Encoder, load_encoder
from delift_core.types import Floats

ROOT = Path(__file__).parents[1]
NEIGHBOURS = 10
SOURCES = {  # file -> the keys whose texts make a row
    "dolly_15k_en": ("instruction", "context", "response"),
    "natural_instructions": ("Definition", "input", "output"),
    "gsm8k_train": ("question", "answer"),
    "gpteacher_codegen": ("instruction", "input", "response"),
    "t0_p3_selected": ("prompt", "completion"),
}


def texts(data: Path, rows: int, seed: int) -> list[str]:
    """Equal shares of distinct rows from the sources, seeded."""
    chosen: list[str] = []
    for number, (file, keys) in enumerate(SOURCES.items()):
        with (data / f"{file}.jsonl").open(encoding="utf-8") as lines:
            found = sorted({"\n".join(_parts(json.loads(line), keys)) for line in lines})
        share = rows // len(SOURCES) + (number < rows % len(SOURCES))
        chosen += random.Random(seed).sample(found, share)
    return chosen


def _parts(record: dict[str, Any], keys: tuple[str, ...]) -> Iterator[str]:
    for key in keys:
        value = record[key]
        if text := value[0] if isinstance(value, list) else value:
            yield text


def encode(encoder: Encoder, rows: list[str]) -> tuple[Floats, float]:
    """Vectors, and rows per second after a warm-up."""
    encoder.encode(rows[:16])
    started = time.perf_counter()
    vectors = encoder.encode(rows)
    return vectors, len(rows) / (time.perf_counter() - started)


def agreement(first: Floats, second: Floats) -> float:
    """Mean share of common nearest neighbours, in [0, 1]."""
    pairs = zip(_nearest(first), _nearest(second), strict=True)
    return float(np.mean([len(np.intersect1d(a, b)) / NEIGHBOURS for a, b in pairs]))


def _nearest(vectors: Floats) -> np.ndarray:
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    return np.argpartition(-similarity, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]


def measure(data: Path, *, rows: int, seed: int, device: str = "auto", cache: Path | None = None) -> dict[str, Any]:
    """All figures of the benchmark."""
    sample = texts(data, rows, seed)
    started = time.perf_counter()
    fast = load_encoder("fast", device=device, cache=cache)
    loading = time.perf_counter() - started
    minilm = load_encoder("minilm", device=device)
    fast_vectors, fast_speed = encode(fast, sample)
    minilm_vectors, minilm_speed = encode(minilm, sample)
    return {
        "speedup": fast_speed / minilm_speed,
        "neighbour_agreement": agreement(minilm_vectors, fast_vectors),
        "by_chance": NEIGHBOURS / (rows - 1),
        "minilm_rows_per_second": minilm_speed,
        "fast_rows_per_second": fast_speed,
        "fast_loading_seconds": loading,
        "device": minilm.identity.device,
        "rows": rows,
    }


def main() -> None:
    """Print the table, or with --json one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("DELIFT_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--data", type=Path, default=shared / "data")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.rows <= NEIGHBOURS + 1:
        parser.error(f"--rows must be above {NEIGHBOURS + 1}")
    result = measure(options.data, rows=options.rows, seed=options.seed, device=options.device)
    if options.json:
        print(json.dumps(result))
        return
    print(f"{result['rows']} real rows, MiniLM on {result['device']}")
    print(f"minilm  {result['minilm_rows_per_second']:>10.0f} rows/s")
    print(f"fast    {result['fast_rows_per_second']:>10.0f} rows/s   ({result['speedup']:.0f} times)")
    share, chance = result["neighbour_agreement"], result["by_chance"]
    print(f"common among the {NEIGHBOURS} nearest neighbours: {share:.1%} (by chance {chance:.1%})")


if __name__ == "__main__":
    main()
