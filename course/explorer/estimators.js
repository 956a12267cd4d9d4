// The tables of the lab as formulas: a(K) of a success and b(K) of a failure in a group of N rollouts, K of them right.
// Names and options are those of maxrl_lab/estimators, whose docstrings say where each comes from.
const Estimators = (() => {
  function miss(samples, draws) { // C(samples-K, draws) / C(samples, draws), K = 0..samples
    const row = [1];
    for (let K = 0; K < samples; K++) row.push(row[K] * Math.max(0, 1 - draws / (samples - K)));
    return row;
  }
  const hit = (samples, draws) => { // 1 - miss, without its cancellation where it is small
    const row = [0];
    let logarithm = 0;
    for (let K = 0; K < samples; K++) {
      logarithm += Math.log1p(Math.max(-1, -draws / (samples - K)));
      row.push(-Math.expm1(logarithm));
    }
    return row;
  };
  const inverse = (value) => (value > 0 ? 1 / value : 0);
  const deviation = (q) => Math.sqrt(q * (1 - q));
  const zero = () => 0;

  // options: the first value, the least, the most (which may depend on N), the control's step; the lab knows the first
  // value of an optional one
  const count = (value, most = (N) => N) => ({ value, least: 1, most, step: 1 });
  const real = (value, least, most, step = 0.05) => ({ value, least, most: () => most, step });
  const optional = (option) => ({ ...option, optional: true });
  const flag = (value) => optional({ value, least: 0, most: () => 1, step: 1 });

  const grpo = (N, { ddof = 0, epsilon = 0 } = {}) => {
    const scale = (K) => (K > 0 && K < N ? 1 / (deviation(K / N) * Math.sqrt(N / (N - ddof)) + epsilon) : 0);
    return [(K) => (1 - K / N) * scale(K), (K) => (-K / N) * scale(K)];
  };
  const LIST = {
    "expected reward": {
      reinforce: { label: "REINFORCE", columns: () => [() => 1, zero] },
      mean_centred: { label: "mean-centred (Dr. GRPO)", columns: (N) => [(K) => 1 - K / N, (K) => -K / N] },
      rloo: { label: "RLOO", least: 2, columns: (N) => [(K) => 1 - (K - 1) / (N - 1), (K) => -K / (N - 1)] },
      constant_baseline: {
        label: "constant baseline", options: { value: real(0.5, -2, 2) },
        columns: (N, { value }) => [() => 1 - value, () => -value],
      },
      psr: { label: "successes alone (PSR)", columns: () => [() => 1, zero] },
      nsr: { label: "failures alone (NSR)", columns: () => [zero, () => -1] },
      w_reinforce: {
        label: "Weighted-REINFORCE", options: { weight: optional(real(0.1, 0, 10)) },
        columns: (N, { weight }) => [() => weight, () => -1],
      },
      reinforce_rej: {
        label: "Reinforce-Rej", options: { two_sided: flag(0) },
        columns: (N, { two_sided }) => [(K) => +(K < N), (K) => (two_sided && K > 0 ? -1 : 0)],
      },
    },
    "divided by the deviation": {
      grpo: { label: "GRPO", options: { ddof: flag(0), epsilon: optional(real(0, 0, 1, 0.01)) }, least: 1, columns: grpo },
      grpo_leave_one_out: {
        label: "GRPO, leave-one-out", least: 2,
        columns: (N) => {
          const others = N - 1;
          const spread = (right) => {
            const square = ((right / others) * (1 - right / others) * others) / Math.max(others - 1, 1);
            return square > 0 ? Math.sqrt(square) : 1;
          };
          return [(K) => (1 - (K - 1) / others) / spread(K - 1), (K) => -K / others / spread(K)];
        },
      },
      f_grpo: {
        label: "F-GRPO", options: { gamma: optional(real(1, 0, 8)) },
        columns: (N, { gamma }) => grpo(N).map((column) => (K) => column(K) * (1 - K / N) ** gamma),
      },
      qae: {
        label: "quantile baseline (QAE)", options: { kappa: optional(real(0.4, 0.01, 0.99, 0.01)) },
        columns: (N, { kappa }) => {
          const scale = (K) => inverse(deviation(K / N)), hard = (K) => K / N <= 1 - kappa;
          return [(K) => (hard(K) ? scale(K) : 0), (K) => (hard(K) ? 0 : -scale(K))];
        },
      },
      mapo: {
        label: "MAPO",
        columns: (N) => {
          const [a, b] = grpo(N), certainty = (K) => 1 - 4 * (K / N) * (1 - K / N);
          return [
            (K) => (1 - certainty(K)) * a(K) + (certainty(K) * (1 - K / N)) / (K / N),
            (K) => (1 - certainty(K)) * b(K) - certainty(K) * (K > 0),
          ];
        },
      },
      power: {
        label: "divided by q^s (1−q)^t", options: { s: real(0.5, -2, 3), t: real(0.5, -2, 3) },
        columns: (N, { s, t }) => {
          const scale = (K) => (K > 0 && K < N ? (K / N) ** -s * (1 - K / N) ** -t : 0);
          return [(K) => (1 - K / N) * scale(K), (K) => (-K / N) * scale(K)];
        },
      },
    },
    likelihood: {
      maxrl: { label: "MaxRL, Algorithm 1", columns: (N) => [(K) => N / K - 1, (K) => (K > 0 ? -1 : 0)] },
      maxrl_no_baseline: { label: "MaxRL, no baseline (Eq. 9)", columns: (N) => [(K) => N / K, zero] },
      maxrl_control_variate: { label: "MaxRL, control variate (Eq. 10)", columns: (N) => [(K) => N / K - 1, () => -1] },
      maxrl_leave_one_out: { label: "MaxRL, leave-one-out", columns: (N) => [(K) => N / K - (K >= 2), (K) => (K >= 1 ? -1 : 0)] },
      maxrl_cross_fitted: {
        label: "MaxRL, cross-fitted", least: 2,
        columns: (N) => [(K) => ((N / (N - 1)) * (N - K)) / K, (K) => ((-N / (N - 1)) * K) / (K + 1)],
      },
      maxrl_order: {
        label: "MaxRL of order T, successes alone", options: { order: count(4) },
        columns: (N, { order }) => { const row = hit(N, order); return [(K) => (N / K) * row[K], zero]; },
      },
      maxrl_centred: {
        label: "MaxRL of order T, sums to zero", options: { order: count(4, (N) => N - 1) }, least: 2,
        columns: (N, { order }) => { const row = hit(N - 1, order); return [(K) => ((N - K) / K) * (row[K] ?? 0), (K) => -row[K]]; },
      },
      maclaurin: {
        label: "Maclaurin of order T", options: { order: count(4) },
        columns: (N, { order }) => {
          const rows = range(order - 1, 1).map((draws) => miss(N - 1, draws));
          return [() => 1, (K) => -sum(rows.map((row) => row[K]))];
        },
      },
      tsallis: {
        label: "successes by q^−q′ (Tsallis)", options: { q: real(0.5, 0, 3) },
        columns: (N, { q }) => [(K) => (K / N) ** -q, zero],
      },
      rs_grpo: {
        label: "RS-GRPO", options: { beta: real(2, 0.05, 100) },
        columns: (N, { beta }) => {
          const growth = Math.expm1(beta), scale = (K) => growth / beta / (1 + (K / N) * growth);
          return [(K) => (1 - K / N) * scale(K), (K) => (-K / N) * scale(K)];
        },
      },
    },
    "pass@k": {
      pkpo: {
        label: "PKPO", options: { k: count(4) },
        columns: (N, { k }) => { const row = miss(N - 1, k - 1); return [(K) => k * row[K - 1], zero]; },
      },
      pkpo_centred: {
        label: "PKPO, sums to zero", options: { k: count(4, (N) => N - 1) }, least: 2,
        columns: (N, { k }) => {
          const row = miss(N - 1, k), success = (K) => k * row[K - 1];
          return [success, (K) => (K ? (-K / (N - K)) * success(K) : 0)];
        },
      },
      passk_training: {
        label: "Pass@k Training", options: { k: count(4), std: flag(1) },
        columns: (N, { k, std }) => {
          const all = miss(N, k), others = miss(N - 1, k - 1);
          const scale = (K) => (std ? inverse(deviation(all[K])) : 1);
          return [(K) => all[K] * scale(K), (K) => (all[K] - others[K]) * scale(K)];
        },
      },
    },
  };
  const ALL = Object.assign({}, ...Object.values(LIST));

  // the options with values that the estimator allows at N
  function settled(name, given, N) {
    const entries = Object.entries(ALL[name].options ?? {}).map(([key, { value, least, most, step }]) => {
      const wanted = Number.isFinite(given?.[key]) ? given[key] : value;
      const inside = Math.max(least, Math.min(most(N), wanted));
      return [key, step === 1 ? Math.round(inside) : inside];
    });
    return Object.fromEntries(entries);
  }
  const least = (name) => ALL[name].least ?? 1;

  // the table {a, b}, K = 0..N; a(0) and b(N), which no group can reach, are 0
  function table(name, N, options) {
    if (N < least(name)) return null;
    const [a, b] = ALL[name].columns(N, settled(name, options, N)), plain = (value) => +value + 0;
    return {
      a: range(N + 1).map((K) => (K === 0 ? 0 : plain(a(K)))),
      b: range(N + 1).map((K) => (K === N ? 0 : plain(b(K)))),
    };
  }

  // the lab's text form, "pkpo:k=4", of a name with numbers; a text with anything else in it is no estimator
  const format = (name, options) => {
    const isSaid = ([key, value]) => !ALL[name].options[key].optional || value !== ALL[name].options[key].value;
    const pairs = Object.entries(options).filter(isSaid);
    return name + (pairs.length ? `:${pairs.map((pair) => pair.join("=")).join(",")}` : "");
  };
  function parse(text) {
    const [name, tail] = text.split(":");
    if (!Object.hasOwn(ALL, name)) return null;
    const options = {};
    for (const [key, value] of (tail ?? "").split(",").map((item) => item.split("=")))
      if (Object.hasOwn(ALL[name].options ?? {}, key) && value !== "" && Number.isFinite(Number(value))) options[key] = Number(value);
    return { name, options };
  }
  return { LIST, ALL, table, settled, least, format, parse };
})();
