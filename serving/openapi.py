"""What the endpoint says of itself, made from the same models that check requests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from serving.info import info_schemas
from serving.intake import FIELD
from serving.parameters import parameter_schemas
from serving.refusal import CODES
from serving.settings import ServeSettings

_PICTURE = [
    "empty",
    "not_an_image",
    "unsupported_type",
    "unsupported_mode",
    "animated",
    "cmyk",
    "truncated",
    "too_small",
    "too_large",
    "not_writable",
    "bad_setting",
    "bad_form",
    "body_timeout",
    "model_unavailable",
    "draining",
    "queue_full",
    "not_readable",
    "no_space",
]
_ALWAYS = ["unauthorised", "internal"]
_TYPES = ("image/png", "image/jpeg", "image/webp", "image/tiff", "image/avif")
_TEXT = {"type": "string"}
_NUMBER = {"type": "number"}
_PICTURE_HEADERS = {
    "X-Tudsr-Model": "name, version and hash of the model",
    "X-Tudsr-Size": "WIDTHxHEIGHT of the result",
    "X-Tudsr-Seed": "none: nothing is drawn at random",
    "X-Tudsr-Remade-Tiles": "were not finite in half precision and were made again in fp32",
    "X-Tudsr-Queue-Seconds": "waited before the work",
    "X-Tudsr-Compute-Seconds": "decoding and enlarging",
    "X-Tudsr-Encode-Seconds": "encoding",
}
_NOT_READY = {"503": "the model is not warm yet, or the service is being stopped"}
_RETRIED = (409, 429, 503)
_RETRY_AFTER = {
    "Retry-After": {
        "schema": {"type": "integer", "minimum": 1},
        "description": "when to ask again, seconds",
    }
}
_JOB = {
    "type": "object",
    "required": ["id", "state", "created"],
    "properties": {
        "id": _TEXT,
        "state": {"enum": ["queued", "running", "done", "failed"]},
        "created": {**_NUMBER, "description": "seconds since 1970"},
        "finished": _NUMBER,
        "expires": {**_NUMBER, "description": "when it is forgotten"},
        "progress": {**_NUMBER, "minimum": 0, "maximum": 1},
        "width": {"type": "integer"},
        "height": {"type": "integer"},
        "model": _TEXT,
        "remade_tiles": {"type": "integer", "description": "made again in fp32"},
        "seconds": {"type": "object", "additionalProperties": _NUMBER},
        "result": {**_TEXT, "description": "address of the picture"},
        "error": {"$ref": "#/components/schemas/ErrorBody"},
    },
}
_ERROR_BODY = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {
        "code": {"enum": sorted(CODES)},
        "message": {**_TEXT, "description": "what is wrong, the limit, the remedy"},
        "retry_after_s": {"type": "integer", "minimum": 1},
    },
}


def document(settings: ServeSettings) -> dict[str, Any]:
    """The whole description, OpenAPI 3.1."""
    secured = bool(settings.all_tokens())
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "TUDSR",
            "version": "1",
            "description": "Enlarges pictures. Errors are JSON with a stable code and a sentence.",
        },
        "security": [{"bearer": []}] if secured else [],
        "paths": {
            "/v1/upscale": {"post": _upscale()},
            "/v1/jobs": {"post": _add_job()},
            "/v1/jobs/{id}": {"get": _show_job(), "delete": _delete_job()},
            "/v1/jobs/{id}/result": {"get": _job_result()},
            "/v1/info": {"get": _info()},
            "/livez": {"get": _probe("livez", "Whether the process answers")},
            "/readyz": {"get": _probe("readyz", "Whether a picture would be enlarged", _NOT_READY)},
            "/metrics": {"get": _probe("metrics", "Figures for Prometheus")},
        },
        "components": {
            "schemas": {
                "Job": _JOB,
                "ErrorBody": _ERROR_BODY,
                "Error": _wrapped(),
                **info_schemas(),
            },
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _upscale() -> dict[str, Any]:
    return _picture_in(
        "upscale",
        "Enlarge a picture and wait for it",
        {"200": _picture_out(), **_errors([*_PICTURE, "deadline"])},
    )


def _add_job() -> dict[str, Any]:
    accepted = _json("the job", {"$ref": "#/components/schemas/Job"})
    accepted["headers"] = {"Location": {"schema": _TEXT, "description": "address of the job"}}
    return _picture_in(
        "addJob",
        "Enlarge a picture without waiting",
        {"202": accepted, **_errors([*_PICTURE, "jobs_full", "no_jobs"])},
    )


def _show_job() -> dict[str, Any]:
    answers = {"200": _json("the job", {"$ref": "#/components/schemas/Job"})}
    return _of_job("showJob", "How far a job is", answers, ["no_such_job", "model_unavailable"])


def _delete_job() -> dict[str, Any]:
    answers = {"204": {"description": "stopped and forgotten"}}
    return _of_job(
        "deleteJob", "Stop and forget a job", answers, ["no_such_job", "model_unavailable"]
    )


def _job_result() -> dict[str, Any]:
    # A failed job answers with the code of its failure.
    codes = ["no_such_job", "not_finished", "deadline", *_PICTURE]
    return _of_job("jobResult", "The picture that a job made", {"200": _picture_out()}, codes)


def _info() -> dict[str, Any]:
    answers = {"200": _json("model and limits", {"$ref": "#/components/schemas/Info"})}
    return {
        "operationId": "info",
        "summary": "Which model answers, and the limits",
        "responses": {**answers, **_errors(["model_unavailable"])},
    }


def _probe(name: str, summary: str, others: dict[str, str] | None = None) -> dict[str, Any]:
    """What BentoML answers itself, in plain text and without a token."""
    told = {"200": "yes" if name != "metrics" else "Prometheus' text format", **(others or {})}
    text = {"text/plain": {"schema": _TEXT}}
    return {
        "operationId": name,
        "summary": summary,
        "security": list[Any](),
        "responses": {s: {"description": d, "content": text} for s, d in told.items()},
    }


def _picture_in(name: str, summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    """A request with a picture: raw bytes with query parameters, or a form with fields."""
    schemas = parameter_schemas()
    queries = [{"name": n, "in": "query", "schema": s} for n, s in schemas.items()]
    image = {**_TEXT, "contentMediaType": "application/octet-stream"}
    form = {"type": "object", "required": [FIELD], "properties": {FIELD: image, **schemas}}
    raw = {kind: {"schema": image} for kind in (*_TYPES, "application/octet-stream")}
    body = {
        "required": True,
        "content": {**raw, "multipart/form-data": {"schema": form}},
    }
    return {
        "operationId": name,
        "summary": summary,
        "parameters": queries,
        "requestBody": body,
        "responses": responses,
    }


def _of_job(name: str, summary: str, answers: dict[str, Any], codes: list[str]) -> dict[str, Any]:
    path = {"name": "id", "in": "path", "required": True, "schema": _TEXT}
    return {
        "operationId": name,
        "summary": summary,
        "parameters": [path],
        "responses": {**answers, **_errors(codes)},
    }


def _picture_out() -> dict[str, Any]:
    headers = {
        name: {"schema": _TEXT, "description": text} for name, text in _PICTURE_HEADERS.items()
    }
    content = {kind: {"schema": {}} for kind in _TYPES}
    return {"description": "the enlarged picture", "headers": headers, "content": content}


def _errors(codes: Iterable[str]) -> dict[str, Any]:
    """Responses by status, each naming its codes."""
    statuses: dict[int, list[str]] = {}
    for code in dict.fromkeys([*codes, *_ALWAYS]):
        statuses.setdefault(CODES[code].status, []).append(code)
    return {str(status): _error(status, names) for status, names in sorted(statuses.items())}


def _error(status: int, codes: list[str]) -> dict[str, Any]:
    meaning = "; ".join(f"`{c}`: {CODES[c].meaning}" for c in codes)
    told = _json(meaning, {"$ref": "#/components/schemas/Error"})
    return told | {"headers": _RETRY_AFTER} if status in _RETRIED else told


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _wrapped() -> dict[str, Any]:
    body = {"$ref": "#/components/schemas/ErrorBody"}
    return {"type": "object", "required": ["error"], "properties": {"error": body}}
