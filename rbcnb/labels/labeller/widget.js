// The page's side of widget.py. A key is answered here and now, from pictures fetched ahead, and sent to the kernel, which
// writes it down and says so; until then it is "saving". Nothing is fetched from anywhere else. Link and Field: link.js and
// field.js, which stand before this file.

const KEPT = 64; // cards held, so that undo and the arrows find the last ones
const KEPT_FIELDS = 6;
const PAUSE_MS = 60_000; // who takes longer has left the room: it does not count for the time left

function make(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && name !== "role") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const key = (name, ...rest) => [make("kbd", {}, name), ...rest];
const address = (buffer, type) => URL.createObjectURL(new Blob([buffer], { type }));
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const SIGNS = { " ": "Space", ArrowLeft: "←", ArrowRight: "→", Backspace: "⌫", Delete: "Del", Insert: "Ins", Enter: "↵", Escape: "Esc" };
const of = (table, name) => (Object.hasOwn(table, name) ? table[name] : undefined); // a class may be called "constructor"
const WORDS = { unsure: "unsure", strike: "not a cell", skip: "skipped" };

function render({ model, el }) {
  const cards = new Map(); // row -> card, the oldest first
  const wanted = new Set(); // rows asked for
  const fields = new Map(); // smear -> what the kernel sent of it, or null while it is on its way
  const mine = new Map(); // row -> the reader's label, where it changed since the kernel sent the card
  const paces = []; // milliseconds between the last readings
  let about = null; // what stays as it is: reader, classes, queues
  let state = null; // what the kernel said last
  let waiting = 0; // id of the message whose answer must come before the next key
  const typed = []; // keys pressed meanwhile, or before the next cell is there to be seen
  let typing = false; // those are being pressed
  let visit = null; // a row that the reader went to, in place of the next one
  let shown = null; // the row on view, its picture there to be seen
  let sheet = null; // the page of thumbnails on view, or none
  let picked = new Set();
  let at = 0; // the thumbnail that the arrow keys are on
  let troubled = 0; // what had been sent when something last went wrong
  let lastKey = 0;
  let summed = -1; // readings when the agreement was last asked for
  const born = performance.now();

  // -- what there is to see

  const modes = [
    make("button", { onclick: () => toSheet(false) }, "One by one"),
    make("button", { onclick: () => toSheet(true) }, ...key("#", "Contact sheet")),
  ];
  const queues = make("select", { onchange: chooseQueue, ariaLabel: "queue" });
  const bar = make("progress", { ariaLabel: "read" });
  const progress = make("span", { className: "steady" });
  const left = make("span", { className: "steady faint left" });
  const who = make("strong");
  const saved = make("span", { role: "status" });
  const helper = make("button", { onclick: toggleHelp, ariaExpanded: "false" }, ...key("?", "keys"));
  const head = make(
    "div", { className: "row head" }, make("span", { className: "row" }, ...modes),
    make("label", {}, make("span", {}, "queue "), queues), bar, progress, left, make("span", { className: "push" }, "reader ", who), saved, helper,
  );
  const noticeText = make("p");
  const noticeCounts = make("ul", { className: "counts", hidden: true });
  const noticePicture = make("img", { hidden: true, alt: "cells", draggable: false });
  const noticeWait = make("p", { className: "faint" });
  const notice = make("div", { className: "notice", "aria-live": "polite" }, noticeText, noticeCounts, noticePicture, noticeWait);
  const cropFrame = make("div", { className: "frame crop" });
  const name = make("span", { "aria-live": "polite" });
  const current = make("span", { className: "current" });
  const asleep = make("span", { className: "push asleep faint" }, "click here to use the keys");
  const given = make("span", { className: "faint" });
  const cell = make(
    "figure", { className: "cell" }, cropFrame, make("figcaption", { className: "row" }, name, current, given, asleep),
  );
  const field = new Field({ pick: go, add: addCell, badge });
  const contrast = make("input", { type: "range", min: 0.5, max: 3, step: 0.1, value: 1, ariaLabel: "contrast", oninput: () => setContrast(contrast.valueAsNumber) });
  const marks = make("button", { onclick: toggleMarks, ariaPressed: "true" }, ...key("*", "marks"));
  const adder = make("button", { onclick: toggleAdding, ariaPressed: "false" }, ...key("Ins", "add a cell"));
  const tools = make(
    "figcaption", { className: "row tools" },
    make("button", { onclick: () => field.zoomBy(1 / 1.5), ariaLabel: "zoom out" }, "−"),
    make("button", { onclick: () => field.zoomBy(1.5), ariaLabel: "zoom in" }, "+"),
    make("button", { onclick: () => field.toWhole() }, "whole"),
    make("label", { className: "contrast" }, "contrast ", contrast), marks, adder,
  );
  const around = make("figure", { className: "around" }, field.box, tools);
  const classes = make("div", { className: "classes" });
  const unsure = make("button", { onclick: () => say("unsure") }, ...key("0", "unsure"));
  const strike = make("button", { onclick: () => say("strike") }, ...key("Del", "not a cell"));
  const skip = make("button", { onclick: () => say("skip") }, ...key("Space", "skip"));
  const undone = make("button", { onclick: undo }, ...key("⌫", "undo"));
  const before = make("button", { onclick: () => step("before") }, ...key("←", "back"));
  const after = make("button", { onclick: () => step("after") }, ...key("→", "forward"));
  const onward = make("button", { onclick: toNext, hidden: true }, ...key("Esc", "to the next unread cell"));
  const others = make("div", { className: "others" }, unsure, strike, skip, undone, before, after, onward);
  const keys = make("div", { className: "keys" }, classes, others);
  const sheetClass = make("select", { onchange: () => openSheet(0), ariaLabel: "class of the sheet" });
  const pager = make("span");
  const back = make("button", { onclick: () => openSheet(sheet.page - 1), ariaLabel: "previous page" }, "‹");
  const on = make("button", { onclick: () => openSheet(sheet.page + 1), ariaLabel: "next page" }, "›");
  const grid = make("div", { className: "grid", role: "listbox", "aria-multiselectable": "true" });
  const hint = make("span", { className: "faint" });
  const sheetBox = make(
    "div", { className: "sheet", hidden: true },
    make("div", { className: "row" }, make("label", {}, "class ", sheetClass), back, pager, on, hint), grid,
  );
  const body = make("div", { className: "body" }, notice, cell, around, sheetBox, keys);
  const comment = make("input", { className: "comment", maxLength: 500, onkeydown: inComment, ariaLabel: "comment" });
  comment.placeholder = "goes with the next reading";
  const smears = make("datalist");
  const smear = make("input", { className: "smear", onkeydown: inFinder, ariaLabel: "smear" });
  const number = make("input", { className: "number", type: "number", min: 0, onkeydown: inFinder, ariaLabel: "number of the cell" });
  const last = make("span", { role: "status" });
  const foot = make(
    "div", { className: "row foot" }, make("label", { className: "row grow" }, ...key("↵"), "comment", comment),
    make("span", { className: "row" }, ...key("/"), "go to", smear, smears, "cell", number, make("button", { onclick: find }, "go")),
    make("span", {}, make("span", { className: "faint" }, "last "), last),
  );
  const help = make("div", { className: "help", hidden: true, role: "region", "aria-label": "keys" });
  const elsewhere = make(
    "div", { className: "row wrong", role: "alert", hidden: true },
    "The same reader labels here in another tab or window: close one of the two.",
  );
  const trouble = make("div", { className: "row wrong", role: "alert", hidden: true });
  const root = make(
    "div", {
      className: "rbcnb-labeller", tabIndex: 0, role: "application", onkeydown: inRoot, onclick: keepFocus,
      "aria-label": "cell labeller; keys are on the buttons", "data-lm-suppress-shortcuts": "true",
    }, head, elsewhere, trouble, help, body, foot,
  );
  const link = new Link(model, drawSaved);
  smears.id = `smears-${link.view}`;
  smear.setAttribute("list", smears.id);
  el.classList.add("rbcnb-labeller-box");
  if (link.page) document.body.classList.add("rbcnb-labeller-page");
  el.append(root);

  // -- to and from the kernel

  function heed(message, buffers) {
    if (message.kind === "card") return takeCard(message, buffers);
    if (message.kind === "field") return takeField(message, buffers);
    if (message.kind === "sheet") return message.view === link.view ? takeSheet(message, buffers) : undefined;
    if (message.kind !== "state") return;
    const ours = message.view === link.view;
    const answered = link.answer(message.view, message.ack);
    if (message.error && answered?.comment && !comment.value) comment.value = answered.comment;
    if (state && state.n !== message.n) [...cards.values()].filter((card) => card.after === null).forEach(dropCard);
    state = message;
    for (const [row, label] of message.changed) remember(row, label);
    if (ours && message.error) complain(message.error);
    else if (ours && message.ack > troubled) complain("");
    if (message.about) takeAbout(message.about);
    if (ours && message.ack >= waiting) waiting = 0;
    if (ours && message.found !== undefined && message.found !== null) visit = message.found;
    drawState();
    pressTyped();
  }

  function takeAbout(message) {
    const first = !about;
    about = message;
    elsewhere.hidden = !about.elsewhere;
    if (about.elsewhere) setTimeout(() => link.send({ kind: "hello" }), SLOW_MS);
    if (!first) return;
    drawAbout();
    link.restore(about.store);
    if (link.unsaved.length) waiting = link.sent;
    // On a page of its own the first key counts; in a notebook the reader clicks first.
    if (link.page && [document.body, null].includes(document.activeElement)) root.focus({ preventScroll: true });
  }

  function remember(row, label) {
    mine.set(row, label);
    field.mark(row, label);
  }

  const labelOf = (row, sent) => (mine.has(row) ? mine.get(row) : sent);

  // The shape and colour of a class, or of another word of a reading.
  function badge(label) {
    if (label === "unsure") return { shape: UNSURE_SHAPE, colour: "#7f7f7f" };
    if (label === "strike") return { shape: STRIKE_SHAPE, colour: "#c62828" };
    const place = about.classes.findIndex(([, other]) => other === label);
    return { shape: SHAPES[Math.max(0, place) % SHAPES.length], colour: of(about.colours, label) ?? "#7f7f7f" };
  }

  function icon(label) {
    const { shape, colour } = badge(label);
    return drawn("svg", { viewBox: "-1.2 -1.2 2.4 2.4", class: "icon", "aria-hidden": "true" }, drawn("path", { d: shape, fill: colour, "fill-rule": "evenodd" }));
  }

  // -- one by one

  // What the kernel says comes next, less what has been dealt with here since.
  function upcoming() {
    const dealt = new Set(link.open.flatMap(({ message }) => message.rows ?? []));
    return (state?.upcoming ?? []).filter((row) => !dealt.has(row));
  }

  function takeCard(message, buffers) {
    const { row } = message;
    wanted.delete(row);
    if (cards.has(row)) return;
    const file = buffers.length ? address(buffers[0], "image/png") : "";
    const image = file && make("img", { src: file, alt: message.name, draggable: false });
    const card = { ...message, file, image, ready: false };
    cards.set(row, card);
    for (const old of [...cards.values()].slice(0, -KEPT)) {
      if (![row, shown, visit].includes(old.row) && !state?.upcoming.includes(old.row)) dropCard(old);
    }
    // Decoded before it is needed: to show it is then to put it there.
    Promise.allSettled(image ? [image.decode()] : []).then(() => {
      card.ready = true;
      if ((visit ?? upcoming()[0]) === row) show();
    });
  }

  function dropCard(card) {
    if (card.file) URL.revokeObjectURL(card.file);
    cards.delete(card.row);
  }

  function takeField(message, buffers) {
    const old = fields.get(message.smear);
    if (old?.file) URL.revokeObjectURL(old.file);
    const file = buffers.length ? address(buffers[0], "image/jpeg") : "";
    fields.delete(message.smear);
    fields.set(message.smear, { ...message, file });
    for (const [name, other] of [...fields].slice(0, -KEPT_FIELDS)) {
      if (!other || other === field.data) continue;
      URL.revokeObjectURL(other.file);
      fields.delete(name);
    }
    if (cards.get(shown)?.smear === message.smear) showField(cards.get(shown));
  }

  function wantField(name) {
    if (!name || fields.has(name)) return;
    fields.set(name, null);
    link.send({ kind: "field", smear: name }, false);
  }

  function showField(card) {
    wantField(card.smear);
    const data = fields.get(card.smear);
    if (data) field.show(data, card.row, labelOf);
    else field.clear("loading the field");
  }

  function show() {
    if (!state || waiting) return;
    const rows = upcoming();
    const target = visit ?? rows[0];
    const near = visit === null ? [] : [cards.get(visit)?.before, cards.get(visit)?.after];
    const missing = [target, ...near, ...rows].filter((row) => Number.isInteger(row) && !cards.has(row) && !wanted.has(row));
    if (missing.length) {
      missing.forEach((row) => wanted.add(row));
      link.send({ kind: "want", rows: [...new Set(missing)] }, false);
    }
    const card = cards.get(target);
    onward.hidden = visit === null || !rows.length;
    if (card?.ready && shown === card.row) {
      drawCurrent(card);
      return pressTyped();
    }
    if (!card?.ready) {
      shown = null;
      root.dataset.cell = "";
      cropFrame.replaceChildren(make("div", { className: "note" }, "waiting for the kernel"));
      name.textContent = given.textContent = "";
      current.replaceChildren();
      drawMode();
      return;
    }
    shown = card.row;
    drawMode();
    cropFrame.replaceChildren(card.image || make("div", { className: "note" }, card.problem));
    name.textContent = card.name;
    given.textContent = card.given ? `given: ${card.given}` : "";
    before.disabled = card.before === null;
    after.disabled = card.after === null;
    drawCurrent(card);
    // The cell first, its field with the next frame: to draw a large field takes longer than to show a cell.
    requestAnimationFrame(() => setTimeout(() => shown === card.row && showField(card)));
    wantField(rows.map((row) => cards.get(row)?.smear).find((other) => other && other !== card.smear));
    root.dataset.cell = card.name;
    pressTyped();
  }

  function drawCurrent(card) {
    const label = labelOf(card.row, card.label);
    current.replaceChildren(...(label ? [icon(label), of(WORDS, label) ?? label] : []));
    for (const button of classes.children) button.setAttribute("aria-pressed", button.title === label);
  }

  function say(what, label = "") {
    if (link.deaf || waiting) return;
    const rows = sheet ? [...picked] : shown === null ? [] : [shown];
    if (!rows.length || (sheet && what === "skip")) return;
    const names = sheet ? rows.map((row) => sheet.cells[sheet.rows.indexOf(row)]) : rows.map((row) => [cards.get(row).smear, cards.get(row).cell]);
    link.send({ kind: "reading", rows, names, what, label, comment: comment.value.trim() });
    comment.value = "";
    picked = new Set();
    if (sheet) {
      waiting = link.sent;
      openSheet(sheet.page);
      return;
    }
    const now = performance.now();
    if (lastKey && now - lastKey < PAUSE_MS) paces.push(now - lastKey);
    if (paces.length > 30) paces.shift();
    lastKey = now;
    if (what !== "skip") remember(shown, label || what);
    last.textContent = `${name.textContent}: ${label || WORDS[what]}`;
    // After a cell out of its turn the kernel says which one is next: no key may meet another cell than the one seen.
    if (visit !== null) waiting = link.sent;
    visit = null;
    show();
  }

  function undo() {
    if (link.deaf || (!state?.acts && !link.unsaved.length)) return;
    visit = null;
    waiting = link.send({ kind: "undo" });
    if (sheet) openSheet(sheet.page);
  }

  function go(row) {
    if (!Number.isInteger(row)) return;
    visit = row === upcoming()[0] ? null : row;
    show();
  }

  // To the cell before or after the one on view, in the order of the queue.
  function step(where) {
    if (shown !== null) go(cards.get(shown)[where]);
    else if (where === "before") go(state?.latest);
  }

  function toNext() {
    visit = null;
    show();
    drawMode();
  }

  function addCell(name, x, y) {
    waiting = link.send({ kind: "add", smear: name, x, y });
    if (field.adding) toggleAdding();
  }

  function find() {
    waiting = link.send({ kind: "find", smear: smear.value || cards.get(shown)?.smear || "", cell: number.valueAsNumber });
    root.focus({ preventScroll: true });
  }

  function chooseQueue() {
    visit = null;
    [...cards.values()].forEach(dropCard);
    shown = null;
    waiting = link.send({ kind: "queue", queue: queues.value });
    root.focus();
  }

  // -- the look of the pictures

  function toggleMarks() {
    marks.ariaPressed = field.toggleMarks();
  }

  function toggleAdding() {
    field.adding = !field.adding;
    adder.ariaPressed = field.adding;
    field.box.classList.toggle("adding", field.adding);
  }

  function setContrast(value) {
    contrast.value = field.setContrast(value);
    // No filter at all where it would do nothing: it costs milliseconds with every cell.
    root.style.setProperty("--filter", contrast.value === "1" ? "none" : `contrast(${contrast.value})`);
  }

  function toggleHelp() {
    help.hidden = !help.hidden;
    helper.ariaExpanded = !help.hidden;
  }

  // -- the contact sheet

  function toSheet(wish) {
    if (!wish) sheet = null;
    else if (!sheet) openSheet(0);
    else return;
    drawMode();
    show();
  }

  function openSheet(page) {
    link.send({ kind: "sheet", label: sheetClass.value, page: Math.max(0, page) }, false);
    root.focus({ preventScroll: true });
  }

  function takeSheet(message, buffers) {
    const moved = !sheet || sheet.label !== message.label || sheet.page !== message.page;
    if (sheet?.file) URL.revokeObjectURL(sheet.file);
    sheet = { ...message, file: buffers.length ? address(buffers[0], "image/jpeg") : "" };
    picked = new Set([...picked].filter((row) => !moved && sheet.rows.includes(row)));
    at = moved ? 0 : Math.min(at, Math.max(0, sheet.rows.length - 1));
    const { columns, rows } = message;
    const lines = Math.ceil(rows.length / columns);
    grid.replaceChildren(...rows.map((row, i) => {
      const thumb = make("div", { className: "thumb", role: "option", id: `${link.view}-${i}`, title: message.names[i], onclick: (event) => pick(i, event.shiftKey) });
      const place = (k, n) => (n > 1 ? (100 * k) / (n - 1) : 0);
      thumb.style.backgroundImage = `url(${sheet.file})`;
      thumb.style.backgroundSize = `${100 * columns}% ${100 * lines}%`;
      thumb.style.backgroundPosition = `${place(i % columns, columns)}% ${place(Math.floor(i / columns), lines)}%`;
      return thumb;
    }));
    pager.textContent = `page ${message.page + 1} of ${message.pages} (${message.n} cells)`;
    back.disabled = message.page === 0;
    on.disabled = message.page + 1 >= message.pages;
    root.dataset.sheet = `${message.label} ${message.page} ${message.n}`;
    drawMode();
    drawPicked();
  }

  function pick(i, range = false) {
    const span = range ? [Math.min(at, i), Math.max(at, i)] : [i, i];
    for (const row of sheet.rows.slice(span[0], span[1] + 1)) {
      if (range || !picked.delete(row)) picked.add(row);
    }
    at = i;
    drawPicked();
  }

  function drawPicked() {
    [...grid.children].forEach((thumb, i) => {
      thumb.ariaSelected = picked.has(sheet.rows[i]);
      thumb.classList.toggle("at", i === at);
    });
    root.setAttribute("aria-activedescendant", `${link.view}-${at}`);
    hint.textContent = picked.size ? `${picked.size} selected: a class key re-marks them` : "click the odd ones, or arrows and Space";
  }

  // -- keys

  // Sign -> what it is for and what it does; letters and the digits 1 to 9 are classes.
  const commands = {
    0: ["unsure", () => say("unsure")],
    Delete: ["not a cell (or !)", () => say("strike")],
    " ": ["skip: the cell comes again at the end", () => say("skip")],
    Backspace: ["undo (or Ctrl+Z)", undo],
    ArrowLeft: ["back to the cell before", () => step("before")],
    ArrowRight: ["forward", () => step("after")],
    Escape: ["to the next unread cell", escape],
    Enter: ["write a comment", () => comment.focus()],
    "/": ["go to a cell by smear and number", () => smear.focus()],
    "+": ["zoom in (or the wheel)", () => field.zoomBy(1.5)],
    "-": ["zoom out", () => field.zoomBy(1 / 1.5)],
    ".": ["more contrast", () => setContrast(field.contrast + 0.1)],
    ",": ["less contrast", () => setContrast(field.contrast - 0.1)],
    "*": ["marks in the field on and off", toggleMarks],
    Insert: ["add a cell: then click it in the field (or Shift+click)", toggleAdding],
    "#": ["contact sheet of a class", () => toSheet(!sheet)],
    "?": ["these keys", toggleHelp],
  };
  commands["!"] = commands.Delete;
  commands["="] = commands["+"];
  help.append(...Object.entries(commands).filter(([sign]) => !"!=".includes(sign)).map(([sign, [what]]) => make("span", {}, ...key(SIGNS[sign] ?? sign, what))));

  function inRoot(event) {
    event.stopPropagation(); // JupyterLab's shortcuts are for its notebook, not for what a reader types here
    const typing = event.target.closest("input, select");
    const undoes = (event.ctrlKey || event.metaKey) && event.key === "z";
    if (typing || ((event.ctrlKey || event.metaKey || event.altKey) && !undoes)) return;
    if (event.target.closest("button") && ["Enter", " "].includes(event.key)) return;
    const sign = undoes ? "Backspace" : event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (!meaning(sign)) return;
    event.preventDefault();
    if (event.repeat && !sign.startsWith("Arrow")) return; // a key held down is one reading
    if (busy() && !link.deaf) typed.push(sign);
    else press(sign);
    if (!["Enter", "/"].includes(sign)) root.focus({ preventScroll: true });
  }

  // On a page of its own a key counts wherever the focus was lost to.
  const onPage = (event) => { if (event.target === document.body) inRoot(event); };

  function meaning(sign) {
    const label = about?.classes.find(([own]) => own === sign)?.[1];
    if (label) return () => say("label", label);
    if (sheet) {
      const move = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -gridColumns(), ArrowDown: gridColumns() }[sign];
      if (move) return () => { if (sheet.rows[at + move] !== undefined) { at += move; drawPicked(); } };
      const turns = { PageUp: -1, PageDown: 1 }[sign];
      if (turns) return () => openSheet(Math.min(sheet.page + turns, sheet.pages - 1));
      if (sign === " " || sign === "Enter") return () => sheet.rows.length && pick(at);
    }
    return state ? commands[sign]?.[1] : undefined;
  }

  const gridColumns = () => getComputedStyle(grid).gridTemplateColumns.split(" ").length;

  function press(sign) {
    if (!link.deaf) meaning(sign)?.();
  }

  // No key is lost because the next cell, or an answer, is still on its way.
  const busy = () => Boolean(waiting || (state && !sheet && shown === null && !allRead()));

  function pressTyped() {
    if (typing) return;
    typing = true;
    while (typed.length && !busy()) press(typed.shift());
    typing = false;
  }

  function escape() {
    if (!help.hidden) toggleHelp();
    else if (field.adding) toggleAdding();
    else if (sheet) toSheet(false);
    else toNext();
  }

  function inComment(event) {
    if (event.key === "Escape") comment.value = "";
    if (event.key === "Escape" || event.key === "Enter") root.focus({ preventScroll: true });
  }

  function inFinder(event) {
    if (event.key === "Escape") root.focus({ preventScroll: true });
    if (event.key === "Enter") (event.target === smear ? number.focus() : find());
  }

  function keepFocus(event) {
    if (event.target.closest("input, select, label")) return;
    root.focus({ preventScroll: true });
    if (!link.page) root.scrollIntoView({ block: "nearest" }); // all keys and both pictures at once
  }

  // -- drawing

  function complain(text) {
    if (text) troubled = link.sent;
    trouble.hidden = !text;
    trouble.textContent = text;
  }

  function drawSaved() {
    const n = link.unsaved.length;
    const read = state?.read || state?.skipped || state?.acts;
    const rest = read ? "all saved" : "nothing read yet";
    const silent = link.page ? "the server does not answer" : "the kernel does not answer";
    const kept = n ? `${n} NOT SAVED, kept here: ` : "";
    saved.textContent = link.deaf ? `${kept}${silent}, no more keys are taken` : n ? "saving" : rest;
    saved.className = link.deaf ? "wrong" : "faint";
    root.classList.toggle("deaf", link.deaf && Boolean(state));
    root.dataset.unsaved = n;
    if (!state && performance.now() - born > SLOW_MS) {
      noticeWait.textContent =
        "The kernel is busy with other cells of the notebook: reading begins when they are done. " +
        "If no kernel is running, start one and run this cell.";
    }
  }

  const allRead = () => visit === null && !upcoming().length && !state.upcoming.length && !link.unsaved.length;

  // Before the kernel has said anything, and where nothing is left to read, there are words in place of pictures.
  function drawMode() {
    const nothing = !state || allRead();
    if (nothing) shown = null;
    head.hidden = foot.hidden = keys.hidden = !state;
    notice.hidden = Boolean(sheet) || !nothing;
    if (state) {
      noticeText.textContent = state.words;
      noticeWait.textContent = "";
      noticePicture.hidden = !noticePicture.src || Boolean(state.n);
    }
    noticeCounts.hidden = !(nothing && state?.read);
    if (!noticeCounts.hidden) drawEnd();
    [...classes.children, unsure, strike, skip].forEach((button) => (button.disabled = !sheet && nothing));
    modes.forEach((button, i) => (button.ariaPressed = Boolean(sheet) === Boolean(i)));
    cell.hidden = around.hidden = Boolean(sheet) || nothing;
    if (nothing && !sheet) root.dataset.cell = "";
    sheetBox.hidden = !sheet;
    skip.hidden = before.hidden = after.hidden = Boolean(sheet);
    if (!sheet) delete root.dataset.sheet;
  }

  // Counts per class, and how far the readers agree, when all is read.
  function drawEnd() {
    if (summed !== state.read + state.acts) {
      summed = state.read + state.acts;
      link.send({ kind: "summary" });
    }
    const names = [...about.classes.map(([, label]) => label), "unsure", "strike"].filter((label) => of(state.counts, label));
    const counts = names.map((label) => make("li", {}, icon(label), `${of(state.counts, label)} ${of(WORDS, label) ?? label}`));
    noticeCounts.replaceChildren(...counts, ...(state.agreement ?? []).map((words) => make("li", {}, words)));
  }

  function drawAbout() {
    classes.classList.toggle("many", about.classes.length > 8);
    classes.replaceChildren(...about.classes.map(([sign, label]) => make(
      "button", { title: label, onclick: () => say("label", label) },
      ...key(sign), icon(label), make("span", { className: "label" }, label), make("span", { className: "n faint" }),
    )));
    const names = [...about.classes.map(([, label]) => label), "unsure", "strike"];
    sheetClass.replaceChildren(...names.map((label) => make("option", { value: label }, of(WORDS, label) ?? label)));
    queues.replaceChildren(...about.queues.map((queue) => make("option", { value: queue }, queue)));
    smears.replaceChildren(...about.smears.slice(0, 1000).map((name) => make("option", { value: name })));
    smear.placeholder = "this smear";
    who.textContent = about.reader;
  }

  function drawState() {
    queues.value = state.queue;
    bar.max = Math.max(1, state.n);
    bar.value = state.read;
    progress.textContent = `${state.read} of ${state.n} read` + (state.skipped ? `, ${state.skipped} skipped` : "");
    const minutes = paces.length < 5 ? 0 : Math.ceil((median(paces) * (state.n - state.read)) / 60_000);
    left.textContent = minutes > 90 ? `about ${Math.round(minutes / 60)} h left` : minutes ? `about ${minutes} min left` : "";
    for (const button of classes.children) button.querySelector(".n").textContent = of(state.counts, button.title) ?? "";
    if (!link.unsaved.length) last.textContent = state.last || "none";
    undone.disabled = !state.acts && !link.unsaved.length;
    drawMode();
    drawSaved();
    show();
  }

  const leaving = (event) => { if (link.unsaved.length && !link.leaves && !(link.page && link.kept)) event.preventDefault(); };
  window.addEventListener("beforeunload", leaving);
  if (link.page) document.addEventListener("keydown", onPage);
  model.on("msg:custom", heed);
  noticeText.textContent = model.get("words");
  noticeWait.textContent = "waiting for the kernel";
  const file = model.get("picture");
  if (file?.byteLength) {
    noticePicture.src = address(file, "image/jpeg");
    noticePicture.hidden = false;
  }
  drawMode();
  link.send({ kind: "hello" });
  return () => {
    clearInterval(link.clock);
    field.observer.disconnect();
    window.removeEventListener("beforeunload", leaving);
    document.removeEventListener("keydown", onPage);
    model.off("msg:custom", heed);
    if (noticePicture.src) URL.revokeObjectURL(noticePicture.src);
    for (const held of [...cards.values(), ...fields.values(), sheet]) if (held?.file) URL.revokeObjectURL(held.file);
  };
}

export default { render };
