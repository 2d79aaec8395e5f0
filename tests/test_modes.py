"""The modes of the sample command: the same texts as one by one, files that stay whole, gaps, recordings."""

import functools
import io
import json
import re
import shutil
import sys

import pytest

from mdlm_jax import frames, generation, run_directory, sample
from mdlm_jax.configuration import UserError
from mdlm_jax.evaluation.candidates import generate
from mdlm_jax.ui import modes

# One compiled program for texts of any length, but for streams.
PLAN = ("--steps", "4", "--block", "31")


@pytest.fixture(scope="module")
def workdir(smoke_run, tmp_path_factory):
    """A copy of the run: the command writes into it, and other workers of pytest-xdist read the original."""
    ignore = shutil.ignore_patterns("data", "events*")
    return shutil.copytree(smoke_run, tmp_path_factory.mktemp("modes") / "run", ignore=ignore)


@pytest.fixture(scope="module")
def load():
    return functools.cache(run_directory.load)


@pytest.fixture
def command(workdir, load, monkeypatch, capsys):
    """The command in this process: exit code, stdout, stderr. The run is loaded once."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "unused")
    monkeypatch.setattr(run_directory, "load", load)

    def call(*options, workdir=workdir) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sample", "--workdir", str(workdir), *map(str, options)])
        code = sample.main()
        return (code, *capsys.readouterr())

    return call


def refused(result) -> str:
    """The one line of a refusal; before it only what was being done."""
    code, out, err = result
    *before, told = err.splitlines()
    assert code == 2 and out == "" and told.startswith("error: "), err
    assert all(line.startswith(("loading ", "writing ")) for line in before), err
    return told


def saved(workdir) -> dict:
    """What was saved last."""
    return json.loads(max((workdir / "samples").glob("*.json")).read_text(encoding="utf-8"))


def ran(values, load, workdir) -> dict:
    """The text of named values, in this process."""
    run = load(workdir, "ema")
    return generation.finish(generate(run, *sample.settings_of(values, run.config.sampling)))


# Batch.


def test_a_batch_writes_what_one_text_after_the_other_would(command, load, workdir, tmp_path):
    prompts, output = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    line = {"prompt": "{ A \u2028 line", "length": 5, "seed": 3, "temperature": 1.5}
    prompts.write_bytes(f"\ufeffThe tide\r\n\n{json.dumps(line, ensure_ascii=False)}".encode())
    options = ("--prompts", prompts, *PLAN, "--length", 9, "--num_samples", 2)
    code, out, err = command(*options, "--output", output)
    assert (code, out) == (0, ""), err
    texts = [json.loads(x) for x in output.read_text(encoding="utf-8").split("\n")[:-1]]
    assert [(x["prompt"], x["length"], x["seed"]) for x in texts] == [
        *[("The tide", 9, 0), ("The tide", 9, 1)],
        *[(line["prompt"], 5, 3), (line["prompt"], 5, 4)],
    ]
    for text in texts:
        told = {name: text[name] for name in sample.WHAT}
        assert text == ran(told, load, workdir) | {"weights": "ema", "asked": text["asked"]}
        assert text == ran(text["asked"], load, workdir) | {"weights": "ema", "asked": text["asked"]}
    # Without an output: printed. Again: nothing is left to do, and nothing changes.
    whole = output.read_bytes()
    assert command(*options)[1].encode() == whole
    code, out, err = command(*options, "--output", output)
    assert code == 0 and "holds 4 of 4 texts already" in err and output.read_bytes() == whole
    assert "holds other things" in refused(command(*options, "--output", output, "--top_k", 9))
    assert "holds other things" in refused(command(*options, "--output", output, "--weights", "params"))
    assert output.read_bytes() == whole


JOBS = [{"prompt": p, "seed": i} for i, p in enumerate(("The tide", "é👧", "", "x" * 40))]
MARKS = {"model_hash": "cafe"}


def write(job) -> dict:
    return {"text": job["prompt"] * 3} | MARKS


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("batch") / "whole"
    modes.batch(JOBS, path, write, MARKS)
    return path.read_bytes()


def test_a_batch_goes_on_wherever_it_was_cut(whole, tmp_path):
    assert whole.count(b"\n") == len(JOBS)
    path = tmp_path / "out.jsonl"
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        made = []
        modes.batch(JOBS, path, lambda job, made=made: (made.append(job), write(job))[1], MARKS)
        assert path.read_bytes() == whole
        assert made == JOBS[whole[:cut].count(b"\n") :]


FOREIGN = [
    b"dear diary",
    b"dear diary\n",
    b"{}\n",
    b"\n",
    b"3\n",
    b"[1]\n",
    b"\xff",
    b"\xff\n",
    b"{",
    b"[" * 10**5,
]


@pytest.mark.parametrize("data", FOREIGN, ids=range(len(FOREIGN)))
def test_an_output_of_other_things_stays_as_it_is(data, whole, tmp_path):
    path = tmp_path / "out.jsonl"
    for held in (data, whole + data, whole[:-20] + data, whole.splitlines(True)[0] + data):
        if held == b"{" or held == whole.splitlines(True)[0] + b"{":
            continue  # a line of ours, torn after its first letter
        path.write_bytes(held)
        with pytest.raises(UserError, match="holds other things; remove it, or name another --output"):
            modes.batch(JOBS, path, lambda job: pytest.fail("it was begun"), MARKS)
        assert path.read_bytes() == held


def test_an_output_of_other_jobs_or_weights_stays_as_it_is(whole, tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_bytes(whole)
    other = [job | {"seed": job["seed"] + 1} for job in JOBS]
    for jobs, marks in (
        (JOBS[:-1], MARKS),
        (JOBS[1:], MARKS),
        (other, MARKS),
        (JOBS, {"model_hash": "beef"}),
    ):
        with pytest.raises(UserError, match="holds other things"):
            modes.batch(jobs, path, write, marks)
    assert path.read_bytes() == whole
    more = [*JOBS, {"prompt": "more", "seed": 9}]
    modes.batch(more, path, write, MARKS)
    assert path.read_bytes().startswith(whole) and path.read_bytes().count(b"\n") == len(more)


def test_a_text_that_cannot_be_written_is_named(tmp_path):
    def fail(job) -> dict:
        if job["seed"] == 2:
            raise UserError("no room")
        return write(job)

    with pytest.raises(UserError, match="^text 3 of 4: no room$"):
        modes.batch(JOBS, tmp_path / "x", fail, MARKS)
    assert (tmp_path / "x").read_bytes().count(b"\n") == 2


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "holds no prompts"),
        (b" \n\r\n\n", "holds no prompts"),
        (b"a\n\xff", "is not text in UTF-8"),
        (b"a\n{", "line 2: Expecting"),
        (b"a\n\nb\n{]", "line 4: Expecting"),
        (b'{"a": ' + b"[" * 10**5, "line 1: "),
        (b'{"temprature": 3}', "line 1: there is no option 'temprature'; did you mean temperature?"),
        (b'{"num_samples": 3}', "line 1: there is no option 'num_samples'; there are prompt, ending"),
        (b'a\n{"preset": "creativ"}', "line 2: there is no preset 'creativ'; did you mean creative?"),
        (b'{"preset": 3}', "line 1: there is no preset '3'; there are default, creative"),
        (b'{"length": null}', "line 1: --length must be a whole number"),
        (b'{"length": true}', "line 1: --length must be a whole number"),
        (b'{"prompt": 3}', "line 1: --prompt must be a text"),
        (b'{"seed": {"a": 1}}', "line 1: --seed must be"),
        (b'{"temperature": NaN}', "line 1: --temperature must be"),
        (b'{"temperature": 1e400}', "line 1: --temperature must be"),
        (b'{"sampler": ["greedy"]}', "line 1: --sampler must be"),
        (b'{"sampler": "ancestral", "remask": 0.5}', "line 1: --remask=0.5 needs a sampler that ranks"),
        (b'{"\\u001b[2J": 1}', r"line 1: there is no option '\x1b[2J'"),
    ],
)
def test_a_bad_line_is_told_with_file_and_number(command, tmp_path, data, reason):
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(data)
    told = refused(command("--prompts", path))
    assert str(path) in told and reason in told and "\x1b" not in told


def test_an_output_that_cannot_be_is_told_before_a_text_is_written(tmp_path):
    with pytest.raises(OSError, match="absent"):
        modes.batch(JOBS, tmp_path / "absent" / "x", lambda job: pytest.fail("it was begun"), MARKS)


# One text in several ways.

FAR = "The [MASK:3] tide.\n\nA gull “é” " + "and the sea was cold " * 12 + "[EDIT:as a stone] then ____ home."


def test_a_stream_holds_frames_alone_and_ends_in_what_is_saved(command, workdir, tmp_path):
    path = tmp_path / "rec.ndjson"
    code, out, err = command(*PLAN, "--prompt", FAR, "--seed", 5, "--stream", "--record", path)
    assert code == 0, err
    text = saved(workdir)
    assert path.read_text(encoding="utf-8") == out
    head, *lines = out.splitlines()
    told = json.loads(head)
    assert (told["seed"], told["model"]) == (5, text["model_hash"])
    document = None
    for line in lines:
        frame = frames.loads(line)
        start, stop = frame.extras["start"], frame.extras["start"] + len(frame.tokens)
        if document is None:
            document = frame.tokens.copy()
            assert frame.is_masked.sum() == text["written"] and len(document) == len(text["tokens"]) > 63
        kept = ~frame.changed  # a step touches nothing but what it says
        assert (document[start:stop][kept] == frame.tokens[kept]).all()
        document[start:stop] = frame.tokens
        assert len(frame.top_k) in (0, int((frame.changed & ~frame.is_masked).sum()))
    assert document.tolist() == text["tokens"]
    total = sum(frames.loads(line).log_prob for line in lines)
    assert total == pytest.approx(text["log_prob_per_token"] * text["written"], abs=1e-3)
    # The recording alone shows the text, and --again can record it too.
    code, shown, err = command("--replay", path, workdir=tmp_path / "absent")
    assert code == 0 and shown.startswith(text["text"] + "\n\n") and shown.endswith(", seed 5\n") and not err
    again = max((workdir / "samples").glob("*.json"))
    code, out, err = command("--again", again, "--record", path)
    assert code == 0 and f"the same text as {again} holds" in err and f"\n{text['text']}\n" in out
    assert saved(workdir) == text


def test_a_silent_text_is_the_same(command, workdir):
    """As in the test before, without the stream; ____ takes its length by the same bounds."""
    code, out, err = command(*PLAN, "--prompt", FAR, "--seed", 5)
    silent = saved(workdir)
    assert code == 0 and out.startswith("--- seed 5, ") and silent["text"] in out
    assert verbatim(FAR, "", silent["text"])
    code, out, err = command(*PLAN, "--prompt", FAR, "--seed", 5, "--stream")
    assert saved(workdir)["tokens"] == silent["tokens"]


def test_again_tells_another_text(command, workdir, tmp_path):
    assert command(*PLAN, "--prompt", "The tide", "--length", 9)[0] == 0
    held, path = saved(workdir), tmp_path / "text.json"
    before = set((workdir / "samples").iterdir())

    def of(changed) -> tuple:
        path.write_text(json.dumps(changed), encoding="utf-8")
        return command("--again", path)

    code, out, err = of(held | {"tokens": held["tokens"][::-1]})
    assert code == 1 and err.endswith(f"ANOTHER text than {path} holds\n")
    assert len(set((workdir / "samples").iterdir()) - before) == 2  # it is saved, as every text is
    assert "is of other weights" in refused(of(held | {"model_hash": "cafe", "checkpoint": "1_a/1"}))
    for foreign in ({}, {"prompt": "x"}, {k: v for k, v in held.items() if k != "tokens"}):
        assert "is no text that this command has saved" in refused(of(foreign))
    assert "--temperature must be a number" in refused(of(held | {"temperature": None}))
    assert "weights" in refused(of(held | {"weights": "other"}))
    assert "leave out --seed" in refused(command("--again", path, "--seed", 3))
    assert "--num_samples is not for" in refused(command("--again", path, "--num_samples", 2))
    path.write_text("[1]")
    assert "it holds no JSON object" in refused(command("--again", path))


def test_last_weights_come_back_as_such(command, workdir, tmp_path):
    assert command(*PLAN, "--length", 9, "--weights", "params")[0] == 0
    held = max((workdir / "samples").glob("*.json"))
    assert saved(workdir)["weights"] == "params"
    assert command("--again", held)[0] == 0 and saved(workdir) == json.loads(held.read_text(encoding="utf-8"))


def test_benchmark_prints_sane_figures(command, workdir):
    before = set((workdir / "samples").glob("*"))
    code, out, err = command(*PLAN, "--length", 20, "--benchmark")
    assert code == 0, err
    text, calls, first = out.splitlines()
    seen = re.fullmatch(r"20 tokens in ([\d.]+) s, ([\d,]+) a second \(median of five\)", text)
    seconds, rate = float(seen[1]), float(seen[2].replace(",", ""))
    assert 0 < seconds < 5 and 20 / (seconds + 6e-4) - 1 <= rate <= 20 / max(seconds - 6e-4, 1e-9) + 1
    number, each = re.fullmatch(
        r"(\d+) network calls of ([\d.]+) ms with all that is around them", calls
    ).groups()
    assert 1 <= int(number) <= 4 and int(number) * float(each) == pytest.approx(1000 * seconds, abs=1)
    assert float(re.fullmatch(r"first step of a stream after (\d+) ms", first)[1]) < 5000
    assert set((workdir / "samples").glob("*")) == before


def test_the_prompt_loop_of_the_command(command, workdir, load, monkeypatch):
    script = "The tide\n/temperature hot\n/style Quatsch\n/length 5\n/again\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(script))
    code, out, err = command(*PLAN, "--length", 9, "--seed", 6, "--interactive")
    assert code == 0 and out.count("--- seed") == 2, err
    assert out.count("error: ") == 2 and "error: --temperature must be a number" in out
    last = saved(workdir)
    assert (last["seed"], last["length"], last["prompt"]) == (7, 5, "The tide")
    assert (
        last["text"] in out and last["text"] == ran(last["asked"], load, workdir)["text"]
        if "asked" in last
        else 1
    )
