"""Pages that do anything in any order: the server stays well, and nothing is stuck."""

import socket

import pytest
from conftest import soak_count
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from toy_server import Client, Toy, serving, until, warm

from mdlm_jax.ui.server import Server

STATES = ["queued", "running", "stopped", "failed", "done"]


class Visitors(RuleBasedStateMachine):
    """Pages that come, ask for anything in any order, and go."""

    served: Server

    def __init__(self) -> None:
        super().__init__()
        self.clients: list[Client] = []
        self.states: dict[tuple, int] = {}
        self.at: dict[Client, list] = {}

    def pick(self, which: int) -> Client | None:
        return self.clients[which % len(self.clients)] if self.clients else None

    @rule()
    def comes(self) -> None:
        if len(self.clients) < 5:
            client = Client(self.served.gate.port)
            assert client.next()["type"] == "hello"
            self.clients.append(client)
            self.at[client] = [None, 0, False]

    @rule(which=st.integers(0, 4), length=st.sampled_from([4, 8, 40, 4000]), seed=st.integers(0, 3))
    def writes(self, which: int, length: int, seed: int) -> None:
        if client := self.pick(which):
            client.ask(type="write", options={"length": length, "seed": seed})

    @rule(
        which=st.integers(0, 4),
        back=st.integers(0, 4),
        step=st.integers(0, 9),
        a=st.integers(0, 9),
        width=st.integers(0, 3),
        length=st.sampled_from([0, 1, 2, 30]),
        token=st.sampled_from([None, None, 0, 3, 4, 99]),
    )
    def branches(self, which: int, back: int, step: int, a: int, width: int, length: int, token: int) -> None:
        if client := self.pick(which):
            edit = {"step": step, "start": a, "stop": a + width, "length": length, "token": token}
            client.ask(type="branch", of=max(0, self.newest() - back), options={}, **edit)

    @rule(which=st.integers(0, 4), back=st.sampled_from([*range(10), -10_000]))
    def stops(self, which: int, back: int) -> None:
        if client := self.pick(which):
            client.ask(type="stop", trajectory=max(0, self.newest() - back))

    @rule(which=st.integers(0, 4), back=st.sampled_from([*range(10), -10_000]), start=st.integers(0, 9))
    def follows(self, which: int, back: int, start: int) -> None:
        if client := self.pick(which):
            client.ask(type="follow", trajectory=max(0, self.newest() - back), start_from=start)

    @rule(which=st.integers(0, 4), text=st.text(max_size=30) | st.binary(max_size=30))
    def talks_nonsense(self, which: int, text: str | bytes) -> None:
        if client := self.pick(which):
            client.send(text)

    @rule(which=st.integers(0, 4), rudely=st.booleans())
    def goes(self, which: int, rudely: bool) -> None:
        if client := self.pick(which):
            self.clients.remove(client)
            client.sock.shutdown(socket.SHUT_RDWR) if rudely else client.close()

    def newest(self) -> int:
        return max(self.served.jobs.trajectories, default=0)

    @invariant()
    def what_pages_are_told_makes_sense(self) -> None:
        for client in self.clients:
            for told in client.pending():
                self.check(client, told)

    def check(self, client: Client, told: dict) -> None:
        assert told["type"] in ["trajectories", "following", "begun", "deltas", "snapshot", "ended", "error"]
        if told["type"] == "trajectories":
            for t in told["trajectories"]:
                assert ("position" in t) == (t["state"] == "queued")
                place = STATES.index(t["state"])
                assert self.states.get((client, t["id"]), 0) <= place
                self.states[client, t["id"]] = place
            running = [t for t in told["trajectories"] if t["state"] == "running"]
            assert len(running) <= 1
        if told["type"] == "following":
            self.at[client] = [told["trajectory"], None, False]
        if told["type"] in ("begun", "deltas", "snapshot", "ended"):
            number, at, ended = self.at[client]
            assert told["trajectory"] == number and not ended
            if told["type"] == "deltas":
                assert told["from"] == at or at is None
                self.at[client][1] = told["from"] + len(told["deltas"])
            elif told["type"] == "snapshot":
                self.at[client][1] = told["at"]
            elif told["type"] == "ended":
                assert at is None or told["calls"] == at
                self.at[client][2] = True

    def teardown(self) -> None:
        self.what_pages_are_told_makes_sense()
        last = Client(self.served.gate.port)
        for trajectory in list(self.served.jobs.trajectories):
            last.ask(type="stop", trajectory=trajectory)
        last.ask(type="write", options={"length": 4})
        number = last.next("following")["trajectory"]
        while (ended := last.next("ended"))["trajectory"] != number:
            pass
        assert ended["state"] == "done" and len(ended["text"]) == 4
        for client in (*self.clients, last):
            client.close()
        until(lambda: not self.served.jobs.viewers)


@pytest.fixture(scope="module")
def server():
    warm()
    with serving(Toy().engine) as server:
        yield server


def visit(server: Server, examples: int, steps: int) -> None:
    made = type("Visit", (Visitors,), {"served": server})
    run_state_machine_as_test(
        made, settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None)
    )


def test_pages_in_any_order(server, capfd):
    visit(server, 12, 25)
    assert capfd.readouterr().err == ""


@pytest.mark.soak
def test_pages_in_any_order_often(server, capfd):
    visit(server, soak_count(500), 50)
    assert capfd.readouterr().err == ""
