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
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spa_bench.errors import ModelError
from spa_bench.models.hf.gguf_header import Header, read_header
from spa_bench.models.hf.gguf_keys import AS_FOLDER, check_config, check_lists, check_needed, check_shapes, check_sizes
from spa_bench.models.hf.gguf_tokenizer import build, check_built, check_tokenizer, closing_token
from spa_bench.support import lock
from spa_bench.support.cache import ELSEWHERE, model_cache, own_cache
from spa_bench.support.console import Reporter
from spa_bench.support.files import put, sync_folder
from spa_bench.support.memory import is_out_of_memory
from spa_bench.support.provenance import hash_bytes, hash_folder

_CONVERSION = 2  # counts changes of what this module and its neighbours make of the same file
_ORIGIN = "ORIGIN"  # the file in a converted folder that says what it was made of; written last
_SLACK = 64 << 20  # bytes that stay free


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A folder with safetensors that was made of a GGUF file."""

    folder: Path
    sha256: str  # of the GGUF file
    file: str  # its name
    weights: str  # what was done to them, as in "dequantised from Q4_1"
    package: str = ""  # the package that the file came in, with its version; empty: a file of the user's
    closing: int | None = None  # the end token of its chat template that the file does not state as one

    @property
    def hash(self) -> str:
        """The hash of the model: of the GGUF file, and of the way in which it is read here."""
        told = f"{self.sha256} {_CONVERSION}"
        return hash_bytes((told if self.closing is None else f"{told} {self.closing}").encode())

    def describe(self) -> dict[str, object]:
        """The part of a spec that says where the weights came from."""
        said: dict[str, object] = {"file": self.file, "sha256": self.sha256, "weights": self.weights}
        return said | ({"package": self.package} if self.package else {})


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
    if (ready := converted(sha256)) is None:
        with holding(model_cache(), console):
            ready = converted(sha256) or convert(path, sha256, console)  # another process may have made it meanwhile
    return replace(ready, file=path.name)  # a copy may have been converted under another name


def is_converted(sha256: str) -> bool:
    """Whether the model made of the GGUF file with that hash is in the cache; its files are not looked at."""
    return (_folder(sha256) / _ORIGIN).is_file()


def converted(sha256: str, package: str = "") -> Origin | None:
    """The model made of the GGUF file with that hash, if it is in the cache and whole. Raises ModelError if it is damaged."""
    folder = _folder(sha256)
    try:
        kept = json.loads((folder / _ORIGIN).read_text(encoding="utf-8"))
        said = {"file": kept["file"], "weights": kept["weights"], "closing": kept.get("closing")}
        origin = Origin(folder=folder, sha256=sha256, package=package, **said)
        whole = kept["files"] == hash_folder(folder)
        if not package and "closing" not in kept:  # made before the template's end token was looked for
            return None
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise _no_folder() from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise ModelError(f"cannot read the model in {folder} ({why}); remove that folder and run it again") from error
    if not whole:
        raise ModelError(f"the model in {folder} was changed since it was made; remove that folder and run it again")
    return origin


def convert(path: Path, sha256: str, console: Reporter, *, package: str = "") -> Origin:
    """Make safetensors in float32 of a GGUF file, in the cache, which this process holds.

    A half-made folder is never taken for a whole one.
    Raises ModelError where the file is cut, the disk has no room, transformers does not read the architecture or reads it
    otherwise than stated, or the tokenizer cannot be rebuilt.
    """
    header = read_header(path)
    check_tokenizer(header.tokenizer, str(path))
    folder = _folder(sha256)
    new = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)  # of a killed process: its room counts as free
    need_room(folder.parent, 4 * header.numbers, f"{path.name} in float32")
    if header.weights.startswith("dequantised"):
        console.note(f"{path.name}: {header.weights} to float32, once; it stays in {folder}")
    try:
        new.mkdir()
        with console.stage(f"reading {path.name}"):
            closing = _write(header, path, new)
        said: dict[str, Any] = {"file": path.name, "weights": header.weights, "closing": closing}
        origin = Origin(folder=folder, sha256=sha256, package=package, **said)
        kept = {"sha256": sha256, **said, "files": hash_folder(new)}
        put(new / _ORIGIN, json.dumps(kept, indent=1).encode())
        shutil.rmtree(folder, ignore_errors=True)
        new.replace(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise ModelError(unwritten(folder.parent, error.strerror or str(error))) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return origin


@contextlib.contextmanager
def holding(folder: Path, console: Reporter) -> Iterator[None]:
    """Hold a folder of the cache, made if need be; waits for another process. Raises ModelError where it is not writable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise _no_folder() from error
    except OSError as error:
        raise ModelError(unwritten(folder, error.strerror or str(error))) from error
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


def unwritten(folder: Path, reason: str) -> str:
    """What is said where the cache's `folder` cannot be written."""
    return f"cannot write {folder}: {reason}; make room, or let SPA_BENCH_CACHE name another folder"


def _no_folder() -> ModelError:
    cache = model_cache()
    file = next((place for place in (cache, *cache.parents) if place.exists() and not place.is_dir()), own_cache())
    return ModelError(f"cannot keep models in {cache}: {file} is a file and no folder; {ELSEWHERE}")


def _folder(sha256: str) -> Path:
    return model_cache() / f"gguf-{sha256[:32]}-{_CONVERSION}"


def _write(header: Header, path: Path, folder: Path) -> int | None:
    """Put the file's model into `folder` as safetensors in float32, with its tokenizer; returns Origin.closing."""
    from safetensors.torch import save_file
    from transformers import AutoTokenizer

    from spa_bench.models.hf.loading import embedding_rows, load_tokenizer

    where = str(path)
    with _alone(path, folder) as place:
        network, tokenizer = _read(header, path, place)
    held = sum(p.numel() for p in network.parameters())
    if held != header.numbers:
        raise ModelError(
            f"{path} holds {header.numbers} numbers in its tensors and the network that transformers makes of it {held}: some "
            f"would be left out{_hint(header)}; {AS_FOLDER}"
        )
    with _writing(folder):
        tokenizer.save_pretrained(folder)
    rows = embedding_rows(network)
    check_built(load_tokenizer(AutoTokenizer, str(folder)), header.tokenizer, rows, where)
    seen: set[int] = set()
    weights = {}
    for name, tensor in network.state_dict().items():
        if tensor.data_ptr() not in seen:  # weights that are tied are written once
            seen.add(tensor.data_ptr())
            weights[name] = tensor.contiguous()
    with _writing(folder):
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    said = {key: value for key, value in network.config.to_dict().items() if key != "quantization_config"}
    config = type(network.config).from_dict(said)
    config.architectures = [type(network).__name__]
    config.save_pretrained(folder)
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode & 0o777)  # it comes with 0600
    generation = network.generation_config
    stated, closing = _ends(header, path, tokenizer)
    generation.eos_token_id = sorted({*stated, *([] if closing is None else [closing])})
    generation.save_pretrained(folder)
    return closing


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn what libraries in Rust raise for a full disk into a ModelError; tokenizers has no class for it but Exception."""
    from safetensors import SafetensorError

    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if not isinstance(error, SafetensorError) and "(os error " not in str(error):
            raise
        raise ModelError(unwritten(folder.parent, str(error))) from error


@contextlib.contextmanager
def _alone(path: Path, scratch: Path) -> Iterator[Path]:
    """A file under its name in a folder of its own: transformers also reads what lies beside it, as an adapter's config."""
    with tempfile.TemporaryDirectory(prefix=".alone-", dir=scratch) as folder:
        place = Path(folder) / path.name
        place.symlink_to(path.resolve())
        yield place


def _read(header: Header, path: Path, place: Path) -> tuple[Any, Any]:
    """(network in float32, as transformers reads it, tokenizer). Raises ModelError on one line, for anything in the file.

    `place` is where transformers finds the file alone. The config that it makes is checked before the weights are read.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    from spa_bench.models.hf.loading import loads, told

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    source: dict[str, Any] = {"pretrained_model_name_or_path": str(place.parent), "gguf_file": place.name}
    try:
        with loads, contextlib.redirect_stderr(io.StringIO()):  # a bar of tqdm, for which there is no switch
            check_sizes(header, str(path))
            config = AutoConfig.from_pretrained(**source)
            check_config(header.architecture, header.own, config, str(path))
            check_needed(header.architecture, header.own, config, str(path))
            check_shapes(header, config, str(path))
            tokenizer = build(header, str(path))
            network, loading = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32, output_loading_info=True)
    except ModelError:
        raise
    except Exception as error:  # a file can state anything, and the classes of its architecture trip over it
        if is_out_of_memory(error):
            raise ModelError(f"out of memory while {path} is read in float32; give a model with fewer parameters") from error
        check_lists(header, str(path))
        why = told(error).replace(str(place), str(path))
        raise ModelError(f"cannot load {path} (architecture {header.architecture!r}): {why}; {AS_FOLDER}") from error
    if missing := sorted(loading["missing_keys"]):
        raise ModelError(f"cannot load {path}: it lacks {missing[0]!r} ({len(missing)} weights missing); {AS_FOLDER}")
    return network, tokenizer


def _ends(header: Header, path: Path, tokenizer: Any) -> tuple[set[int], int | None]:
    """(the file's tokens for the end of text, of a turn and of a message, that of its chat template where it is another).

    Raises ModelError without any.
    """
    named = [header.tokenizer.get(f"{name}_token_id") for name in ("eos", "eot", "eom")]
    stated = {t for t in named if isinstance(t, int)}
    closing = closing_token(tokenizer, header.tokenizer, str(path))
    if not stated and closing is None:
        raise ModelError(f"{path} states no end token (tokenizer.ggml.eos_token_id); {AS_FOLDER}")
    return stated, None if closing in stated else closing


def _hint(header: Header) -> str:
    return " (rope_freqs.weight, the scaled positions of Llama 3)" if "rope_freqs.weight" in header.shapes else ""
