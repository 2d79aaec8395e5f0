"""What of a run is there, and whole: its steps, its figures, the digests of its checkpoints. No jax."""

import contextlib
import hashlib
import re
from pathlib import Path

from mdlm_jax.ui.values import UserError, read_json

MANIFEST = "MANIFEST.json"


def digests(directory: Path) -> dict[str, str]:
    """{path: SHA-256} of every file below `directory` but the manifest."""
    found = {}
    for path in sorted(p for p in directory.rglob("*") if p.is_file() and p.name != MANIFEST):
        with open(path, "rb") as file:
            found[str(path.relative_to(directory))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def verify(path: Path) -> str | None:
    """None when every file of the checkpoint has its recorded digest, else what is wrong."""
    if not path.is_dir():
        return "it is not there"
    try:
        recorded = read_json(path / MANIFEST, UserError)
    except UserError as error:
        return f"unreadable manifest ({error})"
    found = digests(path)
    for name in sorted({*recorded, *found}):
        if recorded.get(name) != found.get(name):
            return f"{name} is " + ("missing" if name not in found else "not what was written")
    return None


def has_steps(workdir: Path) -> bool:
    """Whether a run has trained in `workdir`: without a line or a checkpoint it may have another plan yet."""
    lines = workdir / "metrics.jsonl"
    trained = (lines.exists() and lines.stat().st_size) or any(workdir.glob(f"checkpoints/*/*/{MANIFEST}"))
    return (workdir / "config.json").exists() and bool(trained)


def newest(workdir: Path) -> str:
    """The newest checkpoint, as <stage>/<step>; empty where there is none."""
    found = (p.parent for p in workdir.glob(f"checkpoints/*/*/{MANIFEST}"))
    known = [re.fullmatch(r"(\d+)_\w+/(\d+)", f"{p.parent.name}/{p.name}") for p in found]
    return max((x for x in known if x), key=lambda x: (int(x[1]), int(x[2])), default=[""])[0]


def reported(workdir: Path) -> str | None:
    """<stage>/<step> whose figures report.json has; None where there is none, or it does not say."""
    with contextlib.suppress(UserError, RecursionError):
        where = read_json(workdir / "report" / "report.json", UserError).get("checkpoint")
        return where if isinstance(where, str) else None
    return None


def finished(workdir: Path) -> bool:
    """Whether its figures are there and its training said so at last."""
    try:
        read_json(workdir / "report" / "report.json", UserError)
        return read_json(workdir / "STATUS.json", UserError)["state"] == "finished"
    except (UserError, KeyError):
        return False


def lost(workdir: Path) -> str | None:
    """What is wrong with the weights whose figures report.json has; None where nothing is."""
    where = reported(workdir)
    path = workdir / "checkpoints" / (where or "")
    return f"checkpoint {path} is damaged: {wrong}" if where and (wrong := verify(path)) else None
