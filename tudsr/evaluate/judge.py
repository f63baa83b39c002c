"""The gate's examination: a model, bicubic and the champion on the same fixed test pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tudsr.data.pairs import Pair, load_pairs, read_pair
from tudsr.evaluate.perceptual import Perceptual
from tudsr.evaluate.score import (
    Method,
    ScoredPair,
    ScoreTable,
    bicubic,
    keep_table,
    kept_table,
    score,
)
from tudsr.model.runtime import load_runtime, training_runtime
from tudsr.model.version import trunks_version
from tudsr.places import outputs_dir
from tudsr.profile import Profile, UpscaleSettings
from tudsr.provenance import code_fingerprint, file_sha256
from tudsr.release.bundle import load_bundle
from tudsr.release.gate import Verdict, decide
from tudsr.upscale.cascade import pass_sizes, split_scale
from tudsr.upscale.runtime import TileRuntime
from tudsr.upscale.tiles import plan_tiles
from tudsr.upscale.upscaler import Upscaler


@dataclass(frozen=True)
class Examination:
    """What the gate saw.

    Attributes:
        pairs: the test pairs, in the order of all tables.
        pictures: the model's results, likewise.
        tables: scores by method: ``model``, ``bicubic`` and perhaps ``champion``.
    """

    verdict: Verdict
    pairs: list[ScoredPair]
    pictures: list[NDArray[np.float32]]
    tables: dict[str, ScoreTable]


def examine(
    profile: Profile,
    adapters: dict[int, Path],
    pairs_folder: Path,
    champion: tuple[str, Path] | None = None,
) -> Examination:
    """Score the model on the test pairs and hold it against the floors and the champion.

    ``champion`` is the version's name and its bundle's folder. Bicubic's and the champion's scores
    are kept in ``outputs/cache/scores`` under the hashes of everything that decides them.
    """
    gate = profile.gate
    perceptual = Perceptual(gate.metric_trunk, gate.metric_trunk_path, gate.dists)
    pairs = _test_pairs(pairs_folder, Path(profile.data.root))
    runtime = training_runtime(profile.base, adapters, profile.runtime, profile.upscale)
    side = max(pair.hr.shape[0] for pair in pairs)  # the pairs say it, whatever profile made them
    model = seam_method(runtime, tiled(profile.upscale, side, runtime.size_multiple))
    methods = {"model": model, "bicubic": Method(bicubic)}
    hashes = {"bicubic": "bicubic"}
    if champion is not None:
        manifest = load_bundle(champion[1])
        theirs = load_runtime(champion[1])
        how = tiled(manifest.upscale, side, theirs.size_multiple)
        methods["champion"] = seam_method(theirs, how)
        hashes["champion"] = manifest.bundle_hash
    keys = {name: {**scores_key(pairs_folder, profile), "method": h} for name, h in hashes.items()}
    tables, pictures = _scored(methods, keys, pairs, perceptual)
    against = (champion[0], tables["champion"]) if champion else None
    verdict = decide(tables["model"], tables["bicubic"], gate, perceptual.lpips_name, against)
    return Examination(verdict, pairs, pictures, tables)


def _scored(
    methods: dict[str, Method],
    keys: dict[str, dict[str, str]],
    pairs: Sequence[ScoredPair],
    perceptual: Perceptual,
) -> tuple[dict[str, ScoreTable], list[NDArray[np.float32]]]:
    """All tables, those with a key from the cache where it has them, and the model's pictures."""
    cache = outputs_dir() / "cache" / "scores"
    kept = {name: table for name, key in keys.items() if (table := kept_table(cache, key))}
    made = score({n: m for n, m in methods.items() if n not in kept}, pairs, perceptual)
    for name in keys.keys() & made.keys():
        keep_table(cache, keys[name], made[name].table)
    tables = {name: kept[name] if name in kept else made[name].table for name in methods}
    return tables, made["model"].pictures


def tiled(settings: UpscaleSettings, side: int, multiple: int) -> UpscaleSettings:
    """Settings under which a picture of this side takes several tiles.

    A crop that fits in one tile would have no seam to judge: it gets the smallest tiles, multiples
    of ``multiple``, that cover it two by two. One below twice the overlap has no such tiles.
    """
    if side > settings.tile_px:
        return settings
    least = max((side + settings.overlap_px) / 2, 2 * settings.overlap_px)
    tile_px = -(-int(least) // multiple) * multiple
    return settings.model_copy(update={"tile_px": min(tile_px, settings.tile_px)})


def seam_method(runtime: TileRuntime, settings: UpscaleSettings) -> Method:
    """Enlarging by a runtime, with what the seam ratio needs."""

    def lines(height: int, width: int, scale: int) -> tuple[list[int], list[int]]:
        """Where the last pass' tiles hand over."""
        size = pass_sizes(height // scale, width // scale, split_scale(scale))[-1]
        tiles = plan_tiles(*size, settings, runtime.size_multiple)
        rows = {round(t.rows.fade_in.centre) for t in tiles if t.rows.fade_in is not None}
        columns = {round(t.columns.fade_in.centre) for t in tiles if t.columns.fade_in is not None}
        return sorted(rows), sorted(columns)

    def untiled(lr: NDArray[np.float32], scale: int) -> NDArray[np.float32]:
        side = max(lr.shape[:2]) * scale
        tile_px = -(-side // runtime.size_multiple) * runtime.size_multiple
        whole = settings.model_copy(update={"tile_px": max(tile_px, settings.tile_px)})
        return Upscaler(runtime, whole).upscale(lr, scale)

    return Method(Upscaler(runtime, settings).upscale, lines, untiled)


def _test_pairs(folder: Path, data_root: Path) -> list[ScoredPair]:
    chosen = [pair for pair in load_pairs(folder).pairs if pair.split == "test"]
    return [_in_memory(pair, folder, data_root) for pair in chosen]


def _in_memory(pair: Pair, folder: Path, data_root: Path) -> ScoredPair:
    lr, hr = read_pair(pair, folder, data_root)
    return ScoredPair(name=f"{Path(pair.photo).stem} {pair.index}", scale=pair.scale, lr=lr, hr=hr)


def scores_key(pairs_folder: Path, profile: Profile) -> dict[str, str]:
    """What decides the scores of any one method, for ``kept_table``."""
    gate = profile.gate
    weights = trunks_version(gate.metric_trunk_path)
    return {
        "pairs": file_sha256(pairs_folder / "pairs.json"),
        "trunk": f"{gate.metric_trunk} {weights} {gate.dists}",
        "code": code_fingerprint(),
    }
