"""SoftSRV (arXiv 2410.16534): a frozen model, steered by a trained soft prompt, writes texts like the targets.

Each target example becomes one text x. An encoder gives z = E(x), a small trained map P gives a soft prompt P(z) of T vectors,
and the frozen model reads nothing but these before it writes. P is trained to make the x of the targets likely. Afterwards z is
drawn and the model writes new texts, which are split into pairs. See docs/explanation/softsrv.md.
"""

from __future__ import annotations

from spa_bench.cards.synthesis import SynthesisCard
from spa_bench.models.base import Model
from spa_bench.spa.synthesize.base import Setting, SynthesisKind, Synthesizer
from spa_bench.spa.synthesize.softsrv.options import SoftSRVOptions


def _build(setting: Setting) -> Synthesizer:
    from spa_bench.spa.synthesize.softsrv.method import SoftSRV

    return SoftSRV(setting)


def _check_model(card: SynthesisCard, model: Model) -> None:
    from spa_bench.spa.synthesize.softsrv.steered import prompted

    prompted(model)


def _depends_on(card: SynthesisCard) -> dict[str, object]:
    """The encoder by what it holds, where it is another model."""
    from spa_bench.spa import encoders

    options = card.options_as(SoftSRVOptions)
    return {} if options.form == "nsp" or options.encoder == "own" else {"encoder": encoders.identity(options.encoder)}


KIND = SynthesisKind(build=_build, options=SoftSRVOptions, check_model=_check_model, depends_on=_depends_on)
