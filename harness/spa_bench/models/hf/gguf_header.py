"""What a GGUF file states, without the values of its tensors."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spa_bench.errors import ModelError
from spa_bench.support.text import one_line

if TYPE_CHECKING:
    from gguf import GGUFReader

_VERSIONS = (2, 3)
_PLAIN = {"F32", "F16", "BF16", "F64", "I8", "I16", "I32", "I64"}  # types of tensors that are not quantised


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a GGUF file states, without its tensors."""

    stated: Mapping[str, object]  # keys and values; arrays are lists
    types: Counter[str]  # quantisation -> numbers that are stored in it
    shapes: Mapping[str, tuple[int, ...]]  # of the tensors, by their names, the longest stride first

    @property
    def architecture(self) -> str:
        """The name of its architecture, as llama.cpp has it."""
        return str(self.stated.get("general.architecture"))

    @property
    def own(self) -> dict[str, object]:
        """What the file states of its architecture, by the keys after its name."""
        return self._after(f"{self.architecture}.")

    @property
    def tokenizer(self) -> dict[str, object]:
        """What the file states of its tokenizer, by the keys after `tokenizer.ggml.`."""
        return self._after("tokenizer.ggml.")

    @property
    def template(self) -> str | None:
        """The chat template, if there is one."""
        template = self.stated.get("tokenizer.chat_template")
        return template if isinstance(template, str) else None

    @property
    def numbers(self) -> int:
        """How many numbers its tensors hold."""
        return sum(self.types.values())

    @property
    def weights(self) -> str:
        """What is done to its weights, as in "dequantised from Q4_1", by the type in which most numbers are stored."""
        packed = {name: count for name, count in self.types.items() if name not in _PLAIN}
        counts = packed or self.types
        most = max(counts, key=counts.__getitem__)
        return f"dequantised from {most}" if packed else f"read from {most}"

    def _after(self, prefix: str) -> dict[str, object]:
        return {key.removeprefix(prefix): value for key, value in self.stated.items() if key.startswith(prefix)}


def is_gguf(name: str) -> bool:
    """Whether the name of a model is that of a GGUF file; a folder may have such a name too."""
    return name.lower().endswith(".gguf") and not Path(name).is_dir()


def read_header(path: Path) -> Header:
    """The header of a file.

    Raises ModelError where it is no GGUF, or of another version, ends before its last tensor, or is one part of several.
    """
    try:
        with path.open("rb") as stream:
            _check_begin(stream.read(8), path)
        reader = _reader(path)
        stated = {key: field.contents() for key, field in reader.fields.items() if field.types}
        types: Counter[str] = Counter()
        for tensor in reader.tensors:
            types[tensor.tensor_type.name] += int(tensor.n_elements)
        shapes = {tensor.name: tuple(int(size) for size in reversed(tensor.shape)) for tensor in reader.tensors}
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError, struct.error, MemoryError) as error:
        size = path.stat().st_size
        raise ModelError(
            f"cannot read {path}, {size} bytes: it is cut off or damaged ({one_line(error, 80)}); get it again"
        ) from error
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    parts = stated.get("split.count")
    if isinstance(parts, int) and parts > 1:
        first = stated.get("split.no")
        which = f"part {first + 1}" if isinstance(first, int) else "one part"
        raise ModelError(
            f"{path} is {which} of {parts} of a split GGUF; merge all of them (llama-gguf-split --merge FIRST WHOLE.gguf) and "
            "give the whole file"
        )
    if "general.architecture" not in stated or not shapes:
        raise ModelError(f"{path} holds no model: it states no architecture, or has no tensors")
    return Header(stated=stated, types=types, shapes=shapes)


def _check_begin(begin: bytes, path: Path) -> None:
    """Raise ModelError unless the first 8 bytes of a file are those of a little-endian GGUF of a known version."""
    if begin[:4] != b"GGUF":
        raise ModelError(f"{path} is no GGUF file: it does not begin with GGUF")
    version, swapped = int.from_bytes(begin[4:], "little"), int.from_bytes(begin[4:], "big")
    if len(begin) < 8 or version in _VERSIONS:
        return
    if swapped in _VERSIONS:
        raise ModelError(f"{path} is a big-endian GGUF file, which is not read here; get the little-endian one")
    known = " and ".join(map(str, _VERSIONS))
    raise ModelError(f"{path} is a GGUF file of version {version}, and versions {known} are read here; get it in one of these")


def _reader(path: Path) -> GGUFReader:
    """The library's reader, which raises ValueError where the file ends before what it states.

    By itself it takes what is there: an array that is said to hold 2^40 numbers would take all memory.
    """
    from gguf import GGUFReader

    class Whole(GGUFReader):
        def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
            found = super()._get(offset, dtype, count, override_order)
            if len(found) < count:
                raise ValueError(f"it states more than its {len(self.data)} bytes hold")
            return found

    return Whole(path)
