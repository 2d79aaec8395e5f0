"""The shape of the project: who may import whom, how long files may be, and what may not be in them."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPO

# A module of mdlm_jax may import the layers below its own, and nothing of its own layer. A package counts as
# one module. A name may be listed before its module exists; a module that is not listed fails the test.
LAYERS = [
    ["values"],  # of ui, like `request`: what a person writes becomes a checked value
    ["request"],
    ["configuration"],
    ["tokenizer", "frames"],
    ["ui"],
    ["model", "diffusion", "laws", "optimizer", "data", "devices"],
    ["train_state", "checkpoint"],
    ["run_directory", "curriculum", "sampler"],
    ["generation"],
    ["evaluation"],
    ["self_training"],
    ["train"],
    ["sample", "evaluate", "serve", "watch", "export", "doctor", "runs"],
]
LAYER = {name: level for level, names in enumerate(LAYERS) for name in names}
# Narrower than the layer says: the complete list of what these may import from mdlm_jax.
ONLY = {"ui": {"values", "request", "frames", "configuration"}}
# Importable where jax is not installed.
NO_JAX = {"tokenizer", "frames", "configuration", "ui", "values", "request", "runs"}

MAX_LINES_PER_FILE = 400
MAX_LINES_OF_MDLM_JAX = 3000  # without ui/ and evaluation/

# Patterns, written so that they do not match themselves.
FORBIDDEN = {
    "pickle": re.compile(r"\b(import|from)\s+pickle\b|allow_pickle\s*=\s*True"),
    "a path of somebody's machine": re.compile(r"(?<![\w.~-])/(root|home|work|Users)/\w"),
}


def python_files(package: str) -> list[Path]:
    return sorted(path for path in (REPO / package).rglob("*.py") if "__pycache__" not in path.parts)


def module_name(path: Path) -> str:
    parts = path.relative_to(REPO).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports anywhere, inside functions too; `from a import b` gives `a.b`."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *([node.module] if node.module else [])]
            found |= {".".join([*base, alias.name]) for alias in node.names}
    return found


def unit(dotted: str) -> str:
    """The name in the table for a dotted name of mdlm_jax; empty for mdlm_jax itself."""
    if dotted.startswith(("mdlm_jax.ui.values", "mdlm_jax.ui.request")):
        return dotted.split(".")[2]
    return dotted.split(".")[1] if "." in dotted else ""


def project_files() -> list[Path]:
    """Every file that is tracked, or would be."""
    if not (REPO / ".git").exists():
        pytest.skip("not a git checkout: nothing says which files belong to the project")
    command = ["git", "ls-files", "-z", "-co", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPO, capture_output=True, check=True, text=True).stdout
    return sorted(path for name in set(listed.split("\0")) if (path := REPO / name).is_file())


def test_modules_import_only_lower_layers():
    files = python_files("mdlm_jax")
    assert files
    faults = []
    for path in files:
        source = unit(module_name(path))
        if source and source not in LAYER:
            faults.append(f"{module_name(path)} is not in the table")
            continue
        for dotted in sorted(imports(path)):
            target = unit(dotted)
            # Not in the table: an attribute of mdlm_jax itself, such as its version.
            if not dotted.startswith("mdlm_jax.") or target == source or target not in LAYER:
                continue
            allowed = ONLY.get(source, {name for name in LAYER if source and LAYER[name] < LAYER[source]})
            if target not in allowed:
                faults.append(f"{module_name(path)} imports {dotted}")
    assert not faults, "\n".join(faults)


def test_packages_never_import_each_other():
    for package, other in (("data_prep", "mdlm_jax"), ("mdlm_jax", "data_prep")):
        files = python_files(package)
        assert files
        faults = [str(path) for path in files if other in {name.split(".")[0] for name in imports(path)}]
        assert not faults, f"import {other}: {faults}"


@pytest.mark.parametrize(
    ("package", "only", "blocked"),
    [
        ("data_prep", None, "jax torch tensorflow"),
        ("configs", None, "jax torch tensorflow"),
        ("mdlm_jax", NO_JAX, "jax torch tensorflow"),
        ("mdlm_jax", None, "spacy sklearn sentence_transformers torch"),
    ],
)
def test_import_without(package: str, only: set[str] | None, blocked: str):
    names = [module_name(path) for path in python_files(package)]
    if only is not None:
        names = [name for name in names if unit(name) in only]
    assert names
    code = "import importlib, sys; blocked, names = sys.argv[1].split(), sys.argv[2:]; "
    code += "sys.modules.update(dict.fromkeys(blocked)); [importlib.import_module(name) for name in names]"
    child = [sys.executable, "-c", code, blocked, *names]
    done = subprocess.run(child, cwd=REPO, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr


def test_files_stay_short():
    lines = {path: len(path.read_bytes().splitlines()) for path in project_files() if path.suffix == ".py"}
    assert lines
    long = {str(path.relative_to(REPO)): n for path, n in lines.items() if n > MAX_LINES_PER_FILE}
    assert not long
    counted = [path for path in python_files("mdlm_jax") if path.parent.name not in ("ui", "evaluation")]
    assert sum(len(path.read_bytes().splitlines()) for path in counted) <= MAX_LINES_OF_MDLM_JAX


def test_no_forbidden_text():
    faults = []
    for path in project_files():
        text = path.read_text(encoding="utf-8", errors="replace")
        faults += [f"{path.name}: {what}" for what, pattern in FORBIDDEN.items() if pattern.search(text)]
    assert not faults, "\n".join(faults)


def test_locks_hold_versions_only():
    locks = sorted((REPO / "locks").glob("*.txt"))
    assert locks
    for lock in locks:
        text = lock.read_text(encoding="utf-8")
        pins = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
        # No slash anywhere: neither an index address nor a path, in a comment or out of one.
        assert "/" not in text, lock.name
        assert not [pin for pin in pins if not re.fullmatch(r"[\w.-]+(\[[\w,-]+\])?==[\w.+!]+( ; .+)?", pin)]


@pytest.mark.parametrize("package", ["configs", "data_prep", "mdlm_jax"])
def test_public_names_have_docstrings(package: str):
    files = python_files(package)
    assert files
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    faults = [
        f"{module_name(path)}.{node.name}"
        for path in files
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, kinds) and not node.name.startswith("_") and not ast.get_docstring(node)
    ]
    assert not faults, "\n".join(faults)


def test_benchmarks_use_what_there_is():
    """They are too slow to run here; a name that has moved would be noticed months later."""
    faults = []
    for path in python_files("benchmarks"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0]
            if named in ("mdlm_jax", "data_prep", "configs"):
                module = importlib.import_module(node.module)
                there = [*dir(module), *(p.stem for p in Path(module.__file__).parent.glob("*.py"))]
                faults += [f"{path.name}: {node.module}.{a.name}" for a in node.names if a.name not in there]
    assert not faults, "\n".join(faults)
