// The exercises of the lesson's pages: reads an answer, computes it and says whether it is right. Nothing but arithmetic is
// done. `rbcnb.losses.exercises` reads the same formulas and says the same in Python; the data of an exercise come from there.
const NOT_READ = "this is no formula: is a bracket or an operator missing?";
const FUNCTIONS = {
  pow: Math.pow,
  log: (x, base = Math.E) => Math.log(x) / Math.log(base),
  log10: Math.log10,
  log2: Math.log2,
  exp: Math.exp,
  sqrt: Math.sqrt,
};
const WORD = /(?<![\p{L}\p{N}_.])[\p{L}_][\p{L}\p{N}_]*/gu;
const TOKEN = /\s*(\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?|[a-z_][a-z0-9_]*|\*\*|[-+*/(),])/y;

// The text in the words and signs of a formula: np.log, ln, p_t, Greek letters and × are read, too.
function rewritten(text, { signs, words }) {
  const plain = [...text.trim().toLowerCase()].map((sign) => signs[sign] ?? sign).join("");
  return plain.replace(/\b(?:np|numpy|math|torch)\./g, "").replace(WORD, (word) => words[word] ?? word);
}

// The formula as a function of a point; throws what to write where it cannot be read. Operators bind as in Python.
function formula(given, exercise) {
  const text = rewritten(given, exercise);
  const known = [...exercise.names, ...Object.keys(exercise.functions)];
  const inWords = `Known are ${known.join(", ")}, numbers, + - * / and brackets.`;
  const stranger = (text.match(WORD) ?? []).find((word) => !known.includes(word));
  if (stranger) throw new Error(`what does ${stranger} mean? ${inWords}`);
  if (/[^\p{L}\p{N}_\s.,()+*/-]/u.test(text)) throw new Error(`this is no formula. ${inWords}`);
  const tokens = [];
  TOKEN.lastIndex = 0;
  for (let at = 0; at < text.length; at = TOKEN.lastIndex) {
    const found = TOKEN.exec(text);
    if (!found) throw new Error(NOT_READ);
    tokens.push(found[1]);
  }
  const take = (...wanted) => wanted.includes(tokens[0]) && tokens.shift();
  const need = (wanted) => {
    if (!take(wanted)) throw new Error(NOT_READ);
  };
  const chain = (part, operations) => {
    let left = part();
    for (let sign; (sign = take(...Object.keys(operations))); ) {
      const [first, second, operation] = [left, part(), operations[sign]];
      left = (point) => operation(first(point), second(point));
    }
    return left;
  };
  const sum = () => chain(product, { "+": (a, b) => a + b, "-": (a, b) => a - b });
  const product = () => chain(signed, { "*": (a, b) => a * b, "/": (a, b) => a / b });
  const signed = () => {
    if (take("+")) return signed();
    if (!take("-")) return power();
    const value = signed();
    return (point) => -value(point);
  };
  const power = () => {
    const base = atom();
    if (!take("**")) return base;
    const exponent = signed();
    return (point) => base(point) ** exponent(point);
  };
  const call = (name) => {
    need("(");
    const values = [];
    if (tokens[0] !== ")") {
      do values.push(sum());
      while (take(","));
    }
    need(")");
    const counts = exercise.functions[name];
    if (!counts.includes(values.length)) {
      throw new Error(`${name} takes ${counts.join(" or ")} in its brackets, and here are ${values.length}.`);
    }
    return (point) => FUNCTIONS[name](...values.map((value) => value(point)));
  };
  const atom = () => {
    const token = tokens.shift() ?? "";
    if (/^[.\d]/.test(token)) return () => Number(token);
    if (exercise.names.includes(token)) return (point) => point[token];
    if (token in exercise.functions) return call(token);
    if (token !== "(") throw new Error(NOT_READ);
    const inside = sum();
    need(")");
    return inside;
  };
  const whole = sum();
  if (tokens.length > 0) throw new Error(NOT_READ);
  return whole;
}

// { passed, message, tried }: whether it is right, what to do next, whether there was anything to judge.
function judge(exercise, text) {
  const hint = (message) => ({ passed: false, message, tried: true });
  const { right, mistakes, names, points, tolerance } = exercise;
  if (!names) {
    const number = Number(text.trim().replace(",", "."));
    if (Number.isNaN(number)) return { ...hint("this is no number."), tried: false };
    const near = (value) => Math.abs(number - value) <= tolerance;
    if (near(right)) return { passed: true, message: "go on.", tried: true };
    const mistake = mistakes.find(([value]) => near(value));
    if (mistake) return hint(mistake[1]);
    return hint(number < 0 || number > 6 ? exercise.hint : number < right ? exercise.low : exercise.high);
  }
  let found;
  try {
    found = points.map(formula(text, exercise));
  } catch (error) {
    return { ...hint(error instanceof RangeError ? NOT_READ : error.message), tried: false };
  }
  if (!found.every(Number.isFinite)) {
    return hint("at some points this is no finite number: is there a logarithm or a division of 0?");
  }
  const same = ([of]) => {
    const wanted = points.map(formula(of, exercise));
    return found.every((value, i) => Math.abs(value - wanted[i]) <= 1e-9 + tolerance * Math.abs(wanted[i]));
  };
  const known = [[right, ""], ...mistakes].find(same);
  if (!known) return hint(exercise.hint);
  return known[1] ? hint(known[1]) : { passed: true, message: "go on.", tried: true };
}

// Fills the form with the question, a place for the answer, and what is said to it.
function showExercise(form, exercise) {
  let wrongTries = 0;
  const label = document.createElement("label");
  const input = document.createElement("input");
  const button = document.createElement("button");
  const output = document.createElement("output");
  const attributes = { autocomplete: "off", spellcheck: false, autocapitalize: "off", name: "answer" };
  Object.assign(input, { type: "text", ...attributes });
  input.setAttribute("data-lm-suppress-shortcuts", "true"); // or JupyterLab would take its letters
  button.textContent = "Check";
  label.append(exercise.question, input);
  form.replaceChildren(label, button, output);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!input.value.trim()) {
      output.textContent = "There is no answer yet. A wrong answer gets a hint.";
      return;
    }
    const { passed, message, tried } = judge(exercise, input.value);
    wrongTries += tried && !passed ? 1 : 0;
    const way = tried && !passed && wrongTries >= exercise.shown_at ? ` ${exercise.way}` : "";
    output.textContent = `${passed ? "Right" : "Not yet"}: ${message}${way}`;
    form.dataset.passed = passed;
  });
}
