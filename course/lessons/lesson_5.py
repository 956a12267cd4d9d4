"""Lesson 5: what does shipped code really optimise? Open it with `maxrl-lab lesson 5`."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="What the code really optimises")

with app.setup:
    import marimo as mo
    import torch
    from torch import Tensor

    from maxrl_lab.audit import audit
    from maxrl_lab.audit.expectation import check
    from maxrl_lab.extras import CHECKOUT


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # Lesson 5: what the code really optimises

    A paper has a formula, a trainer has a function, and the two differ more often than their authors know. An
    advantage function of rewards $(B, N)$ can be asked: the audit probes it with every $K$, with batches, with
    shuffled groups, and names its objective at finite $N$, or says why it has none. **Here are six functions as
    one finds them. Guess before you look.**
    """)
    return


@app.function
def mean_of_the_group(rewards: Tensor) -> Tensor:
    """r - mean: "RLOO without leaving one out"."""
    return rewards - rewards.mean(-1, keepdim=True)


@app.function
def standardised(rewards: Tensor) -> Tensor:
    """(r - mean) / (std + 1e-4): GRPO as many trainers have it."""
    return (rewards - rewards.mean(-1, keepdim=True)) / (rewards.std(-1, correction=0, keepdim=True) + 1e-4)


@app.function
def over_the_mean(rewards: Tensor) -> Tensor:
    """(r - mean) / mean: Algorithm 1 of MaxRL."""
    mean = rewards.mean(-1, keepdim=True)
    return torch.where(mean > 0, (rewards - mean) / mean.clamp(min=1e-9), torch.zeros_like(rewards))


@app.function
def over_the_mean_of_the_batch(rewards: Tensor) -> Tensor:
    """The same with one mean for all groups of the batch."""
    mean = rewards.mean()
    return (rewards - mean) / mean.clamp(min=1e-9)


@app.function
def only_the_first(rewards: Tensor) -> Tensor:
    """The first success of a group counts, the others do not."""
    first = (rewards.cumsum(-1) == 1) & (rewards == 1)
    return first.to(rewards)


@app.function
def failures_only(rewards: Tensor) -> Tensor:
    """-1 for every failure: negative samples alone."""
    return rewards - 1


@app.cell
def _():
    functions = {
        _function.__name__: _function
        for _function in (
            mean_of_the_group,
            standardised,
            over_the_mean,
            over_the_mean_of_the_batch,
            only_the_first,
            failures_only,
        )
    }
    return (functions,)


@app.cell
def _(functions):
    name = mo.ui.dropdown(list(functions), value="standardised", label="function")
    rollouts = mo.ui.slider(2, 32, value=8, label="rollouts N", show_value=True, debounce=True)
    mo.hstack([name, rollouts], justify="start")
    return name, rollouts


@app.cell
def _(functions, name, rollouts):
    report = audit(functions[name.value], rollouts=rollouts.value)
    mo.vstack([mo.md(f"*{functions[name.value].__doc__}*"), mo.plain_text(report.text())])
    return (report,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Lengths

    A loss that divides each answer's gradient by its number of tokens changes the objective, whatever the
    advantages are: short right answers and long wrong ones are favoured. With two right answers of 2 and 20
    tokens, each drawn with probability $p_1$ and $p_2$, the step is the gradient of $p_1/2 + p_2/20$ instead of
    $p_1 + p_2$. **From which length on does the second answer, which is right, become less likely?**
    """)
    return


@app.cell
def _():
    length = mo.ui.slider(2, 60, value=20, label="tokens of the second answer", show_value=True)
    length
    return (length,)


@app.function
def steps(length: int, *, by_token: bool) -> list[float]:
    """Return the slopes of three logits: right answers of 2 and `length` tokens, and a wrong one of 2."""
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    probabilities = logits.softmax(0)
    lengths = torch.tensor([2.0, length, 2.0], dtype=torch.float64) if by_token else torch.ones(3, dtype=torch.float64)
    rewards = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    mean_step = (probabilities.detach() * rewards * probabilities.log() / lengths).sum()  # E[A log m / length]
    (slope,) = torch.autograd.grad(mean_step, logits)
    return slope.tolist()


@app.cell
def _(length):
    _both = {"summed over tokens": False, "mean over tokens": True}
    table = []
    for _label, _by_token in _both.items():
        _first, _second, _wrong = steps(length.value, by_token=_by_token)
        table.append({"loss": _label, "2 tokens, right": _first, "long, right": _second, "2 tokens, wrong": _wrong})
    mo.ui.table(table, selection=None)
    return (table,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    Summed over tokens both right answers rise alike. Divided by the length, the long right answer *falls* from
    five tokens on.

    ## Temperature

    A policy that samples at a temperature $\tau$ has the score $\nabla \log \mathrm{softmax}(z/\tau)$, whose mean is
    0. If the loss scores the raw logits $z$ instead, its mean is not: then no baseline is free, and a group moves
    the policy even if all its advantages are alike. **At which temperature is that harmless?**
    """)
    return


@app.cell
def _():
    temperature = mo.ui.slider(steps=[0.25, 0.5, 1.0, 2.0, 4.0], value=0.5, label="temperature", show_value=True)
    temperature
    return (temperature,)


@app.function
def mean_score(temperature: float, *, scored_at: float) -> list[float]:
    """Return the mean score of three answers that are sampled at one temperature and scored at another."""
    logits = torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64, requires_grad=True)
    sampled = (logits.detach() / temperature).softmax(0)
    (slope,) = torch.autograd.grad((sampled * (logits / scored_at).log_softmax(0)).sum(), logits)
    return slope.tolist()


@app.cell
def _(temperature):
    scores = []
    for _label, _scored_at in (("softmax(z / temperature)", temperature.value), ("softmax(z)", 1.0)):
        _means = enumerate(mean_score(temperature.value, scored_at=_scored_at), start=1)
        scores.append({"scored": _label, **{f"answer {_answer}": _mean for _answer, _mean in _means}})
    mo.ui.table(scores, selection=None)
    return (scores,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## A test that would have failed

    A golden value lets most faults pass. A statement about the objective does not (`check` is what the pytest
    fixture `assert_optimises` calls):
    """)
    return


@app.cell
def test_what_these_functions_optimise():
    check(over_the_mean, "truncated_likelihood:order=7", rollouts=8)
    check(mean_of_the_group, "expected_reward", rollouts=8)
    assert audit(over_the_mean_of_the_batch, rollouts=8).objective != "truncated_likelihood:order=7"
    assert audit(standardised, rollouts=8).objective is None
    return


@app.cell(hide_code=True)
def _():
    mo.vstack(
        [
            mo.md(r"""
    ## The figure of the paper

    `maxrl-lab draw classification --reference` (Fig. 2): how near does each estimator come to cross-entropy?
    And the page on frameworks says what each trainer optimises.

    **Try it**: `maxrl-lab lesson 5 --edit` opens the code of this page as well; put an advantage function of your
    own in place of one of the six.

    **Exercises** 5.1 `break_it`, 5.2 `fix_it`, 5.3 `policy`: `maxrl-lab grade answers break_it`.
    """),
            mo.image(CHECKOUT / "figures" / "gallery" / "classification.png", alt="Cross-entropy and RL, Fig. 2"),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
