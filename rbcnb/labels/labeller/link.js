// What the page has sent to the kernel and the kernel has not answered. Readings are kept in the browser's store until
// their rows are on the disk, so that neither a server that ended nor a page that was closed loses one.

const SLOW_MS = 3000; // a reading that is not saved for so long waits for a kernel that does not answer
const PING_MS = 1500;

class Link {
  // changed: called when something was sent, was answered, is late, or the server has gone.
  constructor(model, changed) {
    this.model = model;
    this.changed = changed;
    this.view = Math.random().toString(36).slice(2);
    this.page = document.body.dataset.voila !== undefined; // a page of its own, not a notebook in JupyterLab
    this.open = [];
    this.sent = 0;
    this.time = 0;
    this.store = "";
    this.gone = false;
    this.clock = setInterval(() => this.look(), PING_MS);
  }

  send(message, needsAnswer = true) {
    const id = ++this.sent;
    if (isReading(message) && !message.time) message.time = this.time = Math.max(this.time + 1, Date.now());
    if (needsAnswer) this.open.push({ id, since: performance.now(), message });
    this.keep();
    try {
      this.model.send({ ...message, view: this.view, id });
    } catch {
      this.gone = true;
    }
    this.changed();
    return id;
  }

  get unsaved() {
    return this.open.map(({ message }) => message).filter(isReading);
  }

  // Nobody answers: further keys would be typed into the void.
  get deaf() {
    return this.gone || (this.open.length > 0 && performance.now() - this.open[0].since > SLOW_MS);
  }

  // Returns the message that was answered, if it is one of this view.
  answer(view, id) {
    if (view !== this.view) return undefined;
    const answered = this.open.find((sent) => sent.id === id);
    this.open = this.open.filter((sent) => sent.id > id);
    this.keep();
    return answered?.message;
  }

  keep() {
    if (!this.store) return;
    try {
      if (this.unsaved.length) localStorage.setItem(`${this.store} ${this.view}`, JSON.stringify(this.unsaved));
      else localStorage.removeItem(`${this.store} ${this.view}`);
      this.kept = true;
    } catch {
      this.kept = false; // a browser without a store: leaving the page asks first
    }
  }

  // Sends what earlier pages of the same reader kept. The kernel knows by its time what had reached the disk.
  restore(name) {
    this.store = `rbcnb ${name}`;
    this.keep();
    if (!this.kept) return;
    const mine = `${this.store} ${this.view}`;
    const kept = Object.keys(localStorage).filter((key) => key.startsWith(`${this.store} `) && key !== mine);
    const messages = kept.flatMap((key) => JSON.parse(localStorage.getItem(key)));
    messages.sort((a, b) => a.time - b.time).forEach((message) => this.send({ ...message, again: true }));
    kept.forEach((key) => localStorage.removeItem(key));
  }

  async look() {
    if (this.page) {
      try {
        await fetch(`${document.body.dataset.baseUrl}static/voila.js`, { method: "HEAD", cache: "no-store" });
        if (this.gone) this.reload(); // the server that answers now is a new one
      } catch {
        this.gone = true;
      }
    }
    this.changed();
  }

  reload() {
    this.leaves = true;
    location.reload();
  }
}

const isReading = (message) => message.kind === "reading" || message.kind === "undo";
