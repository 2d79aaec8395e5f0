"""Checkpoints: bit for bit, and no damage goes unnoticed."""

import json
import os
import shutil
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import REPO, soak_count
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import three_stage
from mdlm_jax import checkpoint
from mdlm_jax.checkpoint import CheckpointError
from mdlm_jax.configuration import resolve
from mdlm_jax.optimizer import make_optimizer
from mdlm_jax.train_state import Guard, TrainState, init_params
from mdlm_jax.ui.values import write_json


@pytest.fixture(scope="module")
def state() -> TrainState:
    """A state of the smoke model with Muon's and Adam's moments filled with noise."""
    values = three_stage.get_config("smoke")
    values.model.vocab_rows = 512
    config = resolve(values)
    params = init_params(config.model, 3)
    noise = np.random.default_rng(0)

    def shaken(x):
        return jnp.asarray(noise.standard_normal(x.shape), x.dtype) if x.dtype == jnp.float32 else x + 7

    opt_state = jax.tree.map(shaken, make_optimizer(config.optimizer, 100).init(params))
    key = jax.random.key_data(jax.random.key(5))
    # A subnormal, a NaN with a payload and both zeros: bits, not values, have to survive.
    ema = jax.tree.map(shaken, params)
    odd = np.array([1, 0x7FC12345, 0x80000000, 0], np.uint32).view(np.float32)
    leaves, structure = jax.tree.flatten(ema)
    leaves[0] = jnp.asarray(np.concatenate([odd, np.asarray(leaves[0]).ravel()[4:]]).reshape(leaves[0].shape))
    return TrainState(jnp.int32(42), params, jax.tree.unflatten(structure, leaves), opt_state, key, Guard())


@pytest.fixture(scope="module")
def saved(state, tmp_path_factory):
    directory = tmp_path_factory.mktemp("checkpoints")
    checkpoint.save(directory, 42, state, {"best": {"step": 42}}, keep=set())
    return directory / "42"


def files(path):
    return sorted(p for p in path.rglob("*") if p.is_file())


def small(value):
    return {"a": jnp.full((3,), value), "b": jnp.int32(value)}


def save_small(directory, *steps, keep=()):
    for step in steps:
        checkpoint.save(directory, step, small(step), {"step": step}, keep=set(keep))


def bits(tree):
    return {
        name: (np.asarray(x).dtype, np.asarray(x).tobytes()) for name, x in checkpoint.flatten(tree).items()
    }


def test_restores_every_bit(state, saved):
    restored = checkpoint.restore(saved, jax.eval_shape(lambda: state))
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    assert bits(restored) == bits(state)
    assert len(bits(state)) > 20 and json.loads((saved / "meta.json").read_text()) == {"best": {"step": 42}}


def test_restores_a_part(state, saved):
    for part in ("ema", "params"):
        like = jax.eval_shape(lambda: state.params)
        assert bits(checkpoint.restore(saved, like, f".{part}")) == bits(getattr(state, part))


def test_files_hold_no_pickle(saved):
    assert checkpoint.verify(saved) is None
    names = {str(p.relative_to(saved)) for p in files(saved)}
    assert {"MANIFEST.json", "meta.json"} < names
    assert set(json.loads((saved / "MANIFEST.json").read_text())) == names - {"MANIFEST.json"}


@pytest.fixture(scope="module")
def scratch(saved, tmp_path_factory):
    """A copy to damage; every test puts back what it changed."""
    path = tmp_path_factory.mktemp("scratch") / "42"
    shutil.copytree(saved, path)
    return path


def noticed(scratch, state, name):
    assert name in (checkpoint.verify(scratch) or "")
    with pytest.raises(CheckpointError, match="is damaged") as caught:
        checkpoint.restore(scratch, jax.eval_shape(lambda: state))
    assert "\n" not in str(caught.value) and str(scratch) in str(caught.value)


@settings(max_examples=soak_count(200))
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_in_any_file_is_noticed(scratch, where, bit):
    for path in files(scratch):
        content = path.read_bytes()
        if not content:
            continue
        at = int(where * len(content))
        path.write_bytes(content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :])
        try:
            # White space in the manifest itself may change into other white space.
            if checkpoint.verify(scratch) is None:
                assert path.name == checkpoint.MANIFEST and json.loads(path.read_bytes()) == json.loads(
                    content
                )
        finally:
            path.write_bytes(content)
    assert checkpoint.verify(scratch) is None


def test_truncation_deletion_and_strangers_are_noticed(scratch, state):
    for path in files(scratch):
        content, name = path.read_bytes(), path.name
        if content:
            path.write_bytes(content[:-2])
            noticed(scratch, state, "manifest" if name == checkpoint.MANIFEST else name)
        path.unlink()
        noticed(scratch, state, "manifest" if name == checkpoint.MANIFEST else f"{name} is missing")
        path.write_bytes(content)
    (scratch / "state" / "stranger").write_bytes(b"")
    noticed(scratch, state, "stranger is not what was written")
    (scratch / "state" / "stranger").unlink()
    for manifest in ("[]", "null", "{}", '{"meta.json": 3}', "\N{SNOWMAN}"):
        content = (scratch / checkpoint.MANIFEST).read_bytes()
        (scratch / checkpoint.MANIFEST).write_text(
            manifest, encoding="utf-16" if ord(manifest[0]) > 255 else None
        )
        noticed(scratch, state, "")
        (scratch / checkpoint.MANIFEST).write_bytes(content)
    assert checkpoint.verify(scratch) is None


def test_newest_intact_falls_back_and_sets_aside(tmp_path):
    save_small(tmp_path, 1, 2, 3, keep=(1, 2, 3))
    assert checkpoint.newest_intact(tmp_path) == tmp_path / "3"
    (tmp_path / "3" / "meta.json").write_text("{}")
    shutil.rmtree(tmp_path / "2" / "state")
    said = []
    assert checkpoint.newest_intact(tmp_path, said.append) == tmp_path / "1"
    assert [line.split(" is damaged")[0] for line in said] == [f"checkpoint {tmp_path / n}" for n in "32"]
    assert checkpoint.steps(tmp_path) == [1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2.damaged", "3.damaged"]
    save_small(tmp_path, 2, 3)  # the run goes on and writes them again
    assert checkpoint.newest_intact(tmp_path) == tmp_path / "3"


def test_the_same_step_may_be_damaged_twice(tmp_path):
    for _ in range(2):
        save_small(tmp_path, 1, 2, keep=(1, 2))
        (tmp_path / "2" / "meta.json").write_text("{}")
        assert checkpoint.newest_intact(tmp_path, lambda _: None) == tmp_path / "1"


def test_nothing_intact(tmp_path):
    assert checkpoint.newest_intact(tmp_path / "absent") is None
    save_small(tmp_path, 1)
    (tmp_path / "1" / checkpoint.MANIFEST).unlink()
    assert checkpoint.newest_intact(tmp_path, lambda _: None) is None


def test_leftovers_of_an_interrupted_save_are_removed(tmp_path):
    save_small(tmp_path, 1)
    shutil.copytree(tmp_path / "1", tmp_path / "2.tmp")
    (tmp_path / "2.tmp" / checkpoint.MANIFEST).unlink()
    assert checkpoint.steps(tmp_path) == [1] and checkpoint.newest_intact(tmp_path) == tmp_path / "1"
    save_small(tmp_path, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2"]


def test_keeps_the_two_newest_and_the_best(tmp_path):
    save_small(tmp_path, 10, 20, 30, keep=(10,))
    assert checkpoint.steps(tmp_path) == [10, 20, 30]
    save_small(tmp_path, 40, keep=(10,))
    assert checkpoint.steps(tmp_path) == [10, 30, 40]
    save_small(tmp_path, 50, keep=(40,))
    assert checkpoint.steps(tmp_path) == [40, 50]
    save_small(tmp_path, 100, keep=(-1,))  # numbers, not names: 100 is newer than 50
    assert checkpoint.steps(tmp_path) == [50, 100]


def test_saving_a_step_again_replaces_it(tmp_path):
    save_small(tmp_path, 5)
    checkpoint.save(tmp_path, 5, small(6), {}, keep=set())
    restored = checkpoint.restore(tmp_path / "5", jax.eval_shape(lambda: small(0)))
    assert int(restored["b"]) == 6 and checkpoint.steps(tmp_path) == [5]


def test_a_failed_save_leaves_the_old_ones(tmp_path, monkeypatch):
    save_small(tmp_path, 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_json", full)
    with pytest.raises(CheckpointError, match="no space left"):
        save_small(tmp_path, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1"]
    assert checkpoint.verify(tmp_path / "1") is None


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path, monkeypatch):
    save_small(tmp_path, 1)
    free = types.SimpleNamespace(free=10)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda place: free)
    with pytest.raises(CheckpointError, match="no space left; free some and run the same command"):
        save_small(tmp_path, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1"]


def test_a_start_tidies_up_and_keeps_the_newest_damaged(tmp_path):
    save_small(tmp_path, 1, 2, 3, 4, keep=(1, 2, 3, 4))
    for number, step in enumerate((2, 3, 4)):
        (tmp_path / str(step)).rename(damaged := tmp_path / f"{step}.damaged")
        os.utime(damaged, (number, number))
    shutil.copytree(tmp_path / "1", tmp_path / "5.tmp")
    said = []
    checkpoint.tidy(tmp_path, said.append)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "3.damaged", "4.damaged"]
    assert [line.partition(" is kept")[0] for line in said] == [
        str(tmp_path / f"{n}.damaged") for n in (3, 4)
    ]
    checkpoint.tidy(tmp_path / "absent", said.append)


def test_a_kill_while_an_old_one_is_removed_leaves_no_half_one(tmp_path, monkeypatch):
    save_small(tmp_path, 1, 2)

    def killed(path):
        (path / "meta.json").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        save_small(tmp_path, 3)
    assert checkpoint.steps(tmp_path) == [2, 3]
    assert all(checkpoint.verify(tmp_path / str(step)) is None for step in (2, 3))


def test_threads_of_a_failing_save_are_quiet(tmp_path):
    """Files may grow to 200 bytes: orbax fails in threads of its own, whose tracebacks nobody needs."""
    program = (
        "import resource; from pathlib import Path; import jax.numpy as jnp\n"
        "from mdlm_jax import checkpoint\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))\n"
        "try:\n"
        f"    checkpoint.save(Path({str(tmp_path)!r}), 2, {{'a': jnp.ones(3)}}, {{}}, set())\n"
        "except checkpoint.CheckpointError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True)
    assert done.stdout.startswith("cannot write the checkpoint") and done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "like",
    [
        {"a": jnp.zeros(4), "b": jnp.int32(0)},
        {"a": jnp.zeros(3, jnp.bfloat16), "b": jnp.int32(0)},
        {"a": jnp.zeros(3), "c": jnp.int32(0)},
    ],
)
def test_other_arrays_are_refused(tmp_path, like):
    save_small(tmp_path, 1)
    with pytest.raises(CheckpointError, match="does not fit the model at"):
        checkpoint.restore(tmp_path / "1", like)


def test_write_json_is_atomic(tmp_path, monkeypatch):
    path = tmp_path / "status.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_a_checkpoint_of_a_device_that_is_not_here_restores(tmp_path):
    """Saved on the second of two devices, restored where there is one: a GPU's run, read on a laptop."""
    program = (
        "import jax; from pathlib import Path; from mdlm_jax import checkpoint;"
        "x = jax.device_put(jax.numpy.arange(6.0), jax.devices()[1]);"
        f"checkpoint.save(Path({str(tmp_path)!r}), 3, {{'x': x}}, {{}}, keep=set())"
    )
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    subprocess.run([sys.executable, "-c", program], env=os.environ | flags, cwd=REPO, check=True)
    restored = checkpoint.restore(tmp_path / "3", {"x": jax.ShapeDtypeStruct((6,), np.float32)})
    assert np.array_equal(restored["x"], np.arange(6.0))
