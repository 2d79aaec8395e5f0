/** What is shown, and when the next step is; pausing stops the drawing, never the work. */
export class Player {
  /** @param {() => void} show draws the history at its step, given the places that changed */
  constructor(show) {
    Object.assign(this, { show, rate: 15, playing: false, history: null, due: 0, frame: 0 });
  }

  /** Shows a history from where it is; `playing` lets it go on from there. */
  open(history, playing) {
    Object.assign(this, { history, playing, due: 0 });
    this.show(null);
    this.wake();
  }

  /** Called when there may be more to draw. */
  wake() {
    if (this.frame || !this.playing) return;
    if (!this.due && this.history.step < this.history.head) this.tick(performance.now()); // the first at once
    else this.frame = requestAnimationFrame((now) => this.tick(now));
  }

  tick(now) {
    this.frame = 0;
    if (!this.playing) return;
    const left = this.history.head - this.history.step;
    const gap = 1000 / this.rate;
    if (left) this.due ||= now;
    if (left && now >= this.due) {
      const steps = gap ? Math.min(left, 1 + Math.floor((now - this.due) / gap)) : left;
      this.due = Math.max(this.due + steps * gap, now);
      this.show(this.history.seek(this.history.step + steps));
    } else if (!left && this.history.ended) {
      this.playing = false;
      this.show(new Set());
    }
    if (left || this.history.ended) this.wake(); // else the next delta wakes it
  }

  /** Plays, from the start where everything was shown, or pauses. */
  toggle() {
    const { history } = this;
    if (!history) return;
    this.playing = !this.playing;
    this.due = 0;
    const again = this.playing && history.ended && history.step === history.head;
    this.show(again ? history.seek(history.base) : new Set());
    this.wake();
  }

  /** Goes to a step and stays there. */
  go(step) {
    if (!this.history) return;
    this.playing = false;
    this.show(this.history.seek(step));
  }
}
