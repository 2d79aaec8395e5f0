"""The README: its commands run, its links lead somewhere, its tree is the tree."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPO, built_in_chapters

import launch
from configs import fields

README = (REPO / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.partition("  #")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()
]
MAKE = {"make demo", "make test"}  # the first has a test of its own below, the second is what runs this


def test_there_are_commands():
    assert set(COMMANDS) >= MAKE and len(COMMANDS) >= 10
    assert "make install && source .venv/bin/activate" in COMMANDS


@pytest.mark.parametrize("command", [c for c in COMMANDS if "launch.py" in c])
def test_every_launch_command_is_understood(command, monkeypatch):
    monkeypatch.chdir(REPO)
    flags, overrides = launch.parse(shlex.split(command)[2:])
    if flags["config"]:
        launch.configure(flags, overrides)


def test_links_and_files_named_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (REPO / target).exists(), target
    for name in re.findall(r"`(\w+\.py)", README):
        assert (REPO / "configs" / name).exists() or (REPO / name).exists() or name == "my.py", name
    plans = {path.name for path in (REPO / "configs").glob("[!_]*.py")}
    assert plans == set(re.findall(r"(?m)^\| `(\w+\.py)", README))


def test_the_tree_names_every_module():
    tree = re.search(r"## The tree\n+```\n(.*?)```", README, re.DOTALL)[1]
    named = set(re.findall(r"\w+", " ".join(line[:21] for line in tree.splitlines())))
    for package in ("mdlm_jax", "data_prep"):
        modules = {p.stem for p in (REPO / package).glob("*.py")} - {"__init__", "__main__", "config"}
        assert modules <= named, modules - named


def test_fields_it_names_exist():
    named = set(re.findall(r"--config\.([\w.\[\]]+)=", README))
    assert named and {re.sub(r"\[\d\]", "[0]", name) for name in named} <= set(fields())


def checkout(folder: Path) -> Path:
    """A copy of what git knows, and an environment that is installed already."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=REPO,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (REPO / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPO / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / ".venv" / ".installed").touch()
    return folder


@pytest.mark.soak
def test_every_command_runs_in_order(tmp_path, child_env):
    """On a text file of three chapters, and a second one of three more."""
    if not (REPO / ".git").exists():
        pytest.skip("not a git checkout: nothing says which files belong to the project")
    folder = checkout(tmp_path / "mdlm_jax")
    three, six = built_in_chapters(3), built_in_chapters(6)
    (folder / "my_book.txt").write_text(three, encoding="utf-8")
    (folder / "next_book.txt").write_text(six[len(three) :], encoding="utf-8")
    script = "\n".join(["set -e", *(c for c in COMMANDS if c not in MAKE)])
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=child_env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("--- seed") == 3 + 5 and done.stdout.count("--- seed 0,") == 1 + 5
    assert done.stdout.count("It was") >= 3 and " and that was the end of it." in done.stdout
    assert "is finished" in done.stderr and "Weights and tokenizer of runs/mine" in done.stderr
    assert (folder / "runs/mine/report/report.json").exists() and not (folder / "runs/next").exists()


@pytest.mark.soak
def test_make_demo(tmp_path, child_env):
    """Compiled as for everybody: it trains for so long that programs of quick compilation would cost more."""
    if not (REPO / ".git").exists():
        pytest.skip("not a git checkout: nothing says which files belong to the project")
    folder = checkout(tmp_path / "mdlm_jax")
    before = {name for name in os.listdir(tmp_path)}
    env = {name: value for name, value in child_env.items() if name != "XLA_FLAGS"}
    done = subprocess.run(["make", "demo"], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("--- seed") == 2 and "bits per byte at most" in done.stdout
    assert (folder / "runs/demo/report/report.json").exists() and set(os.listdir(tmp_path)) == before
