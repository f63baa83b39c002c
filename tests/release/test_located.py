"""Which model is meant: by version, alias or folder, with or without MLflow."""

from __future__ import annotations

import subprocess
import sys
from unittest.mock import Mock

import pytest

from tudsr.errors import ModelError, RegistryError
from tudsr.release import locate
from tudsr.release.bundle import load_bundle
from tudsr.release.promotion import promote
from tudsr.release.registry import fetch

pytestmark = pytest.mark.usefixtures("shared_store")


def test_the_champion_is_found_without_mlflow_once_it_is_in_the_cache(make, name, store):
    code = (
        "import sys; from tudsr.release.locate import locate;"
        f"found = locate(name={name!r}); print(found.version, found.path, 'mlflow' in sys.modules)"
    )

    def located():
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    made = make(1)
    promote(name)
    folder = str(store / "cache" / "bundles" / made.bundle_hash)
    assert locate.locate(name=name) == locate.Located(fetch(made), "1", "registry")
    assert located() == ["1", folder, "False"]
    second = make(2, champion="1", beats=True)
    promote(name)
    fetch(second)
    assert located() == ["2", str(store / "cache" / "bundles" / second.bundle_hash), "False"]


@pytest.mark.parametrize("wanted", ["1", "champion", "2", "challenger"])
def test_the_short_way_and_mlflow_agree(make, name, wanted):
    first = make(1)
    promote(name)
    second = make(2, champion="1", beats=True)
    expected = first if wanted in {"1", "champion"} else second
    slow = locate.locate(wanted, name)
    assert slow == locate.locate(wanted, name)
    assert slow.path == locate.cached_bundle(expected.bundle_hash)


def test_a_folder_is_used_as_it_is(parts, tmp_path):
    out = parts.bundle(tmp_path / "b")
    assert locate.locate_model(str(out)) == out
    with pytest.raises(ModelError, match="not a bundle"):
        locate.locate_model(str(tmp_path / "nowhere"))


def test_without_a_champion_the_shipped_model_is_used_or_make_run_named(
    parts, tmp_path, name, monkeypatch
):
    monkeypatch.setattr(locate, "SHIPPED", tmp_path / "shipped")
    with pytest.raises(ModelError, match="make run"):
        locate.locate_model(name=name)
    parts.bundle(tmp_path / "shipped")
    assert locate.locate(name=name) == locate.Located(tmp_path / "shipped", None, "shipped")


def test_a_new_model_is_held_against_the_champion_else_the_shipped_model(
    parts, make, tmp_path, name, monkeypatch
):
    monkeypatch.setattr(locate, "SHIPPED", tmp_path / "shipped")
    assert locate.rival(name) is None
    parts.bundle(tmp_path / "shipped", 7)
    against = locate.rival(name)
    assert against == f"shipped-{load_bundle(tmp_path / 'shipped').bundle_hash[:12]}"
    assert locate.locate(against, name).path == tmp_path / "shipped"
    assert locate.rival(name, shipped_counts=False) is None
    make(champion=against, beats=False)
    with pytest.raises(RegistryError, match=r"does not beat the model that comes with .*better on"):
        promote(name)
    promote(name, force_reason="mine")
    assert (locate.rival(name) or "").startswith("1-")
    make(2, champion=against, beats=True)
    with pytest.raises(RegistryError, match="compared with the model that comes with the project"):
        promote(name, "2")


def test_an_opponent_is_a_certain_bundle_and_no_other_of_its_number(
    parts, make, tmp_path, name, monkeypatch
):
    """Numbers begin anew in each registry: by the number alone, the gate came from the cache."""
    made = make(1)
    promote(name)
    against = locate.rival(name)
    assert against == f"1-{made.bundle_hash[:12]}"
    assert locate.locate(against, name) == locate.Located(fetch(made), "1", "registry")
    other = f"1-{'0' * 12}"
    with pytest.raises(ModelError, match=f"{other} is another bundle here, {against[2:]}"):
        locate.locate(other, name)
    monkeypatch.setattr(locate, "SHIPPED", parts.bundle(tmp_path / "shipped"))
    with pytest.raises(ModelError, match="is another bundle here"):
        locate.locate(f"shipped-{'0' * 12}", name)


def test_no_model_is_held_against_a_shipped_one_whose_base_was_replaced(
    parts, tmp_path, name, monkeypatch, caplog
):
    monkeypatch.setattr(locate, "SHIPPED", tmp_path / "shipped")
    parts.bundle(tmp_path / "shipped")
    monkeypatch.setattr(locate, "base_folder", Mock(side_effect=ModelError("another base")))
    with caplog.at_level("WARNING"):
        assert locate.rival(name) is None
    assert "another base" in caplog.text


def test_a_draw_with_the_shipped_model_is_no_reason_against_promotion(make, name):
    """What `make run` makes is about as good: nobody made the shipped one champion."""
    draw = {"x4": {"mean": 0.0001, "low": -0.001, "high": 0.001, "smaller": 5, "count": 12}}
    make(champion="shipped-0123456789ab", beats=False, versus_champion=draw)
    assert promote(name).moved_to == "1"


def test_a_model_better_than_the_shipped_one_is_promoted(make, name):
    make(champion="shipped-0123456789ab", beats=True)
    assert promote(name).moved_to == "1"


def test_an_unknown_version_lists_the_known(make, name):
    make()
    with pytest.raises(RegistryError, match=r"'9' is no .*Registered: 1, challenger"):
        locate.locate_model("9", name)


def test_a_registry_that_does_not_answer_is_no_reason_to_serve_another_model(name, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:9") as caught:
        locate.locate_model(name=name)
    assert "secret" not in str(caught.value)
