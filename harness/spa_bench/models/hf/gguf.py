"""A model from one GGUF file: dequantised by transformers, checked against what the file states, kept as safetensors.

Weights are multiplied out to float32 once and stay in the cache under the hash of the file. What transformers would read
otherwise than the file states it, or leave out, is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spa_bench.errors import ModelError
from spa_bench.models.hf.gguf_tokenizer import check_tokenizer, repair
from spa_bench.support import lock
from spa_bench.support.cache import ELSEWHERE, model_cache
from spa_bench.support.console import Reporter
from spa_bench.support.files import put, sync_folder
from spa_bench.support.provenance import hash_bytes, hash_folder

_CONVERSION = 1  # counts changes of what this module and gguf_tokenizer make of the same file
_ORIGIN = "ORIGIN"  # the file in a converted folder that says what it was made of; written last
_PLAIN = {"F32", "F16", "BF16", "F64", "I8", "I16", "I32", "I64"}  # types of tensors that are not quantised
_SLACK = 64 << 20  # bytes that stay free
# a key of the architecture by which its texts would change; one that no check below knows is refused
_SHAPING = re.compile("scal|softcap|rope|clamp|window|multiplier|alibi|norm_w")
_ELSEWHERE = "use the model's folder with safetensors"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A folder with safetensors that was made of a GGUF file."""

    folder: Path
    sha256: str  # of the GGUF file
    file: str  # its name
    weights: str  # what was done to them, as in "dequantised from Q4_1"
    package: str = ""  # the package that the file came in, with its version; empty: a file of the user's

    @property
    def hash(self) -> str:
        """The hash of the model: of the GGUF file, and of the way in which it is read here."""
        return hash_bytes(f"{self.sha256} {_CONVERSION}".encode())

    def describe(self) -> dict[str, object]:
        """The part of a spec that says where the weights came from."""
        said: dict[str, object] = {"file": self.file, "sha256": self.sha256, "weights": self.weights}
        return said | ({"package": self.package} if self.package else {})


@dataclass(frozen=True, kw_only=True)
class _Header:
    """What a GGUF file states, without its tensors."""

    stated: Mapping[str, object]  # keys and values; arrays are left out
    types: Counter[str]  # quantisation -> numbers that are stored in it
    names: frozenset[str]  # of the tensors

    @property
    def architecture(self) -> str:
        return str(self.stated.get("general.architecture"))

    @property
    def own(self) -> dict[str, object]:
        """What the file states of its architecture, by the keys after its name."""
        return self._after(f"{self.architecture}.")

    @property
    def tokenizer(self) -> dict[str, object]:
        return self._after("tokenizer.ggml.")

    @property
    def numbers(self) -> int:
        return sum(self.types.values())

    @property
    def weights(self) -> str:
        packed = {name: count for name, count in self.types.items() if name not in _PLAIN}
        return f"dequantised from {max(packed, key=packed.__getitem__)}" if packed else f"read from {max(self.types)}"

    def _after(self, prefix: str) -> dict[str, object]:
        return {key.removeprefix(prefix): value for key, value in self.stated.items() if key.startswith(prefix)}


def is_gguf(name: str) -> bool:
    """Whether the name of a model is that of a GGUF file."""
    return name.lower().endswith(".gguf")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file. Raises ModelError where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error


def from_file(path: Path, console: Reporter) -> Origin:
    """The model in a GGUF file of the user's. Raises ModelError on one line where it cannot be read rightly."""
    if not path.is_file():
        raise ModelError(f"no GGUF file at {path}")
    sha256 = sha256_of(path)
    if (ready := converted(sha256)) is not None:
        return ready
    with holding(model_cache(), console):
        return converted(sha256) or convert(path, sha256, console)  # another process may have made it meanwhile


def is_converted(sha256: str) -> bool:
    """Whether the model made of the GGUF file with that hash is in the cache; its files are not looked at."""
    return (_folder(sha256) / _ORIGIN).is_file()


def converted(sha256: str, package: str = "") -> Origin | None:
    """The model made of the GGUF file with that hash, if it is in the cache and whole. Raises ModelError if it is damaged."""
    folder = _folder(sha256)
    try:
        kept = json.loads((folder / _ORIGIN).read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {folder / _ORIGIN} ({error}); remove {folder} and run it again") from error
    if kept["files"] != hash_folder(folder):
        raise ModelError(f"the model in {folder} was changed since it was made; remove that folder and run it again")
    return Origin(folder=folder, sha256=sha256, file=kept["file"], weights=kept["weights"], package=package)


def convert(path: Path, sha256: str, console: Reporter, *, package: str = "") -> Origin:
    """Make safetensors in float32 of a GGUF file, in the cache, which this process holds.

    A half-made folder is never taken for a whole one.
    Raises ModelError where the file is cut, the disk has no room, transformers does not read the architecture or reads it
    otherwise than stated, or the tokenizer cannot be rebuilt.
    """
    header = _read_header(path)
    check_tokenizer(header.tokenizer, str(path))
    _check_known(header, path)
    folder = _folder(sha256)
    need_room(folder.parent, 4 * header.numbers, f"{path.name} in float32")
    if header.weights.startswith("dequantised"):
        console.note(f"{path.name}: {header.weights} to float32, once; it stays in {folder}")
    new = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    try:
        new.mkdir()
        with console.stage(f"reading {path.name}"):
            _write(header, path, new)
        origin = Origin(folder=folder, sha256=sha256, file=path.name, weights=header.weights, package=package)
        kept = {"sha256": sha256, "file": origin.file, "weights": origin.weights, "files": hash_folder(new)}
        put(new / _ORIGIN, json.dumps(kept, indent=1).encode())
        shutil.rmtree(folder, ignore_errors=True)
        new.replace(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise ModelError(_unwritten(folder.parent, error.strerror or str(error))) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return origin


@contextlib.contextmanager
def holding(folder: Path, console: Reporter) -> Iterator[None]:
    """Hold a folder of the cache, made if need be; waits for another process. Raises ModelError where it is not writable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(_unwritten(folder, error.strerror or str(error))) from error
    if not os.access(folder, os.W_OK):
        raise ModelError(f"cannot write {folder}; SPA_BENCH_CACHE names another folder")

    def wait(owner: str) -> None:
        console.note(f"waiting for {owner}, which prepares a model")

    with lock.hold(folder, wait=wait, instead=ELSEWHERE):
        yield


def need_room(folder: Path, size: int, what: str) -> None:
    """Raise ModelError unless `size` bytes are free where `folder` lies."""
    free = shutil.disk_usage(folder).free
    if free < size + _SLACK:
        raise ModelError(
            f"{what} takes {size / 1e6:.0f} MB and {folder} has {free / 1e6:.0f} MB free; make room, or let SPA_BENCH_CACHE "
            "name a folder on another disk"
        )


def _unwritten(folder: Path, reason: str) -> str:
    return f"cannot write {folder}: {reason}; make room, or let SPA_BENCH_CACHE name another folder"


def _folder(sha256: str) -> Path:
    return model_cache() / f"gguf-{sha256[:32]}-{_CONVERSION}"


def _read_header(path: Path) -> _Header:
    """The header of a file. Raises ModelError where the file is no GGUF or ends before its last tensor."""
    from gguf import GGUFReader, GGUFValueType

    try:
        with path.open("rb") as stream:
            if stream.read(4) != b"GGUF":
                raise ModelError(f"{path} is no GGUF file: it does not begin with GGUF")
        reader = GGUFReader(path)
        stated = {
            key: field.contents()
            for key, field in reader.fields.items()
            if field.types and field.types[0] is not GGUFValueType.ARRAY
        }
        types: Counter[str] = Counter()
        for tensor in reader.tensors:
            types[tensor.tensor_type.name] += int(tensor.n_elements)
        names = frozenset(tensor.name for tensor in reader.tensors)
    except (ValueError, IndexError, KeyError, OverflowError, struct.error, MemoryError) as error:
        size = path.stat().st_size
        raise ModelError(
            f"cannot read {path}, {size} bytes: it is cut off or damaged ({' '.join(str(error).split())[:80]}); get it again"
        ) from error
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    if "general.architecture" not in stated or not names:
        raise ModelError(f"{path} holds no model: it states no architecture, or has no tensors")
    return _Header(stated=stated, types=types, names=names)


def _write(header: _Header, path: Path, folder: Path) -> None:
    """Put the file's model into `folder` as safetensors in float32, with its tokenizer."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    network, tokenizer = _read(header, path)
    check_config(header.own, network.config, str(path))
    held = sum(p.numel() for p in network.parameters())
    if held != header.numbers:
        raise ModelError(
            f"{path} holds {header.numbers} numbers in its tensors and the network that transformers makes of it {held}: some "
            f"would be left out{_hint(header)}; {_ELSEWHERE}"
        )
    repair(tokenizer, header.tokenizer, str(path))
    seen: set[int] = set()
    weights = {}
    for name, tensor in network.state_dict().items():
        if tensor.data_ptr() not in seen:  # weights that are tied are written once
            seen.add(tensor.data_ptr())
            weights[name] = tensor.contiguous()
    try:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    except SafetensorError as error:  # a full disk, for one
        raise ModelError(_unwritten(folder.parent, str(error))) from error
    said = {key: value for key, value in network.config.to_dict().items() if key != "quantization_config"}
    config = type(network.config).from_dict(said)
    config.architectures = [type(network).__name__]
    config.save_pretrained(folder)
    generation = network.generation_config
    generation.eos_token_id = _ends(header, generation.eos_token_id)
    generation.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _read(header: _Header, path: Path) -> tuple[Any, Any]:
    """(network in float32, tokenizer) as transformers reads them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    place: dict[str, Any] = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # a bar of tqdm, for which there is no switch
            tokenizer = AutoTokenizer.from_pretrained(**place)
            network, loading = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32, output_loading_info=True)
    except (OSError, ValueError, KeyError, IndexError, TypeError, RuntimeError, NotImplementedError, ImportError) as error:
        first = str(error).strip().split("\n", 1)[0]
        raise ModelError(f"cannot load {path} (architecture {header.architecture!r}): {first}; {_ELSEWHERE}") from error
    if missing := sorted(loading["missing_keys"]):
        raise ModelError(f"cannot load {path}: it lacks {missing[0]!r} ({len(missing)} weights missing); {_ELSEWHERE}")
    return network, tokenizer


def _ends(header: _Header, known: object) -> list[int]:
    """The tokens that end an answer: the file's end of text, of a turn and of a message."""
    stated = [header.tokenizer.get(f"{name}_token_id") for name in ("eos", "eot", "eom")]
    also = known if isinstance(known, list) else [known]
    return sorted({t for t in (*stated, *also) if isinstance(t, int)})


def _hint(header: _Header) -> str:
    return " (rope_freqs.weight, the scaled positions of Llama 3)" if "rope_freqs.weight" in header.names else ""


def _check_known(header: _Header, path: Path) -> None:
    """Raise ModelError for a stated key that would shape texts and that nobody reads."""
    for key, value in header.own.items():
        if value and key not in _CHECKED and key not in _HARMLESS and _SHAPING.search(key):
            raise ModelError(f"{path} states {header.architecture}.{key} = {value}, which is not read here; {_ELSEWHERE}")


# the key of a file -> the attributes of a config of transformers that hold it, the first that there is
_CHECKED: dict[str, tuple[str, ...]] = {
    "context_length": ("max_position_embeddings", "n_positions"),
    "block_count": ("num_hidden_layers", "n_layer"),
    "embedding_length": ("hidden_size", "n_embd"),
    "attention.head_count": ("num_attention_heads", "n_head"),
    "attention.head_count_kv": ("num_key_value_heads",),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps", "norm_eps", "layer_norm_epsilon"),
    "attention.layer_norm_epsilon": ("layer_norm_eps", "norm_epsilon", "layer_norm_epsilon"),
    "attention.sliding_window": ("sliding_window",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "rope.freq_base": ("rope_theta",),
    "rope.dimension_count": ("rotary_dimensions",),
    "rope.scaling.type": ("rope_type",),
}
# of the kinds of keys that shape texts: what one that is checked says too, or transformers reads
_HARMLESS = {
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "rope.dimension_sections",
    "expert_weights_scale",
}


def check_config(stated: Mapping[str, object], config: Any, where: str) -> None:
    """Raise ModelError where a config of transformers differs from what a file states of its architecture."""
    said = config.to_dict()
    said |= _positions(said)
    for key, names in _CHECKED.items():
        name = next((n for n in names if n in said), None)
        value = stated.get(key)
        if key == "attention.sliding_window" and said.get("sliding_window") and not value:
            raise ModelError(
                f"{where} states no window of attention, and transformers would read {said['sliding_window']}; {_ELSEWHERE}"
            )
        if name is None or value is None or isinstance(said[name], list):
            if value and key == "attention.sliding_window":
                raise ModelError(f"{where} states {key} = {value}, which transformers does not read; {_ELSEWHERE}")
            continue
        if not _same(value, said[name]):
            raise ModelError(f"{where} states {key} = {value}, and transformers would read {said[name]}; {_ELSEWHERE}")


def _positions(said: Mapping[str, Any]) -> dict[str, object]:
    """The rotary settings of a config, those of full attention where kinds of layers differ."""
    rope = said.get("rope_parameters") or {}
    rope = rope.get("full_attention", rope)
    heads = said.get("num_attention_heads") or 0
    size = said.get("head_dim") or (said["hidden_size"] // heads if heads and "hidden_size" in said else 0)
    found: dict[str, object] = {}
    if rope:
        found["rope_type"] = rope.get("rope_type", "default")
        share = rope.get("partial_rotary_factor") or said.get("partial_rotary_factor") or 1.0
        if size:
            found["rotary_dimensions"] = int(size * share)
    if "rope_theta" in rope:
        found["rope_theta"] = rope["rope_theta"]
    return found


def _same(stated: object, read: object) -> bool:
    if isinstance(stated, float) and isinstance(read, int | float):
        return abs(stated - read) <= 1e-6 * max(abs(stated), abs(read))  # files hold float32
    return stated == read or (stated == "none" and read == "default")
