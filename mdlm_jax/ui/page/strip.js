import { heat } from "./dom.js";

const PAUSE = 250; // ms between drawings of a text that is being written

/** The heat strip: places across, steps down; a cell is how sure a token was, or when it was written. */
export class Strip {
  constructor(canvas) {
    this.canvas = canvas;
    new ResizeObserver(() => this.draw(true)).observe(canvas);
  }

  /** @param {import("./history.js").History} history */
  open(history) {
    this.history = history;
    this.frame ||= requestAnimationFrame(() => this.draw());
  }

  /** Rows of what every step left, for as many steps and places as there are dots; null is masked. */
  rows(width, height) {
    const { history } = this;
    const { base, head, length, first } = history;
    const state = first.confidence.map((sure, i) => (first.masked[i] ? null : { sure, when: first.when[i] }));
    const rows = [];
    for (let k = base; k <= head; k++) {
      const delta = k > base && history.delta(k);
      if (delta) {
        delta.at.forEach((place, j) => {
          state[place] = delta.masked[j] ? null : { sure: delta.confidence[j], when: k };
        });
      }
      const row = Math.floor(((k - base) * height) / (head - base + 1));
      if (rows[row]) continue; // more steps than dots
      rows[row] = Array.from({ length: width }, (_, x) => state[Math.floor((x * length) / width)]);
    }
    return rows;
  }

  /** @param {boolean} anew also where nothing was written since: the size or the colours changed */
  draw(anew = false) {
    this.frame = 0;
    const { canvas, history } = this;
    if (!history?.length || !canvas.clientWidth) return;
    const { base, head, step, ended } = history;
    const old = performance.now() - this.when > PAUSE || ended;
    if (anew || this.painted !== history || (this.head !== head && old)) this.paint();
    const ink = canvas.getContext("2d");
    ink.clearRect(0, 0, canvas.width, canvas.height);
    ink.imageSmoothingEnabled = false;
    ink.drawImage(this.image, 0, 0, canvas.width, canvas.height);
    ink.strokeStyle = getComputedStyle(canvas).caretColor;
    ink.lineWidth = devicePixelRatio;
    const y = ((step - base + 1) * canvas.height) / (head - base + 1);
    ink.strokeRect(-9, y - ink.lineWidth, canvas.width + 18, canvas.height);
  }

  /** The cells, a dot each, or as many as there is room for. */
  paint() {
    const { canvas, history } = this;
    const { base, head, length } = history;
    canvas.width = Math.round(canvas.clientWidth * devicePixelRatio);
    canvas.height = Math.round(canvas.clientHeight * devicePixelRatio);
    const [width, height] = [Math.min(canvas.width, length), Math.min(canvas.height, head - base + 1)];
    const style = getComputedStyle(canvas); // its colours, as the theme has them
    const order = document.body.dataset.view === "order";
    const ends = [style.outlineColor, order ? style.columnRuleColor : style.color];
    const [from, to] = ends.map((colour) => colour.match(/[\d.]+/g).map(Number));
    const image = new ImageData(width, height);
    this.rows(width, height).forEach((row, y) => row.forEach((cell, x) => {
      if (!cell) return;
      const part = !order ? 1 - heat(cell.sure) : cell.when ? cell.when / head : 1;
      const at = 4 * (y * width + x);
      for (let i = 0; i < 3; i++) image.data[at + i] = from[i] + (to[i] - from[i]) * part;
      image.data[at + 3] = cell.when ? 255 : 90;
    }));
    this.image = new OffscreenCanvas(width, height);
    this.image.getContext("2d").putImageData(image, 0, 0);
    Object.assign(this, { painted: history, head, when: performance.now() });
  }

  /** The step at a height of the canvas, in CSS pixels. */
  at(y) {
    const { base, head } = this.history;
    return base + Math.floor((y / this.canvas.clientHeight) * (head - base + 1));
  }
}
