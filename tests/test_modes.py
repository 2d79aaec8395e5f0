"""The modes of the sample command: the same texts as one by one, files that stay whole, gaps, recordings."""

import dataclasses
import functools
import io
import json
import re
import sys

import numpy as np
import pytest
from conftest import soak_count
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mdlm_jax import frames, generation, run_directory, sample
from mdlm_jax.evaluation.candidates import generate
from mdlm_jax.ui.options import NAMES, WHAT, settings_of
from mdlm_jax.ui.values import UserError

# One compiled program for texts of any length, but for streams.
PLAN = ("--steps", "4", "--block", "31")


@pytest.fixture(scope="module")
def workdir(run_copy):
    return run_copy


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
    return generation.finish(generate(run, *settings_of(values, run.config.sampling)))


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
        told = {name: text[name] for name in WHAT}
        assert text == ran(told, load, workdir) | {"weights": "ema", "asked": text["asked"]}
        assert text == ran(text["asked"], load, workdir) | {"weights": "ema", "asked": text["asked"]}
    # Without an output: printed. Again: nothing is left to do, and nothing changes.
    whole = output.read_bytes()
    assert command(*options)[1].encode() == whole
    code, out, err = command(*options, "--output", output)
    assert code == 0 and "holds 4 of 4 texts already" in err and output.read_bytes() == whole
    for option, value in (("top_k", 9), ("weights", "params")):
        assert f"holds text 1 with {option} " in refused(
            command(*options, "--output", output, f"--{option}", value)
        )
    assert output.read_bytes() == whole


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
    assert "is there already" in refused(command("--again", again, "--record", path))
    code, out, err = command("--again", again, "--record", tmp_path / "twice.ndjson")
    assert (tmp_path / "twice.ndjson").read_bytes() == path.read_bytes()
    assert code == 0 and f"the same text as {again} holds" in err and f"\n{text['text']}\n" in out
    assert saved(workdir) == text


def test_a_silent_text_is_the_same(command, workdir):
    """As in the test before, without the stream; ____ takes its length by the same bounds."""
    code, out, _ = command(*PLAN, "--prompt", FAR, "--seed", 5)
    silent = saved(workdir)
    assert code == 0 and out.startswith("--- seed 5, ") and silent["text"] in out
    assert verbatim(FAR, "", silent["text"])
    assert command(*PLAN, "--prompt", FAR, "--seed", 5, "--stream")[0] == 0
    assert saved(workdir)["tokens"] == silent["tokens"]


def test_again_tells_another_text(command, workdir, tmp_path):
    assert command(*PLAN, "--prompt", "The tide", "--length", 9)[0] == 0
    held, path = saved(workdir), tmp_path / "text.json"
    before = set((workdir / "samples").iterdir())

    def of(changed) -> tuple:
        path.write_text(json.dumps(changed), encoding="utf-8")
        return command("--again", path)

    code, _, err = of(held | {"tokens": held["tokens"][::-1]})
    assert code == 1 and err.endswith(f"ANOTHER text than {path} holds\n")
    assert len(set((workdir / "samples").iterdir()) - before) == 2  # it is saved, as every text is
    assert "is of other weights" in refused(of(held | {"model_hash": "cafe", "checkpoint": "1_a/1"}))
    for foreign in ({}, {"prompt": "x"}, {k: v for k, v in held.items() if k != "tokens"}):
        assert "is no text that this command has saved" in refused(of(foreign))
    assert "--temperature must be a number" in refused(of(held | {"temperature": None}))
    assert "is no text that" in refused(of(held | {"weights": ["other"]}))
    assert "leave out --seed" in refused(command("--again", path, "--seed", 3))
    path.write_text(json.dumps(held), encoding="utf-8")
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
    assert (last["seed"], last["length"], last["prompt"]) == (7, 5, "The tide") and last["text"] in out
    assert last == ran({name: last[name] for name in WHAT}, load, workdir) | {"weights": "ema"}


# Any request.

MARKUP = r"_{4,}|\[MASK:(\d+)\]|\[EDIT:([^\]]+)\]"


def verbatim(prompt: str, ending: str, text: str) -> bool:
    """Whether what was given stands in the text, in order; spaces before a gap are the gap's."""
    first, *kept = [x.rstrip(" ") for x in re.split(MARKUP, prompt)[:-1:3]] + re.split(MARKUP, prompt)[-1:]
    at = len(first)
    for part in kept:
        at = text.find(part, at) + len(part) if text.find(part, at) >= 0 else len(text) + 1
    return text.startswith(first) and text.endswith(ending) and at <= len(text) - len(ending)


def test_what_verbatim_means():
    assert verbatim("a ____ b", "c", "a x b y c") and verbatim("a ____ b", "c", "axx bc")
    assert not verbatim("a ____ b", "c", "a x y c") and not verbatim("a ____ b", "bc", "a x bc")
    assert not verbatim("ab", "", "a b") and verbatim("[MASK:0]___", "", "x___")


GAPS = ["____", "________", "[MASK:3]", "[MASK:0]", "[EDIT:a gull]", "[EDIT: ]", "[EDIT:👧]"]
HALF = ["[MASK:", "[MASK:]", "[MASK:-1]", "[MASK:99999]", "[MASK]", "[EDIT:]", "[EDIT:", "___", "]", "[", "_"]
TEXT = [
    "The tide ",
    "[PAD][EOS]\n[SEP]",
    "👩‍👩‍👧é e\u0301",
    "\x00\x1b[31m\r\x7f\u2028\ufeff",
    "\n\n",
    " ",
    "\ud800",
]
PROMPTS = st.lists(st.sampled_from(GAPS + HALF * 2 + TEXT * 2) | st.text(max_size=8), max_size=5).map("".join)
LAW = {"steps": 4, "block": 31}


def check_request(values, load, workdir) -> None:
    """One line that says why not; or a text of the length asked for with all that was given, and no more."""
    prompt, ending, run = values["prompt"], values["ending"], load(workdir, "ema")
    try:
        made = ran(values, load, workdir)
    except UserError as error:
        told = str(error)
        reasons = "say with --length how many|is not valid UTF-8|must have 1 to 65536 tokens|is no gap"
        assert "\n" not in told and re.search(reasons, told), told
        assert ("UTF-8" in told) == ("\ud800" in prompt + ending)
        assert ("is no gap" not in told) or re.search(r"(?i)\[(MASK|EDIT)\b", prompt)
        assert ("must have" not in told) or re.search(r"\[MASK:(0+|\d{5,})\]", prompt)
        return
    assert verbatim(prompt, ending, made["text"])
    assert made["text"] == run.tokenizer.decode(made["tokens"])
    assert not set(made["tokens"]) & set(run.dataset.special_ids.values())
    assert max(made["tokens"], default=0) < run.tokenizer.get_vocab_size()
    gaps = list(re.finditer(MARKUP, prompt))
    least = sum(int(m[1] or 0) + bool(m[2]) for m in gaps) + sum(made["gaps"]) + values["length"]
    assert len(made["gaps"]) == sum(m[0].startswith("____") for m in gaps)
    assert made["network_calls"] <= made["written"] >= least
    if not any(m[2] for m in gaps) and (gaps or values["length"]):
        assert made["written"] == least
    elif not gaps and not values["length"]:
        assert len(made["tokens"]) == run.config.model.seq_len - 1
    assert np.isfinite(made["log_prob_per_token"]) and made["log_prob_per_token"] <= 0


@settings(max_examples=50)
@given(
    PROMPTS, PROMPTS.filter(lambda x: len(x) < 9), st.just(0) | st.integers(1, 70),
    st.sampled_from((1, 1, 1, 40)), st.fixed_dictionaries({
        "seed": st.integers(0, 2**32 - 1), "temperature": st.floats(1e-6, 1e6),
        "top_p": st.floats(1e-6, 1), "top_k": st.integers(0, 10**9), "vocabulary_level": st.integers(1, 5),
        "repetition": st.floats(1, 1e6),
    }),
)  # fmt: skip
@example("", "", 0, 1, {})
@example("[MASK:0]", "", 0, 1, {})
@example("The", "", 9, 1, {"temperature": 1e-6, "repetition": 1e6})
@example("The", "", 9, 1, {"temperature": 1e6, "top_p": 1e-6})
@example("word " * 20 + "____", "end", 9, 1, {})
def test_any_request(workdir, load, prompt, ending, length, times, law):
    if times > 1:  # longer than the canvas, with gaps far apart
        prompt = prompt + "The tide came in. " * times + prompt
    check_request({"prompt": prompt, "ending": ending, "length": length} | law | LAW, load, workdir)


ODD = [
    "",
    "-1",
    "0",
    "1",
    "2",
    "0.5",
    "1e3",
    "10k",
    "nan",
    "inf",
    "x",
    "true",
    "greedy",
    "ancestral",
    "cosine",
]
ANY = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.none())


@given(st.dictionaries(st.sampled_from([*NAMES, "", "x"]), st.sampled_from(ODD) | ANY, max_size=4))
def test_any_options_are_settings_or_one_line(values):
    try:
        request, law = settings_of(values, None)
    except UserError as error:
        assert str(error).startswith(("--", "there is no ")) and "\n" not in str(error)
        return
    made = dataclasses.asdict(request) | dataclasses.asdict(law)
    assert made.keys() == WHAT.keys()
    assert settings_of(made, None) == (request, law)  # what is saved says the same
    assert settings_of({k: str(v) for k, v in made.items()}, None) == (request, law)


@pytest.mark.soak
def test_long_texts_and_any_number_of_steps(workdir, load):
    lengths = [8192, 1000, 257, 64, 63, 1]
    for seed, length in enumerate(lengths[: soak_count(len(lengths))]):
        values = {"prompt": "The tide", "ending": " home.", "length": length, "seed": seed}
        check_request(values | LAW, load, workdir)
    kinds = ("ancestral", "confidence", "importance", "greedy", "entropy", "margin", "left_to_right")
    for i in range(soak_count(40)):
        law = {"sampler": kinds[i % 7], "steps": (i % 7 < 6) * (1 + 7 * i % 66), "block": 1 + 11 * i % 80}
        values = {"prompt": "A ____ gull", "ending": "", "length": 5 * i, "seed": i, "cache": i % 4 == 1}
        check_request(values | law, load, workdir)
