"""The server: a socket, the engine behind it, and an orderly end."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from training.serving.app import Limits, Service, make_app
from training.serving.engine import Engine
from training.serving.served import Served

if TYPE_CHECKING:
    from uvicorn import Server

TOKEN = "STEMMA_SERVE_TOKEN"  # noqa: S105 - the name of the variable: a command line can be read by everyone
GRACE_SECONDS = 10


def check_host(host: str, token: str) -> None:
    """Only this machine may ask without a token.

    Raises:
        ValueError: if others could.
    """
    if not token and not is_loopback(host):
        raise ValueError(
            f"{host} can be reached from other machines, and there is no token: set {TOKEN} in the environment, "
            "or keep to 127.0.0.1."
        )


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(served: Served, host: str, port: int, *, limits: Limits, max_rows: int, max_waiting: int,
          ready: Callable[[str], None]) -> None:  # fmt: skip
    """Answer until SIGTERM or SIGINT; what is being written then is completed, within ten seconds.

    Port 0 takes a free one; ``ready`` is called with the address as soon as it can be reached.

    Raises:
        ValueError: if others could ask without a token.
        OSError: if the address is taken.
    """
    token = os.environ.get(TOKEN, "")
    check_host(host, token)
    bound = listening(host, port)
    engine = Engine(served.generator, max_rows=max_rows, max_waiting=max_waiting)
    server = _server(Service(served, engine, limits, token), engine)
    # uvicorn raises its signals again once it has ended in order; there is nothing left to do then
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    ready(_address(bound))
    try:
        server.run(sockets=[bound])
    finally:
        engine.stop()
        engine.join(GRACE_SECONDS)


def _server(service: Service, engine: Engine) -> Server:
    from uvicorn import Config, Server

    class Ending(Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            engine.stop()  # before it waits for the open requests: those in the queue would be long
            await super().shutdown(sockets)

    config = Config(make_app(service), log_level="warning", access_log=False, server_header=False, lifespan="off",
                    timeout_graceful_shutdown=GRACE_SECONDS)  # fmt: skip
    return Ending(config)


def listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise OSError(
            f"cannot listen at {host} port {port}: {error.strerror or error}; --port 0 takes a free one."
        ) from None


def _address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
