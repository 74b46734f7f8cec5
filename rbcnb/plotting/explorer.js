// Native sliders in front of Vega-Lite charts: what a slider sets is a signal of every chart, and the browser draws.
const makeElement = (tag, attributes, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};

const PALER_BLUE = `[stroke="#0072B2"] { stroke: var(--rbcnb-blue, #0072B2) }
  [fill="#0072B2"] { fill: var(--rbcnb-blue, #0072B2) }`;

// controls: [{ name, label, values, texts, value }]. Gives the element that holds the sliders, and what they stand at.
function makeControls(controls, changed) {
  const keys = { "data-lm-suppress-shortcuts": "true" }; // of what has the focus: JupyterLab would take the arrow keys
  const slider = ({ name, label, values, texts, value }) => {
    const box = typeof value === "boolean";
    const track = box ? { type: "checkbox" } : { type: "range", min: 0, max: values.length - 1, step: 1 };
    const input = makeElement("input", { name, ...track, ...keys });
    const longest = Math.max(...texts.map((text) => text.length)); // or the track would change its length
    const output = makeElement("output", { "aria-live": "off", style: `min-width: ${longest}ch` }); // the slider tells it
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
      changed();
    });
    reset();
    const shown = makeElement("label", longest > 6 ? { class: "rbcnb-wordy" } : {}, makeElement("span", {}, label), input, output);
    return { name, value: () => values[place()], reset, shown };
  };
  const sliders = controls.map(slider);
  const button = makeElement("button", { type: "button", ...keys }, "Reset");
  button.addEventListener("click", () => {
    sliders.forEach(({ reset }) => reset());
    changed();
  });
  const element = makeElement("div", { class: "rbcnb-controls" }, ...sliders.map(({ shown }) => shown), button);
  element.hidden = sliders.length === 0;
  return { element, values: () => Object.fromEntries(sliders.map(({ name, value }) => [name, value()])) };
}

// data: { alt, heading, caption, controls, panels: [Vega-Lite specifications] }
// The first chart's signal "reading" is the sentence below the charts.
async function showExplorer(root, data, embed) {
  const views = []; // grows while the charts are made; sliders may move before that
  const apply = () => {
    const values = Object.entries(controls.values());
    for (const view of views) {
      for (const [name, value] of values) view.signal(name, value);
      view.run();
    }
    if (views.length > 0) reading.textContent = views[0].signal("reading");
  };
  const controls = makeControls(data.controls, apply);
  const heading = makeElement("p", { class: "rbcnb-heading" }, data.heading);
  const places = data.panels.map(() => makeElement("div", {})); // all of them first: a chart is as wide as its place
  const many = places.length > 6; // of pictures, each as high as it is wide
  const panels = makeElement("div", { class: many ? "rbcnb-panels rbcnb-many" : "rbcnb-panels", role: "img", "aria-label": data.alt }, ...places);
  const reading = makeElement("p", { class: "rbcnb-reading", role: "status" });
  const caption = makeElement("p", { class: "rbcnb-reading" }, data.caption);
  root.replaceChildren(heading, controls.element, panels, reading, caption);
  // A chart may be made while its place is hidden, on a slide to come or in a folded part: it has no width then.
  const fit = new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries) {
      if (contentRect.width === 0 || contentRect.width === target.width) continue;
      target.width = contentRect.width;
      resized(target.view.width(target.width)).resize().run();
    }
  });
  const resized = (view) => (many ? view.height(view.width()) : view);
  for (const [i, specification] of data.panels.entries()) {
    // In a tree of its own: an SVG's clips are found by names, and another Vega of the page gives the same ones.
    const chart = makeElement("div", { style: "width: 100%" });
    // A dark page gives a paler blue.
    const style = makeElement("style", {}, PALER_BLUE);
    places[i].attachShadow({ mode: "open" }).append(style, chart);
    chart.width = chart.clientWidth;
    chart.view = (await embed(chart, specification, { actions: false, renderer: "svg" })).view;
    views.push(resized(chart.view));
    fit.observe(chart);
  }
  apply();
  root.views = views; // for whoever asks a chart for its numbers
}
