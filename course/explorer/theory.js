// What a table of advantages optimises, exactly: its weight w_N(p), its variance, its silent groups, its objective.
// A table is {a, b}: the advantage of a success and of a failure for K = 0..N. It is maxrl_lab/exact.py in JavaScript.
const range = (count, first = 0) => Array.from({ length: count }, (_, i) => first + i);
const sum = (values) => values.reduce((total, value) => total + value, 0);

const Theory = (() => {
  const logarithms = new Map(); // log C(n, j), j = 0..n
  function logChoose(n) {
    if (!logarithms.has(n)) {
      const row = [0];
      for (let j = 0; j < n; j++) row.push(row[j] + Math.log((n - j) / (j + 1)));
      logarithms.set(n, row);
    }
    return logarithms.get(n);
  }
  const times = (count, logarithm) => (count === 0 ? 0 : count * logarithm); // 0 log 0 = 0

  function binomialMean(values, p) { // E[values[J]], J ~ Binomial(n, p), n = values.length - 1
    const n = values.length - 1, row = logChoose(n), right = Math.log(p), wrong = Math.log1p(-p);
    let mean = 0;
    for (let j = 0; j <= n; j++) mean += Math.exp(row[j] + times(j, right) + times(n - j, wrong)) * values[j];
    return mean;
  }

  // what it is worth to get one more rollout right while J others are: the Bernstein coefficients of the weight
  const flips = ({ a, b }) => range(a.length - 1).map((J) => a[J + 1] - b[J]);
  const weight = (table, p) => binomialMean(flips(table), p);

  // A softmax policy over so many right and wrong answers, alike within a kind: |grad p|^2, and the mean squared norm of
  // the score on right and on wrong answers, E[|S|^2 1{r=1}] and E[|S|^2 1{r=0}].
  function moments(p, { right, wrong }) {
    const q = 1 - p;
    // |1{answer} - pi|^2 of one of `count` answers that share p, beside `others` that share q = 1 - p
    const square = (p, q, count, others) => ((count - 1 + q) / count) ** 2 + (count - 1) * (p / count) ** 2 + q ** 2 / others;
    return {
      norm: (p * q) ** 2 * (1 / right + 1 / wrong),
      right: p * square(p, q, right, wrong),
      wrong: q * square(q, p, wrong, right),
    };
  }
  // the trace of the covariance of one group's estimate
  function variance(table, p, policy) {
    const { a, b } = table, { norm, right, wrong } = moments(p, policy), N = a.length - 1, square = (values) => values.map((value) => value * value);
    let second = binomialMean(square(a.slice(1)), p) * right + binomialMean(square(b.slice(0, -1)), p) * wrong;
    second /= N;
    if (N > 1) {
      const pairs = range(N - 1).map((J) => a[J + 2] ** 2 + b[J] ** 2 - 2 * a[J + 1] * b[J + 1]);
      second += (1 - 1 / N) * norm * binomialMean(pairs, p);
    }
    return Math.max(0, second - weight(table, p) ** 2 * norm);
  }

  // bias, noise and error of the mean of so many groups' estimates, relative to an objective's gradient
  function accuracy(table, p, target, groups, policy) {
    const wanted = target(p), bias = weight(table, p) / wanted - 1;
    const noise = Math.sqrt(variance(table, p, policy) / groups / moments(p, policy).norm) / wanted;
    return { bias, noise, error: Math.hypot(bias, noise) };
  }

  const isSilent = ({ a, b }, K) => (K === 0 || a[K] === 0) && (K === a.length - 1 || b[K] === 0);
  // the chance that all advantages of a group are 0
  const silent = (table, p) => binomialMean(table.a.map((_, K) => (isSilent(table, K) ? 1 : 0)), p);

  return { binomialMean, flips, weight, moments, variance, accuracy, isSilent, silent };
})();

// Weights of objectives, and which of them is nearest to a table's (maxrl_lab/audit/identify.py).
const Objectives = (() => {
  const power = (base1p, exponent) => (exponent === 0 ? 1 : Math.exp(exponent * Math.log1p(base1p)));
  const WEIGHTS = {
    expected_reward: () => () => 1,
    maximum_likelihood: () => (p) => 1 / p,
    grpo_limit: () => (p) => 1 / Math.sqrt(p * (1 - p)),
    truncated_likelihood: (T) => (p) => (p < 1e-300 ? T : -Math.expm1(T * Math.log1p(-p)) / p),
    pass_at_k: (k) => (p) => k * power(-p, k - 1),
  };
  const LABELS = {
    expected_reward: () => "expected reward (RL)",
    maximum_likelihood: () => "maximum likelihood",
    grpo_limit: () => "GRPO’s limit 2 arcsin √p",
    truncated_likelihood: (T) => `truncated likelihood of order ${T}`,
    pass_at_k: (k) => `pass@${k}`,
  };
  const OPTION = { truncated_likelihood: "order", pass_at_k: "k" };
  const make = (name, size) => ({
    weight: WEIGHTS[name](size),
    label: LABELS[name](size),
    spec: OPTION[name] ? `${name}:${OPTION[name]}=${size}` : name,
  });

  function grid(N) { // pass rates at which curves are compared, dense at both ends
    const low = Math.log10(Math.min(1e-3, 0.1 / N));
    return [
      ...range(100).map((i) => 10 ** (low + ((-0.31 - low) * i) / 99)),
      ...range(60).map((i) => 1 - 10 ** (-0.3 - (2.7 * i) / 59)),
    ];
  }

  const FLOOR = 1e-3; // deviations are relative to w(p), or to this share of the largest w
  function compare(curve, target) {
    const floor = FLOOR * Math.max(...target);
    const ratios = curve.map((value, i) => value / target[i]).filter((_, i) => target[i] >= floor);
    const scale = (Math.max(...ratios) + Math.min(...ratios)) / 2;
    if (scale === 0) return { scale, residual: Infinity };
    const off = curve.map((value, i) => Math.abs(value / scale - target[i]) / Math.max(target[i], floor));
    return { scale, residual: Math.max(...off) };
  }

  function candidates(N) {
    const sizes = range(Math.max(0, N - 1), 2);
    return [
      ...["expected_reward", "maximum_likelihood", "grpo_limit"].map((name) => make(name)),
      ...sizes.flatMap((size) => [make("truncated_likelihood", size), make("pass_at_k", size)]),
    ];
  }

  // the nearest objective; null for a table whose mean gradient is 0
  function nearest(table) {
    const N = table.a.length - 1, p = grid(N), curve = p.map((x) => Theory.weight(table, x));
    if (curve.every((value) => Math.abs(value) < 1e-12)) return null;
    const matches = candidates(N).map((objective) => ({ ...objective, ...compare(curve, p.map(objective.weight)) }));
    const best = matches.reduce((least, match) => (match.residual < least.residual ? match : least));
    return { ...best, exact: best.scale > 0 && best.residual <= Math.min(1e-4, 0.1 / N) };
  }
  return { NAMES: Object.keys(WEIGHTS), OPTION, make, nearest };
})();
