"""What a person must know before rows in another language meet models that read English only."""

from __future__ import annotations

import os

import streamlit as st

from delift_core.data.checks import Foreign, foreign
from delift_core.registry import ENCODERS, METHODS, reads
from pages import _widgets as widgets

MOST = 0.5  # share of rows above which a dataset is not taken for English
BUILT_IN = "builtin"  # language model; it and the encoders of the registry were trained on English


@st.cache_resource(show_spinner="Looking at the language of the rows", max_entries=32)
def _foreign(home: str, fingerprint: str) -> Foreign:
    return foreign(widgets.open_dataset_cached(fingerprint))


def is_foreign(fingerprint: str) -> Foreign | None:
    """What was found in a dataset whose rows are mostly not English; None for any other."""
    found = _foreign(os.environ.get("DELIFT_HOME", ""), fingerprint)
    return found if found.share > MOST else None


def warn_language(fingerprint: str, *, encoder: str | None = None, model: str | None = None) -> None:
    """Warn where most rows are not English and one of the models named reads English only; says what to do instead."""
    readers = [f"the sentence encoder {name}" for name in [encoder] if name in ENCODERS]
    readers += ["the built-in language model"] if model == BUILT_IN else []
    found = is_foreign(fingerprint) if readers else None
    if found is None:
        return
    free = ", ".join(f"`{name}`" for name in METHODS if not reads(name))
    st.warning(
        f"Most rows are not in English ({widgets.percent(found.share)} of {found.judged:,} rows looked at; the "
        f"commonest language has the code {found.language}). These know English only: {' and '.join(readers)}. Rows "
        "that mean different things may look alike to them, so scores and picks by them say little. Instead, give a "
        "multilingual model on the Run page, by its Hugging Face id (such as "
        "`sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2` for the encoder) or by a folder on the server, "
        f"or take a method that reads no model: {free}.",
        icon=":material/translate:",
    )
