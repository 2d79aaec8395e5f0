"""Writes report/index.html, index.json and the charts of a run, and the page that compares runs."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mdlm_jax.evaluation import comparison, page
from mdlm_jax.evaluation.drawings import DRAWINGS, compared, drawings
from mdlm_jax.evaluation.findings import collect
from mdlm_jax.ui.values import write_json, write_text


def write_report(workdir: Path, damaged: list[str] | None = None) -> dict[str, Any]:
    """Draws the page of a run from its files; every file whole or as it was, the page last.

    Returns what the page shows. Raises RunError, DataError, HumanError or OSError; a file that is damaged is
    left out where there is a list `damaged` to be told in.
    """
    found = collect(workdir, damaged)
    svg, folder = drawings(found), workdir / "report"
    text = page.html(found, svg)
    folder.mkdir(exist_ok=True)
    for name in DRAWINGS:
        if name in svg:
            write_text(folder / f"{name}.svg", svg[name])
        else:
            (folder / f"{name}.svg").unlink(missing_ok=True)
    write_json(folder / "index.json", found)
    write_text(folder / "index.html", text)
    return found


def drawn(workdir: Path) -> list[str]:
    """Draws the page at the end of training: lines for a person. What goes wrong is told, never raised: the
    figures of the run are written already, and are not to be lost for a page about them. A page that is
    younger than the figures stays.
    """
    page, figures = (workdir / "report" / name for name in ("index.html", "report.json"))
    damaged: list[str] = []
    try:
        if not page.exists() or page.stat().st_mtime < figures.stat().st_mtime:
            write_report(workdir, damaged)
    except Exception as error:
        return [f"The page about it could not be drawn ({type(error).__name__}: {error})"]
    return [
        *(f"The page about it does without this file: {line}" for line in damaged),
        f"A page about it: {page}",
    ]


def write_comparison(workdirs: Sequence[Path], out: Path) -> None:
    """Draws the page that has runs side by side. Raises RunError, DataError or OSError."""
    base = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in workdirs])
    found = {os.path.relpath(path, base): collect(path) for path in workdirs}
    configs = {
        os.path.relpath(path, base): json.loads((path / "config.json").read_text(encoding="utf-8"))
        for path in workdirs
    }
    write_text(out, comparison.html(found, configs, compared(found)))
