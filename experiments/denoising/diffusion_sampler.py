"""How much faster may a masked-diffusion policy decode, and which likelihood belongs to what its sampler wrote?

DiFFPO (arXiv:2510.02212) trains diffusion language models with the two-times mean field, capped importance weights and
a learnt sampler. Its text was not at hand: what is here is a reconstruction from its abstract, its reviews and
summaries. On answers of a few digits all that it approximates is exact, and two questions of its reviewers have
answers: how far the surrogate is from the full likelihood, and why there are two anchors.

1. Pass rate against the number of evaluations of the network, both exact, for entropy-bounded decoding: the pretrained
   policy, the model trained by its path's score at one bound, a distribution q(bound | prompt) trained alone, and both.
   Where bounds are learnt, an answer counts as right if it comes within a budget.
2. Bias and noise of the surrogate with m anchors: d1 at m = 1, DiFFPO's two at m = 2, the exact path at m = L.
3. The same with importance weights per token, capped at C; and of d1 where the sampler fills several places at once.

    maxrl-lab run diffusion_sampler        (half a minute)

Tables: `decoding` (a row per seed, method, N, verifier and bound; the bound is empty where it is learnt, and where it
is the best for each prompt), `training` (now and then in training), `bounds` (how often each is taken), `anchors` (a
row per seed, verifier, m and kind of weights), `steps` (the divergence of each step), `sets` (the bias of d1 under each
bound).
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from envs.canvas import Canvas
from experiments.denoising import _anchors
from maxrl_lab.denoising import decoding
from maxrl_lab.denoising.decoding import CHOOSER, MODEL, Chooser, DecodingBatch, Fixed
from maxrl_lab.denoising.forms import Forms
from maxrl_lab.denoising.lattice import Lattice
from maxrl_lab.denoising.moments import tabulate
from maxrl_lab.denoising.pretraining import Pretraining, pretrain
from maxrl_lab.denoising.study import Network
from maxrl_lab.errors import InputError
from maxrl_lab.policies.stack import Stack
from maxrl_lab.rows import Row, Tables, append
from maxrl_lab.runs.context import Context
from maxrl_lab.settings import Count, Counts, Each, Interval, Probability, Rate
from maxrl_lab.settings import Settings as Group
from maxrl_lab.training.fit import Checkpoint, Optimisation, fit
from maxrl_lab.training.methods import Sampled

ESTIMATOR = "maxrl"
TRAINED = {"model": (MODEL,), "sampler": (CHOOSER,), "joint": (MODEL, CHOOSER)}
"""What each method trains: the model at one bound, the distribution over bounds, or both."""
EVERY = "all"
"""Stands for the mean over all verifiers."""


@dataclass(frozen=True)
class Decoding(Group):
    """Decoding: the entropy bounds, and how they and the model are trained."""

    rollouts: Counts = (4, 16)
    """Numbers N of rollouts in a group."""
    bounds: Annotated[tuple[float, ...], Each(Interval(closed_low=True))] = (0.0, 0.5, 1.0, 2.0, 4.0)
    """Entropy bounds in nats, rising; infinity, which fills all places at once, is always one more."""
    model_bound: Annotated[float, Interval(closed_low=True)] = 0.5
    """Entropy bound in nats at which the model alone is trained; it is one of the bounds."""
    budget: Count = 2
    """Most evaluations of the network with which an answer counts as right where bounds are learnt."""
    steps: Count = 60
    """Number of updates of each training."""
    measurements: Count = 6
    """Number of measurements in a training, beside the one before it."""
    prompts: Count = 12
    """Number of prompts, on which policies are pretrained, trained and measured; all are in every update."""
    learning_rate: Rate = 0.005
    """Learning rate of Adam for the model."""
    sampler_rate: Rate = 0.1
    """Learning rate of Adam for the distribution over bounds."""


@dataclass(frozen=True)
class Settings(_anchors.Surrogates, Decoding, Pretraining, Network, Canvas):
    """Problems, pretraining, decoding and surrogates."""

    noise: Probability = 0.2
    """Probability with which a digit of a solution is replaced by a random one."""
    seeds: Count = 3
    """Number of seeds; a seed redraws policies, problems and rollouts."""

    def __post_init__(self) -> None:
        """Check also that the bounds rise, that the model's is one of them, and that everything can be listed."""
        super().__post_init__()
        Lattice(self.length, self.base)
        Lattice(self.length, self.digits)
        Forms(self.length)
        self.problems(self.prompts)
        decoding.check_bounds(self.bounds)
        if self.model_bound not in self.bounds:
            raise InputError(f"model_bound must be one of the bounds {list(self.bounds)}, got {self.model_bound}")

    @property
    def every_bound(self) -> tuple[float, ...]:
        """The bounds, and infinity."""
        return (*self.bounds, float("inf"))


PRESETS = {
    "smoke": Settings(
        length=2, base=3, digits=3, seeds=1, rollouts=(4,), steps=3, prompts=3, pretrain_steps=5, budget=1
    ),
    "quick": Settings(seeds=2),
    "standard": Settings(seeds=8),
    "full": Settings(seeds=16, rollouts=(4, 16, 64), prompts=24),
}


def run(settings: Settings, context: Context) -> Tables:
    """Return the tables of the docstring."""
    tables = Tables()
    for seed in context.progress("diffusion_sampler")(range(settings.seeds)):
        append(tables, _anchors.measure(settings, settings, seed))
        append(tables, _train_and_measure(settings, context, seed))
    return tables


def _train_and_measure(settings: Settings, context: Context, seed: int) -> Tables:
    """Return the rows of one seed's policies: pretrained, and trained by every method at every N."""
    checkpoint = context.checkpoint.stage(f"seed-{seed}")
    start = _policy(settings, seed)
    prompts = settings.problems(settings.prompts, seed=seed)
    pretrain(start, settings, prompts, settings, seed, checkpoint.stage("pretrained"))
    tables = _measure(settings, start, None, {"seed": seed, "method": "base", "rollouts": None})
    append(tables, {"decoding": _best(settings, start, seed)})
    for method, parts in TRAINED.items():
        for rollouts in settings.rollouts:
            policy, chooser = _policy(settings, seed), _chooser(settings, method)
            policy.load_state_dict(start.state_dict())
            head = {"seed": seed, "method": method, "rollouts": rollouts}
            stage = checkpoint.stage(f"{method}-{rollouts}")
            append(tables, _train(settings, (policy, chooser), head, stage))
            append(tables, _measure(settings, policy, chooser if CHOOSER in parts else None, head))
    return tables


def _train(settings: Settings, networks: tuple[nn.Module, nn.Module], head: Row, checkpoint: Checkpoint) -> Tables:
    """Train what the method trains, in place; return its exact pass rate and cost now and then."""
    parts, prompts = TRAINED[head["method"]], settings.problems(settings.prompts, seed=head["seed"])
    rates = {MODEL: settings.learning_rate, CHOOSER: settings.sampler_rate}

    def batch(step: int) -> DecodingBatch:
        return DecodingBatch(
            *networks,
            settings.every_bound,
            prompts,
            settings.right,
            settings.length,
            settings.base,
            parts=parts,
            budget=settings.budget if CHOOSER in parts else None,
            seed=head["seed"],
            step=step,
        )

    def measure(step: int) -> Tables:
        decoded = _decoded(settings, networks[0], prompts).mixed(_log_q(networks[1], prompts))
        (row,) = _rows([EVERY] * len(prompts), decoded, 0, {**head, "updates": step})
        return {"training": [row]}

    return fit(
        Stack([networks[part] for part in parts]),
        [Sampled(ESTIMATOR, head["rollouts"])] * len(parts),
        [rates[part] for part in parts],
        Optimisation(settings.steps, "adam", measure_every=max(1, settings.steps // settings.measurements)),
        batch=batch,
        checkpoint=checkpoint,
        measure=measure,
    )


def _measure(settings: Settings, policy: nn.Module, chooser: nn.Module | None, head: Row) -> Tables:
    """Return exact pass rates and costs at every bound, and of the learnt distribution over them."""
    prompts = settings.problems(settings.prompts, seed=head["seed"])
    decoded = _decoded(settings, policy, prompts)
    names = settings.verifier_of(prompts)
    chances = [(bound, column) for column, bound in enumerate(settings.every_bound)]
    rows = [row for bound, column in chances for row in _rows(names, decoded, column, {**head, "bound": bound})]
    if chooser is None:
        return {"decoding": rows}
    log_q = _log_q(chooser, prompts)
    rows += _rows(names, decoded.mixed(log_q), 0, {**head, "bound": None})
    shares = log_q.exp().double()
    return {
        "decoding": rows,
        "bounds": [
            {**head, "verifier": name, "bound": bound, "share": float(shares[members, column].mean())}
            for name, members in _by_verifier(names).items()
            for bound, column in chances
        ],
    }


def _best(settings: Settings, policy: nn.Module, seed: int) -> list[Row]:
    """Return what the bound that is best within the budget for each prompt would give: no distribution has more."""
    prompts = settings.problems(settings.prompts, seed=seed)
    decoded = _decoded(settings, policy, prompts)
    best = decoded.in_time.argmax(1, keepdim=True)
    taken = decoding.Decoded(*(values.gather(1, best) for values in decoded))
    head = {"seed": seed, "method": "best bound", "rollouts": None, "bound": None}
    return _rows(settings.verifier_of(prompts), taken, 0, head)


def _decoded(settings: Settings, policy: nn.Module, prompts: Tensor) -> decoding.Decoded:
    """Return exact pass rates and costs of every bound, (B, G)."""
    lattice = Lattice(settings.length, settings.base)
    right = lattice.judged(settings.right, prompts)
    return decoding.decode(lattice, tabulate(policy, prompts, lattice), right, settings.every_bound, settings.budget)


def _log_q(chooser: nn.Module, prompts: Tensor) -> Tensor:
    with torch.no_grad():
        values: Tensor = chooser(prompts)
    return values


def _rows(names: list[str], decoded: decoding.Decoded, column: int, head: Row) -> list[Row]:
    """Return a row per verifier and one for all."""
    measured = dict(zip(("pass_rate", "in_time", "evaluations"), decoded, strict=True))
    return [
        {**head, "verifier": name, **{key: float(values[members, column].mean()) for key, values in measured.items()}}
        for name, members in _by_verifier(names).items()
    ]


def _by_verifier(names: list[str]) -> dict[str, list[int]]:
    """Return the rows of the prompts of each verifier, after all of them."""
    groups = {name: [row for row, other in enumerate(names) if other == name] for name in dict.fromkeys(names)}
    return {EVERY: list(range(len(names))), **groups}


def _policy(settings: Settings, seed: int) -> nn.Module:
    return settings.make(settings, settings.words, settings.prompt_length, seed)


def _chooser(settings: Settings, method: str) -> nn.Module:
    """Return what says which bound is taken: a distribution that learns, or the model's one bound."""
    count = len(settings.every_bound)
    if CHOOSER in TRAINED[method]:
        return Chooser(settings.words, settings.prompt_length, count)
    return Fixed(settings.bounds.index(settings.model_bound), count)
