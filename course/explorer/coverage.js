// Coverage of a policy whose pass rates are known: the mean of pass@k over tasks, and its inverse.
const Coverage = (() => {
  function logMiss(rates, k) { // log of the mean of (1-p)^k, also where that is too small for a number
    const logs = rates.map((p) => k * Math.log1p(-p)), top = Math.max(...logs);
    return top === -Infinity ? top : top + Math.log(sum(logs.map((log) => Math.exp(log - top))) / rates.length);
  }
  const coverage = (rates, k) => -Math.expm1(logMiss(rates, k));

  // the least number of samples, whole or real, with the coverage that others have with k; infinite where none is enough
  function samplesNeeded(rates, others, k, whole = true) {
    const target = logMiss(others, k), slack = 1e-12 * Math.max(1, Math.abs(target));
    const enough = (count) => logMiss(rates, count) <= target + slack;
    let most = whole ? 1 : 1e-3;
    while (!enough(most)) {
      most *= 2;
      if (most > 2 ** 53) return Infinity;
    }
    let least = most / 2; // not enough, or less than one sample
    while (whole ? most - least > 1 : most > least * 1.0001) {
      const middle = whole ? Math.floor((least + most) / 2) : (least + most) / 2;
      if (enough(middle)) most = middle; else least = middle;
    }
    return most;
  }
  return { coverage, samplesNeeded };
})();
