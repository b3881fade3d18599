"""The page's frame: configuration, navigation and the strip that every page carries.  Router only.

Start it with `streamlit run app.py` (or `make run`).
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from pages import _widgets as widgets

st.set_page_config(page_title="DELIFT", page_icon=":material/filter_alt:", layout="wide")

PAGES = {  # file: title, icon, what it is for
    "data": ("Data", "database", "Load instruction data and see what is in it."),
    "run": ("Run", "play_circle", "Say what you want, see the price, start a run."),
    "map": ("Map", "scatter_plot", "Selected and rejected rows on a map of meaning."),
    "utility": ("Utility", "grid_on", "How much each row helps each other row."),
    "audit": ("Audit", "fact_check", "Find rows, pin and ban them, see coverage, risks and reasons."),
    "compare": (
        "Compare",
        "compare_arrows",
        "Two to four runs side by side, what else could be picked, and how stable it is.",
    ),
    "export": ("Export", "download", "Download the subset and the record of how it was made."),
}
page = st.navigation(
    [
        st.Page(f"pages/{name}.py", title=title, icon=f":material/{icon}:", help=text)
        for name, (title, icon, text) in PAGES.items()
    ],
    position="top",
)
st.html(Path(__file__).parent / "assets" / "app.css")
widgets.keep_run_in_url()
widgets.status_strip()
page.run()
