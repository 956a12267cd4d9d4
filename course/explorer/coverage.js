// Coverage of a policy whose pass rates are known: the mean of pass@k over tasks, and its inverse.
const Coverage = (() => {
  // what k samples leave unsolved: the share of hopeless tasks (p = 0), and the logarithm of what the others add, which
  // may be too small for a number
  function missed(rates, k) {
    const logs = rates.filter((p) => p > 0).map((p) => k * Math.log1p(-p)), top = Math.max(-Infinity, ...logs);
    const rest = top === -Infinity ? top : top + Math.log(sum(logs.map((log) => Math.exp(log - top))) / rates.length);
    return { hopeless: rates.filter((p) => p === 0).length / rates.length, rest };
  }
  const coverage = (rates, k) => {
    const { hopeless, rest } = missed(rates, k);
    return hopeless === 0 ? -Math.expm1(rest) : 1 - hopeless - Math.exp(rest);
  };
  function isAsGood(mine, other) {
    if (mine.hopeless === other.hopeless) return mine.rest <= other.rest + 1e-12 * Math.max(1, Math.abs(other.rest));
    const margin = other.hopeless + Math.exp(other.rest) - mine.hopeless;
    return mine.rest === -Infinity ? margin >= 0 : margin > 0 && mine.rest <= Math.log(margin);
  }

  // the least number of samples, whole or real, with the coverage that others have with k; infinite where none is enough
  function samplesNeeded(rates, others, k, whole = true) {
    const target = missed(others, k), isEnough = (count) => isAsGood(missed(rates, count), target);
    let most = whole ? 1 : 1e-3;
    while (!isEnough(most)) {
      most *= 2;
      if (most > 2 ** 53) return Infinity;
    }
    let least = most / 2; // not enough, or less than one sample
    while (whole ? most - least > 1 : most > least * 1.0001) {
      const middle = whole ? Math.floor((least + most) / 2) : (least + most) / 2;
      if (isEnough(middle)) most = middle; else least = middle;
    }
    return most;
  }
  return { coverage, samplesNeeded };
})();
