"""What a visitor does and reads, and things that several tests of the pages use."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamlit.testing.v1 import AppTest

from delift_core.types import Cost

PAGES = ("data", "run", "export")
HOSTILE = '<script>hacked=1</script><img src=x onerror="hacked=1">[click](javascript:hacked=1) **bold** $x$'


@dataclass(frozen=True)
class Options:
    """One field of every kind that the form knows."""

    share: float = field(default=0.5, metadata={"help": "how much", "min": 0.0, "max": 1.0})
    rounds: int = field(default=3, metadata={"min": 1})
    exact: bool = False
    how: str = field(default="clip", metadata={"choices": ("clip", "minmax")})
    label: str = "plain"


class KnownCost:
    """An estimate that is there at once, so that a test of the form starts no subprocess."""

    running = False
    seconds = 3.0
    key = "known"

    def stop(self) -> None: ...

    def result(self) -> tuple[Cost, str]:
        return Cost(pairs=1600, tokens=2000, flops=1e9, seconds=self.seconds, bytes=6400), "dense"


def choose(app: AppTest, family: str, method: str) -> AppTest:
    """Choose a method on the Run page."""
    app.segmented_control(key="family").set_value(family).run()
    return app.button(key=f"method.{method}").click().run()


def visit(app: AppTest, page: str, **query: str) -> AppTest:
    """Open a page as a new visitor would, with these query parameters."""
    app.run()
    for name, value in query.items():
        app.query_params[name] = value
    return app.switch_page(f"pages/{page}.py").run()


def said(app: AppTest) -> str:
    """Everything a visitor can read on the page, in one string."""
    parts: list[str] = []
    for kind in (
        "title",
        "header",
        "subheader",
        "markdown",
        "caption",
        "text",
        "info",
        "warning",
        "error",
        "success",
        "code",
    ):
        parts += [str(element.value) for element in app.get(kind)]
    return "\n".join(parts)
