"""MLflow's side of a promotion: judged before the cluster is touched, moved after it served."""

from __future__ import annotations

from deploy.preflight import MODEL_NAME
from tudsr.release import promotion
from tudsr.release.registry import CHAMPION, by_alias


def check_promotion(version: str, force_reason: str | None) -> None:
    """Refuse what the ledger would refuse, while nothing has happened yet.

    Raises:
        RegistryError: a closed gate, a comparison that speaks against it, or no MLflow.
    """
    if not _is_champion(version):
        promotion.check(MODEL_NAME, version, force_reason)


def move_champion(version: str, force_reason: str | None, actor: str) -> str:
    """Make it champion in MLflow, with an entry in the ledger; a sentence about it."""
    if _is_champion(version):
        return f"version {version} is MLflow's champion"
    entry = promotion.promote(MODEL_NAME, version, force_reason, actor)
    return f"version {entry.moved_to} is MLflow's champion (before: {entry.moved_from or 'none'})"


def _is_champion(version: str) -> bool:
    found = by_alias(MODEL_NAME, CHAMPION)
    return found is not None and found.version == version
