// A gridworld whose pass rates and gradients are exact, and the methods that learn in it. One maze, several starts (the
// tasks, with a group each), one table of logits (cells, 4) that all tasks share. Moves are up, down, left, right; a move
// into a wall or out of the square leaves the agent where it is (envs/gridworld/tables.py).
const Maze = (() => {
  const MOVES = [[-1, 0], [1, 0], [0, -1], [0, 1]];

  // lines of "#" wall, "." free, "G" goal, "1".."9" starts
  function read(lines) {
    const size = lines.length, marks = lines.join(""), starts = [];
    [...marks].forEach((mark, cell) => { if (mark >= "1" && mark <= "9") starts[mark - 1] = cell; });
    return { size, walls: [...marks].map((mark) => mark === "#"), starts, goal: marks.indexOf("G") };
  }

  function world({ size, walls, starts, goal }, horizon) {
    const next = new Int32Array(size * size * 4), acting = [];
    for (let cell = 0; cell < size * size; cell++) {
      const row = Math.floor(cell / size), col = cell % size;
      if (!walls[cell] && cell !== goal) acting.push(cell);
      MOVES.forEach(([down, right], move) => {
        const r = row + down, c = col + right;
        const free = r >= 0 && r < size && c >= 0 && c < size && !walls[r * size + c];
        next[cell * 4 + move] = free ? r * size + c : cell;
      });
    }
    return { size, walls, starts, goal, horizon, next, acting, cells: size * size };
  }

  function policy(logits) { // (cells * 4): softmax over the four moves of every cell
    const pi = new Float64Array(logits.length);
    for (let s = 0; s < logits.length; s += 4) {
      const top = Math.max(logits[s], logits[s + 1], logits[s + 2], logits[s + 3]);
      let total = 0;
      for (let a = 0; a < 4; a++) total += pi[s + a] = Math.exp(logits[s + a] - top);
      for (let a = 0; a < 4; a++) pi[s + a] /= total;
    }
    return pi;
  }

  // the exact pass rate of every start and its gradient in the logits, by dynamic programming
  function exact({ cells, goal, horizon, next, acting, starts }, pi) {
    const value = new Float64Array((horizon + 1) * cells); // value[h, s]: chance to reach the goal from s within h steps
    value[goal] = 1;
    for (let h = 1; h <= horizon; h++) {
      const now = h * cells, before = now - cells;
      value[now + goal] = 1;
      for (const s of acting) {
        const i = s * 4;
        value[now + s] = pi[i] * value[before + next[i]] + pi[i + 1] * value[before + next[i + 1]] +
          pi[i + 2] * value[before + next[i + 2]] + pi[i + 3] * value[before + next[i + 3]];
      }
    }
    return starts.map((start) => {
      const gradient = new Float64Array(cells * 4);
      let here = new Float64Array(cells), after = new Float64Array(cells);
      here[start] = 1;
      for (let h = horizon; h > 0; h--) {
        for (const s of acting) {
          const mass = here[s], reach = value[h * cells + s];
          if (mass === 0) continue;
          here[s] = 0;
          for (let i = s * 4; i < s * 4 + 4; i++) {
            const flow = mass * pi[i], to = next[i];
            gradient[i] += flow * (value[(h - 1) * cells + to] - reach);
            after[to] += flow;
          }
        }
        [here, after] = [after, here];
        after[goal] = 0;
      }
      return { p: value[horizon * cells + start], gradient };
    });
  }

  // the expected number of moves made in every cell, mean over starts; in the goal, the pass rate
  function visits({ cells, goal, horizon, next, acting, starts }, pi) {
    const total = new Float64Array(cells);
    let here = new Float64Array(cells);
    for (const start of starts) here[start] += 1 / starts.length;
    for (let t = 0; t <= horizon; t++) {
      const after = new Float64Array(cells);
      total[goal] += here[goal];
      for (const s of t < horizon ? acting : []) {
        total[s] += here[s];
        for (let i = s * 4; i < s * 4 + 4; i++) after[next[i]] += here[s] * pi[i];
      }
      here = after;
    }
    return total;
  }

  // mean over starts of w(p) grad p; a start that cannot reach the goal has no gradient
  function exactGradient(rates, weigh) {
    const mean = new Float64Array(rates[0].gradient.length);
    for (const { p, gradient } of rates) {
      if (p === 0) continue;
      const factor = weigh(p) / rates.length;
      for (let i = 0; i < mean.length; i++) mean[i] += factor * gradient[i];
    }
    return mean;
  }

  function generator(...seeds) { // mulberry32: one stream for each tuple of whole numbers
    let state = seeds.reduce((mixed, seed) => Math.imul(mixed ^ (seed + 0x9e3779b9), 0x85ebca6b) ^ (mixed >>> 13), 1);
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let t = Math.imul(state ^ (state >>> 15), 1 | state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  // uniform numbers (starts, N, horizon) of one update: the same for every method
  function uniforms({ starts, horizon }, N, seed, step) {
    const random = generator(seed, step);
    return starts.map(() => {
      const numbers = new Float64Array(N * horizon);
      for (let i = 0; i < numbers.length; i++) numbers[i] = random();
      return numbers;
    });
  }

  // the group estimate: mean over starts of (1/N) sum_i A_i S_i, and the number K of successes of every start
  function estimate({ cells, goal, horizon, next, starts }, pi, numbers, N, table) {
    const gradient = new Float64Array(cells * 4), pushed = new Float64Array(cells);
    const path = new Int32Array(N * horizon), length = new Int32Array(N), right = new Uint8Array(N);
    const successes = starts.map((start, task) => {
      const drawn = numbers[task];
      let K = 0;
      for (let i = 0; i < N; i++) {
        let s = start, t = 0;
        for (; t < horizon && s !== goal; t++) {
          let index = s * 4, left = drawn[i * horizon + t];
          while (index < s * 4 + 3 && left >= pi[index]) left -= pi[index++];
          path[i * horizon + t] = index;
          s = next[index];
        }
        length[i] = t;
        right[i] = s === goal ? 1 : 0;
        K += right[i];
      }
      for (let i = 0; i < N; i++) {
        const advantage = (right[i] ? table.a[K] : table.b[K]) / (N * starts.length);
        if (advantage === 0) continue;
        for (let t = 0; t < length[i]; t++) {
          const index = path[i * horizon + t];
          gradient[index] += advantage;
          pushed[index >> 2] += advantage;
        }
      }
      return K;
    });
    for (let i = 0; i < gradient.length; i++) gradient[i] -= pushed[i >> 2] * pi[i]; // the score is 1{move} - pi
    return { gradient, successes };
  }

  const dot = (x, y) => { let total = 0; for (let i = 0; i < x.length; i++) total += x[i] * y[i]; return total; };
  const norm = (x) => Math.sqrt(dot(x, x));
  const cosine = (x, y) => { const size = norm(x) * norm(y); return size > 0 ? dot(x, y) / size : NaN; };

  // ---- training: a method is {name, tableAt: N -> table}, or tableAt null for the exact likelihood gradient ----------
  function begin(w, method) {
    const run = { ...method, step: 0, logits: new Float64Array(w.cells * 4), curve: [], cosines: [], successes: [],
      blind: 0, groups: 0, gradient: null };
    measure(w, run);
    return run;
  }
  function measure(w, run) {
    run.pi = policy(run.logits);
    run.rates = exact(w, run.pi);
    run.likelihood = exactGradient(run.rates, (p) => 1 / p);
    run.curve.push([run.step, sum(run.rates.map((rate) => rate.p)) / run.rates.length]);
  }
  function advance(w, run, { N, rate, equal }, numbers) {
    run.step += 1;
    run.gradient = run.likelihood;
    if (run.tableAt) {
      Object.assign(run, estimate(w, run.pi, numbers, N, run.tableAt(N)));
      run.groups += w.starts.length;
      run.blind += run.successes.filter((K) => K === 0).length;
      run.cosines.push([run.step, cosine(run.gradient, run.likelihood)]);
    }
    const step = rate / (equal ? norm(run.gradient) || 1 : 1);
    for (let i = 0; i < run.logits.length; i++) run.logits[i] += step * run.gradient[i];
    measure(w, run);
  }
  function train(w, methods, options, updates) { // all methods from the start, on the same random numbers
    const runs = methods.map((method) => begin(w, method));
    for (let step = 0; step < updates; step++) {
      const numbers = uniforms(w, options.N, options.seed, step);
      for (const run of runs) advance(w, run, options, numbers);
    }
    return runs;
  }
  return { read, world, policy, exact, visits, exactGradient, generator, uniforms, estimate, dot, norm, cosine, begin, advance, train };
})();
