"""Lesson 4: who learns most, and who decides it, the method or its rate? Open it with `maxrl-lab lesson 4`."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Worlds with an exact likelihood")

with app.setup:
    from collections.abc import Sequence

    import marimo as mo
    import torch
    from matplotlib import pyplot as plt

    from envs.gridworld.levels import make_levels
    from envs.gridworld.tables import tasks
    from maxrl_lab.extras import CHECKOUT
    from maxrl_lab.tabular.batch import TabularBatch
    from maxrl_lab.training.methods import Exact, Method, Sampled
    from maxrl_lab.training.step import run_losses

    LEVELS = [level for distance in (6, 8, 10, 12) for level in make_levels("prim", 9, count=2, distance=distance)]
    WORLD = tasks(LEVELS, horizon=32, radius=None)
    RATES = (0.3, 1.0, 3.0, 10.0, 30.0)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # Lesson 4: worlds with an exact likelihood

    In a small maze nothing has to be estimated: with $v_t(s) = \sum_a \pi(a|s)\,v_{t+1}(s')$ one backward pass
    gives the probability $p$ of reaching the goal, and its gradient. Here are eight mazes and a policy that
    moves at random.
    """)
    return


@app.cell
def _():
    untrained = WORLD.pass_rate(torch.zeros(WORLD.shape).log_softmax(-1))
    figure, axes = plt.subplots(1, len(LEVELS), figsize=(11, 1.7), layout="constrained")
    for _axis, _level, _p in zip(axes, LEVELS, untrained.tolist(), strict=True):
        _axis.imshow(_level.walls, cmap="Greys")
        _axis.plot(*reversed(_level.start), "o", color="C0")
        _axis.plot(*reversed(_level.goal), "*", color="C1", markersize=9)
        _axis.set(xticks=[], yticks=[], title=f"p = {_p:.1g}")
    figure
    return (untrained,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Blind groups

    A group of $N$ rollouts without a success teaches nothing; that happens with probability $(1-p)^N$. **How
    many rollouts does the hardest of these mazes need before half of its groups see something?**
    """)
    return


@app.cell
def _():
    rollouts = mo.ui.slider(steps=[4, 8, 16, 32, 64, 128], value=16, label="rollouts N", show_value=True)
    rollouts
    return (rollouts,)


@app.cell
def _(rollouts, untrained):
    blind = [
        {"maze": _i, "p": _p, "share of blind groups": (1 - _p) ** rollouts.value, "N for one half": 0.693 / _p}
        for _i, _p in enumerate(untrained.tolist())
    ]
    mo.ui.table(blind, selection=None)
    return (blind,)


@app.function
def train(methods: Sequence[Method], rates: Sequence[float], updates: int, seed: int = 0) -> torch.Tensor:
    """Return the mean exact pass rate (R, updates + 1) of R runs of plain SGD, trained as one program.

    Every run has a method and a rate of its own; runs with one seed and one N share their random numbers.
    """
    logits = torch.zeros(len(methods), 1, *WORLD.shape, requires_grad=True)
    steps = torch.tensor(rates).view(-1, 1, 1, 1, 1) * len(LEVELS)  # the loss is a mean over levels
    curve = [mean_pass_rate(logits)]
    for update in range(updates):
        batch = TabularBatch(WORLD, logits.log_softmax(-1), [seed] * len(methods), update)
        (slope,) = torch.autograd.grad(run_losses(batch, methods).sum(), logits)
        logits = (logits - steps * slope).detach().requires_grad_()
        curve.append(mean_pass_rate(logits))
    return torch.stack(curve, 1)


@app.function
def mean_pass_rate(logits: torch.Tensor) -> torch.Tensor:
    return WORLD.pass_rate(logits.detach().log_softmax(-1)).flatten(1).mean(1)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Four gradients, one rate

    RLOO, GRPO, MaxRL and the exact gradient of the likelihood, with the same $N$ and the same random numbers.
    **Move the rate. Can you make RLOO lead the three that sample? And MaxRL?** An advantage of MaxRL reaches
    $N-1$, one of RLOO 1: one rate for all is not fair.
    """)
    return


@app.cell
def _():
    rate = mo.ui.slider(steps=list(RATES), value=3.0, label="learning rate of all", show_value=True)
    rate
    return (rate,)


@app.function
def contenders(rollouts: int) -> dict[str, Method]:
    """Return the methods that are compared, by name."""
    sampled: dict[str, Method] = {name: Sampled(name, rollouts) for name in ("rloo", "grpo", "maxrl")}
    return {**sampled, "exact likelihood": Exact("maximum_likelihood")}


@app.cell
def _(rate, rollouts):
    _methods = contenders(rollouts.value)
    _curves = train(list(_methods.values()), [rate.value] * len(_methods), updates=60)
    picture, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for _name, _curve in zip(_methods, _curves, strict=True):
        axis.plot(_curve, label=_name)
    axis.set(xlabel="update", ylabel="mean pass rate (exact)", ylim=(0, 1), title=f"all at rate {rate.value:g}")
    axis.legend()
    picture
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Sweep first, then compare

    The same methods at five rates, all runs as one program. The rate is chosen for each method on seed 0, and
    the table then reports seeds 1 and 2, which the choice has not seen.
    """)
    return


@app.cell
def _(rollouts):
    _methods = contenders(rollouts.value)
    _grid = [(_name, _rate) for _name in _methods for _rate in RATES]
    _final = train([_methods[_name] for _name, _ in _grid], [_rate for _, _rate in _grid], updates=40)[:, -1].tolist()
    _reached = dict(zip(_grid, _final, strict=True))
    best = {_name: max(RATES, key=lambda _rate, _name=_name: _reached[_name, _rate]) for _name in _methods}
    swept = []
    for _name, _method in _methods.items():
        _reported = [float(train([_method], [best[_name]], updates=40, seed=_seed)[0, -1]) for _seed in (1, 2)]
        _row = {f"rate {_rate:g}": _reached[_name, _rate] for _rate in RATES}
        swept.append({"method": _name, **_row, "chosen": best[_name], "seed 1": _reported[0], "seed 2": _reported[1]})
    mo.ui.table(swept, selection=None)
    return best, swept


@app.cell
def test_every_method_has_rates_that_are_worse(swept):
    for _row in swept:
        _reached = [_value for _name, _value in _row.items() if _name.startswith("rate")]
        assert max(_reached) > min(_reached) + 0.01
    return


@app.cell(hide_code=True)
def _():
    mo.vstack(
        [
            mo.md(r"""
    Two seeds on eight mazes are a demonstration, not a result. The experiment has ten seeds, mazes of its
    own for each seed, sweeps on other seeds, and intervals:

    ## The figure of the paper

    `maxrl-lab run navigation` (Fig. 3 and 7), `maxrl-lab draw navigation --reference` from the committed rows.

    **Exercises** 4.1 `loss`, 4.2 `chances`, 4.3 `budget`: `maxrl-lab grade answers budget --practice`.
    """),
            mo.image(CHECKOUT / "figures" / "gallery" / "navigation.png", alt="What rollouts buy, Fig. 3"),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
