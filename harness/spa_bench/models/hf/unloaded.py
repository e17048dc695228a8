"""A model of transformers without its weights: tokenizer and config, for an engine that has the weights somewhere else.

Such a model draws and scores as its engines do. It cannot be trained here, and nobody compares its distributions.
"""

from __future__ import annotations

import contextlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spa_bench.errors import ModelError
from spa_bench.models.engine import Stage
from spa_bench.models.hf.codec import Codec
from spa_bench.models.hf.context import context_of
from spa_bench.models.hf.gguf import Origin
from spa_bench.models.hf.hub import not_here, only_here
from spa_bench.models.hf.loading import (
    check_folder,
    embedding_rows,
    end_tokens,
    hub_commit,
    load_tokenizer,
    loads,
    tokenizer_note,
    told,
)
from spa_bench.models.text import TextModel
from spa_bench.support.provenance import hash_folder

if TYPE_CHECKING:
    from spa_bench.models.hf.model import HFOptions

_WHY = 'the weights are not loaded here (engine.hf = "no")'


class UnloadedModel(TextModel):
    """See spa_bench.models.base.Model; `path` is a local folder or a name on the hub. It has no engine before `use`."""

    def __init__(self, path: str, options: HFOptions, *, name: str | None = None, origin: Origin | None = None):
        self.path, self.options, self._origin = path, options, origin
        network, tokenizer = _load_shapes(path, revision=options.revision, trust_remote_code=options.trust_remote_code)
        self._commit = hub_commit(path, options.revision)
        self.vocabulary = int(network.config.get_text_config().vocab_size)
        context, unknown = context_of(network, tokenizer, options.context)
        self.positions, _ = context_of(network, tokenizer, None)  # the most tokens that it reads
        codec = Codec(tokenizer, name or path, end_tokens(tokenizer, network), embedding_rows(network))
        note = "weights: not loaded here, so that nothing is trained and no divergence is measured"
        said = (tokenizer_note(path, tokenizer, options.revision), codec.note, unknown, note)
        super().__init__(name=name or path, codec=codec, context=context, engines={}, notes=[n for n in said if n])

    @property
    def commit(self) -> str | None:
        """See HubModel.commit."""
        return self._commit

    @property
    def unable(self) -> dict[Stage, str]:
        """See Model.unable."""
        return {stage: _WHY for stage in ("train", "divergence", "draw", "score") if stage not in self._engines}

    def describe(self) -> dict[str, object]:
        """Name, revision, and a hash of the files in a folder; for a hub model the commit."""
        said = {"name": self.name, "revision": self.options.revision, "hash": self._hash, "context": self.context}
        return said | (self._origin.describe() if self._origin else {})

    @cached_property
    def _hash(self) -> str:
        if self._origin is not None:
            return self._origin.hash
        code = {".py"} if self.options.trust_remote_code else set[str]()
        return hash_folder(Path(self.path), code) if Path(self.path).is_dir() else f"commit {self._commit}"


def _load_shapes(path: str, *, revision: str | None, trust_remote_code: bool) -> tuple[Any, Any]:
    """(network without weights, tokenizer) of a local folder or a name on the hub. Raises ModelError on one line."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
    from transformers.utils import logging

    check_folder(path)
    logging.set_verbosity_error()
    common: dict[str, Any] = {"trust_remote_code": trust_remote_code, "revision": revision}
    common |= {"local_files_only": True} if only_here(path, revision) else {}
    tokenizer = load_tokenizer(AutoTokenizer, path, **common)
    try:
        config = AutoConfig.from_pretrained(path, **common)
        with loads, torch.device("meta"):
            network = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    except Exception as error:  # a config can hold anything, and the class of its architecture trips over it
        if isinstance(error, OSError) and "local_files_only" in common:
            raise not_here(path) from error
        raise ModelError(f"cannot load the config of model {path!r}: {told(error)}") from error
    known = {key: value for key, value in common.items() if key != "trust_remote_code"}
    with contextlib.suppress(OSError):  # many models have no generation config
        network.generation_config = GenerationConfig.from_pretrained(path, **known)
    return network, tokenizer
