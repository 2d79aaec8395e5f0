/** What is known of a token or a selection, and what can be done with it. */
import { shown } from "./decode.js";
import { make, percent } from "./dom.js";

export const LOST = "The server was started again: this text can be read, but no branch can begin in it.";
const SHOWN = 4; // steps of a place that was written again and again

export class Panel {
  /**
   * @param {HTMLElement} root
   * @param {import("./paper.js").Paper} paper
   * @param {(what: {start: number, stop: number, length: number, token: number|null}) => void} branch
   */
  constructor(root, paper, branch) {
    Object.assign(this, { root, paper, branch });
    root.addEventListener("keydown", (event) => event.key === "Escape" && this.close());
  }

  /** Opens or renews it; `enter` moves the focus into it. */
  open(enter = false) {
    const [start, stop] = this.paper.selection;
    this.known = this.key();
    const inside = this.root.contains(document.activeElement) && document.activeElement.id;
    this.root.hidden = false;
    this.root.replaceChildren(...(stop - start > 1 ? this.span(start, stop) : this.token(start)));
    if (this.paper.history.lost) this.refuse();
    if (enter) this.root.querySelector("h2").focus();
    else this.paper.cells[this.paper.cursor].span.scrollIntoView({ block: "nearest" });
    if (inside && !enter) (document.getElementById(inside) ?? this.root.querySelector("h2")).focus();
  }

  /** Says that there are no branches, and takes away what would make them. */
  refuse() {
    this.root.querySelector(".quote").after(make("p", {}, LOST));
    const ways = this.root.querySelectorAll("form *, table button, #mask, #anew");
    for (const way of ways) way.disabled = true;
  }

  /** What it tells depends on; a button must not be exchanged for its like while it is being pressed. */
  key() {
    const { paper, paper: { history } } = this;
    const [start, stop] = paper.selection;
    if (stop - start > 1) return [history.id, history.lost, start, stop].join();
    const visits = history.visits.get(start)?.length;
    const state = [history.masked[start], history.when[start], history.written === history.length];
    return [history.id, history.lost, start, visits, ...state].join();
  }

  /** Draws it again, where it is open and would tell something else, and nobody is typing in it. */
  renew() {
    const typing = document.activeElement?.id === "word" && this.paper.cursor === this.place;
    if (!this.root.hidden && !typing && this.key() !== this.known) this.open();
  }

  close() {
    const inside = this.root.contains(document.activeElement);
    this.root.hidden = true;
    if (inside) this.paper.move(this.paper.cursor);
  }

  heading(text, about) {
    const close = make("button", { type: "button", className: "close", id: "close" }, "×");
    close.ariaLabel = "Close the panel";
    close.onclick = () => this.close();
    return [
      close,
      make("h2", { id: "panel-title", tabIndex: -1 }, text),
      make("p", { className: "quote" }, make("bdi", {}, about)),
    ];
  }

  widen(start, stop) {
    const button = (text, by) =>
      make("button", { type: "button", id: `widen${by}`, onclick: () => this.paper.widen(by) }, text);
    const row = make("div", { className: "row" }, button("‹ Select more", -1), button("Select more ›", 1));
    row.firstChild.disabled = start === 0;
    row.lastChild.disabled = stop === this.paper.history.length;
    return row;
  }

  token(place) {
    this.place = place;
    const { history, decoder } = this.paper;
    const masked = history.masked[place];
    const text = masked ? "masked" : shown(decoder.whole(history.tokens[place]) ?? "part of a character");
    const again = { start: place, stop: place + 1, length: 1, token: null };
    const mask = make("button", { type: "button", id: "mask" }, "Mask again");
    mask.onclick = () => this.branch(again);
    const open = masked ? place : history.masked.indexOf(1); // masking what is masked changes nothing
    const anew = make("button", { type: "button", id: "anew" }, "Branch from here");
    anew.onclick = () => this.branch({ start: open, stop: open + 1, length: 1, token: null });
    const ways = [...(masked ? [] : [mask]), ...(open < 0 ? [] : [anew])];
    ways[0].className = "main";
    const visits = (history.visits.get(place) ?? []).filter((visit) => !visit.masked);
    return [
      ...this.heading(`Token ${place + 1} of ${history.length}`, text),
      make("p", {}, this.story(place)),
      make("div", { className: "row" }, ...ways),
      this.typed(place),
      ...visits.slice(-SHOWN).reverse().map((visit) => this.table(place, visit)),
      this.widen(place, place + 1),
    ];
  }

  /** A sentence on what became of a place until the step shown. */
  story(place) {
    const { history } = this.paper;
    const { confidence, masked, when, given, pinned } = history;
    if (masked[place] && when[place]) return `Masked again in step ${when[place]}.`;
    if (masked[place]) return "Not written yet at this step.";
    if (pinned.has(place)) return "Pinned: it was chosen for this text, which was written around it.";
    if (given[place] && !when[place]) return "Given: the text was written around it.";
    if (!when[place]) return "Written before this branch began.";
    return `Written in step ${when[place]}, drawn with a probability of ${percent(confidence[place])} after temperature and top-p.`;
  }

  table(place, visit) {
    const { decoder } = this.paper;
    const rows = [...visit.top];
    if (!rows.some(([id]) => id === visit.token)) rows.push([visit.token, null]);
    const body = rows.map(([id, p]) => {
      const text = shown(decoder.whole(id) ?? "�");
      const bar = make("span", { className: "bar" });
      bar.style.width = `${100 * (p ?? 0)}%`;
      const use = make("button", { type: "button", id: `use-${visit.when}-${id}` }, "use");
      use.ariaLabel = `Replace by ${text}`;
      use.onclick = () => this.branch({ start: place, stop: place + 1, length: 1, token: id });
      const name = make("th", { scope: "row" }, make("bdi", {}, text));
      if (id === visit.token) name.append(make("span", { className: "hint" }, " written"));
      const chance = make("span", { className: "chance" }, p === null ? "less" : percent(p));
      return make("tr", {}, name, make("td", {}, chance, bar), make("td", {}, use));
    });
    const head = ["Token", "Probability", "Replace"].map((text) => make("th", { scope: "col" }, text));
    const caption = `Step ${visit.when}: the likeliest at temperature 1`;
    const parts = [make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)];
    return make("table", {}, make("caption", {}, caption), ...parts);
  }

  /** A field for a word of one's own. */
  typed(place) {
    const { history, decoder } = this.paper;
    const input = make("input", { id: "word", type: "text", autocomplete: "off", spellcheck: false });
    const wrong = make("p", { className: "error", role: "alert" });
    const submit = (event) => {
      event.preventDefault();
      const spaced = history.masked[place] || decoder.whole(history.tokens[place])?.startsWith(" ");
      const word = input.value.trim() ? input.value : "";
      const ways = spaced && !word.startsWith(" ") ? [` ${word}`, word] : [word, ` ${word}`];
      const token = word ? ways.map((way) => decoder.one(way)).find((id) => id !== null) : undefined;
      if (token !== undefined) this.branch({ start: place, stop: place + 1, length: 1, token });
      else if (word) wrong.textContent = `“${word}” is not one token of this book; try a shorter word.`;
      else wrong.textContent = "Type a word.";
    };
    const label = make("label", { htmlFor: "word" }, "Or put a word of your own (one token)");
    const row = make("div", { className: "row" }, input, make("button", { type: "submit" }, "Replace"));
    return make("form", { onsubmit: submit }, label, row, wrong);
  }

  span(start, stop) {
    const size = stop - start;
    const count = make("input", { id: "span-number", type: "number", min: 1, max: 65536, value: size });
    count.ariaLabel = "Tokens";
    const choice = (value, text, checked) => {
      const radio = make("input", { type: "radio", name: "span", id: `span-${value}`, value, checked });
      return make("label", {}, radio, ` ${text}`);
    };
    const form = make("form", { id: "span" },
      make("fieldset", {}, make("legend", {}, "Write in their place"),
        choice("same", `${size} tokens`, true), choice("free", "as many as the model chooses", false),
        make("div", { className: "row" }, choice("count", "this many:", false), count)),
      make("button", { type: "submit", className: "main" }, "Mask and write"));
    count.oninput = () => { form.querySelector("#span-count").checked = true; };
    form.onsubmit = (event) => {
      event.preventDefault();
      const length = { same: size, free: 0, count: Number(count.value) }[new FormData(form).get("span")];
      this.branch({ start, stop, length, token: null });
    };
    const heading = this.heading(`${size} tokens selected`, this.paper.quote(start, stop));
    return [...heading, form, this.widen(start, stop)];
  }
}
