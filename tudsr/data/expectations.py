"""The facts table against the profile's bounds, judged by a Great Expectations suite."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tudsr.data.facts import Facts, write_facts
from tudsr.data.index import ensure_index
from tudsr.data.offline_docs import make_offline
from tudsr.data.photos import SPLITS
from tudsr.data.rules import Rule, find_duplicates, needed_photographs, row_rules
from tudsr.data.sources import list_sources, sources_version
from tudsr.errors import DataError
from tudsr.images.atomic import write_text, writing_dir
from tudsr.profile import DataSettings

if TYPE_CHECKING:
    from great_expectations.checkpoint import CheckpointResult
    from great_expectations.data_context import EphemeralDataContext

VERDICTS = "verdicts.json"


class Validation(BaseModel):
    """Which photographs are used, which are set aside and why.

    Attributes:
        accepted: SHA-256 of each usable photograph by key, such as ``train/horse.webp``; the
            hashes make this an identity of the pictures, for a cache, and not of their names alone.
        set_aside: reasons by key.
        counts: usable photographs by split.
        success: whether every expectation about the data set as a whole holds.
        train_sources: the big sets that training reads; ``accepted`` then names just those of
            their sample in ``train/``. Empty where training reads the folder's own photographs.
        train_version: version of those sets.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    accepted: dict[str, str]
    set_aside: dict[str, tuple[str, ...]]
    counts: dict[str, int]
    success: bool
    train_sources: tuple[str, ...] = ()
    train_version: str = ""

    def paths(self, root: Path, split: str) -> list[Path]:
        """Paths of a split's usable photographs below ``root``; of a big set, its index alone.

        Raises:
            DataError: the big set cannot be read, or has changed since it was validated.
        """
        if split == "train" and self.train_sources:
            return [ensure_index(self.train_sources, self.train_version)]
        return [Path(root) / file for file in self.accepted if file.startswith(f"{split}/")]


def validate(facts: Sequence[Facts], settings: DataSettings, out: Path) -> Validation:
    """Judge every photograph and the data set; write facts.csv, verdicts.json and docs/ to ``out``.

    Two Great Expectations suites: `photographs` decides row by row what is set aside, `dataset`
    whether what is left is enough. Nothing is deleted. The record is written in any case.

    Raises:
        DataError: too few photographs are left; says how many, and why the others are not.
    """
    if not facts:
        raise DataError(
            "the facts table is empty: run `tudsr data facts` on a folder of photographs"
        )
    train_version = sources_version(list_sources(settings.train_sources))
    rules = row_rules(settings)
    twins = find_duplicates(facts, settings.duplicate_bits)
    rows = [{**asdict(row), "duplicate_of": twins.get(row.file, "")} for row in facts]
    with writing_dir(Path(out)) as folder:
        context = _open_context(folder / "docs")
        set_aside = _judge_rows(context, rows, rules)
        accepted = [row for row in rows if row["file"] not in set_aside]
        success = _judge_dataset(context, accepted, settings)
        validation = Validation(
            accepted={row["file"]: row["sha256"] for row in accepted},
            set_aside=set_aside,
            counts={split: sum(row["split"] == split for row in accepted) for split in SPLITS},
            success=success,
            train_sources=settings.train_sources,
            train_version=train_version if settings.train_sources else "",
        )
        make_offline(folder / "docs", validation)
        write_facts(folder / "facts.csv", facts)
        write_text(folder / VERDICTS, validation.model_dump_json(indent=2) + "\n")
    if not success:
        raise DataError(_too_few(validation, settings))
    return validation


def load_validation(folder: Path) -> Validation:
    """Read the verdicts that `validate` wrote.

    Raises:
        DataError: there are none, or they are not readable.
    """
    path = Path(folder) / VERDICTS
    if not path.is_file():
        raise DataError(f"no verdicts {path}: run `tudsr data validate`")
    try:
        return Validation.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not readable: {error}. Run `tudsr data validate`") from None


def _open_context(docs: Path) -> EphemeralDataContext:
    """A context in memory whose Data Docs go to ``docs``; quiet and without analytics."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.api_core")
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.resolve())}
    site: Any = {
        "class_name": "SiteBuilder",
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "store_backend": store,
        "show_how_to_buttons": False,
    }
    context.add_data_docs_site("docs", site)
    return context


def _judge_rows(
    context: EphemeralDataContext, rows: list[dict[str, Any]], rules: list[Rule]
) -> dict[str, tuple[str, ...]]:
    """Reasons by photograph, for those that break a rule."""
    result = _run(context, "photographs", rows, [_expectation(rule) for rule in rules])
    by_column = {rule.column: rule for rule in rules}
    by_file = {row["file"]: row for row in rows}
    reasons: dict[str, list[str]] = {}
    for judged in _results(result):
        rule = by_column[judged.expectation_config.kwargs["column"]]
        for breach in judged.result.get("unexpected_index_list") or []:
            row = by_file[breach["file"]]
            reasons.setdefault(row["file"], []).append(rule.explain(row))
    return {file: tuple(reasons[file]) for file in by_file if file in reasons}


def _judge_dataset(
    context: EphemeralDataContext, accepted: list[dict[str, Any]], settings: DataSettings
) -> bool:
    """Whether each split has enough photographs left."""
    import great_expectations.expectations as gxe

    table = [
        {"split": split, "usable": sum(row["split"] == split for row in accepted)}
        for split in SPLITS
    ]
    needed = needed_photographs(settings)
    expectations = [
        gxe.ExpectColumnValuesToBeBetween(
            column="usable",
            min_value=least,
            row_condition=f'split=="{split}"',
            condition_parser="pandas",
        )
        for split, least in needed.items()
    ]
    return bool(_run(context, "dataset", table, expectations).success)


def _expectation(rule: Rule) -> Any:
    import great_expectations.expectations as gxe

    if rule.allowed is not None:
        return gxe.ExpectColumnValuesToBeInSet(column=rule.column, value_set=list(rule.allowed))
    return gxe.ExpectColumnValuesToBeBetween(
        column=rule.column, min_value=rule.low, max_value=rule.high
    )


def _run(
    context: EphemeralDataContext, name: str, rows: list[dict[str, Any]], expectations: list[Any]
) -> CheckpointResult:
    """Check a table against a suite of expectations and add the result to the Data Docs."""
    import great_expectations as gx
    import pandas as pd
    from great_expectations.checkpoint import UpdateDataDocsAction

    asset = context.data_sources.add_pandas(name).add_dataframe_asset(name)
    batch = asset.add_batch_definition_whole_dataframe(name)
    suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=expectations))
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(name=name, data=batch, suite=suite)
    )
    keys = ["file"] if "file" in rows[0] else ["split"]
    checkpoint = gx.Checkpoint(
        name=name,
        validation_definitions=[definition],
        actions=[UpdateDataDocsAction(name="docs", site_names=["docs"])],
        result_format={"result_format": "COMPLETE", "unexpected_index_column_names": keys},
    )
    return context.checkpoints.add(checkpoint).run({"dataframe": pd.DataFrame(rows)})


def _results(result: CheckpointResult) -> list[Any]:
    return [one for run in result.run_results.values() for one in run.results]


def _too_few(validation: Validation, settings: DataSettings) -> str:
    short = [
        f"{split} has {validation.counts[split]} usable photographs of the {least} it needs"
        for split, least in needed_photographs(settings).items()
        if validation.counts[split] < least
    ]
    reasons = [f"{file}: {', '.join(why)}" for file, why in validation.set_aside.items()]
    listed = "; ".join(reasons[:10]) + (f"; and {len(reasons) - 10} more" if reasons[10:] else "")
    return (
        f"too few photographs: {'; '.join(short)}. Set aside: {listed or 'none'}. "
        "Add photographs, or loosen the bounds in the profile's data section"
    )
