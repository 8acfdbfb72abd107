"""The application: routes, limits and the token, between clients and the engine."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from training.continuation import Continuation
from training.serving.answers import Answer, ChatAnswer
from training.serving.engine import FAILED, BusyError, Engine, Piece, StoppingError
from training.serving.protocol import ApiError, Asked, ChatAsked, CompletionAsked, parsed, rows_of, usage
from training.serving.served import Served

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

RETRY_SECONDS = 1  # a row of a small model is written in about that
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Limits:
    """What one request may ask for."""

    max_tokens: int = 4096
    max_prompts: int = 32  # prompts times choices
    max_bytes: int = 1_000_000


class Pieces:
    """What the engine writes for one request, brought into its event loop. Closing it cancels what is not complete."""

    def __init__(self, engine: Engine, rows: Sequence[Continuation]) -> None:
        self.engine, self.rows = engine, rows
        self.queue: asyncio.Queue[Piece] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def tell(piece: Piece) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self.queue.put_nowait, piece)

        engine.submit(rows, tell)

    async def __aiter__(self) -> AsyncIterator[tuple[int, Piece]]:
        indexes = {row: index for index, row in enumerate(self.rows)}
        began, left, silent = time.monotonic(), len(self.rows), True
        metrics = self.engine.metrics
        try:
            while left:
                piece = await self.queue.get()
                if piece.finish_reason in (FAILED, StoppingError.__name__):
                    raise _failure(piece.finish_reason)
                if silent:
                    silent = False
                    metrics.observe("first_token_seconds", time.monotonic() - began)
                left -= bool(piece.finish_reason)
                yield indexes[piece.row], piece
            metrics.observe("request_seconds", time.monotonic() - began)
        finally:
            self.engine.cancel(self.rows)


class Service:
    """The handlers of one server."""

    def __init__(self, served: Served, engine: Engine, limits: Limits, token: str = "") -> None:
        self.served, self.engine, self.limits, self.token = served, engine, limits, token

    async def completions(self, request: Request) -> Response:
        asked = parsed(CompletionAsked, await self._body(request))
        answer = Answer(
            self.served.name, self.served.fingerprint, self.served.generator.tokenizer.decode, bool(asked.echo)
        )
        return await self._answered(request, asked, asked.prompts(), answer)

    async def chat(self, request: Request) -> Response:
        asked = parsed(ChatAsked, await self._body(request))
        if self.served.template is None:
            raise ApiError(400, f"{self.served.name} has no chat template: it goes on from texts. Use /v1/completions.")
        try:
            prompt = self.served.template([message.plain() for message in asked.messages])
        except Exception as error:  # noqa: BLE001 - whatever the template raises, the messages are at fault
            raise ApiError(400, f"the chat template refuses these messages: {error}", param="messages") from None
        answer = ChatAnswer(self.served.name, self.served.fingerprint, self.served.generator.tokenizer.decode)
        return await self._answered(request, asked, [self.served.generator.encode(prompt)], answer)

    async def models(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        name = request.path_params.get("name")
        if name is None:
            return JSONResponse({"object": "list", "data": [self.served.described()]})
        self._known(name)
        return JSONResponse(self.served.described())

    async def health(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        del request
        alive = self.engine.is_alive
        told = {"status": "ok" if alive else "ended", "model": self.served.name, **self.engine.gauges()}
        return JSONResponse(told, 200 if alive else 503)

    async def metrics(self, request: Request) -> Response:
        from starlette.responses import PlainTextResponse

        del request
        text = self.engine.metrics.text(**self.engine.gauges())
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _answered(
        self, request: Request, asked: Asked, prompts: Sequence[str | list[int]], answer: Answer
    ) -> Response:
        from starlette.responses import JSONResponse, StreamingResponse

        if asked.model is not None:
            self._known(asked.model)
        most = min(self.limits.max_prompts, self.engine.max_rows + self.engine.max_waiting)
        if (number := len(prompts) * (asked.n or 1)) > most:
            raise ApiError(400, f"prompts times n is {number}; this server takes at most {most} of one request.")
        rows = rows_of(asked, prompts, self.served.generator, self.limits.max_tokens)
        pieces = self._begun(rows)
        if asked.stream:
            return StreamingResponse(_events(asked, pieces, answer), media_type="text/event-stream",
                                     headers={"Cache-Control": "no-cache"})  # fmt: skip
        await _unless_gone(request, _complete(pieces))
        return JSONResponse(answer.whole(rows, usage(rows, asked.n or 1)))

    def _begun(self, rows: list[Continuation]) -> Pieces:
        try:
            return Pieces(self.engine, rows)
        except BusyError as error:
            headers = {"Retry-After": str(RETRY_SECONDS)}
            raise ApiError(429, str(error), kind="rate_limit_error", code="queue_full", headers=headers) from None
        except StoppingError:
            raise _failure(StoppingError.__name__) from None

    def _known(self, name: str) -> None:
        if name != self.served.name:
            raise ApiError(404, f"The model `{name}` does not exist; there is `{self.served.name}`.", param="model",
                           code="model_not_found")  # fmt: skip

    async def _body(self, request: Request) -> bytes:
        """The body, which is said to be JSON: a form, which any page may post across sites, is not."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise ApiError(415, f"Content-Type is {kind or 'missing'}; expected application/json.")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self.limits.max_bytes:
                raise ApiError(413, f"the body is longer than {self.limits.max_bytes} bytes.")
        return bytes(body)

    def check(self, request: Request) -> None:
        """Who may ask: whoever has the token; without one, who calls us by a name of this machine.

        The name keeps a page out whose own name leads here (DNS rebinding).
        """
        if request.url.path == "/health":
            return
        if self.token:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            right = hmac.compare_digest(given.encode("latin-1"), self.token.encode())  # latin-1: the bytes as they came
            if scheme.lower() != "bearer" or not right:
                raise ApiError(401, "the token is missing or wrong: send `Authorization: Bearer …`.",
                               code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})  # fmt: skip
        elif (host := _name(request.headers.get("host", ""))) not in LOOPBACK_NAMES:
            raise ApiError(
                403, f"the host is called {host!r}; without a token only {', '.join(LOOPBACK_NAMES)} answer."
            )


def _name(host: str) -> str:
    """Of the host in a header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return host


def make_app(service: Service) -> Starlette:
    """The routes. Whatever goes wrong is told in OpenAI's shape."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.routing import Route

    def route(path: str, handler: Callable[[Request], Awaitable[Response]], method: str = "GET") -> Route:
        async def handle(request: Request) -> Response:
            try:
                service.check(request)
                response = await handler(request)
            except ApiError as error:
                response = _told(error)
            service.engine.metrics.count("requests_total", path=path, status=response.status_code)
            return response

        return Route(path, handle, methods=[method])

    async def elsewhere(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _told(ApiError(error.status_code, f"{request.method} {request.url.path}: {error.detail}."))

    async def failed(request: Request, error: Exception) -> Response:
        del request, error  # which is raised again behind this answer, into the log
        return _told(_failure(FAILED))

    routes = [
        route("/v1/completions", service.completions, "POST"),
        route("/v1/chat/completions", service.chat, "POST"),
        route("/v1/models", service.models),
        route("/v1/models/{name:path}", service.models),
        route("/health", service.health),
        route("/metrics", service.metrics),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: elsewhere, Exception: failed})


def _told(error: ApiError) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse(error.body, error.status, error.headers)


def _failure(reason: str) -> ApiError:
    if reason == FAILED:
        return ApiError(500, "the model could not go on; the server's log says why.", kind="server_error")
    headers = {"Retry-After": str(RETRY_SECONDS)}
    return ApiError(503, "the server is being stopped.", kind="server_error", headers=headers)


async def _complete(pieces: Pieces) -> None:
    async for _ in pieces:
        pass


async def _events(asked: Asked, pieces: Pieces, answer: Answer) -> AsyncIterator[str]:
    """Server-sent events: one a piece, the last one ``[DONE]``."""
    for index, row in enumerate(pieces.rows):
        if (chunk := answer.first(index, row)) is not None:
            yield _event(chunk)
    try:
        async for index, piece in pieces:
            if piece.text or piece.finish_reason or piece.ranks:
                yield _event(answer.chunk(index, piece))
    except ApiError as error:  # the status has been sent already
        yield _event(error.body)
        return
    if asked.with_usage:
        told = usage(pieces.rows, asked.n or 1)
        yield _event(answer.envelope(answer.chunk_object, [], usage=told))
    yield "data: [DONE]\n\n"


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


async def _unless_gone(request: Request, work: Awaitable[None]) -> None:
    """Wait for the work; end it where the client has gone."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        else:
            raise ApiError(499, "the client has gone.")
    finally:
        task.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
