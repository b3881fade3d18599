"""The decision card of one row: why it was chosen or why not, whom it stands for or who stands in for it, its texts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import streamlit as st

from delift_core.errors import DeliftError
from delift_core.insight.standing import Status, number, percent
from delift_core.insight.why import Role
from delift_core.review.explaining import Explainer, Explanation
from delift_core.runs.run import Run
from delift_core.types import Dataset
from pages import _widgets as widgets

ICONS: dict[Status, str] = {
    "selected": ":material/check_circle:", "beyond the budget": ":material/hourglass_bottom:",
    "exact copy": ":material/content_copy:", "left out": ":material/block:",
    "refused by the score": ":material/thumb_down:", "never ranked": ":material/do_not_disturb_on:",
}  # fmt: skip
_ID, _SNIPPET = 36, 200  # characters of an id, and of a text in a list
_TALL, _LINES = 400, 8  # characters and lines from which on a text scrolls
Focus = Callable[[int], None]


def show_card(run: Run, pool: Dataset, row: int, k: int, *, on_focus: Focus) -> None:
    """Why the row is in the subset of `k` rows or why not, with other rows as buttons, and the texts.

    Args:
        run: the finished run.
        pool: its pool.
        row: index of the row in the pool.
        k: rows that the budget keeps.
        on_focus: called with the index of another pool row when its button is pressed.
    """
    try:
        with st.spinner("Reading what the run knows of this row"):
            found = _explainer(os.environ.get("DELIFT_HOME", ""), run.id, widgets.version_of(run), run).explain(row, k)
    except DeliftError as error:
        widgets.error_box(error)
        return
    helped = _helped(run, pool, found.role)
    status = found.standing.status.capitalize()
    reason = _short(found.standing.reason.removeprefix(f"{status}: "))
    st.markdown(f"{ICONS[found.standing.status]} **{status}** · {widgets.escape(reason[:1].upper() + reason[1:])}")
    with st.container(horizontal=True, key="why.numbers"):
        for label, value, told in _metrics(found):
            st.metric(label, value, width="content", help=told)
    st.markdown("\n".join(f"- {widgets.escape(_short(line))}" for line in found.sentences[1:]))
    for note in found.notes:
        st.caption(widgets.escape(note))
    if found.role is not None:
        _show_lists(found.role, pool, helped, on_focus)
    st.markdown("**This row**")
    _show_texts(pool, row)
    _show_other(found, pool, helped, on_focus)


@st.cache_resource(show_spinner=False, max_entries=4)
def _explainer(home: str, run_id: str, version: str, _run: Run) -> Explainer:
    return Explainer(widgets.workspace(), _run)


def _helped(run: Run, pool: Dataset, role: Role | None) -> Dataset:
    """The dataset whose rows are helped."""
    target = run.config.target
    return pool if role is None or role.part == "pool" or not target else widgets.open_dataset_cached(target)


def _metrics(found: Explanation) -> Iterable[tuple[str, str, str]]:
    """(label, value, help) of three or four numbers that say most."""
    at, role = found.standing, found.role
    if at.rank is not None:
        yield "Rank", f"{at.rank:,} of {at.ranked:,}", "Its place in the order; the budget keeps the first ones."
    if found.score is not None:
        yield "Better than", percent(found.score.better_than), "Of the other ranked rows, those with a lower score."
    elif at.gain and (role is None or role.gain_now is None):
        yield "Gain", number(at.gain), "What it added at its turn."
    if role is None:
        return
    if role.serves is not None:
        yield (
            "Best for",
            f"{role.serves.count:,} row{'' if role.serves.count == 1 else 's'}",
            f"Rows of the {role.part} that no other selected row helps more.",
        )
    if role.loss_share is not None and role.loss_share == role.loss_share:
        yield "Lost without it", percent(role.loss_share), "Share of the subset's value."
    if role.represented is not None and role.represented.share is not None:
        told = "What the selected row that helps it most gives, of what any row of the pool could."
        yield "Represented", percent(role.represented.share), told
    if role.gain_now is not None:
        yield "Gain if added", number(role.gain_now), "What the objective would gain with it as one row more."
    if role.swap is not None and role.swap.share == role.swap.share:
        told = "Change of the subset's value if it took the place of the selected row that it would best replace."
        yield "Best swap", f"{100 * role.swap.share:+.2g} %", told


def _show_lists(role: Role, pool: Dataset, helped: Dataset, on_focus: Focus) -> None:
    """The rows behind the numbers, each list folded away."""
    of = None if role.part == "target" else on_focus  # rows of the target are not on the map
    if role.serves is not None and role.serves.rows:
        with _list(f"Rows of the {role.part} it serves best", "serves"):
            st.caption(f"{len(role.serves.rows)} of {role.serves.count:,}, by {_unit(role)}")
            for near in role.serves.rows:
                with _line():
                    _row("serves", near.row, near.id, _number(near.utility), helped, of)
    if role.alternatives:
        with _list("Rows that could take its place", "instead"):
            st.caption("Each with the share of the loss that it would make up for")
            for one in role.alternatives:
                share = percent(one.recovered) if one.recovered == one.recovered else "nothing is lost"
                with _line():
                    _row("instead", one.row, one.id, share, pool, on_focus)
    if role.represented is not None and role.represented.rows:
        with _list("Selected rows that stand in for it", "represented"):
            st.caption(f"By {_unit(role)}")
            for near in role.represented.rows:
                with _line():
                    _row("represented", near.row, near.id, _number(near.utility), pool, on_focus)
    if role.would_help:
        with _list(f"Rows of the {role.part} it would help", "would_help"):
            st.caption(f"By {_unit(role)} → the selected row that helps it most now")
            for i, contest in enumerate(role.would_help):
                with _line():
                    _row("would_help", contest.row, contest.id, _number(contest.utility), helped, of, telling=False)
                    by = contest.by
                    if by is None:
                        st.caption("→ no selected row", width="content")
                    elif of is not None and by.row == contest.row:
                        st.caption("→ is selected itself", width="content")
                    else:
                        st.caption("→", width="content")
                        _row(f"by{i}", by.row, by.id, _number(by.utility), pool, on_focus)
    if role.swap is not None:
        with _line():
            st.caption("Would best replace", width="content")
            _row("swap", role.swap.row, role.swap.id, f"value {role.swap.change:+.3g}", pool, on_focus)


def _list(title: str, key: str) -> Any:
    """A folded list of rows that stand close together."""
    with st.expander(title, key=f"why.{key}"):
        return st.container(gap=None)


def _line() -> Any:
    return st.container(horizontal=True, vertical_alignment="center", gap="small")


def _show_other(found: Explanation, pool: Dataset, helped: Dataset, on_focus: Focus) -> None:
    """The texts of the row that says most beside this one: who stands in for it, or whom it serves best."""
    best, serves = found.best, found.role.serves if found.role is not None else None
    if best is not None:
        with _line():
            st.markdown("**The selected row that stands in for it**", width="content")
            _row("best", best.row, best.id, _number(best.utility) if best.utility is not None else "", pool, on_focus)
        _show_texts(pool, best.row)
        return
    contests = found.role.would_help if found.role is not None else ()
    others = [near for near in serves.rows if helped is not pool or near.row != found.row] if serves is not None else []
    if others:
        st.markdown(f"**The row of the {found.role.part if found.role else 'pool'} that it serves best**")
        st.text(f"Row {widgets.clip(others[0].id, _ID)}")
        _show_texts(helped, others[0].row)
    elif contests and found.role is not None:
        st.markdown(f"**The row of the {found.role.part} that it would help most**")
        st.text(f"Row {widgets.clip(contests[0].id, _ID)}")
        _show_texts(helped, contests[0].row)


def _show_texts(dataset: Dataset, row: int) -> None:
    for title, text in (("Prompt", dataset.prompts[row]), ("Response", dataset.responses[row])):
        st.caption(title)
        with st.container(border=True, height=190 if len(text) > _TALL or text.count("\n") > _LINES else "content"):
            widgets.plain(text or "(none)")


def _row(
    group: str, row: int, name: str, value: str, dataset: Dataset, on_focus: Focus | None, *, telling: bool = True
) -> None:
    """A row in a list: its id (a button where it can be focused) that tells the start of its prompt, and a number."""
    told = widgets.escape(widgets.clip(dataset.prompts[row], _SNIPPET)) if telling or on_focus is not None else None
    label = widgets.escape(widgets.clip(name, _ID))
    if on_focus is None:
        st.caption(label, width="content", help=told)
    else:
        st.button(label, key=f"why.{group}.{row}", type="tertiary", on_click=on_focus, args=(row,), help=told)
    st.caption(value, width="content")


def _unit(role: Role) -> str:
    return {
        "l2": "utility (l2)",
        "pmi": "utility (nats per token)",
        "cosine": "cosine",
        "centred": "cosine above the mean",
    }[role.kind]


def _number(value: float | None) -> str:
    return "–" if value is None else number(value)


def _short(line: str) -> str:
    return widgets.clip(line, 400)
