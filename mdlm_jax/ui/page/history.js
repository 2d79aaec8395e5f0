/** A document and the steps it was written in; it can be taken to any step, back and forth. */
export class History {
  /** @param {object} begun the server's message @param {number} mask id of the mask token */
  constructor(begun, mask) {
    Object.assign(this, { id: begun.trajectory, parent: begun.parent, seed: begun.seed, begun });
    this.length = begun.tokens.length;
    this.given = Uint8Array.from(begun.given);
    this.pinned = new Set(begun.pinned);
    this.ended = null; // the server's last message
    this.lost = false; // whether the server was started again, and does not know it
    this.rebase(0, begun.tokens, begun.tokens.map((token) => +(token === mask)), begun.confidence);
  }

  /** Begins anew with the state after `base` steps; what was before is not known. */
  rebase(base, tokens, masked, confidence = masked.map((m) => +!m), when = masked.map(() => 0)) {
    this.base = this.step = base;
    this.tokens = Int32Array.from(tokens);
    this.masked = Uint8Array.from(masked);
    this.confidence = Float32Array.from(confidence);
    this.when = Int32Array.from(when);
    this.first = { tokens, masked, confidence, when };
    this.deltas = [];
    this.visits = new Map(); // of a place: the steps that changed it, in order
  }

  /** The number of steps known. */
  get head() {
    return this.base + this.deltas.length;
  }

  delta(step) {
    return this.deltas[step - this.base - 1];
  }

  /** Takes deltas that begin with the one after step `from`. Those known already are left out. */
  append(from, deltas) {
    if (from > this.head) return; // not ours: a snapshot says what was between
    for (const delta of deltas.slice(this.head - from)) {
      this.deltas.push(delta);
      let rank = 0; // the likeliest tokens are of the places written, not of those masked again
      delta.at.forEach((place, j) => {
        const visit = {
          when: this.head, step: delta.step, token: delta.tokens[j], masked: delta.masked[j],
          confidence: delta.confidence[j], top: delta.masked[j] ? [] : delta.top_k[rank++] ?? [],
        };
        if (!this.visits.has(place)) this.visits.set(place, []);
        this.visits.get(place).push(visit);
      });
    }
  }

  /** Takes a merged state. @returns {boolean} whether it was needed */
  snapshot(message) {
    if (message.at <= this.head) return false;
    this.rebase(message.at, message.tokens, message.masked, message.confidence, message.when);
    return true;
  }

  /** What changed a place last, up to step `step`; undefined where it is as it was in the beginning. */
  visit(place, step = this.step) {
    return this.visits.get(place)?.findLast((visit) => visit.when <= step);
  }

  /** The likeliest token of a place that was written once and masked again; null for none. */
  draft(place) {
    const past = this.visits.get(place)?.findLast((visit) => visit.when <= this.step && !visit.masked);
    return past ? past.top[0]?.[0] ?? past.token : null;
  }

  /** Goes to a step. @returns {Set<number>} the places that differ */
  seek(step) {
    const to = Math.min(Math.max(step, this.base), this.head);
    const changed = new Set();
    for (let k = Math.min(to, this.step) + 1; k <= Math.max(to, this.step); k++) {
      for (const place of this.delta(k).at) changed.add(place);
    }
    for (const place of changed) {
      const now = this.visit(place, to);
      this.tokens[place] = now?.token ?? this.first.tokens[place];
      this.masked[place] = now?.masked ?? this.first.masked[place];
      this.confidence[place] = now?.confidence ?? this.first.confidence[place];
      this.when[place] = now?.when ?? this.first.when[place];
    }
    this.step = to;
    return changed;
  }

  /** Places that are written at the step shown. */
  get written() {
    return this.masked.reduce((sum, masked) => sum - masked, this.length);
  }
}
