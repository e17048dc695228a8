import dataclasses
import json
import re
import tomllib
from pathlib import Path

import pytest

from spa_bench.cards.kinds import Kind
from spa_bench.cards.reading import card_names, cards_folder, parse_overrides
from spa_bench.cards.registry import TABLES, kind_of
from spa_bench.cards.sampler import DecodingCard, SamplerCard, build_sampler_card, load_sampler_card
from spa_bench.cards.task import load_task_card
from spa_bench.errors import CardError, UsageError
from spa_bench.runs.job import sampler_spec


def write(tmp_path: Path, text: str, name: str = "card.toml") -> str:
    path = tmp_path / name
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", card_names("baselines"))
def test_shipped_sampler_cards_load(name: str):
    card = load_sampler_card(name)
    assert card.name == name
    assert card.description
    assert card.draws % card.members == 0


@pytest.mark.parametrize("name", card_names("tasks"))
def test_shipped_task_cards_load(name: str):
    card = load_task_card(name)
    assert card.name == name
    assert card.description
    assert card.version


def test_the_samplers_of_the_demo_both_controls_and_the_expected_baselines_are_shipped():
    wanted = {"spa-influence", "spa-lexical", "spa-random", "single", "temperature", "nucleus", "seeds", "single-long"}
    wanted |= {"top-k", "min-p", "diverse-beam", "one-reply", "oversample-mmr", "oversample-dpp"}
    assert wanted <= set(card_names("baselines"))
    assert {"mini-code", "humaneval"} <= set(card_names("tasks"))


def test_single_long_trains_as_many_steps_as_all_adapters_of_spa():
    spa = load_sampler_card("spa-influence")
    assert load_sampler_card("single-long").lora.steps == spa.members * spa.lora.steps


@pytest.mark.parametrize("table", TABLES)
def test_every_name_in_a_registry_table_loads(table: str):
    for name in TABLES[table]:
        assert callable(kind_of(Kind, table, name).build)


def test_an_unknown_key_names_the_file_and_the_closest_key(tmp_path: Path):
    path = write(tmp_path, 'description = "x"\n[decoding]\ntemprature = 0.5\n')
    with pytest.raises(CardError) as error:
        load_sampler_card(path)
    assert str(error.value) == f"unknown key 'decoding.temprature' in {path}; did you mean 'decoding.temperature'?"


def test_an_unknown_key_far_from_all_names_what_is_known(tmp_path: Path):
    with pytest.raises(CardError, match=r"unknown key 'zzz'.*known: .*seconds"):
        load_task_card(write(tmp_path, 'description = "x"\nproblems = "humaneval"\nzzz = 1\n'))


def test_a_card_of_decoding_alone_is_enough(tmp_path: Path):
    card = load_sampler_card(write(tmp_path, "[decoding]\ntemperature = 1.2\n", "hot.toml"))
    assert (card.name, card.description, card.adapters, card.decoding.temperature) == ("hot", "hot", "none", 1.2)


@pytest.mark.parametrize("table", ["lora", "partition", "attribution", "data"])
def test_a_card_that_says_how_adapters_are_made_says_whether_it_trains_any(tmp_path: Path, table: str):
    text = {"lora": "steps = 8", "partition": 'method = "balanced"', "attribution": "damping = 0.2", "data": "share = 0.5"}[
        table
    ]
    with pytest.raises(CardError, match=rf"\[{table}\] says how adapters are made, and the card does not say whether") as error:
        load_sampler_card(write(tmp_path, f"[{table}]\n{text}\n"))
    assert "\n" not in str(error.value)
    assert load_sampler_card(write(tmp_path, f'adapters = "none"\n[{table}]\n{text}\n')).adapters == "none"
    assert load_sampler_card(write(tmp_path, f"[{table}]\n{text}\n"), {"adapters": "all"}).trains
    assert load_sampler_card("base", {"lora.steps": 8}).adapters == "none"  # settings that several samplers share


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('members = "4"', r"'members' in .*card\.toml must be a whole number; got '4'"),
        ("members = true", r"'members' .* must be a whole number; got True"),
        ("members = 1.5", r"'members' .* must be a whole number; got 1\.5"),
        ("name = 3", r"'name' .* must be a text; got 3"),
        ("lora = 3", r"'lora' .* must be a table \[lora\]; got 3"),
        ("lora.targets = 3", r"'lora\.targets' .* must be a text or a list of texts; got 3"),
        ("lora.targets = [1]", r"'lora\.targets' .* must be a text or a list of texts; got \[1\]"),
        ("attribution.normalize = 1", r"'attribution\.normalize' .* must be true or false; got 1"),
        ('decoding.temperature = "hot"', r"'decoding\.temperature' .* must be a number; got 'hot'"),
    ],
)
def test_a_wrong_type_names_key_file_and_value(tmp_path: Path, line: str, message: str):
    with pytest.raises(CardError, match=message):
        load_sampler_card(write(tmp_path, f'description = "x"\n{line}\n'))


def test_a_whole_number_is_a_float_where_a_float_is_wanted(tmp_path: Path):
    temperature = load_sampler_card(write(tmp_path, 'description = "x"\ndecoding.temperature = 1\n')).decoding.temperature
    assert isinstance(temperature, float)
    assert temperature == 1.0


def test_targets_may_be_a_list_of_names(tmp_path: Path):
    card = load_sampler_card(write(tmp_path, 'adapters = "all"\nlora.targets = ["q_proj", "v_proj"]\n'))
    assert card.lora.targets == ("q_proj", "v_proj")


@pytest.mark.parametrize("key", ["stop", "stop_instruct"])
def test_an_empty_stop_text_is_refused(key: str):
    with pytest.raises(CardError, match=f"{key} has an empty text, which would cut every answer to nothing"):
        load_task_card("mini-code", {key: ["\nclass", ""]})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('adapters = "part"', r"adapters is 'part'; did you mean 'parts'\?"),
        ("members = 0", r"members is 0; it must be greater than 0"),
        ("members = 4", r'4 members need adapters = "parts" or "seeds"; got .none.'),
        ('members = 1\nadapters = "parts"', r"needs at least 2 members; got 1"),
        ("decoding.temperature = -1", r"decoding\.temperature is -1\.0; it must be finite and not negative"),
        ("decoding.top_p = 1.5", r"shares between 0 and 1"),
        ("decoding.top_p = 0", r"decoding\.top_p is 0\.0; it must be greater than 0"),
        ("decoding.min_p = 2", r"shares between 0 and 1"),
        ("decoding.top_k = -1", r"decoding\.top_k is -1"),
        ("lora.steps = 0", r"lora\.steps is 0"),
        ("lora.epochs = 2", r"lora\.steps is 24 and lora\.epochs 2\.0: one says how long"),
        ("lora.steps = 0\nlora.epochs = 1e300", r"1e\+300 epochs; a member reads at most"),
        ("lora.steps = 999999999", r"999999999 steps of 16 pairs, 0 epochs; a member reads at most"),
        ("lora.targets = []", r"lora\.targets is \(\); it takes"),
        ("lora.dropout = 1", r"lora\.dropout is 1\.0; it is a share below 1"),
        ('attribution.curvature = "ekfak"', r"attribution\.curvature is 'ekfak'; did you mean 'ekfac'"),
        ("attribution.checkpoints = []", r"attribution\.checkpoints is \[\]; it takes different numbers"),
        ("attribution.checkpoints = [3, 3]", r"attribution\.checkpoints is \[3, 3\]; it takes different numbers"),
        ("attribution.dimensions = 99999999", r"attribution\.dimensions is 99999999; it must be at most"),
        ('attribution.features = "projection"\nattribution.curvature = "ekfac"', r"needs the layers apart"),
        ('attribution.features = "core"\nattribution.curvature = "lissa"', r"works on features .lora. alone; got 'core'"),
        ('attribution.features = "core"\nattribution.core = "adapter"', r"no gradient at LoRA's start"),
        ('partition.method = "file"', r"need each other"),
        ('data.columns = {prompt = "q", completion = "q"}', r"data\.columns names q, q; each is a column of its own"),
        ("lora.alpha = 0", r"lora\.alpha is 0\.0"),
        ("data.share = 0", r"data\.share is 0\.0"),
        ("lora.learning_rate = nan", r"lora\.learning_rate is nan"),
        ('lora.schedule = "cos"', r"lora\.schedule is 'cos'"),
        ('partition.scale = "zscores"', r"partition\.scale is 'zscores'; did you mean 'zscore'\?"),
        ("attribution.damping = 0", r"attribution\.damping is 0"),
    ],
)
def test_a_value_out_of_range_is_named(tmp_path: Path, line: str, message: str):
    with pytest.raises(CardError, match=message):
        load_sampler_card(write(tmp_path, f'description = "x"\n{line}\n'))


@pytest.mark.parametrize(
    "line",
    [
        "decoding.temperature = nan",
        "decoding.temperature = inf",
        "decoding.min_p = nan",
        "lora.warmup = -1",
        "lora.weight_decay = -1",
        'attribution.method = "influense"',
        'partition.method = "balance"',
        'kind = "mix"',
        'name = "a/b"',
        'name = " "',
    ],
)
def test_a_value_that_no_run_can_use_is_refused_with_the_card(tmp_path: Path, line: str):
    with pytest.raises((CardError, UsageError), match=line.split(" ")[0].replace(".", r"\.")):
        load_sampler_card(write(tmp_path, f'description = "x"\n{line}\n'))


def test_a_number_that_no_float_holds_is_refused(tmp_path: Path):
    with pytest.raises(
        CardError, match=r"'decoding.temperature' in .* is 1000.*… ?: a number of a card has at most 308 digits"
    ):
        load_sampler_card(write(tmp_path, f"[decoding]\ntemperature = 1{'0' * 400}"))


def test_what_a_kind_of_ones_own_raises_while_its_card_is_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)
    text = (
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass OPTIONS:\n    step: int = 1\n"
        "    def __post_init__(self):\n        7 // self.step\n"
        "def check(card):\n    return card.options.other\ndef build(card, adapters):\n    pass\n"
    )
    (tmp_path / "failing_kind.py").write_text(text)
    card = write(tmp_path, 'kind = "failing_kind:build"')
    with pytest.raises(
        UsageError, match=r"sampler kind 'failing_kind:build': check\(\) failed: AttributeError: .* \(failing_kind"
    ):
        load_sampler_card(card)
    with pytest.raises(UsageError, match=r"'failing_kind:build': its options failed: ZeroDivisionError: "):
        load_sampler_card(card, {"options.step": 0})


def test_data_that_may_have_several_hashes_are_named_by_all_of_them(tmp_path: Path):
    (tmp_path / "p.jsonl").write_text("")
    card = write(tmp_path, 'file = "p.jsonl"')
    assert load_task_card(card, {"sha256": ["a" * 64, "b" * 64]}).version == "sha256 aaaaaaaaaaaa or bbbbbbbbbbbb"
    assert load_task_card(card, {"sha256": "a" * 64}).version == "sha256 aaaaaaaaaaaa"


def test_broken_toml_names_the_file(tmp_path: Path):
    with pytest.raises(CardError, match=r"card\.toml is not valid TOML: .*line 1"):
        load_sampler_card(write(tmp_path, "description = \n"))


def test_bytes_that_are_no_text_are_named(tmp_path: Path):
    path = tmp_path / "card.toml"
    path.write_bytes(b'description = "\xff"\n')
    with pytest.raises(CardError, match=r"card\.toml is not valid TOML"):
        load_sampler_card(str(path))


def test_an_unknown_sampler_and_task_name_the_closest():
    with pytest.raises(UsageError, match=r"unknown sampler 'temprature'; did you mean 'temperature'\?"):
        load_sampler_card("temprature")
    with pytest.raises(UsageError, match=r"unknown task 'humanevel'; did you mean 'humaneval'\?"):
        load_task_card("humanevel")


def test_a_name_of_a_file_of_ones_own_says_what_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "", "own.toml")
    write(tmp_path, "", "own.jsonl")
    with pytest.raises(UsageError, match=r"^unknown sampler 'own'; did you mean 'own\.toml'\?$"):
        load_sampler_card("own")
    with pytest.raises(
        UsageError, match=r"'own\.jsonl'; it is a file, and --task takes a \.toml card \(docs/how-to/add-a-task\.md\)$"
    ):
        load_task_card("own.jsonl")


def test_a_card_file_that_is_missing_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"no sampler card at .*nowhere\.toml"):
        load_sampler_card(str(tmp_path / "nowhere.toml"))


def test_a_card_is_named_after_its_file_unless_it_says_otherwise(tmp_path: Path):
    assert load_sampler_card(write(tmp_path, 'description = "x"\n', "mine.toml")).name == "mine"
    assert load_sampler_card(write(tmp_path, 'description = "x"\nname = "yours"\n', "mine.toml")).name == "yours"


def test_overrides_change_what_they_name_and_nothing_else():
    texts = ["lora.steps=7", "decoding.temperature=0.5", "lora.targets=['q_proj']", "task.seconds=9", "engine.replies=a.jsonl"]
    found = parse_overrides(texts)
    changed, shipped = load_sampler_card("temperature", found.sampler), load_sampler_card("temperature")
    assert (changed.lora.steps, changed.decoding.temperature, changed.lora.targets) == (7, 0.5, ("q_proj",))
    same = dataclasses.replace(changed, lora=shipped.lora, decoding=shipped.decoding, description=shipped.description)
    assert same == shipped
    assert load_task_card("humaneval", found.task).seconds == 9.0
    assert found.engine == {"replies": "a.jsonl"}


def test_an_override_without_toml_quotes_is_text():
    found = parse_overrides(["attribution.method=bm25", "sampler.description=two words"])
    assert found.sampler == {"attribution.method": "bm25", "description": "two words"}


@pytest.mark.parametrize("setting", ["lora.steps", "=3", " = 3"])
def test_an_override_without_key_or_value_is_refused(setting: str):
    with pytest.raises(UsageError, match="--set takes key=value"):
        parse_overrides([setting])


def test_an_override_of_an_unknown_key_names_the_closest():
    with pytest.raises(CardError, match=r"unknown key 'lora\.stepps'.*did you mean 'lora.steps'\?"):
        load_sampler_card("single", {"lora.stepps": 3})


def test_an_override_below_a_value_is_refused():
    with pytest.raises(UsageError, match=r"--set description\.x: 'description' is a value, not a table"):
        load_sampler_card("single", {"description.x": 3})


def test_the_file_of_a_task_is_beside_its_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "inner").mkdir()
    write(tmp_path, 'description = "x"\nfile = "p.jsonl"\n', "inner/t.toml")
    monkeypatch.chdir(tmp_path)
    assert load_task_card("inner/t.toml").file == str(tmp_path / "inner" / "p.jsonl")


def test_a_task_of_problems_in_a_file_needs_the_file(tmp_path: Path):
    with pytest.raises(CardError, match=r'problems = "jsonl" needs file'):
        load_task_card(write(tmp_path, 'description = "x"\n'))


def test_cards_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_sampler_card("single").members = 2  # type: ignore[misc]
    assert all(f.init for f in dataclasses.fields(SamplerCard))


@pytest.mark.parametrize(
    ("name", "knob"),
    [
        ("top-k", {"top_k": 50}),
        ("min-p", {"min_p": 0.1}),
        ("nucleus", {"top_p": 0.95}),
        ("typical", {"typical_p": 0.95}),
        ("epsilon", {"epsilon_cutoff": 0.0006}),
        ("eta", {"eta_cutoff": 0.0009}),
        ("top-n-sigma", {"top_n_sigma": 1.0}),
        ("mirostat", {"mirostat_tau": 1.0, "mirostat_eta": 0.1}),
    ],
)
def test_plain_baselines_differ_from_single_in_the_decoding_alone(name: str, knob: dict[str, float]):
    card, single = load_sampler_card(name), load_sampler_card("single")
    assert dataclasses.replace(card, decoding=single.decoding, name="single", description=single.description) == single
    assert card.decoding == DecodingCard(temperature=1.0, **knob)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"typical_p": 0.0}, "typical_p is 0.0; it must be greater than 0"),
        ({"typical_p": 1.5}, "typical_p is 1.5; it is a share between 0 and 1"),
        ({"epsilon_cutoff": 1.0}, "epsilon_cutoff is 1; it is a probability below 1"),
        ({"eta_cutoff": 3.0}, "eta_cutoff is 3; it is a probability below 1"),
        ({"eta_cutoff": -0.1}, "eta_cutoff is -0.1; it must be finite and not negative"),
        ({"top_n_sigma": -1.0}, "top_n_sigma is -1.0; it must be finite and not negative"),
        ({"mirostat_tau": 1.0, "top_p": 0.9}, "mirostat decides alone which tokens are left, and decoding.top_p is 0.9"),
        ({"mirostat_tau": 1.0, "eta_cutoff": 0.1}, "and decoding.eta_cutoff is 0.1; leave one out"),
        ({"mirostat_tau": 1.0, "mirostat_eta": 0.0}, "mirostat_eta is 0.0; it must be greater than 0"),
        ({"mirostat_eta": 0.5}, "mirostat_eta is 0.5 and has no effect without decoding.mirostat_tau"),
        ({"temperature": 1e39}, "decoding.temperature is 1e+39; it must be at most 1e+30"),
        ({"mirostat_tau": 1e39}, "decoding.mirostat_tau is 1e+39; it must be at most 1e+30"),
        ({"top_k": 10**400}, "; it must be at most 1e+30"),
    ],
)
def test_a_decoding_that_cannot_be_or_of_which_a_part_has_no_effect_is_refused(settings: dict[str, float], said: str):
    with pytest.raises(CardError, match=re.escape(said)):
        load_sampler_card("temperature", {f"decoding.{key}": value for key, value in settings.items()})


def test_a_spec_holds_later_keys_of_a_decoding_only_where_they_are_in_use():
    earlier = {"temperature": 0.8, "top_p": 1.0, "top_k": 0, "min_p": 0.0}
    assert sampler_spec(load_sampler_card("temperature"))["decoding"] == earlier
    used = sampler_spec(load_sampler_card("mirostat", {"decoding.mirostat_eta": 0.2}))["decoding"]
    assert used == {**earlier, "temperature": 1.0, "mirostat_tau": 1.0, "mirostat_eta": 0.2}
    content = json.loads(json.dumps({**sampler_spec(load_sampler_card("eta")), "description": ""}))
    assert build_sampler_card(content, "here", "here").decoding == load_sampler_card("eta").decoding


@pytest.mark.parametrize(
    ("key", "most", "more"), [("seconds", 86_400, 86_401), ("seconds", 1.0, 1e300), ("memory_mb", 1 << 20, (1 << 20) + 1)]
)
def test_a_task_has_limits_that_the_kernel_can_hold(key: str, most: float, more: float):
    assert getattr(load_task_card("mini-code", {key: most}), key) == most
    with pytest.raises(CardError, match=rf"task 'mini-code': {key} is .*; it must be at most \d+"):
        load_task_card("mini-code", {key: more})


@pytest.mark.parametrize("name", ["../../etc", "", "a/b", "-r", "numpy>=1", "a b", "numpy\n", ".a", "é"])
def test_a_package_of_a_task_has_a_plain_name(name: str):
    with pytest.raises(CardError, match=r"packages holds .*, which is no name of a package"):
        load_task_card("mini-code", {"packages": ["numpy", name]})


@pytest.mark.parametrize("name", ["a", "scikit-learn", "zope.interface", "ruamel_yaml2"])
def test_names_of_packages_are_those_of_the_index(name: str):
    assert load_task_card("mini-code", {"packages": [name]}).packages == (name,)


def test_numbers_in_a_description_are_those_of_the_card_also_under_set():
    assert load_sampler_card("spa-random").description.startswith("SPA: 4 adapters on random parts")
    changed = load_sampler_card("spa-random", {"members": 3, "decoding.temperature": 0.25}).description
    assert changed == "SPA: 3 adapters on random parts of equal size, answers at temperature 0.25"
    assert "16 draws at temperature 0.8" in load_sampler_card("oversample-dpp", {"options.pool": 16}).description
    for name in card_names("baselines"):
        assert not {"{", "}"} & set(load_sampler_card(name).description)
    kept = load_sampler_card("base", {"description": "{nothing} {decoding} of {members.x} {x"}).description
    assert kept == "{nothing} {decoding} of {members.x} {x"


def test_no_number_of_a_shipped_card_is_written_out_in_its_description():
    for name in card_names("baselines"):
        written = tomllib.loads((cards_folder("baselines") / f"{name}.toml").read_text())["description"]
        assert not re.search(r"(?<![0-9.])(?:0\.8|0\.95|32|50)(?![0-9.])|\b(?:two|three|four|eight)\b", written), name


def test_a_card_may_begin_with_a_byte_order_mark(tmp_path: Path):
    card = tmp_path / "mine.toml"
    card.write_bytes(b"\xef\xbb\xbf" + b'kind = "mixture"\nadapters = "none"\ndescription = "d"\n')
    assert load_sampler_card(str(card)).name == "mine"
