"""A tiny BERT checkpoint as sentence-transformers saves them, and its vectors computed the plain way."""

import json
import math
import re
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

WIDTH, HEADS, LAYERS, HIDDEN, POSITIONS = 32, 4, 2, 64, 40
VOCABULARY = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "lamp", "was", "out", "and", "keep", "##er", "sea"),
    *(".", ",", *"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz")),
]
Tensors = dict[str, np.ndarray]


def tensors(prefix: str = "") -> Tensors:
    """Weights from a formula: the same on every machine, whatever numpy's generators become."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(VOCABULARY), WIDTH),
        "embeddings.position_embeddings.weight": (POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
    }
    norms = ["embeddings.LayerNorm"]
    for i in range(LAYERS):
        at = f"encoder.layer.{i}."
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            shapes[f"{at}attention.{name}.weight"] = (WIDTH, WIDTH)
        shapes[f"{at}intermediate.dense.weight"] = (HIDDEN, WIDTH)
        shapes[f"{at}output.dense.weight"] = (WIDTH, HIDDEN)
        norms += [f"{at}attention.output.LayerNorm", f"{at}output.LayerNorm"]
    shapes |= {n.replace("weight", "bias"): (s[0],) for n, s in shapes.items() if n.startswith("encoder")}
    shapes |= {f"{norm}.{part}": (WIDTH,) for norm in norms for part in ("weight", "bias")}
    made = {}
    for j, (name, shape) in enumerate(sorted(shapes.items())):
        wave = np.sin(np.arange(math.prod(shape)) ** 1.5 * (0.7 + 0.013 * j) + j).reshape(shape)
        base = 1.0 if name.endswith("LayerNorm.weight") else 0.0
        made[prefix + name] = (base + 0.4 * wave).astype(np.float32)
    return made


def write_safetensors(path: Path, made: Tensors, dtype: str = "F32") -> None:
    """The format of safetensors: length of the header, header, bytes; bfloat16 by cutting float32 off."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, tensor in made.items():
        if dtype == "BF16":
            raw = (tensor.view(np.uint32) >> 16).astype("<u2").tobytes()
        else:
            raw = tensor.astype({"F32": "<f4", "F16": "<f2"}[dtype]).tobytes()
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        data += raw
    ids = np.arange(POSITIONS).tobytes()  # old checkpoints hold position ids, which are no weights
    offsets = [len(data), len(data) + len(ids)]
    header["embeddings.position_ids"] = {"dtype": "I64", "shape": [1, POSITIONS], "data_offsets": offsets}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data + ids)


def write_checkpoint(
    folder: Path,
    *,
    model_type: str = "bert",
    pooling: str = "mean",
    normalize: bool = True,
    new_format: bool = False,
    max_tokens: int | None = 24,
    lower_case: bool = False,
    prefix: str = "",
    dtype: str = "F32",
) -> Path:
    """All that sentence-transformers needs to load it, in the layout up to its version 4 or that since 5."""
    (folder / "1_Pooling").mkdir(parents=True)
    kind = "sentence_transformers.{}.modules.{}.{}" if new_format else "sentence_transformers.models.{2}"
    parts = [("Transformer", "", "base"), ("Pooling", "1_Pooling", "sentence_transformer")]
    parts += [("Normalize", "2_Normalize", "base")] if normalize else []
    pooling_config: dict = {"word_embedding_dimension": WIDTH}
    pooling_config |= {f"pooling_mode_{mode}": False for mode in ("cls_token", "mean_tokens", "max_tokens")}
    pooling_config[{"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}[pooling]] = True
    if new_format:
        pooling_config = {"embedding_dimension": WIDTH, "pooling_mode": pooling, "include_prompt": True}
    files = {
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": kind.format(where, name.lower(), name)}
            for i, (name, path, where) in enumerate(parts)
        ],
        "1_Pooling/config.json": pooling_config,
        "config.json": {
            "model_type": model_type,
            "architectures": [{"bert": "BertModel", "roberta": "RobertaModel"}[model_type]],
            "hidden_size": WIDTH,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "intermediate_size": HIDDEN,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-6,
            "max_position_embeddings": POSITIONS,
            "type_vocab_size": 2,
            "vocab_size": len(VOCABULARY),
            "pad_token_id": 0,
        },
        "sentence_bert_config.json": {"max_seq_length": max_tokens, "do_lower_case": lower_case},
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"},
    }
    if new_format:
        files["sentence_bert_config.json"] = {"transformer_task": "feature-extraction"}
        files["tokenizer_config.json"]["model_max_length"] = max_tokens
        files["config_sentence_transformers.json"] = {"default_prompt_name": None, "prompts": {"query": ""}}
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value))
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(VOCABULARY[:4])
    tokenizer.enable_truncation(8)  # of whoever saved it; the settings have the last word
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_safetensors(folder / "model.safetensors", tensors(prefix), dtype)
    return folder


def plain_ids(text: str, max_tokens: int) -> list[int]:
    """WordPiece by hand (Wu et al. 2016): longest piece first; [UNK] for a rest, or beyond 100 letters."""
    ids = []
    for word in re.findall(r"\[SEP\]|\w+|[^\w\s]", text):
        pieces, at = ([VOCABULARY.index(word)], len(word)) if word == "[SEP]" else ([], 0)
        while at < len(word):
            starts = [word[at:end] for end in range(len(word), at, -1)]
            known = [p for p in starts if ("##" if at else "") + p in VOCABULARY]
            if not known or len(word) > 100:
                pieces = [VOCABULARY.index("[UNK]")]
                break
            pieces.append(VOCABULARY.index(("##" if at else "") + known[0]))
            at += len(known[0])
        ids += pieces
    return [2, *ids[: max_tokens - 2], 3]


def plain_vector(
    text: str, w: Tensors, *, first: int = 0, max_tokens: int = 24, cls: bool = False
) -> np.ndarray:
    """float64[d]: a sentence and a head at a time, nothing padded, and not normalised at the end."""
    w = {name: tensor.astype(np.float64) for name, tensor in w.items()}

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        spread = np.sqrt(x.var(1, keepdims=True) + 1e-6)
        return (x - x.mean(1, keepdims=True)) / spread * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    ids = plain_ids(text, max_tokens)
    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.token_type_embeddings.weight"][0]
    x = norm(x + w["embeddings.position_embeddings.weight"][first : first + len(ids)], "embeddings.LayerNorm")
    for i in range(LAYERS):
        at = f"encoder.layer.{i}."
        q, k, v = (linear(x, f"{at}attention.self.{name}") for name in ("query", "key", "value"))
        mixed = []
        for h in range(HEADS):
            part = slice(h * WIDTH // HEADS, (h + 1) * WIDTH // HEADS)
            odds = np.exp(q[:, part] @ k[:, part].T / math.sqrt(WIDTH // HEADS))
            mixed.append(odds / odds.sum(1, keepdims=True) @ v[:, part])
        mixed_x = linear(np.concatenate(mixed, 1), f"{at}attention.output.dense")
        x = norm(x + mixed_x, f"{at}attention.output.LayerNorm")
        up = linear(x, f"{at}intermediate.dense")
        up *= (1 + np.vectorize(math.erf)(up / math.sqrt(2))) / 2
        x = norm(x + linear(up, f"{at}output.dense"), f"{at}output.LayerNorm")
    return x[0] if cls else x.mean(0)
