"""Finds out by a few seeded rows how a network can be read: no list of architectures says it.

The reference is a plain reading of each row alone, without a mask and without a cache. A way to read is right when it gives the
same logits, but for rounding. They are tried from the fastest on: masked columns in the middle of a row (which makes the bytes
of a row independent of its batch), on the left, behind the row; our growing cache, the network's own, none. What does not hold
is not used, and said in one line; a network in which a row sees what stands behind it or beside it is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from spa_bench.errors import ModelError
from spa_bench.models.hf.failures import within_memory
from spa_bench.models.hf.packed import PackedLinears
from spa_bench.models.hf.placed import is_offloaded, number_type, parameter_count, quantized_layers
from spa_bench.models.hf.products import least_rows
from spa_bench.models.hf.reading import CacheKind, Readable, Way
from spa_bench.models.hf.rounding import distance, fits_float32, in_float32, tolerance
from spa_bench.models.hf.rows import BLOCK, padded
from spa_bench.models.hf.slots import Prefix, Slots, columns
from spa_bench.models.hf.window import Window
from spa_bench.support.cache import own_cache
from spa_bench.support.files import replace_file
from spa_bench.support.memory import is_out_of_memory
from spa_bench.support.provenance import hash_bytes, source_hash

_LENGTHS = (19, 4, 11, 7)  # tokens of the rows
_LONG = 272  # tokens of a long row, which most windows of local attention do not reach over
_SMALL = 1_000_000  # parameters up to which a long row takes no time
_MEDIUM = {"cpu": 30_000_000, "cuda": 3_000_000_000}  # parameters up to which it takes less than a second by itself
_WINDOW = re.compile("window|chunk|local")  # in the names of numbers of tokens
_COUNT = re.compile("(layers?|experts?|heads?|pattern|period)$")  # of numbers of something else
_LARGE = 1_000_000  # parameters from which on the result is kept on the disk: the probe takes half a second or more
_STEPS = 3  # tokens that are read one by one
_TAIL = 3  # tokens behind the masked columns
_CACHES: tuple[CacheKind, ...] = ("growing", "own")
FAILURES = (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Probed:
    """The way in which a network is read, and a line for everything that does not hold for it."""

    way: Way
    notes: tuple[str, ...] = ()


_FOUND: dict[tuple[type[nn.Module], str], Probed] = {}  # what was found in this process


def known_probe(network: nn.Module, key: Callable[[], object], **setting: Any) -> Probed:
    """probe(), found once a process; for a network that is not small the result is kept in our own cache.

    `key` gives what identifies weights and machine.
    """
    content = json.dumps([key(), source_hash("models"), {k: str(v) for k, v in setting.items()}], sort_keys=True)
    named = type(network), hash_bytes(content.encode())
    if named not in _FOUND:
        large = parameter_count(network) >= _LARGE
        _FOUND[named] = _kept(network, named[1], **setting) if large else probe(network, **setting)
    return _FOUND[named]


def _kept(network: nn.Module, name: str, **setting: Any) -> Probed:
    file = own_cache() / "probes" / f"{name}.json"
    try:
        kept = json.loads(file.read_bytes())
        return Probed(Way(**kept["way"]), tuple(kept["notes"]))
    except (OSError, ValueError, KeyError, TypeError):
        found = probe(network, **setting)
    with suppress(OSError):  # a full or read-only disk costs another probe next time
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, json.dumps(asdict(found)).encode())
    return found


def probe(network: nn.Module, *, vocabulary: int, context: int, device: torch.device) -> Probed:
    """How `network` is read so that a row's logits are those that it has alone.

    A network of a short type, or of quantised weights, is looked at in float32 where its weights fit so, since rounding hides
    small faults; the way that is found must hold in its own type too, within its rounding. Raises ModelError when there is no
    such way, or memory ends. Nothing of the network changes, and no global random number is drawn.
    """
    kind = type(network).__name__
    with torch.inference_mode():
        found = within_memory(partial(_probed, network, vocabulary, context, device))
    if found is None:
        raise ModelError(f"{kind}: out of memory with {len(_LENGTHS)} short rows; use a smaller dtype or model")
    return found


def _probed(network: nn.Module, vocabulary: int, context: int, device: torch.device) -> Probed:
    if number_type(network).itemsize != 2 and not quantized_layers(network):
        return _Probe(network, vocabulary, context, device).run()
    wide = within_memory(partial(_wide, network, vocabulary, context, device)) if fits_float32(network) else None
    if wide is not None:
        confirmed = _Probe(network, vocabulary, wide.way.context or context, device).confirm(wide)
        return confirmed or _Probe(network, vocabulary, context, device).run()
    found = _Probe(network, vocabulary, context, device).run()
    kind, dtype = type(network).__name__, str(number_type(network)).removeprefix("torch.")
    note = f"{kind}: read in {dtype} alone, as memory does not hold it in float32: what rounding hides is not seen"
    return replace(found, notes=(*found.notes, note))


def _wide(network: nn.Module, vocabulary: int, context: int, device: torch.device) -> Probed:
    with in_float32(network):
        return _Probe(network, vocabulary, context, device).run()


class _Probe:
    def __init__(self, network: nn.Module, vocabulary: int, context: int, device: torch.device):
        self._network, self._context, self._device = network, context, device
        self._kind = type(network).__name__
        self._vocabulary = vocabulary
        count = parameter_count(network)
        self._small = count <= _SMALL
        medium = count <= _MEDIUM["cpu" if device.type == "cpu" else "cuda"] and not is_offloaded(network)
        self._long = self._small or (medium and number_type(network) is torch.float32)
        self._rows, self._want = self._draw()

    def run(self) -> Probed:
        """See probe."""
        if not all(want.isfinite().all() for want in self._want):
            return Probed(Way())  # the answers say so
        notes: list[str] = []
        positions = self._takes_positions()
        longest = self._longest() if positions else None
        if longest is not None:
            notes.append(
                f"{self._kind}: a row of more than {longest} tokens changes the logits of the rows beside it (its rotary "
                f"frequencies depend on the longest row), so the context is {longest} tokens and not {self._context}"
            )
            self._context = longest
            self._rows, self._want = self._draw()
        packed = Way(
            block=0, masked=False, cache="none", slots=False, keep=False, positions=positions, columns=_masked_by(self._network)
        )
        if why := self._differs(self._scored, packed):
            raise ModelError(f"{self._kind} cannot be evaluated: a row has other logits beside longer rows than alone ({why})")
        way, slower = self._best(packed)
        return Probed(replace(way, context=longest, same_bytes=self._same_bytes(way)), (*notes, *slower))

    def confirm(self, found: Probed) -> Probed | None:
        """What was found in float32, with bytes as they are in the network's own type; None where it does not hold there."""
        if not all(want.isfinite().all() for want in self._want):
            return Probed(Way())
        way = found.way
        if self._differs(self._scored, replace(way, cache="none", slots=False)):
            return None
        if way.cache != "none" and self._differs(self._slotted if way.slots else self._decoded, way):
            return None
        return replace(found, way=replace(way, same_bytes=self._same_bytes(way)))

    @cached_property
    def _tolerance(self) -> float:
        """The most distance of two right readings of a row."""
        return max(tolerance(self._network, partial(self._alone, row)) for row in self._rows[: len(_LENGTHS)])

    def _alone(self, row: Sequence[int]) -> Tensor:
        return self._plain([row])[0]

    def _draw(self) -> tuple[list[list[int]], list[Tensor]]:
        """Seeded rows that fit the context, and the logits (T, V) of each in a plain reading."""
        room = self._context - BLOCK  # more columns than the context are read in another way
        lengths = [max(2, min(n, room)) for n in _LENGTHS]
        if self._long and room > max(lengths):
            lengths.append(min(_LONG, room))
        generator = torch.Generator().manual_seed(0)
        rows: list[list[int]] = [torch.randint(self._vocabulary, (n,), generator=generator).tolist() for n in lengths]
        try:
            return rows, [self._alone(row) for row in rows]
        except FAILURES as error:
            if is_out_of_memory(error):
                raise
            raise ModelError(
                f"{self._kind} cannot be evaluated: it does not read a plain row of tokens ({first_line(error)})"
            ) from error

    def _best(self, packed: Way) -> tuple[Way, tuple[str, ...]]:
        """The fastest way that holds, and what does not: a line for each."""
        columns = cache = ""
        best = packed
        for way in self._ways(packed):
            if why := self._differs(self._scored, way):
                columns = columns or why
                continue
            best = best if best.masked else way
            for kind in _CACHES:
                cached = replace(way, cache=kind)
                if not (why := self._differs(self._decoded, cached)):
                    slotted = bool(cached.block) and kind == "growing" and cached.columns is None
                    slots = slotted and not self._differs(self._slotted, cached)
                    return replace(cached, slots=slots), ()
                cache = cache or why
        notes = []
        if not best.masked:
            notes.append(f"{self._kind}: masked columns count in its rows ({columns}), so the padding stands behind them")
        notes.append(
            f"{self._kind}: with a cache its logits are not those of a plain reading ({cache or columns}), so each new token "
            "reads its row again: right, and slower"
        )
        return best, tuple(notes)

    def _ways(self, packed: Way) -> Iterator[Way]:
        """The layouts with masked columns, without a cache, from the best on."""
        for block in (BLOCK, 0):
            if block and self._windows():
                continue
            for keep in (True, False):
                yield replace(packed, block=block, masked=True, keep=keep)

    def _windows(self) -> bool:
        """Whether the config names a window that the rows here do not reach over, in which a masked column would count.

        A row that fills the context has up to a block of such columns beside.
        """
        numbers = _numbers(self._network.config)
        sizes = [size for name, size in numbers if _WINDOW.search(name) and not _COUNT.search(name)]
        return any(max(map(len, self._rows)) < size < self._context + BLOCK for size in sizes)

    # what is compared -------------------------------------------------------------------------------------------

    def _plain(self, rows: Sequence[Sequence[int]], position: Tensor | None = None) -> Tensor:
        """The logits (rows, T, V) of rows of one length, read as they are."""
        ids, more = torch.tensor(rows, device=self._device), {}
        if position is not None:  # with a mask, as without it positions that restart mean packed rows
            more = {"position_ids": position.to(self._device), "attention_mask": torch.ones_like(ids)}
        out = self._network(input_ids=ids, use_cache=False, **more)
        logits: Tensor = out.logits
        return logits.float()

    def _scored(self, way: Way, chosen: Sequence[int]) -> list[Tensor]:
        """The logits (tail, V) of the last tokens of the rows `chosen`, which are read together."""
        pairs = [(self._rows[i][:-_TAIL], self._rows[i][-_TAIL:]) for i in chosen]
        ids, mask = (t.to(self._device) for t in padded(pairs, block=way.block))
        read = Readable(self._network, way, context=self._context)
        tail = min(_TAIL, *(len(self._rows[i]) for i in chosen))
        position = (mask.cumsum(-1) - 1).clamp_min(0)
        return list(read(input_ids=ids, attention_mask=mask, position_ids=position, logits_to_keep=tail).logits.float())

    def _decoded(self, way: Way, chosen: Sequence[int]) -> list[Tensor]:
        """The logits (steps, V) of rows whose last tokens are read one by one, with their order changed in between."""
        rows = [self._rows[i] for i in chosen]
        steps = min(_STEPS, *(len(row) - 1 for row in rows))
        network = Readable(self._network, way, context=self._context)
        window = Window.of(network, [row[:-steps] for row in rows], device=self._device)
        return self._stepped(window, rows, steps)

    def _slotted(self, way: Way, chosen: Sequence[int]) -> list[Tensor]:
        """As _decoded, with columns of its own for each row."""
        rows = [self._rows[i] for i in chosen]
        steps = min(_STEPS, *(len(row) - 1 for row in rows))
        slots = Slots(Readable(self._network, way, context=self._context), len(rows), self._device)
        prompts = [row[:-steps] for row in rows]
        prefixes: dict[int, Prefix] = {}
        for wide in {columns(prompt) for prompt in prompts}:
            places = [i for i, prompt in enumerate(prompts) if columns(prompt) == wide]
            prefixes |= dict(zip(places, slots.read([prompts[i] for i in places]), strict=True))
        slots.begin(range(len(rows)), [prefixes[i] for i in range(len(rows))], [prompt[-1] for prompt in prompts])
        return self._stepped(slots, rows, steps)

    def _stepped(self, window: Window | Slots, rows: Sequence[Sequence[int]], steps: int) -> list[Tensor]:
        """The logits (steps + 1, V) of rows whose last tokens are read one by one, with their order changed in between."""
        order = list(range(len(rows)))
        seen: list[list[Tensor]] = [[] for _ in rows]
        for step in range(-steps, 1):
            for place, logits in zip(order, window.logits().float(), strict=True):
                seen[place].append(logits)
            if step == -steps:
                order.reverse()
                window.keep(order)
            if step < 0:
                window.extend(torch.tensor([rows[place][step] for place in order], device=self._device))
        return [torch.stack(each) for each in seen]

    def _differs(self, act: Callable[[Way, Sequence[int]], list[Tensor]], way: Way) -> str:
        """Why the logits of `act`, of the last tokens of each row, are not those of plain readings; "" where they are."""
        for chosen in self._together():
            try:
                got = act(way, chosen)
            except FAILURES as error:
                if is_out_of_memory(error):
                    raise
                return first_line(error)
            worst = max(distance(logits, self._want[i][-len(logits) :]) for logits, i in zip(got, chosen, strict=True))
            if not worst <= self._tolerance:
                return f"they differ by {worst:.2g} of the logits' spread"
        return ""

    def _together(self) -> list[range]:
        """The rows that are compared, by those that are read together: the long one makes all as wide as itself."""
        every, short = range(len(self._rows)), len(_LENGTHS)
        return [every] if self._small or len(every) == short else [every[:short], every[short:]]

    # what depends on positions and on company ---------------------------------------------------------------------

    def _takes_positions(self) -> bool:
        """Whether positions change its logits, and those from 0 on are its own: RoBERTa's begin behind that of the padding."""
        row, order = self._rows[0], torch.arange(len(self._rows[0]))[None]
        try:
            plain, turned = (self._plain([row], position)[0] for position in (order, order.flip(-1)))
        except FAILURES as error:
            if is_out_of_memory(error):
                raise
            return False
        return distance(plain, self._want[0]) <= self._tolerance < distance(turned, self._want[0])

    def _longest(self) -> int | None:
        """The tokens of the longest row that does not change the logits of another; None where none does."""
        n = len(self._rows[0])

        def disturbs(tokens: int) -> bool:
            position = torch.stack([torch.arange(n), torch.arange(tokens - n, tokens)])
            return distance(self._plain([self._rows[0]] * 2, position)[0], self._want[0]) > self._tolerance

        if self._context <= n or not disturbs(self._context):
            return None
        calm, loud = n, self._context
        while loud - calm > 1:
            middle = (calm + loud) // 2
            calm, loud = (calm, middle) if disturbs(middle) else (middle, loud)
        return calm

    def _same_bytes(self, way: Way) -> bool:
        """Whether a row's logits have the same bytes among copies of itself, which is alone, and in company.

        The layers compute as they do when texts are drawn, with packed weights.
        """
        if way.cache != "growing" or not way.block:
            return False
        least = least_rows(self._device)
        others, alone = (2 * least + 1, [0, 1, 2, 3]) if self._small else (least + 1, [1])
        act = self._slotted if way.slots else self._decoded
        with PackedLinears(self._network).use():
            beside = act(way, [place % 4 for place in range(others)])
            return all(torch.equal(act(way, [row] * least)[0], beside[row]) for row in alone)


def _numbers(config: Any) -> Iterator[tuple[str, int]]:
    """Names and values of the whole numbers in a config and the tables in it; those of a list have its name."""
    waiting: list[tuple[str, object]] = list(config.to_dict().items())
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(str(key), one) for key, one in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(name, one) for one in value]
        elif isinstance(value, int) and not isinstance(value, bool):
            yield name, value


def _masked_by(network: nn.Module) -> int | None:
    """The columns that a network masks by a table of its own, as GPT-Neo does, (1, 1, N, N); None where it has none."""
    tables = [b.shape for b in network.buffers() if b.ndim == 4 and b.dtype in (torch.bool, torch.uint8)]
    return min((shape[3] for shape in tables if shape[:2] == (1, 1) and shape[2] == shape[3] > 1), default=None)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its class where it has none."""
    return (str(error).strip() or type(error).__name__).split("\n", 1)[0][:200]
