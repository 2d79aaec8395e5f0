/** Token ids to text: byte-level BPE pieces in GPT-2's alphabet, of which several can make one character. */

/** The byte of each letter; GPT-2 moves the unprintable bytes past 255. */
const BYTE = new Map();
for (let byte = 0, moved = 256; byte < 256; byte++) {
  const kept = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  BYTE.set(String.fromCharCode(kept ? byte : moved++), byte);
}

/** Text without control characters but line breaks and tabs, nor those that turn the direction of others. */
export function printable(text) {
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, "");
}

export class Decoder {
  /** @param {string[]} pieces of each id */
  constructor(pieces) {
    this.pieces = pieces;
    this.found = new Map();
  }

  bytes(id) {
    const bytes = [];
    for (const letter of this.pieces[id] ?? "") {
      if (BYTE.has(letter)) bytes.push(BYTE.get(letter));
      else bytes.push(...new TextEncoder().encode(letter)); // of an added token
    }
    return new Uint8Array(bytes);
  }

  /** The text of a token alone, or null where its bytes are no whole characters. */
  whole(id) {
    if (!this.found.has(id)) {
      let text = null;
      try {
        text = printable(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(this.bytes(id)));
      } catch { /* part of a character */ }
      this.found.set(id, text);
    }
    return this.found.get(id);
  }

  /** Whether the place holds a token that is no text without its neighbours. */
  broken(tokens, masked, place) {
    return place >= 0 && place < tokens.length && !masked[place] && this.whole(tokens[place]) === null;
  }

  /**
   * Writes the text at each of `places` into `texts`, and of the places that form characters with them. A
   * character stands where its last byte does; a masked place has no text.
   * @returns {Set<number>} the places written
   */
  update(texts, tokens, masked, places) {
    const done = new Set();
    for (const changed of places) {
      for (const place of [changed, changed - 1, changed + 1]) {
        if (done.has(place) || (place !== changed && !this.broken(tokens, masked, place))) continue;
        if (!this.broken(tokens, masked, place)) {
          texts[place] = masked[place] ? "" : this.whole(tokens[place]);
          done.add(place);
          continue;
        }
        let first = place;
        while (this.broken(tokens, masked, first - 1)) first--;
        const stream = new TextDecoder("utf-8", { ignoreBOM: true });
        for (let at = first; this.broken(tokens, masked, at); at++) {
          const stop = !this.broken(tokens, masked, at + 1);
          texts[at] = stream.decode(this.bytes(tokens[at]), { stream: !stop });
          texts[at] = printable(texts[at]);
          done.add(at);
        }
      }
    }
    return done;
  }

  /** The text of a document, masked places as dots. */
  text(tokens, masked) {
    const texts = new Array(tokens.length);
    this.update(texts, tokens, masked, texts.keys());
    return texts.map((text, place) => (masked[place] ? "·" : text)).join("");
  }

  /** The token of a text that is one token, or null; the first of several. */
  one(text) {
    if (!this.ids) {
      this.ids = new Map();
      for (let id = this.pieces.length - 1; id >= 0; id--) this.ids.set(this.whole(id), id);
    }
    return text ? this.ids.get(text) ?? null : null;
  }
}

/** A token's text as it is shown apart from others: spaces and line breaks are seen. */
export function shown(text) {
  return text.replace(/\n/g, "¶").replace(/^ | $/g, "␣").replace(/\t/g, "⇥");
}
