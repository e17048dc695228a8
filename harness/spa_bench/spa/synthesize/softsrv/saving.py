"""A trained soft prompt as files, from which it is used again.

`softsrv.json` says what it is: form, sizes, encoder, layout, the model that it was trained for, and how training went. The
numbers of `nsp` lie beside it in PEFT's prompt-tuning format, which PEFT loads (PeftModel.from_pretrained); those of `mpk` and
`mc`, for which PEFT has no format, in softsrv.safetensors with the encoder's means and standard deviations.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from spa_bench.errors import ModelError
from spa_bench.models.hf.model import HFModel
from spa_bench.models.hf.soft_prompt import SoftPrompts
from spa_bench.spa.synthesize.layout import Layout, layout_of
from spa_bench.spa.synthesize.softsrv.encoding import Array, Encoder
from spa_bench.spa.synthesize.softsrv.forms import SharedPrompt, empty_form, form_of
from spa_bench.spa.synthesize.softsrv.options import SoftSRVOptions
from spa_bench.spa.synthesize.softsrv.training import Look, Trained
from spa_bench.support.files import put

SAID = "softsrv.json"
_NUMBERS = "softsrv.safetensors"
_PEFT_CONFIG, _PEFT_NUMBERS, _PEFT_NAME = "adapter_config.json", "adapter_model.safetensors", "prompt_embeddings"


@dataclass(frozen=True, kw_only=True, eq=False)
class SoftPrompt:
    """A trained soft prompt and what it needs to be used."""

    form: nn.Module
    options: SoftSRVOptions
    encoder: Encoder | None  # None: the form has no z
    layout: Layout
    trained: Trained

    def z(self, soft: SoftPrompts, texts: Sequence[str]) -> Array:
        """z (n, w) of each text; w is 0 for a form without z. Raises as Encoder.encode."""
        if self.encoder is None:
            return np.zeros((len(texts), 0), np.float32)
        return self.encoder.encode(soft, texts)

    @torch.no_grad()
    def prompts(self, z: Array) -> Tensor:
        """The soft prompts (B, T, d) of z (B, w)."""
        return form_of(self.form)(torch.from_numpy(z).to(next(self.form.parameters()).device))


def save_prompt(prompt: SoftPrompt, folder: Path, model: HFModel, *, key: str = "") -> None:
    """Write `prompt` into `folder`; `softsrv.json` comes last. `key` names the training."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    form, encoder = prompt.form, prompt.encoder
    said: dict[str, object] = {
        "form": prompt.options.form,
        "options": asdict(prompt.options),
        "layout": prompt.layout.name,
        "base": model.describe(),
        "training": asdict(prompt.trained),
        "key": key,
    }
    if isinstance(form, SharedPrompt):
        vectors = form_of(form)(torch.zeros(1, 0))[0].detach().cpu().contiguous()
        put(folder / _PEFT_NUMBERS, save({_PEFT_NAME: vectors}, metadata={"format": "pt"}))
        put(folder / _PEFT_CONFIG, _json(_peft_config(model, vectors)))
        said["vectors"] = list(vectors.shape)
    else:
        assert encoder is not None  # only nsp has none
        tensors = {f"form.{name}": value.detach().cpu().contiguous() for name, value in form.state_dict().items()}
        tensors |= {"encoder.mean": torch.from_numpy(encoder.mean), "encoder.spread": torch.from_numpy(encoder.spread)}
        put(folder / _NUMBERS, save(tensors, metadata={"format": "pt"}))
        said["vectors"] = list(tensors["form.prompt" if prompt.options.form == "mc" else "form.prompts"].shape[-2:])
        said["encoder"] = {
            "name": encoder.name,
            "layer": encoder.layer,
            "identity": encoder.identity,
            "width": encoder.width,
        }
    put(folder / SAID, _json(said))


def saved_key(folder: Path) -> str | None:
    """The key of the training whose result lies in `folder`; None where there is none."""
    try:
        return str(json.loads((folder / SAID).read_text(encoding="utf-8"))["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def load_prompt(folder: Path, soft: SoftPrompts) -> SoftPrompt:
    """The soft prompt that `save_prompt` wrote into `folder`.

    Raises ModelError where it is not whole, or was trained for another model than that of `soft`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        said: dict[str, Any] = json.loads((folder / SAID).read_text(encoding="utf-8"))
        options = SoftSRVOptions(**said["options"])
        nsp = options.form == "nsp"
        tensors = load_file(str(folder / (_PEFT_NUMBERS if nsp else _NUMBERS)))
        length, vectors = said["vectors"]
        there, here = said["base"], soft.model.describe()
        if there["hash"] != here["hash"]:
            raise ModelError(
                f"the soft prompt in {folder} was trained for the model {there['name']!r} ({there['hash']}), and this one is "
                f"{here['name']!r} ({here['hash']}): give the model that it was trained for, or train another one"
            )
        encoder, form = None, _loaded(options, tensors, said, length=length, dimensions=vectors)
        if not nsp:
            encoder = Encoder(
                name=said["encoder"]["name"],
                layer=said["encoder"]["layer"],
                identity=said["encoder"]["identity"],
                mean=tensors["encoder.mean"].numpy(),
                spread=tensors["encoder.spread"].numpy(),
            )
        looks = tuple(Look(**look) for look in said["training"]["looks"])
        trained = Trained(looks=looks, best=said["training"]["best"], stopped=said["training"]["stopped"])
        layout = layout_of(said["layout"], ())
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        first = (str(error).strip() or type(error).__name__).split("\n", 1)[0]
        raise ModelError(f"the soft prompt in {folder} is not whole ({first}): remove the folder and train it again") from error
    return SoftPrompt(form=form.to(soft.device), options=options, encoder=encoder, layout=layout, trained=trained)


def _loaded(
    options: SoftSRVOptions, tensors: dict[str, Tensor], said: dict[str, Any], *, length: int, dimensions: int
) -> nn.Module:
    if options.form == "nsp":
        vectors = tensors[_PEFT_NAME]
        if list(vectors.shape) != [length, dimensions]:
            raise ValueError(f"{_PEFT_NUMBERS} has the shape {list(vectors.shape)}, not {[length, dimensions]}")
        return SharedPrompt(vectors, 1.0)
    form = empty_form(options, dimensions=dimensions, width=said["encoder"]["width"])
    form.load_state_dict({name.removeprefix("form."): t for name, t in tensors.items() if name.startswith("form.")})
    return form


def _peft_config(model: HFModel, vectors: Tensor) -> dict[str, object]:
    text = cast(Any, model.network).config.get_text_config()
    return {
        "peft_type": "PROMPT_TUNING",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": model.name,
        "inference_mode": True,
        "num_virtual_tokens": vectors.shape[0],
        "token_dim": vectors.shape[1],
        "num_transformer_submodules": 1,
        "num_attention_heads": text.num_attention_heads,
        "num_layers": text.num_hidden_layers,
        "prompt_tuning_init": "RANDOM",
        "revision": model.options.revision,
    }


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()
