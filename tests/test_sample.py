"""python -m mdlm_jax.sample: the prompt stays, a text can be made again, a mistake is one line."""

import dataclasses
import json
import subprocess
import sys

import pytest
from conftest import REPO
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mdlm_jax import frames, generation, run_directory, sample, sampler
from mdlm_jax.evaluation.candidates import generate
from mdlm_jax.tokenizer import load_tokenizer
from mdlm_jax.ui.options import WHAT, settings_of
from mdlm_jax.ui.request import SAMPLING_PRESETS, Request, SampleError, SamplingConfig

QUICK = SamplingConfig(sampler="ancestral", steps=4, temperature=0.8, top_k=0, top_p=0.95)
SPECIALS = ("[PAD]", "[MASK]", "[SEP]", "[EOS]")


@pytest.fixture(scope="module")
def workdir(run_copy):
    return run_copy


@pytest.fixture(scope="module")
def run(workdir):
    return run_directory.load(workdir)


def test_command_end_to_end(workdir, run, child_env):
    prompt = "The bushel [EOS] was"
    command = [sys.executable, "-m", "mdlm_jax.sample", "--workdir", str(workdir), "--prompt", prompt]
    command += ["--length", "20", "--steps", "5", "--seed", "7", "--num_samples", "2"]
    done = subprocess.run(command, cwd=REPO, env=child_env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("loading ") and done.stderr.count("\n") == 2
    assert done.stdout.count("--- seed") == 2
    found = {json.loads(p.read_text())["seed"]: p for p in (workdir / "samples").glob("*.json")}
    assert set(found) == {7, 8}
    for seed, path in found.items():
        saved = json.loads(path.read_text(encoding="utf-8"))
        text = path.with_suffix(".txt").read_text(encoding="utf-8")
        assert text == saved["text"] + "\n" and saved["text"].startswith(prompt)
        assert frames.printable(saved["text"]) in done.stdout
        assert saved["checkpoint"] == run.checkpoint and saved["model_hash"] == run.model_hash
        assert saved["weights"] == "ema" and saved["length"] == 20 and len(saved["tokens"]) > 20
        made = again(run, saved)
        # The command is another process: the last digits of a float may differ.
        assert made.pop("log_prob_per_token") == pytest.approx(saved["log_prob_per_token"], abs=1e-4)
        assert made == {name: saved[name] for name in made}
        assert saved["seed"] == seed
    assert found[7].with_suffix(".txt").read_text() != found[8].with_suffix(".txt").read_text()


def text_of(run, prompt, length, seed, law, **asked) -> dict:
    """One text without frames; a length of None is a full canvas."""
    request = Request(prompt=prompt, length=length or 0, seed=seed, **asked)
    return generation.finish(generate(run, request, law))


def again(run, saved) -> dict:
    """What `generate` makes of saved metadata."""
    told = {name: saved[name] for name in WHAT}
    return generation.finish(generate(run, *settings_of(told, None)))


def specials_in(run, saved, prompt_tokens) -> set:
    ids = set(saved["tokens"][prompt_tokens:])
    return ids & set(run.dataset.special_ids.values()) | {
        i for i in ids if i >= run.dataset.info["vocab_size"]
    }


@pytest.mark.parametrize("kind", ["ancestral", "importance"])
def test_same_seed_same_text(run, kind):
    law = dataclasses.replace(QUICK, sampler=kind)
    one, two, other = (text_of(run, "The tide", 30, seed, law) for seed in (1, 1, 2))
    assert one == two and one["text"] != other["text"]
    assert specials_in(run, one, len(one["tokens"]) - 30) == set()


def test_levels_hold_and_the_prompt_may_be_above(run):
    found = generation.levels(run)
    word = next(w for w in ("bushel", "chimney", "lantern") if found[encoded(run, f" {w}")].max() > 1)
    for level in (1, 3):
        law = dataclasses.replace(QUICK, temperature=5.0, top_p=1.0, vocabulary_level=level)
        made = text_of(run, f"The {word}", 40, 0, law)
        assert found[made["tokens"][-40:]].max() == level and made["text"].startswith(f"The {word}")
    assert specials_in(run, made, len(made["tokens"]) - 40) == set()
    info = {k: v for k, v in run.dataset.info.items() if k != "vocabulary_levels"}
    old = dataclasses.replace(run, dataset=dataclasses.replace(run.dataset, info=info))
    with pytest.raises(SampleError, match="no vocabulary levels"):
        text_of(old, "", 4, 0, law)
    assert text_of(old, "", 4, 0, QUICK) == text_of(run, "", 4, 0, QUICK)


def encoded(run, text: str) -> list[int]:
    return load_tokenizer(run.dataset.path / "tokenizer.json").encode(text).ids


def test_what_is_traced_compiles_nothing(run):
    """Temperature, seed, prompt, level, and length within a bucket."""
    text_of(run, "", 20, 0, QUICK)
    before = sampler.sample._cache_size()
    text_of(run, "The tide", 25, 1, QUICK)
    for change in ({"temperature": 0.3}, {"vocabulary_level": 2}, {"repetition": 1.3}, {"top_k": 5}):
        text_of(run, "", 20, 0, dataclasses.replace(QUICK, **change))
    assert sampler.sample._cache_size() == before


@pytest.mark.parametrize("preset", SAMPLING_PRESETS)
def test_presets_are_settings(run, preset):
    values = dataclasses.asdict(run.config.sampling) | SAMPLING_PRESETS[preset]
    made = text_of(run, "The tide", 12, 0, settings_of(values, None)[1])
    assert made["text"].startswith("The tide") and made.items() >= values.items()


def test_a_full_canvas_is_the_default(run):
    room = run.config.model.seq_len - 1
    made = text_of(run, "", None, 0, QUICK)
    assert len(made["tokens"]) == room == made["written"] and specials_in(run, made, 0) == set()


@settings(max_examples=20)
@given(prompt=st.text(max_size=20), length=st.integers(1, 8), seed=st.integers(0, 2**31 - 1))
@example(prompt="", length=1, seed=0)
@example(prompt="[SEP][PAD] [EOS]\n[SEP]", length=3, seed=0)
@example(prompt="\x00\x1b[31m\r\n\x7f\u2028", length=3, seed=0)
@example(prompt="👩‍👩‍👧é e\u0301 \ufeff\ufffd", length=3, seed=0)
def test_any_prompt_stays_verbatim(run, prompt, length, seed):
    made = text_of(run, prompt, length, seed, QUICK)
    assert made["text"].startswith(prompt)
    assert specials_in(run, made, len(made["tokens"]) - length) == set()
    assert not any(name in made["text"][len(prompt) :] for name in SPECIALS)
    assert "\x1b" not in frames.printable(made["text"])


def test_printable_keeps_text_and_drops_controls():
    assert frames.printable("a\tb\nc\x1b[31m\x00\x9b\x7fé😀\r") == "a\tb\nc[31mé😀"


def command(monkeypatch, capsys, *options) -> tuple[int, str]:
    """Exit code and stderr of the command, in this process."""
    monkeypatch.setattr(sys, "argv", ["sample", *map(str, options)])
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "unused")
    code = sample.main()
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--length", "-3"], "--length must be at least 0"),
        (["--length", "1e6"], "--length must be at most 65536"),
        (["--prompt", "bushel " * 80], "say with --length how many"),
        (["--best_of", "0"], "--best_of must be at least 1"),
        (["--style", "3"], "--best_of=1 leaves nothing to choose"),
        (["--sentence_length", "12"], "--best_of=1 leaves nothing to choose"),
        (["--stream", "--num_samples", "2"], "are for one text; leave out --num_samples"),
        (["--output", "x.jsonl"], "--output needs --prompts"),
        (["--prompts", "absent.txt"], "absent.txt"),
        (["--again", "absent.json"], "there is no absent.json"),
        (["--replay", "absent.ndjson"], "absent.ndjson"),
        (["--temperature", "0"], "--temperature must be above 0"),
        (["--temperature", "nan"], "--temperature must be"),
        (["--temperature", "inf"], "--temperature must be"),
        (["--top_p", "0"], "--top_p must be above 0"),
        (["--top_p", "nan"], "--top_p must be a number"),
        (["--top_k", "-1"], "--top_k must be at least 0"),
        (["--steps", "-1"], "--steps must be at least 0"),
        (["--num_samples", "0"], "--num_samples must be at least 1"),
        (["--seed", "-1"], "--seed must be"),
        (["--seed", str(2**70)], "--seed must be"),
        (["--prompt", "caf\udce9"], "--prompt"),
    ],
)
def test_bad_options_are_one_line(workdir, monkeypatch, capsys, options, reason):
    before = set((workdir / "samples").glob("*"))
    code, error = command(monkeypatch, capsys, "--workdir", workdir, *options)
    told = error.splitlines()[-1]
    assert code == 2 and told.startswith("error: ") and reason in told and error.count("error") == 1
    assert set((workdir / "samples").glob("*")) == before


def test_not_a_run(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    for place in ("absent", ".", "file"):
        code, error = command(monkeypatch, capsys, "--workdir", tmp_path / place)
        assert code == 2 and error.startswith("error: ") and error.count("\n") == 1, error
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]
