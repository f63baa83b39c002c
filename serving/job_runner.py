"""Takes jobs from the store to the scheduler and their results back."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from dataclasses import asdict
from typing import Any

from serving.engine import Answer, Engine
from serving.jobs import Job, JobStore
from serving.metrics import metrics
from serving.parameters import Parameters
from serving.refusal import Refusal, refusal_of
from serving.ticket import Cost, Ticket

_BYTES_PER_PX = 8  # RGB and alpha of 16 bits, not compressed: the most that a result can take

_TIDY_S = 60
_LOG = logging.getLogger("tudsr.serving")


class JobRunner:
    """The jobs of a service and those in work."""

    def __init__(self, engine: Engine, store: JobStore) -> None:
        self.engine, self.store = engine, store
        self._tickets: dict[str, Ticket] = {}
        self._closed = threading.Event()
        self._house: threading.Thread | None = None

    def start(self) -> None:
        """When the model is there, run what a former service left; then drop what is old."""
        # Listed now: once the model is there, a new job is in the store before it has its ticket.
        left = self.store.unfinished()
        self._house = threading.Thread(
            target=self._keep_house, args=(left,), name="jobs", daemon=True
        )
        self._house.start()

    def _keep_house(self, left: list[Job]) -> None:
        while not self.engine.ready:
            if self._closed.wait(0.1):
                return
        self.resume(left)
        while not self._closed.is_set():
            self.store.forget_old()
            self._count()
            self._closed.wait(_TIDY_S)

    def close(self) -> None:
        """Keep house no longer and let another service have the folder; nothing may be running."""
        self._closed.set()
        if self._house is not None:
            self._house.join()
        self.store.close()

    def resume(self, left: list[Job]) -> None:
        """Run what a former service left unfinished; the model must be there."""
        for job in left:
            self._resume_one(job)
        self._count()

    def add(self, data: bytes, asked: Parameters, owner: str) -> Job:
        """Plan, record and queue a job.

        Raises:
            ImageError, SettingsError: as `Engine.plan`.
            Refusal: ``jobs_full`` or ``draining``.
        """
        cost = self.engine.plan(data, asked)
        room = cost.result_px * _BYTES_PER_PX
        told = asked.model_dump(exclude_defaults=True)
        job = self.store.add(data, told, room, owner)
        try:
            self._submit(job.id, cost, asked)
        except Refusal:
            self.store.delete(job.id)
            raise
        self._count()
        return job

    def progress(self, job: str) -> tuple[int, int]:
        """Tiles done and in all; (0, 0) where no work is under way."""
        ticket = self._tickets.get(job)
        return (ticket.tiles_done, ticket.tiles_total) if ticket else (0, 0)

    def delete(self, job: str) -> None:
        """Stop a job before its next tile and forget it."""
        ticket = self._tickets.pop(job, None)
        if ticket is not None:
            ticket.stop(Refusal("client_gone", "the job was deleted"))
        self.store.delete(job)
        self._count()

    def _resume_one(self, job: Job) -> None:
        try:
            asked = Parameters.model_validate(job.parameters)
            cost = self.engine.plan(self.store.picture(job.id).read_bytes(), asked)
            self._submit(job.id, cost, asked)
        except Exception as error:  # limits or parameters may have changed since
            told = refusal_of(error)
            if told.code != "draining":
                self.store.failed(job.id, told.code, str(told))

    def _submit(self, job: str, cost: Cost, asked: Parameters) -> None:
        def work(ticket: Ticket) -> Answer:
            self.store.running(job)
            self._count()
            picture = self.store.picture(job).read_bytes()
            with self.store.making(job) as out:
                return self.engine.enlarge(picture, asked, ticket, out)

        deadline_s = asked.deadline_s or self.engine.settings.job_deadline_s
        ticket, future = self.engine.scheduler.submit(cost, work, deadline_s, job=True)
        self._tickets[job] = ticket
        future.add_done_callback(lambda done: self._finished(job, done))

    def _finished(self, job: str, future: Future[Any]) -> None:
        if self._tickets.pop(job, None) is None:
            return  # deleted
        error = future.exception()
        if error is None:
            self._keep(job, future.result())
        elif isinstance(error, Refusal) and error.code == "draining":
            self.store.running(job, now=False)
        else:
            told = refusal_of(error if isinstance(error, Exception) else Exception())
            self.store.failed(job, told.code, str(told))
        self._count()

    def _keep(self, job: str, answer: Answer) -> None:
        try:
            self.store.done(job, asdict(answer))
        except OSError as error:
            _LOG.error("the result of a job cannot be kept: %s", error)
            why = refusal_of(error)
            self.store.failed(job, why.code, str(why))

    def _count(self) -> None:
        for state, count in self.store.counts().items():
            metrics().jobs.labels(state).set(count)
