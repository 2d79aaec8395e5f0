"""The live page's web server: three kinds of address, one WebSocket, and who may use them.

A page of another site can make a browser send requests here, and its name can be made to mean this machine:
therefore every request must name this server as its Host, and come from its own page if it says from where.
Whoever else can reach the machine is kept out by a token, which turns into a cookie of one browser.
"""

import contextlib
import hmac
import ipaddress
import os
import secrets
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import simple_websocket
from flask import Flask, Response, redirect, request
from werkzeug.exceptions import HTTPException
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from mdlm_jax.ui import protocol
from mdlm_jax.ui.jobs import VIEWERS, Engine, Jobs, Viewer
from mdlm_jax.ui.trajectory import plain
from mdlm_jax.ui.values import UserError

PAGE = Path(__file__).parent / "page"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
PATIENCE = 5.0  # seconds that a client may leave a message unread
PAUSE = 0.01  # seconds between steps to a viewer: what is written meanwhile comes together
LINGER = 0.5  # seconds in which the peer of a closed socket may read the reason
PING = 20.0  # seconds between pings; a peer that answers none of two is gone
UNREAD = 64  # messages of one client that may wait for an answer


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _named(host: str) -> str:
    """The host as browsers write it."""
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(host))
    return host.lower()


class Gate:
    """Who may come in: by the name that they call this server, by where they come from, and by a cookie."""

    def __init__(self, host: str, port: int):
        host = _named(host)
        self.host, self.port = host, port
        names = {"localhost", "127.0.0.1", "[::1]", f"[{host}]" if ":" in host else host}
        self.hosts = {f"{name}:{port}" for name in names} | (names if port == 80 else set())
        self.cookie = f"mdlm_jax_{port}"  # cookies are shared by all ports of a host
        self.secret = None if is_loopback(host) else secrets.token_urlsafe(32)
        self._token = self.secret and secrets.token_urlsafe(32)
        self._lock = threading.Lock()

    def address(self) -> str:
        """Where the page is, with the token that the first visitor uses up."""
        told = f"http://[{self.host}]" if ":" in self.host else f"http://{self.host}"
        return f"{told}:{self.port}/" + (f"?token={self._token}" if self._token else "")

    def refusal(self, environ: dict[str, Any]) -> str:
        """Why a request is turned away, whoever sent it; nothing where it is not."""
        host, origin = environ.get("HTTP_HOST", "").lower(), environ.get("HTTP_ORIGIN")
        if host not in self.hosts:
            return "this server has another name; use the address that it printed"
        if origin is not None and origin.lower() != f"http://{host}":
            return "requests of other sites are not answered"
        if origin is None and "HTTP_UPGRADE" in environ:
            return "a WebSocket must say which page it belongs to"
        return ""

    def known(self, cookie: str | None) -> bool:
        """Whether the browser has been let in."""
        return self.secret is None or _same(cookie, self.secret)

    def exchange(self, token: str | None) -> bool:
        """Uses up the token; False where it is another."""
        with self._lock:
            if not self._token or not _same(token, self._token):
                return False
            self._token = None
            return True


def _same(given: str | None, secret: str) -> bool:
    return hmac.compare_digest((given or "").encode("utf-8", "replace"), secret.encode())


def _fault(error: BaseException) -> None:
    print(f"error: {plain(f'{type(error).__name__}: {error}')}", file=sys.stderr, flush=True)


def _told(text: str, status: int) -> Response:
    return Response(f"{text}\n", status, content_type="text/plain; charset=utf-8")


class _Hijacked(Response):
    """The answer of a request whose connection a WebSocket has used: there is nothing left to send."""

    def __call__(self, *_: Any) -> Any:
        raise ConnectionAbortedError


def make_app(jobs: Jobs, gate: Gate) -> Flask:
    """The WSGI application."""
    app = Flask(__name__, static_folder=None)
    app.url_map.redirect_defaults = app.url_map.merge_slashes = False
    files = {
        path.name: (path.read_bytes(), KINDS[path.suffix]) for path in PAGE.iterdir() if path.suffix in KINDS
    }

    @app.before_request
    def guard() -> Response | None:
        if refused := gate.refusal(request.environ):
            return _told(refused, 403)
        if request.method not in ("GET", "HEAD"):
            return _told("only GET and HEAD are answered", 405)
        if gate.known(request.cookies.get(gate.cookie)):
            return None
        if request.method == "GET" and request.path == "/" and gate.exchange(request.args.get("token")):
            answer = redirect("/", 303)
            answer.set_cookie(gate.cookie, str(gate.secret), httponly=True, samesite="Strict", path="/")
            return answer  # type: ignore[return-value]
        return _told("open the address that the server printed; if you just did, reload this page", 403)

    @app.after_request
    def headers(answer: Response) -> Response:
        answer.headers.update(HEADERS)
        return answer

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return _told(error.name, error.code or 500)
        _fault(error)
        return _told("something went wrong; the server's terminal says what", 500)

    def send(name: str) -> Response:
        if name not in files:
            return _told("Not Found", 404)
        return Response(files[name][0], content_type=files[name][1])

    @app.get("/", provide_automatic_options=False)
    def index() -> Response:
        return send("index.html")

    @app.get("/static/<name>", provide_automatic_options=False)
    def static(name: str) -> Response:
        return send("" if name.endswith(".html") else name)

    @app.get("/ws", provide_automatic_options=False, websocket=True)
    def watch() -> Response:
        if request.method != "GET":
            return _told("this address is for a WebSocket", 400)
        _serve_socket(jobs, request.environ)
        return _Hijacked()

    return app


class _Pipe:
    """A socket on which each send is whole, and whoever does not read for long is cut off."""

    def __init__(self, sock: socket.socket):
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock, self._lock = sock, threading.Lock()
        self.recv, self.fileno = sock.recv, sock.fileno

    def send(self, data: bytes) -> int:
        with self._lock:
            try:
                self._sock.sendall(data)
            except OSError:
                self.cut()
                raise
        return len(data)

    def close(self) -> None:
        """Ends the connection, after what the peer still sends: else it might not read why."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
            self._sock.settimeout(LINGER)
            until = time.monotonic() + LINGER
            while time.monotonic() < until and self._sock.recv(65_536):
                pass
        self._sock.close()

    def cut(self) -> None:
        """Ends the connection now, for the thread that reads it too."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)


class _Socket(simple_websocket.Server):
    """The library's, which by itself keeps any number of messages while one is being answered."""

    def _handle_events(self) -> bool:
        going = super()._handle_events()
        if self.connected and len(self.input_buffer) > UNREAD:  # faster than anybody types
            self.input_buffer.clear()
            self.close(1008)
            self.event.set()
            return False
        return going


GONE = (OSError, simple_websocket.ConnectionClosed, simple_websocket.ConnectionError, LocalProtocolError)


def _serve_socket(jobs: Jobs, environ: dict[str, Any]) -> None:
    pipe = _Pipe(environ["werkzeug.socket"])
    # Without its extensions: compressing costs every viewer's every message more than loopback does.
    plainly = {k: v for k, v in environ.items() if k != "HTTP_SEC_WEBSOCKET_EXTENSIONS"}
    try:
        ws = _Socket.accept(
            plainly | {"werkzeug.socket": pipe}, ping_interval=PING, max_message_size=protocol.LARGEST
        )
    except (*GONE, RemoteProtocolError):
        pipe.cut()
        return
    viewer = Viewer()
    try:
        with contextlib.suppress(*GONE):
            if not jobs.join(viewer):
                ws.send(f'{{"type":"error","message":"{VIEWERS} pages are open already; close one of them"}}')
                ws.close(1013)
                return
            sender = threading.Thread(target=_deliver, args=(jobs, viewer, ws, pipe), daemon=True)
            sender.start()
            while ws.thread.is_alive():
                # The library may forget to say that a message was too large: hence the time.
                if (text := ws.receive(timeout=1.0)) is not None:
                    _answer(jobs, viewer, text)
    except Exception as error:
        _fault(error)
    finally:
        jobs.leave(viewer)
        if not ws.connected:
            ws.thread.join(2 * LINGER)
        pipe.cut()


def _answer(jobs: Jobs, viewer: Viewer, text: str | bytes) -> None:
    try:
        jobs.take(viewer, protocol.parse(text))
    except UserError as error:
        jobs.answer(viewer, {"type": "error", "message": plain(error)})
    except Exception as error:
        _fault(error)
        told = "something went wrong; the server's terminal says what"
        jobs.answer(viewer, {"type": "error", "message": told})


def _deliver(jobs: Jobs, viewer: Viewer, ws: simple_websocket.Server, pipe: _Pipe) -> None:
    try:
        while messages := jobs.messages(viewer):
            for message in messages:
                ws.send(message)
            if viewer.reader and viewer.reader.at:  # never before a first step
                time.sleep(PAUSE)
    except GONE:
        pass
    except Exception as error:
        _fault(error)
    if ws.connected:  # else it is being closed, with a reason
        pipe.cut()


class _Handler(WSGIRequestHandler):
    """Requests without a log, without the server's version, and not for ever."""

    timeout = 10
    error_message_format = "%(code)d %(message)s\n"
    error_content_type = "text/plain; charset=utf-8"

    def version_string(self) -> str:
        return "mdlm_jax"

    def log(self, type: str, message: str, *args: Any) -> None:
        if type == "error" and "Traceback" in message:
            print(f"error: {plain(message.strip().splitlines()[-1])}", file=sys.stderr, flush=True)


class Server:
    """A bound port; `start` it with an engine, which may take a while to load."""

    def __init__(self, host: str, port: int):
        """Raises UserError where the address cannot be had; port 0 is any that is free."""
        host = _named(host.removeprefix("[").removesuffix("]"))
        if host in ("0.0.0.0", "::", ""):
            told = "names no address; give the one that others will type, such as this machine's name"
            raise UserError(f"--host {host or repr(host)} {told}")
        if not 0 <= port < 65_536:
            raise UserError(f"--port must be 0 to 65535, not {port}")
        try:
            [(family, _, _, _, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            self._socket = socket.create_server(address[:2], family=family)
        except (OSError, UnicodeError) as error:
            number = getattr(error, "errno", None) or 0
            why = os.strerror(number) if number > 0 else getattr(error, "strerror", None) or error
            raise UserError(
                f"cannot listen at {host}, port {port}: {why}; try another --port or --host"
            ) from None
        self.gate = Gate(host, self._socket.getsockname()[1])
        self._asked = threading.Event()

    def start(self, engine: Engine, grace: float | None = None) -> Jobs:
        """Builds the server around an engine; `run` serves."""
        self.jobs = Jobs(engine, *([] if grace is None else [grace]))
        host, port, *_ = self._socket.getsockname()
        app, fd = make_app(self.jobs, self.gate), self._socket.fileno()
        self.http: BaseWSGIServer = make_server(
            host, port, app, threaded=True, request_handler=_Handler, fd=fd
        )
        self._socket.close()
        return self.jobs

    def run(self) -> None:
        """Serves until `stop`, or a Ctrl-C (KeyboardInterrupt)."""
        self.http.serve_forever(poll_interval=0.1)
        if not self._asked.is_set():  # werkzeug keeps the Ctrl-C for itself
            self.jobs.close()
            raise KeyboardInterrupt

    def stop(self) -> None:
        """Ends `run` in another thread, and all that is written, the step that is under way included."""
        self._asked.set()
        self.http.shutdown()
        self.jobs.close(60.0)
