"""Lesson 2: what does an advantage function really optimise? Open it with `maxrl-lab lesson 2`."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="An estimator is a table")

with app.setup:
    import marimo as mo
    import torch
    from matplotlib import pyplot as plt

    from maxrl_lab import estimators, exact, objectives
    from maxrl_lab.audit import audit
    from maxrl_lab.extras import CHECKOUT

    RATES = torch.logspace(-3, -0.001, 200, dtype=torch.float64)
    CHOICE = ["reinforce", "rloo", "grpo", "maxrl", "maxrl_leave_one_out", "maxrl_control_variate", "mapo"]


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # Lesson 2: an estimator is a table

    Rewards are 0 or 1. All that an advantage function can do which treats the rollouts of a group alike is give
    $a(K)$ to every success and $b(K)$ to every failure of $N$ rollouts with $K$ successes. Flip one rollout from
    wrong to right while $J$ of the *others* are right: its advantage changes by the *flip* $a(J+1) - b(J)$. On
    average over $J \sim \mathrm{Binomial}(N-1, p)$

    $$\mathbb{E}[g] = w_N(p)\,\nabla p, \qquad w_N(p) = \mathbb{E}_J\bigl[a(J+1) - b(J)\bigr].$$

    So the flips *are* the objective. **Choose `grpo` and move the slider: from which $N$ on does it differ from
    plain RL?**
    """)
    return


@app.cell
def _():
    rollouts = mo.ui.slider(2, 64, value=8, label="rollouts N", show_value=True, debounce=True)
    estimator = mo.ui.dropdown(CHOICE, value="maxrl", label="estimator")
    mo.hstack([rollouts, estimator], justify="start")
    return estimator, rollouts


@app.function
def curves(name: str, count: int) -> dict[str, torch.Tensor]:
    """Return w_N(p) of an estimator at RATES, and w(p) of the objectives around it, by label."""
    return {
        "RL": objectives.make("expected_reward").weight(RATES),
        "likelihood": objectives.make("maximum_likelihood").weight(RATES),
        "GRPO as N grows": objectives.make("grpo_limit").weight(RATES),
        f"{name}, N = {count}": exact.weight(name, rollouts=count, pass_rate=RATES),
    }


@app.cell
def _(estimator, rollouts):
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for _label, _curve in curves(estimator.value, rollouts.value).items():
        axis.loglog(RATES, _curve, label=_label, linewidth=3 if _label.startswith(f"{estimator.value},") else 1.5)
    axis.set(xlabel="pass rate p of a task", ylabel="weight of the task", ylim=(0.1, 1000))
    axis.legend()
    figure
    return


@app.cell
def _(estimator, rollouts):
    report = audit(estimator.value, rollouts=rollouts.value)
    mo.plain_text(report.text())
    return (report,)


@app.cell
def _(estimator, rollouts):
    success, failure = exact.coefficients(estimator.value, rollouts=rollouts.value)
    flips = success[1:] - failure[:-1]
    table = [
        {
            "K": _k,
            "a(K)": float(success[_k]) if _k else None,  # without a success nobody gets a(0)
            "b(K)": float(failure[_k]) if _k < rollouts.value else None,
            "flip at J = K": float(flips[_k]) if _k < rollouts.value else None,
        }
        for _k in range(rollouts.value + 1)
    ]
    mo.ui.table(table, selection=None, page_size=8)
    return (table,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Which baselines are free?

    A baseline $b(J)$ of the *other* rollouts' rewards is the same before and after the flip, so it cancels: the
    objective stays, whatever $b$ is. The group's mean contains the rollout's own reward and is not free. Without a
    baseline $a(K) = N/K$: the flips $N/(J+1)$ belong to order $N$. Algorithm 1 subtracts 1 from every rollout,
    except in a group without a success, which gets 0. So its flips are the same but for the first, $J = 0$, which
    is $N-1$ and not $N$: the weight loses $(1-p)^{N-1}$, the last term of the series, and order $N-1$ is left.

    ## One dial from RLOO to Algorithm 1

    Tables whose advantages sum to 0 in every group can have any order $T$ up to $N-1$, and each order has
    exactly one such table. $T = 1$ is RLOO, $T = N-1$ is MaxRL's Algorithm 1: no centred table of order $N$
    exists. **Turn the dial at $N = 16$.**
    """)
    return


@app.cell
def _():
    order = mo.ui.slider(1, 15, value=4, label="order T of 16 rollouts", show_value=True)
    order
    return (order,)


@app.cell
def _(order):
    dial = estimators.make("maxrl_centred", order=order.value)
    picture, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for _name in ("rloo", "maxrl"):
        left.loglog(RATES, exact.weight(_name, rollouts=16, pass_rate=RATES), label=_name)
    left.loglog(RATES, exact.weight(dial, rollouts=16, pass_rate=RATES), label=str(dial), linewidth=3)
    left.set(xlabel="pass rate p", ylabel="w_N(p)", title="N = 16")
    left.legend()
    right_side, wrong_side = dial.coefficients(16)
    right.plot(range(1, 17), right_side[1:], "o-", label="a(K), of a success")
    right.plot(range(16), wrong_side[:-1], "s-", label="b(K), of a failure")
    right.set(xlabel="successes K", ylabel="advantage")
    right.legend()
    picture
    return (dial,)


@app.cell
def test_grpo_is_rl_at_two_and_three():
    for _count in (2, 3):
        _weight = exact.weight("grpo", rollouts=_count, pass_rate=RATES)
        assert float(_weight.std() / _weight.mean()) < 1e-12
    assert audit("grpo", rollouts=4).objective is None
    return


@app.cell(hide_code=True)
def _():
    mo.vstack(
        [
            mo.md(r"""
    ## The figure of the paper

    `maxrl-lab run unbiasedness` checks Theorems 1 and 2 and the order $N-1$ of Algorithm 1, by enumeration.

    **Exercises** 2.1 `rloo`, 2.2 `order_t`, 2.3 `pass_at_k`, 2.4 `boxes`: `maxrl-lab grade answers rloo`.
    """),
            mo.image(CHECKOUT / "figures" / "gallery" / "unbiasedness.png", alt="Unbiased estimators"),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
