/** The list of texts, a branch under what it came from. */
import { find, make } from "./dom.js";

const STATES = { running: "being written", stopped: "stopped", failed: "failed" };

/** @param {object[]} trajectories @param {number|null} current @param {(id: number) => void} follow */
export function list(trajectories, current, follow) {
  const focus = document.activeElement?.dataset?.text;
  const known = new Set(trajectories.map(({ id }) => id));
  const under = Map.groupBy(trajectories, ({ parent }) => (known.has(parent) ? parent : null));
  const items = (parent) => (under.get(parent) ?? []).map((text) => {
    const { id, title, state, position } = text;
    const button = make("button", { type: "button", dataset: { text: id }, onclick: () => follow(id) },
      make("span", { className: "number" }, id), make("bdi", {}, title),
      make("span", { className: "hint" }, position ? `waiting, place ${position}` : STATES[state] ?? ""));
    if (id === current) button.ariaCurrent = "true";
    const below = items(id);
    return make("li", {}, button, ...(below.length ? [make("ul", {}, ...below)] : []));
  });
  find("texts").replaceChildren(...items(null));
  find("texts-none").hidden = trajectories.length > 0;
  if (focus) find("texts").querySelector(`[data-text="${focus}"]`)?.focus();
}
