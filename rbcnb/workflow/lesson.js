// The page of the lesson: draws its charts one after the other, marks the section that is read, checks exercises.
const closeTo = (a, b, tolerance) => Math.abs(a - b) <= 1e-9 + tolerance * Math.abs(b);

// What each of the formulas comes to at the points, a list each. Vega reads them, so that nothing but arithmetic is done.
async function valuesOf(formulas, names, points) {
  const named = new RegExp(`\\b(${names.join("|")})\\b`, "g");
  const transform = formulas.map((formula, i) => ({
    type: "formula",
    as: `value_${i}`,
    expr: formula.replace(named, "datum.$1"),
  }));
  const specification = { data: [{ name: "points", values: points.map((point) => ({ ...point })), transform }] };
  const options = { mode: "vega", actions: false };
  const { view, finalize } = await window.rbcnbVega(document.createElement("div"), specification, options);
  const rows = view.data("points");
  finalize();
  return formulas.map((_, i) => rows.map((row) => row[`value_${i}`]));
}

// What is wrong with a formula before it is computed, or nothing.
function fault(text, names) {
  if (/\^|\*\*/.test(text)) return "write a power as pow(a, b).";
  const known = [...names, "pow", "log", "exp", "sqrt"];
  const list = `Known are ${known.join(", ")}, numbers, + - * / and brackets.`;
  const stranger = (text.match(/[A-Za-z_]\w*/g) ?? []).find((word) => !known.includes(word));
  if (stranger) return `what does ${stranger} mean? ${list}`;
  return /[^\w\s.,()+*/-]/.test(text) ? `this is no formula. ${list}` : "";
}

// [whether it is right, what to do next]; as rbcnb.losses.exercises.check_expression has it.
async function judge(exercise, text) {
  const { right, mistakes, hint, names, points, tolerance } = exercise;
  if (!names) {
    const number = Number(text.trim().replace(",", "."));
    if (Number.isNaN(number)) return [false, "this is no number."];
    const near = (value) => Math.abs(number - value) <= tolerance;
    if (near(right)) return [true, "go on."];
    const mistake = mistakes.find(([value]) => near(value));
    if (mistake) return [false, mistake[1]];
    return [false, number < 0 || number > 6 ? hint : number < right ? exercise.low : exercise.high];
  }
  const wrong = fault(text, names);
  if (wrong) return [false, wrong];
  const known = [[right, ""], ...mistakes];
  let found, wanted;
  try {
    [found, ...wanted] = await valuesOf([text, ...known.map(([formula]) => formula)], names, points);
  } catch {
    return [false, "this is no formula: is a bracket or an operator missing?"];
  }
  if (!found.every(Number.isFinite)) {
    return [false, "at some points this is no finite number: is there a logarithm or a division of 0?"];
  }
  const same = wanted.findIndex((values) => values.every((value, i) => closeTo(found[i], value, tolerance)));
  if (same < 0) return [false, hint];
  return [same === 0, known[same][1] || "go on."];
}

function showExercise(form, exercise) {
  let wrongTries = 0;
  const label = document.createElement("label");
  const input = document.createElement("input");
  const button = document.createElement("button");
  const output = document.createElement("output");
  Object.assign(input, { type: "text", autocomplete: "off", spellcheck: false, autocapitalize: "off" });
  button.textContent = "Check";
  label.append(exercise.question, input);
  form.append(label, button, output);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!input.value.trim()) {
      output.textContent = "There is no answer yet. A wrong answer gets a hint.";
      return;
    }
    const [passed, message] = await judge(exercise, input.value);
    wrongTries += passed ? 0 : 1;
    const way = !passed && wrongTries >= exercise.shown_at ? ` ${exercise.way}` : "";
    output.textContent = `${passed ? "Right" : "Not yet"}: ${message}${way}`;
    form.dataset.passed = passed;
  });
}

(async () => {
  const links = [...document.querySelectorAll("nav a")];
  const mark = (name) => {
    for (const link of links) {
      if (link.hash === `#${name}`) link.setAttribute("aria-current", "location");
      else link.removeAttribute("aria-current");
    }
  };
  const seen = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach(({ target }) => mark(target.id)),
    { rootMargin: "-20% 0px -70% 0px" },
  );
  document.querySelectorAll("section").forEach((section) => seen.observe(section));
  const exercises = JSON.parse(document.getElementById("exercises").textContent);
  document.querySelectorAll("form.exercise").forEach((form) => showExercise(form, exercises[form.dataset.key]));
  for (const root of document.querySelectorAll(".rbcnb-explorer")) {
    await showExplorer(root, JSON.parse(root.nextElementSibling.textContent), window.rbcnbVega);
  }
  document.documentElement.dataset.ready = "yes";
})();
