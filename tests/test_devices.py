"""One step is the same step on any mesh, and two processes are one run. Eight devices are simulated."""

import functools
import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPO, indivisible
from toys import config

from mdlm_jax import devices
from mdlm_jax.data import RowSource, StageData
from mdlm_jax.ui.processes import ProcessesError, connect
from mdlm_jax.ui.values import ConfigError


@pytest.fixture(scope="module")
def look(child_env, tmp_path_factory):
    """look(how many meshes) -> what tests/devices_child.py says."""

    @functools.cache
    def run(meshes: str) -> dict:
        flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
        place = os.pathsep.join([child_env["PYTHONPATH"], str(REPO), str(REPO / "tests")])
        env = child_env | {"XLA_FLAGS": flags, "PYTHONPATH": place}
        script, directory = str(REPO / "tests/devices_child.py"), str(tmp_path_factory.mktemp("devices"))
        command = [sys.executable, script, directory, meshes]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


MESHES = pytest.mark.parametrize(
    ("meshes", "mesh"),
    [
        ("one", "4x2"),
        *(pytest.param("several", m, marks=[pytest.mark.soak, indivisible]) for m in ("8x1", "4x2", "1x8")),
    ],
)


@MESHES
def test_losses_are_those_of_one_device(meshes, mesh, look):
    found = look(meshes)
    assert found["devices"] == 8
    one = np.array(found["losses"]["1x1"])
    assert len(one) == 20 and np.isfinite(one).all()
    assert np.std(one[::2]) > 0.01 * np.mean(one[::2])  # steps differ, so that equality says something
    np.testing.assert_allclose(found["losses"][mesh], one, rtol=2e-4)


@MESHES
def test_weights_average_and_moments_are_cut_along_fsdp(meshes, mesh, look):
    """Every matrix, and the embedding; what is small or needed everywhere is copied."""
    fsdp, shares = int(mesh[-1]), look(meshes)["shares"][mesh]
    matrices = tuple(f"['{name}'].value" for name in ("embedding", "qkv", "out", "gate_up", "down"))
    cut = [k for k in shares if k.endswith(matrices)]
    for kind in (".params", ".ema", ".mu", ".nu"):
        assert len([k for k in cut if kind in k]) == 5, kind
    assert [k for k, share in shares.items() if share != (1 / fsdp if k in cut else 1)] == []


@pytest.mark.parametrize(
    ("meshes", "mesh"),
    [("one", "1x1"), pytest.param("several", "1x2", marks=[pytest.mark.soak, indivisible])],
)
def test_a_checkpoint_of_eight_devices_goes_on_with_one_and_with_two(meshes, mesh, look):
    found = look(meshes)
    rest = found["losses"]["4x2"][10:]
    assert len(rest) == 10
    np.testing.assert_allclose(found["resumed"][mesh], rest, rtol=2e-4)


@pytest.mark.soak
def test_the_held_out_figure_is_that_of_one_device(look):
    one, eight = look("several")["bounds"]
    np.testing.assert_allclose(eight, one, rtol=1e-5)


def test_what_is_left_goes_to_the_axis_of_zero(look):
    assert look("one")["left"] == [{"data": 4, "fsdp": 2}, {"data": 2, "fsdp": 4}]


def test_a_mesh_that_does_not_fit_is_one_line(look):
    *shapes, batch = look("one")["mistakes"]
    assert len(shapes) == 3 and all("does not fit 8 devices" in told for told in shapes)
    assert "4 micro-batches a step, which 8 devices cannot share" in batch
    with pytest.raises(ConfigError, match=r"config\.mesh=2,1 does not fit 1 devices"):
        devices.make_mesh(config(mesh=(2, 1)))


@pytest.mark.parametrize(("rows", "start"), [(23, 0), (23, 3), (3, 0)])
def test_processes_read_their_own_rows_and_together_all(rows, start):
    """Also where a tiny stage repeats its rows. A row is read by the process that trains on it alone."""
    read: list[list[int]] = []

    class Counted(RowSource):
        def __getitem__(self, index):
            read[-1].append(int(index))
            return super().__getitem__(index)

    segments = [[np.full(1 + i % 5, 2 + i, np.int32)] for i in range(rows)]
    data = StageData(Counted(segments, 8, {"pad": 0, "mask": 1, "eos": 1, "sep": 1}), 4)
    read.append([])
    whole = list(data.batches(start))
    parts = []
    for part in range(2):
        read.append([])
        parts.append(list(data.batches(start, part, 2)))
    assert len(whole) == len(parts[0]) == len(parts[1]) == data.num_steps - start
    for batch, first, second in zip(whole, *parts, strict=True):
        for name in batch:
            np.testing.assert_array_equal(batch[name], np.concatenate([first[name], second[name]]))
    assert [len(x) for x in read] == [4 * len(whole), 2 * len(whole), 2 * len(whole)]
    assert sorted(itertools.chain(*read[1:])) == sorted(read[0])


@pytest.mark.parametrize("text", ["here", "10.0.0.1,2,0", "10.0.0.1:9000,2,2", "10.0.0.1:9000,2"])
def test_processes_that_cannot_be_named_are_one_line(text):
    with pytest.raises(ProcessesError, match=r"neither auto nor host:port,processes,number"):
        connect(text)
