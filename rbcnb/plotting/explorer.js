// Native sliders in front of Vega-Lite charts: what a slider sets is a signal of every chart, and the browser draws.
// data: { alt, heading, controls: [{ name, label, values, texts, value }], panels: [Vega-Lite specifications] }
// The first chart's signal "reading", where it has one, is the sentence below the charts.
async function showExplorer(root, data, embed) {
  const make = (tag, attributes, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const views = [];
  const apply = (signals) => {
    for (const view of views) {
      for (const [name, value] of Object.entries(signals)) view.signal(name, value);
      view.run();
    }
    if ("reading" in views[0].getState().signals) reading.textContent = views[0].signal("reading");
  };
  const slider = ({ name, label, values, texts, value }) => {
    const box = typeof value === "boolean";
    const track = box ? { type: "checkbox" } : { type: "range", min: 0, max: values.length - 1, step: 1 };
    const input = make("input", { name, ...track });
    const output = make("output", {});
    const place = () => (box ? Number(input.checked) : Number(input.value));
    const show = () => {
      output.textContent = texts[place()];
      input.setAttribute("aria-valuetext", output.textContent); // a screen reader would read the place on the track
    };
    const reset = () => {
      if (box) input.checked = value;
      else input.value = values.indexOf(value);
      show();
    };
    input.addEventListener("input", () => {
      show();
      apply({ [name]: values[place()] });
    });
    reset();
    return { reset, label: make("label", {}, make("span", {}, label), input, output) };
  };
  const sliders = data.controls.map(slider);
  const heading = make("p", { class: "rbcnb-heading" }, data.heading);
  const button = make("button", { type: "button" }, "Reset");
  button.addEventListener("click", () => {
    sliders.forEach(({ reset }) => reset());
    apply(Object.fromEntries(data.controls.map(({ name, value }) => [name, value])));
  });
  const controls = make("div", { class: "rbcnb-controls" }, ...sliders.map(({ label }) => label), button);
  if (sliders.length === 0) controls.hidden = true;
  const places = data.panels.map(() => make("div", {})); // all of them first: a chart is as wide as its place
  const panels = make("div", { class: "rbcnb-panels", role: "img", "aria-label": data.alt }, ...places);
  const reading = make("p", { class: "rbcnb-reading", role: "status" });
  root.replaceChildren(heading, controls, panels, reading);
  for (const [i, specification] of data.panels.entries()) {
    views.push((await embed(places[i], specification, { actions: false, renderer: "svg" })).view);
  }
  apply({});
  root.views = views; // for whoever asks a chart for its numbers
}
