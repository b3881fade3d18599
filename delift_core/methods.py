"""The methods by name: what each wants, takes and costs, and the paper that it comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """A named way to choose, as a paper would call it: what scores rows or pairs, and the objective that picks."""

    name: str
    scorer: str | None  # of pairs; None: the objective looks at vectors, at one score a row, or at nothing
    objective: str
    title: str  # what the user wants, in a few words
    summary: str  # one sentence on what it does
    cost: str  # in passes or encodings
    paper: str
    needs_target: bool = False
    needs_existing: bool = False
    needs_response: bool = True
    score: str | None = None  # of rows
    family: str = "delift"

    @property
    def price(self) -> str:
        """What it costs, in a class that a person can choose by."""
        if self.scorer == "icl":
            return "slow: the language model reads pairs of rows"
        if "passes" in self.cost:
            return "medium: the language model reads each row"
        return "quick: one sentence vector a row" if "encodings" in self.cost else "at once: no model"


FAMILIES: dict[str, str] = {
    "delift": "In-context utility",
    "cover": "Set functions on embeddings",
    "transport": "Optimal transport and nearness to a target",
    "rows": "One score a row",
    "control": "Controls and simple baselines",
}

_DELIFT = "DELIFT, arXiv 2411.04425"
_SUBMODLIB = "submodlib, arXiv 2202.10680"
METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        Method(
            "delift", "icl", "fl", "Represent the pool",
            "Rows that, shown as examples, help the model most on the whole pool.", "n x n model passes", _DELIFT,
        ),
        Method(
            "delift-task", "icl", "fl2mi", "Specialise to a target",
            "Rows that, shown as examples, help the model most on the target task.",
            "m x n model passes (m target rows)", _DELIFT, needs_target=True,
        ),
        Method(
            "delift-task-capped", "icl", "fl1mi", "Specialise, and stay broad",
            "Rows that help the whole pool, each row counted only as far as it helps the target.",
            "n x n + m x n model passes", _DELIFT, needs_target=True,
        ),
        Method(
            "delift-continual", "icl", "flcg", "Add what is new",
            "Rows that help where the data already trained on does not.",
            "n x (n + e) model passes (e existing rows)", _DELIFT, needs_existing=True,
        ),
        Method(
            "delift-se", "embedding", "fl", "Represent the pool, quickly",
            "Rows that stand for the pool by sentence embedding alone; no language model.",
            "n encodings", "DELIFT (SE), arXiv 2411.04425", needs_response=False, family="cover",
        ),
        Method(
            "delift-se-task", "embedding", "fl2mi", "Specialise, quickly",
            "Rows that stand for the target by sentence embedding alone; no language model.",
            "n + m encodings", "DELIFT (SE), arXiv 2411.04425", needs_target=True, needs_response=False, family="cover",
        ),
        Method(
            "delift-se-continual", "embedding", "flcg", "Add what is new, quickly",
            "Rows that stand for what the data already trained on does not; no language model.",
            "n + e encodings", "DELIFT (SE), arXiv 2411.04425", needs_existing=True, needs_response=False,
            family="cover",
        ),
        Method(
            "qdit", "embedding", "flquality", "Diverse and good",
            "Rows that stand for the pool and score well one by one; the share of each is an option.",
            "n encodings + the row score's passes", "QDIT, arXiv 2311.14736", family="cover",
        ),
        Method(
            "graph-cut", "embedding", "graph-cut", "Represent, and differ",
            "Rows that are like the pool and, as far as an option says, unlike each other.", "n encodings", _SUBMODLIB,
            needs_response=False, family="cover",
        ),
        Method(
            "log-determinant", "embedding", "log-determinant", "Spread out in all directions",
            "Rows whose vectors span the largest volume.", "n encodings", _SUBMODLIB, needs_response=False,
            family="cover",
        ),
        Method(
            "disparity-sum", "embedding", "disparity-sum", "Far apart on the whole",
            "Rows whose distances to each other add up to the most.", "n encodings", _SUBMODLIB, needs_response=False,
            family="cover",
        ),
        Method(
            "disparity-min", "embedding", "disparity-min", "No two alike",
            "Rows whose smallest distance to each other is the largest.", "n encodings", _SUBMODLIB,
            needs_response=False, family="cover",
        ),
        Method(
            "set-cover", "embedding", "set-cover", "Touch every row",
            "Rows that leave as few rows as possible without a similar one.", "n encodings", _SUBMODLIB,
            needs_response=False, family="cover",
        ),
        Method(
            "prob-set-cover", "embedding", "prob-set-cover", "Touch every row, softly",
            "As set-cover, with similarity read as the chance that a row is covered.", "n encodings", _SUBMODLIB,
            needs_response=False, family="cover",
        ),
        Method(
            "got-d", None, "got-d", "Move towards a target fast",
            "Rows whose mass moves the pool's distribution fastest towards the target's.",
            "n + m encodings", "GOT-D, arXiv 2405.02774", needs_target=True, needs_response=False, family="transport",
        ),
        Method(
            "got-d-diverse", None, "got-d-diverse", "Move towards a target, without repeats",
            "The best rows of got-d by far more than the budget, and of those the ones that stand for the others.",
            "n + m encodings", "GOT-D, arXiv 2405.02774", needs_target=True, needs_response=False, family="transport",
        ),
        Method(
            "got-d-contrast", None, "got-d-contrast", "Move away from what is there",
            "Rows whose mass moves the pool's distribution fastest away from that of the existing rows.",
            "n + e encodings", "GOT-D, arXiv 2405.02774", needs_existing=True, needs_response=False,
            family="transport",
        ),
        Method(
            "uot", None, "uot", "Rows that transport keeps",
            "Rows that keep the most mass when the pool may drop what is far from the target.",
            "n + m encodings", "arXiv 2602.14696", needs_target=True, needs_response=False, family="transport",
        ),
        Method(
            "tsds", None, "tsds", "Near the target, near-copies sharing",
            "Rows that many target rows lie near; near-copies divide what one row would get.",
            "n + m encodings", "TSDS, arXiv 2410.11303", needs_target=True, needs_response=False, family="transport",
        ),
        Method(
            "knn-uniform", None, "knn-uniform", "Nearest to the target",
            "Rows among the nearest neighbours of the most target rows.",
            "n + m encodings", "TSDS, arXiv 2410.11303", needs_target=True, needs_response=False, family="transport",
        ),
        Method(
            "rds", "rds", "round-robin", "What the model finds like the target",
            "Target rows take turns, each taking the row whose hidden states are nearest to its own.",
            "n + m model passes", "RDS+, arXiv 2503.01807", needs_target=True, needs_response=False,
            family="transport",
        ),
        Method(
            "dsir", None, "top-k", "Written like the target",
            "Rows whose words and word pairs are likelier in the target than in the pool; no passes.",
            "reading the text", "DSIR, arXiv 2302.03169", needs_target=True, needs_response=False, score="dsir",
            family="transport",
        ),
        Method(
            "ica", None, "top-k", "Helped by target examples",
            "Rows whose loss falls most when examples of the target are shown before them.",
            "2 n model passes", "arXiv 2510.14459", needs_target=True, score="ica", family="rows",
        ),
        Method(
            "ifd", None, "top-k", "Hard to follow",
            "Rows whose instruction helps least to foretell the response; with a small model, Superfiltering.",
            "2 n model passes", "IFD, arXiv 2308.12032; Superfiltering, arXiv 2402.00530", score="ifd", family="rows",
        ),
        Method(
            "selectit", None, "top-k", "Rated well by the model",
            "Rows that the model itself rates best, over five rating prompts, and is sure of.",
            "5 n model passes", "SelectIT, arXiv 2402.16705", score="selectit", family="rows",
        ),
        Method(
            "loss", None, "top-k", "Foretold badly",
            "Rows whose response the model foretells worst (or best, by option).",
            "n model passes", "perplexity pruning, arXiv 2405.20541", score="loss", family="rows",
        ),
        Method(
            "longest", None, "top-k", "Longest responses",
            "Rows with the most response tokens: a strong baseline for the price of counting.",
            "counting tokens", "arXiv 2402.04833", score="longest", family="control",
        ),
        Method(
            "kmeans", None, "kmeans", "Centres of clusters",
            "Rows nearest to the centroids of k-means clusters.", "n encodings", "k-means", needs_response=False,
            family="control",
        ),
        Method(
            "kcenter", None, "kcenter", "Farthest first",
            "Rows each as far as possible from those before it.", "n encodings", "k-center greedy, arXiv 1708.00489",
            needs_response=False, family="control",
        ),
        Method(
            "deft-ucs", None, "deft-ucs", "Easy and hard of each cluster",
            "Of every cluster some rows nearest to its centroid and some farthest from it.",
            "n encodings", "DEFT-UCS, arXiv 2310.16776", needs_response=False, family="control",
        ),
        Method(
            "random", None, "random", "Random control",
            "A seeded random subset: what every other choice has to beat.",
            "none", "the control", needs_response=False, family="control",
        ),
    )
}  # fmt: skip

GOALS: dict[str, str] = {
    "pool": "Represent the whole pool",
    "target": "Serve a target task",
    "existing": "Add to what was trained on",
}
_CONTROL = {"random": "Always run it as well: whatever you choose has to beat it."}
# Goal, which is also the role that it is about -> methods to begin with, and when to take each.
RECOMMENDED: dict[str, dict[str, str]] = {
    "pool": {
        "delift-se": "Begin here: fast, needs no language model, and covers every topic of the pool.",
        "delift": "When a language model is to judge which rows teach it something, and there is time for it.",
        "qdit": "When part of the pool is poor: each row's own quality counts beside what it covers.",
        "kmeans": "When a few rows from every topic are enough, and the pool is large.",
        "longest": "When something free is wanted that is still hard to beat.",
        **_CONTROL,
    },
    "target": {
        "delift-se-task": "Begin here: fast, needs no language model, and covers every topic of the target.",
        "delift-task": "When a language model is to judge which rows help it on the target.",
        "got-d": "When the subset as a whole is to resemble the target.",
        "tsds": "When the pool repeats itself: near-copies share what one row would get.",
        "rds": "When the language model itself is to say which rows are like the target.",
        **_CONTROL,
    },
    "existing": {
        "delift-se-continual": "Begin here: fast, and leaves out what the existing rows cover already.",
        "delift-continual": "When a language model is to judge which rows still teach it something.",
        "got-d-contrast": "When the subset is to be as different from the existing rows as it can.",
        **_CONTROL,
    },
}
