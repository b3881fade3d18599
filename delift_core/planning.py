"""Before a run: what it costs on this machine, which pairs are worth their price, and whether it is there already."""

from __future__ import annotations

from delift_core import cost, registry
from delift_core.config import RunConfig
from delift_core.encoded import token_counts, tokenizer_of
from delift_core.errors import WorkspaceError
from delift_core.evidence import identities
from delift_core.inputs import Inputs
from delift_core.intake import normal
from delift_core.preflight import checked, open_inputs
from delift_core.runs import Run, Workspace
from delift_core.types import Cost, Indices, Progress, no_progress

DENSE_SECONDS = 300.0  # up to here every pair is scored unless the user says otherwise
FEW_PAIRS = 5_000  # too few for a plan to learn from: all of them are scored, whatever they cost
MOST_DENSE = 20_000_000  # pairs that no machine scores in that time
MOST_COSINES = 400_000_000  # pairs of vectors that are compared whole: 3.2 GB with their scaled copy
SURELY_SHORT = 2_000  # rows that every encoder reads in minutes, so that measuring would only cost time


def estimate(ws: Workspace, config: RunConfig) -> Cost:
    """What the run will take if nothing of it is on disk yet: a second of its own work is timed.  Loads the model."""
    config, found = settled(ws, config)
    if found is not None:
        return found
    inputs = checked(ws, config)
    return cost.price(inputs, tokens_of(ws, inputs, no_progress))


def settled(ws: Workspace, config: RunConfig) -> tuple[RunConfig, Cost | None]:
    """The configuration with its pair plan chosen by cost where it says "auto", and that cost where it was measured.

    Every pair where they are few, take less than five minutes, or a plan would save less than half; else the best plan
    that is known.  A run that is finished already is chosen at once, so that the same words keep giving the same run.
    Vectors are compared whole up to 400 million pairs (20,000 rows with one another), whatever machine it is.
    """
    if config.pairs != registry.AUTO:
        return config, None
    plans = (registry.DENSE, registry.sparse_plan(config.method) or registry.DENSE)
    dense, sparse = (normal(config.with_(pairs=name)) for name in plans)
    every, some = (sum(open_inputs(ws, c).counts.values()) for c in (dense, sparse))
    if dense == sparse or 2 * some > every or every <= FEW_PAIRS:
        return dense, None
    for choice in (dense, sparse):
        if stored(ws, choice.id) is not None:
            return choice, None
    if not registry.reads_texts(config.method):
        return (dense if every <= MOST_COSINES else sparse), None
    if every <= MOST_DENSE:
        found = estimate(ws, dense)
        if found.seconds <= DENSE_SECONDS:
            return dense, found
    return sparse, estimate(ws, sparse)


def estimate_if_long(ws: Workspace, config: RunConfig) -> Cost | None:
    """The cost of a run that could be long; None where it surely is not, or where it is finished already."""
    config, found = settled(ws, config)
    if found is not None:
        return found
    inputs = checked(ws, config)
    rows = sum(len(inputs.rows(role)) for role in inputs.encoded_roles)
    if not inputs.in_context and rows <= SURELY_SHORT:
        return None
    return None if finished(ws, inputs) else estimate(ws, config)


def tokens_of(ws: Workspace, inputs: Inputs, progress: Progress) -> Indices:
    """Tokens of every row of the pool (N,), in the tokens of the run's language model."""
    return token_counts(inputs.pool, tokenizer_of(inputs.config), ws.blocks, progress)


def finished(ws: Workspace, inputs: Inputs) -> bool:
    """Whether this run is on disk, made by the models as they are now."""
    done = stored(ws, inputs.config.id)
    if done is None:
        return False
    record = done.manifest
    known = {m["hash"] for m in record["models"]} | ({record["encoder"]["hash"]} if record["encoder"] else set())
    return known == {m.hash for m in identities(inputs)}


def stored(ws: Workspace, run_id: str) -> Run | None:
    """The finished run of this id; None where there is none, or where it is damaged and has to be made again."""
    if not Run.is_finished(ws, run_id):
        return None
    try:
        return Run.open(ws, run_id)
    except WorkspaceError:
        return None
