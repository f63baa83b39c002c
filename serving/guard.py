"""What every request meets first, before any framework reads it: size, type, token.

BentoML and Starlette choose a parser by the Content-Type. Here it is held against a short list
before they see it, so bodies that some of their versions would unpickle, or would take for an
address to fetch, never reach a parser.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse

from serving.metrics import metrics
from serving.refusal import Refusal
from serving.settings import ServeSettings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_TYPES = ("image/", "application/octet-stream", "multipart/form-data")
_OPEN = ("/", "/livez", "/readyz", "/healthz", "/metrics", "/openapi.json")
_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"content-security-policy": b"default-src 'self'; img-src 'self' blob: data:; "
    b"frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
}


class Guard:
    """ASGI middleware around the whole service.

    Args:
        app: what is guarded.
        max_bytes: largest body.
        body_timeout_s: how long a body may take.
        tokens: accepted bearer tokens; none opens the service to all.
    """

    def __init__(
        self, app: App, max_bytes: int, body_timeout_s: float, tokens: tuple[str, ...] = ()
    ) -> None:
        self.app, self.max_bytes, self.body_timeout_s = app, max_bytes, body_timeout_s
        self.tokens = tuple(token.encode() for token in tokens)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then hand on with a body that cannot grow beyond its limit."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return  # no websockets here: the server closes the connection
        try:
            scope["tudsr.owner"] = self._owner(scope)
            self._check_body(scope)
        except Refusal as refusal:
            metrics().refusals.labels(refusal.code).inc()
            answer = JSONResponse(refusal.body(), refusal.status, refusal.all_headers())
            return await answer(scope, receive, _telling(send, scope))
        return await self.app(scope, self._limited(receive), _telling(send, scope))

    def _owner(self, scope: Scope) -> str:
        """Who asks, as a hash of the token; compared in constant time, all tokens each time."""
        path = scope["path"]
        if not self.tokens or path in _OPEN or path.startswith("/page/"):
            return ""
        if scope["method"] == "OPTIONS":
            return ""
        kind, _, given = _header(scope, b"authorization").partition(b" ")
        known = [hmac.compare_digest(given.strip(), token) for token in self.tokens]
        if kind.lower() != b"bearer" or not any(known):
            raise Refusal(
                "unauthorised",
                "a bearer token is needed: send the header Authorization: Bearer TOKEN",
                headers={"WWW-Authenticate": 'Bearer realm="tudsr"'},
            )
        return hashlib.sha256(given.strip()).hexdigest()[:16]

    def _check_body(self, scope: Scope) -> None:
        length = _header(scope, b"content-length")
        if length.isdigit() and int(length) > self.max_bytes:
            raise self._too_large()
        chunked = bool(_header(scope, b"transfer-encoding"))
        if not chunked and length in (b"", b"0"):
            return
        kind = _header(scope, b"content-type").decode("latin-1").strip().lower()
        if kind and not kind.startswith(_TYPES):
            raise Refusal(
                "unsupported_type",
                f"the body is {kind[:60]}: send image/*, application/octet-stream, or "
                "multipart/form-data with the file in the field image",
            )

    def _limited(self, receive: Receive) -> Receive:
        """``receive`` that raises once the body is too large or too slow."""
        taken, end, over = 0, time.monotonic() + self.body_timeout_s, False

        async def limited() -> Message:
            nonlocal taken, over
            message = await (receive() if over else _in_time(receive, end - time.monotonic()))
            taken += len(message.get("body", b""))
            over = over or not message.get("more_body", False)
            if taken > self.max_bytes:
                raise self._too_large()
            return message

        return limited

    def _too_large(self) -> Refusal:
        return Refusal(
            "too_large", f"the upload is over {self.max_bytes:,} bytes: send a smaller picture"
        )


async def _in_time(receive: Receive, seconds: float) -> Message:
    try:
        return await asyncio.wait_for(receive(), max(0.001, seconds))
    except TimeoutError:
        raise Refusal(
            "body_timeout", "the body took too long to arrive: send it faster or make it smaller"
        ) from None


def around(settings: ServeSettings) -> list[tuple[type[Any], dict[str, Any]]]:
    """Middleware for the service, outermost first, with its options.

    CORS is outside: a page of an allowed origin is to read what the guard refuses, too.
    """
    guard: dict[str, Any] = {
        "max_bytes": settings.max_upload_bytes,
        "body_timeout_s": settings.body_timeout_s,
        "tokens": settings.all_tokens(),
    }
    cors: dict[str, Any] = {
        "allow_origins": list(settings.cors_origins),
        "allow_methods": ["GET", "POST", "DELETE"],
        "allow_headers": ["Authorization", "Content-Type"],
        "expose_headers": ["*"],
    }
    return [(CORSMiddleware, cors)] * bool(settings.cors_origins) + [(Guard, guard)]


def _header(scope: Scope, name: bytes) -> bytes:
    return next((value for key, value in scope["headers"] if key.lower() == name), b"")


def _telling(send: Send, scope: Scope) -> Send:
    """Count and time the answer; add headers that keep a browser from guessing and from asking
    others."""
    route, start = _route_of(scope["path"]), time.monotonic()

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            there = {key.lower() for key, _ in message.get("headers", [])}
            extra = [(k, v) for k, v in _HEADERS.items() if k not in there]
            message["headers"] = [*message.get("headers", []), *extra]
            if route is not None:
                metrics().requests.labels(route, str(message["status"])).inc()
        await send(message)
        last = message["type"] == "http.response.body" and not message.get("more_body")
        if last and route is not None:
            metrics().request_seconds.labels(route).observe(time.monotonic() - start)

    return sending


def _route_of(path: str) -> str | None:
    """A few names, whatever is asked for; None for what probes and scrapers ask all the time."""
    if path in ("/livez", "/readyz", "/healthz", "/metrics"):
        return None
    parts = path.strip("/").split("/")
    if parts[:2] == ["v1", "jobs"] and len(parts) in (2, 3, 4):
        return ("/v1/jobs", "/v1/jobs/{id}", "/v1/jobs/{id}/result")[len(parts) - 2]
    return path if path in ("/", "/openapi.json", "/v1/info", "/v1/upscale") else "other"
