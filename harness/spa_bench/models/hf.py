"""Any causal language model of transformers, with K stacked LoRA adapters over one copy of the weights.

Decoding keeps at least four rows a member (padded), because products with fewer rows take other CPU kernels and change the
last bits. It begins every row at a multiple of 16 columns, because attention adds in lanes. So in float32 on one machine a
completion does not depend on its batch, up to 512 columns of prompt and answer together.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spa_bench.models.adapters import Adapters
from spa_bench.models.base import Beams, OptionScores
from spa_bench.models.beams import Beam, BeamSearch
from spa_bench.models.chat import chat_ending, chat_text, check_template, up_to_end
from spa_bench.models.failures import broken, no_room, out_of_memory, within_memory
from spa_bench.models.hf_beams import Decoder, Searched
from spa_bench.models.kv_cache import attends_to_all
from spa_bench.models.loading import device_of, dtype_of, end_tokens, hash_state, load_network
from spa_bench.models.options import OptionEncoder
from spa_bench.models.rolling import windows
from spa_bench.models.rows import BLOCK, Row, padded, survivors
from spa_bench.models.rows import MIN_ROWS as MIN_ROWS
from spa_bench.models.sampling import RowDecoding, choose, uniforms
from spa_bench.models.scorer import Scorer
from spa_bench.models.stacked_lora import StackedLinear
from spa_bench.models.window import Window
from spa_bench.support.interrupt import pause_point
from spa_bench.support.provenance import hash_folder
from spa_bench.types import Asked, Completion, Member, Messages, Request

_ONE_PIECE = 512  # columns that a CPU's attention adds in one piece; it splits more of them where the padding begins
_BROKEN = -1  # in place of a token: the row's logits are not finite
_STOP_EVERY = 8  # steps between two looks at stop strings
_LOGIT_BYTES = 1 << 28  # room for the logits of one teacher-forced batch


@dataclass(frozen=True, kw_only=True)
class HFOptions:
    """The options of the transformers backend."""

    device: str = "auto"  # auto, cpu, cuda, cuda:N
    dtype: str = "auto"  # auto: float32 on CPU, bfloat16 on CUDA
    batch_size: int | None = None  # rows decoded together; None: 128 on CPU, 32 a member on CUDA
    threads: int | None = None  # CPU threads; None: the cores this process may use
    trust_remote_code: bool = False  # run code shipped with the model: off unless the user says so
    revision: str | None = None  # branch, tag or commit on the hub


class HFModel:
    """See spa_bench.models.base.Model; `path` is a local folder or a name on the hub."""

    def __init__(self, path: str, options: HFOptions | None = None, *, name: str | None = None):
        self.name = name or path
        self._path = path
        self._options = options = options or HFOptions()
        self._device = device_of(options.device)
        self._dtype = dtype_of(options.dtype, self._device)
        self._threads = options.threads or len(os.sched_getaffinity(0))
        torch.set_num_threads(self._threads)
        network, self._tokenizer = load_network(
            path, self._dtype, revision=options.revision, trust_remote_code=options.trust_remote_code
        )
        self.network: nn.Module = network.to(self._device).eval().requires_grad_(False)
        config = network.config.get_text_config()
        self.context = int(getattr(config, "max_position_embeddings", None) or self._tokenizer.model_max_length)
        self._vocabulary = int(config.vocab_size)
        self._block = BLOCK if attends_to_all(network.config) else 0
        self._end = end_tokens(self._tokenizer, network)
        own = self._tokenizer.eos_token_id
        self._end_token: int = min(self._end) if own is None else own
        self._adapters = Adapters(self.network, self._dtype, self._device)

    # what it is ------------------------------------------------------------------------------------------------

    def describe(self) -> dict[str, object]:
        """Name, revision and hashes of weights and tokenizer files; for a hub model the files in the local cache."""
        return {"name": self.name, "revision": self._options.revision, "hash": self._hash, "context": self.context}

    def numerics(self) -> dict[str, object]:
        """Device, dtype, threads and CPU capability."""
        device: dict[str, object] = {"device": self._device.type, "dtype": str(self._dtype).removeprefix("torch.")}
        if self._device.type == "cpu":
            return {**device, "threads": self._threads, "cpu": torch.backends.cpu.get_cpu_capability()}
        return {**device, "gpu": torch.cuda.get_device_name(self._device)}

    @cached_property
    def _hash(self) -> str:
        if Path(self._path).is_dir():
            return hash_folder(Path(self._path))
        return hash_state(self.network, self._tokenizer)

    # text to tokens --------------------------------------------------------------------------------------------

    def encode_prompt(self, prompt: str | Messages) -> list[int]:
        """Token ids of `prompt` after the special tokens of its tokenizer, unless it begins with them.

        An empty prompt is an end token. For messages, they are those of the chat template's text. Raises ModelError when the
        tokenizer has none, or one that refuses them.
        """
        if isinstance(prompt, str):
            begun = self._tokenizer.bos_token  # a chat template may have written it already: as lm-eval, not a second time
            if begun and prompt.startswith(begun):
                return self._ids(prompt)
            return cast("list[int]", self._tokenizer(prompt)["input_ids"]) or [self._end_token]
        return self._ids(chat_text(self._tokenizer, self.name, prompt)) or [self._end_token]

    def prompt_ids(self, request: Request) -> list[int]:
        """Token ids before the answer to `request`: those of its messages if it has any, else those of its prompt."""
        return self.encode_prompt(request.messages or request.prompt)

    def check_chat(self) -> None:
        """See ChatModel.check_chat."""
        check_template(self._tokenizer, self.name)

    def encode_pair(self, prompt: str | Messages, completion: str) -> tuple[list[int], list[int]]:
        """Ids of a prompt and of its completion with the end token, encoded apart as in generation."""
        return self.encode_prompt(prompt), [*self._ids(completion), self._end_token]

    def as_chat(self, messages: Sequence[tuple[str, str]]) -> tuple[str, str]:
        """See ChatTrainable.as_chat."""
        return chat_text(self._tokenizer, self.name, messages), self._ending

    def encode_chat(self, prompt: str, completion: str, ending: str) -> tuple[list[int], list[int]]:
        """See ChatTrainable.encode_chat."""
        closing = up_to_end(self._ids(ending), self._ids(completion + ending), self._end)
        return self._ids(prompt) or [self._end_token], closing or [*self._ids(completion), self._end_token]

    @cached_property
    def _ending(self) -> str:
        return chat_ending(self._tokenizer, self.name)

    def _ids(self, text: str) -> list[int]:
        """Token ids of `text` alone, without special tokens around it."""
        return cast("list[int]", self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _text(self, before: Sequence[int], new: Sequence[int]) -> str:
        """The text that the tokens `new` add behind the tokens `before`."""
        ids, last = [t for t in new if t not in self._end], list(before[-4:])
        head: str = self._tokenizer.decode(last, skip_special_tokens=True)
        whole: str = self._tokenizer.decode(last + ids, skip_special_tokens=True)
        return (
            whole[len(head) :] if whole.startswith(head) else cast(str, self._tokenizer.decode(ids, skip_special_tokens=True))
        )

    def batch_free(self, prompts: Sequence[tuple[str | Messages, int]]) -> bool:
        """See Model.batch_free: on a CPU in float32, as long as its attention adds in one piece."""
        if self._device.type != "cpu" or self._dtype is not torch.float32 or not self._block:
            return False
        columns = (min(len(self.encode_prompt(text)) + new, self.context) for text, new in prompts)
        return all(n + 2 * BLOCK <= _ONE_PIECE for n in columns)

    # generation ------------------------------------------------------------------------------------------------

    def generate(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[Completion]:
        """See Model.generate. Requests of about the same prompt length are decoded together.

        When memory runs out, the batch is halved and decoded again; a request that does not fit alone fails with that cause.
        """
        queues: dict[int, list[Row]] = {}
        for request, prompt in zip(requests, [self.prompt_ids(r) for r in requests], strict=True):
            limit = min(request.decoding.max_new_tokens, self.context - len(prompt))
            if limit < 1:
                yield no_room(request, self.context)
            else:
                queues.setdefault(request.member, []).append(Row(request=request, prompt=prompt, limit=limit))
        for rows in queues.values():
            rows.sort(key=lambda r: (-len(r.prompt), r.request.problem_id, r.request.draw))
        whole, most = len(queues), sys.maxsize  # members, and rows a member, that are decoded together
        while queues:
            pause_point()
            active = sorted(queues)[:whole]
            size = min(most, self._rows_a_member(len(active)))
            batch = {m: queues[m][:size] for m in active}
            done = within_memory(partial(self._decode, batch, members))
            if done is None and (largest := max(map(len, batch.values()))) > 1:
                most = largest // 2
            elif done is None and len(batch) > 1:
                whole = 1
            else:
                yield from done or [out_of_memory(row.request, len(row.prompt)) for row in batch[active[0]]]
                if done is None:  # the longest prompts come first: what follows may fit
                    whole, most = len(queues), sys.maxsize
                queues |= {m: queues[m][size:] for m in active}
                queues = {m: rows for m, rows in queues.items() if rows}

    def _rows_a_member(self, active: int) -> int:
        # 128 rows keep a small model's activations in the CPU's cache; a GPU wants 32 a member whatever their number
        default = 128 if self._device.type == "cpu" else 32 * active
        return max(MIN_ROWS, (self._options.batch_size or default) // active)

    @torch.inference_mode()
    def _decode(self, batch: Mapping[int, list[Row]], members: Sequence[Member]) -> list[Completion]:
        """Decode rows grouped by member, dropping finished ones as soon as enough of them are done."""
        rows: list[Row] = []
        width = max(MIN_ROWS, *(len(part) for part in batch.values()))
        for part in batch.values():
            spare = part[0]
            fill = [
                Row(request=spare.request, prompt=spare.prompt, limit=0, new=[], finish="stop")
                for _ in range(width - len(part))
            ]
            rows += [*(row.anew() for row in part), *fill]
        window = Window.of(self.network, [r.prompt for r in rows], block=self._block, device=self._device)
        steps = max(r.limit for r in rows)
        noise = np.zeros((len(rows), steps), np.float32)
        for i, row in enumerate(rows):
            if row.limit and row.request.decoding.temperature > 0:
                noise[i, : row.limit] = uniforms(row.request.seed, row.limit)
        uniform = torch.from_numpy(noise).to(self._device)
        decoding = RowDecoding.of([r.request.decoding for r in rows], self._vocabulary, self._device)
        alive = rows
        with self._adapters.use([members[m].adapter for m in batch]):
            for step in range(steps):
                logits = window.logits()
                token = choose(logits, decoding, uniform[:, step])
                # NaN and +inf are the largest; -inf alone only forbids a token
                drawn = torch.where(logits.amax(-1).isfinite(), token, _BROKEN).tolist()
                self._extend(alive, drawn, check_stops=step % _STOP_EVERY == _STOP_EVERY - 1)
                if all(r.finish for r in alive):
                    break
                keep = survivors(alive, len(batch))
                if keep is not None:
                    index = torch.tensor(keep, device=self._device)
                    alive = [alive[i] for i in keep]
                    token, uniform, decoding = token[index], uniform[index], decoding.select(index)
                    window.keep(index)
                window.extend(token)
        return [self._complete(r) for r in rows if r.limit]

    def _extend(self, rows: Sequence[Row], tokens: Sequence[int], *, check_stops: bool) -> None:
        for row, token in zip(rows, tokens, strict=True):
            if row.finish:
                continue
            if token == _BROKEN:
                row.finish = "failed"
                continue
            row.new.append(token)
            if token in self._end:
                row.finish = "stop"
            elif len(row.new) >= row.limit:
                row.finish = "length"
            elif check_stops and row.request.decoding.stop:
                text = self._text(row.prompt, row.new)
                if any(s in text for s in row.request.decoding.stop):
                    row.finish = "stop"

    def _complete(self, row: Row) -> Completion:
        """The completion up to the first stop string, counting all tokens that were drawn before it was complete."""
        if row.finish == "failed":
            return broken(row.request, len(row.new))
        new, finish, stop = row.new, row.finish or "length", row.request.decoding.stop
        text = self._text(row.prompt, new)
        if any(s in text for s in stop):
            finish = "stop"
            while len(new) > 1 and any(s in self._text(row.prompt, new[:-1]) for s in stop):
                new = new[:-1]
            text = self._text(row.prompt, new)
            text = text[: min(p for s in stop if (p := text.find(s)) >= 0)]
        return Completion(key=row.request.key, text=text, tokens=len(new), finish=finish, seed=row.request.seed)

    def diverse_beams(self, requests: Sequence[Request], member: Member, search: BeamSearch) -> Iterator[Beams]:
        """See BeamModel.diverse_beams."""
        decoder = Decoder(
            network=self.network, device=self._device, ends=self._end, text=self._text, least_rows=MIN_ROWS, block=self._block
        )
        waiting: list[tuple[Request, Searched]] = []
        for request, prompt in zip(requests, [self.prompt_ids(r) for r in requests], strict=True):
            limit = min(request.decoding.max_new_tokens, self.context - len(prompt))
            if limit < 1:
                yield Beams(request, ((no_room(request, self.context),),), 0)
            else:
                waiting.append((request, Searched(prompt=prompt, limit=limit, stop=request.decoding.stop)))
        waiting.sort(key=lambda pair: -len(pair[1].prompt))
        usual = most = max(1, self._rows_a_member(1) // (search.groups * search.width))
        while waiting:
            now = waiting[:most]
            with self._adapters.use([member.adapter]):
                done = within_memory(partial(decoder.search, [prompt for _, prompt in now], search))
            if done is None and len(now) > 1:
                most = len(now) // 2
                continue
            for request, searched in now:
                if done is None:
                    most = usual  # the longest prompts come first: what follows may fit
                    yield Beams(request, ((out_of_memory(request, len(searched.prompt)),),), 0)
                elif searched.broken:
                    yield Beams(request, ((broken(request, searched.steps),),), searched.drawn)
                else:
                    yield Beams(
                        request, tuple(self._beams(request, searched, group) for group in searched.groups), searched.drawn
                    )
            waiting = waiting[len(now) :]

    def _beams(self, request: Request, prompt: Searched, group: Sequence[Beam]) -> tuple[Completion, ...]:
        """The completions of a group whose search is over, best first."""
        return tuple(
            self._complete(
                Row(
                    request=request,
                    prompt=prompt.prompt,
                    limit=prompt.limit,
                    new=list(b.tokens),
                    finish="stop" if b.tokens[-1] in self._end else "length",
                )
            )
            for b in group
        )

    def lora_layers(self, targets: str | Sequence[str]) -> dict[str, StackedLinear]:
        """The layers that LoRA changes, wrapped for stacking; see stacked_lora.target_modules for `targets`."""
        return self._adapters.layers(targets)

    # teacher forcing -------------------------------------------------------------------------------------------

    def next_token_logprobs(
        self, contexts: Sequence[tuple[str | Messages, str]], members: Sequence[Member]
    ) -> Iterator[NDArray[np.float32] | None]:
        """See Model.next_token_logprobs."""
        pairs = [self.encode_pair(prompt, continuation) for prompt, continuation in contexts]
        fits = [len(head) + len(tail) <= self.context for head, tail in pairs]
        good = [pair for pair, fit in zip(pairs, fits, strict=True) if fit]
        answers = self._teacher_forced(good, [m.adapter for m in members])
        for fit in fits:
            yield next(answers) if fit else None

    def _teacher_forced(
        self, pairs: Sequence[tuple[list[int], list[int]]], adapters: Sequence[Path | None]
    ) -> Iterator[NDArray[np.float32]]:
        start = 0
        while start < len(pairs):
            most = 32 if self._device.type == "cuda" else 8  # few rows a member stay in a CPU's cache
            tokens = max(len(tail) for _, tail in pairs[start : start + most])
            rows = _LOGIT_BYTES // (4 * len(adapters) * (tokens + 1) * self._vocabulary)
            part = pairs[start : start + min(most, max(MIN_ROWS, rows))]
            yield from self._forced_batch(part, adapters)
            start += len(part)

    @torch.inference_mode()
    def _forced_batch(
        self, pairs: Sequence[tuple[list[int], list[int]]], adapters: Sequence[Path | None]
    ) -> list[NDArray[np.float32]]:
        """Log-probabilities (K, T, V) for each pair; rows are padded to at least four a member."""
        rows = [*pairs, *[pairs[0]] * max(0, MIN_ROWS - len(pairs))]
        keep = max(len(tail) for _, tail in rows) + 1
        ids, mask = padded([(head[:-1], head[-1:] + tail) for head, tail in rows], block=self._block)
        k = len(adapters)
        ids, mask = ids.repeat(k, 1).to(self._device), mask.repeat(k, 1).to(self._device)
        position = (mask.cumsum(-1) - 1).clamp_min(0)
        with self._adapters.use(adapters):
            logits = self.network(
                input_ids=ids, attention_mask=mask, position_ids=position, use_cache=False, logits_to_keep=keep
            ).logits
        logprobs = torch.log_softmax(logits.float(), -1).view(k, len(rows), -1, logits.shape[-1])
        return [logprobs[:, i, -len(tail) - 1 : -1].cpu().numpy() for i, (_, tail) in enumerate(pairs)]

    # options ---------------------------------------------------------------------------------------------------

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer(
            self.network,
            OptionEncoder(self._tokenizer, self.context, self._end_token),
            self._adapters.use,
            context=self.context,
            vocabulary=self._vocabulary,
            device=self._device,
            block=self._block,
            batch=self._options.batch_size,
        )

    def check_options(self, asked: Sequence[Asked]) -> None:
        """See Model.check_options."""
        self._scorer.encoded(asked)

    def option_scores(
        self, asked: Sequence[Asked], members: Sequence[Member], done: Collection[str] = ()
    ) -> Iterator[OptionScores]:
        """See Model.option_scores. Problems are read in groups of similar length, which `done` does not change."""
        yield from self._scorer.scores(self._scorer.encoded(asked), [m.adapter for m in members], done)

    def loglikelihood(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[tuple[Request, float, bool]]:
        """See Model.loglikelihood; the continuation is scored without an end token."""
        pairs = [
            (self.prompt_ids(r), self._ids(r.continuation))
            if r.apart or r.messages
            else self._scorer.encoder.pairs([(r.prompt, r.continuation)])[0]
            for r in requests
        ]
        yield from self._scorer.loglikelihood(requests, pairs, members)

    def rolling(self, request: Request, member: Member) -> float:
        """The log-probability in nats of the whole prompt of `request`, however long; see spa_bench.models.rolling."""
        encoder, text = self._scorer.encoder, request.prompt
        first = encoder.pairs([("", text)])[0][0][0]
        pairs = list(windows(self._tokenizer(text)["input_ids"], first, self.context))
        part = replace(request, member=0)
        return sum(logprob for _, logprob, _ in self._scorer.loglikelihood([part] * len(pairs), pairs, [member]))
