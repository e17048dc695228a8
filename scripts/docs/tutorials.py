"""Runs the tutorials as the notebooks that they are, and keeps the output that they show true.

    python scripts/docs/tutorials.py             # run all, and write the output of a cell into the ```text block behind it
    python scripts/docs/tutorials.py your-model  # that one

A block ```text right behind a cell is what the cell printed. Numbers may differ between machines; `shape` is what must not.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "tutorials"
SECONDS = 900  # for one cell
_CELL = re.compile(r"^```(?:bash|python)\n.*?^```\n(?:\n```text\n(?P<shown>.*?)^```\n)?", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    """The tutorials that are notebooks."""
    return [page for page in sorted(FOLDER.glob("*.md")) if "jupytext:" in page.read_text(encoding="utf-8")]


def ran(page: Path, folder: Path) -> list[str]:
    """What each cell of the page prints, run in order in `folder`. Raises nbclient's CellExecutionError for one that fails."""
    notebook = jupytext.reads(page.read_text(encoding="utf-8"), fmt="md")
    NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    return [printed(cell) for cell in notebook.cells if cell.cell_type == "code"]


def printed(cell: nbformat.NotebookNode) -> str:
    """What a cell wrote to stdout."""
    return "".join(out.text for out in cell.outputs if out.output_type == "stream" and out.name == "stdout")


def shown(page: Path) -> list[str | None]:
    """The output that the page shows for each cell; None where it shows none."""
    return [match["shown"] for match in _CELL.finditer(page.read_text(encoding="utf-8"))]


def shape(text: str) -> str:
    """A text without what differs from machine to machine: numbers, hashes, widths of columns, emphasis."""
    text = re.sub(r"\b[0-9a-f]{8,}\b", "#", text)
    return " ".join(re.sub(r"[-+−]?\d+(?:\.\d+)?", "#", re.sub(r"[-|*]{2,}", " ", text)).split())


def write(page: Path, outputs: list[str]) -> None:
    """Puts the outputs into the blocks that show them."""
    left = iter(outputs)

    def filled(match: re.Match[str]) -> str:
        output = "\n".join(line.rstrip() for line in next(left).strip("\n").splitlines()) + "\n"
        if match["shown"] is None:
            return match[0]
        return match[0][: match.start("shown") - match.start()] + output + "```\n"

    page.write_text(_CELL.sub(filled, page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    for tutorial in pages():
        if len(sys.argv) == 1 or tutorial.stem in sys.argv[1:]:
            with tempfile.TemporaryDirectory() as place:
                write(tutorial, ran(tutorial, Path(place)))
            print(tutorial.name)
