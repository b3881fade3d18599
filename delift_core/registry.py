"""Names to lazy targets.  A new scorer, objective or encoder is one new file and one line here."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

from delift_core.errors import ConfigError, unknown
from delift_core.methods import FAMILIES, GOALS, METHODS, RECOMMENDED, Method
from delift_core.types import Cost

__all__ = [
    "AUTO", "BEST", "DENSE", "ENCODERS", "FAMILIES", "GOALS", "METHODS", "NEAREST", "OBJECTIVES", "PLANS",
    "RECOMMENDED", "ROW_SCORES", "SCORERS", "Method", "build", "memory_of", "method", "objective_of", "option_fields",
    "over_pairs", "parts_of", "plan", "plan_name", "reads", "reads_texts", "resolve", "score_of", "scorer_of",
    "sparse_plan", "work_of",
]  # fmt: skip

SCORERS: dict[str, str] = {
    "icl": "delift_core.scoring.icl:InContext",
    "embedding": "delift_core.scoring.embedding:Embedding",
    "rds": "delift_core.scoring.rds:RepresentationSimilarity",
}

ROW_SCORES: dict[str, str] = {
    "loss": "delift_core.scoring.loss:Loss",
    "ifd": "delift_core.scoring.ifd:InstructionFollowingDifficulty",
    "selectit": "delift_core.scoring.selectit:SelectIT",
    "ica": "delift_core.scoring.ica:InContextApproximation",
    "rds": "delift_core.scoring.rds:RepresentationSimilarity",
    "longest": "delift_core.scoring.longest:Longest",
    "dsir": "delift_core.scoring.dsir:ImportanceResampling",
}

PLANS: dict[str, str] = {
    "knn": "delift_core.scoring.plans:Neighbours",
    "landmarks": "delift_core.scoring.plans:Landmarks",
    "surrogate": "delift_core.scoring.adaptive:Surrogate",
    "adaptive": "delift_core.scoring.adaptive:Adaptive",
}
DENSE = "dense"  # every pair: no plan at all
AUTO = "auto"  # dense where that takes minutes, else the method's sparse plan
BEST = "adaptive:0.1"  # where the language model scores pairs
NEAREST = "knn:32"  # where vectors are compared

OBJECTIVES: dict[str, str] = {
    "fl": "delift_core.selection.objectives:FacilityLocation",
    "flcg": "delift_core.selection.objectives:ConditionalGain",
    "fl1mi": "delift_core.selection.objectives:SaturatingMutualInformation",
    "fl2mi": "delift_core.selection.objectives:MutualInformation",
    "flquality": "delift_core.selection.objectives:QualityCover",
    "graph-cut": "delift_core.selection.others:GraphCut",
    "disparity-sum": "delift_core.selection.others:DisparitySum",
    "disparity-min": "delift_core.selection.others:DisparityMin",
    "log-determinant": "delift_core.selection.others:LogDeterminant",
    "set-cover": "delift_core.selection.others:SetCover",
    "prob-set-cover": "delift_core.selection.others:ProbabilisticSetCover",
    "got-d": "delift_core.selection.transport:TransportGradient",
    "got-d-contrast": "delift_core.selection.contrast:TransportContrast",
    "got-d-diverse": "delift_core.selection.diverse:DiverseTransport",
    "uot": "delift_core.selection.unbalanced:UnbalancedTransport",
    "top-k": "delift_core.selection.ranked:TopK",
    "round-robin": "delift_core.selection.round_robin:RoundRobin",
    "kmeans": "delift_core.selection.kmeans:KMeansCentres",
    "kcenter": "delift_core.selection.kcenter:KCenter",
    "deft-ucs": "delift_core.selection.deft:UnsupervisedCoreSet",
    "knn-uniform": "delift_core.selection.spread:UniformNeighbours",
    "tsds": "delift_core.selection.spread:TaskSpecificSelection",
    "random": "delift_core.selection.baselines:Random",
}

ENCODERS: dict[str, str] = {
    "minilm": "delift_core.models.encoder:MiniLM",
    "fast": "delift_core.models.encoder:Static",
}


def method(name: str) -> Method:
    """The method of this name; "SCORER+OBJECTIVE", such as icl+graph-cut, is one as well.

    An unknown name raises ConfigError with the nearest known ones.
    """
    scorer, mark, objective = name.partition("+")
    if not mark:
        if name not in METHODS:
            raise unknown("method", name, METHODS)
        return METHODS[name]
    needs = resolve(OBJECTIVES, "objective", objective)().needs
    resolve(SCORERS, "scorer", scorer)
    if not needs & {"pool", "target", "existing"}:
        raise ConfigError(f"Method {name}: {objective} looks at no pairs, so no scorer serves it. Take it alone.")
    if scorer == "rds" and needs - {"target"}:
        raise ConfigError(
            f"Method {name}: rds compares the target with the pool only. Take rds+round-robin or rds+fl2mi."
        )
    return Method(
        name, scorer, objective, f"{objective} over {scorer}",
        f"The objective {objective} over pairs scored by {scorer}.",
        {"icl": "a model pass for every pair", "embedding": "n encodings", "rds": "n + m model passes"}[scorer],
        "chosen by hand", "target" in needs, "existing" in needs, scorer == "icl" or "scores" in needs,
    )  # fmt: skip


def resolve(table: Mapping[str, str], kind: str, name: str) -> Any:
    """The class behind a name, imported now; an unknown name raises ConfigError."""
    if name not in table:
        raise unknown(kind, name, table)
    module, _, attribute = table[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def over_pairs() -> list[str]:
    """The objectives that look at pairs, which any scorer of pairs can serve."""
    parts = {"pool", "target", "existing"}
    return [name for name in OBJECTIVES if resolve(OBJECTIVES, "objective", name)().needs & parts]


def parts_of(name: str) -> dict[str, Any]:
    """The classes that a method is made of: its scorer of pairs, its score of rows, its objective."""
    chosen = method(name)
    found: dict[str, Any] = {}
    if chosen.scorer is not None:
        found["scorer"] = resolve(SCORERS, "scorer", chosen.scorer)
    if chosen.score is not None:
        found["row score"] = resolve(ROW_SCORES, "row score", chosen.score)
    found["objective"] = resolve(OBJECTIVES, "objective", chosen.objective)
    return found


def option_fields(name: str, *, settings: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The options of a method by name: the dataclass fields of what it is made of, the objective's last.

    `settings` are names that belong to every run, and so are no options.
    """
    classes = parts_of(name).values()
    return {f.name: f for cls in classes for f in dataclasses.fields(cls) if f.init and f.name not in settings}


def objective_of(name: str, options: Mapping[str, Any]) -> Any:
    """The objective of a method, with those of the options that are its own."""
    return _made(OBJECTIVES, "objective", method(name).objective, options)


def scorer_of(name: str, options: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    """The scorer of a method, with those of the options and settings that are its own; None where it has none."""
    scorer = method(name).scorer
    return None if scorer is None else _made(SCORERS, "scorer", scorer, {**options, **settings})


def score_of(name: str, options: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    """The row score of a method, its own or the one that its objective names; None where it has none."""
    score = method(name).score or getattr(objective_of(name, options), "quality", None)
    return None if score is None else _made(ROW_SCORES, "row score", score, {**options, **settings})


def _made(table: Mapping[str, str], kind: str, name: str, options: Mapping[str, Any]) -> Any:
    own = {f.name for f in dataclasses.fields(resolve(table, kind, name)) if f.init}
    return build(table, kind, name, {k: v for k, v in options.items() if k in own})


def plan(text: str) -> Any:
    """The pair plan that "knn:12" names; None for "dense".  Raises ConfigError for another name or value."""
    name, mark, value = text.partition(":")
    if name == DENSE and not mark:
        return None
    if name not in PLANS:
        raise unknown("pair plan", name, (DENSE, *PLANS))
    first = dataclasses.fields(resolve(PLANS, "pair plan", name))[0]
    default: Any = first.default
    if not mark:
        return build(PLANS, "pair plan", name, {})
    try:
        given = type(default)(value)
    except ValueError:
        told = f"{first.name} wants a number, such as {name}:{default} ({first.metadata['help']})"
        raise ConfigError(f"Pair plan {text!r}: {told}.") from None
    return build(PLANS, "pair plan", name, {first.name: given})


def reads(name: str, options: Mapping[str, Any] | None = None, *, pairs: str = DENSE) -> frozenset[str]:
    """What a method reads rows with: of "model" (a language model), "tokenizer" (its tokenizer alone), "encoder".

    A pair plan finds the pairs worth scoring by sentence vectors; "auto" may come to be one.  Empty for a method that
    looks at texts alone, or at nothing.  Raises ConfigError for an unknown name and a wrong option.
    """
    options = options or {}
    objective, scorer, score = objective_of(name, options), scorer_of(name, options, {}), score_of(name, options, {})
    found: set[str] = set()
    if scorer is not None:
        found.add("encoder" if scorer.reads == "vectors" else "model")
        if scorer.reads == "texts" and pairs != DENSE:
            found.add("encoder")
    if score is not None and score.reads != "texts":
        found.add(score.reads)
    if any(part.endswith("vectors") for part in objective.needs):
        found.add("encoder")
    return frozenset(found - {"tokenizer"} if "model" in found else found)


def reads_texts(name: str) -> bool:
    """Whether a method scores pairs with the language model, so that a pair plan means something."""
    scorer = method(name).scorer
    return scorer is not None and bool(resolve(SCORERS, "scorer", scorer).reads == "texts")


def sparse_plan(name: str) -> str | None:
    """The pair plan that a method takes where all pairs are too many; None for one that is scored whole or not at all.

    Plans that learn from the model's passes make no sense where vectors are compared: there it is the nearest rows.
    """
    scorer = method(name).scorer
    reads = "" if scorer is None else str(resolve(SCORERS, "scorer", scorer).reads)
    return {"texts": BEST, "vectors": NEAREST}.get(reads)


def memory_of(name: str, cost: Cost, *, pairs: str = DENSE) -> int:
    """Bytes in memory of a run's pairs, as they are read and as they are scaled, or of its vectors; models on top."""
    entry = 4 if pairs == DENSE else 16  # a sparse one holds its place
    return cost.pairs * entry * (3 if reads_texts(name) else 2) or cost.bytes


def work_of(name: str, cost: Cost, options: Mapping[str, Any], *, pairs: str = DENSE) -> str:
    """One sentence on what a run computes, for a person who decides whether to start it."""
    read = reads(name, options, pairs=pairs)
    if reads_texts(name):
        which = "Every pair" if pairs == DENSE else f"A part of all pairs ({pairs})"
        return (
            f"{which} is scored: the language model reads a row after each example, {cost.pairs:,} pairs and "
            f"{cost.tokens:,} tokens in all."
        )
    said = []
    if "encoder" in read:
        said.append("each row is turned into a sentence vector")
    if method(name).scorer == "embedding":
        said.append(f"{cost.pairs:,} pairs of vectors are compared")
    if "model" in read:
        said.append("the language model reads each row")
    if "tokenizer" in read:
        said.append("tokens are counted")
    if not said:
        return "No model is read."
    text = ", ".join(said)
    return f"{text[0].upper()}{text[1:]}{'' if 'model' in read else '; no language model is run'}."


def plan_name(text: str) -> str:
    """The one way to write a pair plan, its number with it; raises ConfigError for what is none."""
    found = plan(text)
    return DENSE if found is None else f"{found.name}:{getattr(found, dataclasses.fields(found)[0].name)}"


def build(table: Mapping[str, str], kind: str, name: str, options: Mapping[str, Any]) -> Any:
    """An instance of the named class with its options checked against the dataclass fields.

    Field metadata may hold "help", "min", "max", "choices", and in "or_begins" how a value outside the choices may
    begin.  A wrong option raises ConfigError.
    """
    cls = resolve(table, kind, name)
    known = {f.name: f for f in dataclasses.fields(cls) if f.init}
    for option, value in options.items():
        if option not in known:
            raise unknown(f"option of {kind} {name}:", option, known)
        meta, default = known[option].metadata, known[option].default
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if default is not dataclasses.MISSING and type(value) is not type(default):
            raise ConfigError(f"Option {option} of {name} wants {type(default).__name__}, not {value!r}.")
        if value != value or ("min" in meta and value < meta["min"]) or ("max" in meta and value > meta["max"]):
            raise ConfigError(
                f"Option {option}={value} of {name} is outside [{meta.get('min', '-inf')}, {meta.get('max', 'inf')}]."
            )
        own = "or_begins" in meta and value.startswith(meta["or_begins"])
        if "choices" in meta and value not in meta["choices"] and not own:
            raise unknown(f"value of option {option}:", str(value), meta["choices"])
    return cls(**options)
