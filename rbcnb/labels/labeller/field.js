// The whole field: the smear's image with the cell ringed and every reading marked; zoom, pan, contrast, a scale bar.

const MOST_ZOOM = 24;
const SEEN_PX = 40; // least width of a cell in the field: small ones are shown larger from the start

const polygon = (n, inner = 1) =>
  `M${Array.from({ length: inner < 1 ? 2 * n : n }, (_, i, corners = inner < 1 ? 2 * n : n) => {
    const [angle, r] = [(2 * Math.PI * i) / corners, inner < 1 && i % 2 ? inner : 1];
    return `${(r * Math.sin(angle)).toFixed(3)},${(-r * Math.cos(angle)).toFixed(3)}`;
  }).join("L")}Z`;

// One per class, in a square from -1 to 1: told apart without colours.
const SHAPES = [
  "M-1,0A1,1 0 1,0 1,0A1,1 0 1,0-1,0Z", "M-.85-.85H.85V.85H-.85Z", "M0-1L1 .8H-1Z", "M0-1L.8 0L0 1L-.8 0Z",
  "M-.3-1H.3V-.3H1V.3H.3V1H-.3V.3H-1V-.3H-.3Z", polygon(5, 0.42), "M0 1L1-.8H-1Z", "M-1-.4H1V.4H-1Z",
  polygon(6), "M-.9-1H.9L-.9 1H.9Z", "M1 0L-.8-1V1Z", "M-.4-1H.4V1H-.4Z", "M-.5-1A1,1 0 0,1-.5,1Z", polygon(8, 0.6),
  "M-1 0L.8-1V1Z", polygon(5), "M.4-1A1,1 0 1,0 .4,1A.8,.8 0 1,1 .4-1Z",
];
const UNSURE_SHAPE = "M-1,0A1,1 0 1,0 1,0A1,1 0 1,0-1,0ZM-.5,0A.5,.5 0 1,1 .5,0A.5,.5 0 1,1-.5,0Z";
const STRIKE_SHAPE = "M-1-.7L-.7-1L0-.3L.7-1L1-.7L.3 0L1 .7L.7 1L0 .3L-.7 1L-1 .7L-.3 0Z";

function drawn(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

class Field {
  // pick(row) and add(x, y) are called for clicks; badge(label) gives the shape and colour of a reading.
  constructor({ pick, add, badge }) {
    Object.assign(this, { pick, add, badge });
    this.image = drawn("image", { x: 0, y: 0 });
    this.marks = drawn("g", { class: "marks" });
    this.ring = drawn("g", { class: "ring" }, drawn("circle", {}), drawn("circle", {}));
    this.svg = drawn("svg", { role: "img", preserveAspectRatio: "none" }, this.image, this.marks, this.ring);
    this.bar = make("div", { className: "bar", hidden: true });
    this.note = make("div", { className: "note" });
    this.box = make("div", { className: "frame field" }, this.svg, this.bar, this.note);
    this.pointers = new Map();
    this.contrast = 1;
    this.marked = true;
    this.adding = false;
    this.zoom = 0; // times the size that fits; 0: as large as SEEN_PX asks for
    for (const kind of ["down", "move", "up", "cancel"]) this.box.addEventListener(`pointer${kind}`, (event) => this.point(event, kind));
    this.box.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.observer = new ResizeObserver(() => {
      [this.width, this.height] = [this.box.clientWidth, this.box.clientHeight];
      this.draw();
    });
    this.observer.observe(this.box);
  }

  // Shows *data*, what the kernel sent of a smear, with the ring around *row*; other readings by labelOf(row, label).
  show(data, row, labelOf) {
    if (this.data !== data) {
      this.data = data;
      this.cells = new Map((data.cells ?? []).map((cell) => [cell[0], cell]));
      this.note.textContent = data.problem;
      this.svg.style.display = data.problem ? "none" : "";
      if (!data.problem) {
        for (const [name, value] of Object.entries({ width: data.width, height: data.height, href: data.file })) this.image.setAttribute(name, value);
        this.box.style.setProperty("--aspect", data.width / data.height);
      }
      this.marks.replaceChildren();
      this.badges = new Map();
      for (const [cell, , , , label] of this.cells.values()) this.mark(cell, labelOf(cell, label));
    }
    this.row = row;
    const cell = this.cells.get(row);
    this.ring.style.display = cell ? "" : "none";
    if (cell) {
      this.centre = [cell[1] + 0.5, cell[2] + 0.5];
      for (const circle of this.ring.children) {
        for (const [name, value] of Object.entries({ cx: this.centre[0], cy: this.centre[1], r: 1.25 * cell[3] })) circle.setAttribute(name, value);
      }
    }
    this.svg.setAttribute("aria-label", `whole field of ${data.smear}${cell ? ", the cell is ringed" : ""}`);
    this.draw();
  }

  clear(words) {
    this.data = null;
    this.note.textContent = words;
    this.svg.style.display = "none";
    this.bar.hidden = true;
  }

  // Puts the badge of a reading at the cell, or takes it away.
  mark(row, label) {
    const cell = this.data && this.cells.get(row);
    if (!cell) return;
    this.badges.get(row)?.remove();
    if (!label) return;
    const { shape, colour } = this.badge(label);
    const place = `translate(${cell[1] + 0.5 + 0.75 * cell[3]} ${cell[2] + 0.5 + 0.75 * cell[3]}) scale(${0.3 * cell[3]})`;
    const node = drawn("path", { d: shape, fill: colour, transform: place, "fill-rule": "evenodd" });
    this.badges.set(row, node);
    this.marks.append(node);
  }

  get fit() {
    return Math.min(this.width / this.data.width, this.height / this.data.height);
  }

  get scale() { // pixels of the page per pixel of the smear
    const radius = this.cells.get(this.row)?.[3];
    const zoom = this.zoom || Math.min(MOST_ZOOM, Math.max(1, radius ? SEEN_PX / (2 * radius * this.fit) : 1));
    return this.fit * zoom;
  }

  draw() {
    if (!this.data?.width || !this.width) return;
    const { scale, data } = this;
    const size = [this.width / scale, this.height / scale];
    this.corner = [data.width, data.height].map((length, i) => {
      const start = (this.centre?.[i] ?? length / 2) - size[i] / 2;
      return size[i] >= length ? (length - size[i]) / 2 : Math.min(Math.max(start, 0), length - size[i]);
    });
    this.svg.setAttribute("viewBox", [...this.corner, ...size].join(" "));
    this.box.style.touchAction = scale > this.fit * 1.01 ? "none" : "pan-y";
    this.drawBar(scale);
  }

  drawBar(scale) {
    this.bar.hidden = !this.data.um_per_px;
    if (this.bar.hidden) return;
    const most = (0.3 * this.width * this.data.um_per_px) / scale; // um
    const power = 10 ** Math.floor(Math.log10(most));
    const um = power * [5, 2, 1].find((step) => step * power <= most);
    this.bar.textContent = `${Number(um.toPrecision(1))} µm`;
    this.bar.style.width = `${(um / this.data.um_per_px) * scale}px`;
  }

  zoomBy(factor, at = null) {
    if (!this.data?.width) return;
    const [before, box] = [this.scale, this.box.getBoundingClientRect()];
    const place = at ? this.place(at) : null;
    this.zoom = Math.min(MOST_ZOOM, Math.max(1, (before * factor) / this.fit));
    // What lies under the pointer stays there.
    if (place) this.centre = place.map((x, i) => x + (box[i ? "height" : "width"] / 2 - (i ? at.clientY - box.top : at.clientX - box.left)) / this.scale);
    this.draw();
  }

  toWhole() {
    this.zoom = 1;
    this.draw();
  }

  setContrast(value) {
    this.contrast = Math.min(3, Math.max(0.5, value));
    return this.contrast;
  }

  toggleMarks() {
    this.marked = !this.marked;
    this.marks.style.visibility = this.ring.style.visibility = this.marked ? "" : "hidden";
    return this.marked;
  }

  place(event) { // in the smear, of the image's corner
    const box = this.box.getBoundingClientRect();
    return [this.corner[0] + (event.clientX - box.left) / this.scale, this.corner[1] + (event.clientY - box.top) / this.scale];
  }

  wheel(event) {
    if (!this.data?.width) return;
    event.preventDefault();
    this.zoomBy(1.0015 ** -event.deltaY, event);
  }

  point(event, kind) {
    if (!this.data?.width) return;
    const before = this.pointers.get(event.pointerId);
    if (kind === "down") {
      if (event.button) return;
      this.box.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, event);
      this.moved = this.pointers.size > 1 ? Infinity : 0;
    } else if (kind === "move" && before) {
      const others = [...this.pointers.values()].filter((other) => other.pointerId !== event.pointerId);
      this.pointers.set(event.pointerId, event);
      const step = [event.clientX - before.clientX, event.clientY - before.clientY];
      this.moved += Math.hypot(...step);
      if (this.moved < 5) return;
      if (others.length) {
        const away = (from) => Math.hypot(from.clientX - others[0].clientX, from.clientY - others[0].clientY);
        this.zoomBy(away(event) / Math.max(1, away(before)), others[0]);
      } else {
        const middle = [this.width, this.height].map((length, i) => this.corner[i] + length / 2 / this.scale);
        this.centre = middle.map((x, i) => x - step[i] / this.scale);
        this.draw();
      }
    } else if (before) {
      this.pointers.delete(event.pointerId);
      if (kind === "up" && this.moved < 5) this.click(event);
    }
  }

  click(event) {
    const [x, y] = this.place(event).map((length) => length - 0.5);
    if (x < 0 || y < 0 || x > this.data.width - 1 || y > this.data.height - 1) return;
    if (event.shiftKey || this.adding) return this.add(this.data.smear, x, y);
    const near = [...this.cells.values()]
      .map(([row, cx, cy, r]) => [Math.hypot(cx - x, cy - y), row, Math.max(r, 12 / this.scale)])
      .filter(([away, , reach]) => away <= reach);
    if (near.length) this.pick(near.sort((a, b) => a[0] - b[0])[0][1]);
  }
}
