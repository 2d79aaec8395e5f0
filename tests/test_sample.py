"""python -m mdlm_jax.sample: the prompt stays, a text can be made again, a mistake is one line."""

import dataclasses
import json
import shutil
import subprocess
import sys

import pytest
from conftest import REPO
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mdlm_jax import run_directory, sample, sampler
from mdlm_jax.configuration import SAMPLING_PRESETS, SamplingConfig
from mdlm_jax.tokenizer import load_tokenizer

QUICK = SamplingConfig(sampler="ancestral", steps=4, temperature=0.8, top_k=0, top_p=0.95)
SPECIALS = ("[PAD]", "[MASK]", "[SEP]", "[EOS]")


@pytest.fixture(scope="module")
def workdir(smoke_run, tmp_path_factory):
    """A copy of the run: the command writes into it, and other workers of pytest-xdist read the original."""
    ignore = shutil.ignore_patterns("data", "events*")
    return shutil.copytree(smoke_run, tmp_path_factory.mktemp("sample") / "run", ignore=ignore)


@pytest.fixture(scope="module")
def run(workdir):
    return run_directory.load(workdir)


def test_command_end_to_end(workdir, run, child_env):
    prompt = "The bushel [MASK] was"
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
        assert sample.printable(saved["text"]) in done.stdout
        assert saved["checkpoint"] == run.checkpoint and saved["model_hash"] == run.model_hash
        assert saved["weights"] == "ema" and saved["length"] == 20 and len(saved["tokens"]) > 20
        made = again(run, saved)
        # The command was compiled with other flags, which moves the last digits of a float.
        assert made.pop("log_prob_per_token") == pytest.approx(saved["log_prob_per_token"], abs=1e-4)
        assert made == {name: saved[name] for name in made}
        assert saved["seed"] == seed
    assert found[7].with_suffix(".txt").read_text() != found[8].with_suffix(".txt").read_text()


def again(run, saved) -> dict:
    """What `generate` makes of saved metadata."""
    names = [f.name for f in dataclasses.fields(SamplingConfig)]
    law = SamplingConfig(**{name: saved[name] for name in names})
    return sample.generate(run, saved["prompt"], saved["length"], saved["seed"], law)


def specials_in(run, saved, prompt_tokens) -> set:
    ids = set(saved["tokens"][prompt_tokens:])
    return ids & set(run.dataset.special_ids.values()) | {
        i for i in ids if i >= run.dataset.info["vocab_size"]
    }


@pytest.mark.parametrize("kind", ["ancestral", "confidence", "importance"])
def test_same_seed_same_text(run, kind):
    law = dataclasses.replace(QUICK, sampler=kind)
    one, two, other = (sample.generate(run, "The tide", 30, seed, law) for seed in (1, 1, 2))
    assert one == two and one["text"] != other["text"]
    assert specials_in(run, one, len(one["tokens"]) - 30) == set()


def test_levels_hold_and_the_prompt_may_be_above(run):
    found = sample.levels(run)
    word = next(w for w in ("bushel", "chimney", "lantern") if found[encoded(run, f" {w}")].max() > 1)
    for level in (1, 3):
        law = dataclasses.replace(QUICK, temperature=5.0, top_p=1.0, vocabulary_level=level)
        made = sample.generate(run, f"The {word}", 40, 0, law)
        assert found[made["tokens"][-40:]].max() == level and made["text"].startswith(f"The {word}")
    assert specials_in(run, made, len(made["tokens"]) - 40) == set()
    info = {k: v for k, v in run.dataset.info.items() if k != "vocabulary_levels"}
    old = dataclasses.replace(run, dataset=dataclasses.replace(run.dataset, info=info))
    with pytest.raises(sample.SampleError, match="no vocabulary levels"):
        sample.generate(old, "", 4, 0, law)
    assert sample.generate(old, "", 4, 0, QUICK) == sample.generate(run, "", 4, 0, QUICK)


def encoded(run, text: str) -> list[int]:
    return load_tokenizer(run.dataset.path / "tokenizer.json").encode(text).ids


def test_runs_of_tokens_do_not_come_twice(run):
    """One token a call; without the rule a cold model repeats itself."""
    cold = dataclasses.replace(QUICK, sampler="confidence", steps=0, temperature=0.1, top_p=1.0)
    for no_repeat, repeated in ((0, True), (3, False)):
        ids = sample.generate(run, "", 60, 0, dataclasses.replace(cold, no_repeat=no_repeat))["tokens"]
        runs = [tuple(ids[i : i + 3]) for i in range(len(ids) - 2)]
        # A run may repeat itself one or two tokens on.
        far = [r for i, r in enumerate(runs) if r in runs[i + 3 :]]
        assert bool(far) == repeated


def test_what_is_traced_compiles_nothing(run):
    """Temperature, seed, prompt, level, and length within a bucket."""
    sample.generate(run, "", 20, 0, QUICK)
    before = sampler.sample._cache_size()
    sample.generate(run, "The tide", 25, 1, QUICK)
    for change in ({"temperature": 0.3}, {"vocabulary_level": 2}, {"repetition": 1.3}, {"top_k": 5}):
        sample.generate(run, "", 20, 0, dataclasses.replace(QUICK, **change))
    assert sampler.sample._cache_size() == before


@pytest.mark.parametrize("preset", SAMPLING_PRESETS)
def test_presets_are_settings(run, preset):
    values = dataclasses.asdict(run.config.sampling) | SAMPLING_PRESETS[preset]
    made = sample.generate(run, "The tide", 12, 0, sample.settings_of(values))
    assert made["text"].startswith("The tide") and made.items() >= values.items()


def test_a_full_canvas_is_the_default(run):
    room = run.config.model.seq_len - 1
    made = sample.generate(run, "", None, 0, QUICK)
    assert len(made["tokens"]) == room == made["length"] and specials_in(run, made, 0) == set()


@settings(max_examples=20)
@given(prompt=st.text(max_size=20), length=st.integers(1, 8), seed=st.integers(0, 2**31 - 1))
@example(prompt="", length=1, seed=0)
@example(prompt="[MASK][PAD] [EOS]\n[SEP]", length=3, seed=0)
@example(prompt="\x00\x1b[31m\r\n\x7f\u2028", length=3, seed=0)
@example(prompt="👩‍👩‍👧é e\u0301 \ufeff\ufffd", length=3, seed=0)
def test_any_prompt_stays_verbatim(run, prompt, length, seed):
    try:
        made = sample.generate(run, prompt, length, seed, QUICK)
    except sample.SampleError as error:  # many rare characters: too many tokens
        assert len(prompt.encode()) + length > run.config.model.seq_len - 1
        assert "\n" not in str(error)
        return
    assert made["text"].startswith(prompt)
    assert specials_in(run, made, len(made["tokens"]) - length) == set()
    assert not any(name in made["text"][len(prompt) :] for name in SPECIALS)
    assert "\x1b" not in sample.printable(made["text"])


def test_printable_keeps_text_and_drops_controls():
    assert sample.printable("a\tb\nc\x1b[31m\x00\x9b\x7fé😀\r") == "a\tb\nc[31mé😀"


def command(monkeypatch, capsys, *options) -> tuple[int, str]:
    """Exit code and stderr of the command, in this process."""
    monkeypatch.setattr(sys, "argv", ["sample", *map(str, options)])
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "unused")
    code = sample.main()
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--length", "0"], "--length must lie in 1 to 63"),
        (["--length", "-3"], "--length must lie in 1 to 63"),
        (["--length", "64"], "--length must lie in 1 to 63"),
        (["--prompt", "bushel " * 80], "takes at most 62"),
        (["--temperature", "0"], "--temperature must be above 0"),
        (["--temperature", "nan"], "--temperature must be"),
        (["--temperature", "inf"], "--temperature must be"),
        (["--top_p", "0"], "--top_p must be above 0"),
        (["--top_p", "nan"], "--top_p must be a number"),
        (["--top_k", "-1"], "--top_k must be at least 0"),
        (["--steps", "-1"], "--steps must be at least 0"),
        (["--num_samples", "0"], "--num_samples must be at least 1"),
        (["--seed", "-1"], "--seed must lie in"),
        (["--seed", str(2**70)], "--seed must lie in"),
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


def test_the_twin_cannot_unmask(run):
    model = dataclasses.replace(run.config.model, causal=True)
    twin = dataclasses.replace(run, config=dataclasses.replace(run.config, model=model))
    with pytest.raises(sample.SampleError, match="autoregressive twin"):
        sample.generate(twin, "", 4, 0, QUICK)
