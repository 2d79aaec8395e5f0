"""The live page's server around a trained run: its texts are the sample command's, and it ends well."""

import dataclasses
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPO
from toy_server import Client, serving

from mdlm_jax.evaluation.candidates import LENGTHS, generate
from mdlm_jax.frames import printable
from mdlm_jax.generation import finish
from mdlm_jax.run_directory import Trained, load
from mdlm_jax.serve import engine
from mdlm_jax.ui.options import settings_of
from mdlm_jax.ui.values import UserError


@pytest.fixture(scope="module")
def run(smoke_run) -> Trained:
    return load(smoke_run)


def written(client: Client) -> tuple[list[dict], dict]:
    """All messages of the trajectory that is followed, and its end."""
    found = [client.next("begun")]
    while (told := client.next("deltas", "ended"))["type"] != "ended":
        found.append(told)
    return found, told


def test_a_page_gets_the_text_of_the_command_and_branches_from_it(run):
    values = {"prompt": "Once ", "length": 9, "seed": 3, "temperature": "0.9"}
    made = finish(generate(run, *settings_of(values, run.config.sampling)))
    with serving(engine(run, "smoke")) as server:
        client = Client(server.gate.port)
        hello = client.next("hello")
        assert hello["name"] == "smoke" and hello["canvas"] == run.config.model.seq_len - 1
        assert len(hello["pieces"]) == run.tokenizer.get_vocab_size()
        client.ask(type="write", options=values)
        (begun, *_), ended = written(client)
        assert ended["text"] == printable(made["text"]) and ended["state"] == "done"
        assert ended["calls"] == made["network_calls"]
        assert ended["log_prob_per_token"] == pytest.approx(made["log_prob_per_token"], abs=1e-3)
        prompt = prompt_end = len(begun["tokens"]) - 9
        assert begun["given"] == [1] * prompt + [0] * 9
        edit = {"of": ended["trajectory"], "step": ended["calls"], "start": prompt, "stop": prompt + 4}
        texts = []
        for _ in range(2):
            client.ask(type="branch", length=6, token=None, options={"seed": 8}, **edit)
            (begun, *_), ended = written(client)
            texts.append(ended["text"])
            assert (
                ended["state"] == "done" and sum(t == hello["special"]["mask"] for t in begun["tokens"]) == 6
            )
        assert texts[0] == texts[1]
        pin = edit | {"stop": prompt + 1, "step": 0}
        client.ask(type="branch", length=0, token=100, options={}, **pin)
        (begun, *deltas), ended = written(client)
        assert begun["tokens"][prompt] == 100 and begun["pinned"] == [prompt] and ended["state"] == "done"
        assert prompt not in [place for told in deltas for delta in told["deltas"] for place in delta["at"]]
        refused = [
            {"best_of": 3},
            {"prompt": "____ " * 9},
            {"sampler": "nothing"},
        ]
        for options in refused:
            client.ask(type="write", options=options)
            client.next("error")
        for token in (hello["special"]["mask"], hello["special"]["eos"], 10**6):
            client.ask(type="branch", length=0, token=token, options={}, **pin)
            assert "no token" in client.next("error")["message"]
        for prompt, told in (("a " * 400, "canvas"), ("[MASK:60000]" * 9, "tokens together")):
            client.ask(type="write", options={"prompt": prompt})
            assert told in client.next("error")["message"]
        client.ask(type="branch", length=0, token=None, options={}, **edit | {"step": 0})
        (begun, *_), ended = written(client)
        assert ended["state"] == "done" and len(begun["tokens"]) - (prompt_end + 5) in LENGTHS
        client.close()


def test_an_autoregressive_model_has_no_branches(run):
    causal = dataclasses.replace(run.config.model, causal=True)
    twin = dataclasses.replace(run, config=dataclasses.replace(run.config, model=causal))
    made = engine(twin, "twin")
    made.write({})
    with pytest.raises(UserError, match="autoregressive"):
        made.branch(None, None, None, {})


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "mdlm_jax.serve", *options]


def test_the_command_serves_until_a_ctrl_c(smoke_run: Path, child_env):
    options = command("--workdir", str(smoke_run), "--port", "0")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(options, cwd=REPO, env=child_env, **pipes) as child:
        line = child.stdout.readline()
        port = int(re.fullmatch(r"open http://127\.0\.0\.1:(\d+)/ \(Ctrl-C ends\)\n", line)[1])
        client = Client(port)
        assert json.loads(client.receive(timeout=10))["name"] == "smoke_run"
        taken = command("--workdir", str(smoke_run), "--port", str(port))
        done = subprocess.run(taken, cwd=REPO, env=child_env, capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and "in use" in done.stderr
        client.ask(type="write", options={"length": 4000})
        client.next("following")
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
    assert child.returncode == 130 and out == ""
    assert err.splitlines()[1:] == ["interrupted; what was being written is lost; the run is as it was"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--workdir", "nowhere", "--port", "0"], "nowhere is not a run directory"),
        (["--workdir", "{run}", "--host", "0.0.0.0"], "names no address"),
        (["--workdir", "nowhere", "--port", "x"], "--port"),
        ([], "--workdir"),
    ],
)
def test_mistakes_are_one_line(options: list[str], told: str, child_env, smoke_run: Path):
    options = [option.format(run=smoke_run) for option in options]
    done = subprocess.run(command(*options), cwd=REPO, env=child_env, capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("loading")]
    assert done.returncode == 2 and len(lines) == 1 and told in lines[0] and done.stdout == ""
