// Native sliders in front of Vega-Lite charts: what a slider sets is a signal of every chart, and the browser draws.
// data: { alt, heading, controls: [{ name, label, values, texts, value }], panels: [Vega-Lite specifications] }
// The first chart's signal "reading" is the sentence below the charts.
async function showExplorer(root, data, embed) {
  const make = (tag, attributes, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const keys = { "data-lm-suppress-shortcuts": "true" }; // of what has the focus: JupyterLab would take the arrow keys
  const views = []; // grows while the charts are made; sliders may move before that
  const apply = () => {
    for (const view of views) {
      for (const { name, value } of sliders) view.signal(name, value());
      view.run();
    }
    if (views.length > 0) reading.textContent = views[0].signal("reading");
  };
  const slider = ({ name, label, values, texts, value }) => {
    const box = typeof value === "boolean";
    const track = box ? { type: "checkbox" } : { type: "range", min: 0, max: values.length - 1, step: 1 };
    const input = make("input", { name, ...track, ...keys });
    const output = make("output", { "aria-live": "off" }); // the slider itself tells its value
    const place = () => (box ? Number(input.checked) : Number(input.value));
    const show = () => {
      output.textContent = texts[place()];
      // A screen reader would read the place on the track.
      if (!box) input.setAttribute("aria-valuetext", output.textContent);
    };
    const reset = () => {
      if (box) input.checked = value;
      else input.value = values.indexOf(value);
      show();
    };
    input.addEventListener("input", () => {
      show();
      apply();
    });
    reset();
    return { name, value: () => values[place()], reset, label: make("label", {}, make("span", {}, label), input, output) };
  };
  const sliders = data.controls.map(slider);
  const heading = make("p", { class: "rbcnb-heading" }, data.heading);
  const button = make("button", { type: "button", ...keys }, "Reset");
  button.addEventListener("click", () => {
    sliders.forEach(({ reset }) => reset());
    apply();
  });
  const controls = make("div", { class: "rbcnb-controls" }, ...sliders.map(({ label }) => label), button);
  if (sliders.length === 0) controls.hidden = true;
  const places = data.panels.map(() => make("div", {})); // all of them first: a chart is as wide as its place
  const panels = make("div", { class: "rbcnb-panels", role: "img", "aria-label": data.alt }, ...places);
  const reading = make("p", { class: "rbcnb-reading", role: "status" });
  root.replaceChildren(heading, controls, panels, reading);
  for (const [i, specification] of data.panels.entries()) {
    // In a tree of its own: an SVG's clips are found by names, and another Vega of the page gives the same ones.
    const chart = make("div", { style: "width: 100%" });
    places[i].attachShadow({ mode: "open" }).append(chart);
    views.push((await embed(chart, specification, { actions: false, renderer: "svg" })).view);
  }
  apply();
  root.views = views; // for whoever asks a chart for its numbers
}
