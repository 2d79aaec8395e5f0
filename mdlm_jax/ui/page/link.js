/** The WebSocket: messages in and out; it comes back by itself, later and later, for as long as it takes. */
export class Link {
  /** @param {(message: object) => void} hear @param {() => void} lose */
  constructor(hear, lose) {
    Object.assign(this, { hear, lose, tries: 0 });
    addEventListener("online", () => this.retry());
    this.open();
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(`${scheme}//${location.host}/ws`);
    this.socket.onmessage = (event) => {
      const message = JSON.parse(event.data);
      if (message.type === "hello") this.tries = 0;
      this.hear(message);
    };
    this.socket.onclose = () => {
      this.lose();
      const wait = Math.min(8000, 300 * 2 ** this.tries++) * (0.75 + Math.random() / 2);
      this.timer = setTimeout(() => this.open(), wait);
    };
  }

  /** Tries again now, where it waits. */
  retry() {
    if (this.socket.readyState !== WebSocket.CLOSED) return;
    clearTimeout(this.timer);
    this.open();
  }

  /** @returns {string} why the message was not sent; empty where it was */
  send(message) {
    const text = JSON.stringify(message);
    if (new TextEncoder().encode(text).length > 65_536) return "That is too long: 64 KB can be sent at once.";
    if (this.socket.readyState !== WebSocket.OPEN) return "There is no connection to the server just now.";
    this.socket.send(text);
    return "";
  }
}
