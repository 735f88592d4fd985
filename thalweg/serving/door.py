"""The model server's door: the Open Inference Protocol, version 2, over HTTP, with JSON tensors.

The protocol: github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from importlib.metadata import version as version_of
from typing import Annotated, Any, Final

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from thalweg.conf.bearer_keys import KeyNeededError, NoSuchKeyError
from thalweg.serving.callers import ModelCallers
from thalweg.serving.metrics import ShownFigures
from thalweg.serving.model_server import ModelServer, NothingServesError, TooBusyError, WrongVersionError
from thalweg.serving.tensors import InferRequest, TensorError
from thalweg.serving.version_trial import MOST_ID

BODY_S: Final = 20.0
"""A request that comes in drops is not waited for any longer."""
AGAIN_S: Final = 1
BODIES: Final = 8
"""Bodies of all requests together, in largest ones: what is read beside what waits must not fill the memory."""
LOAD_HEADER: Final = "Thalweg-In-Flight"
"""Requests under way when this one had been answered: by it, callers choose among servers."""
_REQUEST: Final = msgspec.json.Decoder(InferRequest)

_Handler = Callable[[Request], Awaitable[Response]]


class BodyTooLargeError(Exception):
    """A request is larger than allowed."""


class TooSlowError(Exception):
    """A request's body did not come in time."""


class ToldTruth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What became known of an answer."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_ID)]
    """Of the request, as it came back with the answer."""
    correct: bool


class ModelDoor:
    """The routes, and what they share."""

    def __init__(self, server: ModelServer, workers: Executor, *, most_body_bytes: int, callers: ModelCallers) -> None:
        """Put it together.

        Args:
            server: what answers.
            workers: threads that compute.
            most_body_bytes: largest request that is read.
            callers: who may ask.
        """
        self._server, self._workers, self._most = server, workers, most_body_bytes
        self._callers = callers
        self._shown = ShownFigures(server.name)
        self._held = 0
        """Bytes of bodies."""

    def app(self) -> Starlette:
        """Make the application."""
        named, told = self._named, self._told_to
        routes: Mapping[str, tuple[_Handler, str]] = {
            "/v2": (told(self._about), "GET"),
            # Who watches over a server has no key.
            "/v2/health/live": (self._live, "GET"),
            "/v2/health/ready": (self._ready, "GET"),
            "/v2/models/{name}": (told(named(self._model)), "GET"),
            "/v2/models/{name}/versions/{version}": (told(named(self._model)), "GET"),
            "/v2/models/{name}/ready": (told(named(self._ready)), "GET"),
            "/v2/models/{name}/versions/{version}/ready": (told(named(self._ready)), "GET"),
            "/v2/models/{name}/infer": (told(named(self._infer)), "POST"),
            "/v2/models/{name}/versions/{version}/infer": (told(named(self._infer)), "POST"),
            "/v2/models/{name}/outcome": (told(named(self._outcome)), "POST"),
            "/v2/models/{name}/figures": (told(named(self._figures)), "GET"),
            "/metrics": (told(self._metrics), "GET"),
        }
        return Starlette(
            routes=[Route(path, do, methods=[method]) for path, (do, method) in routes.items()],
            exception_handlers={HTTPException: _no_such_path},
        )

    # What is told

    async def _about(self, _: Request) -> Response:
        return _json({"name": "thalweg", "version": version_of("thalweg"), "extensions": []})

    async def _live(self, _: Request) -> Response:
        return _json({"live": True})

    async def _ready(self, request: Request) -> Response:
        serving = self._server.serving
        ready = serving is not None and not self._server.leaving
        if serving is not None and "version" in request.path_params:
            ready = ready and request.path_params["version"] == str(serving.version.version)
        return _json({"ready": ready}, 200 if ready else 503)

    async def _model(self, request: Request) -> Response:
        serving = self._server.serving
        if serving is None:
            return _wrong(503, f"no version of {self._server.name} serves yet")
        asked, number = request.path_params.get("version"), str(serving.version.version)
        if asked not in (None, number):
            return _wrong(404, f"version {asked} is asked for; version {number} serves")
        return _json(
            {
                "name": self._server.name,
                "versions": [number],
                "platform": "onnx_onnxruntime",
                "inputs": serving.inputs,
                "outputs": serving.outputs,
                "parameters": {"sha256": serving.version.sha256},
            }
        )

    async def _figures(self, _: Request) -> Response:
        return _json(self._server.told())

    async def _metrics(self, _: Request) -> Response:
        shown = self._shown.of(
            self._server.told(), trouble=bool(self._server.trouble or self._server.candidate_trouble)
        )
        return Response(shown, media_type=CONTENT_TYPE_LATEST)

    # Requests

    async def _infer(self, request: Request) -> Response:
        server = self._server
        try:
            number = _number(request.path_params.get("version"))
            async with self._body(request) as body:
                began = server.timer()
                # Counted here, not where it is computed: those that wait for a thread are the queue.
                with server.admitted():
                    loop = asyncio.get_running_loop()
                    answer = await loop.run_in_executor(
                        self._workers, lambda: server.answer(_REQUEST.decode(body), number, began)
                    )
        except (TensorError, msgspec.MsgspecError, ValueError, RecursionError) as error:
            return _wrong(400, f"not a request that can be answered: {error}")
        except BodyTooLargeError as error:
            return _wrong(413, str(error))
        except WrongVersionError as error:
            return _wrong(404, str(error))
        except TimeoutError:
            return _wrong(408, f"the request did not come within {BODY_S:g} s")
        except (NothingServesError, TooBusyError) as error:
            return _wrong(503, str(error), {"Retry-After": str(AGAIN_S)})
        except ClientDisconnect:
            return _wrong(400, "the caller has gone")
        self._shown.answers.observe(server.timer() - began)
        return Response(answer, media_type="application/json", headers={LOAD_HEADER: str(server.figures.in_flight)})

    async def _outcome(self, request: Request) -> Response:
        try:
            async with self._body(request) as body:
                found = msgspec.json.decode(body, type=ToldTruth)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            return _wrong(400, f"not an outcome: {error}; wanted are id and correct")
        except BodyTooLargeError as error:
            return _wrong(413, str(error))
        except TimeoutError:
            return _wrong(408, f"the outcome did not come within {BODY_S:g} s")
        except TooBusyError as error:
            return _wrong(503, str(error), {"Retry-After": str(AGAIN_S)})
        except ClientDisconnect:
            return _wrong(400, "the caller has gone")
        if not self._server.judged(found.id, correct=found.correct):
            return _wrong(404, f"request {found.id!r} is not one that a version on trial has answered lately")
        return _json({"id": found.id})

    @asynccontextmanager
    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        """Read a body, and hold its place in what all bodies may take until the block ends."""
        said = request.headers.get("content-length", "")
        if said.isdecimal() and int(said) > self._most:
            raise BodyTooLargeError(f"{int(said):,} bytes; allowed are {self._most:,}")
        parts, size = [], 0
        try:
            async with asyncio.timeout(BODY_S):
                async for part in request.stream():
                    size += len(part)
                    self._held += len(part)
                    if size > self._most:
                        raise BodyTooLargeError(f"more than {self._most:,} bytes; allowed are no more")
                    if self._held > BODIES * self._most:
                        self._server.turned_away()
                        raise TooBusyError(f"requests of {BODIES * self._most:,} bytes are here; allowed are no more")
                    parts.append(part)
            yield b"".join(parts)
        finally:
            self._held -= size

    def _told_to(self, do: _Handler) -> _Handler:
        """Let in whoever may ask."""

        async def answer(request: Request) -> Response:
            try:
                self._callers.check(request.headers.get("authorization"))
            except (NoSuchKeyError, KeyNeededError) as error:
                return _wrong(401, str(error), {"WWW-Authenticate": "Bearer"})
            return await do(request)

        return answer

    def _named(self, do: _Handler) -> _Handler:
        async def answer(request: Request) -> Response:
            name = request.path_params["name"]
            if name != self._server.name:
                return _wrong(404, f"model {name!r} is not served here; {self._server.name!r} is")
            return await do(request)

        return answer


def _number(version: str | None) -> int | None:
    if version is None:
        return None
    if not version.isdecimal() or len(version) > 18:
        raise TensorError(f"version {version!r}: allowed are whole numbers")
    return int(version)


def _json(content: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def _wrong(status: int, words: str, headers: Mapping[str, str] | None = None) -> Response:
    content = msgspec.json.encode({"error": words})
    return Response(content, status, headers, media_type="application/json")


async def _no_such_path(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    words = "no such path: allowed are /v2 and what the Open Inference Protocol has below it"
    return _wrong(status, words if status == 404 else "the path does not take this method")
