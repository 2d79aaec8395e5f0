"""What the commands that write are asked for: options, and the mistakes that are seen without a run."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mdlm_jax.ui import cli, terminal
from mdlm_jax.ui.request import SAMPLING_PRESETS, Request, SampleError, SamplingConfig, check_sampling, unused
from mdlm_jax.ui.values import ConfigError, UserError, build, nearest, read_json

Values = dict[str, Any]

WHAT = {f.name: f for kind in (Request, SamplingConfig) for f in dataclasses.fields(kind)}
NAMES = (*WHAT, "preset")
SHOWN = 5  # likeliest tokens of a place that views and recordings hold


def parser() -> cli.Parser:
    """The command line of `python -m mdlm_jax.sample`; None stands for the run's own configuration."""
    usage = "python -m mdlm_jax.sample --workdir RUN [options]"
    p = cli.Parser(usage=usage, description="Let a trained model write.")
    p.add_argument("--workdir", type=Path, metavar="RUN", help="a run directory of launch.py")
    p.add_argument("--num_samples", type=int, default=1, metavar="INT", help="texts, a seed each (1)")
    p.add_argument("--weights", choices=("ema", "params"), help="average (default) or last")
    live = p.add_mutually_exclusive_group()
    live.add_argument("--stream", action="store_true", help="print every step as a line of JSON")
    live.add_argument("--ui", choices=("terminal", "plain"), help="terminal: watch it, as in --replay; keys: "
                      "space pauses, arrows step, + and - change the speed, q ends the view")  # fmt: skip
    p.add_argument("--speed", type=terminal.speed, default=1.0, metavar="X", help="of --ui; 1 is 8 steps/s")
    p.add_argument("--record", type=Path, metavar="FILE", help="write every step to a file, for --replay")
    instead = p.add_argument_group("instead of one text").add_mutually_exclusive_group()
    instead.add_argument("--prompts", type=Path, metavar="FILE", help="a prompt, or JSON of options, a line")
    instead.add_argument("--interactive", action="store_true", help="prompts as they come, and commands")
    instead.add_argument("--benchmark", action="store_true", help="the time that one text takes")
    instead.add_argument("--again", type=Path, metavar="FILE", help="the text of samples/*.json; else exit 1")
    instead.add_argument("--replay", type=Path, metavar="FILE", help="what --record wrote; needs no run")
    p.add_argument("--output", type=Path, metavar="FILE", help="JSON lines of --prompts (default: printed)")
    for kind, title in ((Request, "what to write"), (SamplingConfig, "how (default: config.sampling)")):
        group = p.add_argument_group(title)
        for f in dataclasses.fields(kind):
            kind_of = getattr(f.type, "__name__", "").upper()
            group.add_argument(f"--{f.name}", metavar=kind_of, help=f.metadata["doc"])
    group.add_argument("--preset", metavar="STR", help=f"several at once: {', '.join(SAMPLING_PRESETS)}")
    return p


def page_parser() -> cli.Parser:
    """The command line of `python -m mdlm_jax.serve`."""
    usage = "python -m mdlm_jax.serve --workdir RUN [options]"
    p = cli.Parser(usage=usage, description="Watch a trained model write, in a browser.")
    p.add_argument("--workdir", type=Path, metavar="RUN", required=True, help="a run directory of launch.py")
    p.add_argument("--host", default="127.0.0.1", help="address to listen at; where other machines reach it, "
                   "the page needs the token that is printed (127.0.0.1)")  # fmt: skip
    p.add_argument("--port", type=int, default=8000, metavar="INT", help="port; 0: any that is free (8000)")
    p.add_argument("--weights", choices=("ema", "params"), default="ema", help="average (default) or last")
    return p


def watch_parser() -> cli.Parser:
    """The command line of `python -m mdlm_jax.watch`."""
    p = cli.Parser(prog="python -m mdlm_jax.watch", description="Follow a training run; q ends it.")
    p.add_argument("run", type=Path, metavar="RUN", help="its directory; it may not have begun yet")
    p.add_argument("--once", action="store_true", help="say how it stands, and end")
    p.add_argument("--no_sample", action="store_true", help="let the weights write nothing meanwhile")
    return p


def settings_of(values: dict[str, Any], base: SamplingConfig | None) -> tuple[Request, SamplingConfig]:
    """What named values ask for, texts or not, laid over `base`. Raises SampleError."""
    preset = str(values.get("preset") or "default")
    for what, name, names in (*(("option", v, NAMES) for v in values), ("preset", preset, SAMPLING_PRESETS)):
        if name not in names:
            hint = nearest(name, names) or f"; there are {', '.join(names)}"
            raise SampleError(f"there is no {what} {name!r}{hint}")
    over = dataclasses.asdict(base) if base else dict.fromkeys(("steps", "top_k"), 0)
    over |= {} if base else {"sampler": "confidence", "temperature": 1.0, "top_p": 1.0}
    named = SAMPLING_PRESETS[preset] | {k: v for k, v in values.items() if k in WHAT}
    over |= unused(str(named.get("sampler", over["sampler"]))) | named
    try:
        made = build(Request, over, []), build(SamplingConfig, over, [])
        check_sampling(made[1], made[0])
    except ConfigError as error:
        raise SampleError(re.sub(r"config\.(sampling\.)?", "--", str(error), count=1)) from None
    return made


def read_prompts(path: Path, check: Callable[[Values], object]) -> list[Values]:
    """The options in each line of a prompts file: a prompt, or a JSON object.

    Raises UserError naming the file, and the line where it is no JSON or `check` raises UserError.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # not splitlines: U+2028 may be in a prompt
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8: {error}") from None
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            line = line.removesuffix("\r")
            try:
                found.append(json.loads(line) if line.startswith("{") else {"prompt": line})
                check(found[-1])
            except (UserError, ValueError, RecursionError) as error:
                raise UserError(f"{path}, line {number}: {error}") from None
    if not found:
        raise UserError(f"{path} holds no prompts; write one a line")
    return found


def replays(a: Any) -> Path | None:
    """The recording that is to be shown. Raises SampleError for options that have no meaning beside it."""
    others = {k: v for k, v in vars(a).items() if k not in ("replay", "ui", "speed", "workdir")}
    plain = vars(parser().parse_args([]))
    if a.replay and (meant := sorted(name for name, value in others.items() if value != plain[name])):
        raise SampleError(f"--replay shows what was recorded; leave out --{meant[0]}")
    path: Path | None = a.replay
    return path


def asked(a: Any) -> tuple[Values, Values, list[Values]]:
    """What --again tells, the options that hold for all texts, and those of each text. Raises SampleError.

    Without --workdir the run of --again is taken, which is set in `a`.
    """
    told = read_json(a.again, SampleError, f"there is no {a.again}; see samples/ of a run") if a.again else {}
    given = {name: value for name in NAMES if (value := getattr(a, name)) is not None}
    if a.again and given:
        raise SampleError(f"--again takes every option from its file; leave out --{min(given)}")
    if a.again and a.weights:
        raise SampleError("--again takes the weights that its file names; leave out --weights")
    if a.speed != 1 and a.ui != "terminal":
        raise SampleError("--speed is for --ui terminal and --replay; leave it out")
    known = {*WHAT, "tokens", "model_hash"} <= told.keys() and told.get("weights") in ("ema", "params")
    if a.again and not known:
        raise SampleError(f"{a.again} is no text that this command has saved")
    if a.again and a.workdir is None and (a.again.absolute().parent.parent / "config.json").exists():
        a.workdir = a.again.absolute().parent.parent
    if a.workdir is None:
        raise SampleError("the following arguments are required: --workdir")
    given |= {name: told[name] for name in WHAT if told}
    for name, path in (("record", a.record), ("output", a.output)):
        if path and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise SampleError(
                f"--{name} {path} cannot be written: {'it' if path.is_dir() else 'there'} is "
                f"{'a directory' if path.is_dir() else f'no directory {path.parent}'}"
            )
    if a.prompts and a.prompt is not None:
        raise SampleError("--prompt is nothing beside --prompts, whose lines are the prompts; leave it out")
    if a.prompts and a.output and a.output.exists() and a.output.samefile(a.prompts):
        raise SampleError(f"--output {a.output} is the file of --prompts; name another")
    lines = read_prompts(a.prompts, lambda x: settings_of(given | x, None)) if a.prompts else [{}]
    if a.num_samples < 1:
        raise SampleError(f"--num_samples must be at least 1, not {a.num_samples}")
    jobs = []
    for x in lines:
        seed = settings_of(given | x, None)[0].seed
        jobs += [given | x | {"seed": seed + i} for i in range(a.num_samples)]
    alone = {"num_samples": len(jobs) > 1, "prompts": a.prompts, "interactive": a.interactive}
    alone |= {"benchmark": a.benchmark}
    others = [name for name, there in alone.items() if there]
    if (a.stream or a.record or a.ui == "terminal") and others:
        raise SampleError(f"--stream, --record and --ui are for one text; leave out --{others[0]}")
    if len(jobs) > 1 and (a.interactive or a.benchmark or a.again):
        raise SampleError("--num_samples is not for --interactive, --benchmark or --again")
    if a.output and not a.prompts:
        raise SampleError("--output needs --prompts; a single text is saved in the run's samples/")
    return told, given, jobs
