"""Train on a book: prepare it if needed, then run every stage of the plan; the same command resumes.

python launch.py --config configs/three_stage.py:tiny --book my_book.txt
python launch.py --recommend --book my_book.txt          which plan suits this book and this machine?
python launch.py --init_from runs/first --book next.txt  a second book, from the weights of a trained run
python -m mdlm_jax.sample --workdir RUN                  let a run write; python -m mdlm_jax.runs lists them
"""

import sys

from mdlm_jax.ui import cli

if __name__ == "__main__":  # before imports that take their time
    cli.huge_pages()

import contextlib
import hashlib
import os
import re
import shlex
import signal
import tempfile
from pathlib import Path
from typing import Any

import configs
from data_prep.config import PrepConfig, PrepError
from mdlm_jax.configuration import Config, resolve
from mdlm_jax.evaluation.recommend import about_length, suggest
from mdlm_jax.ui import debugging, processes
from mdlm_jax.ui.values import ConfigError, UserError, flat, nearest, read_json, short
from mdlm_jax.ui.whole import finished, has_steps, lost

ROOT = Path(__file__).resolve().parent
BUILT_IN = ROOT / "data_prep" / "books" / "the_sixty_fifth_pint.txt"
# What config.data sets of a preparation.
PREPARED = ("vocab_size", "min_frequency", "split_seed", "embedder", "importance")
SIZES = ("tiny", "small", "base")  # of configs/three_stage.py, for --recommend
FLAGS = {
    "config": "plan: file.py or file.py:preset (default: that of --workdir's or --init_from's run)",
    "config_overrides": "file.py with a line overrides = {...}; --config.NAME=VALUE comes after it",
    "book": "file, folder or gutenberg:NUMBER to train on (default: the built-in novel)",
    "workdir": "directory of the run (default: runs/<book>-<config>-<preset>)",
    "data": "directory of prepared shards (default: <workdir>/data)",
    "init_from": "run whose weights and tokenizer this one starts from",
    "distributed": "this process among several: host:port,processes,number, or auto (docs/scaling.md)",
    "profile": "write a TensorBoard trace of these steps of the process (default: 10:15)",
}
SWITCHES = {
    "print_config": "print every field of the plan as a flag, and stop",
    "recommend": "suggest a plan for --book and this machine, and stop",
    "test": "check the plan's network, its gradients and a step, and stop",
    "debug": "one epoch a stage, a line and a checkpoint every step: does this plan get through?",
    "blocking": "wait for every step, so that errors come where they are made",
    "debug_nans": "stop at the operation that makes the first NaN (slow)",
    "wandb": "curves for Weights & Biases too (WANDB_MODE=offline keeps them here)",
    "help": "print this, and stop",
}


def parse(argv: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """absl's flags, and {FIELD: TEXT} of the --config.FIELD=TEXT. Raises UsageError."""
    from absl import flags

    values = flags.FlagValues()
    for name, doc in FLAGS.items():
        flags.DEFINE_string(name, None, doc, flag_values=values)
    for name, doc in SWITCHES.items():
        short = "h" if name == "help" else None
        flags.DEFINE_bool(name, False, doc, short_name=short, flag_values=values)
    rest: list[str] = []
    overrides: dict[str, str] = {}
    words = iter(argv)
    for word in words:
        field = re.fullmatch(r"--?config([.\[].*?)(?:=(.*))?", word, re.DOTALL)
        if not field:
            rest.append(f"--profile={debugging.SPAN}" if word in ("--profile", "-profile") else word)
            continue
        text = next(words, "--") if field[2] is None else field[2]
        if field[2] is None and text.startswith("--"):
            raise cli.UsageError(f"{word} needs a value: {word}=...")
        overrides |= {field[1].removeprefix("."): text}
    try:
        left = values(["launch.py", *rest])[1:]
    except flags.UnrecognizedFlagError as error:
        named = {name: f"config.{name}" for name in configs.fields()}
        names = {name.rpartition(".")[2]: flag for name, flag in named.items()} | named
        names |= {name: name for name in (*FLAGS, *SWITCHES)}
        found = nearest(error.flagname, names).removeprefix("; did you mean ").removesuffix("?")
        near = f"; did you mean --{names[found]}?" if found else ""
        raise cli.UsageError(f"unknown flag --{error.flagname}{near} (--help lists them)") from None
    except flags.Error as error:
        raise cli.UsageError(str(error)) from None
    if left:
        hint = f"did you mean --book {left[0]}?" if Path(left[0]).exists() else "options start with --"
        hint = f"did you mean --{left[0]}?" if left[0] in (*FLAGS, *SWITCHES) else hint
        raise cli.UsageError(f"unexpected argument {left[0]!r}; {hint}")
    if empty := [name for name in FLAGS if values[name].value == ""]:
        raise cli.UsageError(f"--{empty[0]} is empty; give it a value or leave it out")
    return {name: values[name].value for name in (*FLAGS, *SWITCHES)}, overrides


def configure(flags: dict[str, Any], overrides: dict[str, str]) -> Config:
    """The plan: file, then overrides file, then command line. Raises ConfigError or UsageError."""
    trained = [Path(flags[name]) for name in ("workdir", "init_from") if flags[name]]
    saved = next((path for run in trained if (path := run / "config.json").is_file()), None)
    if flags["config"]:
        here = Path(flags["config"].partition(":")[0]).exists()  # else the checkout's own, from any folder
        values = configs.load(flags["config"] if here else os.path.relpath(ROOT / flags["config"]))
    elif saved:
        values = flat(read_json(saved, ConfigError))
    else:
        from mdlm_jax.evaluation.summary import no_run

        if flags["init_from"]:
            raise cli.UsageError(f"--init_from: {no_run(Path(flags['init_from']))}")
        raise cli.UsageError(
            (f"{no_run(Path(flags['workdir']))}; for a new run " if flags["workdir"] else "")
            + "--config is needed, for example --config configs/three_stage.py:tiny; "
            "python launch.py --recommend suggests one, --help lists everything"
        )
    overridden = flags["config_overrides"]
    changes = configs.load_overrides(Path(overridden)) if overridden else {}
    if flags["init_from"] is not None:
        if "init_from" in overrides:
            raise cli.UsageError("--init_from and --config.init_from say the same; leave one out")
        changes["init_from"] = flags["init_from"]
    merged = configs.merge(values, changes)
    if flags["debug"]:
        merged |= configs.one_epoch(merged)
    try:
        return resolve(configs.merge(merged, overrides))
    except ConfigError as error:
        if any(name in str(error) for name in changes) and not any(name in str(error) for name in overrides):
            raise ConfigError(f"{overridden or '--init_from'}: {error}") from None
        raise


def help_text(config: Config, plan: str) -> str:
    """Every flag; every field with its value under `plan`."""
    lines = [__doc__ or "", "Flags:", *(f"  --{name:17} {doc}" for name, doc in (FLAGS | SWITCHES).items())]
    lines += ["", f"Fields with their values in {plan} (--config shows another plan's), types and meanings."]
    lines += ["Numbers: 1000, 1e3 or 10k. stages[0] stands for every stage: stages[1], stages[2], ...", ""]
    return "\n".join(lines + configs.help_lines(config))


def say(text: str) -> None:
    """A line of progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def start_jax() -> None:
    """The slow imports. A signal meanwhile ends the process at once: some library would swallow it."""

    def leave(number: int, _: Any) -> None:
        os.write(2, b"\ninterrupted; nothing is lost, the same command starts again\n")
        os._exit(130 if number == signal.SIGINT else 75)

    if "mdlm_jax.train" in sys.modules:
        return
    say("starting JAX ...")
    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    import mdlm_jax.train  # noqa: F401
    from mdlm_jax.run_directory import cache_compilations

    for number, handler in before.items():
        signal.signal(number, handler)
    cache_compilations(ROOT / ".jax_cache")


def sha256(path: Path) -> str | None:
    """Of a file; None where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def fingerprint(book: str) -> str | None:
    """Of what --book names; None where there is nothing."""
    import data_prep

    try:
        return data_prep.fingerprint(book)
    except PrepError:
        return None


def prepare(config: Config, book: str, data: Path, tokenizer: Path | None, told: Any = say) -> None:
    """Makes `data` from the book, unless it is up to date. Raises PrepError or DataError."""
    import data_prep
    from mdlm_jax.data import DataError

    def accept(info: dict[str, Any]) -> None:
        tokens, row = info["stages"]["refinement"]["train"]["tokens"], config.model.seq_len
        if row > tokens:
            text = f"config.model.seq_len={row} is longer than the training text of {tokens} tokens"
            raise DataError(f"{text}; lower it, or take a longer book")

    wanted = PrepConfig(**{name: getattr(config.data, name) for name in PREPARED})
    data_prep.prepare(book, data, wanted, told, tokenizer=tokenizer, accept=accept, report=True)


def shards(workdir: Path) -> Path:
    """Where the shards of a begun run are: in it, or where --data had them; in it if they can be made again.

    Raises UsageError where they are gone and nothing says of what to make them.
    """
    info, was = read_json(workdir / "dataset.json", UserError), ""
    with contextlib.suppress(UserError, KeyError):
        was = str(read_json(workdir / "shards.json", UserError)["path"])
    own = workdir / "data"
    for place in (own, *([Path(was)] if was else [])):
        with contextlib.suppress(UserError):
            if read_json(place / "dataset.json", UserError) == info:
                return place
    if info["book"]["sha256"] == fingerprint(str(BUILT_IN)):
        return own
    before = f" (was {was})" if was and Path(was) != own.absolute() else ""
    raise cli.UsageError(
        f"the shards of {workdir} are gone; give its --data again{before}, or --book to prepare it anew"
    )


def check_prepared(config: Config, book: str | None, data: Path, tokenizer: Path | None) -> None:
    """Refuses prepared data whose book, settings or shards are not those asked for (DataError)."""
    from mdlm_jax.data import DataError, open_dataset

    dataset = open_dataset(data)
    made = dataset.info["config"]
    wrong = [f"data.{f}: {made[f]} -> {v}" for f in PREPARED if (v := getattr(config.data, f)) != made[f]]
    if book and fingerprint(book) != dataset.info["book"]["sha256"]:
        wrong.append(f"it holds {dataset.info['book']['name']}")
    if tokenizer and sha256(tokenizer) != dataset.info["tokenizer"]["sha256"]:
        wrong.append(f"its tokenizer is not {tokenizer}")
    if wrong:
        told = "; ".join(wrong)
        raise DataError(f"{data} was prepared otherwise ({told}); change the plan or use another --data")
    dataset.verify()


def recommend(book: str | None) -> list[str]:
    """What each size would cost here, and a suggestion; the book is prepared in a scratch directory."""
    costs = []
    with tempfile.TemporaryDirectory() as scratch:
        for size in SIZES:
            name = f"configs/three_stage.py:{size}"
            say(f"trying {name} ...")
            config = resolve(configs.load(str(ROOT / name)))
            data = Path(scratch) / str(config.data.vocab_size)
            prepare(config, book or str(BUILT_IN), data, None, lambda line: None)
            start_jax()
            from mdlm_jax.curriculum import plan
            from mdlm_jax.data import open_dataset
            from mdlm_jax.evaluation.estimate import count_parameters, device_memory, memory, seconds
            from mdlm_jax.run_directory import complete

            dataset = open_dataset(data)
            config = complete(config, dataset)
            stages = plan(config, dataset)
            sums = [sum(x) for x in zip(*((s.data.tokens, s.data.num_steps) for s in stages), strict=True)]
            needed, lasts = memory(config, stages).total, seconds(config, stages, dataset)
            costs.append((name, count_parameters(config.model)["true"], *sums, needed, lasts))
    return [*about_length(dataset.info), *suggest(costs, device_memory(), book)]


def figures(report: dict[str, Any]) -> list[str]:
    """The held-out figures, for a person."""
    lines = []
    for split in ("validation", "test"):
        result, ngram = report[split], report["ngram_5_bits_per_byte"][split]
        kind = "exactly" if result["kind"] == "exact" else f"at most (+- {result['bits_per_byte_se']:.3f})"
        token, word = f"{result['token_perplexity']:.1f}", short(result["word_perplexity"])
        told = f"{split}: {result['bits_per_byte']:.3f} bits per byte {kind}; byte 5-gram {ngram:.3f}; "
        lines.append(told + f"perplexity per token {token}, per word {word}")
    lines += ["(bits per byte of chapters it never saw: lower is better)"]
    if report["test"]["bits_per_byte"] > report["ngram_5_bits_per_byte"]["test"]:
        lines += ["The n-gram is better: a larger plan, a longer book or another number of epochs may help"]
    return lines


def launch(argv: list[str]) -> None:
    """Flags to calls, nothing more. Raises UserError, OSError or KeyboardInterrupt."""
    flags, overrides = parse(argv)
    if flags["help"]:
        plan = flags["config"] or "configs/three_stage.py"
        print(help_text(configure(flags | {"config": flags["config"] or str(ROOT / plan)}, overrides), plan))
        return
    given = flags["book"]
    book = given or str(BUILT_IN)
    if given == "-":
        raise cli.UsageError("--book - would be read more than once; save the text to a file")
    if flags["recommend"]:
        if others := [name for name, value in flags.items() if value and name not in ("recommend", "book")]:
            raise cli.UsageError(f"--recommend looks at --book alone; leave out --{others[0]}")
        print("\n".join(recommend(flags["book"])))
        return
    config = configure(flags, overrides)
    if flags["print_config"]:
        print("\n".join(configs.as_flags(config)))
        return
    if flags["test"]:
        start_jax()
        from mdlm_jax.evaluation.architecture import check, table, verdict

        rows = check(config)
        print("\n".join([*table(rows), verdict(rows)]))
        return
    profile = debugging.span(flags["profile"]) if flags["profile"] else None
    aids = debugging.Aids(flags["blocking"], flags["debug_nans"], profile, flags["wandb"])
    plan, _, preset = (flags["config"] or config.init_from).partition(":")
    parts = Path(book).stem.replace(":", "_"), Path(plan).stem, preset, "debug" * flags["debug"]
    name = "-".join(filter(None, parts))
    workdir = Path(flags["workdir"] or f"runs/{name}")
    if not flags["distributed"]:
        return run(flags, config, book, workdir, workdir, aids)
    start_jax()
    index = processes.connect(flags["distributed"])
    aids.wandb = aids.wandb and index == 0
    with processes.told_when_lost(), processes.apart(index, workdir) as ours:
        run(flags, config, book, workdir, ours, aids)


def run(
    flags: dict[str, Any], config: Config, book: str, workdir: Path, ours: Path, aids: debugging.Aids
) -> None:
    """Prepares, trains and shows; `ours` is the directory that this process writes into."""
    given, damage = flags["book"], None
    if workdir.is_file():
        raise cli.UsageError(f"--workdir: {workdir} is a file; name a directory")
    if flags["data"] and (Path(flags["data"]) / "data" / "dataset.json").exists():
        raise cli.UsageError(f"--data: did you mean {Path(flags['data']) / 'data'}?")
    # Before its first step it may have another plan.
    resuming = has_steps(workdir) or ((workdir / "config.json").exists() and not flags["config"])
    source = workdir if resuming else Path(config.init_from)  # a resume does not need the first run any more
    tokenizer = source / "tokenizer.json" if config.init_from else None
    if given and resuming and fingerprint(given) is None:
        raise cli.UsageError(f"--book {given} cannot be read; without --book the run goes on with its text")
    if workdir.exists() or config.init_from:
        start_jax()
        from mdlm_jax.run_directory import check_start, check_unchanged

        check_unchanged(workdir, config, fingerprint(given) if given else None)
        damage = lost(workdir) if finished(workdir) else None
        if finished(workdir) and not damage:
            say(f"{workdir} is finished; another --workdir trains anew")
            return show(workdir, config)
        if config.init_from and not resuming:
            check_start(config)
    data = Path(flags["data"] or (shards(workdir) if resuming and not given else workdir / "data"))
    # Prepared data that cannot be made again from what was given are used as they are, never replaced.
    if (flags["data"] or (resuming and not given)) and (data / "dataset.json").exists():
        check_prepared(config, given, data, tokenizer)
    elif workdir == ours:
        prepare(config, book, data, tokenizer)
    start_jax()
    from mdlm_jax.data import open_dataset
    from mdlm_jax.train import train_and_evaluate

    if flags["distributed"]:
        processes.wait("prepared")
    dataset = open_dataset(data)
    if flags["distributed"]:
        processes.check_same(repr((config, dataset.info)))
    for line in about_length(dataset.info):
        print(line)
    if damage and workdir == ours:
        say(f"{damage}; what it held is trained and measured again")
        (workdir / "report" / "report.json").unlink()
    train_and_evaluate(config, dataset, ours, aids)
    show(ours, config)


def show(workdir: Path, config: Config) -> None:
    """The figures of a finished run, and what to do with it."""
    from mdlm_jax.evaluation.report_files import drawn

    report, chosen = workdir / "report" / "report.json", f"--workdir {shlex.quote(str(workdir))}"
    print("\n".join(figures(read_json(report, UserError))))
    print(f"The run is in {workdir}, its figures in {report}.")
    if not config.model.causal:
        print(f"Let it write: python -m mdlm_jax.sample {chosen}")
    print("\n".join(drawn(workdir)))
    print(f"Measure it further, with style and copies, into that page: python -m mdlm_jax.evaluate {chosen}")


def command() -> None:
    """launch(), with the errors of other packages turned into ours."""
    signal.signal(signal.SIGTERM, cli.terminate)
    try:
        launch(sys.argv[1:])
    except PrepError as error:  # data_prep shares no code with mdlm_jax
        raise UserError(str(error)) from None
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        told = "out of device memory: in a new --workdir, --config.micro_batch=auto takes what fits"
        raise UserError(f"{told} (if it did: a smaller --config.memory_budget)") from None


if __name__ == "__main__":
    processes.leave(cli.run(command, "nothing is lost, the same command starts again"))
