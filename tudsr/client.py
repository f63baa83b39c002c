"""A client of the service, for programs that need a larger picture and no torch.

    from tudsr.client import Client
    large = Client("http://127.0.0.1:3000").upscale(Path("photo.jpg"), scale=8, format="png")
    Path("large.png").write_bytes(large.data)

The parameters are those of docs/serving.md. Only the standard library is used.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode, urlsplit

from tudsr.errors import TudsrError

Parameter = str | int | float
_LATER = (429, 503)
_RESTART_S = 2.0  # between questions to a service that is being started
_FIRST_POLL_S, _LAST_POLL_S = 0.1, 2.0


class ServiceError(TudsrError):
    """The service refused, or cannot be reached; the message is its own sentence.

    Attributes:
        code: stable, as listed in docs/serving.md; ``unreachable`` where nothing answered.
        status: of HTTP; 0 where nothing answered.
        retry_after_s: when asking again makes sense, None where the service does not say.
    """

    def __init__(
        self, code: str, message: str, status: int = 0, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.status, self.retry_after_s = code, status, retry_after_s


@dataclass(frozen=True)
class Enlarged:
    """A result.

    Attributes:
        data: the encoded picture.
        media_type: such as ``image/png``.
        model: name, version and hash of the model that made it.
        size: (height, width), pixels.
        seconds: by ``queue``, ``compute`` and ``encode``.
        seed: what randomness began from; None: nothing is drawn.
        remade_tiles: were not finite in half precision and were made again in fp32.
    """

    data: bytes
    media_type: str
    model: str
    size: tuple[int, int]
    seconds: dict[str, float]
    seed: int | None = None
    remade_tiles: int = 0


@dataclass(frozen=True)
class JobState:
    """How far a job is; ``progress`` runs from 0 to 1."""

    id: str
    state: Literal["queued", "running", "done", "failed"]
    progress: float


class Client:
    """Talks to one service.

    Args:
        url: of the service.
        token: bearer token, where it asks for one.
        timeout_s: longest wait for one answer.
        patience_s: a full or stopping service is asked again, when it says, for so long in all; so
            is one that does not answer, where it was there before.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:3000",
        token: str | None = None,
        timeout_s: float = 600,
        patience_s: float = 120,
    ) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise ServiceError("unreachable", f"{url!r} is no address: give http://HOST:PORT")
        self.url, self.token = url.rstrip("/"), token
        self.timeout_s, self.patience_s = timeout_s, patience_s
        # No redirects: they would carry picture and token to somebody else.
        self._opener = urllib.request.build_opener(_NoRedirects)

    def upscale(self, picture: Path | bytes, **parameters: Parameter) -> Enlarged:
        """Enlarge a picture and wait for it.

        Raises:
            ServiceError: the service's reason.
        """
        return _enlarged(self._ask("POST", "/v1/upscale", parameters, picture))

    def submit(self, picture: Path | bytes, **parameters: Parameter) -> str:
        """Leave a picture to be enlarged; returns the job's id.

        Raises:
            ServiceError: the service's reason.
        """
        return json.loads(self._ask("POST", "/v1/jobs", parameters, picture).body)["id"]

    def job(self, job: str) -> JobState:
        """How far a job is.

        Raises:
            ServiceError: ``no_such_job``, or the reason why the job failed.
        """
        told: dict[str, Any] = json.loads(self._ask("GET", f"/v1/jobs/{job}").body)
        if told["state"] == "failed":
            raise ServiceError(told["error"]["code"], told["error"]["message"])
        return JobState(told["id"], told["state"], told.get("progress", 0.0))

    def wait(self, job: str, progress: Callable[[float], None] | None = None) -> Enlarged:
        """Wait for a job and fetch its result; the job stays until it is deleted or expires.

        Raises:
            ServiceError: as `job`.
        """
        pause_s = _FIRST_POLL_S
        while (state := self.job(job)).state != "done":
            if progress is not None:
                progress(state.progress)
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LAST_POLL_S)
        return _enlarged(self._ask("GET", f"/v1/jobs/{job}/result"))

    def delete(self, job: str) -> None:
        """Stop and forget a job.

        Raises:
            ServiceError: ``no_such_job``.
        """
        self._ask("DELETE", f"/v1/jobs/{job}")

    def info(self) -> dict[str, Any]:
        """Model, formats, parameters and limits.

        Raises:
            ServiceError: the service's reason.
        """
        return json.loads(self._ask("GET", "/v1/info").body)

    def _ask(
        self,
        method: str,
        path: str,
        parameters: dict[str, Parameter] | None = None,
        picture: Path | bytes | None = None,
    ) -> _Answer:
        """Ask until there is an answer or patience ends.

        A service that said that it is stopping, or that has a job of ours, is started anew: it is
        asked again though nothing answers.
        """
        data = picture.read_bytes() if isinstance(picture, Path) else picture
        query = f"?{urlencode(parameters)}" if parameters else ""
        end, told = time.monotonic() + self.patience_s, False
        while True:
            try:
                return self._ask_once(method, f"{self.url}{path}{query}", data)
            except ServiceError as error:
                wait_s = error.retry_after_s
                if error.code == "unreachable" and (told or path.startswith("/v1/jobs/")):
                    wait_s = _RESTART_S
                elif error.status not in _LATER:
                    raise
                if wait_s is None or time.monotonic() + wait_s > end:
                    raise
                told = True
                time.sleep(wait_s)

    def _ask_once(self, method: str, url: str, data: bytes | None) -> _Answer:
        headers = {"Content-Type": "application/octet-stream"} if data is not None else {}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with self._opener.open(request, timeout=self.timeout_s) as answer:
                return _Answer(answer.read(), dict(answer.headers.items()))
        except urllib.error.HTTPError as error:
            raise _told(error) from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise ServiceError(
                "unreachable", f"{self.url} does not answer ({reason}): is the service running?"
            ) from None


@dataclass(frozen=True)
class _Answer:
    body: bytes
    headers: dict[str, str]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _enlarged(answer: _Answer) -> Enlarged:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    width, height = headers["x-tudsr-size"].split("x")
    seconds = {k: float(headers[f"x-tudsr-{k}-seconds"]) for k in ("queue", "compute", "encode")}
    return Enlarged(
        answer.body,
        headers["content-type"],
        headers["x-tudsr-model"],
        (int(height), int(width)),
        seconds,
        int(seed) if (seed := headers.get("x-tudsr-seed", "none")) != "none" else None,
        int(headers.get("x-tudsr-remade-tiles", 0)),
    )


def _told(error: urllib.error.HTTPError) -> ServiceError:
    """The service's own words, or the bare status where something in between answered."""
    after = error.headers.get("Retry-After", "")
    wait_s = float(after) if after.isdigit() else None
    try:
        told = json.loads(error.read())["error"]
        return ServiceError(told["code"], told["message"], error.code, wait_s)
    except (ValueError, KeyError, TypeError, OSError):
        return ServiceError("unknown", f"{error.url} answered {error.code}", error.code, wait_s)
