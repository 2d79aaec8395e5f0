"""Two real processes on loopback are one run, whoever of them is killed or asked to stop."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time

import pytest
from conftest import REPO, indivisible, launch_command, timeless

from mdlm_jax.ui import processes
from mdlm_jax.ui.metrics import read_lines


def free_address() -> str:
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_processes_meet_whatever_their_order_and_whoever_else_calls(capsys):
    address, met = free_address(), []
    host, _, port = address.partition(":")

    def come(index):
        processes.meet(address, 3, index, 30)
        met.append(index)

    threads = {i: threading.Thread(target=come, args=(i,)) for i in range(3)}
    for index in (1, 0):
        threads[index].start()
    for said in (b"GET / HTTP/1.1\r\n", b"mdlm 7\n", b"mdlm 1\n", b"mdlm 2\n", b""):
        for _ in range(100):  # until the first one listens
            with contextlib.suppress(ConnectionRefusedError):
                with socket.create_connection((host, int(port))) as stranger:
                    stranger.sendall(said)  # and goes, or never was one of ours
                break
            time.sleep(0.05)
    time.sleep(0.5)
    assert not met and "waiting for 1 more at 127.0.0.1:" in capsys.readouterr().err
    threads[2].start()
    for thread in threads.values():
        thread.join(30)
    assert sorted(met) == [0, 1, 2]


@pytest.mark.parametrize("index", [0, 1])
def test_who_waits_in_vain_ends_with_one_line(index, capsys):
    with pytest.raises(processes.Lost, match=r"did not come to 127\.0\.0\.1:\d+ in time") as caught:
        processes.meet(free_address(), 2, index, 0.3)
    assert caught.value.code == 69 and "\n" not in str(caught.value)
    assert "waiting for" in capsys.readouterr().err
    processes.meet("nowhere:1", 1, 0)  # alone


def test_an_address_that_is_taken_is_told():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(processes.ProcessesError, match=f"cannot wait at 127.0.0.1:{port} \\(.*in use"):
            processes.meet(f"127.0.0.1:{port}", 2, 0, 1)


def test_quiet_hides_the_output_of_the_process_alone(capfd):
    with processes.quiet():
        os.write(1, b"notice")
        os.write(2, b"error")
    os.write(1, b"mine")
    out, err = capfd.readouterr()
    assert (out, err) == ("mine", "error")


def test_a_signal_ends_who_waits_alone(child_env, tmp_path):
    command = launch_command(tmp_path / "run", *PLAN, "--distributed", f"{free_address()},2,0")
    with subprocess.Popen(command, cwd=REPO, env=child_env, stderr=subprocess.PIPE, text=True) as child:
        told = [line for line in iter(child.stderr.readline, "") if line.startswith("waiting") and not
                child.send_signal(signal.SIGINT)]  # fmt: skip
    assert child.returncode == 130 and len(told) == 1


PLAN = ["--config", "configs/three_stage.py:smoke", "--config.log_every=1", "--config.mesh=1,2"]
PLAN += [f"--config.stages[{i}].num_epochs={n}" for i, n in enumerate((1, 1, 2))]


class Pair:
    """Starts the two processes, again and again."""

    def __init__(self, workdir, data, env):
        self.workdir, self.outputs = workdir, [workdir.with_suffix(f".{i}") for i in range(2)]
        self._options, self._env = [*PLAN, "--data", str(data)], env

    def begin(self, *extra) -> None:
        address = free_address()
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
