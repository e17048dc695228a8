from spa_bench.samplers.mixture import Mixture
from spa_bench.support.seeds import derive_seed, draw_seed
from spa_bench.types import Decoding, Key, Member, Prompt


def seeds(problems: list[str], n: int, *, members: int = 2, done: tuple[Key, ...] = ()) -> dict[Key, int]:
    mixture = Mixture("m", [Member(str(i), None, Decoding(temperature=1.0)) for i in range(members)])
    prompts = [Prompt(problem_id=p, text="text", max_new_tokens=8, stop=()) for p in problems]
    return {r.key: r.seed for r in mixture.requests(prompts, n, 7, task="t", done=done)}


def test_the_seed_of_a_draw_is_pinned():
    assert draw_seed(0, "humaneval", "HumanEval/0", 0, 0) == 216274256867187299
    assert derive_seed() == 6510301506637419378


def test_the_seed_of_a_draw_depends_on_each_of_its_parts():
    changed = [(1, "t", "p", 2, 3), (0, "u", "p", 2, 3), (0, "t", "q", 2, 3), (0, "t", "p", 3, 3), (0, "t", "p", 2, 4)]
    assert len({draw_seed(0, "t", "p", 2, 3), *(draw_seed(*parts) for parts in changed)}) == 6


def test_parts_do_not_run_into_each_other():
    assert derive_seed("ab", "c") != derive_seed("a", "bc")
    assert derive_seed(1, 11) != derive_seed(11, 1)


def test_seeds_fit_63_bits():
    many = [draw_seed(0, "t", "p", 0, draw) for draw in range(500)]
    assert all(0 <= seed < 2**63 for seed in many)
    assert max(many) > 2**62
    assert len(set(many)) == 500


def test_the_seed_of_a_draw_depends_on_neither_n_nor_limit_nor_order():
    few = seeds(["a", "b"], 2)
    many = seeds(["c", "b", "a"], 6)
    assert len(few) == 4
    assert len(many) == 18
    assert few.items() <= many.items()


def test_a_resumed_run_draws_the_rest_with_the_same_seeds():
    whole = seeds(["a", "b"], 4)
    done = tuple(whole)[:3]
    assert seeds(["a", "b"], 4, done=done) == {k: v for k, v in whole.items() if k not in done}
