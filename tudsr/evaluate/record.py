"""The folder an examination leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tudsr.evaluate.judge import Examination
from tudsr.evaluate.report import write_report
from tudsr.images.atomic import write_text, writing_dir


def write_evaluation(
    out: Path,
    examination: Examination,
    metrics: Mapping[str, Path],
    facts: Mapping[str, str],
    judged_by_the_loss: bool,
) -> None:
    """Write ``verdict.json``, ``scores-METHOD.json`` and ``report.html`` to the folder ``out``.

    ``judged_by_the_loss``: whether the distances' trunk is the training loss', which the page says.
    """
    with writing_dir(out) as folder:
        verdict = examination.verdict.model_dump_json(indent=1) + "\n"
        write_text(folder / "verdict.json", verdict)
        for method, table in examination.tables.items():
            text = table.model_dump_json(indent=1) + "\n"
            write_text(folder / f"scores-{method}.json", text)
        page, title = folder / "report.html", "TUDSR: gate report"
        write_report(page, examination, metrics, facts, title, judged_by_the_loss)
