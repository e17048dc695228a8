"""Our own queries: the subjects of the paper, answers that are right, and room in a small context."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from spa_bench.spa.batches import pair_ids
from spa_bench.spa.data import load_queries
from spa_bench.spa.data.shapes import Instruction
from spa_bench.spa.queries import Query, written

CODE = written("code")
TEXT = written("text")


def functions() -> dict[str, Callable[..., Any]]:
    found: dict[str, Any] = {}
    for query in CODE:
        exec(compile(query.row.completion, query.subject, "exec"), found)
    return found


def asked(query: Query) -> str:
    [(role, text)] = query.row.turns
    assert role == "user"
    return text


def test_the_subjects_are_the_papers():
    assert [q.subject for q in CODE] == [
        "longest palindromic subsequence",
        "nth Fibonacci",
        "sum of the two largest",
        "maximum subarray",
        "first non-repeating character",
        "merge two sorted lists",
        "remove primes",
        "longest common substring",
        "kth largest",
        "product of elements",
        "binary search",
        "missing number",
    ]
    assert [q.subject for q in TEXT] == [
        "economic impacts of the Black Death",
        "photosynthesis",
        "travel distance",
        "utilitarianism and deontology",
        "quantum computing",
        "Indian weddings",
        "Amazon deforestation",
        "ambition in Macbeth",
        "renewable energy",
        "AI in healthcare",
        "Japanese food",
        "globalisation",
    ]


def test_an_instruction_names_the_function_that_its_answer_defines():
    for query in CODE:
        name = asked(query).split("`")[1].split("(")[0]
        assert f"\ndef {name}(" in "\n" + query.row.completion


CASES: dict[str, list[tuple[tuple[Any, ...], Any]]] = {
    "longest_palindromic_subsequence": [(("bbbab",), 4), (("cbbd",), 2), (("",), 0), (("x",), 1), (("abcdef",), 1)],
    "fibonacci": [((0,), 0), ((1,), 1), ((10,), 55), ((90,), 2880067194370816120)],
    "sum_of_two_largest": [(([1, 5, 3, 5],), 10), (([-4, -2, -9],), -6), (([3, 1],), 4), (([1, 2, 3],), 5)],
    "maximum_subarray": [(([-2, 1, -3, 4, -1, 2, 1, -5, 4],), 6), (([-3, -1, -2],), -1), (([5],), 5)],
    "first_non_repeating": [(("swiss",), "w"), (("aabb",), None), (("",), None), (("aab",), "b")],
    "merge_sorted": [(([1, 3, 3], [2, 3, 4]), [1, 2, 3, 3, 3, 4]), (([], [1]), [1]), (([2], []), [2])],
    "remove_primes": [(([0, 1, 2, 3, 4, 9, 25, 29, -7],), [0, 1, 4, 9, 25, -7]), (([],), [])],
    "longest_common_substring": [(("xabcy", "zabcab"), "abc"), (("abxcd", "cdxab"), "ab"), (("a", "b"), ""), (("", "b"), "")],
    "kth_largest": [(([3, 2, 1, 5, 6, 4], 2), 5), (([3, 2, 3, 1, 2, 4, 5, 5, 6], 4), 4), (([7], 1), 7)],
    "product": [(([2, 3, 4],), 24), (([],), 1), (([5, 0],), 0)],
    "binary_search": [(([1, 3, 5, 7], 7), 3), (([1, 3, 5, 7], 1), 0), (([1, 3, 5], 4), -1), (([], 1), -1)],
    "missing_number": [(([3, 0, 1],), 2), (([0],), 1), (([1],), 0), (([],), 0)],
}


@pytest.mark.parametrize("name", CASES)
def test_a_function_does_what_its_instruction_says(name: str):
    for arguments, result in CASES[name]:
        assert functions()[name](*arguments) == result


@pytest.mark.parametrize(
    ("name", "arguments"), [("fibonacci", (-1,)), ("sum_of_two_largest", ([1],)), ("kth_largest", ([1], 2))]
)
def test_a_function_refuses_what_its_instruction_says(name: str, arguments: tuple[Any, ...]):
    with pytest.raises(ValueError, match=r"must|needed"):
        functions()[name](*arguments)


def test_functions_agree_with_enumeration_on_small_inputs():
    f, rng = functions(), random.Random(0)
    for _ in range(60):
        numbers = [rng.randrange(-9, 30) for _ in range(rng.randrange(2, 8))]
        a, b = ("".join(rng.choices("abc", k=rng.randrange(1, 8))) for _ in range(2))
        pieces = [numbers[i:j] for i in range(len(numbers)) for j in range(i + 1, len(numbers) + 1)]
        assert f["maximum_subarray"](numbers) == max(map(sum, pieces))
        assert f["sum_of_two_largest"](numbers) == sum(sorted(numbers)[-2:])
        assert f["product"](numbers) == math.prod(numbers)
        assert [f["kth_largest"](numbers, k + 1) for k in range(len(numbers))] == sorted(numbers, reverse=True)
        chosen = [c for n in range(1, len(a) + 1) for c in itertools.combinations(a, n)]
        assert f["longest_palindromic_subsequence"](a) == max(len(c) for c in chosen if c == c[::-1])
        parts = [a[i:j] for i in range(len(a)) for j in range(i, len(a) + 1) if a[i:j] in b]
        assert f["longest_common_substring"](a, b) == max(parts, key=len)


def test_answers_on_text_are_paragraphs_of_80_to_150_words():
    for query in TEXT:
        assert 80 <= len(query.row.completion.split()) <= 150, query.subject
        assert "\n" not in query.row.completion
        assert query.row.completion.endswith(".")


@pytest.mark.parametrize("domain", ["code", "text"])
def test_our_queries_fit_a_small_context_with_alpacas_template(domain: str, tiny_model: Any):
    queries = load_queries(domain, [], 0)
    assert len(set(queries)) == 12
    for query in queries:
        assert query.prompt.startswith("Below is an instruction that describes a task. Write")
        assert len(f"{query.prompt} {query.completion}".split()) < 300
        assert sum(map(len, pair_ids(tiny_model, query))) <= 1024  # with a vocabulary of 1,024: most have fewer tokens


def test_queries_are_instructions_until_a_template_is_known():
    assert all(isinstance(query.row, Instruction) for query in [*CODE, *TEXT])
