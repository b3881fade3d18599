"""An explanation in plain sentences, and as lines of text for a terminal."""

from __future__ import annotations

import math

from delift_core.insight.standing import number, percent
from delift_core.insight.why import Constituency, Contest, Explanation, Near, Representation, Role, Substitute, Swap
from delift_core.types import Kind

_UNITS: dict[Kind, str] = {
    "l2": "utility",
    "pmi": "utility in nats per token",
    "cosine": "cosine",
    "centred": "cosine above the mean",
}


def told_by_role(role: Role, k: int) -> list[str]:
    """What a utility tells of a row beside a subset of k, in plain sentences."""
    of = f"rows of the {role.part}"
    said: list[str] = []
    if role.serves is not None:
        said.append(_served(role.serves, of, k))
    if role.own is not None:
        said.append(f"By itself, whoever else is picked, it counts {number(role.own)}.")
    if role.loss is not None and role.loss_share is not None:
        share = "" if math.isnan(role.loss_share) else f", {percent(role.loss_share)} of the subset's value"
        said.append(f"Without it the objective falls by {number(role.loss)}{share}.")
    if role.alternatives:
        said.append(_in_its_place(role.alternatives[0], role.loss or 0.0))
    if role.represented is not None:
        said.append(_stands_in(role.represented, _UNITS[role.kind]))
    elif role.serves is None and role.would_help:
        said.append(_contested(role.would_help[0], role.part, _UNITS[role.kind]))
    if role.gain_now is not None:
        said.append(f"Added to the {k:,} rows now, it would raise the objective by {number(role.gain_now)}.")
    if role.swap is not None:
        said.append(_swapped(role.swap))
    return said


def _served(serves: Constituency, of: str, k: int) -> str:
    if not serves.count:
        return f"No {of.replace('rows', 'row', 1)} is helped more by it than by another of the {k:,} selected rows."
    rows = of if serves.count > 1 else of.replace("rows", "row", 1)
    itself = " (itself among them)" if serves.itself and serves.count > 1 else " (itself)" if serves.itself else ""
    return f"It is the best of the {k:,} selected rows for {serves.count:,} {rows}{itself}."


def _in_its_place(first: Substitute, loss: float) -> str:
    if not loss > 0 or math.isnan(first.recovered):
        return f"Nothing is lost without it, so any other row could stand in its place, such as {first.id}."
    if first.recovered > 1:
        return f"Row {first.id} in its place would give more: {percent(first.recovered)} of what is lost."
    return f"The best row outside to take its place, {first.id}, would make up for {percent(first.recovered)} of that."


def _stands_in(found: Representation, unit: str) -> str:
    if found.share is None:
        return "No row of the pool is known to help it, so none of the subset stands in for it."
    if not found.rows:
        return "No selected row is known to help it."
    first = found.rows[0]
    how = "" if first.utility is None else f" ({unit} {number(first.utility)})"
    return f"Row {first.id} stands in for it{how}: {percent(found.share)} of the best that any row could give."


def _contested(first: Contest, part: str, unit: str) -> str:
    mine = "" if first.utility is None else f" ({unit} {number(first.utility)})"
    lead = f"Of the {part}, it would add most for row {first.id}{mine}"
    if first.by is None:
        return f"{lead}, which no selected row helps."
    theirs = "" if first.by.utility is None else f" ({number(first.by.utility)})"
    if first.by.utility is None or first.utility is None or first.by.utility >= first.utility:
        return (
            f"It helps no row of the {part} more than the subset does: row {first.id}{mine} has the selected row "
            f"{first.by.id}{theirs}."
        )
    return f"{lead}, which has the selected row {first.by.id}{theirs} now."


def _swapped(swap: Swap) -> str:
    size = number(abs(swap.change))
    share = "" if math.isnan(swap.share) else f" ({percent(abs(swap.share))})"
    if swap.change > 0:
        return f"It would best take the place of row {swap.id}: the objective would rise by {size}{share}."
    if swap.change == 0:
        return f"It could take the place of row {swap.id}: the objective would stay as it is."
    return f"In the place of any selected row it lowers the objective, least in that of {swap.id}: by {size}{share}."


def as_text(found: Explanation) -> str:
    """An explanation as lines of text, for a terminal."""
    lines = [f"Row {found.id} in run {found.run} ({found.method}), at a budget of {found.k:,} rows", ""]
    lines += found.sentences
    if found.role is not None:
        lines += _lists(found.role)
    if found.notes:
        lines += ["", *found.notes]
    return "\n".join(lines) + "\n"


def _lists(role: Role) -> list[str]:
    kind, lines = role.kind, []
    if role.serves is not None and role.serves.rows:
        shown = len(role.serves.rows)
        lines += ["", f"Rows of the {role.part} it serves best ({shown} of {role.serves.count:,}), {kind}:"]
        lines += [f"  {_value(near)}  {near.id}" for near in role.serves.rows]
    if role.alternatives:
        lines += ["", "Rows outside that would make up most of what is lost without it:"]
        lines += [f"  {_share(one.recovered)}  {one.id}" for one in role.alternatives]
    if role.represented is not None and role.represented.rows:
        lines += ["", f"Selected rows that help it most, {kind}:"]
        lines += [f"  {_value(near)}  {near.id}" for near in role.represented.rows]
    if role.would_help:
        lines += ["", f"Rows of the {role.part} it would help, {kind}, and the selected row that helps each most:"]
        lines += [
            f"  {_utility(one.utility)}  {one.id}  <- "
            + ("none" if one.by is None else f"{one.by.id} ({_utility(one.by.utility).strip()})")
            for one in role.would_help
        ]
    return lines


def _value(near: Near) -> str:
    return _utility(near.utility)


def _utility(value: float | None) -> str:
    return f"{'–' if value is None else number(value):>9}"


def _share(share: float) -> str:
    return f"{'–' if share != share else percent(share):>9}"
