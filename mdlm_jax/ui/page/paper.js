/** The book page: an element for every token, of which only those that changed are touched. */
import { shown } from "./decode.js";
import { heat } from "./dom.js";

const BANDS = [0.01, 0.1, 0.4]; // below these a token is underlined, the less sure the stronger

export class Paper extends EventTarget {
  /** Says "cursor" when the token under the cursor or the selection changes, "open" when it is asked about,
   * "leave" when it no longer is. */
  constructor(root) {
    super();
    this.root = root;
    this.cells = [];
    root.addEventListener("keydown", (event) => this.key(event));
    root.addEventListener("pointerdown", (event) => this.press(event));
    root.addEventListener("pointermove", (event) => this.drag(event));
    addEventListener("pointerup", () => this.release());
    root.addEventListener("click", (event) => this.click(event));
    root.addEventListener("focusin", (event) => this.place(event.target) >= 0 && this.touch(event.target));
  }

  /** Shows a document as it is at its step. */
  open(history, decoder) {
    const cursor = Math.min(this.cursor ?? 0, history.length - 1);
    const inside = this.root.contains(document.activeElement);
    Object.assign(this, { history, decoder, texts: new Array(history.length), now: [], cursor, anchor: cursor });
    this.cells = Array.from({ length: history.length }, (_, place) => {
      const span = document.createElement("span");
      span.role = "option";
      span.tabIndex = place === cursor ? 0 : -1;
      span.ariaSelected = "false";
      span.dataset.width = (place * 7) % 5;
      if (history.pinned.has(place)) span.classList.add("pinned");
      return { span, lead: document.createTextNode(""), gap: null };
    });
    this.places = new Map(this.cells.map(({ span }, place) => [span, place]));
    const whole = document.createDocumentFragment(); // a call takes fewer arguments than a text has tokens
    for (const { lead, span } of this.cells) whole.append(lead, span);
    this.root.replaceChildren(whole);
    this.draw(this.cells.keys());
    if (inside) this.move(cursor);
  }

  /** Draws the places that a step changed, and those that were just written and are no longer. */
  draw(changed) {
    const { tokens, masked, step, when } = this.history;
    const before = this.now.filter((place) => when[place] !== step);
    const due = this.decoder.update(this.texts, tokens, masked, changed);
    for (const place of before) due.add(place);
    this.now = [...due].filter((place) => step && when[place] === step && !masked[place]);
    for (const place of due) this.lay(place);
    this.root.style.setProperty("--steps", Math.max(1, this.history.head));
  }

  lay(place) {
    const { masked, confidence, when, given, step } = this.history;
    const { span, lead } = this.cells[place];
    const draft = masked[place] ? this.history.draft(place) : null;
    const text = draft === null ? this.texts[place] : this.decoder.whole(draft) ?? "";
    const [, space, core, lines] = text.match(/^( *)([^]*?)(\n*)$/);
    const word = core || (masked[place] ? "" : lines ? "¶" : space);
    const at = when[place];
    const state = masked[place] ? (word ? "draft" : "mask") : given[place] && !at ? "given" : "written";
    lead.data = masked[place] && !word ? " " : core ? space : "";
    if (span.textContent !== word) span.textContent = word;
    span.dataset.state = state;
    span.classList.toggle("now", at === step && step > 0 && state === "written");
    span.classList.toggle("mark", !masked[place] && !core && lines !== "");
    span.dataset.band = state === "written" ? BANDS.filter((most) => confidence[place] >= most).length : "";
    span.dataset.when = state === "written" && at ? at : "";
    span.style.setProperty("--heat", heat(confidence[place]).toFixed(3));
    span.style.setProperty("--at", at);
    if (state === "mask") span.ariaLabel = "masked";
    else if (state === "draft") span.ariaLabel = `masked again, was ${word}`;
    else if (!core) span.ariaLabel = lines ? "line break" : space ? "space" : "part of a character";
    else span.removeAttribute("aria-label");
    this.part(place, masked[place] ? 0 : lines.length);
  }

  /** Ends the line after a place, with some room where a paragraph ends. */
  part(place, lines) {
    const cell = this.cells[place];
    if (!lines) {
      cell.gap?.remove();
      cell.gap = null;
      return;
    }
    cell.gap ??= document.createElement("i");
    cell.gap.role = "presentation";
    cell.gap.className = lines > 1 ? "paragraph" : "line";
    if (!cell.gap.isConnected) cell.span.after(cell.gap);
  }

  place(target) {
    return this.places?.get(target) ?? -1;
  }

  /** The places [first, stop) that are selected; the token under the cursor where none are. */
  get selection() {
    return [Math.min(this.cursor, this.anchor), Math.max(this.cursor, this.anchor) + 1];
  }

  /** The text from `first` to `stop`, for a title or a question. */
  quote(first, stop) {
    const most = 60;
    const { masked } = this.history;
    const text = this.texts.slice(first, stop).map((text, j) => (masked[first + j] ? " ·" : text)).join("");
    return shown(text.length > most ? `${text.slice(0, most)}…` : text);
  }

  /** Moves the cursor; `extend` keeps the other end of the selection. */
  move(to, extend = false, focus = true) {
    const [first, stop] = this.selection;
    this.cells[this.cursor].span.tabIndex = -1;
    this.cells[this.cursor].span.classList.remove("at");
    this.cursor = Math.min(Math.max(to, 0), this.cells.length - 1);
    if (!extend) this.anchor = this.cursor;
    const [a, b] = this.selection;
    for (let i = Math.min(first, a); i < Math.max(stop, b); i++) {
      this.cells[i].span.ariaSelected = String(i >= a && i < b && b - a > 1);
    }
    const { span } = this.cells[this.cursor];
    span.tabIndex = 0;
    span.classList.add("at");
    if (focus && document.activeElement !== span) span.focus();
    this.dispatchEvent(new Event("cursor"));
  }

  /** Lets the selection reach one token further, to the left or to the right. */
  widen(by) {
    const [first, stop] = this.selection;
    this.anchor = by < 0 ? stop - 1 : first;
    this.cursor = by < 0 ? first : stop - 1;
    this.move(this.cursor + by, true, false);
  }

  touch(span) {
    if (span !== this.cells[this.cursor].span) this.move(this.place(span));
  }

  /** The nearest place of the line above or below. */
  line(by) {
    const box = this.cells[this.cursor].span.getBoundingClientRect();
    const middle = (box.left + box.right) / 2;
    let best = this.cursor;
    let row = null;
    let least = Infinity;
    for (let i = this.cursor + by; i >= 0 && i < this.cells.length; i += by) {
      const other = this.cells[i].span.getBoundingClientRect();
      if ((by > 0 ? other.top - box.top : box.top - other.top) < box.height / 2) continue;
      row ??= other.top;
      if (Math.abs(other.top - row) > box.height / 2) break;
      const away = Math.abs((other.left + other.right) / 2 - middle);
      if (away < least) [least, best] = [away, i];
    }
    return best;
  }

  key(event) {
    const to = {
      ArrowLeft: () => this.cursor - 1, ArrowRight: () => this.cursor + 1,
      ArrowUp: () => this.line(-1), ArrowDown: () => this.line(1),
      Home: () => 0, End: () => this.cells.length - 1,
    }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (to) this.move(to(), event.shiftKey);
    else if (event.key === "Enter") this.dispatchEvent(new CustomEvent("open", { detail: true }));
    else if (event.key === "Escape") this.leave();
    else return;
    event.preventDefault();
  }

  /** Clears the selection. */
  leave() {
    this.move(this.cursor);
    this.dispatchEvent(new Event("leave"));
  }

  press(event) {
    const place = this.place(event.target);
    this.dragging = place >= 0 && event.button === 0 && event.pointerType === "mouse";
    if (this.dragging) this.move(place, event.shiftKey);
  }

  drag(event) {
    if (!this.dragging || !(event.buttons & 1)) return;
    const place = this.place(event.target);
    if (place >= 0 && place !== this.cursor) this.move(place, true);
  }

  release() {
    if (this.dragging) this.dispatchEvent(new CustomEvent("open", { detail: false }));
    this.dragging = false;
  }

  /** A finger's tap, or what a screen reader does in its place. */
  click(event) {
    const place = this.place(event.target);
    if (place < 0 || event.pointerType === "mouse") return;
    this.move(place, event.shiftKey);
    this.dispatchEvent(new CustomEvent("open", { detail: false }));
  }
}
