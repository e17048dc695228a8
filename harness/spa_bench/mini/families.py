"""Standalone task families of the embedded world: small classics outside the pipeline grammar.

A family is a signature, two wordings, a maker of inputs and several bodies that compute the same thing. `{p}` is a
digit fixed per task, `{f}` the function's name. A test executes all bodies of a family against each other.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

Arguments = tuple[object, ...]


@dataclass(frozen=True, kw_only=True)
class Family:
    """A standalone task with several ways of writing it."""

    name: str
    arguments: str
    wording: tuple[str, str]
    inputs: Callable[[random.Random], Arguments]
    bodies: tuple[str, ...]
    params: tuple[str, ...] = ()


def _natural(high: int, low: int = 0) -> Callable[[random.Random], Arguments]:
    return lambda rng: (rng.randint(low, high),)


def integers(rng: random.Random) -> list[int]:
    """0 to 8 integers between -12 and 25."""
    return [rng.randint(-12, 25) for _ in range(rng.choice((0, 1, 3, 4, 5, 6, 7, 8)))]


_WORDS = [
    "tree",
    "stone",
    "level",
    "noon",
    "river",
    "tea",
    "radar",
    "onion",
    "sister",
    "test",
    "ant",
    "rotor",
    "store",
    "ice",
    "nation",
    "art",
    "east",
    "eye",
    "oar",
    "inner",
]


def words(rng: random.Random) -> list[str]:
    """0 to 6 lowercase words, some of them palindromes."""
    return [rng.choice(_WORDS) for _ in range(rng.choice((0, 1, 3, 4, 5, 6)))]


def text(rng: random.Random) -> str:
    """Up to 14 characters of letters, digits and spaces."""
    return "".join(rng.choice("aeinorstAERSTx 357") for _ in range(rng.choice((0, 1, 6, 9, 12, 14))))


def _mapping(rng: random.Random) -> dict[str, int]:
    return {rng.choice(_WORDS): rng.randint(-5, 15) for _ in range(rng.choice((0, 1, 3, 5)))}


def _lists(rng: random.Random) -> Arguments:
    return (integers(rng), integers(rng))


def _pair(rng: random.Random) -> Arguments:
    return (rng.randint(1, 60), rng.randint(1, 60))


def _one(maker: Callable[[random.Random], object]) -> Callable[[random.Random], Arguments]:
    return lambda rng: (maker(rng),)


def _family(
    name: str,
    arguments: str,
    a: str,
    b: str,
    inputs: Callable[[random.Random], Arguments],
    *bodies: str,
    params: tuple[str, ...] = (),
) -> Family:
    return Family(
        name=name,
        arguments=arguments,
        wording=(a, b),
        inputs=inputs,
        bodies=tuple(body.strip("\n") for body in bodies),
        params=params,
    )


_DIGITS = tuple("23456789")

FAMILIES: tuple[Family, ...] = (
    _family("factorial", "n", "Return the factorial of n.", "Compute n factorial.", _natural(8),
            "if n < 2:\n    return 1\nreturn n * {f}(n - 1)",
            "out = 1\nfor i in range(2, n + 1):\n    out *= i\nreturn out",
            "import math\nreturn math.factorial(n)",
            "out = 1\nwhile n > 1:\n    out *= n\n    n -= 1\nreturn out"),
    _family("fibonacci", "n", "Return the nth Fibonacci number, starting from 0 and 1.", "Compute the Fibonacci number at index n.", _natural(15),
            "if n < 2:\n    return n\nreturn {f}(n - 1) + {f}(n - 2)",
            "a, b = 0, 1\nfor i in range(n):\n    a, b = b, a + b\nreturn a",
            "out = [0, 1]\nwhile len(out) <= n:\n    out.append(out[-1] + out[-2])\nreturn out[n]"),
    _family("gcd", "a, b", "Return the greatest common divisor of a and b.", "Compute the gcd of a and b.", _pair,
            "while b:\n    a, b = b, a % b\nreturn a",
            "import math\nreturn math.gcd(a, b)",
            "if b == 0:\n    return a\nreturn {f}(b, a % b)",
            "return max(i for i in range(1, a + 1) if a % i == 0 and b % i == 0)"),
    _family("lcm", "a, b", "Return the least common multiple of a and b.", "Compute the lcm of a and b.", _pair,
            "import math\nreturn a * b // math.gcd(a, b)",
            "out = a\nwhile out % b != 0:\n    out += a\nreturn out"),
    _family("prime", "n", "Return whether n is a prime number.", "Check if n is prime.", _natural(60),
            "if n < 2:\n    return False\nfor i in range(2, n):\n    if n % i == 0:\n        return False\nreturn True",
            "return n > 1 and all(n % i != 0 for i in range(2, n))",
            "i = 2\nwhile i * i <= n:\n    if n % i == 0:\n        return False\n    i += 1\nreturn n > 1"),
    _family("primes", "n", "Return the list of prime numbers up to n.", "List all primes not above n.", _natural(40),
            "return [i for i in range(2, n + 1) if all(i % j != 0 for j in range(2, i))]",
            "out = []\nfor i in range(2, n + 1):\n    if all(i % j != 0 for j in out):\n        out.append(i)\nreturn out"),
    _family("divisors", "n", "Return the list of divisors of n.", "List all numbers that divide n.", _natural(60, 1),
            "return [i for i in range(1, n + 1) if n % i == 0]",
            "out = []\nfor i in range(1, n + 1):\n    if n % i == 0:\n        out.append(i)\nreturn out",
            "return list(filter(lambda i: n % i == 0, range(1, n + 1)))"),
    _family("digit-sum", "n", "Return the sum of the digits of n.", "Add up the digits of n.", _natural(9999),
            "return sum(int(c) for c in str(n))",
            "out = 0\nwhile n > 0:\n    out += n % 10\n    n //= 10\nreturn out",
            "if n == 0:\n    return 0\nreturn n % 10 + {f}(n // 10)",
            "return sum(map(int, str(n)))"),
    _family("digit-count", "n", "Return how many digits of n equal {p}.", "Count the digit {p} in n.", _natural(99999),
            'return str(n).count("{p}")',
            'out = 0\nfor c in str(n):\n    if c == "{p}":\n        out += 1\nreturn out',
            "out = 0\nwhile n > 0:\n    if n % 10 == {p}:\n        out += 1\n    n //= 10\nreturn out", params=_DIGITS),
    _family("triangular", "n", "Return the sum of the numbers from 1 to n.", "Add the integers 1 to n.", _natural(40),
            "return n * (n + 1) // 2", "return sum(range(n + 1))",
            "out = 0\nfor i in range(1, n + 1):\n    out += i\nreturn out",
            "if n == 0:\n    return 0\nreturn n + {f}(n - 1)"),
    _family("multiples", "n", "Return the multiples of {p} below n.", "List the positive multiples of {p} less than n.", _natural(50),
            "return list(range({p}, n, {p}))", "return [i for i in range(1, n) if i % {p} == 0]",
            "out = []\ni = {p}\nwhile i < n:\n    out.append(i)\n    i += {p}\nreturn out", params=_DIGITS),
    _family("collatz", "n", "Return the number of Collatz steps from n to 1.", "Count the Collatz steps that n needs to reach 1.", _natural(40, 1),
            "out = 0\nwhile n != 1:\n    if n % 2 == 0:\n        n //= 2\n    else:\n        n = 3 * n + 1\n    out += 1\nreturn out",
            "if n == 1:\n    return 0\nif n % 2 == 0:\n    return 1 + {f}(n // 2)\nreturn 1 + {f}(3 * n + 1)"),
    _family("power", "n", "Return {p} to the power n.", "Compute {p} raised to n.", _natural(8),
            "return {p} ** n", "out = 1\nfor i in range(n):\n    out *= {p}\nreturn out",
            "if n == 0:\n    return 1\nreturn {p} * {f}(n - 1)", params=_DIGITS),
    _family("binary", "n", "Return the binary digits of n as a string.", "Write n in binary.", _natural(200),
            "return bin(n)[2:]", 'return format(n, "b")',
            'if n < 2:\n    return str(n)\nreturn {f}(n // 2) + str(n % 2)',
            'out = ""\nwhile n > 1:\n    out = str(n % 2) + out\n    n //= 2\nreturn str(n) + out'),
    _family("running-sum", "nums", "Return the running sums of the list.", "Compute the cumulative sums.", _one(integers),
            "out = []\ntotal = 0\nfor x in nums:\n    total += x\n    out.append(total)\nreturn out",
            "return [sum(nums[:i + 1]) for i in range(len(nums))]",
            "from itertools import accumulate\nreturn list(accumulate(nums))"),
    _family("differences", "nums", "Return the differences of neighbours in the list.", "Subtract each number from the next one.", _one(integers),
            "return [b - a for a, b in zip(nums, nums[1:])]",
            "return [nums[i + 1] - nums[i] for i in range(len(nums) - 1)]",
            "out = []\nfor i in range(1, len(nums)):\n    out.append(nums[i] - nums[i - 1])\nreturn out"),
    _family("is-sorted", "nums", "Return whether the list is in ascending order.", "Check if the list is sorted.", _one(integers),
            "return nums == sorted(nums)", "return all(a <= b for a, b in zip(nums, nums[1:]))",
            "for i in range(len(nums) - 1):\n    if nums[i] > nums[i + 1]:\n        return False\nreturn True"),
    _family("second-largest", "nums", "Return the second largest distinct number or 0.", "Find the second largest distinct value, 0 if there is none.", _one(integers),
            "out = sorted(set(nums))\nreturn out[-2] if len(out) > 1 else 0",
            "if len(set(nums)) < 2:\n    return 0\nreturn max(x for x in nums if x != max(nums))"),
    _family("rotate", "nums", "Return the list rotated left by {p} places.", "Rotate the list {p} to the left.", _one(integers),
            "if not nums:\n    return []\ni = {p} % len(nums)\nreturn nums[i:] + nums[:i]",
            "out = list(nums)\nfor i in range({p}):\n    out = out[1:] + out[:1]\nreturn out",
            "return [nums[(i + {p}) % len(nums)] for i in range(len(nums))]", params=_DIGITS),
    _family("chunks", "nums", "Return the list cut into chunks of {p}.", "Split the list into pieces of length {p}.", _one(integers),
            "return [nums[i:i + {p}] for i in range(0, len(nums), {p})]",
            "out = []\nwhile nums:\n    out.append(nums[:{p}])\n    nums = nums[{p}:]\nreturn out",
            "if not nums:\n    return []\nreturn [nums[:{p}]] + {f}(nums[{p}:])", params=_DIGITS[:4]),
    _family("unique", "nums", "Return the list without repeated values.", "Remove duplicates and keep the order.", _one(integers),
            "out = []\nfor x in nums:\n    if x not in out:\n        out.append(x)\nreturn out",
            "return list(dict.fromkeys(nums))",
            "return [x for i, x in enumerate(nums) if x not in nums[:i]]"),
    _family("dot", "a, b", "Return the sum of the products of matching numbers.", "Compute the dot product of a and b.", _lists,
            "return sum(x * y for x, y in zip(a, b))",
            "out = 0\nfor x, y in zip(a, b):\n    out += x * y\nreturn out",
            "return sum(a[i] * b[i] for i in range(min(len(a), len(b))))"),
    _family("common", "a, b", "Return the sorted distinct values in both lists.", "Find the values common to a and b in order.", _lists,
            "return sorted(set(a) & set(b))", "return sorted({x for x in a if x in b})",
            "out = []\nfor x in a:\n    if x in b and x not in out:\n        out.append(x)\nreturn sorted(out)"),
    _family("pairwise-max", "a, b", "Return the larger of each matching pair.", "List the maximum of each pair of numbers.", _lists,
            "return [max(x, y) for x, y in zip(a, b)]", "return list(map(max, a, b))",
            "out = []\nfor x, y in zip(a, b):\n    out.append(max(x, y))\nreturn out"),
    _family("dict-total", "d", "Return the sum of the values of the dictionary.", "Add up the values in the dictionary.", _one(_mapping),
            "return sum(d.values())", "out = 0\nfor k in d:\n    out += d[k]\nreturn out", "return sum(d[k] for k in d)"),
    _family("dict-filter", "d", "Return the sorted keys with values above {p}.", "List the keys whose value is greater than {p} in order.", _one(_mapping),
            "return sorted(k for k in d if d[k] > {p})",
            "out = []\nfor k, v in d.items():\n    if v > {p}:\n        out.append(k)\nreturn sorted(out)",
            "return sorted(filter(lambda k: d[k] > {p}, d))", params=_DIGITS),
    _family("counts", "words", "Return a dictionary of how often each word occurs.", "Count the occurrences of each word.", _one(words),
            "out = {}\nfor w in words:\n    out[w] = out.get(w, 0) + 1\nreturn out",
            "return {w: words.count(w) for w in words}",
            "from collections import Counter\nreturn dict(Counter(words))"),
    _family("palindrome", "text", "Return whether the text reads the same backwards.", "Check if the text is a palindrome.", _one(text),
            "return text == text[::-1]",
            "for i in range(len(text)):\n    if text[i] != text[-1 - i]:\n        return False\nreturn True",
            "if len(text) < 2:\n    return True\nreturn text[0] == text[-1] and {f}(text[1:-1])",
            'return "".join(reversed(text)) == text'),
)  # fmt: skip
