// The page's side of rbcnb/labeller.py. A key is answered here and now, from pictures fetched ahead, and sent to the
// kernel, which writes it down and says so; until then it is "not saved yet". Nothing is fetched from anywhere else.

const KEPT = 64; // cards held, so that undo finds the last ones
const SLOW_MS = 3000; // a reading not saved for so long is said to be waiting

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

function render({ model, el }) {
  const view = Math.random().toString(36).slice(2);
  const cards = new Map(); // row -> card, the oldest first
  const wanted = new Set(); // rows asked for
  let state = null; // what the kernel said last
  let outbox = []; // sent and not yet acknowledged
  let sent = 0;
  let waiting = 0; // id of the message whose answer must come before the next key
  let typed = []; // keys pressed meanwhile
  let shown = null; // the row on view, its picture there to be seen
  let sheet = null; // the page of thumbnails on view, or none
  let picked = new Set();
  let at = 0; // the thumbnail that the arrow keys are on
  let marked = true;
  let troubled = 0; // what had been sent when something last went wrong
  const born = performance.now();

  // -- what there is to see

  const modes = [
    make("button", { onclick: () => toSheet(false) }, "One by one"),
    make("button", { onclick: () => toSheet(true), title: "g" }, ...key("g", "Contact sheet")),
  ];
  const queues = make("select", { onchange: chooseQueue, ariaLabel: "queue" });
  const bar = make("progress", { ariaLabel: "read" });
  const progress = make("span");
  const who = make("strong");
  const saved = make("span", { role: "status" });
  const head = make(
    "div", { className: "row" }, make("span", { className: "row" }, ...modes),
    make("label", {}, "queue ", queues), bar, progress, make("span", { className: "push" }, "reader ", who), saved,
  );
  const noticeText = make("p");
  const noticePicture = make("img", { hidden: true, alt: "cells", draggable: false });
  const noticeWait = make("p", { className: "faint" });
  const notice = make("div", { className: "notice" }, noticeText, noticePicture, noticeWait);
  const cropFrame = make("div", { className: "frame" });
  const aroundFrame = make("div", { className: "frame" });
  const name = make("span");
  const asleep = make("span", { className: "push asleep faint" }, "click here to use the keys");
  const given = make("span", { className: "faint" });
  const one = [
    make("figure", { className: "picture" }, cropFrame, make("figcaption", { className: "row" }, name, asleep)),
    make("figure", { className: "picture" }, aroundFrame, make("figcaption", {}, given)),
  ];
  const classes = make("div", { className: "classes" });
  const unsure = make("button", { onclick: () => say("unsure") }, ...key("x", "unsure"));
  const skip = make("button", { onclick: () => say("skip") }, ...key("s", "skip"));
  const undone = make("button", { onclick: undo }, ...key("u", "undo"));
  const mark = make("button", { onclick: toggleMark }, ...key("m", "mark"));
  const keys = make("div", { className: "keys" }, classes, unsure, skip, undone, mark);
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
  const body = make("div", { className: "body" }, notice, ...one, sheetBox, keys);
  const comment = make("input", { className: "comment", maxLength: 500, onkeydown: inComment, ariaLabel: "comment" });
  comment.placeholder = "goes with the next reading; Enter returns to the keys";
  const last = make("span", { role: "status" });
  const foot = make(
    "div", { className: "row" }, make("label", {}, ...key("c", "comment")), comment,
    make("span", {}, make("span", { className: "faint" }, "last "), last),
  );
  const trouble = make("div", { className: "row wrong", role: "alert", hidden: true });
  const root = make(
    "div", {
      className: "rbcnb-labeller", tabIndex: 0, role: "application", onkeydown: inRoot, onclick: keepFocus,
      "aria-label": "cell labeller; keys are on the buttons", "data-lm-suppress-shortcuts": "true",
    }, head, body, foot, trouble,
  );
  comment.id = `comment-${view}`;
  foot.querySelector("label").htmlFor = comment.id;
  el.append(root);

  // -- to and from the kernel

  function send(message, needsAnswer = true) {
    const id = ++sent;
    if (needsAnswer) outbox.push({ id, when: performance.now(), ...message });
    try {
      model.send({ ...message, view, id });
    } catch (error) {
      complain(`not sent: ${error.message}; run the cell again`);
    }
    drawSaved();
    return id;
  }

  function heed(message, buffers) {
    if (message.kind === "card") return takeCard(message, buffers);
    if (message.kind === "sheet") return message.view === view ? takeSheet(message, buffers) : undefined;
    if (message.kind !== "state") return;
    const own = message.view === view;
    const failed = message.error && own && outbox.find((one) => one.id === message.ack);
    if (failed?.comment && !comment.value) comment.value = failed.comment;
    if (own) outbox = outbox.filter((one) => one.id > message.ack);
    state = message;
    if (own && message.error) complain(message.error);
    else if (own && message.ack > troubled) complain("");
    drawState();
    if (own && waiting && message.ack >= waiting) {
      waiting = 0;
      const presses = typed;
      typed = [];
      presses.forEach(press);
    }
  }

  // -- one by one

  // What the kernel says comes next, less what has been dealt with here since.
  function upcoming() {
    const dealt = new Set(outbox.flatMap((one) => one.rows ?? []));
    return (state?.upcoming ?? []).filter((row) => !dealt.has(row));
  }

  function takeCard(message, buffers) {
    const { row } = message;
    wanted.delete(row);
    if (cards.has(row)) return;
    const files = buffers.map((buffer, i) => address(buffer, i ? "image/jpeg" : "image/png"));
    const images = files.map((src, i) => make("img", { src, alt: i ? "surroundings" : "cell", draggable: false }));
    const card = { ...message, files, images, ready: false };
    cards.set(row, card);
    for (const old of cards.keys()) {
      if (cards.size <= KEPT) break;
      if (old === row || old === shown || state?.upcoming.includes(old)) continue;
      cards.get(old).files.forEach((file) => URL.revokeObjectURL(file));
      cards.delete(old);
    }
    // Decoded before it is needed: to show it is then to put it there.
    Promise.allSettled(images.map((image) => image.decode())).then(() => {
      card.ready = true;
      if (upcoming()[0] === row) show();
    });
  }

  function show() {
    if (!state) return;
    const rows = upcoming();
    const missing = rows.filter((row) => !cards.has(row) && !wanted.has(row));
    if (missing.length) {
      missing.forEach((row) => wanted.add(row));
      send({ kind: "want", rows: missing }, false);
    }
    const card = cards.get(rows[0]);
    if (card?.ready && shown === card.row) return;
    if (!card?.ready) {
      shown = null;
      root.dataset.cell = "";
      cropFrame.replaceChildren(make("div", { className: "note" }, "waiting for the kernel"));
      aroundFrame.replaceChildren();
      name.textContent = given.textContent = "";
      drawMode();
      return;
    }
    shown = card.row;
    drawMode();
    cropFrame.replaceChildren(card.images[0] ?? make("div", { className: "note" }, card.problem));
    if (card.circle) aroundFrame.replaceChildren(card.images[1], circle(card.circle));
    else aroundFrame.replaceChildren(make("div", { className: "note" }, "no image of this smear here"));
    name.textContent = card.name;
    given.textContent = card.given ? `given: ${card.given}` : "";
    root.dataset.cell = card.name;
  }

  function circle([x, y, radius]) {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    svg.setAttribute("viewBox", "0 0 1 1");
    svg.style.display = marked ? "" : "none";
    for (let i = 0; i < 2; i++) {
      const ring = document.createElementNS(space, "circle");
      for (const [attribute, value] of [["cx", x], ["cy", y], ["r", 1.2 * radius]]) ring.setAttribute(attribute, value);
      svg.append(ring);
    }
    return svg;
  }

  function toggleMark() {
    marked = !marked;
    mark.ariaPressed = marked;
    const svg = aroundFrame.querySelector("svg");
    if (svg) svg.style.display = marked ? "" : "none";
  }

  function say(what, label = "") {
    const rows = sheet ? [...picked] : shown === null ? [] : [shown];
    if (!rows.length || (sheet && what === "skip")) return;
    send({ kind: "say", rows, what, label, comment: comment.value.trim() });
    comment.value = "";
    picked = new Set();
    if (sheet) {
      waiting = sent;
      openSheet(sheet.page);
    } else {
      last.textContent = `${name.textContent}: ${label || (what === "skip" ? "skipped" : what)}`;
      show();
    }
  }

  function undo() {
    if (!state?.acts && !outbox.some((one) => one.kind === "say")) return;
    waiting = send({ kind: "undo" });
    if (sheet) openSheet(sheet.page);
  }

  function chooseQueue() {
    waiting = send({ kind: "queue", queue: queues.value });
    root.focus();
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
    send({ kind: "sheet", label: sheetClass.value, page: Math.max(0, page) }, false);
    root.focus({ preventScroll: true });
  }

  function takeSheet(message, buffers) {
    const moved = !sheet || sheet.label !== message.label || sheet.page !== message.page;
    if (sheet?.file) URL.revokeObjectURL(sheet.file);
    sheet = { ...message, file: buffers.length ? address(buffers[0], "image/jpeg") : "" };
    picked = new Set([...picked].filter((row) => !moved && sheet.rows.includes(row)));
    at = moved ? 0 : Math.min(at, Math.max(0, sheet.rows.length - 1));
    const { columns, rows, side } = message;
    const lines = Math.ceil(rows.length / columns);
    grid.style.gridTemplateColumns = `repeat(${columns}, minmax(0, ${side}px))`;
    grid.replaceChildren(...rows.map((row, i) => {
      const thumb = make("div", { className: "thumb", role: "option", id: `${view}-${i}`, title: message.names[i], onclick: (event) => pick(i, event.shiftKey) });
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
    root.setAttribute("aria-activedescendant", `${view}-${at}`);
    hint.textContent = picked.size ? `${picked.size} selected: a class key re-marks them` : "click the odd ones, or arrows and Space";
  }

  // -- keys

  function inRoot(event) {
    event.stopPropagation(); // JupyterLab's shortcuts are for its notebook, not for what a reader types here
    const field = event.target.closest("input, select");
    const undoes = (event.ctrlKey || event.metaKey) && event.key === "z";
    if (field || ((event.ctrlKey || event.metaKey || event.altKey) && !undoes)) return;
    if (event.target.closest("button") && ["Enter", " "].includes(event.key)) return;
    const name = undoes || event.key === "Backspace" ? "u" : event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (!meaning(name)) return;
    event.preventDefault();
    if (event.repeat && !name.startsWith("Arrow")) return; // a key held down is one reading
    if (waiting) typed.push(name);
    else press(name);
    if (name !== "c") root.focus({ preventScroll: true });
  }

  function meaning(name) {
    const label = state?.classes.find(([own]) => own === name)?.[1];
    if (label) return () => say("label", label);
    const always = { u: undo, x: () => say("unsure"), s: () => say("skip"), m: toggleMark, g: () => toSheet(!sheet), c: () => comment.focus() };
    if (!sheet) return always[name];
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -sheet.columns, ArrowDown: sheet.columns }[name];
    if (step) return () => { if (sheet.rows[at + step] !== undefined) { at += step; drawPicked(); } };
    const turns = { PageUp: -1, PageDown: 1 }[name];
    if (turns) return () => openSheet(Math.min(sheet.page + turns, sheet.pages - 1));
    if (name === " " || name === "Enter") return () => sheet.rows.length && pick(at);
    return always[name];
  }

  function press(name) {
    meaning(name)?.();
  }

  function inComment(event) {
    if (event.key === "Escape") comment.value = "";
    if (event.key === "Escape" || event.key === "Enter") root.focus({ preventScroll: true });
  }

  function keepFocus(event) {
    if (event.target.closest("input, select, label")) return;
    root.focus({ preventScroll: true });
    root.scrollIntoView({ block: "nearest" }); // all keys and both pictures at once
  }

  // -- drawing

  function complain(text) {
    if (text) troubled = sent;
    trouble.hidden = !text;
    trouble.textContent = text;
  }

  function drawSaved() {
    const open = outbox.filter((one) => one.kind === "say" || one.kind === "undo");
    const slow = open.length && performance.now() - open[0].when > SLOW_MS;
    const read = state?.read || state?.skipped || state?.acts;
    const rest = read ? "all saved" : "nothing read yet";
    saved.textContent = !open.length ? rest : slow ? `${open.length} NOT SAVED, the kernel does not answer` : "saving";
    saved.className = slow ? "wrong" : "faint";
    root.dataset.unsaved = open.length;
    if (!state && performance.now() - born > SLOW_MS) {
      noticeWait.textContent =
        "The kernel is busy with other cells of the notebook: reading begins when they are done. " +
        "If no kernel is running, start one and run this cell.";
    }
  }

  // Before the kernel has said anything, and where nothing is left to read, there are words in place of pictures.
  function drawMode() {
    const nothing = !state || (!upcoming().length && !state.upcoming.length && !outbox.length);
    head.hidden = foot.hidden = keys.hidden = !state;
    notice.hidden = Boolean(sheet) || !nothing;
    if (state) {
      noticeText.textContent = state.words;
      noticeWait.textContent = "";
      noticePicture.hidden = !noticePicture.src || Boolean(state.n);
    }
    [...classes.children, unsure, skip, mark].forEach((button) => (button.disabled = !sheet && nothing));
    modes.forEach((button, i) => (button.ariaPressed = Boolean(sheet) === Boolean(i)));
    one.forEach((figure) => (figure.hidden = Boolean(sheet) || nothing));
    sheetBox.hidden = !sheet;
    skip.hidden = mark.hidden = Boolean(sheet);
    if (!sheet) delete root.dataset.sheet;
  }

  function drawState() {
    if (classes.childElementCount !== state.classes.length) {
      classes.classList.toggle("two", state.classes.length > 9);
      classes.replaceChildren(...state.classes.map(([own, label]) => {
        const button = make("button", { title: label, onclick: () => say("label", label) }, ...key(own, label));
        button.style.setProperty("--own", state.colours[label]);
        return button;
      }));
      const names = [...state.classes.map(([, label]) => label), "unsure"];
      sheetClass.replaceChildren(...names.map((label) => make("option", { value: label }, label)));
    }
    if (queues.length !== state.queues.length) {
      queues.replaceChildren(...state.queues.map((queue) => make("option", { value: queue }, queue)));
    }
    queues.value = state.queue;
    bar.max = Math.max(1, state.n);
    bar.value = state.read;
    progress.textContent = `${state.read} of ${state.n} read` + (state.skipped ? `, ${state.skipped} skipped` : "");
    who.textContent = state.reader;
    if (!outbox.length) last.textContent = state.last || "none";
    undone.disabled = !state.acts && !outbox.length;
    mark.ariaPressed = marked;
    drawMode();
    drawSaved();
    show();
  }

  const leaving = (event) => { if (Number(root.dataset.unsaved)) event.preventDefault(); };
  const clock = setInterval(drawSaved, 1000);
  window.addEventListener("beforeunload", leaving);
  model.on("msg:custom", heed);
  noticeText.textContent = model.get("words");
  noticeWait.textContent = "waiting for the kernel";
  const file = model.get("picture");
  if (file?.byteLength) {
    noticePicture.src = address(file, "image/jpeg");
    noticePicture.hidden = false;
  }
  drawMode();
  send({ kind: "hello" });
  return () => {
    clearInterval(clock);
    window.removeEventListener("beforeunload", leaving);
    model.off("msg:custom", heed);
    if (noticePicture.src) URL.revokeObjectURL(noticePicture.src);
    for (const card of cards.values()) card.files.forEach((file) => URL.revokeObjectURL(file));
    if (sheet?.file) URL.revokeObjectURL(sheet.file);
  };
}

export default { render };
