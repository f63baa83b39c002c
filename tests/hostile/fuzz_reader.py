"""A fuzz target for the reader: any bytes give a picture or an `ImageError`, and nothing else.

    python -m tests.hostile.fuzz_reader --seconds 60       # mutations of a generated corpus
    python -m tests.hostile.fuzz_reader -atheris CORPUS    # coverage-guided, where atheris is there

The first needs no other package and prints the seed of each round, so that a finding can be made
again; the input of one is kept as crash-HASH.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tudsr.errors import ImageError
from tudsr.images.formats import readable
from tudsr.images.read import read_header, read_image

MAX_PIXELS = 1_000_000
LIMIT_S = 2.0


def check(data: bytes) -> str:
    """Read hostile bytes as the service does; the refusal's code, or ``read``.

    Raises:
        AssertionError: a picture that breaks the reader's promises, or one that took too long.
        Exception: whatever else the reader let through.
    """
    start = time.monotonic()
    try:
        read_header(data, MAX_PIXELS)
        picture = read_image(data, MAX_PIXELS)
    except ImageError as error:
        assert error.code and len(str(error)) > 10, "a refusal needs a code and a sentence"
        verdict = error.code
    else:
        height, width = picture.size
        assert height * width <= MAX_PIXELS and min(height, width) >= 8
        assert np.isfinite(picture.pixels).all()
        assert picture.pixels.min() >= 0 and picture.pixels.max() <= 1
        assert picture.alpha is None or picture.alpha.shape == picture.size
        verdict = "read"
    assert time.monotonic() - start < LIMIT_S, f"took {time.monotonic() - start:.1f} s"
    return verdict


def corpus() -> list[bytes]:
    """A small valid picture of every format, mode and depth that can be written here."""
    rng = np.random.default_rng(0)
    rgba = Image.fromarray(rng.integers(0, 256, (24, 16, 4), dtype=np.uint8))
    deep = Image.fromarray(rng.integers(0, 65536, (24, 16)).astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112], exif[0x8769] = 6, {0x9003: "2020:01:01 00:00:00"}
    made: list[bytes] = []
    for fmt in readable():
        for picture in (rgba, rgba.convert("RGB"), rgba.convert("L"), rgba.convert("P"), deep):
            for options in ({}, {"exif": exif.tobytes()}):
                stream = io.BytesIO()
                try:
                    picture.save(stream, fmt, **options)
                except (OSError, ValueError, TypeError, KeyError):
                    continue  # the format has no such mode
                made.append(stream.getvalue())
    return made


def mutated(seeds: list[bytes], rng: random.Random) -> bytes:
    """One of the seeds with bytes changed, cut, doubled or taken from another one."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at, length = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 8, 64))
        change: Callable[[], bytes] = rng.choice(
            (
                lambda n=length: rng.randbytes(n),
                lambda n=length: rng.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * n,
                lambda: b"",
                lambda n=length: _piece(rng.choice(seeds), n, rng),
            )
        )
        data[at : at + rng.choice((0, length))] = change()
    return bytes(data)


def _piece(data: bytes, length: int, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[at : at + length]


def run(seconds: float, seed: int, crashes: Path) -> dict[str, int]:
    """Mutate and check for a while; how often each verdict came."""
    seeds, rng, verdicts = corpus(), random.Random(seed), dict[str, int]()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = mutated(seeds, rng)
        try:
            verdict = check(data)
        except BaseException:
            crashes.mkdir(parents=True, exist_ok=True)
            (crashes / f"crash-{hashlib.sha256(data).hexdigest()[:12]}").write_bytes(data)
            raise
        verdicts[verdict] = verdicts.get(verdict, 0) + 1
    return verdicts


def main() -> None:
    """Fuzz from the command line."""
    if "-atheris" in sys.argv:
        import atheris  # pyright: ignore[reportMissingImports]

        sys.argv.remove("-atheris")
        atheris.instrument_all()
        atheris.Setup(sys.argv, lambda data: check(bytes(data)) and None)
        atheris.Fuzz()
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--crashes", type=Path, default=Path("outputs/crashes"))
    given = parser.parse_args()
    print(f"seed {given.seed}")
    verdicts = run(given.seconds, given.seed, given.crashes)
    print(f"{sum(verdicts.values())} inputs: {dict(sorted(verdicts.items()))}")


if __name__ == "__main__":
    main()
