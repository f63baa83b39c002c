"""Answers on their way: counted until they are sent, and cut off where nobody reads them."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast

from anyio import to_thread
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

_PART_BYTES = 2**18
# A result that is larger goes to the disk, so that it takes no memory while it is made and sent.
_IN_MEMORY_BYTES = 2**21
# Who takes no part for so long, or is so far behind the least of speeds, is not waited for.
_BEHIND_S, _LEAST_BYTES_S = 60.0, 2**17


def result_file() -> BinaryIO:
    """For a result, in memory while that is small (Pillow's JPEG asks for a descriptor, which is on
    the disk); there it has no name, and goes when it is closed, however the process ends."""
    return cast(BinaryIO, SpooledTemporaryFile(_IN_MEMORY_BYTES))


class Sent(Response):
    """A file sent part by part and closed, however that ends; ``counting`` counts its bytes until
    then.

    The server waits before each part until the one before is on its way, so that a client which
    does not read is noticed, and its connection closed.
    """

    def __init__(
        self, file: BinaryIO, counting: Callable[[int], AbstractContextManager[None]], **more: Any
    ) -> None:
        super().__init__(None, **more)
        self._file, self._counting = file, counting
        self._size = file.seek(0, io.SEEK_END)
        self.headers["Content-Length"] = str(self._size)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; raises ``TimeoutError`` where nobody reads, or hardly."""
        with self._counting(self._size), self._file:
            head = {"status": self.status_code, "headers": self.raw_headers}
            await send({"type": "http.response.start", **head})
            self._file.seek(0)
            begun = time.monotonic()
            for at in range(0, max(1, self._size), _PART_BYTES):
                part = await to_thread.run_sync(self._file.read, _PART_BYTES)
                more = at + _PART_BYTES < self._size
                message = {"type": "http.response.body", "body": part, "more_body": more}
                left_s = begun + at / _LEAST_BYTES_S + _BEHIND_S - time.monotonic()
                await asyncio.wait_for(send(message), min(left_s, _BEHIND_S))


class WholeFile(FileResponse):
    """A file, whole: a wrong range would be refused in other words than ours."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        headers = [h for h in scope["headers"] if h[0] not in (b"range", b"if-range")]
        del self.headers["accept-ranges"]
        await super().__call__({**scope, "headers": headers}, receive, send)
