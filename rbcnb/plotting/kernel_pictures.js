// The page's part of KernelPictures; it follows explorer.js, whose sliders it takes.
function render({ model, el }) {
  const controls = makeControls(model.get("controls"), () => {
    model.set("values", controls.values());
    model.save_changes();
  });
  const heading = makeElement("p", { class: "rbcnb-heading" }, model.get("heading"));
  const many = model.get("pictures").length > 1;
  const panels = makeElement("div", { class: many ? "rbcnb-panels rbcnb-many" : "rbcnb-panels" });
  const reading = makeElement("p", { class: "rbcnb-reading" }, model.get("reading"));
  const places = model.get("pictures").map(() => {
    const [head, words, image] = [makeElement("b", {}), makeElement("span", {}), makeElement("img", {})];
    panels.append(makeElement("figure", {}, makeElement("figcaption", {}, head, words), image));
    return { head, words, image };
  });
  const show = () => {
    for (const [i, { title, words, file }] of model.get("pictures").entries()) {
      const { head, words: line, image } = places[i];
      head.textContent = title;
      line.textContent = words;
      image.alt = `${title}: ${words}`;
      URL.revokeObjectURL(image.src);
      image.src = URL.createObjectURL(new Blob([file]));
    }
  };
  show();
  model.on("change:pictures", show);
  el.classList.add("rbcnb-explorer");
  el.replaceChildren(heading, controls.element, panels, reading);
  return () => {
    model.off("change:pictures", show);
    places.forEach(({ image }) => URL.revokeObjectURL(image.src));
  };
}
export default { render };
