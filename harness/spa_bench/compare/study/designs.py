"""The runs that a study makes, as data: samplers in their roles, the setting that varies, and the number of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from spa_bench.cards.reading import card_names
from spa_bench.cards.sampler import SamplerCard, load_sampler_card
from spa_bench.compare.study.methods import METHOD, settings_of_methods
from spa_bench.errors import UsageError
from spa_bench.support.text import did_you_mean

_PAPERS = ("single", "random", "lexical", "influence", "seeds", "single-long")
ROLES = (*_PAPERS, "temperature", "nucleus", "merge", "balanced")
CONTROLS = ("seeds", "single-long")
"""Roles that are built from the cards of `single` and of SPA, so that they fit any such cards."""

_PARTS = ("random", "lexical", "influence")
RECIPES: Mapping[str, Mapping[str, str]] = {
    "embedded": {
        **{role: role for role in ("single", "temperature", "nucleus", "merge")},
        **{role: f"spa-{role}" for role in _PARTS},
        "balanced": "merge-balanced",
    },
    "paper-code": {role: f"paper-code-{role}" for role in ("single", *_PARTS)},
    "paper-nlu": {role: f"paper-nlu-{role}" for role in ("single", *_PARTS)},
}
"""Recipe -> role -> the card that plays it."""


_ASKING = ("oss-instruct", "self-instruct", "skill-mix")
_HELD_OUT = {"data.queries": "mini-words"}  # what no method sees
_TARGETS = {**_HELD_OUT, "synthesize.targets": "mini-words", "synthesize.pairs": 128}
SYNTHESES: Mapping[str, Mapping[str, object]] = {
    "targets": {**_HELD_OUT, "data.examples": "mini-words"},
    **{method: {**_TARGETS, METHOD: method} for method in ("sample", "template", *_ASKING)},
    **{f"softsrv-{form}": {**_TARGETS, METHOD: "softsrv", "synthesize.options.form": form} for form in ("nsp", "mpk", "mc")},
}
"""Role -> how the pairs are made on which its student learns; those of _ASKING need an instruct model."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study: its roles, and the setting that it varies."""

    name: str
    title: str
    shows: str  # its place in the paper; "": it is not of the paper
    roles: tuple[str, ...]  # the roles that take part by default
    axis: str = ""  # the name of the setting that varies, for a reader; empty: none varies, samplers are compared
    key: str = ""  # the key of the card that varies
    grid: tuple[float, ...] = ()  # its values by default
    free: bool = False  # whether its roles are the names of any cards
    made: Mapping[str, Mapping[str, object]] = field(default_factory=dict)  # role -> what it changes in the card of `single`
    fixed: tuple[str, ...] = ()  # roles that do not have that setting: a point each, to compare the others with

    @property
    def whole_title(self) -> str:
        """The title, with its place in the paper."""
        return f"{self.title} ({self.shows} of the SPA paper)" if self.shows else self.title


STUDIES: Mapping[str, Study] = {
    study.name: study
    for study in (
        Study(name="main", title="Quality and diversity of each sampler", shows="Table 1", roles=_PAPERS),
        Study(
            name="temperature",
            title="Quality and diversity against temperature",
            shows="Figure 4",
            roles=("single", "random", "influence"),
            axis="temperature",
            key="decoding.temperature",
            grid=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.25, 1.5),
        ),
        Study(
            name="members",
            title="Quality and diversity against the number of adapters",
            shows="Figure 6",
            roles=("random", "influence"),
            axis="K",
            key="members",
            grid=(2, 4, 6, 8, 10, 12),
        ),
        Study(
            name="data-fraction",
            title="Quality against the share of the data",
            shows="Figure 2",
            roles=("single",),
            axis="share of data",
            key="data.share",
            grid=(0.05, 0.1, 0.15, 0.25, 0.5, 1.0),
        ),
        Study(
            name="merge",
            title="Quality and diversity along a dial between adapters",
            shows="",
            roles=("single", "lexical", "seeds", "temperature", "nucleus", "merge", "balanced"),
            axis="λ",
            key="options.weight",
            grid=(0.0, 0.25, 0.5, 0.75, 1.0),
            fixed=tuple(role for role in ROLES if role not in {"merge", "balanced"}),
        ),
        Study(
            name="synthesize",
            title="A student on the pairs of each method of synthesis",
            shows="",
            roles=tuple(role for role in SYNTHESES if role not in _ASKING),
            made=SYNTHESES,
        ),
        Study(name="samplers", title="Samplers at equal answers and at equal tokens", shows="", roles=(), free=True),
    )
}


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """The user's choices for a study; an empty field keeps the study's default."""

    cards: Mapping[str, str]  # role -> card, for the roles that take part
    settings: Mapping[str, object] = field(default_factory=dict)  # keys of the cards, for all points
    grid: tuple[float, ...] = ()
    members: int | None = None  # K of the samplers with several adapters, where the study does not vary it
    n: int | None = None  # answers a problem


@dataclass(frozen=True)
class Point:
    """One sampler at one setting: a run for each seed."""

    role: str
    x: float | None  # the value of the setting that varies; None where none does
    card: SamplerCard
    n: int

    @property
    def series(self) -> str:
        """The name of the sampler, whose points form a series."""
        return self.card.name

    def label(self, study: Study) -> str:
        """The sampler and, where one varies, the setting."""
        return self.series if self.x is None else f"{self.series}[{study.axis}={self.x:g}]"


def roles_of(study: Study, recipe: str, samplers: str | None) -> dict[str, str]:
    """Role -> card from `--samplers` (`single,influence=mine.toml`); a role without a card takes the recipe's.

    Raises UsageError for an unknown recipe or role, and for a card of a control, which takes none.
    """
    if recipe not in RECIPES:
        raise UsageError(f"unknown recipe {recipe!r}{did_you_mean(recipe, RECIPES)}")
    if study.free:
        return _any_cards(recipe, samplers)
    if study.made:
        return _students(study, recipe, samplers)
    cards = RECIPES[recipe]
    if samplers is None:
        if missing := [role for role in study.roles if role not in cards and role not in CONTROLS]:
            raise UsageError(
                f"the recipe {recipe} has no card for {missing[0]}, which {study.name} needs; say with --samplers who plays it"
            )
        return {role: cards.get(role, "") for role in study.roles}
    chosen: dict[str, str] = {}
    for item in samplers.split(","):
        role, _, card = (part.strip() for part in item.partition("="))
        if role not in ROLES:
            raise UsageError(
                f"--samplers: {role!r} is no role{did_you_mean(role, ROLES)}; a card is named as influence=CARD.toml"
            )
        if card and role in CONTROLS:
            raise UsageError(f"--samplers: {role} is made from the card of single and takes none; got {card!r}")
        chosen[role] = card or cards.get(role, "")
        if not chosen[role] and role not in CONTROLS:
            raise UsageError(f"--samplers: the recipe {recipe} has no card for {role}; name one, as {role}=CARD.toml")
    return {role: chosen[role] for role in ROLES if role in chosen}


def _students(study: Study, recipe: str, samplers: str | None) -> dict[str, str]:
    """Role -> the card of the student, in a study that makes its roles of it."""
    names = study.roles if samplers is None else tuple(name.strip() for name in samplers.split(","))
    for name in names:
        if name not in study.made:
            raise UsageError(f"--samplers: {name!r} is no role of this study{did_you_mean(name, study.made)}")
    return {role: RECIPES[recipe]["single"] for role in study.made if role in names}


def _any_cards(recipe: str, samplers: str | None) -> dict[str, str]:
    """Name -> card, of a study whose roles are cards. Without `samplers`: all of ours but the paper's recipes."""
    if recipe != "embedded":
        raise UsageError(f"--recipe {recipe}: this study takes cards by name; give them with --samplers")
    if samplers is None:
        return {name: name for name in card_names("baselines") if not name.startswith("paper-")}
    names = [name.strip() for name in samplers.split(",")]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"--samplers names {twice[0]!r} twice")
    return {name: name for name in names}


def points_of(study: Study, wishes: Wishes) -> list[Point]:
    """All points of a study, role by role. Raises UsageError or CardError for a setting that cannot be."""
    for key in (study.key, "members", "name", "draws"):
        if key and key in wishes.settings:
            raise UsageError(f"--set {key}: {_INSTEAD.get(key, 'that is what this study varies, use --grid')}")
    grid = wishes.grid or study.grid
    if len(set(grid)) < len(grid):
        raise UsageError(f"--grid names a value twice: {', '.join(f'{x:g}' for x in grid)}")
    cards = [
        (role, x, card)
        for role, base in _cards(study, wishes).items()
        for x in (sorted(grid) if study.key and role not in study.fixed else [None])
        for card in [_at(study, base, x)]
    ]
    most = max(card.members for _, _, card in cards)
    shared = (most if most > 1 else cards[0][2].draws) if wishes.n is None else wishes.n
    # K adapters give K answers, so n is K in the study of K
    own = study.key == "members" and wishes.n is None
    points = [Point(role, x, card, card.members if own else shared) for role, x, card in cards]
    names = {role: point.series for role, point in ((p.role, p) for p in points)}
    if len(set(names.values())) < len(names):
        raise UsageError(f"two roles are played by samplers of one name ({', '.join(sorted(names.values()))}); rename one")
    return points


_INSTEAD = {
    "members": "use --members K, and in the study of K --grid",
    "name": "the cards of a study keep their names",
    "draws": "use --n",
}


@dataclass(frozen=True)
class _Base:
    """A sampler without the study's own setting: the name of a card, with overrides."""

    card: str
    settings: Mapping[str, object]

    def load(self, more: Mapping[str, object]) -> SamplerCard:
        return load_sampler_card(self.card, {**self.settings, **more})


def _cards(study: Study, wishes: Wishes) -> dict[str, _Base]:
    """Role -> the card that its points start from."""
    if study.made:
        given = settings_of_methods({role: study.made[role] for role in wishes.cards}, wishes.settings)
        return {role: _Base(card, _of_student(study, role, given[role])) for role, card in wishes.cards.items()}
    bases: dict[str, _Base] = {}
    several = {} if wishes.members is None or study.key == "members" else {"members": wishes.members}
    for role, card in wishes.cards.items():
        if study.free or role not in CONTROLS:
            plain = _Base(card, _of_card(card, wishes.settings) if study.free else wishes.settings)
            bases[role] = plain if plain.load({}).adapters != "parts" else _Base(card, {**plain.settings, **several})
    controls = [role for role in wishes.cards if role in CONTROLS and not study.free]
    if controls:
        bases |= _controls(controls, bases, wishes)
    return {role: bases[role] for role in wishes.cards if role in bases}


def _of_student(study: Study, role: str, settings: Mapping[str, object]) -> dict[str, object]:
    """The settings of a role that is made of the student's card."""
    made = study.made[role]
    method = made.get(METHOD)
    said = f"a student on pairs by {method}" if method else "a student on the targets themselves"
    own: dict[str, object] = {"name": role, "description": said, **made}
    for key, value in settings.items():
        of_targets = key in {"data.examples", "synthesize.targets"}
        own[("synthesize.targets" if method else "data.examples") if of_targets else key] = value
    return own


def _of_card(card: str, settings: Mapping[str, object]) -> dict[str, object]:
    """The settings that mean something to a card: those on how adapters are made only where it makes any."""
    plain = load_sampler_card(card, {})
    meaningless = {"partition", "attribution"} if plain.adapters != "parts" else set()
    meaningless |= set() if plain.trains else {"lora", "data"}
    return {key: value for key, value in settings.items() if key.partition(".")[0] not in meaningless}


def _controls(roles: Sequence[str], bases: Mapping[str, _Base], wishes: Wishes) -> dict[str, _Base]:
    """The controls, from the card of `single` and the members of SPA. Raises UsageError where one of these is missing."""
    parts = next((bases[role] for role in reversed(_PARTS) if role in bases), None)
    if "single" not in bases or parts is None:
        raise UsageError(f"the control {roles[0]} needs single and one of {', '.join(_PARTS)} among --samplers")
    single, spa = bases["single"].load({}), parts.load({})
    made: dict[str, dict[str, object]] = {
        "seeds": {
            "name": "seeds",
            "description": "control: K adapters, each on all data with its own seed",
            "members": spa.members,
            "adapters": "seeds",
            "decoding.temperature": spa.decoding.temperature,
        },
        "single-long": {
            "name": "single-long",
            "description": "control: as single, with as many steps as SPA's K adapters together",
            "lora.steps": single.lora.steps * spa.members,
        },
    }
    if not single.lora.steps and "single-long" in roles:
        raise UsageError(
            f"the control single-long multiplies lora.steps, and {single.name} counts epochs, in which one adapter on all data "
            "has the steps of K adapters on parts already; leave it out of --samplers"
        )
    return {role: _Base(wishes.cards["single"], {**wishes.settings, **made[role]}) for role in roles}


def _at(study: Study, base: _Base, x: float | None) -> SamplerCard:
    """The card of one point. Raises UsageError for a K that is no whole number."""
    if x is None:
        return base.load({})
    if study.key == "members":
        if x != int(x) or x < 2:
            raise UsageError(f"--grid of members takes whole numbers from 2 on; got {x:g}")
        x = int(x)
    return base.load({study.key: x})
