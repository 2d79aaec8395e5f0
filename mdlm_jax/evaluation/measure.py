"""The command mdlm_jax.evaluate: sections of figures about a finished run, as JSON and on a screen."""

import dataclasses
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mdlm_jax import __version__
from mdlm_jax.evaluation import beside_sections, likelihood_section, samples_section, text_sections
from mdlm_jax.evaluation import checks as thresholds
from mdlm_jax.evaluation.analytics import environment
from mdlm_jax.evaluation.comparison import TOP
from mdlm_jax.evaluation.losses import dataset_of
from mdlm_jax.evaluation.report_files import write_comparison, write_report
from mdlm_jax.evaluation.subject import PRESETS, Preset, Subject, find
from mdlm_jax.evaluation.summary import no_run
from mdlm_jax.run_directory import cache_compilations, model_hash
from mdlm_jax.ui import cli
from mdlm_jax.ui.progress import PlanProgress
from mdlm_jax.ui.values import UserError, holds_else, nearest, read_json, write_json

SCHEMA_VERSION = 1
BELOW = 4  # exit code of --strict where a threshold is not met
ELSE = "{} holds something else; name another file with --out"
SPLITS = {"validation": ("validation",), "test": ("test",), "both": ("validation", "test")}


class EvaluateError(UserError):
    """An evaluation that cannot be made as asked; one line."""


class Section(NamedTuple):
    """One top-level key of evaluation.json: what measures it, and how it is told in lines.

    `measure` is given the sections made so far, and adds its work to `progress.total` before it begins, in a
    unit of its own choice: the network's rows, where it is the network that takes the time. What it raises as
    a UserError or ValueError ends the evaluation where the section is `needed`; else it is the reason, under
    "absent", why there is none.
    """

    measure: Callable[[Subject, Preset, PlanProgress, dict[str, Any]], dict[str, Any]]
    lines: Callable[[dict[str, Any]], list[str]]
    needed: bool = False


SECTIONS = {
    "likelihood": Section(likelihood_section.measure, likelihood_section.lines, needed=True),
    "samples": Section(samples_section.measure, samples_section.lines),
    "style": Section(text_sections.style, text_sections.style_lines),
    "coherence": Section(text_sections.coherent, text_sections.coherent_lines),
    "memory": Section(text_sections.memory, text_sections.memory_lines),
    "twin": Section(beside_sections.twin, beside_sections.twin_lines),
    "human": Section(beside_sections.human, beside_sections.human_lines),
    "cost": Section(beside_sections.cost, beside_sections.cost_lines),
}


def evaluate(run: Subject, preset: str, progress: PlanProgress) -> dict[str, Any]:
    """What evaluation.json holds: where the figures come from, and a key for every section."""
    versions = environment()
    versions["versions"]["mdlm-jax"] = __version__
    paths = dict.fromkeys((*run.checkpoints, run.delivered))
    made: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "environment": versions,
        "preset": {"name": preset} | dataclasses.asdict(PRESETS[preset]),
        "seed": run.seed,
        "precision": run.config.precision,
        "delivered": f"{run.delivered.parent.name}/{run.delivered.name}",
        "checkpoints": {f"{p.parent.name}/{p.name}": model_hash(p) for p in paths},
    }
    for name, section in SECTIONS.items():
        try:
            made[name] = section.measure(run, PRESETS[preset], progress, made)
        except ValueError as error:  # a UserError is one
            if section.needed:
                raise
            made[name] = {"absent": str(error)}
    return made


def parser() -> cli.Parser:
    """The command line."""
    made = cli.Parser(
        prog="python -m mdlm_jax.evaluate",
        description="What a finished run is worth on chapters it never saw.",
        epilog="python -m mdlm_jax.evaluate compare RUN RUN ... puts runs side by side.",
        formatter_class=cli.Defaults,
    )
    made.add_argument("--workdir", type=Path, help="the run")
    made.add_argument("--preset", default="default", help=f"how thoroughly: {', '.join(PRESETS)}")
    made.add_argument("--split", choices=SPLITS, default="both", help="the held-out chapters")
    made.add_argument(
        "--out",
        type=Path,
        help="the file to write, without a page (default: <workdir>/report/evaluation.json)",
    )
    made.add_argument("--data", type=Path, help="its shards, where they are not in <workdir>/data")
    made.add_argument("--twin", type=Path, help="an autoregressive run of the same data, to stand beside it")
    made.add_argument(
        "--strict", action="store_true", help="exit code 4 where a threshold is not met, or not measured"
    )
    made.add_argument("--draw", action="store_true", help="measure nothing, draw the page from what is there")
    seed = "of masks and texts; 0: the masks of report.json, if its plan has 16 x 2 of them"
    made.add_argument("--seed", type=int, default=0, help=seed)
    return made


def run_command() -> int:
    """Measures, writes, draws and prints; the exit code. Raises UserErrors and OSErrors, a line each."""
    first = sys.argv[1] if len(sys.argv) > 1 else "-"
    if first == "compare":
        compare_command(sys.argv[2:])
        return 0
    if not first.startswith("-"):
        near = nearest(first, ["compare"]) or f"; did you mean --workdir {shlex.quote(first)}?"
        raise EvaluateError(f"unexpected argument {first}{near}")
    options = parser()
    given = options.parse_args()
    if given.workdir is None:
        raise EvaluateError("the following option is required: --workdir RUN (--help lists the options)")
    given.preset = given.preset.lower().replace("-", "_")
    if given.preset not in PRESETS:
        there = ", ".join(PRESETS)
        raise EvaluateError(f"no preset {given.preset!r}; there are {there}{nearest(given.preset, PRESETS)}")
    if not 0 <= given.seed < 2**32:
        raise EvaluateError(f"--seed must be at least 0 and below 2**32, not {given.seed}")
    if given.strict and given.out:
        raise EvaluateError("--strict looks at what the page shows, and --out draws none; leave one out")
    names = ("preset", "split", "data", "twin", "seed")
    changed = {n: str(getattr(given, n)) for n in names if getattr(given, n) != options.get_default(n)}
    unread = [*changed, *(["out"] if given.out else [])]
    if given.draw and unread:
        raise EvaluateError(f"--draw measures nothing; leave out --{unread[0]}")
    check_runs(given.workdir, *filter(None, [given.twin]))
    if given.draw:
        return told(given.workdir, given.strict)
    out = given.out or given.workdir / "report" / "evaluation.json"
    if given.out and (out.is_dir() or not out.parent.is_dir()):
        raise EvaluateError(f"--out: {out} cannot be written; name a file in a directory that exists")
    if given.out and holds_else(out, '"schema_version"'):
        raise EvaluateError(ELSE.format(out.absolute()))
    dataset = dataset_of(given.workdir, given.data or given.workdir / "data")
    if given.twin:
        beside_sections.check_twin(given.twin, dataset.info)
    splits, preset = SPLITS[given.split], PRESETS[given.preset]
    run = find(given.workdir, dataset, splits, given.seed, preset, given.twin)
    tempfile.TemporaryFile(dir=out.parent).close()  # what cannot be written is told before the work
    if lesser := replaced(out, given.preset, given.split):
        print(lesser, file=sys.stderr)
    print(f"evaluating {given.workdir} ...", file=sys.stderr, flush=True)
    cache_compilations(Path(__file__).resolve().parents[2] / ".jax_cache")
    progress = PlanProgress(0.0)
    try:
        made = evaluate(run, given.preset, progress)
    finally:
        progress.stop()
    write_json(out, made | {"options": changed})
    for name, section in SECTIONS.items():
        why = made[name].get("absent")
        print("\n".join([f"No section {name!r}: {why}"] if why else section.lines(made[name])))
    print(f"All of it, with the curve l(t): {out}")
    if given.out:
        print("With --out the page of the run is not updated.")
        return 0
    return told(given.workdir, given.strict)


def replaced(out: Path, preset: str, split: str) -> str:
    """A line where an evaluation that is there, of another preset or of other chapters, will be replaced."""
    try:
        old = read_json(out, EvaluateError)
        before = old["preset"]["name"], old.get("options", {}).get("split", "both")
    except (EvaluateError, KeyError, TypeError, AttributeError):  # none, or a damaged one: nothing is lost
        return ""
    told = f"this replaces an evaluation by --preset {before[0]} --split {before[1]}"
    return f"{told}; Ctrl-C keeps it, and --out writes beside it" if before != (preset, split) else ""


def check_runs(*paths: Path) -> None:
    """Refuses (EvaluateError) what is no run, with the nearest that is."""
    for path in paths:
        if not (path / "config.json").exists():
            raise EvaluateError(no_run(path))


def told(workdir: Path, strict: bool) -> int:
    """Draws the page and prints the thresholds; the exit code. Raises UserErrors and OSErrors.

    What was not measured is a warning too where it is `strict`.
    """
    found = write_report(workdir)
    checked = found["checks"]
    if strict:
        checked = [*checked, *thresholds.unmeasured(checked, found["verdict"].get("kind"))]
    print("".join(f"{line}\n" for line in thresholds.lines(checked)), end="")
    print(f"The page: {workdir / 'report' / 'index.html'}")
    return 0 if all(x["passed"] for x in checked) or not strict else BELOW


def compare_command(argv: list[str]) -> None:
    """Writes the page that has runs side by side. Raises UserErrors and OSErrors, a line each."""
    made = cli.Parser(
        prog="python -m mdlm_jax.evaluate compare",
        description="Runs side by side, on a page.",
        formatter_class=cli.Defaults,
    )
    made.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="two or more")
    made.add_argument("--out", type=Path, default=Path("comparison.html"), help="the page to write")
    given = made.parse_args(argv)
    if len(given.runs) < 2:
        raise EvaluateError("compare needs two runs or more")
    if given.out.is_dir() or not given.out.parent.is_dir():
        raise EvaluateError(f"--out: {given.out} cannot be written; name a file in a directory that exists")
    if holds_else(given.out, TOP):
        raise EvaluateError(ELSE.format(given.out.absolute()))
    check_runs(*given.runs)
    write_comparison(given.runs, given.out)
    print(f"The page: {given.out.absolute()}")
