"""What the weight files of a model hold beside what its network reads: pointers, adapters, scales, and all that is left out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spa_bench.errors import ModelError

# in names of PEFT's weights
_OF_ADAPTER = re.compile(
    r"(^|\.)((lora|ia3|oft|boft|vera|hada|lokr)_\w+|base_layer|modules_to_save|original_module|base_model)(\.|$)"
)
_OF_BITS = re.compile(
    r"(weight_scale\w*|scale_inv|scales|\w+_scales|qweight|qzeros|weight_packed|absmax|quant_map|SCB|W_q)(\.|$)"
)
# what a network of transformers computes by itself (masks, positions), and heads that no logits of tokens come from
_IDLE = re.compile(
    r"(^|\.)((attn|attention)\.(masked_)?bias|causal_mask|inv_freq|embed_positions\.weights|(pooler|seq_relationship)\..*)$"
)
_READ = re.compile(r"model(-\d+-of-\d+)?\.safetensors|.*\.(json|model)")  # the other weights beside them are of other programs
_POINTER = b"version https://git-lfs.github.com/spec/"


def check_pointers(folder: Path) -> None:
    """Raise ModelError where a file of the model in `folder` is a pointer of Git LFS in place of the file."""
    for file in sorted(folder.glob("*")):
        spare = file.suffix == ".model" and (folder / "tokenizer.json").is_file()  # which is read in its place
        if _READ.fullmatch(file.name) and not spare and _is_pointer(file):
            raise ModelError(
                f"cannot load model {str(folder)!r}: {file.name} is a pointer of Git LFS, not the file itself; fetch the files "
                "(git lfs pull), or download the model anew"
            )


def _is_pointer(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(len(_POINTER)) == _POINTER
    except OSError:  # whoever reads the file says why not
        return False


def check_weights(loading: Mapping[str, Any], path: str) -> None:
    """Raise ModelError where weights are missing, or an adapter's or the scales of quantised ones would be left out.

    `loading` is what transformers says of loading the model `path`.
    """
    check_merged(loading, path)
    if left := sorted(filter(_OF_BITS.search, loading["unexpected_keys"])):
        raise ModelError(
            f"cannot load model {path!r}: it holds quantised weights ({left[0]!r}, {len(left)} such tensors), and config.json "
            "does not say how to read them; compare its quantization_config with the one that the model was published with"
        )
    if missing := sorted(loading["missing_keys"]):
        raise ModelError(f"cannot load model {path!r}: it lacks {missing[0]!r} ({len(missing)} weights missing)")


def check_merged(loading: Mapping[str, Any], path: str) -> None:
    """Raise ModelError where weights of an adapter would be left out, by what transformers says of `loading` a model."""
    if left := sorted(filter(_OF_ADAPTER.search, loading["unexpected_keys"])):
        raise ModelError(
            f"cannot load model {path!r}: it holds an adapter that was not merged ({left[0]!r}, {len(left)} such weights); "
            "merge it (merge_and_unload, save_pretrained) and give that model, or take these weights out for the base alone"
        )


def weight_notes(loading: Mapping[str, Any], path: str) -> tuple[str, ...]:
    """A line where weights have no place in the network, and one where it is unclear which files are meant."""
    notes = []
    if left := sorted(name for name in loading["unexpected_keys"] if not _IDLE.search(name)):
        notes.append(
            f"weights: {len(left)} in the files have no place in the network that config.json describes, and are left out: "
            f"{', '.join(left[:3])}{', …' if len(left) > 3 else ''}"
        )
    whole, index = "model.safetensors", "model.safetensors.index.json"
    if all((Path(path) / name).is_file() for name in (whole, index)):
        notes.append(f"weights: {whole} is read, and not the files that are named in {index} beside it")
    return tuple(notes)
