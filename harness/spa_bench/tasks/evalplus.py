"""evalplus' benchmarks: HumanEval with its base tests, HumanEval+ and MBPP+ with tests that are data.

Data are found by evalplus' own override variables, by SPA_BENCH_DATA, or by evalplus' download.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from spa_bench.cards.task import TaskCard
from spa_bench.errors import CardError, DataError
from spa_bench.support.text import before_stop, did_you_mean
from spa_bench.tasks.code import Sanitise, read_problems, read_rows
from spa_bench.tasks.data_folder import data_folder
from spa_bench.types import CallSuite, Problem

_SUITES = ("base", "plus")
_AS_SETS = ["similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly", "larg_nnum"]
_AS_SETS += ["intersection_array", "find_dissimilar", "Diff"]
# problems with more than one right answer: entry point -> oracle (evalplus/eval/_special_oracle.py)
_ORACLES = {
    "humaneval": {"find_zero": "poly"},
    "mbpp": {
        "are_equivalent": "anything",
        "sum_div": "or zero",
        "surface_Area": "surface area",
        "digit_distance_nums": "digit distance",
        **dict.fromkeys(("check_str", "text_match_three", "text_starta_endb"), "not none"),
        **dict.fromkeys(_AS_SETS, "as sets"),
    },
}


@dataclass(frozen=True, kw_only=True)
class _Set:
    """One data set and the ways to find it."""

    title: str
    override: str  # evalplus' environment variable
    places: tuple[str, ...]  # under SPA_BENCH_DATA
    module: str  # of evalplus, with the function that downloads
    download: str


_HUMANEVAL = _Set(
    title="HumanEval",
    override="HUMANEVAL_OVERRIDE_PATH",
    places=("humaneval/HumanEval.jsonl.gz", "humaneval/HumanEval.jsonl"),
    module="evalplus.data.humaneval",
    download="_ready_human_eval_plus_path",
)
_HUMANEVAL_PLUS = replace(
    _HUMANEVAL, title="HumanEval+", places=("humanevalplus/HumanEvalPlus.jsonl.gz", "humanevalplus/HumanEvalPlus.jsonl")
)
_MBPP_PLUS = _Set(
    title="MBPP+",
    override="MBPP_OVERRIDE_PATH",
    places=("mbppplus/MbppPlus.jsonl.gz", "mbppplus/MbppPlus.jsonl"),
    module="evalplus.data.mbpp",
    download="_ready_mbpp_plus_path",
)


def humaneval(card: TaskCard) -> tuple[list[Problem], str]:
    """(the 164 problems with OpenAI's tests, their source).

    The ways are tried in this order: HUMANEVAL_OVERRIDE_PATH, SPA_BENCH_DATA, evalplus' cache or download. Raises DataError
    that names all three when none has the data.
    """
    path, source = _find(_HUMANEVAL)
    return [_well_formed(p) for p in read_problems(path, card)], source


def humaneval_plus(card: TaskCard) -> tuple[list[Problem], str]:
    """(the 164 problems with evalplus' base and plus inputs, their source); see `humaneval`."""
    path, source = _find(_HUMANEVAL_PLUS)
    return _with_suites(path, card, "humaneval"), source


def mbpp_plus(card: TaskCard) -> tuple[list[Problem], str]:
    """(MBPP+ with base and plus inputs, 378 problems in v0.2.0, and their source); see `humaneval`."""
    path, source = _find(_MBPP_PLUS)
    return _with_suites(path, card, "mbpp"), source


def sanitiser() -> Sanitise:
    """evalplus.sanitize as evalplus.codegen uses it: on prompt and answer, or on a reply, with four spaces for a tab.

    From the longest run of lines that parses, it keeps imports and everything that the entry point needs. Raises DataError
    when evalplus is not installed.
    """
    try:
        from evalplus.sanitize import sanitize
    except ImportError as error:
        raise DataError(
            "sanitiser = \"evalplus\" needs evalplus: pip install 'spa-bench[evalplus]', or --set task.sanitiser=program"
        ) from error

    @lru_cache(maxsize=4096)  # greedy members often agree, and the search for lines that parse is quadratic
    def sanitised(prompt: str, answer: str, entry_point: str, stops: Sequence[str]) -> tuple[str, bool]:
        answer = before_stop(answer, stops).rstrip()
        if not answer:
            return answer, not prompt
        program = prompt + answer.replace("\t", "    ")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the parser warns on every part that it tries
                program = sanitize(program, entrypoint=entry_point)
        except (
            ValueError,
            RecursionError,
        ):  # for a zero byte, half a surrogate or too deep nesting; evalplus itself would end there
            pass
        # a program that continues its prompt is stored without it, like other answers: metrics of texts must not see the prompt
        return (program.removeprefix(prompt), False) if prompt and program.startswith(prompt) else (program, True)

    return sanitised


def _find(wanted: _Set) -> tuple[Path, str]:
    """(the file of a data set, the way by which it was found)."""
    override = os.environ.get(wanted.override)
    if override:
        return _existing(Path(override), wanted.override)
    folder = data_folder()
    for place in wanted.places if folder else ():
        if folder and (folder / place).is_file():
            return _existing(folder / place, "SPA_BENCH_DATA")
    looked = f"SPA_BENCH_DATA ({folder}) holds no {wanted.places[0]}" if folder else "SPA_BENCH_DATA is not set"
    ways = (
        f"set SPA_BENCH_DATA to a folder with {wanted.places[0]}, or {wanted.override} to a {wanted.title.rstrip('+')}(+) "
        ".jsonl(.gz) file, or let evalplus download it (needs internet)"
    )
    try:
        module = importlib.import_module(wanted.module)
    except ImportError as error:
        raise DataError(
            f"{wanted.title} not found: {looked} and evalplus is not installed (pip install 'spa-bench[evalplus]'); {ways}"
        ) from error
    try:
        with contextlib.redirect_stdout(sys.stderr):  # evalplus reports its download on stdout, which is reserved for results
            path = Path(getattr(module, wanted.download)())
    except Exception as error:  # wget and urllib raise a dozen kinds; what failed is in the message
        raise DataError(f"{wanted.title} not found: {looked} and evalplus could not download it ({error}); {ways}") from error
    return _existing(path, "evalplus")


def _existing(path: Path, way: str) -> tuple[Path, str]:
    if not path.is_file():
        raise DataError(f"{way} leads to {path}, which is no file")
    return path, f"{path} (by {way})"


def _with_suites(path: Path, card: TaskCard, dataset: str) -> list[Problem]:
    """Problems whose tests are the suites that the card names, or all."""
    unknown = [name for name in card.suites if name not in _SUITES]
    if unknown:
        raise CardError(f"task {card.name!r}: unknown suite {unknown[0]!r}{did_you_mean(unknown[0], _SUITES)}")
    problems = []
    for place, row, line in read_rows(path, card):
        wrong = [k for k in ("prompt", "canonical_solution", "entry_point") if not isinstance(row.get(k), str)]
        wrong += [k for k in ("base_input", "plus_input") if k in row and not _are_calls(row[k])]
        wrong += [k for k in ("base_input",) if k not in row]
        wrong += [] if isinstance(row.get("atol", 0), int | float) else ["atol"]
        if wrong:
            raise DataError(f"{place} has no {wrong[0]!r} of evalplus' kind")
        identity = hashlib.blake2b(line.encode(), digest_size=16).hexdigest()
        names = [name for name in _SUITES if f"{name}_input" in row and name in (card.suites or _SUITES)]
        if not names:
            raise DataError(f"{place} has no {' or '.join(card.suites)} tests")
        suites = tuple(_suite(row, name, dataset, identity) for name in names)
        problems.append(
            Problem(
                id=row["task_id"],
                prompt=row["prompt"],
                reference=row["canonical_solution"],
                tests="",
                entry_point=row["entry_point"],
                suites=suites,
            )
        )
    return problems


def _are_calls(value: object) -> bool:
    """Whether `value` is a list of lists of arguments; Mbpp/793 has {} for no calls."""
    return value == {} or (isinstance(value, list) and all(isinstance(arguments, list) for arguments in value))


def _suite(row: dict[str, Any], name: str, dataset: str, identity: str) -> CallSuite:
    def inputs() -> list[list[Any]]:
        calls = list(row[f"{name}_input"])
        if dataset == "mbpp":
            calls = _mbpp_inputs(row["task_id"], calls)
        return [list(arguments) for arguments in calls]

    oracle = _ORACLES[dataset].get(row["entry_point"], "equal")
    return CallSuite(
        name=name, inputs=inputs, oracle=oracle, atol=float(row.get("atol", 0)), identity=f"{dataset} {name} {identity}"
    )


def _mbpp_inputs(task_id: str, inputs: list[Any]) -> list[Any]:
    """The inputs with tuples, sets and complex numbers, which JSON lacks, restored as in evalplus."""
    try:
        from evalplus.data.mbpp import mbpp_deserialize_inputs
    except ImportError as error:
        raise DataError(
            "MBPP+ needs evalplus, which knows the types of its inputs: pip install 'spa-bench[evalplus]'"
        ) from error
    restored: list[Any] = mbpp_deserialize_inputs(task_id, inputs)
    return restored


def _well_formed(problem: Problem) -> Problem:
    """The problem with the import of HumanEval/115 in front of its function, as in evalplus; OpenAI's file has it inside."""
    if problem.id != "HumanEval/115" or problem.prompt.startswith("import math\n"):
        return problem
    return replace(problem, prompt="import math\n" + problem.prompt.replace("    import math\n", ""))
