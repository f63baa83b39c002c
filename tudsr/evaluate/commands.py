"""``tudsr evaluate --benchmark NAME DIR``: our row beside the paper's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tudsr.upscale.chosen import ChosenModel

if TYPE_CHECKING:
    from tudsr.evaluate.benchmark import SetPicture

Name = Literal["realsr", "drealsr", "reallq250", "reallr200"]


def evaluate(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="the test set in its published layout")
    ],
    benchmark: Annotated[Name, typer.Option(help="which of the paper's test sets it is")],
    scale: Annotated[int, typer.Option(help="4 or 8")] = 4,
    model: Annotated[
        str | None, typer.Option(help="a bundle's folder, a version or an alias [champion]")
    ] = None,
    colour: Annotated[
        Literal["wavelet", "adain", "none"],
        typer.Option(help="colour correction; the published rows were made with adain"),
    ] = "adain",
    out: Annotated[
        Path | None, typer.Option(help="results and scores [outputs/benchmarks/NAME-xSCALE]")
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option()] = "auto",
) -> None:
    """Enlarge a test set of the paper, score it and print our row beside the published ones.

    Metrics other than PSNR, SSIM and NIQE need pyiqa.
    """
    from tudsr.errors import SettingsError
    from tudsr.evaluate.benchmark import departures, enlarge_all, find_pictures
    from tudsr.images.atomic import write_json, write_text
    from tudsr.places import outputs_dir
    from tudsr.upscale.target import Target

    if scale not in (4, 8):
        raise SettingsError(f"scale {scale}: the paper's benchmarks are at 4 and at 8")
    out = out or outputs_dir() / "benchmarks" / f"{benchmark}-x{scale}"
    pictures = find_pictures(folder, benchmark, scale)
    chosen = ChosenModel(model, Target(scale=scale), device=device, changes={"colour": colour})
    results = enlarge_all(
        pictures,
        chosen,
        out / "pictures",
        lambda o: typer.echo(f"{o.job.source.name}: {o.seconds:.1f} s", err=True),
    )
    ours, remarks = _scores(pictures, results, device)
    remarks = [f"not comparable: {told}" for told in departures(pictures, benchmark)] + remarks
    text = _page(benchmark, scale, chosen.signature(), ours, remarks)
    facts = {"benchmark": benchmark, "scale": scale, "model": chosen.signature(), "scores": ours}
    write_json(out / "scores.json", {**facts, "pictures": len(pictures), "remarks": remarks})
    write_text(out / "table.md", text)
    typer.echo(text, nl=False)


def _scores(
    pictures: list[SetPicture], results: list[Path], device: str
) -> tuple[dict[str, float], list[str]]:
    """Means by metric and what is to be said about them."""
    from tudsr.evaluate import pyiqa_scores
    from tudsr.evaluate.benchmark import means, own_scores
    from tudsr.profile import RuntimeSettings
    from tudsr.train.device import pick_device

    ours = means(own_scores(pictures, results))
    if not pyiqa_scores.is_installed():
        return ours, [
            "NIQE is tudsr's own; the other metrics marked - need pyiqa: " + pyiqa_scores.INSTALL
        ]
    where = pick_device(RuntimeSettings.model_validate({"device": device}))
    theirs, failed = pyiqa_scores.pyiqa_scores(pictures, results, str(where))
    own_niqe = ["NIQE is tudsr's own"] if "NIQE" in ours and "NIQE" not in theirs else []
    return {**ours, **theirs}, [*failed, *own_niqe]


def _page(
    benchmark: str, scale: int, signature: str, ours: dict[str, float], remarks: list[str]
) -> str:
    from tudsr.evaluate.benchmark import TEST_SETS
    from tudsr.evaluate.paper_table import OURS, markdown_table, published

    paper = published(benchmark, scale)
    own = [name for name in ("PSNR", "SSIM") if name in ours]
    if not paper.rows:
        remarks = [*remarks, f"the paper has no x{scale} figures of this test set"]
    lines = [
        f"{TEST_SETS[benchmark].title}, x{scale}. Published rows: {paper.source}.",
        "",
        markdown_table(ours, paper, own),
        "",
        f"{OURS}: {signature}.",
        *(f"{remark}." for remark in remarks),
    ]
    return "\n".join(lines) + "\n"
