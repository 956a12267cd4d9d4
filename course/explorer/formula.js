// A visitor's formula of K and N as a function of two numbers. It is read here, by a parser of its own, and nothing in
// the page ever executes text as a program. Comparisons give 1 or 0, as in "K > 0 ? -1 : 0" or "N / K - (K >= 2)".
const Formula = (() => {
  const FUNCTIONS = {
    sqrt: [1, Math.sqrt], exp: [1, Math.exp], log: [1, Math.log], abs: [1, Math.abs],
    min: [2, Math.min], max: [2, Math.max],
    C: [2, (n, k) => range(Math.max(0, k)).reduce((product, j) => (product * Math.max(0, n - j)) / (j + 1), 1)],
  };
  const LEVELS = [ // binary operators, from the loosest to the tightest; all but ^ group from the left
    { "||": (x, y) => +!!(x || y) },
    { "&&": (x, y) => +!!(x && y) },
    { "==": (x, y) => +(x === y), "!=": (x, y) => +(x !== y), "<=": (x, y) => +(x <= y),
      ">=": (x, y) => +(x >= y), "<": (x, y) => +(x < y), ">": (x, y) => +(x > y) },
    { "+": (x, y) => x + y, "-": (x, y) => x - y },
    { "*": (x, y) => x * y, "/": (x, y) => x / y },
  ];
  const TOKEN = /\s*(\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+|[A-Za-z]+|\*\*|\|\||&&|[=!<>]=|[-+*/^<>()?:,])/y;

  function tokens(text) {
    const list = [], length = text.trimEnd().length;
    TOKEN.lastIndex = 0;
    while (TOKEN.lastIndex < length) {
      const at = TOKEN.lastIndex, match = TOKEN.exec(text);
      if (!match) throw new Error(`cannot read “${text.slice(at).trim().slice(0, 12)}”`);
      list.push(match[1] === "**" ? "^" : match[1]);
    }
    return list;
  }

  function parse(text) {
    const list = tokens(text);
    let at = 0;
    const take = (token) => list[at] === token && !!++at;
    const need = (token) => {
      if (!take(token)) throw new Error(`expected “${token}” ${at < list.length ? `before “${list[at]}”` : "at the end"}`);
    };
    function choice() {
      const condition = binary(0);
      if (!take("?")) return condition;
      const yes = choice();
      need(":");
      const no = choice();
      return (K, N) => (condition(K, N) ? yes(K, N) : no(K, N));
    }
    function binary(level) {
      if (level === LEVELS.length) return unary();
      let left = binary(level + 1);
      while (Object.hasOwn(LEVELS[level], list[at])) {
        const apply = LEVELS[level][list[at++]], first = left, second = binary(level + 1);
        left = (K, N) => apply(first(K, N), second(K, N));
      }
      return left;
    }
    function unary() {
      if (take("-")) { const value = unary(); return (K, N) => -value(K, N); }
      if (take("+")) return unary();
      const base = primary();
      if (!take("^")) return base;
      const exponent = unary();
      return (K, N) => base(K, N) ** exponent(K, N);
    }
    function primary() {
      if (take("(")) { const inner = choice(); need(")"); return inner; }
      const token = list[at++];
      if (token === undefined) throw new Error("the formula ends too early");
      if (/^[\d.]/.test(token)) { const value = Number(token); return () => value; }
      if (token === "K") return (K) => K;
      if (token === "N") return (K, N) => N;
      if (!Object.hasOwn(FUNCTIONS, token)) throw new Error(`“${token}” is unknown; a formula has K, N and ${Object.keys(FUNCTIONS).join(", ")}`);
      const [arity, apply] = FUNCTIONS[token], inputs = [];
      need("(");
      do inputs.push(choice()); while (take(","));
      need(")");
      if (inputs.length !== arity) throw new Error(`${token} takes ${arity} number${arity > 1 ? "s" : ""}, not ${inputs.length}`);
      return (K, N) => apply(...inputs.map((input) => input(K, N)));
    }
    const whole = choice();
    if (at < list.length) throw new Error(`“${list[at]}” is left over`);
    return whole;
  }

  // the table of two formulas; entries that no group can reach, a(0) and b(N), are 0
  function table(success, failure, N) {
    const columns = [["a", success], ["b", failure]].map(([name, text]) => {
      const value = parse(text);
      return range(N + 1).map((K) => {
        if (K === (name === "a" ? 0 : N)) return 0;
        const result = value(K, N);
        if (!Number.isFinite(result)) throw new Error(`${name}(${K}) is not a finite number`);
        return result;
      });
    });
    return { a: columns[0], b: columns[1] };
  }
  return { parse, table };
})();
