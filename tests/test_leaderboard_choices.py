"""Leaderboards of multiple choice: what the choices show stands in every format, and who changes it is found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from made_up import estimated_anew
from quiz import run, three
from spa_bench.cards import registry
from spa_bench.compare.leaderboard import as_latex, build_rows, check, from_runs, markdown, save
from spa_bench.compare.leaderboard.results import read_all
from spa_bench.compare.leaderboard.schema import KEPT_OF_CHOICES
from spa_bench.models.hf.model import HFModel
from spa_bench.publish.show import choices_table
from spa_bench.runs.folder import RunFolder


@pytest.fixture(scope="module", autouse=True)
def _known() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.TABLES["task"], "quiz", "quiz:build")
        yield


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stages")


@pytest.fixture(scope="module")
def whole(tiny_model: HFModel, tmp_path_factory: pytest.TempPathFactory, cache: Path) -> RunFolder:
    return run(tiny_model, tmp_path_factory.mktemp("whole"), cache)


def test_a_leaderboard_has_what_the_choices_show(whole: RunFolder, tmp_path: Path):
    result = from_runs([whole])[0]
    values, places = result["runs"][0]["values"], [i for i, p in enumerate(result["problems"]) if not p.startswith("quiz/open")]
    assert [i for i, v in enumerate(values["any_of_n[chance]"]) if v is not None] == places
    assert [values["pass@1[mc]"][i] for i in places] == [values["pass@1"][i] for i in places]
    assert [i for i, v in enumerate(values["diversity_score[mc]"]) if v is not None] == places
    [row] = build_rows([result])
    page = markdown([row], reference=None, command="c")
    drawn = page.partition("### Multiple choice\n\n")[2].partition("\n\n")[0]
    head, _, line = ([c.strip() for c in part.strip("|").split("|")] for part in drawn.split("\n"))
    told = dict(zip(head, line, strict=True))
    assert told["problems"] == str(len(places))
    assert told["accuracy"].split()[0] == f"{np.mean([values['pass@1'][i] for i in places]):.3f}"
    assert told["by chance"].split()[0] == f"{row.estimate('any_of_n[chance]').value:.3f}"
    assert told["agreement"].split()[0] == f"{row.estimate('agreement[choices]').value:.3f}"
    assert told["KL (choices)"].split()[0] == f"{row.estimate('kl[choices,i!=j]').value:.4f}"
    assert "effective_diversity" not in page.partition("## How to read it")[0]
    assert f"quiz   | acc,none | {row.metrics['own[quiz,acc,none]'].value:.4f}" in page
    assert "Tables of multiple choice" in page
    latex = as_latex([row])
    assert "any of n & by chance" in " ".join(latex.split())
    assert "acc,none" in latex


def test_how_many_guesses_a_greedy_sampler_made_stands_beside_the_level_of_chance(
    whole: RunFolder, tiny_model: HFModel, tmp_path: Path, cache: Path
):
    made = whole.read_json("metrics.json")["estimates"]["distinct[choices]"]["value"]
    said = f"made {made:.3g} different guess{'es' * (made != 1)} a problem in 3 answers"
    assert said in choices_table([whole])
    assert said in markdown(build_rows(from_runs([whole])), reference=None, command="c")
    warm = run(tiny_model, tmp_path, cache, card=three(1.0))
    assert "independent guesses" not in choices_table([warm])


def test_a_result_whose_choices_contradict_its_verdicts_is_found(whole: RunFolder, tmp_path: Path):
    def faults(name: str, change: Callable[[float], float | None], *, estimated: bool = True) -> list[str]:
        result = json.loads(json.dumps(from_runs([whole])[0]))
        values = result["runs"][0]["values"][name]
        place = next(i for i, v in enumerate(values) if v is not None)
        values[place] = change(values[place])
        return check(save(estimated_anew(result) if estimated else result, tmp_path))

    assert any("pass@1[mc] is not pass@1" in f for f in faults("pass@1[mc]", lambda v: 1 / 3 if v != 1 / 3 else 2 / 3))
    assert any("contradict each other" in f for f in faults("any_of_n[mc]", lambda v: 1 - v))
    assert any("other problems" in f for f in faults("any_of_n[mc]", lambda v: None))
    assert any("kl[choices,i!=j] has values outside" in f for f in faults("kl[choices,i!=j]", lambda v: -v - 1))
    assert any("outside its range of 0 to 1" in f for f in faults("majority_vote[mc]", lambda v: 2.0, estimated=False))
    assert any(
        "majority_vote[mc] is not what its values give" in f
        for f in faults("majority_vote[mc]", lambda v: 1 - v, estimated=False)
    )


def test_a_result_without_the_values_of_choices_is_still_read(whole: RunFolder, tmp_path: Path):
    result = json.loads(json.dumps(from_runs([whole])[0]))
    for name in [n for n in result["runs"][0]["values"] if n in KEPT_OF_CHOICES]:
        del result["runs"][0]["values"][name]
    path = save(result, tmp_path)
    assert check(path) == []
    page = markdown(build_rows(read_all(path)), reference=None, command="c")
    assert "### Multiple choice" in page
