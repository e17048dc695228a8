"""A causal language model from a folder or the hub: network and tokenizer, device and dtype, hashes of the files."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from spa_bench.errors import ModelError, UsageError
from spa_bench.models.hf.gguf_header import is_gguf
from spa_bench.models.hf.hub import not_here, only_here
from spa_bench.models.hf.placed import is_movable, loaded, prepare
from spa_bench.models.hf.weight_files import check_pointers, check_weights, weight_notes
from spa_bench.support.memory import is_out_of_memory
from spa_bench.support.provenance import hash_file, hash_folder
from spa_bench.support.text import one_line

_SAMPLE = (
    "# It's 1,234\ndef f(x):\n    return x + 12  # the  sum\n\n\tif é != 你:\n"  # begins with no space, and no special token
)
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

loads = threading.RLock()
"""Held while transformers loads a model: it changes torch's default dtype and initialisers, which all threads share."""


class Loaded(NamedTuple):
    """What load_network gives."""

    network: Any
    tokenizer: Any
    notes: tuple[str, ...]  # lines on what is not as the files have it


def load_network(
    path: str, dtype: torch.dtype, *, revision: str | None, trust_remote_code: bool, more: Mapping[str, Any] | None = None
) -> Loaded:
    """Network and tokenizer of a local folder or a name on the hub. Raises ModelError on one line.

    The weights are on the CPU, unless `more`, further arguments of from_pretrained, say otherwise; see weights.py.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    more = more or {}
    check_folder(path)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    common: dict[str, Any] = {"trust_remote_code": trust_remote_code, "revision": revision}
    common |= {"local_files_only": True} if only_here(path, revision) else {}
    tokenizer = load_tokenizer(AutoTokenizer, path, **common)
    try:
        with loads:
            network, loading = AutoModelForCausalLM.from_pretrained(
                path, dtype=dtype, use_safetensors=True, output_loading_info=True, **common, **more
            )
    except Exception as error:  # a config can hold anything, such as nulls, and the class of its architecture trips over it
        raise _unloadable(error, path, local="local_files_only" in common, more=more) from error
    if network._hf_peft_config_loaded:  # from the hub; a folder is refused before
        raise ModelError(f"cannot load model {path!r}: it comes with an adapter of PEFT; give its base model, or a merged one")
    check_weights(loading, path)
    said = tokenizer_note(path, tokenizer, revision)
    return Loaded(network, tokenizer, (*weight_notes(loading, path), *([said] if said else [])))


def _unloadable(error: Exception, path: str, *, local: bool, more: Mapping[str, Any]) -> ModelError:
    """What is told of `error`, with which transformers ended over the weights of `path`; `local`: the hub was not asked."""
    from safetensors import SafetensorError

    if isinstance(error, OSError) and local:
        return not_here(path)
    if is_out_of_memory(error):
        return _too_large(path, placed="max_memory" in more)
    first = str(error).strip().split("\n", 1)[0]
    if "dispatched on the CPU or the disk" in first:
        return ModelError(
            f"cannot load model {path!r} with quantised weights: they do not fit the GPUs, and such weights cannot lie in "
            "main memory or on disk; give engine.max_memory more room or use 4bit, or leave engine.quantize out"
        )
    if "ignore_mismatched_sizes" in first:  # its words point to a report that nobody sees
        return ModelError(
            f"cannot load model {path!r}: the weights have other shapes than config.json says; compare it with the one "
            "that the model was published with"
        )
    if isinstance(error, json.JSONDecodeError) or "weight_map" in first:
        return ModelError(
            f"cannot load model {path!r}: config.json, generation_config.json or model.safetensors.index.json is broken "
            f"({told(error)}); compare them with those that the model was published with"
        )
    if isinstance(error, OSError | ValueError | KeyError | RuntimeError | ImportError | MemoryError | SafetensorError):
        if "quantization_config" in more:
            return ModelError(
                f"cannot load model {path!r} with quantised weights: {first}; leave engine.quantize out, or give a model "
                "with plain safetensors weights that the GPUs hold"
            )
        return ModelError(f"cannot load model {path!r}: {first}; give a folder or a hub name with safetensors weights")
    return ModelError(
        f"cannot load model {path!r}: config.json or generation_config.json does not fit its architecture ({told(error)}); "
        f"compare them with those that the model was published with"
    )


def settled(network: Any, device: torch.device, path: str) -> nn.Module:
    """A loaded network, frozen, on `device`; one that has been placed or quantised stays where it is.

    Raises ModelError where it does not fit.
    """
    if is_movable(network):
        try:
            network = network.to(device)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise _too_large(path) from error
    prepare(network)
    frozen: nn.Module = network.eval().requires_grad_(False)
    return frozen


def _too_large(path: str, *, placed: bool = False) -> ModelError:
    way = (
        "give the fullest device less in engine.max_memory" if placed else "spread its layers by --set engine.placement=layers"
    )
    return ModelError(
        f"out of memory while model {path!r} is loaded: {way}, use fewer bits by --set engine.quantize=8bit or 4bit, or a "
        "smaller dtype"
    )


def load_tokenizer(auto: Any, path: str, **options: Any) -> Any:
    """The tokenizer that transformers' AutoTokenizer `auto` makes of `path`. Raises ModelError on one line.

    Its files are read by code of several libraries, which raise exceptions of every kind for broken ones.
    """
    try:
        return auto.from_pretrained(path, **options)
    except BaseException as error:
        if not of_others(error):
            raise
        if isinstance(error, OSError) and options.get("local_files_only"):
            raise not_here(path) from error
        raise ModelError(
            f"cannot load model {path!r}: {told(error)}; give a folder or a hub name with a config, a whole tokenizer "
            f"and safetensors weights"
        ) from error


def tokenizer_note(path: str, tokenizer: Any, revision: str | None = None) -> str:
    """A line where `tokenizer`, as transformers makes it, has other tokens for a text than tokenizer.json has; else "".

    transformers builds the tokenizers of some classes anew, and takes from that file the vocabulary alone.
    """
    from tokenizers import Tokenizer

    file = _file(path, "tokenizer.json", revision)
    if file is None or not tokenizer.is_fast:
        return ""
    try:
        stated = Tokenizer.from_file(str(file))
        stated.no_truncation()
        stated.no_padding()
        there = stated.encode(_SAMPLE, add_special_tokens=False).ids
        here = tokenizer(_SAMPLE, add_special_tokens=False)["input_ids"]
    except BaseException as error:
        if not of_others(error):
            raise
        return ""  # the codec tries it
    if here == there:
        return ""
    return (
        f"tokenizer: {type(tokenizer).__name__}, as which transformers loads it, has other tokens for a text than the model's "
        "tokenizer.json; the answers are those of plain transformers"
    )


def of_others(error: BaseException) -> bool:
    """Whether it is an error of a library: an Exception, or a panic of code in Rust, which is none."""
    return isinstance(error, Exception) or type(error).__module__ == "pyo3_runtime"


def told(error: BaseException) -> str:
    """The kind of `error` and the beginning of its message, on one line."""
    words = one_line(error, 200)
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def embedding_rows(network: Any) -> int:
    """The number of tokens that `network` can read."""
    return int(network.get_input_embeddings().weight.shape[0])


def check_folder(path: str) -> None:
    """Raise ModelError where `path` is a path without a folder, or a folder without a whole model."""
    if Path(path).is_absolute() and not Path(path).is_dir():
        raise ModelError(f"no model folder at {path}")
    if Path(path).is_dir() and not (Path(path) / "config.json").is_file():
        if (Path(path) / "adapter_config.json").is_file():
            raise ModelError(
                f"cannot load model {path!r}: the folder holds an adapter of PEFT alone; merge it into its base model "
                "(merge_and_unload, save_pretrained) and give the merged one"
            )
        files = sorted(str(file) for file in Path(path).iterdir() if is_gguf(str(file)))
        other = f", or the GGUF file {files[0]}" if files else ""
        raise ModelError(
            f"cannot load model {path!r}: no config.json in that folder; give the one with weights and tokenizer{other}"
        )
    if (Path(path) / "adapter_config.json").is_file():
        raise ModelError(
            f"cannot load model {path!r}: an adapter of PEFT lies beside the model (adapter_config.json), and it is unclear "
            "which is meant; move the adapter's two files elsewhere for the model alone, or merge it (merge_and_unload)"
        )
    if Path(path).is_dir():
        check_pointers(Path(path))


def device_of(wanted: str) -> torch.device:
    """The device of that name, or for auto the best there is. Raises UsageError."""
    return torch.device(_device_name(wanted))


def dtype_of(wanted: str, device: torch.device) -> torch.dtype:
    """The dtype of that name; auto is float32 on a CPU and bfloat16 elsewhere. Raises UsageError."""
    default = "float32" if device.type == "cpu" else "bfloat16"
    name = default if wanted == "auto" else wanted
    if name not in _DTYPES:
        raise UsageError(f"unknown dtype {wanted!r}; use auto, {', '.join(_DTYPES)}")
    return _DTYPES[name]


def _device_name(wanted: str) -> str:
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.split(":")[0] not in {"cpu", "cuda"}:
        raise UsageError(f"unknown device {wanted!r}; use auto, cpu or cuda")
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"device {wanted!r} was asked for, but torch sees no CUDA device here; use --device cpu")
    number = wanted.partition(":")[2]
    if number and wanted.startswith("cuda") and not (number.isdigit() and int(number) < torch.cuda.device_count()):
        count = torch.cuda.device_count()
        known = "only cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise UsageError(f"device {wanted!r} was asked for, but torch sees {count} GPU{'s' * (count > 1)} here: {known}")
    return wanted


def end_tokens(tokenizer: Any, network: Any) -> frozenset[int]:
    """Every token that ends an answer: the tokenizer's and the generation config's, in which -1 says that there is none.

    Raises ModelError where there is none at all, or something is stated that is no token's number.
    """
    ends = [tokenizer.eos_token_id, getattr(network.generation_config, "eos_token_id", None)]
    stated = [t for e in ends for t in (e if isinstance(e, list) else [e]) if t is not None]
    if odd := [t for t in stated if not isinstance(t, int)]:
        raise ModelError(
            f"generation_config.json of {tokenizer.name_or_path!r} has {odd[0]!r} in eos_token_id, which is no token's number; "
            "give a number there, or a list of numbers"
        )
    if not (found := frozenset(t for t in stated if t >= 0)):
        raise ModelError(f"the tokenizer of {tokenizer.name_or_path!r} has no end-of-text token; set eos_token in its config")
    return found


def hash_state(network: nn.Module, tokenizer: Any) -> str:
    """Hash over names and values of all weights, adapters left out, and over the tokenizer with its chat template."""
    digest = hashlib.blake2b(digest_size=16)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    words = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    digest.update(json.dumps([words, getattr(tokenizer, "chat_template", None)]).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.replace(".base.", ".").encode() + b"\0")
        with loaded(network, name, tensor) as whole:
            digest.update(whole.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def hub_commit(path: str, revision: str | None) -> str | None:
    """The hub's commit that a model's files are of, once they are in the hub's cache; None for a folder.

    The cache says it: configs of transformers know it no longer (5.23).
    """
    config = _in_cache(path, "config.json", revision)
    return None if config is None else config.parent.name


def _file(path: str, name: str, revision: str | None) -> Path | None:
    """The file `name` of a model, in its folder or in the hub's cache; None where there is none."""
    if Path(path).is_dir():
        return found if (found := Path(path) / name).is_file() else None
    return _in_cache(path, name, revision)


def _in_cache(path: str, name: str, revision: str | None) -> Path | None:
    """The file `name` of a model in the hub's cache; None for a folder."""
    from huggingface_hub import try_to_load_from_cache

    found = None if Path(path).is_dir() else try_to_load_from_cache(path, name, revision=revision)
    return Path(found) if isinstance(found, str) else None


def hash_here(network: Any, tokenizer: Any, path: str, *, commit: str | None, code: bool) -> str:
    """The hash of a model by everything that its texts depend on: of the files in a folder, or of what came from the hub.

    The latter are weights and tokenizer as they are loaded, and the config files of `commit`, see hub_commit. `code`: the
    model's own code counts too.
    """
    if Path(path).is_dir():
        return hash_folder(Path(path), {".py"} if code else ())
    digest = hashlib.blake2b(hash_state(network, tokenizer).encode(), digest_size=16)
    config, names = _in_cache(path, "config.json", commit), {"config.json", "generation_config.json"}
    for file in sorted(config.parent.iterdir()) if config is not None else ():
        if file.name in names or (code and file.suffix == ".py"):
            digest.update(file.name.encode() + b"\0" + hash_file(file).encode())
    return digest.hexdigest()
