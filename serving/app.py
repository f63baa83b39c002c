"""The HTTP side: a page for people, an endpoint for programs. Parse, call, respond."""

from __future__ import annotations

from importlib.resources import files

from anyio import to_thread
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from serving.engine import Engine
from tudsr.errors import ImageError, SettingsError, TudsrError

MAX_UPLOAD_BYTES = 64 * 2**20
_FORMATS = {"png": "PNG", "jpeg": "JPEG", "jpg": "JPEG", "webp": "WEBP", "tiff": "TIFF"}
_TYPES = ("image/", "application/octet-stream", "multipart/form-data")
_STATUS = {"too_large": 413, "not_an_image": 415, "unsupported_mode": 415, "animated": 415}


def make_app() -> Starlette:
    """The application; ``app.state.engine`` must be set before the first request."""
    app = Starlette(
        routes=[
            Route("/", page),
            Route("/v1/info", info),
            Route("/v1/upscale", upscale, methods=["POST"]),
        ],
        exception_handlers={TudsrError: refuse},
    )
    app.state.engine = None
    return app


async def page(_: Request) -> Response:
    """The page where a picture can be dropped."""
    return HTMLResponse(files("serving").joinpath("page.html").read_text("utf-8"))


async def info(request: Request) -> Response:
    """Which model answers and what it takes."""
    engine: Engine = request.app.state.engine
    return JSONResponse(
        {
            "model": engine.manifest.model_name,
            "version": engine.located.version,
            "bundle": engine.manifest.bundle_hash,
            "data": engine.manifest.provenance.data,
            "code": engine.manifest.provenance.code,
            "scale": {"min": 1.5, "max": 16, "default": 4},
            "formats": sorted(set(_FORMATS.values())),
            "max_upload_bytes": MAX_UPLOAD_BYTES,
            "max_output_px": engine.max_output_px,
        }
    )


async def upscale(request: Request) -> Response:
    """A picture as the body, or as the field ``image`` of a form; the enlarged one comes back.

    ``scale`` and ``format`` are query parameters or form fields.
    """
    data, asked = await _parse(request)
    scale, fmt = _scale(asked.get("scale", "4")), _format(asked.get("format"))
    engine: Engine = request.app.state.engine
    answer = await to_thread.run_sync(engine.enlarge, data, scale, fmt)
    height, width = answer.size
    return Response(
        answer.data,
        media_type=answer.media_type,
        headers={
            "X-Tudsr-Model": answer.model,
            "X-Tudsr-Size": f"{width}x{height}",
            "X-Tudsr-Seconds": f"{answer.seconds:.3f}",
        },
    )


async def refuse(_: Request, error: Exception) -> Response:
    """A mistake of the caller's: a stable code and a sentence."""
    if isinstance(error, ImageError):
        code, status = error.code, _STATUS.get(error.code, 422)
    elif isinstance(error, SettingsError):
        code, status = "bad_setting", 422
    else:
        code, status = "model_unavailable", 503
    return JSONResponse({"error": {"code": code, "message": str(error)}}, status_code=status)


async def _parse(request: Request) -> tuple[bytes, dict[str, str]]:
    kind = request.headers.get("content-type", "application/octet-stream").lower()
    if not kind.startswith(_TYPES):
        raise ImageError(
            "not_an_image", f"the body is {kind}: send image/*, or a form with the field image"
        )
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MAX_UPLOAD_BYTES:
        raise _too_large()
    asked = dict(request.query_params)
    if not kind.startswith("multipart/"):
        return await _body(request), asked
    async with request.form(max_files=1, max_fields=8) as form:
        upload = form.get("image")
        if not isinstance(upload, UploadFile):
            raise ImageError("empty", "the form has no file in the field image")
        fields = {k: v for k, v in form.items() if isinstance(v, str)}
        data = await upload.read(MAX_UPLOAD_BYTES + 1)
    if len(data) > MAX_UPLOAD_BYTES:
        raise _too_large()
    return data, {**asked, **fields}


async def _body(request: Request) -> bytes:
    parts = bytearray()
    async for part in request.stream():
        parts += part
        if len(parts) > MAX_UPLOAD_BYTES:
            raise _too_large()
    return bytes(parts)


def _too_large() -> ImageError:
    return ImageError(
        "too_large", f"the upload is over {MAX_UPLOAD_BYTES:,} bytes: send a smaller picture"
    )


def _scale(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise SettingsError(f"scale is {text!r}: give a number from 1.5 to 16") from None


def _format(text: str | None) -> str | None:
    if not text:
        return None
    if text.lower() not in _FORMATS:
        raise SettingsError(f"format is {text!r}: give one of {', '.join(_FORMATS)}")
    return _FORMATS[text.lower()]
