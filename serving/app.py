"""The HTTP side: a page for people, an endpoint for programs. Parse, call, respond."""

from __future__ import annotations

import asyncio
import logging
import mimetypes
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import ExitStack
from importlib.resources import files
from typing import Any, BinaryIO, TypeVar

from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from serving import openapi
from serving.engine import Answer
from serving.info import info_of
from serving.intake import take
from serving.job_runner import JobRunner
from serving.jobs import Job
from serving.metrics import exposition, metrics
from serving.parameters import Parameters
from serving.refusal import Refusal, refusal_of
from serving.sending import Sent, WholeFile, result_file
from serving.settings import ServeSettings
from serving.state import Service
from serving.ticket import Ticket
from tudsr.errors import SettingsError

_T = TypeVar("_T")
Handler = Callable[[Request], Awaitable[Response]]
_LOG = logging.getLogger("tudsr.serving")
_PAGE = ("index.html", "page.css", "page.js", "service.js")


def make_app(service: Service) -> Starlette:
    """The application over a service, which may start later."""
    routes = [
        _route("/", page),
        _route("/page/{name}", page),
        _route("/openapi.json", document),
        _route("/metrics", figures),
        _route("/v1/info", info),
        _route("/v1/upscale", upscale, "POST"),
        _route("/v1/jobs", add_job, "POST"),
        _route("/v1/jobs/{id}", show_job, "GET"),
        _route("/v1/jobs/{id}", delete_job, "DELETE"),
        _route("/v1/jobs/{id}/result", job_result),
        Route("/{path:path}", _Anything()),
    ]
    app = Starlette(routes=routes)
    app.state.service = service
    return app


async def page(request: Request) -> Response:
    """The page where a picture can be dropped, and what belongs to it."""
    name = request.path_params.get("name", "index.html")
    if name not in _PAGE:
        raise Refusal("not_found", f"no such file; the page is {', '.join(_PAGE)}")
    content = files("serving").joinpath("page", name).read_bytes()
    kind = mimetypes.guess_type(name)[0] or "text/plain"
    return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})


async def document(request: Request) -> Response:
    """The OpenAPI description."""
    return JSONResponse(openapi.document(_service(request).settings))


async def figures(request: Request) -> Response:
    """What Prometheus scrapes."""
    text, kind = await to_thread.run_sync(exposition)
    return Response(text, media_type=kind)


async def info(request: Request) -> Response:
    """Which model answers and what it takes."""
    engine, _ = _service(request).running
    return JSONResponse(info_of(engine.model, engine.settings).model_dump())


async def upscale(request: Request) -> Response:
    """A picture as the body, or as the field ``image`` of a form; the enlarged one comes back."""
    service = _service(request)
    engine, _ = service.running
    engine.scheduler.check_room()
    with service.holding(request) as held:
        data, asked = await take(request, held)
        cost = await to_thread.run_sync(engine.plan, data, asked)
        limit = _deadline_s(asked, service.settings)

        def work(ticket: Ticket) -> tuple[Answer, BinaryIO]:
            with ExitStack() as on_error:
                out = on_error.enter_context(result_file())
                told = engine.enlarge(data, asked, ticket, out)
                on_error.pop_all()
            return told, out

        ticket, future = engine.scheduler.submit(cost, work, limit)
        answer, result = await _finished(request, ticket, future)
    told = {"media_type": answer.media_type, "headers": _told_in_headers(answer)}
    return Sent(result, service.sending, **told)


async def add_job(request: Request) -> Response:
    """The same, without waiting: an address to ask under comes back."""
    service = _service(request)
    _, jobs = service.running
    jobs.store.check_open()
    with service.holding(request) as held:
        data, asked = await take(request, held)
        if asked.deadline_s is not None:
            _deadline_s(asked, service.settings, job=True)
        job = await to_thread.run_sync(jobs.add, data, asked, request.scope["tudsr.owner"])
    told = _described(job, jobs)
    return JSONResponse(told, 202, headers={"Location": f"/v1/jobs/{job.id}"})


async def show_job(request: Request) -> Response:
    """How far a job is."""
    job, jobs = _job(request)
    return JSONResponse(_described(job, jobs), headers={"Cache-Control": "no-store"})


async def job_result(request: Request) -> Response:
    """The picture that a job made."""
    job, jobs = _job(request)
    if job.state == "failed":
        raise Refusal(job.told["code"], job.told["message"])
    if job.state != "done":
        raise Refusal("not_finished", f"the job is {job.state}: ask again", retry_after_s=1)
    told: dict[str, Any] = {**job.told, "size": tuple(job.told["size"])}
    headers = _told_in_headers(Answer(**told))
    if not (made := jobs.store.result(job.id)).is_file():
        raise Refusal("internal", "the result was lost: send the picture again")
    return WholeFile(made, media_type=told["media_type"], headers=headers)


async def delete_job(request: Request) -> Response:
    """Stop and forget a job."""
    job, jobs = _job(request)
    await to_thread.run_sync(jobs.delete, job.id)
    return Response(status_code=204)


async def unknown(request: Request) -> Response:
    """No such address, or not with this method."""
    path = request.url.path
    routes: list[Any] = request.app.routes[:-1]
    methods = {m for r in routes if r.matches(request.scope)[0] != Match.NONE for m in r.methods}
    if methods:
        allowed = ", ".join(sorted(methods))
        raise Refusal(
            "method_not_allowed",
            f"{request.method} is not for this address: use {allowed}",
            headers={"Allow": allowed},
        )
    raise Refusal("not_found", f"no such address as {path[:80]!r}: /openapi.json lists all")


class _Anything:
    """`unknown` for whatever method there is; a function's route has a list of them."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await _answering(unknown)(Request(scope, receive))
        await response(scope, receive, send)


def _route(path: str, handler: Handler, method: str = "GET") -> Route:
    return Route(path, _answering(handler), methods=[method])


def _answering(handler: Handler) -> Handler:
    """The handler, with every error as a refusal: nothing else reaches the client."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Exception as error:
            refusal = refusal_of(error)
            if refusal.is_fault:
                _LOG.error("a request failed", exc_info=error)
            metrics().refusals.labels(refusal.code).inc()
            return JSONResponse(refusal.body(), refusal.status, refusal.all_headers())

    return answer


def _service(request: Request) -> Service:
    return request.app.state.service


def _job(request: Request) -> tuple[Job, JobRunner]:
    """The job of the address, if it is the asker's."""
    _, jobs = _service(request).running
    return jobs.store.get(request.path_params["id"], request.scope["tudsr.owner"]), jobs


async def _finished(request: Request, ticket: Ticket, future: Future[_T]) -> _T:
    """Wait for the result; stop the work when the deadline passes or the client goes away."""
    result = asyncio.wrap_future(future)
    gone = asyncio.ensure_future(_gone(request))
    try:
        left_s = ticket.expires - time.monotonic()
        done, _ = await asyncio.wait({result, gone}, timeout=left_s, return_when="FIRST_COMPLETED")
        if result in done:
            return result.result()
        why = Refusal("client_gone", "the client went away") if gone in done else ticket.too_late()
        raise why
    finally:
        # Also where the server gives this task up: nobody would read the result.
        ticket.stop(Refusal("client_gone", "nobody waits for it"))
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _deadline_s(asked: Parameters, settings: ServeSettings, job: bool = False) -> float:
    most = settings.job_deadline_s if job else settings.max_deadline_s
    wanted = asked.deadline_s or settings.deadline_s
    if wanted > most:
        raise SettingsError(f"deadline_s is {wanted:g}: give at most {most:g}")
    return wanted


def _told_in_headers(answer: Answer) -> dict[str, str]:
    height, width = answer.size
    return {
        "X-Tudsr-Model": answer.model,
        "X-Tudsr-Size": f"{width}x{height}",
        "X-Tudsr-Seed": "none",
        "X-Tudsr-Remade-Tiles": str(answer.remade_tiles),
        "X-Tudsr-Queue-Seconds": f"{answer.queue_s:.3f}",
        "X-Tudsr-Compute-Seconds": f"{answer.compute_s:.3f}",
        "X-Tudsr-Encode-Seconds": f"{answer.encode_s:.3f}",
    }


def _described(job: Job, jobs: JobRunner) -> dict[str, Any]:
    """What a client sees of a job."""
    done, total = jobs.progress(job.id)
    told: dict[str, Any] = {"id": job.id, "state": job.state, "created": job.created}
    if job.finished is not None:
        told |= {"finished": job.finished, "expires": job.finished + jobs.store.keep_s}
    if job.state == "done":
        height, width = job.told["size"]
        seconds = {k: round(job.told[f"{k}_s"], 3) for k in ("queue", "compute", "encode")}
        told |= {"width": width, "height": height, "model": job.told["model"], "seconds": seconds}
        told["remade_tiles"] = job.told.get("remade_tiles", 0)
        return told | {"progress": 1.0, "result": f"/v1/jobs/{job.id}/result"}
    if job.state == "failed":
        return told | {"error": job.told}
    return told | {"progress": round(done / total, 4) if total else 0.0}
