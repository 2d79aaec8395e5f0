"""Wrong invocations of every command: one clear line with a way out, exit code 2, nothing left behind."""

import hashlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPO, built_in_chapters
from sample_books import zipped

import data_prep.__main__
import launch
from mdlm_jax import evaluate, runs, sample, serve, watch
from mdlm_jax.evaluation import blind
from mdlm_jax.ui import cli

SMOKE = "--config configs/three_stage.py:smoke --workdir {run}"
MISTAKES = [
    # Flags.
    ("launch", "", "--config is needed, for example"),
    ("launch", "--workdir {run}", "--config is needed"),
    ("launch", "--config", "Missing value for flag --config"),
    ("launch", "--confg configs/three_stage.py:smoke", "unknown flag --confg; did you mean --config?"),
    ("launch", f"{SMOKE} --wrkdir x", "did you mean --workdir?"),
    ("launch", f"{SMOKE} --config_override x.py", "did you mean --config_overrides?"),
    ("launch", f"{SMOKE} book.txt", "unexpected argument 'book.txt'"),
    ("launch", f"{SMOKE} README.md", "did you mean --book README.md?"),
    ("launch", f"{SMOKE} --recommend=perhaps", "recommend"),
    ("launch", f"{SMOKE} --model.num_layers=6", "did you mean --config.model.num_layers?"),
    ("launch", f"{SMOKE} --num_epoch=6", "did you mean --config.stages[0].num_epochs?"),
    ("launch", f"{SMOKE} recommend", "did you mean --recommend?"),
    ("launch", f"{SMOKE} --book ''", "--book is empty"),
    # Config files.
    ("launch", "--config configs/three_stag.py --workdir {run}", "did you mean configs/three_stage.py?"),
    ("launch", "--config three_stage.py --workdir {run}", "did you mean configs/three_stage.py?"),
    ("launch", "--config configs/absent.py --workdir {run}", "configs/absent.py does not exist"),
    ("launch", "--config configs --workdir {run}", "configs is not a .py file"),
    ("launch", "--config README.md --workdir {run}", "README.md is not a .py file"),
    ("launch", "--config tiny --workdir {run}", "did you mean configs/three_stage.py:tiny?"),
    ("launch", "--recommend --workdir {trained}", "looks at --book alone; leave out --workdir"),
    ("launch", "--init_from {trained} --config.init_from=x", "say the same; leave one out"),
    ("launch", "--config configs/three_stage.py:smok --workdir {run}", "no preset smok among base,"),
    ("launch", "--config configs/three_stage.py: --workdir {run}", "no size after the colon"),
    ("launch", "--config three_stage.py:tiny --workdir {run}", "did you mean configs/three_stage.py:tiny?"),
    ("launch", "--init_from {folder} --workdir {run}", "is not a run directory"),
    ("launch", "--config configs/experimental.py:tinny --workdir {run}", "did you mean tiny?"),
    ("launch", "--config {broken_config} --workdir {run}", "line 2: ZeroDivisionError: division by zero"),
    ("launch", "--config {syntax_config} --workdir {run}", "line 1: SyntaxError"),
    ("launch", "--config {empty_config} --workdir {run}", "defines no get_config"),
    ("launch", "--config {number_config} --workdir {run}", "config has no field"),
    ("launch", "--config {partial_config} --workdir {run}", "is missing"),
    ("launch", f"{SMOKE} --config_overrides {{empty_config}}", "defines no overrides"),
    ("launch", f"{SMOKE} --config_overrides absent.py", "absent.py does not exist"),
    ("launch", f"{SMOKE} --config_overrides {{wrong_overrides}}", "did you mean model.num_layers?"),
    ("launch", f"{SMOKE} --config_overrides {{wrong_overrides}}", "wrong_overrides.py: config has no field"),
    # Fields: names.
    ("launch", f"{SMOKE} --config.modle.d_model=3", "no field modle.d_model; did you mean model.d_model?"),
    ("launch", f"{SMOKE} --config.model.d_modle=3", "did you mean model.d_model?"),
    ("launch", f"{SMOKE} --config.stages[1].num_epoch=3", "did you mean stages[1].num_epochs?"),
    ("launch", f"{SMOKE} --config.learning_rate=3", "did you mean optimizer.learning_rate?"),
    ("launch", f"{SMOKE} --config.zzz=3", "config has no field zzz"),
    ("launch", f"{SMOKE} --config.=3", "config has no field"),
    ("launch", f"{SMOKE} --config.stages[7].num_epochs=3", "did you mean stages["),
    ("launch", f"{SMOKE} --config.stages[3].num_epochs=3", "a new stage needs all of its fields"),
    ("launch", f"{SMOKE} --config.stages[0].mask_rate[2]=1", "mask_rate must have 2 values, not 3"),
    ("launch", f"{SMOKE} --config.stages.num_epochs=3", "did you mean stages[2].num_epochs?"),
    ("launch", f"{SMOKE} --config.model=3", "name a field of this group, such as model.num_layers"),
    ("launch", f"{SMOKE} --config.seed --book x", "--config.seed needs a value"),
    # Fields: types.
    ("launch", f"{SMOKE} --config.seed=1.5", "such as 1000, 1e3 or 10k, not '1.5'"),
    ("launch", f"{SMOKE} --config.seed=ten", "such as 1000, 1e3 or 10k, not 'ten'"),
    ("launch", f"{SMOKE} --config.seed=1e99", "must be a whole number below 2**32"),
    ("launch", f"{SMOKE} --config.optimizer.learning_rate=fast", "must be a number, such as"),
    ("launch", f"{SMOKE} --config.optimizer.learning_rate=nan", "must be a number, such as"),
    ("launch", f"{SMOKE} --config.model.qk_norm=maybe", "must be true or false, not 'maybe'"),
    ("launch", f"{SMOKE} --config.stages[0].mask_rate=0.5", "mask_rate must have 2 values, not 1"),
    ("launch", f"{SMOKE} --config.optimizer.name=adam", "did you mean adamw?"),
    ("launch", f"{SMOKE} --config.precision=bf61", "did you mean bf16?"),
    # Fields that do not go together.
    ("launch", f"{SMOKE} --config.micro_batch=3", "micro_batch=3 must divide batch_size=8"),
    ("launch", f"{SMOKE} --config.model.num_heads=5", "num_heads=5 must divide d_model=64"),
    ("launch", f"{SMOKE} --config.stages[0].mask_rate=0.9,0.1", "must be lo < hi"),
    ("launch", f"{SMOKE} --config.stages[0].name=basic", "stages[0].name must be one of foundational"),
    ("launch", f"{SMOKE} --config.stages[0].num_epochs=0", "num_epochs must be at least 1"),
    ("launch", f"{SMOKE} --config.seed=-1", "config.seed must be at least 0"),
    ("launch", f"{SMOKE} --config.seed -1", "config.seed must be at least 0"),
    ("launch", f"{SMOKE} --config.evaluation.strata=4", "strata must be at least 16"),
    ("launch", f"{SMOKE} --config.data.embedder=magic", "unknown embedder 'magic'"),
    ("launch", f"{SMOKE} --book {{book}} --config.model.seq_len=10k", "is longer than the training text"),
    # Books.
    ("launch", f"{SMOKE} --book absent.txt", "absent.txt does not exist"),
    ("launch", f"{SMOKE} --book {{folder}}/nota.txt", "folder/note.txt?"),
    ("launch", f"{SMOKE} --book configs", "configs holds no file to read; give a folder of .txt,"),
    ("launch", f"{SMOKE} --book {{empty}}", "empty.txt is empty"),
    ("launch", f"{SMOKE} --book {{short}}", "has 12 words; at least 300 are needed"),
    ("launch", f"{SMOKE} --book {{binary}}", "binary"),
    ("launch", f"{SMOKE} --book {{rich}}", "is a rich text file (RTF), not text; save it as .txt, .html or"),
    ("launch", f"{SMOKE} --book {{word}}", "is a Word file (.docx); save it as .txt, .html or .epub"),
    ("launch", f"{SMOKE} --book {{writer}}", "is an OpenDocument file (.odt); save it as"),
    ("launch", f"{SMOKE} --book {{archive}}", "is damaged ("),
    ("launch", f"{SMOKE} --book {{pdf}}", "is a PDF file, not text; save it as"),
    ("launch", f"{SMOKE} --book gutenberg:frankenstein", "write its Project Gutenberg number"),
    ("launch", f"{SMOKE} --book -", "--book - would be read more than once"),
    ("launch", "--recommend --book absent.txt", "absent.txt does not exist"),
    # Places.
    ("launch", "--config configs/three_stage.py:smoke --workdir {empty}", "empty.txt"),
    ("launch", "--config configs/three_stage.py:smoke --workdir {empty}/run", "empty.txt"),
    ("launch", "--config configs/three_stage.py:smoke --workdir {folder}", "holds other things"),
    ("launch", "--config configs/three_stage.py:smoke --workdir /proc/run --book {book}", "/proc/run"),
    ("launch", f"{SMOKE} --data {{folder}} --book {{book}}", "holds other files"),
    ("launch", f"{SMOKE} --init_from {{folder}}", "is not a run directory"),
    ("launch", "--init_from {trained}s", "trained?"),
    ("launch", "--workdir {trained}s", "trained?; for a new run --config is needed"),
    ("launch", f"{SMOKE} --data {{trained}}", "trained/data?"),
    ("launch", "--config configs/three_stage.py:smoke --workdir {book}", "is a file; name a directory"),
    ("launch", f"{SMOKE} --init_from {{trained}} --config.model.num_layers=3", "another network"),
    ("launch", "--workdir {trained} --config.seed=5", "seed: the run has 0, you ask for 5"),
    ("launch", "--workdir {trained} --book {other}", "was begun with book.txt as it was then"),
    ("launch", "--workdir {damaged}", "cannot read"),
    # The other commands.
    ("sample", "", "required: --workdir"),
    ("sample", "--workdir {folder}", "is not a run directory"),
    ("sample", "--workdir {trained}s", "trained?"),
    ("sample", "--workdir {run} --colour", "unknown option --colour"),
    ("sample", "--workdir {run} --num-smaples 3", "did you mean --num_samples?"),
    ("sample", "--workdir {run} text", "unexpected argument text"),
    ("sample", "--workdir {run} --temperature warm", "--temperature must be a number"),
    ("sample", "--workdir {run} --temperature 0", "--temperature must be above 0, not 0.0"),
    ("sample", "--workdir {run} --sampler greed", "not 'greed'; did you mean greedy?"),
    ("sample", "--workdir {run} --preset quick", "no preset 'quick'; there are default, creative, conservat"),
    ("sample", "--workdir {run} --preset creativ", "there is no preset 'creativ'; did you mean creative?"),
    ("sample", "--workdir {run} --temperature 1e-60", "--temperature must be at least 1e-06"),
    ("sample", "--workdir {run} --temperature 1e38", "--temperature must be at most 1000000"),
    ("sample", "--workdir {run} --top_p 1e-60", "--top_p must be at least 1e-06"),
    ("sample", "--workdir {run} --top_k 1e99", "--top_k must be a whole number"),
    ("sample", "--workdir {run} --top_k 3b", "--top_k must be at most 1000000000"),
    ("sample", "--workdir {run} --steps 100k", "--steps must be at most 65536"),
    ("sample", "--workdir {run} --length 1e6", "--length must be at most 65536"),
    ("sample", "--workdir {run} --vocabulary_level 6", "--vocabulary_level must be at most 5"),
    ("sample", "--workdir {run} --cache maybe", "--cache must be true or false, not 'maybe'"),
    ("sample", "--workdir {run} --style 3", "--best_of=1 leaves nothing to choose by style"),
    ("sample", "--workdir {run} --sentence_length 9", "--best_of=1 leaves nothing to choose by style"),
    ("sample", "--workdir {run} --best_of 1000", "--best_of must be at most 256"),
    ("sample", "--workdir {run} --weights best", "--weights: invalid choice: 'best'"),
    ("sample", "--workdir {run} --num_samples 0", "--num_samples must be at least 1"),
    ("sample", "--workdir {run} --num_samples x", "--num_samples: invalid int value: 'x'"),
    ("sample", "--workdir {run} --num_samples 2 --stream", "are for one text; leave out --num_samples"),
    ("sample", "--workdir {run} --interactive --record x", "are for one text; leave out --interactive"),
    ("sample", "--workdir {run} --prompts {book} --ui terminal", "are for one text; leave out --"),
    ("sample", "--workdir {run} --speed 0", "--speed"),
    ("sample", "--workdir {run} --prompts {book} --prompt x", "--prompt is nothing beside --prompts"),
    ("sample", "--workdir {run} --prompts {book} --output {book}", "is the file of --prompts; name another"),
    ("sample", "--workdir {run} --prompts {book} --output {folder}", "it is a directory"),
    ("sample", "--workdir {run} --record absent/x.ndjson", "there is no directory absent"),
    ("sample", "--workdir {trained} --prompt [MASK]", "'[MASK]' is no gap; gaps are ____, [MASK:12]"),
    ("serve", "", "required: --workdir"),
    ("serve", "--workdir {folder}", "is not a run directory"),
    ("serve", "--workdir {run} --port x", "--port: invalid int value: 'x'"),
    ("watch", "", "required: RUN"),
    ("evaluate", "", "required: --workdir"),
    ("evaluate", "--workdir {folder}", "is not a run directory"),
    ("evaluate", "--workdir {trained} --preset quick", "no preset 'quick'; there are fast, default, compr"),
    ("evaluate", "--workdir {trained} --preset comprehensiv", "did you mean comprehensive?"),
    ("evaluate", "--workdir {trained} --split train", "--split: invalid choice: 'train'"),
    ("evaluate", "--workdir {trained} --seed -1", "--seed must be at least 0"),
    ("evaluate", "--workdir {trained} --out {folder}", "cannot be written; name a file in a directory"),
    ("evaluate", "--workdir {trained} --out absent/x", "cannot be written; name a file in a directory"),
    ("evaluate", "--workdir {flipped}", "has no dataset.json; name the shards of"),
    ("evaluate", "--workdir {flipped} --data {trained}/data", "has no intact checkpoint of its last stage"),
    ("evaluate", "--workdir {unfinished} --data {trained}/data", "is not finished, or has lost its report"),
    ("watch", "{folder}", "is not a run directory"),
    ("watch", "{trained} --onec", "unknown option --onec; did you mean --once?"),
    ("sample", "--workdir {run} --interactive --num_samples 2", "--num_samples is not for --interactive"),
    ("sample", "--workdir {run} --benchmark --num_samples 2", "--num_samples is not for --interactive"),
    ("sample", "--workdir {run} --benchmark --interactive", "not allowed with argument --benchmark"),
    ("sample", "--workdir {run} --output x.jsonl", "--output needs --prompts"),
    ("sample", "--workdir {run} --prompts absent.txt", "absent.txt"),
    ("sample", "--workdir {run} --prompts {folder}", "folder"),
    ("sample", "--workdir {run} --prompts {empty}", "empty.txt holds no prompts; write one a line"),
    ("sample", "--workdir {run} --prompts {binary}", "binary.txt is not text in UTF-8"),
    ("sample", "--workdir {run} --prompts {rich}", "rich.txt, line 1: "),
    ("sample", "--workdir {run} --again absent.json", "there is no absent.json; see samples/ of a run"),
    ("sample", "--workdir {run} --again {trained}/config.json", "config.json is no text that this command"),
    ("sample", "--workdir {run} --again {pdf}", "cannot read"),
    ("sample", "--workdir {run} --again {pdf} --seed 3", "cannot read"),
    ("sample", "--workdir {run} --again {trained}/config.json --seed 3", "leave out --seed"),
    ("sample", "--replay absent.ndjson", "absent.ndjson"),
    ("sample", "--replay {book} --prompt x", "--replay shows what was recorded; leave out --prompt"),
    ("sample", "--replay {book} --num_samples 5 --stream", "leave out --num_samples"),
    ("sample", "--workdir {run} --speed 4", "--speed is for --ui terminal and --replay"),
    ("sample", "--again {pdf} --weights ema", "cannot read"),
    ("sample", "--replay {folder}", "folder"),
    ("sample", "--replay {empty}", "empty.txt does not begin with the header of a recording"),
    ("sample", "--replay {binary}", "binary.txt does not begin with the header of a recording"),
    ("sample", "--replay {trained}/metrics.jsonl", "metrics.jsonl does not begin with the header"),
    ("sample", "--workdir {damaged}", "cannot read"),
    ("sample", "--workdir {unweighted}", "has no intact checkpoint yet"),
    ("sample", "--workdir {torn_tokenizer}", "cannot read the tokenizer"),
    ("sample", "--workdir {torn_dataset}", "dataset.json"),
    ("sample", "--workdir {torn_config}", "config.json"),
    ("sample", "--workdir {flipped}", "has no intact checkpoint yet"),
    ("sample", "--workdir {trained} --record {book}", "book.txt is there already"),
    ("sample", "--workdir {trained} --prompts {book} --output {other}", "other.txt holds other things"),
    ("sample", "--workdir {trained} --style Quatsch --best_of 2", "chapter Quatsch is not in the book; it"),
    ("sample", "--workdir {run} --remask 0.2 --sampler ancestral", "--remask=0.2 is nothing that"),
    ("sample", "--workdir {run} --seed -1", "--seed must be at least 0"),
    ("blind", "", "required: --workdir"),
    ("blind", "--workdir {folder}", "is not a run directory"),
    ("blind", "--workdir {trained}s", "trained?"),
    ("blind", "--workdir {trained} --pairs 0", "--pairs must be from 1 to 200, not 0"),
    ("blind", "--workdir {trained} --words 2", "--words must be from 5 to 400, not 2"),
    ("blind", "--workdir {trained} --seed -1", "--seed must be from 0 to"),
    ("blind", "--workdir {trained} --from middle", "--from: invalid choice: 'middle'"),
    ("blind", "--workdir {trained} --page x.html --results", "not allowed with argument"),
    ("blind", "--workdir {trained} --page {folder}", "cannot be written; name a file in a directory"),
    ("blind", "--workdir {trained} --page absent/x.html", "cannot be written; name a file in a directory"),
    ("blind", "--workdir {trained} --page {folder}/x.txt", "name a file that ends in .html"),
    ("blind", "--workdir {trained} --name ' a'", "--name: a reader's name must be a line of at most 80"),
    ("blind", "--workdir {trained} --results", "nobody has answered a test of"),
    ("blind", "--workdir {trained} --add absent.json", "absent.json"),
    ("blind", "--workdir {trained} --add {pdf}", "is no file of answers that the page has saved"),
    ("blind", "--workdir {trained} --add {answers}", "has no test 0123456789ab; the answers are of another"),
    ("blind", "--workdir {trained} --pairs 200", "passages of 40 words, not 200; take fewer --pairs or"),
    ("blind", "--workdir {trained} --words 20 --samples", "texts of 20 words and no prompt, not 20"),
    ("blind", "--workdir {flipped}", "has no dataset.json; name the shards of"),
    ("blind", "--workdir {flipped} --words 20 --data {trained}/data", "has no intact checkpoint yet"),
    ("data_prep", "", "required: --book, --out"),
    ("data_prep", "--book {book} --out {run} --vocab 300", "did you mean --vocab_size?"),
    ("data_prep", "--book {book} absent.txt --out {run}", "absent.txt does not exist"),
    ("data_prep", "--book {book} {book} --out {run}", "book.txt holds the same text as book.txt"),
    ("data_prep", "--book {book} --out {run} --max_megabytes 0.001", "holds more than 0.001 MB"),
    ("data_prep", "--book {book} --out {run} --vocab_size 10", "vocab_size must be at least 260"),
    ("data_prep", "--book {book} --out {folder}", "holds other files"),
    ("runs", "", "required"),
    ("runs", "lst", "invalid choice: 'lst'"),
    ("runs", "list --dir absent", "absent"),
    ("runs", "list --dir {trained}/config.json", "config.json is no directory"),
    ("runs", "list extra", "unexpected argument extra"),
    ("runs", "compare {trained}", "compare needs two runs or more"),
    ("runs", "remove {trained} --force", "unknown option --force"),
    ("runs", "show {empty}", "empty.txt is not a run directory"),
    ("runs", "show {folder}", "is not a run directory"),
    ("runs", "remove {folder} --yes", "is not a run directory"),
]  # fmt: skip
BAD_BOOKS = {
    "empty": b"",
    "short": b"Twelve words are not a book, however well they have been chosen.",
    "binary": bytes(range(256)) * 40,
    "rich": rb"{\rtf1\ansi " + b"word " * 400,
    "word": zipped({"[Content_Types].xml": "", "word/document.xml": "word " * 400}),
    "writer": zipped({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": "word " * 400}),
    "archive": b"PK\x03\x04" + b"word " * 400,
    "pdf": b"%PDF-1.7 " + b"word " * 400,
}
BAD_CONFIGS = {
    "broken_config": "def get_config():\n    return 1 / 0\n",
    "syntax_config": "def get_config(:\n",
    "empty_config": "",
    "number_config": "def get_config():\n    return 3\n",
    "partial_config": "import ml_collections as m\ndef get_config():\n    return m.ConfigDict({'seed': 0})\n",
    "wrong_overrides": "overrides = {'model': {'num_layer': 3}}\n",
}


@pytest.fixture(scope="module")
def places(smoke_run, tmp_path_factory) -> dict[str, Path]:
    """What the table's names in braces stand for. Nothing here may change."""
    folder = tmp_path_factory.mktemp("places")
    made = {"run": folder / "run", "folder": folder / "folder", "book": folder / "book.txt"}
    made["book"].write_text(built_in_chapters(3), encoding="utf-8")
    made["other"] = folder / "other.txt"
    made["other"].write_text(built_in_chapters(4), encoding="utf-8")
    made["folder"].mkdir()
    (made["folder"] / "note.txt").write_text("mine")
    made["answers"] = folder / "answers.json"
    made["answers"].write_text('{"test": "0123456789ab", "who": "", "answers": []}')
    made["trained"], made["damaged"] = folder / "trained", folder / "damaged"
    shutil.copytree(smoke_run, made["trained"], ignore=shutil.ignore_patterns("events*", "lock"))
    made["damaged"].mkdir()
    (made["damaged"] / "config.json").write_text("{")
    for name in ("unweighted", "torn_tokenizer", "torn_dataset", "torn_config", "flipped"):
        made[name] = folder / name
        left = () if name in ("flipped", "torn_tokenizer") else ("checkpoints",)
        shutil.copytree(made["trained"], made[name], ignore=shutil.ignore_patterns("data", *left))
        if name.startswith("torn_"):
            torn = made[name] / f"{name.removeprefix('torn_')}.json"
            torn.write_bytes(torn.read_bytes()[:99])
    for manifest in made["flipped"].glob("checkpoints/*/*/MANIFEST.json"):
        largest = max((manifest.parent / "state").rglob("*"), key=lambda path: path.stat().st_size)
        data = bytearray(largest.read_bytes())
        data[len(data) // 2] ^= 1
        largest.write_bytes(data)
    made["unfinished"] = folder / "unfinished"
    shutil.copytree(made["flipped"], made["unfinished"], ignore=shutil.ignore_patterns("report"))
    for name, data in BAD_BOOKS.items():
        made[name] = folder / f"{name}.txt"
        made[name].write_bytes(data)
    for name, text in BAD_CONFIGS.items():
        made[name] = folder / f"{name}.py"
        made[name].write_text(text)
    return made


def tree(folder: Path) -> dict[str, str]:
    """{path: digest} of everything below `folder`."""
    found = sorted(p for p in folder.rglob("*") if "__pycache__" not in p.parts)
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "" for p in found}


@pytest.fixture(scope="module")
def before(places) -> dict[str, str]:
    """What is there, once for all mistakes: none of them may change it."""
    return tree(places["folder"].parent)


def invoke(program: str, arguments: list[str], monkeypatch) -> int:
    """The command in this process: its exit code."""
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "unused")
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "false")  # should jax be imported here first
    monkeypatch.chdir(REPO)
    if program == "launch":
        return cli.run(launch.command, "")
    programs = {
        "sample": sample,
        "runs": runs,
        "data_prep": data_prep.__main__,
        "serve": serve,
        "watch": watch,
        "evaluate": evaluate,
        "blind": blind,
    }
    return programs[program].main()


def test_the_table_is_long_enough():
    assert len(set(MISTAKES)) == len(MISTAKES) >= 40


@pytest.mark.parametrize(("program", "options", "reason"), MISTAKES, ids=lambda value: str(value)[:60])
def test_a_mistake_is_one_line_and_leaves_nothing(
    program, options, reason, places, before, monkeypatch, capsys
):
    handler = signal.getsignal(signal.SIGINT)
    arguments = shlex.split(options.format(**{name: str(path) for name, path in places.items()}))
    assert invoke(program, arguments, monkeypatch) == 2
    out, err = capsys.readouterr()
    lines = err.splitlines()
    told = [line for line in lines if line.startswith("error: ")]
    assert told == lines[-1:], err  # one line, the last; before it only what was being done
    assert reason in told[0] and "Traceback" not in err and out == ""
    assert not re.search(r"did you mean \S*\?.*did you mean", told[0])
    assert tree(places["folder"].parent) == before
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["launch.py", "--cnfig", "x"], "error: unknown flag --cnfig; did you mean --config?"),
        (["-m", "mdlm_jax.sample", "--workdir", "x", "--seed", "x"], "error: --seed must be a whole number"),
        (["-m", "mdlm_jax.runs", "show", "absent"], "error: absent is not a run directory"),
        (["-m", "data_prep", "--book", "x"], "error: the following arguments are required: --out"),
    ],
)  # fmt: skip
def test_the_same_from_outside(command, reason, child_env):
    done = subprocess.run(
        [sys.executable, *command], cwd=REPO, env=child_env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(reason) and done.stderr.count("\n") == 1


def test_a_python_without_the_packages_says_what_to_do(child_env):
    code = (
        "import sys; sys.modules['absl'] = None; import launch; sys.exit(launch.cli.run(launch.command, ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, env=child_env, capture_output=True, text=True
    )
    assert done.returncode == 2 and "absl is not installed" in done.stderr and "make install" in done.stderr
    assert done.stderr.count("\n") == 1
