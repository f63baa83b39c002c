"""A request's picture and parameters, from raw bytes or from a form."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from serving.parameters import Parameters, parse_parameters
from serving.refusal import Refusal
from serving.state import Held

FIELD = "image"
_MAX_FIELDS, _MAX_FIELD_BYTES = 16, 1024


class _Counted(Request):
    """A request whose body counts as it arrives."""

    def __init__(self, request: Request, held: Held) -> None:
        super().__init__(request.scope, request.receive)
        self._held = held

    async def stream(self) -> AsyncGenerator[bytes]:
        """The body; `body` and `form` read it by this."""
        async for part in super().stream():
            self._held.add(len(part))
            yield part


async def take(request: Request, held: Held) -> tuple[bytes, Parameters]:
    """The picture's bytes, and what is asked for by query parameters and form fields together.

    Args:
        request: its body has not been read.
        held: counts the body.

    Raises:
        SettingsError: a parameter.
        Refusal: ``empty``, ``bad_form``, or what the guard finds while the body arrives.
    """
    request = _Counted(request, held)
    query = list(request.query_params.multi_items())
    kind = request.headers.get("content-type", "").lower()
    if not kind.startswith("multipart/"):
        asked = parse_parameters(query)  # before the body: a mistake is told at once
        return _not_empty(await _raw(request)), asked
    data, fields = await _form(request)
    return _not_empty(data), parse_parameters(query + fields)


async def _raw(request: Request) -> bytes:
    try:
        return await request.body()
    except ClientDisconnect:
        raise Refusal("client_gone", "the client went away while sending") from None


async def _form(request: Request) -> tuple[bytes, list[tuple[str, str]]]:
    """A file is bytes, whatever its name says; a text in its place is not looked at."""
    limits = {"max_files": 1, "max_fields": _MAX_FIELDS, "max_part_size": _MAX_FIELD_BYTES}
    try:
        async with request.form(**limits) as form:
            upload = form.get(FIELD)
            texts = [(k, v) for k, v in form.multi_items() if isinstance(v, str)]
            if not isinstance(upload, UploadFile):
                raise Refusal("empty", f"the form has no file in the field {FIELD}: add it")
            return await upload.read(), texts
    except HTTPException as error:
        raise Refusal("bad_form", f"the form cannot be read: {error.detail}") from None
    except ClientDisconnect:
        raise Refusal("client_gone", "the client went away while sending") from None


def _not_empty(data: bytes) -> bytes:
    if not data:
        raise Refusal(
            "empty", f"the body is empty (0 bytes): send a picture, or a form with {FIELD}"
        )
    return data
