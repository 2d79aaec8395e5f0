"""Who may use the live page's server: nothing is answered that should not be."""

import concurrent.futures
import itertools
import re
import socket

import pytest
from toy_server import Client, Toy, serving

from mdlm_jax.ui.server import PAGE, Gate, Server
from mdlm_jax.ui.values import UserError

KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
TRANSPORTS = ("page", "file", "socket")
FILE = next(iter(sorted(p.name for p in PAGE.iterdir() if p.suffix in (".js", ".css"))), "none.js")
TARGETS = {"page": "/", "file": f"/static/{FILE}", "socket": "/ws"}


def talk(port: int, request: bytes, at: str = "127.0.0.1") -> bytes:
    """What a raw request is answered with, up to the end of a page or of a WebSocket's handshake."""
    with socket.create_connection((at, port), timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.startswith(b"HTTP/1.1 101"):
            part = connection.recv(65_536)
            if not part:
                break
            answer += part
        return answer


def request(
    port: int, host: str | None, origin: str | None = None, cookie: str | None = None,
    method: str = "GET", transport: str = "page", target: str | None = None,
    at: str = "127.0.0.1",
) -> bytes:  # fmt: skip
    lines = [f"{method} {target or TARGETS[transport]} HTTP/1.1"]
    lines += [f"Host: {line}" for line in (host.split("&") if host is not None else [])]
    lines += [f"Origin: {line}" for line in (origin.split("&") if origin is not None else [])]
    lines += [f"Cookie: {cookie}"] if cookie is not None else []
    upgrade = f"Upgrade: websocket\r\nConnection: Upgrade\r\n{KEY}" * (transport == "socket")
    return talk(port, "\r\n".join([*lines, upgrade, ""]).encode("latin-1"), at)


def status(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer
    assert b"Traceback" not in answer
    return int(answer[9:12])


def all_of(port: int, cases: list[tuple]) -> list[int]:
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda case: status(request(port, *case)), cases))


def wanted(case: tuple, hosts: set[str], cookie: str | None) -> int:
    """The status that a case must have, told from the rules alone."""
    host, origin, sent, method, transport = case
    if host not in hosts or origin not in (None, f"http://{host}"):
        return 403
    if transport == "socket" and origin is None:
        return 403
    if method not in ("GET", "HEAD"):
        return 405
    if cookie is not None and sent != cookie:
        return 403
    if transport == "socket":
        return 101 if method == "GET" else 400
    return 200 if transport == "page" or (PAGE / FILE).exists() else 404


METHODS = ("GET", "HEAD", "POST", "OPTIONS", "DELETE", "TRACE")


@pytest.fixture(scope="module")
def served():
    with serving(Toy().engine) as server:
        yield server


def test_hosts_origins_methods_and_transports_on_loopback(served):
    port = served.gate.port
    good = {f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"}
    bad = [None, "", "localhost", f"localhost:{port + 1}", f"evil.example:{port}", f"127.0.0.1.:{port}"]
    bad += [f"localhost:{port}@evil.example", f"127.0.0.2:{port}", f"localhost:{port}&evil.example"]
    origins = [None, "null", "http://evil.example", f"https://localhost:{port}", "file://"]
    origins += [f"http://{host}" for host in sorted(good)] + [
        "http://localhost",
        f"http://localhost:{port}&x",
    ]
    cases = [*itertools.product([*sorted(good), *bad], origins, [None], METHODS[:3], TRANSPORTS)]
    assert len(cases) >= 900
    found = all_of(port, cases)
    faults = [(c, f) for c, f in zip(cases, found, strict=True) if f != wanted(c, good, None)]
    assert not faults and {101, 200, 403, 405} <= set(found)


def test_hosts_origins_tokens_methods_and_transports_elsewhere():
    with serving(Toy().engine, "192.0.2.7") as server:
        port, gate = server.gate.port, server.gate
        address = gate.address()
        token = re.fullmatch(rf"http://192\.0\.2\.7:{port}/\?token=([\w-]{{43}})", address)[1]
        here = f"192.0.2.7:{port}"
        for wrong in ("", token[:-1], token + "a", token.swapcase(), "%FF%00", "é"):
            assert status(request(port, here, target=f"/?token={wrong}")) == 403
        for target in ("/static/x.js", "/ws", "/x"):  # the token is for the page alone
            assert status(request(port, here, target=f"{target}?token={token}")) == 403
        assert status(request(port, here, method="HEAD", target=f"/?token={token}")) == 403
        assert status(request(port, "evil.example", target=f"/?token={token}")) == 403
        answer = request(port, here, target=f"/?token={token}").decode()
        assert status(answer.encode()) == 303 and re.search(r"\r\nLocation: /\r\n", answer)
        assert token not in answer
        name, secret, attributes = re.search(r"\r\nSet-Cookie: (\w+)=([\w-]{43}); (.*)\r\n", answer).groups()
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(attributes.split("; "))
        assert status(request(port, here, target=f"/?token={token}")) == 403  # it is used up
        cookie, hosts = f"{name}={secret}", {here, f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"}
        cookies = [None, cookie, f"{name}={secret[:-1]}", f"{name}=", f"other={secret}", f"{name}={token}"]
        cookies += [f"{name}=\xe9\xff", f"x={cookie[:-1]}"]
        names = [here, f"localhost:{port}", f"192.0.2.8:{port}", f"evil.example:{port}"]
        origins = [None, f"http://{here}", "http://evil.example"]
        cases = [*itertools.product(names, origins, cookies, METHODS[:3], TRANSPORTS)]
        assert len(cases) >= 800
        found = all_of(port, cases)
        faults = [(c, f) for c, f in zip(cases, found, strict=True) if f != wanted(c, hosts, cookie)]
        assert not faults and {101, 200, 403, 405} <= set(found)


def test_one_visitor_alone_gets_the_cookie():
    gate = Gate("192.0.2.7", 80)
    token = gate.address().partition("=")[2]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(gate.exchange, [token] * 200)) == 1


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "127.0.0.2"])
def test_this_machine_needs_no_token(host: str):
    gate = Gate(host, 8000)
    assert "token" not in gate.address() and gate.known(None)


@pytest.mark.parametrize("method", METHODS)
def test_other_methods_and_addresses(served, method: str):
    host = f"localhost:{served.gate.port}"
    for target in ("/nothing", "/static/", "/static/index.html", "/static/..%2fserver.py", "/ws/"):
        assert status(request(served.gate.port, host, method=method, target=target)) in (404, 405)
    for target in (
        "/static/../server.py",
        "/static/%2e%2e/server.py",
        "/..",
        "/%00",
        "/ws",
        f"http://{host}",
    ):
        answer = request(served.gate.port, host, method=method, target=target)
        assert status(answer) in ((400, 404, 200, 308) if method in ("GET", "HEAD") else (405,))
        assert b"import" not in answer
    assert status(request(served.gate.port, host, target=f"http://evil.example:{served.gate.port}/")) == 403


def test_every_answer_has_the_headers_and_none_a_version(served):
    port = served.gate.port
    host = f"localhost:{port}"
    for answer in (
        request(port, host),
        request(port, "evil.example"),
        request(port, host, method="POST"),
        request(port, host, target="/nothing"),
    ):
        head = answer.partition(b"\r\n\r\n")[0].decode()
        assert "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self';" in head
        assert "X-Content-Type-Options: nosniff" in head and "Referrer-Policy: no-referrer" in head
        assert "Cache-Control: no-store" in head and "erkzeug" not in head and "ython" not in head


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"<script>alert(1)</script> / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: \xff\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    ],
)
def test_broken_requests_get_a_line_at_most(served, raw: bytes, capfd):
    answer = talk(served.gate.port, raw)
    assert b"Traceback" not in answer and b"text/html" not in answer
    assert not answer.startswith(b"HTTP/1.1 2")
    assert capfd.readouterr().err == ""


def test_a_handshake_that_is_none(served, capfd):
    port = served.gate.port
    head = f"GET /ws HTTP/1.1\r\nHost: localhost:{port}\r\nOrigin: http://localhost:{port}\r\n"
    head += "Upgrade: websocket\r\nConnection: Upgrade\r\n"
    for rest in ("", "Sec-WebSocket-Version: 8\r\n", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n"):
        assert b"Traceback" not in talk(port, f"{head}{rest}\r\n".encode())
    assert capfd.readouterr().err == ""
    Client(port).close()


def test_ipv6():
    try:
        Server("[::1]", 0)._socket.close()
    except UserError:
        pytest.skip("this machine has no IPv6")
    with serving(Toy().engine, "::1", at="::1") as server:
        port = server.gate.port
        assert server.gate.address() == f"http://[::1]:{port}/"
        for host, transport, wanted in (
            (f"[::1]:{port}", "page", 200),
            (f"[::1]:{port}", "socket", 101),
            (f"[::2]:{port}", "page", 403),
            (f"::1:{port}", "page", 403),
        ):
            answer = request(port, host, f"http://{host}", transport=transport, at="::1")
            assert status(answer) == wanted


@pytest.mark.parametrize(
    ("host", "port", "told"),
    [
        ("0.0.0.0", 0, "names no address"),
        ("::", 0, "names no address"),
        ("192.0.2.1", 0, "cannot listen"),
        ("localhost", 70_000, "0 to 65535"),
        ("a" * 300, 0, "cannot listen"),
    ],
)
def test_addresses_that_cannot_be_had(host: str, port: int, told: str):
    with pytest.raises(UserError, match=told) as error:
        Server(host, port)
    assert "\n" not in str(error.value)


def test_a_port_that_is_taken(served):
    with pytest.raises(UserError, match=f"port {served.gate.port}: Address already in use; try another"):
        Server("127.0.0.1", served.gate.port)
