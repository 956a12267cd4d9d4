"""Lesson 1: which pass rates does an objective weigh? Open it with `maxrl-lab lesson 1`, or run it as a script."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="An objective is a weight")

with app.setup:
    import marimo as mo
    import torch
    from matplotlib import pyplot as plt

    from maxrl_lab import evaluate, objectives
    from maxrl_lab.extras import CHECKOUT

    RATES = torch.logspace(-4, 0, 300, dtype=torch.float64)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # Lesson 1: an objective is a weight

    A task is passed with probability $p$, the *pass rate*, and the policy's parameters change $p$. Whatever is
    optimised, $J(p)$, its gradient is $\nabla J = J'(p)\,\nabla p$. So an objective is nothing but a weight
    $w(p) = J'(p)$: how much a task counts whose pass rate is $p$.

    - Plain RL maximises $p$: every task counts the same, $w = 1$.
    - Maximum likelihood maximises $\log p$: $w = 1/p$, so a task that is passed once in a thousand counts a
      thousand times.

    Between them lies the series $\log p = -\sum_{k \ge 1} (1-p)^k / k$. Cut after $T$ terms it has the weight
    $w_T(p) = \bigl(1-(1-p)^T\bigr)/p$. **Move the slider: what does one more term buy?**
    """)
    return


@app.cell
def _():
    order = mo.ui.slider(steps=[1, 2, 4, 8, 16, 64, 256, 1024], value=8, label="order T", show_value=True)
    order
    return (order,)


@app.function
def weights(order: int) -> dict[str, torch.Tensor]:
    """Return w(p) at RATES of RL, of the likelihood, and of the series cut after `order` terms, by label."""
    return {
        "RL": objectives.make("expected_reward").weight(RATES),
        "likelihood": objectives.make("maximum_likelihood").weight(RATES),
        f"order {order}": objectives.make("truncated_likelihood", order=order).weight(RATES),
    }


@app.cell
def _(order):
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for _label, _weight in weights(order.value).items():
        axis.loglog(RATES, _weight, label=_label, linewidth=3 if _label.startswith("order") else 1.5)
    axis.axvline(1 / order.value, color="0.6", linestyle=":", label="p = 1/T")
    axis.set(xlabel="pass rate p of a task", ylabel="weight w(p) of the task")
    axis.legend()
    figure
    return


@app.cell(hide_code=True)
def _(order):
    mo.md(rf"""
    At order $T = {order.value}$ the weight follows $1/p$ down to about $p = 1/T = {1 / order.value:.3g}$ and is
    flat below, at $T$. What is left out is $(1-p)^T$ of the likelihood's weight: at $p = 0.001$ that is
    **{0.999**order.value:.1%}**.

    ## Two tasks, one step

    One task is passed half of the time, the other once in a thousand. Which one gets the step?
    """)
    return


@app.cell
def _(order):
    two = torch.tensor([0.5, 0.001], dtype=torch.float64)
    shares = []
    for _name in ("expected_reward", f"truncated_likelihood:order={order.value}", "maximum_likelihood"):
        _easy, _hard = objectives.resolve(_name).weight(two).tolist()
        shares.append(
            {"objective": _name, "weight at 0.5": _easy, "weight at 0.001": _hard, "hard : easy": _hard / _easy}
        )
    mo.ui.table(shares, selection=None)
    return (shares,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## pass@k is one term of the series

    pass@k $= 1-(1-p)^k$ is the chance that at least one of $k$ samples is right. From $k = 2$ on its weight
    $k(1-p)^{k-1}$ is $k$ for the hardest tasks and *vanishes* for easy ones. Since $\nabla \log p = \sum_k
    \nabla\,\mathrm{pass@}k / k$, the likelihood is a sum of them all, each with the share $1/k$; order $T$ is the
    first $T$ of them.
    """)
    return


@app.cell
def _():
    k = mo.ui.slider(1, 64, value=4, label="k", show_value=True)
    k
    return (k,)


@app.cell
def _(k):
    picture, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    left.semilogx(RATES, evaluate.exact_pass_at_k(RATES, k.value))
    left.set(xlabel="pass rate p", ylabel=f"pass@{k.value}")
    right.loglog(RATES, objectives.make("pass_at_k", k=k.value).weight(RATES), label=f"pass@{k.value}")
    right.loglog(RATES, 1 / RATES, label="likelihood")
    right.set(xlabel="pass rate p", ylabel="weight w(p)", ylim=(1e-3, 1e4))
    right.legend()
    picture
    return


@app.cell
def test_the_series_is_the_likelihood():
    _p = torch.tensor([0.5, 0.9], dtype=torch.float64)
    _mixture = sum(objectives.make("pass_at_k", k=_k).weight(_p) / _k for _k in range(1, 200))
    assert torch.allclose(_mixture, 1 / _p, rtol=1e-12)
    return


@app.cell(hide_code=True)
def _():
    mo.vstack(
        [
            mo.md(r"""
    ## The figure of the paper

    `maxrl-lab run weight_functions` draws Fig. 1 of the paper: on the left the population's weights, on the
    right what $N$ rollouts give, which lesson 2 explains.

    **Exercises** 1.1 `weight`, 1.2 `terms`, 1.3 `mixture`: `maxrl-lab grade answers weight`.
    """),
            mo.image(CHECKOUT / "figures" / "gallery" / "weight_functions.png", alt="Weights of objectives, Fig. 1"),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
