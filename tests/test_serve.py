"""The live page's server: what it writes, who follows it, and that it stops when it is told to."""

import json
import re
import socket
import time

import pytest
import simple_websocket
from conftest import soak_count
from toy_server import Client, Toy, serving, until, warm
from toys import MASK

from mdlm_jax.ui.jobs import KEPT, VIEWERS, WAITING
from mdlm_jax.ui.protocol import LARGEST
from mdlm_jax.ui.server import UNREAD, Gate, Server
from mdlm_jax.ui.values import UserError

LONG = {"length": 40_000}  # more than is written while a test looks


@pytest.fixture(scope="module")
def toy() -> Toy:
    warm()
    return Toy()


@pytest.fixture(scope="module")
def server(toy):
    with serving(toy.engine) as server:
        yield server


@pytest.fixture
def client(server):
    client = Client(server.gate.port)
    client.hello = client.next("hello")
    yield client
    if client.connected:
        client.close()
    until(lambda: not server.jobs.viewers)
    until(lambda: all(t.ended for t in server.jobs.trajectories.values()))


def whole(client: Client) -> tuple[dict, list[dict], dict]:
    """A trajectory from its first message to its last, every delta in order."""
    begun, deltas = client.next("begun"), []
    while (told := client.next("deltas", "ended"))["type"] == "deltas":
        assert told["from"] == len(deltas)
        deltas += told["deltas"]
    return begun, deltas, told


def test_a_text_from_the_first_message_to_the_last(client):
    assert client.hello["version"] == 1 and client.hello["name"] == "toy"
    client.ask(type="write", options={"length": 12, "seed": 5})
    number = client.next("following")["trajectory"]
    begun, deltas, ended = whole(client)
    assert begun["trajectory"] == ended["trajectory"] == number
    assert begun["tokens"] == [MASK] * 12 and begun["given"] == [0] * 12 and begun["seed"] == 5
    tokens = begun["tokens"]
    for delta in deltas:
        for place, token in zip(delta["at"], delta["tokens"], strict=True):
            tokens[place] = token
    assert "".join("abcd"[token] for token in tokens) == ended["text"]
    assert ended["state"] == "done" and ended["calls"] == len(deltas) == 12
    client.ask(type="stop", trajectory=number)  # which has ended: nothing happens
    client.ask(type="write", options={})
    assert client.next("following")["trajectory"] > number
    states = [t["state"] for t in client.next("trajectories")["trajectories"] if t["id"] == number]
    assert states == ["done"]
    client.next("ended")
    client.ask(type="follow", trajectory=number, start_from=7)
    client.next("begun")
    assert client.next("deltas") == {
        "type": "deltas",
        "trajectory": number,
        "from": 7,
        "deltas": deltas[7:],
    }


def test_a_branch_is_that_of_its_parent_step_edit_and_seed(client):
    client.ask(type="write", options={"length": 12, "seed": 5})
    parent = client.next("following")["trajectory"]
    _, deltas, _ = whole(client)
    edit = {
        "of": parent,
        "step": 8,
        "start": 2,
        "stop": 4,
        "length": 5,
        "token": None,
        "options": {"seed": 9},
    }
    found = []
    for _ in range(2):
        client.ask(type="branch", **edit)
        found.append(whole(client))
    first, second = ([deltas, ended["text"]] for _, deltas, ended in found)
    assert first == second
    begun, _, ended = found[0]
    kept = [MASK] * 12
    for delta in deltas[:8]:
        for place, token in zip(delta["at"], delta["tokens"], strict=True):
            kept[place] = token
    assert begun["tokens"] == kept[:2] + [MASK] * 5 + kept[4:]
    assert (begun["parent"], begun["step"], begun["seed"]) == (parent, 8, 9)
    written = "".join("abcd"[t] if t != MASK else "." for t in begun["tokens"])
    assert re.fullmatch(written, ended["text"])
    child = begun["trajectory"]
    client.ask(type="branch", of=child, step=0, start=3, stop=4, length=0, token=1, options={})
    begun, deltas, ended = whole(client)
    assert begun["options"] == {} and begun["seed"] == 0  # nothing is its parent's
    assert begun["pinned"] == [3] and begun["tokens"][3] == 1 and begun["confidence"][3] == 1
    assert not [delta for delta in deltas if 3 in delta["at"]] and ended["text"][3] == "b"
    pinned = begun["trajectory"]
    # The model chooses how long what is written again shall be.
    client.ask(type="branch", of=pinned, step=0, start=6, stop=9, length=0, token=None, options={})
    places = len(begun["tokens"])
    assert len(client.next("begun")["tokens"]) == places - 3 + 1 + 6 % 5
    # What is pinned stays so where it has moved to.
    client.ask(type="branch", of=pinned, step=1, start=0, stop=0, length=2, token=None, options={})
    assert client.next("begun")["pinned"] == [5]


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"type": "write", "options": {"lenght": 3}}, "no option lenght"),
        ({"type": "stop", "trajectory": 10**6}, "no trajectory"),
        ({"type": "follow", "trajectory": 10**6, "from": 0}, "no trajectory"),
        ({"type": "nothing"}, "type must be one of"),
        ("not json", "not JSON"),
        (b"{}", "not bytes"),
    ],
)
def test_mistakes_are_one_line_and_harm_nobody(client, message, told):
    client.send(message if isinstance(message, str | bytes) else json.dumps(message))
    line = client.next("error")["message"]
    assert told in line and "\n" not in line
    client.ask(type="write", options={})
    assert client.next("ended")["state"] == "done"


def test_branches_of_what_is_not_there(client):
    client.ask(type="write", options={"length": 8})
    number = client.next("ended")["trajectory"]
    edit = {"of": number, "step": 8, "start": 0, "stop": 1, "length": 0, "token": None, "options": {}}
    for wrong in ({"step": 9}, {"of": 10**6}, {"stop": 9}, {"length": 65_536}, {"token": MASK}):
        client.ask(type="branch", **edit | wrong)
        client.next("error")
    client.ask(type="branch", **edit | {"options": {"most_copied": 3}})
    assert "most_copied is an option of a whole text" in client.next("error")["message"]
    client.ask(type="follow", trajectory=number, start_from=9)
    client.next("error")


def test_lengths_are_chosen_one_at_a_time_and_nobody_piles_up_messages_meanwhile(client, server, toy):
    client.ask(type="write", options={"length": 8})
    number = client.next("ended")["trajectory"]
    edit = {"of": number, "step": 8, "start": 0, "stop": 1, "length": 0, "token": None, "options": {}}
    others = [Client(server.gate.port) for _ in range(3)]
    toy.choosing.clear()
    toy.free.clear()
    try:
        for other in others:
            other.ask(type="branch", **edit)
        for _ in range(UNREAD + 2):
            others[0].ask(type="stop", trajectory=number)
        with pytest.raises(simple_websocket.ConnectionClosed) as closed:
            others[0].next("never")
        assert closed.value.reason == 1008
        until(lambda: toy.choosing)
        client.ask(type="write", options={})  # who asks for anything else is not held up
        client.next("ended")
    finally:
        toy.free.set()
    for other in others[1:]:
        assert other.next("ended")["state"] == "done"
        other.close()
    until(lambda: len(toy.choosing) == 3)
    assert toy.choosing == [1, 1, 1]


def test_a_server_is_told_from_another(client, server, toy):
    again = Client(server.gate.port)
    assert again.next("hello")["server"] == client.hello["server"]
    again.close()
    with serving(toy.engine) as other:
        stranger = Client(other.gate.port)
        assert stranger.next("hello")["server"] != client.hello["server"]
        stranger.close()


def test_an_address_has_one_name():
    gate = Gate("2001:DB8:0::1", 8000)
    assert "[2001:db8::1]:8000" in gate.hosts and gate.address().startswith("http://[2001:db8::1]:8000/")
    for nowhere in ("0:0:0:0:0:0:0:0", "[::0]"):
        with pytest.raises(UserError, match="names no address"):
            Server(nowhere, 0)


def test_a_fault_of_the_engine_is_a_line_here_and_a_line_there(client, capfd):
    client.ask(type="write", options={"prompt": "boom"})
    ended = client.next("ended")
    assert ended["state"] == "failed" and "terminal says" in ended["message"]
    assert capfd.readouterr().err == "error: ZeroDivisionError: the toy's own fault\n"
    client.ask(type="write", options={})
    assert client.next("ended")["state"] == "done"


def test_the_queue_its_positions_and_what_is_forgotten(client, server):
    client.ask(type="write", options=LONG)
    client.next("deltas")
    running = max(server.jobs.trajectories)
    for _ in range(WAITING + 1):
        client.ask(type="write", options={})
    assert "waiting already" in client.next("error")["message"]
    told = [t for t in server.jobs.listed() if t["state"] == "queued"]
    assert [t["position"] for t in told] == [*range(1, WAITING + 1)]
    client.ask(type="stop", trajectory=told[2]["id"])
    until(lambda: len([t for t in server.jobs.listed() if "position" in t]) == WAITING - 1)
    assert "position" not in next(t for t in server.jobs.listed() if t["id"] == told[2]["id"])
    client.ask(type="stop", trajectory=running)
    until(lambda: all(t.ended for t in server.jobs.trajectories.values()))
    for _ in range(KEPT):
        client.ask(type="write", options={})
        client.next("ended")
    client.ask(type="follow", trajectory=min(server.jobs.trajectories), start_from=0)
    first = client.next("following")["trajectory"]
    watcher = Client(server.gate.port)
    for _ in range(3):
        watcher.ask(type="write", options={})
        watcher.next("ended")
    assert len(server.jobs.trajectories) == KEPT and first in server.jobs.trajectories
    watcher.close()


def stop_once(client: Client, server: Server, toy: Toy, seed: int) -> None:
    client.ask(type="write", options=LONG | {"seed": seed})
    number = client.next("following")["trajectory"]
    client.next("deltas")
    time.sleep(0.001 * (seed % 7))
    client.ask(type="stop", trajectory=number)
    ended = client.next("ended")
    assert ended["state"] == "stopped" and ended["calls"] == len(server.jobs.trajectories[number].deltas)
    assert toy.closed.wait(10)
    # The first frame is the empty document; at most one came after the stop, and was not told.
    assert toy.made <= 1 + ended["calls"] + 1
    assert [told for told in client.pending() if told["type"] == "deltas"] == []


def test_stop_halts_within_one_step(client, server, toy):
    for seed in range(12):
        stop_once(client, server, toy, seed)


@pytest.mark.soak
def test_stop_halts_within_one_step_every_time(client, server, toy):
    for seed in range(soak_count(200)):
        stop_once(client, server, toy, seed)


def test_the_last_to_go_stops_the_work_but_a_reload_does_not(client, server, toy):
    client.ask(type="write", options=LONG)
    number = client.next("following")["trajectory"]
    client.ask(type="write", options={})
    client.next("trajectories")
    client.close()
    again = Client(server.gate.port)
    assert number in [t["id"] for t in again.next("hello")["trajectories"]]
    time.sleep(2 * server.jobs.grace)
    running = server.jobs.trajectories[number]
    assert running.state == "running"
    again.ask(type="follow", trajectory=number, start_from=0)
    assert again.next("begun")["trajectory"] == number
    again.next("deltas", "snapshot")
    again.close()
    until(lambda: all(t.state == "stopped" for t in list(server.jobs.trajectories.values())[-2:]))
    assert toy.closed.wait(10) and toy.made <= len(running.deltas) + 2
    assert json.loads(running.ended)["message"] == "nobody was watching"


def test_a_large_message_closes_its_socket_and_no_other(client, server):
    for attempt in range(5):
        other = Client(server.gate.port)
        other.next("hello")
        other.send("x" * (LARGEST + 1 + attempt))
        with pytest.raises(simple_websocket.ConnectionClosed) as closed:
            other.next("never")
        assert closed.value.reason == 1009
    until(lambda: len(server.jobs.viewers) == 1)
    client.send(" " * LARGEST)
    assert client.next("error")["message"] == "the message is not JSON"


def test_there_is_a_last_seat(client, server):
    others = [Client(server.gate.port) for _ in range(VIEWERS - 1)]
    for other in others:
        other.next("hello")
    refused = Client(server.gate.port)
    assert "open already" in refused.next("error")["message"]
    with pytest.raises(simple_websocket.ConnectionClosed) as closed:
        refused.next("never")
    assert closed.value.reason == 1013
    client.ask(type="write", options={"length": 12})
    number = client.next("ended")["trajectory"]
    for other in others:
        other.ask(type="follow", trajectory=number, start_from=0)
    assert len({json.dumps(other.next("ended")) for other in others}) == 1
    for other in others:
        other.close()


def test_who_does_not_read_holds_nobody_up(client, server):
    stuck = socket.create_connection(("127.0.0.1", server.gate.port))
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    port = server.gate.port
    head = f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n"
    head += "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    stuck.sendall(f"{head}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
    assert stuck.recv(12) == b"HTTP/1.1 101"
    client.ask(type="write", options=LONG)
    number = client.next("following")["trajectory"]
    follow = json.dumps({"type": "follow", "trajectory": number, "from": 0}).encode()
    frame = bytes([0x81, 0x80 | len(follow), 0, 0, 0, 0]) + follow
    for _ in range(50):  # each asks for all of it again
        stuck.sendall(frame)
    for _ in range(20):
        client.next("deltas")
    client.ask(type="stop", trajectory=number)
    client.next("ended")
    stuck.close()
