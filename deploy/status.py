"""What runs, as a table."""

from __future__ import annotations

from rich.table import Table

from deploy.actions import Live
from deploy.manifests import Manifest
from deploy.rollout import progress_of


def table(now: Live) -> Table:
    """A row a track: version, pods, share of the traffic, image."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("track", "version", "pods", "traffic", "state", "image"):
        made.add_column(heading)
    release = now.release
    share = 100 - release.weight
    made.add_row(*_row("champion", now.champion, release.champion or "alias champion", share))
    version = release.challenger or "-"
    made.add_row(*_row("challenger", now.challenger, version, release.weight))
    return made


def _row(track: str, live: Manifest | None, version: str, share: int) -> list[str]:
    if live is None:
        return [track, "-", "-", "-", "not deployed", "-"]
    state = progress_of(live)
    said = state.failure or ("ready" if state.done else "rolling out")
    said = "off" if not state.wanted else said
    image = live["spec"]["template"]["spec"]["containers"][0].get("image", "")
    short = image.partition("@")[0] + "@" + image.partition("@")[2][:19]
    return [track, version, f"{state.ready}/{state.wanted}", f"{share} %", said, short]
