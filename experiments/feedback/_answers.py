"""Panel 2 of `feedback`: answers of L digits that can all be listed, and ways to learn from rankings of some of them.

The policy is an autoregressive perceptron: of the prompt and the digits so far, one-hot, to the next digit. All runs
are trained together, and everything that is reported is a sum over all V^L answers. The untrained policy prefers small
digits, so that prompts differ in pass rate by orders of magnitude.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated

import torch
from torch import Tensor, nn

from maxrl_lab.errors import InputError
from maxrl_lab.exploration.counts import FLIPS, CoinHead, VisitCounts, bonus_loss, coin_bonus, coin_error, flip
from maxrl_lab.feedback.preferences import best_and_worst, dpo_loss, tied
from maxrl_lab.policies.stack import Stack, seeded
from maxrl_lab.randomness import generator
from maxrl_lab.rows import Row, Tables
from maxrl_lab.settings import Choice, Count, Each, Interval, Positive, Rates, Settings, Whole
from maxrl_lab.training.groups import Group
from maxrl_lab.training.methods import sampled_loss

MOST_ANSWERS = 4096
METHODS = ("dpo", "copo_exact", "copo_coins", "copo_coins_prior", "selm", "maxrl")
BONUS = METHODS[1:5]
"""Methods with a weight alpha."""
VERIFIERS = ("prefix", "flat")


@dataclass(frozen=True)
class Answers(Settings):
    """Rankings of answers of L digits, V^L of them, to prompts that a policy learns by heart."""

    prompts: Count = 6
    """Number of prompts."""
    digits: Annotated[int, Whole(2)] = 6
    """Number V of digits."""
    length: Annotated[int, Whole(2)] = 3
    """Number L of digits of an answer."""
    skew: Positive = 0.7
    """Nats by which the untrained policy prefers a digit to the next larger one."""
    width: Count = 32
    """Width of the two hidden layers of the policy."""
    answers: Annotated[int, Whole(2)] = 8
    """Number N of answers to each prompt in each round."""
    rounds: Count = 60
    """Number of rounds; each samples, ranks and updates."""
    inner_steps: Count = 2
    """Number of updates on the answers of a round; MaxRL makes one."""
    ranking_scale: Positive = 4.0
    """Scale s of the preferences between a right answer and a wrong one."""
    beta: Positive = 0.1
    """Weight beta of the log-probability ratio in DPO."""
    alphas: Annotated[tuple[float, ...], Each(Interval())] = (0.003, 0.03, 0.3)
    """Weights alpha of the bonus, swept with the learning rates."""
    too_much: Positive = 10.0
    """Weight alpha of a run that shows too large a bonus."""
    answer_rates: Rates = (0.003, 0.01, 0.03)
    """Learning rates of Adam, swept alike for every method."""
    answer_seeds: Count = 8
    """Number of reported runs of each method."""
    answer_sweep_seeds: Count = 2
    """Number of seeds of the sweep; none of them is reported."""
    coin_width: Count = 32
    """Width of the hidden layer of the coin-flip network; 32 is the published one."""
    coin_steps: Count = 10
    """Number of updates of the coin-flip network in each round."""
    coin_batch: Count = 256
    """Number of visits, of all so far, in each of these updates."""

    def __post_init__(self) -> None:
        """Check also that the answers can be listed."""
        super().__post_init__()
        if self.digits**self.length > MOST_ANSWERS:
            raise InputError(
                f"{self.digits} digits and length {self.length} make {self.digits**self.length} answers, "
                f"at most {MOST_ANSWERS} are listed"
            )


@dataclass(frozen=True)
class Trial:
    """One run: a method, its learning rate, its weight alpha (0 without a bonus) and a seed."""

    method: str
    rate: float
    alpha: float
    seed: int


class Writers:
    """R perceptrons with two hidden layers, as one tensor a layer: rows (..., F) to the logits of the next digit.

    Adam updates all of them together, each at a rate of its own.
    """

    def __init__(self, inputs: int, settings: Answers, seeds: Sequence[int]) -> None:
        width, digits = settings.width, settings.digits
        sizes = [(inputs, width), (width, width), (width, digits)]
        self.weights = [self._sampled(seeds, layer, size) for layer, size in enumerate(sizes)]
        self.biases = [torch.zeros(len(seeds), 1, size) for size in (width, width)]
        self.biases.append((-settings.skew * torch.arange(digits)).expand(len(seeds), 1, -1).clone())
        self.parameters = [parameter.requires_grad_() for parameter in (*self.weights, *self.biases)]
        self.means, self.squares = ([torch.zeros_like(p) for p in self.parameters] for _ in range(2))
        self.steps = torch.zeros(len(seeds), 1, 1)

    @staticmethod
    def _sampled(seeds: Sequence[int], layer: int, size: tuple[int, int]) -> Tensor:
        """Return the weights (R, *size) of a layer, small in the last one: the untrained policy has its skew alone."""
        scale = (0.1 if layer == 2 else 1.0) / math.sqrt(size[0])
        normal = {seed: torch.randn(size, generator=generator("writer", seed, layer)) for seed in set(seeds)}
        return scale * torch.stack([normal[seed] for seed in seeds])

    def logits(self, rows: Tensor) -> Tensor:
        """Return the logits (R, M, V) of rows (M, F), differentiable."""
        logits: Tensor = torch.baddbmm(self.biases[2], self.hidden(rows, slice(None)), self.weights[2])
        return logits

    def hidden(self, rows: Tensor, runs: slice | list[int]) -> Tensor:
        """Return the last hidden states (r, M, width) of rows (M, F) or (r, M, F) for some runs."""
        wide = rows.expand(len(self.weights[0][runs]), -1, -1)
        first = torch.baddbmm(self.biases[0][runs], wide, self.weights[0][runs]).relu()
        second: Tensor = torch.baddbmm(self.biases[1][runs], first, self.weights[1][runs]).relu()
        return second

    @torch.no_grad()
    def step(self, losses: Tensor, rates: Tensor, active: Tensor) -> None:
        """Take a step of Adam on losses (R,) at rates (R,) for the runs that are active, (R,) bool."""
        slopes = torch.autograd.grad(losses, self.parameters, torch.ones_like(losses))
        mask = active[:, None, None]
        self.steps += mask
        for parameter, slope, mean, square in zip(self.parameters, slopes, self.means, self.squares, strict=True):
            mean.copy_(torch.where(mask, 0.9 * mean + 0.1 * slope, mean))
            square.copy_(torch.where(mask, 0.999 * square + 0.001 * slope.square(), square))
            corrected = (square / (1 - 0.999 ** self.steps.clamp(min=1))).sqrt() + 1e-8
            change = mean / (1 - 0.9 ** self.steps.clamp(min=1)) / corrected
            parameter -= torch.where(mask, rates[:, None, None] * change, 0.0)


class World:
    """All answers (Y, L) to B prompts as rows of a policy, and which of them are right in each seed."""

    def __init__(self, settings: Answers, verifier: str) -> None:
        Choice(VERIFIERS).check("verifier", verifier)
        self.settings, self.verifier = settings, verifier
        base, length = settings.digits, settings.length
        self.listed = torch.tensor(list(product(range(base), repeat=length)))
        beginnings = [
            torch.tensor(list(product(range(base), repeat=depth)), dtype=torch.long) for depth in range(length)
        ]
        self.sizes = [base**depth for depth in range(length)]
        rows = torch.cat([self._encoded(known.reshape(len(known), depth)) for depth, known in enumerate(beginnings)])
        self.rows = self._with_prompts(rows)
        self.leaves = self._with_prompts(self._encoded(self.listed))

    def right(self, seed: int) -> Tensor:
        """Return the right answers (B, Y) bool: V of them a prompt, which share all digits but the last or none."""
        settings, total = self.settings, len(self.listed)
        stream = generator("right answers", self.verifier, seed)
        if self.verifier == "prefix":
            prefix = torch.randint(total // settings.digits, (settings.prompts, 1), generator=stream)
            return torch.arange(total) // settings.digits == prefix
        ranks = torch.rand(settings.prompts, total, generator=stream).argsort(-1)
        return ranks < settings.digits

    def log_probs(self, writers: Writers) -> Tensor:
        """Return the log-probabilities (R, B, Y) of all answers, differentiable, in nats."""
        base = self.settings.digits
        outputs = writers.logits(self.rows.flatten(0, 1)).log_softmax(-1)
        nodes = outputs.view(len(outputs), self.settings.prompts, -1, base).split(self.sizes, 2)
        total: Tensor = nodes[0].flatten(2)
        for node in nodes[1:]:
            total = (total[..., None] + node).flatten(2)
        return total

    def hidden(self, writers: Writers, runs: list[int], answers: Tensor) -> Tensor:
        """Return the last hidden states (r, B N, width) of answers (r, B, N) of some runs, without a gradient."""
        prompts = torch.arange(answers.shape[1])[:, None].expand(answers.shape)
        with torch.no_grad():
            return writers.hidden(self.leaves[prompts, answers].flatten(1, 2), runs)

    def _encoded(self, known: Tensor) -> Tensor:
        """Return the digits so far (n, depth) one-hot, (n, L V), 0 for what is not written yet."""
        settings = self.settings
        encoded = torch.zeros(len(known), settings.length, settings.digits)
        encoded[:, : known.shape[1]] = nn.functional.one_hot(known, settings.digits).float()
        return encoded.flatten(1)

    def _with_prompts(self, rows: Tensor) -> Tensor:
        """Return the rows behind every prompt's one-hot, (B, n, B + L V)."""
        prompts = torch.eye(self.settings.prompts)[:, None].expand(-1, len(rows), -1)
        return torch.cat([prompts, rows.expand(len(prompts), -1, -1)], -1)


class Coins:
    """The coin-flip networks of some runs, fitted to all visits so far, each visit with a coin vector of its own."""

    def __init__(self, settings: Answers, runs: list[int], seeds: Sequence[int], prior: bool) -> None:
        self.settings, self.runs, self.seeds = settings, runs, list(seeds)
        self.made = [
            seeded(lambda: CoinHead(settings.width, hidden=settings.coin_width, prior=prior), "coins", seed)
            for seed in seeds
        ]
        self.heads = Stack(self.made)
        trained = [parameter for parameter in self.heads.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.Adam(trained, 0.003)
        self.visits = torch.zeros(len(runs), settings.prompts, 0, dtype=torch.long)
        self.coins = torch.zeros(len(runs), 0, FLIPS)

    def whiten(self, features: Tensor) -> None:
        """Scale every prior over features (r, M, width)."""
        for head, seen in zip(self.made, features, strict=True):
            head.whiten(seen)

    def fit(self, world: World, writers: Writers, answers: Tensor, step: int) -> None:
        """Flip coins for answers (R, B, N) of all runs, keep them, and take the round's updates."""
        written, stream = answers[self.runs], generator("coin batches", step)
        self.visits = torch.cat([written, self.visits], 2)
        coins = [flip(written[0].numel(), FLIPS, generator("coins", seed, step)) for seed in self.seeds]
        fresh = torch.stack(coins).view(*written.shape, FLIPS)
        kept = self.coins.view(len(fresh), self.settings.prompts, -1, FLIPS)
        self.coins = torch.cat([fresh, kept], 2).flatten(1, 2)
        features = world.hidden(writers, self.runs, self.visits)
        for _ in range(self.settings.coin_steps):
            batch = torch.randint(features.shape[1], (self.settings.coin_batch,), generator=stream)
            self.optimiser.zero_grad()
            coin_error(self.heads(features[:, batch]), self.coins[:, batch]).sum().backward()
            self.optimiser.step()

    def bonus(self, world: World, writers: Writers, answers: Tensor) -> Tensor:
        """Return the bonuses of answers (r, B, N) of these runs."""
        with torch.no_grad():
            values = self.heads(world.hidden(writers, self.runs, answers))
        return coin_bonus(values).view(answers.shape)


def rows(settings: Answers, verifier: str) -> Tables:
    """Return the sweep, the curves, and how the coin-flip networks count, for one kind of right answers."""
    world, seeds = World(settings, verifier), range(settings.answer_seeds)
    swept = _Training(world, _sweep(settings)).run(measure_every=settings.rounds)["answers"]
    sweep = [row for row in swept if row["round"] == settings.rounds]
    best = _best(sweep)
    trials = [Trial(method, *best[method], seed) for method in METHODS for seed in seeds]
    trials += [Trial("copo_exact", best["copo_exact"][0], settings.too_much, seed) for seed in seeds]
    return {"sweep": sweep, **_Training(world, trials).run(measure_every=max(1, settings.rounds // 15))}


def _sweep(settings: Answers) -> list[Trial]:
    seeds = range(settings.answer_seeds, settings.answer_seeds + settings.answer_sweep_seeds)
    return [
        Trial(method, rate, alpha, seed)
        for method in METHODS
        for rate in settings.answer_rates
        for alpha in (settings.alphas if method in BONUS else (0.0,))
        for seed in seeds
    ]


def _best(sweep: Sequence[Row]) -> dict[str, tuple[float, float]]:
    """Return by method the rate and alpha of the highest mean final pass rate, the smallest of equals."""
    best: dict[str, tuple[float, float]] = {}
    for method in METHODS:
        scores: dict[tuple[float, float], list[float]] = {}
        for row in sweep:
            if row["method"] == method:
                scores.setdefault((row["learning_rate"], row["alpha"]), []).append(row["pass_rate"])
        best[method] = max(sorted(scores), key=lambda key: sum(scores[key]) / len(scores[key]))
    return best


class _Training:
    """Runs of several methods on one world, trained together; runs of a seed share right answers and uniforms."""

    def __init__(self, world: World, trials: Sequence[Trial]) -> None:
        self.world, self.settings, self.trials = world, world.settings, list(trials)
        self.writers = Writers(world.rows.shape[-1], world.settings, [trial.seed for trial in self.trials])
        self.rates = torch.tensor([trial.rate for trial in self.trials])
        self.right = torch.stack([world.right(trial.seed) for trial in self.trials])
        self.counts = VisitCounts(tuple(self.right.shape))
        self.runs = {name: [r for r, t in enumerate(self.trials) if t.method == name] for name in METHODS}
        self.coins = [
            Coins(self.settings, runs, [self.trials[run].seed for run in runs], name.endswith("prior"))
            for name, runs in self.runs.items()
            if name.startswith("copo_coins") and runs
        ]
        self.alpha = torch.tensor([trial.alpha for trial in self.trials])
        self.on_policy = torch.tensor([trial.method == "maxrl" for trial in self.trials])
        self.tied = torch.zeros(len(self.trials))

    def run(self, measure_every: int) -> Tables:
        """Train; return the table `answers`, and `coins` at the end."""
        with torch.no_grad():
            start = self.world.log_probs(self.writers)
        for coins in self.coins:
            coins.whiten(self.world.hidden(self.writers, coins.runs, self._everything(len(coins.runs))))
        tables: Tables = {"answers": self._measure(0, start, start), "coins": []}
        for step in range(1, self.settings.rounds + 1):
            self._round(step)
            if step % measure_every == 0 or step == self.settings.rounds:
                with torch.no_grad():
                    now = self.world.log_probs(self.writers)
                tables["answers"] += self._measure(step, start, now)
        tables["coins"] = [row for coins in self.coins for row in self._calibration(coins)]
        return tables

    def _round(self, step: int) -> None:
        """Sample, rank, count, and update."""
        settings = self.settings
        log_probs = self.world.log_probs(self.writers)
        answers = self._sample(log_probs.detach(), step)
        rewards = self.right.gather(2, answers).long()
        self.tied = tied(rewards).double().mean(-1)
        self.counts.add(answers)
        for coins in self.coins:
            coins.fit(self.world, self.writers, answers, step)
        bonuses = self._bonuses(answers)
        ranked = self._ranked(rewards, step)
        reference = log_probs.detach().gather(2, answers)
        for inner in range(settings.inner_steps):
            if inner:
                log_probs = self.world.log_probs(self.writers)
            losses = self._losses(log_probs.gather(2, answers), reference, rewards, bonuses, ranked, inner)
            self.writers.step(losses, self.rates, ~self.on_policy | (inner == 0))  # MaxRL is on-policy

    def _sample(self, log_probs: Tensor, step: int) -> Tensor:
        """Return answers (R, B, N); runs of one seed use the same uniform numbers."""
        shape = (*log_probs.shape[1:2], self.settings.answers)
        uniforms = {
            seed: torch.rand(shape, generator=generator("answers", seed, step), dtype=torch.float64)
            for seed in {trial.seed for trial in self.trials}
        }
        stacked = torch.stack([uniforms[trial.seed] for trial in self.trials])
        cumulative = log_probs.double().exp().cumsum(-1)
        sampled = torch.searchsorted(cumulative, stacked * cumulative[..., -1:], right=True)
        return sampled.clamp(max=cumulative.shape[-1] - 1)

    def _ranked(self, rewards: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Return the best and the worst answers (R, B) of every run, whatever other runs are trained beside it."""
        scale = self.settings.ranking_scale
        streams = [generator("ranking", trial.seed, step) for trial in self.trials]
        pairs = [best_and_worst(group, scale, stream) for group, stream in zip(rewards, streams, strict=True)]
        best, worst = map(torch.stack, zip(*pairs, strict=True))
        return best, worst

    def _bonuses(self, answers: Tensor) -> Tensor:
        """Return what each run's method pays for its answers, (R, B, N)."""
        bonuses = self.counts.bonus().gather(2, answers).float()
        for coins in self.coins:
            bonuses[coins.runs] = coins.bonus(self.world, self.writers, answers[coins.runs])
        return bonuses

    def _losses(
        self,
        log_probs: Tensor,
        reference: Tensor,
        rewards: Tensor,
        bonuses: Tensor,
        ranked: tuple[Tensor, Tensor],
        inner: int,
    ) -> Tensor:
        """Return every run's loss (R,)."""
        best, worst = ranked
        now, then = (_of_pairs(values, best, worst) for values in (log_probs, reference))
        losses = dpo_loss(*now, *then, beta=self.settings.beta).mean(-1)
        for name in ("copo_exact", "copo_coins", "copo_coins_prior"):
            runs = self.runs[name]
            term = bonus_loss(log_probs[runs], bonuses[runs], 1.0, reference=reference[runs])
            losses = losses.index_add(0, torch.tensor(runs, dtype=torch.long), self.alpha[runs] * term)
        selm = torch.tensor(self.runs["selm"], dtype=torch.long)
        losses = losses.index_add(0, selm, -self.alpha[selm] * log_probs[selm].mean((-2, -1)))
        maxrl = torch.tensor(self.runs["maxrl"], dtype=torch.long)
        if inner == 0 and len(maxrl):
            losses = losses.index_copy(0, maxrl, sampled_loss(Group(rewards[maxrl], log_probs[maxrl]), "maxrl"))
        return losses

    def _measure(self, step: int, start: Tensor, now: Tensor) -> list[Row]:
        """Return a row a run: exact pass rate and coverage, share of tied groups, distinct answers, entropy."""
        rate = (now.double().exp() * self.right).sum(-1).mean(-1)
        seen = self.counts.visits > 0
        coverage = (start.double().exp() * seen).sum(-1).mean(-1)
        entropy = -(now.exp() * now).sum(-1).mean(-1)
        solvable = (self.right & seen).any(-1).double().mean(-1)
        columns = zip(self.trials, rate, coverage, entropy, solvable, self.tied, strict=True)
        return [
            {
                **_named(trial, self.world.verifier),
                "round": step,
                "judged": step * self.settings.answers,
                "pass_rate": float(rate),
                "coverage": float(coverage),
                "entropy": float(entropy),
                "prompts_with_a_success": float(solvable),
                "tied": float(share) if step else None,
            }
            for trial, rate, coverage, entropy, solvable, share in columns
        ]

    def _everything(self, runs: int) -> Tensor:
        """Return all answers (runs, B, Y)."""
        count = self.right.shape[2]
        return torch.arange(count).expand(runs, self.right.shape[1], count)

    def _calibration(self, coins: Coins) -> list[Row]:
        """Return by run and number of visits the mean bonus of the answers with so many, and how far it scatters."""
        bonuses = coins.bonus(self.world, self.writers, self._everything(len(coins.runs)))
        made = []
        for index, run in enumerate(coins.runs):
            visits = self.counts.visits[run].flatten()
            for number in visits.unique().tolist():
                values = bonuses[index].flatten()[visits == number].double()
                row = {"visits": int(number), "answers": len(values), "bonus": float(values.mean())}
                quantiles = values.quantile(torch.tensor([0.1, 0.9], dtype=torch.float64)).tolist()
                made.append(
                    {**_named(self.trials[run], self.world.verifier), **row, "low": quantiles[0], "high": quantiles[1]}
                )
        return made


def _of_pairs(values: Tensor, best: Tensor, worst: Tensor) -> tuple[Tensor, Tensor]:
    """Return the values (R, B) of the best and of the worst answers, of values (R, B, N)."""
    return values.gather(2, best[..., None])[..., 0], values.gather(2, worst[..., None])[..., 0]


def _named(trial: Trial, verifier: str) -> Row:
    columns = {"method": trial.method, "learning_rate": trial.rate, "alpha": trial.alpha, "seed": trial.seed}
    return {"verifier": verifier, **columns}
