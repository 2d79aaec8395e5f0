"""Two real processes on loopback are one run, whoever of them is killed or asked to stop."""

import contextlib
import json
import signal
import socket
import subprocess
import time

import pytest
from conftest import REPO, indivisible, launch_command, timeless

from mdlm_jax.ui.metrics import read_lines

PLAN = ["--config", "configs/three_stage.py:smoke", "--config.log_every=1", "--config.mesh=1,2"]
PLAN += [f"--config.stages[{i}].num_epochs={n}" for i, n in enumerate((1, 1, 2))]


class Pair:
    """Starts the two processes, again and again."""

    def __init__(self, workdir, data, env):
        self.workdir, self.outputs = workdir, [workdir.with_suffix(f".{i}") for i in range(2)]
        self._options, self._env = [*PLAN, "--data", str(data)], env

    def begin(self, *extra) -> None:
        with contextlib.closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.children = []
        for i, output in enumerate(self.outputs):
            options = [*self._options, "--distributed", f"{address},2,{i}", *(extra if i else ())]
            with open(output, "wb") as file:
                command = launch_command(self.workdir, *options)
                child = subprocess.Popen(command, cwd=REPO, env=self._env, stdout=file, stderr=file)
            self.children.append(child)

    def end(self, timeout=600) -> tuple[list[int], list[str]]:
        """Exit codes and last lines."""
        codes = [child.wait(timeout) for child in self.children]
        return codes, [(p.read_text(encoding="utf-8").splitlines() or [""])[-1] for p in self.outputs]

    def lines(self) -> list[dict]:
        with contextlib.suppress(FileNotFoundError):
            return list(read_lines(self.workdir / "metrics.jsonl"))
        return []

    def wait_for(self, stage, step) -> None:
        """Until the line of (stage, step) is there."""
        while not any((x["stage"], x["step"]) == (stage, step) for x in self.lines()):
            assert all(child.poll() is None for child in self.children), self.end()
            time.sleep(0.02)

    def close(self) -> None:
        for child in self.children:
            child.kill()
            child.wait()


@indivisible
@pytest.mark.soak
def test_a_pair_that_was_killed_and_stopped_ends_as_one_that_was_not(dataset_dir, light_env, tmp_path):
    whole = Pair(tmp_path / "whole", dataset_dir, light_env)
    whole.begin()
    codes, _ = whole.end()
    assert codes == [0, 0], [p.read_text() for p in whole.outputs]
    steps = max(line["step"] for line in whole.lines() if line["stage"] == 2)
    assert steps > 10

    pair = Pair(tmp_path / "run", dataset_dir, light_env)
    try:
        pair.begin()
        pair.wait_for(1, 2)
        pair.children[1].kill()
        codes, told = pair.end(120)
        assert codes == [69, -signal.SIGKILL], pair.outputs[0].read_text()
        assert told[0].startswith("error: another process of this run has ended")
        assert "Traceback" not in pair.outputs[0].read_text()

        pair.begin()
        pair.wait_for(2, 2)
        pair.children[0].kill()
        codes, _ = pair.end(120)
        assert codes[0] == -signal.SIGKILL and codes[1] in (
            69,
            -signal.SIGABRT,
        )  # jax itself may end it first

        pair.begin()
        pair.wait_for(2, 5)
        pair.children[1].terminate()
        codes, told = pair.end(120)
        assert codes == [75, 75] and all("SIGTERM: saved at step" in line for line in told), told

        pair.begin("--config.seed=5")
        codes, told = pair.end(120)
        assert codes[1] == 2 and "seed: the run has 0, you ask for 5" in told[1], told

        pair.begin()
        codes, _ = pair.end()
        assert codes == [0, 0], [p.read_text() for p in pair.outputs]
    finally:
        pair.close()
    assert timeless(pair.lines()) == timeless(whole.lines())
    reports = [json.loads((p.workdir / "report/report.json").read_text()) for p in (pair, whole)]
    assert reports[0] == reports[1]
