"""Answers on their way: counted until they are sent, and cut off where nobody reads them."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from typing import Any

from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

_PART_BYTES = 2**18
# A part that takes longer than this is read by nobody: 4 KiB a second.
_PART_S = 60.0


class Sent(Response):
    """A body sent part by part; ``held`` counts it meanwhile, however that ends.

    The server waits before each part until the one before is on its way, so that a client which
    does not read is noticed, and its connection closed.
    """

    def __init__(self, content: bytes, held: AbstractContextManager[None], **more: Any) -> None:
        super().__init__(content, **more)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; raises ``TimeoutError`` where nobody reads."""
        with self._held:
            start = {"status": self.status_code, "headers": self.raw_headers}
            await send({"type": "http.response.start", **start})
            body = memoryview(self.body)
            for at in range(0, max(1, len(body)), _PART_BYTES):
                part, more = bytes(body[at : at + _PART_BYTES]), at + _PART_BYTES < len(body)
                message = {"type": "http.response.body", "body": part, "more_body": more}
                await asyncio.wait_for(send(message), _PART_S)


class WholeFile(FileResponse):
    """A file, whole: a wrong range would be refused in other words than ours."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        headers = [h for h in scope["headers"] if h[0] not in (b"range", b"if-range")]
        del self.headers["accept-ranges"]
        await super().__call__({**scope, "headers": headers}, receive, send)
