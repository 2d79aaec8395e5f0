import { heat } from "./dom.js";

/** The heat strip: places across, steps down; a cell is how sure a token was, or when it was written. */
export class Strip {
  constructor(canvas) {
    this.canvas = canvas;
    new ResizeObserver(() => this.draw()).observe(canvas);
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

  draw() {
    this.frame = 0;
    if (!this.history?.length || !this.canvas.clientWidth) return;
    const { canvas, history } = this;
    const { base, head, step, length } = history;
    const scale = devicePixelRatio;
    canvas.width = Math.round(canvas.clientWidth * scale);
    canvas.height = Math.round(canvas.clientHeight * scale);
    const [width, height] = [Math.min(canvas.width, length), Math.min(canvas.height, head - base + 1)];
    const style = getComputedStyle(canvas); // its colours, as the theme has them
    const order = document.body.dataset.view === "order";
    const [low, high] = [style.outlineColor, order ? style.columnRuleColor : style.color];
    const [from, to] = [low, high].map((colour) => colour.match(/[\d.]+/g).map(Number));
    const image = new ImageData(width, height);
    this.rows(width, height).forEach((row, y) => row.forEach((cell, x) => {
      if (!cell) return;
      const part = order ? cell.when / Math.max(1, head) : 1 - heat(cell.sure);
      const colour = from.slice(0, 3).map((c, i) => c + (to[i] - c) * part);
      image.data.set([...colour, cell.when ? 255 : 90], 4 * (y * width + x));
    }));
    const small = new OffscreenCanvas(width, height);
    small.getContext("2d").putImageData(image, 0, 0);
    const ink = canvas.getContext("2d");
    ink.imageSmoothingEnabled = false;
    ink.drawImage(small, 0, 0, canvas.width, canvas.height);
    const row = canvas.height / (head - base + 1);
    ink.strokeStyle = style.caretColor;
    ink.lineWidth = scale;
    const y = Math.min((step - base + 1) * row, canvas.height) - scale;
    ink.strokeRect(-9, y, canvas.width + 18, 99 * scale);
  }

  /** The step at a height of the canvas, in CSS pixels. */
  at(y) {
    const { base, head } = this.history;
    return base + Math.floor((y / this.canvas.clientHeight) * (head - base + 1));
  }
}
