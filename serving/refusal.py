"""Every way in which the service says no: a stable code, a status, a sentence."""

from __future__ import annotations

import errno
import math
from dataclasses import dataclass
from typing import Any

from tudsr.errors import ImageError, SettingsError, TudsrError


@dataclass(frozen=True)
class Code:
    """What a code stands for."""

    status: int
    meaning: str


CODES = {
    "empty": Code(422, "no bytes, or a form without a file in the field `image`"),
    "not_an_image": Code(415, "the bytes are none of the formats that are read"),
    "unsupported_type": Code(415, "the Content-Type is no picture, bytes or form"),
    "unsupported_mode": Code(415, "a picture that cannot be kept whole, such as 32-bit floats"),
    "animated": Code(415, "several frames or pages"),
    "cmyk": Code(415, "CMYK without a usable colour profile"),
    "truncated": Code(422, "damaged or cut off"),
    "too_small": Code(422, "a side below the least"),
    "too_large": Code(413, "upload, picture or result over its limit"),
    "not_writable": Code(422, "the format asked for cannot hold the result"),
    "bad_setting": Code(422, "a parameter that is unknown, malformed or out of range"),
    "bad_form": Code(422, "a multipart body that cannot be parsed"),
    "unauthorised": Code(401, "no bearer token, or a wrong one"),
    "not_found": Code(404, "no such address"),
    "no_such_job": Code(404, "no such job: never made, deleted or expired"),
    "no_jobs": Code(404, "this service takes no jobs; use /v1/upscale"),
    "method_not_allowed": Code(405, "the address takes other methods"),
    "body_timeout": Code(408, "the body took too long to arrive"),
    "not_finished": Code(409, "the job has no result yet"),
    "queue_full": Code(429, "too much work before this one; see Retry-After"),
    "jobs_full": Code(429, "too many jobs, or no room for their pictures; see Retry-After"),
    "client_gone": Code(499, "the client went away; nobody reads this"),
    "not_readable": Code(500, "the service cannot read its own file; its log has more"),
    "internal": Code(500, "a fault of the service's; its log has more"),
    "draining": Code(503, "the service is being stopped; ask again, another one will answer"),
    "model_unavailable": Code(503, "no model is loaded"),
    "deadline": Code(504, "not done by the request's deadline; work on it was stopped"),
    "no_space": Code(507, "the service's disk is full; who runs it must mend that"),
}


class Refusal(TudsrError):  # noqa: N818 - often not an error of ours
    """A request that is not answered with a picture.

    Attributes:
        code: a key of ``CODES``.
        retry_after_s: when to ask again, seconds; None where that would not help.
        headers: further headers of the answer.
    """

    def __init__(
        self,
        code: str,
        message: str,
        retry_after_s: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.retry_after_s, self.headers = code, retry_after_s, headers or {}

    @property
    def status(self) -> int:
        """The HTTP status."""
        return CODES[self.code].status

    @property
    def is_fault(self) -> bool:
        """Whether who runs the service should hear of it, not who asked alone."""
        return self.code in ("not_readable", "internal", "no_space")

    def body(self) -> dict[str, Any]:
        """What the client reads."""
        told: dict[str, Any] = {"code": self.code, "message": str(self)}
        if self.retry_after_s is not None:
            told["retry_after_s"] = self._whole_seconds()
        return {"error": told}

    def all_headers(self) -> dict[str, str]:
        """With ``Retry-After`` in whole seconds, at least one."""
        if self.retry_after_s is None:
            return self.headers
        return {**self.headers, "Retry-After": str(self._whole_seconds())}

    def _whole_seconds(self) -> int:
        return max(1, math.ceil(self.retry_after_s or 0))


def refusal_of(error: Exception) -> Refusal:
    """Any error as a refusal; what nobody foresaw is ``internal`` and tells nothing of itself."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, ImageError):
        return Refusal(error.code, str(error))
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return Refusal("no_space", "the service's disk is full: whoever runs it must make room")
    if isinstance(error, SettingsError):
        return Refusal("bad_setting", str(error))
    if isinstance(error, MemoryError):
        return Refusal("too_large", "the picture does not fit in memory: send a smaller one")
    if isinstance(error, TudsrError):
        return Refusal("model_unavailable", str(error), retry_after_s=30)
    return Refusal("internal", "the service failed on this picture; its log says why")
